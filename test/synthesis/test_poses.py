"""Poses: within anatomical limits, touching where they should, never cutting, the same from the same seed."""
import numpy as np
import pytest

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.skeleton import FINGERS
from hand_pose_ros.synthesis import poses, rig, touch
from hand_pose_ros.synthesis.hand_model import HandModel

FLEX = [rig.DOF[f"{finger}_mcp_flexion"] for finger in FINGERS[1:]]
SPREAD = [dof + 1 for dof in FLEX]


@pytest.fixture(scope="module")
def drawn():
    """200 drawn poses of one person, their names and the person."""
    rng = np.random.default_rng(0)
    shape = HandModel.load("makehuman").shape(rng)
    pairs = [poses.sample_named(rng, shape) for _ in range(200)]
    return np.stack([pose for pose, _ in pairs]), [name for _, name in pairs], shape


def _capsules_by_sampling(pivots, radii):
    """Deepest overlap of different fingers, by brute force over points on the capsules' axes; metres."""
    ends = touch.capsules(pivots, radii)[:15]
    along = np.linspace(0.0, 1.0, 25)[:, None]
    points = [(1 - along) * a + along * b for a, b in ends]
    deepest = 0.0
    for i in range(15):
        for j in range(i + 1, 15):
            if i // 3 == j // 3 or (i % 3 == 0 and j % 3 == 0):
                continue
            gap = np.linalg.norm(points[i][:, None] - points[j][None], axis=2).min()
            deepest = max(deepest, radii[i] + radii[j] - gap)
    return deepest


def test_drawn_poses_are_within_the_limits(drawn):
    sampled, _, _ = drawn
    assert (sampled >= poses.LOWER - 1e-9).all() and (sampled <= poses.UPPER + 1e-9).all()


def test_bent_fingers_hardly_spread(drawn):
    sampled, _, _ = drawn
    bent = sampled[:, FLEX] > np.radians(75.0)
    assert bent.sum() > 30
    widest = np.maximum(np.abs(poses.LOWER[SPREAD]), np.abs(poses.UPPER[SPREAD]))
    assert (np.abs(sampled[:, SPREAD])[bent] <= (0.5 * np.broadcast_to(widest, bent.shape) + 1e-9)[bent]).all()


def test_straight_neighbours_spread_no_wider_than_people_can(drawn):
    sampled, _, _ = drawn
    level = np.abs(np.diff(sampled[:, FLEX], axis=1)) < np.radians(3.0)
    apart = -np.diff(sampled[:, SPREAD] + rig.FAN_RAD, axis=1)
    assert level.sum() > 40
    assert (apart[level] <= np.broadcast_to(np.radians(poses.SPREAD_DEG) + np.radians(2.0), level.shape)[level]).all()


def test_the_last_joint_follows_the_middle_one(drawn):
    sampled, names, _ = drawn
    free = np.array([name == "free" for name in names])
    pip, dip = sampled[free][:, np.array(FLEX) + 2].ravel(), sampled[free][:, np.array(FLEX) + 3].ravel()
    inside = (pip > np.radians(10)) & (pip < np.radians(100))
    assert np.polyfit(pip[inside], dip[inside], 1)[0] == pytest.approx(0.62, abs=0.06)


@pytest.mark.parametrize("name", ["fist", "point", "victory", "four", "horns"])
def test_thumbs_over_the_palm_fold_at_their_knuckle(name):
    """In photographs of signs by 47 +- 11 degrees, with half as much left for the saddle joint (Ge et al., 2019)."""
    pose = np.degrees(poses.solved(name))
    knuckle, saddle = pose[rig.DOF["thumb_mcp_flexion"]], pose[rig.DOF["thumb_cmc_flexion"]]
    assert knuckle == pytest.approx(47.0, abs=11.0) and saddle < 0.55 * knuckle


def test_thumbs_differ_in_which_joint_bends():
    rng = np.random.default_rng(3)
    drawn = np.array([poses.sample_named(rng, kinds=("thumb_up",))[0] for _ in range(60)])
    difference = drawn[:, rig.DOF["thumb_mcp_flexion"]] - drawn[:, rig.DOF["thumb_cmc_flexion"]]
    assert np.degrees(difference.std()) > 10.0


def test_tips_are_pressed_straight_in_some_fists_only(drawn):
    sampled, names, _ = drawn
    held = sampled[np.array([name != "free" for name in names])]
    pip, dip = held[:, np.array(FLEX) + 2], held[:, np.array(FLEX) + 3]
    curled = dip[pip > np.radians(85.0)]
    assert 0.1 < (curled < np.radians(25.0)).mean() < 0.4 and (curled > np.radians(45.0)).mean() > 0.3


def test_curled_fingers_are_pressed_to_the_palm_in_some_poses_only(drawn):
    sampled, names, _ = drawn
    held = np.degrees(sampled[np.array([name != "free" for name in names])])
    knuckles = held[:, np.array(FLEX)][held[:, np.array(FLEX) + 2] > 85.0]
    assert (knuckles < 60.0).mean() > 0.35 and (knuckles > 75.0).mean() > 0.2


def test_little_fingers_rest_on_the_palm_in_some_fists_only():
    """Bent at the knuckle rather than at the middle joint, as in 32 of 277 photographed hands (poses.RESTED)."""
    rng = np.random.default_rng(6)
    knuckle, middle = np.degrees([poses.sample_named(rng, kinds=("victory",))[0][[FLEX[3], FLEX[3] + 2]]
                                  for _ in range(120)]).T
    resting = (knuckle > 55.0) & (middle > 30.0) & (middle < 80.0)
    assert 0.12 < resting.mean() < 0.5 and (middle > 90.0).mean() > 0.3


def test_hands_that_are_held_up_are_not_all_flat():
    """Knuckles of stretched fingers bend by 15 to 25 +- 8 degrees in photographs (benchmarks/joint_angles.py)."""
    rng = np.random.default_rng(5)
    level = [np.degrees(poses.sample_named(rng, kinds=("five",))[0][np.array(FLEX)]).mean() for _ in range(60)]
    assert 2.0 < np.mean(level) < 20.0 and np.std(level) > 6.0


def test_neighbouring_fingers_bend_together(drawn, monkeypatch):
    """But for little fingers that rest while their neighbours do not."""
    monkeypatch.setattr(poses, "RESTED", 0.0)
    rng, shape = np.random.default_rng(0), drawn[2]
    together = np.corrcoef(np.stack([poses.sample(rng, shape)[FLEX] for _ in range(200)]).T)
    assert together[1, 2] > together[0, 3] > 0.0
    assert together[2, 3] > 0.4


def test_every_combination_of_bent_and_stretched_fingers_is_drawn(drawn):
    sampled, _, _ = drawn
    middle_joints = [rig.DOF[f"{finger}_pip_flexion"] for finger in ("index", "middle", "ring", "little")]
    bent = np.degrees(sampled[:, middle_joints]) > 40
    share = np.bincount(bent @ (1, 2, 4, 8), minlength=16) / len(bent)
    assert share.min() > 0.004, share


def test_no_drawn_hand_cuts_itself(drawn):
    sampled, _, shape = drawn
    radii = touch.capsule_radii(shape.hand_length_m, shape.person.finger_thickness)
    pivots = rig.posed_pivots(shape.skeleton, rig.motions(shape.skeleton, sampled))
    assert (touch.overlap(pivots, radii) <= poses.MAX_OVERLAP * shape.hand_length_m + 1e-9).all()
    give = touch.FINGER_GIVE * 2 * radii[:15].max()
    deepest = [_capsules_by_sampling(one, radii) for one in pivots[:60]]
    assert max(deepest) < give + poses.MAX_OVERLAP * shape.hand_length_m + 5e-4


def test_cutting_is_noticed():
    shape = HandModel.load("makehuman").shape()
    radii = touch.capsule_radii(shape.hand_length_m, np.ones(5))
    pose = poses.anchor("open_flat")
    assert touch.overlap(rig.posed_pivots(shape.skeleton, rig.motions(shape.skeleton, pose)), radii) == 0.0
    pose[rig.DOF["index_mcp_abduction"]], pose[rig.DOF["middle_mcp_abduction"]] = np.radians([-25.0, 20.0])
    assert touch.overlap(rig.posed_pivots(shape.skeleton, rig.motions(shape.skeleton, pose)), radii) > 0.004


def test_drawn_poses_cover_what_hands_do(drawn):
    sampled, names, _ = drawn
    assert 0.12 < np.mean([name == "free" for name in names]) < 0.4
    assert len(set(names)) > 35
    closed = sampled[:, FLEX[1]] + sampled[:, FLEX[1] + 2]
    assert (closed < np.radians(30)).mean() > 0.12 and (closed > np.radians(140)).mean() > 0.12
    wrist = np.degrees(sampled[:, rig.DOF["wrist_flexion"]])
    assert 12 < wrist.std() < 35


@pytest.mark.parametrize("model", ["makehuman", "webxr"])
@pytest.mark.parametrize("name,tips", [("pinch", (4, 8)), ("ok", (4, 8)), ("pinch_middle", (4, 12)), ("tripod", (4, 8)),
                                       ("tripod", (4, 12)), ("pinch_straight", (4, 8))])
def test_pinching_fingers_meet(model, name, tips):
    rng = np.random.default_rng(1)
    for _ in range(3):
        shape = HandModel.load(model).shape(rng)
        pose = poses.solved(name, shape)
        motions = rig.motions(shape.skeleton, pose)
        radii = touch.capsule_radii(shape.hand_length_m, shape.person.finger_thickness)
        pivots = rig.posed_pivots(shape.skeleton, motions)
        a, b = (touch.capsules(pivots, radii)[touch.CAPSULE_ENDS[:, 1].tolist().index(tip)] for tip in tips)
        gap = touch.segment_distance(a[0], a[1], b[0], b[1])
        reach = sum(radii[touch.CAPSULE_ENDS[:, 1].tolist().index(tip)] for tip in tips)
        assert 0.7 * reach < gap < reach + 0.003


def test_open_pinch_is_open():
    shape = HandModel.load("makehuman").shape()
    pivots = rig.posed_pivots(shape.skeleton, rig.motions(shape.skeleton, poses.solved("pinch_open")))
    assert np.linalg.norm(pivots[4] - pivots[8]) > 0.025


@pytest.mark.parametrize("name", sorted(poses.ANCHORS))
def test_every_named_pose_is_possible(name):
    pose = poses.solved(name)
    assert pose.shape == (rig.NUM_DOFS,)
    assert (pose >= poses.LOWER - 1e-9).all() and (pose <= poses.UPPER + 1e-9).all()
    shape = HandModel.load("makehuman").shape()
    radii = touch.capsule_radii(shape.hand_length_m, np.ones(5))
    assert touch.overlap(rig.posed_pivots(shape.skeleton, rig.motions(shape.skeleton, pose)), radii) < 0.003


@pytest.mark.parametrize("name,straight", [("point", "0100 0"), ("victory", "0110 0"), ("three_w", "0111 0"),
                                           ("four", "0111 1"), ("five", "1111 1"), ("fist", "0000 0"),
                                           ("little_up", "0000 1"), ("horns", "0100 1"), ("thumb_up", "1000 0")])
def test_counts_show_the_fingers_that_they_should(name, straight):
    pose = poses.solved(name)
    shown = [bool(int(digit)) for digit in straight.replace(" ", "")][1:]
    assert [pose[dof] + pose[dof + 2] < np.radians(40) for dof in FLEX] == shown


def test_the_same_seed_draws_the_same_pose():
    one, two = (poses.sample(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_limits_leave_possible_poses_alone_and_mend_others():
    flat = poses.anchor("open_flat")
    np.testing.assert_array_equal(poses.within_limits(flat), flat)
    wild = np.random.default_rng(0).normal(0.0, 2.0, (40, rig.NUM_DOFS))
    mended = poses.within_limits(wild)
    assert (mended >= poses.LOWER - 1e-9).all() and (mended <= poses.UPPER + 1e-9).all()
    np.testing.assert_allclose(poses.within_limits(mended)[:, FLEX], mended[:, FLEX])


def test_only_poses_of_the_wanted_kind():
    rng = np.random.default_rng(0)
    for _ in range(20):
        name = poses.sample_named(rng, kinds=("grasp",))[1]
        assert poses.ANCHORS[name].kind == "grasp"
    assert {poses.sample_named(rng, kinds=("fist",))[1] for _ in range(20)} == {"fist"}


def test_unknown_names_list_the_choices():
    with pytest.raises(ConfigError, match="unknown pose 'moose'.*fist"):
        poses.anchor("moose")
    with pytest.raises(ConfigError, match="unknown pose 'moose'.*sign .kinds.*fist"):
        poses.sample_named(np.random.default_rng(0), kinds=("moose",))
