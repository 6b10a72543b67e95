"""Filmed motions: what a bag of them holds and that its truth agrees with its own pictures and calibration."""
import types

import numpy as np
import pytest

from hand_pose_ros import bags, camera as camera_model, messages, resources
from hand_pose_ros.errors import ConfigError
from hand_pose_ros.skeleton import hand_length, mano_joints
from hand_pose_ros.synthesis import motions, rig, scene, sequence
from hand_pose_ros.synthesis.hand_model import HandModel
from hand_pose_ros.synthesis.lens import Lens
from hand_pose_ros.synthesis.renderer import Raster
from hand_pose_ros.types import Camera, JointState

CAMERA = Camera(160, 120, np.array([[131.0, 0, 79.6], [0, 131.4, 60.3], [0, 0, 1]]), "plumb_bob",
                np.array([0.05, -0.1, 6e-4, -4e-4, 0.02]))


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("bag") / "pinch.mcap"
    assert sequence.write_bag(path, "pinch", CAMERA, fps=10.0, duration_s=0.4) == 4
    return path


def test_a_bag_holds_every_topic_at_the_asked_rate(bag):
    with bags.BagReader(bag) as reader:
        assert {name: topic.count for name, topic in reader.topics.items()} == {
            **{name: 4 for name in sequence.TOPICS.values()}, "/tf_static": 1}
        stamps = [recorded.stamp_ns for recorded in reader.messages([sequence.TOPICS["truth"]])]
        np.testing.assert_array_equal(np.diff(stamps), 100_000_000)
        still = next(reader.messages(["/tf_static"])).message.transforms[0]
        assert still.child_frame_id == CAMERA.frame_id
        assert still.transform.translation.z == sequence.MOUNT_HEIGHT_M


def test_the_true_hands_lie_where_calibration_and_depth_say(bag):
    with bags.BagReader(bag) as reader:
        truths = [recorded.message for recorded in reader.messages([sequence.TOPICS["truth"]])]
        pictures = list(reader.frames(sequence.TOPICS["image"]))
    assert len(truths) == len(pictures) == 4
    compared = 0
    for truth, picture in zip(truths, pictures):
        frame = picture.frame
        np.testing.assert_allclose(frame.camera.D, CAMERA.D)
        for hand in truth.hands:
            points = np.array([[p.x, p.y, p.z] for p in hand.joints_camera])
            state = np.array(hand.state)
            px = np.round(camera_model.project(frame.camera, points)).astype(int)
            for (u, v), point, seen in zip(px, points, state):
                if seen == JointState.VISIBLE and 1 <= u < 159 and 1 <= v < 119 and np.isfinite(frame.depth[v, u]):
                    flesh = point[2] - frame.depth[v - 1:v + 2, u - 1:u + 2]     # a finger may be one pixel wide
                    assert ((-0.005 < flesh) & (flesh < 0.04)).any()
                    compared += 1
    assert compared > 30


def test_true_joints_are_those_that_are_published(bag):
    """The drawn finger turns where its knuckle is published, so only from there is its bone as long in every picture.
    """
    with bags.BagReader(bag) as reader:
        truths = [recorded.message.hands[0] for recorded in reader.messages([sequence.TOPICS["truth"]])]
    joints = np.array([[[p.x, p.y, p.z] for p in hand.joints_camera] for hand in truths])

    def spread(points):
        return np.ptp(np.linalg.norm(points[:, 5] - points[:, 6], axis=-1))

    assert spread(joints) < 1e-6 < spread(mano_joints(joints))


@pytest.mark.parametrize("name", ["new", "virtual_hands", "teleop_hand"])
def test_true_hands_are_metres_that_an_arm_may_follow(name, bag):
    """A teleoperation that listens to them refuses guessed metres; the sample bags hold what this version writes."""
    with bags.BagReader(bag if name == "new" else resources.folder("test/data") / f"{name}.mcap") as reader:
        truths = [messages.read_array(recorded.message) for recorded in reader.messages([sequence.TOPICS["truth"]])]
    assert truths and all(info.metric for _, info in truths)
    joints = np.array([hand.joints_m for hands, _ in truths for hand in hands])
    said = [hand.hand_length_m for hands, _ in truths for hand in hands]
    np.testing.assert_allclose(hand_length(mano_joints(joints)), said, rtol=2e-3)       # not with an earlier wrist


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", sorted(motions.MOTIONS))
def test_hands_do_not_jump_where_a_motion_has_come_to_its_end(name, seed):
    motion = motions.make(name, np.random.default_rng(seed))
    skeleton = HandModel.load("makehuman").shape().skeleton
    period = motion.duration_s + sequence.HOLD_S

    def joints(hand):
        posed = rig.posed_joints(skeleton, rig.motions(skeleton, hand.pose))
        return posed * [1.0 if hand.is_right else -1.0, 1.0, 1.0] @ hand.R_camera_hand.T + hand.t_camera_hand

    def largest_step(times):
        found = np.array([[joints(hand) for hand in motion.at(time)] for time in times])
        return np.linalg.norm(np.diff(found, axis=0), axis=-1).max()

    shown = [sequence.to_and_fro(k / 30, period) for k in range(int(30 * 2.5 * period))]
    assert shown[: int(30 * period)] == [k / 30 for k in range(int(30 * period))], "the first time is as it was made"
    inside = largest_step(np.arange(0.0, motion.duration_s, 1 / 240)) * 8          # at the same speed throughout
    assert largest_step(shown) < inside


def test_a_bag_gives_back_the_renderer_that_drew_it(tmp_path, monkeypatch):
    released = []
    monkeypatch.setattr(sequence.Renderer, "release", lambda self: released.append(self))
    sequence.write_bag(tmp_path / "x.mcap", "pinch", CAMERA, fps=10.0, duration_s=0.1)
    next(sequence.render_sequence(motions.make("pinch", np.random.default_rng(0)), CAMERA))
    assert len(set(released)) == 2
    for renderer in released:
        renderer.ctx.release()


def test_a_ring_stays_on_a_finger_that_curls(monkeypatch):
    """In this sequence a ring finger closes round a wheel; its other bones then lie beside the one with the ring."""
    drawn, draw = [], scene._ring
    monkeypatch.setattr(scene, "_ring", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    nothing = Raster(np.zeros((120, 160, 3)), *np.zeros((2, 120, 160)), np.zeros((120, 160), np.uint8))
    stage = types.SimpleNamespace(camera=CAMERA, lens=Lens(CAMERA), draw=lambda view: nothing)
    motion = motions.make("steer", np.random.default_rng([43, 76]))
    count = len(list(sequence.render_sequence(motion, CAMERA, 5.0, 8.4, 43, stage=stage)))
    assert count == 42 and len(drawn) >= count and all(ring is not None for ring in drawn)


@pytest.mark.parametrize("wrong", [dict(fps=0.0), dict(duration_s=-1.0)])
def test_impossible_rates_are_refused(wrong):
    motion = motions.make("pinch", np.random.default_rng(0))
    with pytest.raises(ConfigError, match="above 0"):
        next(sequence.render_sequence(motion, CAMERA, **wrong))


@pytest.mark.parametrize("wrong", [dict(duration_s=0.01), dict(duration_s=float("nan")), dict(seed=-1)])
def test_a_bag_of_nothing_is_refused(wrong, tmp_path):
    with pytest.raises(ConfigError, match="no picture at all"):
        sequence.write_bag(tmp_path / "x.mcap", "pinch", CAMERA, **wrong)
    assert not (tmp_path / "x.mcap").exists()


def test_a_lens_that_sees_behind_itself_is_refused():
    folded = Camera(160, 120, CAMERA.K, "plumb_bob", np.array([-0.9, 0, 0, 0, 0]))
    with pytest.raises(ConfigError, match="smaller field of view"):
        sequence.Stage(folded)
