"""The whole path with perfect networks: what comes out must be the scene that went in."""
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle, hand
from test_camera import LENSES, make

from hand_pose_ros import calibration, models, runtimes
from hand_pose_ros import camera as cameras
from hand_pose_ros import crop as crops
from hand_pose_ros import pipeline as pipelines
from hand_pose_ros.config import Config
from hand_pose_ros.errors import FrameError
from hand_pose_ros.pipeline import Pipeline, PipelineState
from hand_pose_ros.types import CropPose, Detection, Frame, JointState, ScaleSource

CONFIG = Config()
BLACK = np.zeros((480, 640, 3), np.uint8)
MS = 1_000_000


def play(oracle, scenes, config=CONFIG, dt_ms=33, depth=lambda k: None, **options):
    """scenes: the hands of each image; depth: what image k has. Returns the results."""
    pipe = Pipeline(oracle.detect, oracle.estimate, oracle.size, **options)
    state, results = PipelineState(), []
    for k, scene in enumerate(scenes):
        oracle.hands = scene
        state, result = pipe.step(state, Frame(BLACK, oracle.camera, (1000 + dt_ms * k) * MS, depth(k)), config)
        results.append(result)
    return results


@pytest.mark.parametrize("name", LENSES)
def test_two_hands_of_both_sides_come_out_where_they_are(name):
    camera = make(name)
    right, left = hand(at=(0.12, 0.02, 0.6), turn=(0.3, 0.2, 0.4)), hand(right=False, at=(-0.14, 0, 0.7))
    result = play(Oracle(camera), [[(right, True), (left, False)]])[0]
    assert len(result.hands) == 2 and result.detector_ran
    for found in result.hands:
        truth = right if found.is_right else left
        assert np.abs(found.joints_m - truth).max() < 2e-3
        np.testing.assert_allclose(found.joints_px, cameras.project(camera, truth), atol=1e-6)
        assert found.scale_source == ScaleSource.ASSUMED and (found.state == JointState.VISIBLE).all()
    assert {h.is_right for h in result.hands} == {True, False}
    assert list(result.marks_s) == ["detect", "pose", "lift"]
    assert sorted(result.marks_s.values()) == list(result.marks_s.values())


def test_nothing_there_is_an_empty_tuple_and_the_detector_looks_every_time():
    oracle = Oracle(make("pinhole"))
    results = play(oracle, [[]] * 4)
    assert all(r.hands == r.raw == () for r in results)
    assert oracle.detector_calls == 4 and oracle.pose_calls == 0


def test_the_detector_rests_while_all_hands_are_followed():
    oracle = Oracle(make("pinhole"))
    scenes = [[(hand(at=(-0.1 + 0.004 * k, 0, 0.6)), True)] for k in range(30)]
    results = play(oracle, scenes, Config(max_hands=1))
    assert oracle.detector_calls == 1 and all(len(r.hands) == 1 for r in results)
    assert {h.track_id for r in results for h in r.hands} == {1}
    error = [np.abs(r.raw[0].joints_m - s[0][0]).max() for r, s in zip(results, scenes)]
    assert max(error) < 2e-3


def test_with_room_for_another_hand_it_looks_every_so_often_and_finds_it():
    oracle = Oracle(make("pinhole"))
    one, two = (hand(at=(-0.12, 0, 0.6)), True), (hand(right=False, at=(0.14, 0, 0.7)), False)
    results = play(oracle, [[one]] * 5 + [[one, two]] * 25, Config(max_hands=2, detect_every_s=0.3), dt_ms=30)
    assert 2 <= oracle.detector_calls <= 3
    assert [len(r.hands) for r in results[:5]] == [1] * 5 and len(results[-1].hands) == 2
    first_seen = next(k for k, r in enumerate(results) if len(r.hands) == 2)
    assert first_seen <= 10


def test_a_lost_hand_calls_the_detector_at_once():
    oracle = Oracle(make("pinhole"))
    one = [(hand(at=(-0.15, 0, 0.6)), True)]
    far = [(hand(at=(0.15, 0, 0.6)), True)]
    results = play(oracle, [one] * 3 + [far] * 3, Config(max_hands=1))
    assert not results[3].hands and results[4].detector_ran and len(results[4].hands) == 1


def test_one_lost_hand_of_two_calls_the_detector_at_once():
    oracle = Oracle(make("pinhole"))
    one, two, far = ((hand(at=(x, y, 0.8)), True) for x, y in ((-0.2, -0.1), (0.2, -0.1), (0.2, 0.15)))
    results = play(oracle, [[one, two]] * 3 + [[one, far]] * 3, Config(detect_every_s=10.0))
    assert [r.detector_ran for r in results] == [True, False, False, False, True, False]
    assert [len(r.hands) for r in results] == [2, 2, 2, 1, 2, 2]


def test_a_hand_that_was_mirrored_wrongly_is_looked_at_mirrored_the_other_way():
    oracle = Oracle(make("pinhole"), [(hand(right=False), False)])
    seen = []

    def estimate(crops):
        seen.append([crop.mirrored for crop in crops])
        return oracle.estimate(crops)

    def detect(image, score):
        return [replace(d, right_probability=0.9) for d in oracle.detect(image)]
    _, result = Pipeline(detect, estimate, 224).step(PipelineState(), Frame(BLACK, oracle.camera, 1), CONFIG)
    assert seen == [[False], [True]] and not result.hands[0].is_right


@pytest.mark.parametrize("guess, as_guessed, other_way, looks, right", [
    (0.55, 0.95, 0.99, 1, True),                                    # sure enough at the first look
    (0.55, 0.80, 0.95, 2, False), (0.55, 0.85, 0.60, 2, True),      # not sure: the better of two looks
    (0.95, 0.60, 0.99, 1, True), (0.80, 0.60, 0.70, 2, True),       # whose arm it is, the detector has seen
    (0.55, 0.30, 0.90, 2, False)])
def test_the_side_of_a_new_hand_is_what_detector_and_pose_network_say_together(guess, as_guessed, other_way, looks,
                                                                               right):
    oracle, calls = Oracle(make("pinhole"), [(hand(), True)]), []

    def estimate(crops):
        calls.extend(crops)
        return [replace(pose, right_probability=other_way if crop.mirrored else as_guessed)
                for crop, pose in zip(crops, oracle.estimate(crops))]

    def detect(image, score):
        return [replace(d, right_probability=guess) for d in oracle.detect(image)]
    _, result = Pipeline(detect, estimate, 224).step(PipelineState(), Frame(BLACK, oracle.camera, 1), CONFIG)
    assert len(calls) == looks and result.hands[0].is_right == right


@pytest.mark.parametrize("roll_deg, shift, size, looks", [
    (0, 0.0, 1.0, 1), (15, 0.0, 1.0, 1), (30, 0.0, 1.0, 2), (0, 0.3, 1.0, 2), (0, 0.0, 1.4, 2), (0, 0.0, 0.7, 2)])
def test_a_new_hand_is_looked_at_again_only_if_the_detectors_box_was_off(roll_deg, shift, size, looks):
    oracle = Oracle(make("pinhole"), [(hand(), True)])
    turn = np.deg2rad(roll_deg)

    def detect(image, score):
        found = oracle.detect(image)[0]
        middle, half = 0.5 * (found.box[:2] + found.box[2:]), 0.5 * size * (found.box[2:] - found.box[:2])
        middle = middle + shift * 2 * half.max()
        up = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ found.up
        return [replace(found, box=np.concatenate([middle - half, middle + half]), up=up)]
    _, result = Pipeline(detect, oracle.estimate, 224).step(PipelineState(), Frame(BLACK, oracle.camera, 1), CONFIG)
    assert len(result.hands) == 1 and oracle.pose_calls == looks


def test_a_hand_without_direction_and_side_is_found_by_the_second_look():
    oracle = Oracle(make("pinhole"), with_up=False)
    joints = hand(right=False, at=(0.1, 0, 0.6), turn=(0, 0, 1.2))
    result = play(oracle, [[(joints, False)]])[0]
    assert len(result.hands) == 1 and not result.hands[0].is_right
    assert np.abs(result.hands[0].joints_m - joints).max() < 2e-3
    assert oracle.pose_calls == 2


def test_a_false_detection_is_no_hand():
    oracle = Oracle(make("pinhole"))
    ghost = crops.from_joints(cameras.project(oracle.camera, hand(at=(0.15, 0, 0.6))), 0.9, 0.9)
    pipe = Pipeline(lambda image, score: [ghost], oracle.estimate, 224)
    state, result = pipe.step(PipelineState(), Frame(BLACK, oracle.camera, 1), CONFIG)
    assert result.hands == () and state.tracker.tracks == ()


def test_two_boxes_on_one_hand_are_one_hand():
    oracle = Oracle(make("pinhole"))
    oracle.hands = [(hand(), True)]
    d = oracle.detect(BLACK)[0]
    twice = [d, replace(d, box=d.box + (15, -10, 15, -10)), replace(d, box=d.box + (-20, 5, -5, 20))]
    pipe = Pipeline(lambda image, score: twice, oracle.estimate, 224)
    _, result = pipe.step(PipelineState(), Frame(BLACK, oracle.camera, 1), Config(max_hands=4))
    assert len(result.hands) == 1


@pytest.mark.parametrize("apart_m, hands", [(0.0, 1), (0.16, 2)])
def test_a_new_hand_on_the_palm_of_a_known_one_is_another_reading_of_it(apart_m, hands):
    """A fist of the other side over a flat hand: its fingers, and so its box, lie elsewhere."""
    one = hand(bend=0.1), True
    two = hand(right=False, bend=1.3, at=(apart_m, 0, 0.6)), False
    oracle = Oracle(make("pinhole"))
    results = play(oracle, [[one]] * 3 + [[one, two]] * 20, Config(detect_every_s=0.1))
    assert oracle.detector_calls >= 2 and [len(r.hands) for r in results[-5:]] == [hands] * 5


def test_a_hidden_hand_is_not_found_again_on_the_palm_of_the_track_that_took_its_place():
    """A hand read as one of the other side for a while, and then as both."""
    one, two = (hand(bend=0.1), True), (hand(right=False, bend=1.3), False)
    results = play(Oracle(make("pinhole")), [[one]] * 3 + [[two]] * 3 + [[two, one]] * 10)
    assert [len(r.hands) for r in results] == [1] * 16


def test_clasped_hands_of_two_sides_stay_two():
    oracle = Oracle(make("pinhole"))
    one = play(oracle, [[(hand(at=(0, 0, 0.6), turn=(0, 1.4, 0)), True)]])[0].raw
    two = play(oracle, [[(hand(right=False, at=(0.02, 0, 0.61), turn=(0, -1.4, 0)), False)]])[0].raw
    size = (one[0].box[2:] - one[0].box[:2]).max()
    apart = np.linalg.norm(one[0].joints_px - two[0].joints_px, axis=-1).mean() / size
    assert pipelines.SAME_HAND_OTHER_SIDE < apart < pipelines.SAME_HAND      # nearer than two poses of one hand may be
    assert len(pipelines.without_duplicates(one + two)) == 2
    assert len(pipelines.without_duplicates((one[0], replace(two[0], right_probability=0.9)))) == 1


class InFront(Oracle):
    """An oracle that sees no hand whose middle lies close to that of a nearer one: it answers with the nearer."""

    def covered(self, joints) -> bool:
        px = cameras.project(self.camera, joints)
        nearer = [other for other, _ in self.hands if other[9, 2] < joints[9, 2] - 0.01]
        apart = [np.linalg.norm((cameras.project(self.camera, other) - px).mean(0)) for other in nearer]
        return bool(apart) and min(apart) < 0.3 * np.ptp(px, axis=0).max()

    def without_covered(self, ask):
        everything, self.hands = self.hands, [h for h in self.hands if not self.covered(h[0])]
        try:
            return ask()
        finally:
            self.hands = everything

    def detect(self, image, min_score=0.5):
        return self.without_covered(lambda: super(InFront, self).detect(image, min_score))

    def _pose(self, crop):
        return self.without_covered(lambda: super(InFront, self)._pose(crop))


def crossing(sides, seconds=1.5, fps=30, turn_back=False):
    """Two hands that pass each other, the first 9 cm nearer; or that come together and part again."""
    scenes = []
    for t in np.linspace(0, 1, round(seconds * fps)):
        x = 0.17 * (abs(2 * t - 1) if turn_back else 1 - 2 * t)
        scenes.append([(hand(right=sides[0], at=(x, 0.0, 0.6)), sides[0]),
                       (hand(right=sides[1], at=(-x, 0.01, 0.69), turn=(0, 0, 0.1)), sides[1])])
    return scenes


@pytest.mark.parametrize("sides", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("fps", [15, 30])
@pytest.mark.parametrize("turn_back", [False, True])
def test_hands_that_cross_keep_their_ids_through_full_overlap(sides, fps, turn_back):
    if turn_back and sides == (True, True):
        sides = (False, False)
    oracle, scenes = InFront(make("pinhole")), crossing(sides, fps=fps, turn_back=turn_back)
    results = play(oracle, scenes, Config(detect_every_s=10.0), dt_ms=round(1000 / fps))
    owner, seen_behind = {}, 0
    for scene, result in zip(scenes, results):
        oracle.hands = scene
        covered = [oracle.covered(joints) for joints, _ in scene]
        assert not covered[0]
        assert len(result.raw) <= 2 - covered[1]                             # nothing is made up for a hidden hand
        nearest = []
        for found in result.raw:
            off = [np.linalg.norm(found.joints_m - joints, axis=-1).mean() for joints, _ in scene]
            assert min(off) < 5e-3
            nearest.append(int(np.argmin(off)))
            assert owner.setdefault(found.track_id, nearest[-1]) == nearest[-1]
        assert len(set(nearest)) == len(nearest) and 0 in nearest
        seen_behind += 1 in nearest
    hidden = 0
    for scene in scenes:
        oracle.hands = scene
        hidden += oracle.covered(scene[1][0])
    assert hidden >= 2 and set(owner) == {1, 2}
    assert seen_behind >= len(scenes) - hidden - 0.1 * fps                   # found again at once
    if not turn_back:
        assert owner[1] != owner[2] and len(results[-1].hands) == 2


def test_a_hidden_hand_is_waited_for_without_asking_the_detector_at_every_image():
    oracle, scenes = InFront(make("pinhole")), crossing((True, False), fps=60)
    results = play(oracle, scenes, Config(detect_every_s=10.0), dt_ms=17)
    lost = [k for k, result in enumerate(results) if len(result.hands) == 1]
    assert len(lost) >= 8
    assert sum(result.detector_ran for result in results) <= 2 + len(lost) * 17e-3 / pipelines.DETECT_HIDDEN_S


class Drawn(Oracle):
    """An oracle that answers with a nearer hand unless the other one is clearly in the middle of the crop."""

    def _pose(self, crop):
        def off(joints):
            uv = crops.to_uv(crop, joints @ crop.R_camera_crop)
            return (((uv.min(0) + uv.max(0)) / 2 / self.size - 0.5)**2).sum()
        everything = self.hands
        nearest = min(everything, key=lambda h: h[0][9, 2])
        self.hands = [min(everything, key=lambda h: off(h[0]) - (0.16**2 if h is nearest else 0.0))]
        try:
            return super()._pose(crop)
        finally:
            self.hands = everything


@pytest.mark.parametrize("behind_first", [True, False])
def test_a_hand_half_behind_another_is_seen_past_it(behind_first):
    """The crop at its place shows the one in front; the hand is not lost, and neither gets the other's id."""
    oracle, scenes = Drawn(make("pinhole")), []
    for k in range(18):
        pair = [(hand(right=False, at=(max(0.12 - 0.01 * k, 0.003), 0, 0.68)), False), (hand(at=(0, 0, 0.6)), True)]
        scenes.append(pair if behind_first else pair[::-1])
    results = play(oracle, scenes, Config(detect_every_s=10.0))
    assert [len(r.hands) for r in results] == [2] * 18
    sides = [{h.track_id: h.is_right for h in r.raw} for r in results]
    assert all(s == sides[0] for s in sides) and set(sides[0].values()) == {True, False}


def test_two_tracks_that_come_to_lie_on_one_hand_give_one_hand():
    """The second hand is gone, and its track's crop shows the first."""
    oracle = Oracle(make("pinhole"))
    one, two = (hand(at=(0.0, 0, 0.6)), True), (hand(at=(0.025, 0.01, 0.6)), True)
    results = play(oracle, [[one, two]] * 2 + [[one]] * 3, Config(detect_every_s=10.0))
    assert [len(r.hands) for r in results[1:]] == [2, 1, 1, 1] or [len(r.hands) for r in results[1:]] == [1] * 4
    assert len({r.hands[0].track_id for r in results[2:]}) == 1


def test_a_pose_halfway_between_two_hands_is_no_second_hand():
    camera = make("pinhole")
    front = play(Oracle(camera), [[(hand(at=(0.0, 0, 0.6)), True)]])[0].raw[0]
    behind = play(Oracle(camera), [[(hand(right=False, at=(0.035, 0, 0.68)), False)]])[0].raw[0]
    wanted = crops.from_joints(behind.joints_px, 0.9, 0.02)
    halfway = replace(behind, joints_px=0.5 * (front.joints_px + behind.joints_px))
    assert pipelines._found_again(wanted, behind, [front])
    assert not pipelines._found_again(wanted, halfway, [front])
    assert not pipelines._found_again(wanted, replace(behind, right_probability=0.98), [front])     # the other hand's
    assert not pipelines._found_again(wanted, replace(behind, confidence=np.full(21, 0.2)), [front])


def test_a_new_box_that_overlaps_a_followed_hand_is_looked_at_if_another_one_fits_that_hand_better():
    followed = [Detection(np.array([100.0, 100, 200, 200]), 1.0, 0.9, np.array([0, -1.0]))]
    same, beside, far = (Detection(np.array(box, float), 0.9, 0.9, np.array([0, -1.0])) for box in
                         ((105, 98, 205, 203), (145, 100, 245, 200), (300, 100, 400, 200)))
    assert pipelines.unfollowed([beside, same, far], followed) == [beside, far]
    assert pipelines.unfollowed([beside, far], followed) == [far]            # alone it is the followed hand, cut badly
    assert pipelines.unfollowed([same, replace(same)], followed) == []
    assert pipelines.unfollowed([far, same], []) == [far, same]
    assert pipelines.unfollowed([], followed) == []


def test_a_box_at_the_lenss_rim_costs_no_other_hand():
    """Its middle has a ray, the pixels beside it have none: no crop can be taken of it."""
    camera = cameras.assumed(640, 480, 90.0)
    camera = replace(camera, K=np.array([[250.0, 0, 320], [0, 250, 240], [0, 0, 1]]), D=np.array([-0.35, 0, 0, 0, 0]),
                     calibrated=True)
    boxes = [Detection(np.array([x - 30, 210, x + 30, 270]), 0.2, 0.9, np.array([-1.0, 0.0]))
             for x in np.arange(420.0, 640.0, 0.25)]
    has_ray = [bool(np.isfinite(cameras.unproject(camera, np.array([d.box[[0, 2]].mean(), 240.0]))).all())
               for d in boxes]
    rim = boxes[max(k for k, has in enumerate(has_ray) if has)]
    with pytest.raises(FrameError, match="outside the image of the lens"):
        crops.plan(camera, rim, 128)
    oracle, good = Oracle(camera), hand(at=(0, 0, 0.7))
    real = oracle.detect
    oracle.detect = lambda image, score: [*real(image, score), rim]
    assert all(len(result.hands) == 1 for result in play(oracle, [[(good, True)]] * 5))


def test_max_hands_is_kept_and_tracks_come_first():
    oracle = Oracle(make("pinhole"))
    scene = [(hand(at=(x, 0, 0.9)), True) for x in (-0.3, 0.0, 0.3)]
    results = play(oracle, [scene[1:2]] + [scene] * 3, Config(max_hands=2, detect_every_s=0.0))
    assert [len(r.hands) for r in results] == [1, 2, 2, 2]
    assert 1 in {h.track_id for h in results[-1].hands}


def test_false_detections_do_not_keep_out_a_hand_of_lower_score():
    oracle = Oracle(make("pinhole"), [(hand(at=(0.0, 0, 0.6)), True)])
    real = replace(oracle.detect(BLACK)[0], score=0.5)
    ghosts = [crops.from_joints(cameras.project(oracle.camera, hand(at=(x, 0, 0.6))), 0.9, 0.9) for x in (-0.2, 0.2)]
    pipe = Pipeline(lambda image, score: [*ghosts, real], oracle.estimate, 224)
    _, result = pipe.step(PipelineState(), Frame(BLACK, oracle.camera, 1), Config(max_hands=1))
    assert len(result.hands) == 1 and abs(result.hands[0].joints_m[0, 0]) < 0.1


@pytest.mark.parametrize("score, presence, sigma_px, taken", [
    (0.9, 0.99, 2.0, True),             # all three agree
    (0.3, 0.999, 2.0, True),            # a hand that the detector is not sure of
    (0.5, 0.99, 40.0, False),           # a face: looks like a hand, but its joints are not clearly anywhere
    (0.5, 0.999, 12.0, True),           # blurred, but surely a hand
    (0.3, 0.5, 8.0, False),             # nothing speaks for it
    (0.16, 0.02, 2.0, False),           # the pose network says no
])
def test_a_new_hand_needs_the_evidence_of_both_networks(score, presence, sigma_px, taken):
    oracle = Oracle(make("pinhole"), [(hand(), True)])

    def estimate(taken_crops):
        return [replace(pose, presence=presence, uv_sigma=np.full(21, sigma_px))
                for pose in oracle.estimate(taken_crops)]
    found = [replace(d, score=score) for d in oracle.detect(BLACK)]
    pipe = Pipeline(lambda image, least: found, estimate, 224)
    _, result = pipe.step(PipelineState(), Frame(BLACK, oracle.camera, 1), CONFIG)
    assert len(result.hands) == taken
    if taken:
        assert result.hands[0].score >= CONFIG.detection_threshold


@pytest.mark.parametrize("presence, seen", [(0.9, True), (0.45, False), (0.3, False), (0.1, False)])
def test_a_hand_that_would_not_be_followed_is_not_new_every_other_image(presence, seen):
    """Of these the detector is sure: as new hands their score would be above 0.9."""
    oracle = Oracle(make("pinhole"))
    estimate = oracle.estimate
    oracle.estimate = lambda taken: [replace(pose, presence=presence) for pose in estimate(taken)]
    results = play(oracle, [[(hand(at=(0.05, 0, 0.6)), True)]] * 12)
    assert [len(result.hands) for result in results] == [int(seen)] * 12


def test_the_number_of_crops_is_bounded():
    camera, sizes = make("pinhole"), []
    oracle = Oracle(camera, [(hand(at=(x, 0, 1.5)), True) for x in np.linspace(-0.6, 0.6, 5)])
    pipe = Pipeline(oracle.detect, lambda crops: sizes.append(len(crops)) or oracle.estimate(crops), 224)
    _, result = pipe.step(PipelineState(), Frame(BLACK, camera, 1), Config(max_hands=1))
    assert max(sizes) == pipelines.CANDIDATES and len(result.hands) == 1


def test_a_hand_that_leaves_the_image_is_dropped_with_its_track():
    camera = make("pinhole")
    oracle = Oracle(camera)
    scenes = [[(hand(at=(0.012 * k, 0, 0.6)), True)] for k in range(50)]
    results = play(oracle, scenes, Config(max_hands=1))
    outside = [k for k, s in enumerate(scenes) if cameras.project(camera, s[0][0])[:, 0].min() > 640]
    assert len(results[0].hands) == 1 and outside and all(results[k].hands == () for k in outside)
    partly = next(r for r in results if r.hands and (r.hands[0].state == JointState.OUTSIDE_IMAGE).any())
    assert np.isfinite(partly.hands[0].joints_m).all()


def test_a_mirrored_image_changes_pixels_and_nothing_else():
    camera = make("plumb_bob 5")                        # principal point off the middle: a mirror must not move it
    scene = [[(hand(at=(0.12, 0.02, 0.6)), True)]] * 2
    plain = play(Oracle(camera), scene)[1].hands[0]
    mirrored = play(Oracle(camera), scene, Config(mirrored_image=True))[1].hands[0]
    np.testing.assert_allclose(mirrored.joints_m, plain.joints_m)
    assert mirrored.is_right
    np.testing.assert_allclose(mirrored.joints_px[:, 0], 639 - plain.joints_px[:, 0])
    assert mirrored.box[0] == pytest.approx(mirrored.joints_px[:, 0].min())


def test_a_mirrored_image_in_a_given_box():
    camera, joints = make("plumb_bob 5"), hand(at=(0.12, 0.02, 0.6))
    scene, oracle = [[(joints, True)]] * 2, Oracle(camera)
    plain = play(oracle, scene)[1].hands[0]
    x0, y0, x1, y1 = plain.box
    pipe = Pipeline(oracle.detect, oracle.estimate, oracle.size)
    mirrored = pipe.estimate_in_box(Frame(BLACK, camera, 1), (639 - x1, y0, 639 - x0, y1), Config(mirrored_image=True))
    assert mirrored.is_right
    np.testing.assert_allclose(mirrored.joints_px[:, 0], 639 - plain.joints_px[:, 0], atol=0.5)
    np.testing.assert_allclose(mirrored.joints_m, plain.joints_m, atol=2e-3)


def test_mirrored_pixels_match_a_mirrored_picture():
    """Outside truth for the mirror: the image is really flipped before it is looked at."""
    seen = []
    frame = Frame(np.arange(480 * 640 * 3, dtype=np.uint32).astype(np.uint8).reshape(480, 640, 3), make("pinhole"), 1)
    pipe = Pipeline(lambda image, score: seen.append(image) or [], lambda crops: [], 64)
    pipe.step(PipelineState(), frame, Config(mirrored_image=True))
    np.testing.assert_array_equal(seen[0], frame.image[:, ::-1])


def test_a_calibrated_hand_length_sets_scale_and_source():
    joints = hand(length_m=0.172)
    result = play(Oracle(make("pinhole")), [[(joints, True)]], calibrated_length_m=0.172)[0]
    assert result.hands[0].scale_source == ScaleSource.CALIBRATED_HAND
    assert np.abs(result.hands[0].joints_m - joints).max() < 2e-3


@pytest.mark.parametrize("there", [lambda k: k % 2 == 0, lambda k: k % 7 == 0, lambda k: k < 10])
@pytest.mark.parametrize("calibrated", [None, 0.178])
def test_what_depth_told_of_a_hands_size_stays_where_images_have_none(there, calibrated):
    """Else a still hand would jump by what the assumed size is wrong (6 cm here), back and forth, and say DEPTH. Its
    error is then one error of all images, as a calibrated hand's, which fusion must know."""
    camera, true = make("pinhole"), hand(bend=0.05, length_m=0.168, at=(0, 0, 0.6))
    flat = np.full((480, 640), true[:, 2].mean() - 0.008, np.float32)
    results = play(Oracle(camera), [[(true, True)]] * 60, depth=lambda k: flat if there(k) else None,
                   **({"calibrated_length_m": calibrated} if calibrated else {}))
    late = [result.hands[0] for result in results[25:]]
    sources = [ScaleSource.DEPTH if there(k) else ScaleSource.CALIBRATED_HAND for k in range(25, 60)]
    assert [hand.scale_source for hand in late] == sources
    assert all(abs(hand.hand_length_m - 0.168) < 0.004 for hand in late)
    off = [np.linalg.norm(hand.joints_m - true, axis=-1).mean() for hand in late]
    assert max(off) < 0.02 and np.ptp([hand.joints_m[9, 2] for hand in late]) < 0.006
    assert all(np.abs(hand.joints_m - true)[:, 2].mean() < 2 * hand.sigma_ray_m.mean() for hand in late)
    raw = [result.raw[0] for result in results[25:]]
    assumed = ScaleSource.CALIBRATED_HAND if calibrated else ScaleSource.ASSUMED
    assert [hand.scale_source for hand in raw] == [ScaleSource.DEPTH if there(k) else assumed for k in range(25, 60)]


def test_another_hands_size_is_its_own():
    camera, small, other = make("pinhole"), hand(length_m=0.16, at=(-0.12, 0, 0.6)), hand(at=(0.15, 0, 0.6))
    near = np.full((480, 640), np.nan, np.float32)
    near[:, :300] = 0.6 - 0.008
    results = play(Oracle(camera), [[(small, True), (other, True)]] * 20, depth=lambda k: near if k < 10 else None)
    lengths = sorted((hand.hand_length_m, hand.scale_source) for hand in results[-1].hands)
    assert lengths[0][1] == ScaleSource.CALIBRATED_HAND and lengths[0][0] < 0.168
    assert lengths[1] == (0.186, ScaleSource.ASSUMED)


def test_without_calibration_there_are_pixels_but_no_metres():
    camera = cameras.assumed(640, 480, 60)
    result = play(Oracle(camera), [[(hand(), True)]] * 3)[-1].hands[0]
    assert np.isnan(result.joints_m).all() and np.isfinite(result.joints_px).all()
    assert result.scale_source == ScaleSource.NONE


@pytest.mark.parametrize("roll", np.deg2rad([0, 40, 100, 180, 250]))
@pytest.mark.parametrize("right", [True, False])
def test_given_box_alone_finds_roll_and_side(roll, right):
    camera = make("plumb_bob 5")
    joints = hand(right=right, at=(0.08, 0.03, 0.6), turn=(0, 0, roll))
    oracle = Oracle(camera, [(joints, right)], uv_sigma=0.5)
    px = cameras.project(camera, joints)
    pipe = Pipeline(oracle.detect, oracle.estimate, 224)
    found = pipe.estimate_in_box(Frame(BLACK, camera, 0), np.concatenate([px.min(0), px.max(0)]), CONFIG)
    assert found.is_right == right and oracle.detector_calls == 0
    assert np.abs(found.joints_px - px).max() < 4


def test_noise_in_gives_the_same_answer_twice():
    scenes = [[(hand(at=(0.005 * k, 0, 0.6)), True)] for k in range(10)]
    a, b = (play(Oracle(make("pinhole"), uv_sigma=1.5, xyz_sigma=0.03), scenes) for _ in range(2))
    for x, y in zip(a, b):
        np.testing.assert_array_equal(x.hands[0].joints_m, y.hands[0].joints_m)


@pytest.mark.parametrize("stamps_ms", [(9000, 9033, 1000, 1033), (1000, 1033, 9000, 9033)])
def test_a_jump_of_the_clock_starts_anew_with_the_detector(stamps_ms):
    oracle = Oracle(make("pinhole"), [(hand(), True)])
    pipe, state, ids, ran = Pipeline(oracle.detect, oracle.estimate, 224), PipelineState(), [], []
    for ms in stamps_ms:
        state, result = pipe.step(state, Frame(BLACK, oracle.camera, ms * MS), Config(max_hands=1))
        ids.append([h.track_id for h in result.hands])
        ran.append(result.detector_ran)
    assert ids == [[1], [1], [2], [2]] and ran == [True, False, True, False]


def test_images_without_a_stamp_are_looked_at_all_the_same():
    oracle = Oracle(make("pinhole"))
    one, two = (hand(at=(-0.12, 0, 0.6)), True), (hand(right=False, at=(0.14, 0, 0.7)), False)
    pipe, state = Pipeline(oracle.detect, oracle.estimate, 224), PipelineState()
    for scene in ([one], [one], [one, two], [one, two]):
        oracle.hands = scene
        state, result = pipe.step(state, Frame(BLACK, oracle.camera, 0), CONFIG)
    assert sorted(h.track_id for h in result.hands) == [1, 2]


def test_a_network_that_answers_nan_gives_no_hand():
    oracle = Oracle(make("pinhole"), [(hand(), True)])

    def broken(crops):
        return [replace(p, uv=p.uv * np.nan) for p in oracle.estimate(crops)]
    _, result = Pipeline(oracle.detect, broken, 224).step(PipelineState(), Frame(BLACK, oracle.camera, 1), CONFIG)
    assert result.hands == ()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), spread=st.sampled_from([0.0, 1.0, 50.0, 1e4, np.nan, np.inf]),
       name=st.sampled_from(["pinhole", "plumb_bob 5", "equidistant"]), depth=st.booleans())
def test_nonsense_from_the_networks_never_breaks_or_makes_up_a_hand(seed, spread, name, depth):
    """Whatever the networks say, what comes out has the right shapes, metres only in front of the camera, no error."""
    rng = np.random.default_rng(seed)
    camera = make(name)

    def noise(*shape):
        return rng.normal(0, 1, shape) * spread * (rng.random(shape) < 0.9)

    def detect(image, score):
        return [Detection(rng.uniform(-200, 800, 4) + noise(4), rng.random(), rng.random(),
                          rng.normal(0, 1, 2) + noise(2))
                for _ in range(rng.integers(0, 5))]

    def estimate(crops):
        return [CropPose(rng.uniform(0, 224, (21, 2)) + noise(21, 2), rng.normal(0, 0.3, (21, 3)) + noise(21, 3),
                         np.abs(rng.normal(2, 2, 21) + noise(21)), np.abs(rng.normal(0, 0.1, 21) + noise(21)),
                         rng.random(21), rng.random(), rng.random()) for _ in crops]
    pipe, state = Pipeline(detect, estimate, 224), PipelineState()
    image_depth = rng.uniform(-1, 2, (480, 640)).astype(np.float32) if depth else None
    with np.errstate(all="ignore"):
        for k in range(4):
            state, result = pipe.step(state, Frame(BLACK, camera, (k + 1) * 33 * MS, image_depth), Config(max_hands=3))
            for h in result.hands + result.raw:
                assert h.joints_px.shape == (21, 2) and h.joints_m.shape == h.joints_rel_m.shape == (21, 3)
                assert h.track_id > 0 and h.state.dtype == np.uint8 and np.isfinite(h.confidence).all()
                metric = np.isfinite(h.joints_m).all(-1)
                assert (h.joints_m[metric, 2] > 0).all() and not np.isinf(h.joints_m).any()
                assert metric.any() == (h.scale_source != ScaleSource.NONE)


@pytest.mark.parametrize("frame, says", [
    (Frame(BLACK.astype(np.uint16), make("pinhole"), 0), "uint16"),
    (Frame(BLACK[..., 0], make("pinhole"), 0), r"\(480, 640\)"),
    (Frame(BLACK[:, :600], make("pinhole"), 0), "600 x 480 pixels, its camera 640 x 480"),
    (Frame(BLACK, make("pinhole"), 0, np.zeros((240, 320), np.float32)), "registered"),
])
def test_frames_that_do_not_fit_are_refused(frame, says):
    oracle = Oracle(make("pinhole"))
    with pytest.raises(FrameError, match=says):
        Pipeline(oracle.detect, oracle.estimate, 224).step(PipelineState(), frame, CONFIG)


@pytest.mark.parametrize("needed, taken", [(-50.0, True), (50.0, False)])
def test_how_much_evidence_a_new_hand_needs_belongs_to_the_pose_network(needed, taken):
    """Networks differ in how sure they are of what they see; the card of each says from where on it is believed."""
    (result,) = play(Oracle(make("pinhole")), [[(hand(at=(0, 0, 0.6)), True)]], evidence_needed=needed)
    assert bool(result.hands) == taken


def play_one(oracle, config, depth=None, **options):
    pipe = Pipeline(oracle.detect, oracle.estimate, oracle.size, **options)
    return pipe.step(PipelineState(), Frame(BLACK, oracle.camera, 10**9, depth), config)[1]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("use", [True, False])
def test_depth_belongs_to_its_pixels_also_in_a_mirrored_image_and_only_if_asked(mirrored, use):
    camera, true = make("pinhole"), hand(bend=0.05, length_m=0.165, at=(0.16, 0, 0.6))
    depth = np.full((480, 640), 3.0, np.float32)
    depth[:, 360:] = true[:, 2].mean() - 0.008                               # right half of what the camera sees
    oracle = Oracle(camera, [(true, True)])
    result = play_one(oracle, Config(mirrored_image=mirrored, use_depth=use), depth[:, ::-1] if mirrored else depth)
    (found,) = result.hands
    assert found.scale_source == (ScaleSource.DEPTH if use else ScaleSource.ASSUMED)
    assert (np.abs(found.joints_m - true).max() < 0.02) == use


def test_a_threshold_below_the_candidates_reaches_the_detector():
    asked = []
    pipe = Pipeline(lambda image, score: asked.append(score) or [], lambda crops: [], 64)
    for threshold in (0.05, 0.5):
        pipe.step(PipelineState(), Frame(BLACK, make("pinhole"), 1), Config(detection_threshold=threshold))
    assert asked[0] <= 0.05 and asked[1] <= 0.15


@pytest.mark.parametrize("sure", [0, 1])
def test_of_two_new_hands_for_one_place_the_surer_one_is_taken(sure):
    camera = make("pinhole")
    oracle = Oracle(camera, [(hand(at=(-0.15, 0, 0.6)), True), (hand(at=(0.15, 0, 0.6)), True)])
    def detect_two(image, score):
        return [replace(d, score=0.95 if k == sure else 0.4) for k, d in enumerate(oracle.detect(image))]
    pipe = Pipeline(detect_two, oracle.estimate, oracle.size)
    _, result = pipe.step(PipelineState(), Frame(BLACK, camera, 1), Config(max_hands=1, detection_threshold=0.05))
    assert len(result.hands) == 1 and np.sign(result.hands[0].joints_m[9, 0]) == (-1, 1)[sure]


def test_the_measured_hand_length_is_the_pipelines(tmp_path, monkeypatch):
    source = SimpleNamespace(input_shape=(64, 64, 3), model="x")
    monkeypatch.setattr(runtimes, "load", lambda *a: SimpleNamespace(source=source))
    monkeypatch.setattr(runtimes, "load_pose", lambda *a: SimpleNamespace(source=source))
    monkeypatch.setattr(runtimes, "looks", lambda *a: (None, None))
    monkeypatch.setattr(models, "card", lambda model: {})
    calibration.save(tmp_path / "hand.json", calibration.HandSize(0.171, 0.01, 60, "depth"))
    assert pipelines.load(Config(hand_calibration_file=str(tmp_path / "hand.json"))).calibrated_length_m == 0.171
    assert pipelines.load(Config()).calibrated_length_m is None


def test_a_hidden_hand_that_comes_out_elsewhere_is_found_soon():
    oracle = InFront(make("pinhole"))
    front, behind = (hand(at=(0, 0, 0.6)), True), lambda x: (hand(right=False, at=(x, 0.01, 0.69)), False)
    scenes = [[front, behind(x)] for x in (0.075, 0.072, 0.069, 0.05)] + [[front, behind(-0.22)]] * 16
    results = play(oracle, scenes, Config(detect_every_s=10.0))
    back = next(k for k, r in enumerate(results) if k >= 4 and len(r.hands) == 2)
    assert (back - 4) * 0.033 < 0.17


def test_depth_of_a_turned_image_is_refused():
    with pytest.raises(FrameError, match="registered"):
        pipelines.check_frame(Frame(BLACK, make("pinhole"), 1, np.ones((640, 480), np.float32)))
