"""The retargeting frame, the index tables, TF lookups and the arm's kinematics: laws, and published constants as the
truth."""
from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hand_pose_ros import arm_model, frames, retarget, skeleton, skeleton_tables
from hand_pose_ros.errors import ConfigError, DataError
from hand_pose_ros.resources import folder
from hand_pose_ros.transform_tree import LATE_SAMPLES, TransformTree

RNG = np.random.default_rng(0)
FLAT = np.zeros((21, 3))                       # a right hand, fingers up (-y), palm to a camera at -z, thumb to +x
for _finger, _x in enumerate((0.05, 0.03, 0.005, -0.02, -0.04)):
    FLAT[1 + 4 * _finger:5 + 4 * _finger] = [(_x, -0.09 - 0.03 * k, 0.0) for k in range(4)]


def published_frame(points):
    """estimate_frame_from_hand_points of dex-retargeting, by its own words: plane by SVD, Gram-Schmidt, sign by the
    index."""
    three = points[[0, 5, 9]]
    normal = np.linalg.svd(three - three.mean(0))[2][2]
    x = three[0] - three[2]
    x = x - (x @ normal) * normal
    x /= np.linalg.norm(x)
    z = np.cross(x, normal)
    sign = -1.0 if z @ (three[1] - three[2]) < 0 else 1.0
    return np.stack([x, sign * normal, sign * z], axis=1)


@pytest.mark.parametrize("is_right", [True, False])
def test_the_frame_is_that_of_dex_retargeting(is_right):
    for _ in range(200):
        joints = RNG.normal(size=(21, 3))
        np.testing.assert_allclose(retarget.operator_rotation(joints), published_frame(joints), atol=1e-9)
        expected = (joints - joints[0]) @ published_frame(joints) @ retarget.OPERATOR_TO_MANO[is_right]
        published = skeleton.joint_centres(joints)
        np.testing.assert_allclose(retarget.operator_joints(published, is_right), expected, atol=1e-9)


@pytest.mark.parametrize("is_right", [True, False])
def test_axes_of_the_frame_on_a_flat_hand(is_right):
    """Fingers along +z, thumb's side along +y on a right and -y on a left hand, palm towards +x on both."""
    joints = FLAT * ([1, 1, 1] if is_right else [-1, 1, 1])
    out = retarget.operator_joints(joints, is_right)
    np.testing.assert_allclose(out[9] / np.linalg.norm(out[9]), [0, 0, 1], atol=1e-9)
    assert bool(out[5, 1] > out[17, 1]) == is_right
    bent = joints.copy()
    bent[12] += [0, 0, -0.03]                                             # the middle fingertip bends towards the palm
    assert retarget.operator_joints(bent, is_right)[12, 0] > 0.029


def test_the_frame_turns_and_moves_with_the_hand():
    joints = RNG.normal(size=(21, 3))
    for turn in Rotation.random(50, random_state=1):
        moved = turn.apply(joints) + RNG.normal(size=3)
        for side in (True, False):
            np.testing.assert_allclose(retarget.operator_joints(moved, side), retarget.operator_joints(joints, side),
                                       atol=1e-9)
            R = retarget.operator_rotation(moved) @ retarget.OPERATOR_TO_MANO[side]
            np.testing.assert_allclose(R.T @ R, np.eye(3), atol=1e-9)
            assert np.linalg.det(R) > 0


def test_no_frame_from_a_line_or_from_nan():
    line = np.outer(np.arange(21.0), [1, 0, 0])
    assert np.isnan(retarget.operator_joints(line, True)).all()
    broken = FLAT.copy()
    broken[9] = np.nan
    assert np.isnan(retarget.operator_joints(broken, True)).all()
    with pytest.raises(ValueError, match="not finite"):
        retarget.reference(broken, "POSITION", [4])


@pytest.mark.parametrize("name", sorted(skeleton_tables.TABLES))
def test_index_tables_there_and_back(name):
    rows, count = skeleton_tables.TABLES[name]
    assert len(set(rows)) == 21 and 0 <= min(rows) and max(rows) < count
    joints = RNG.normal(size=(4, 21, 3))
    there = skeleton_tables.expand(joints, name)
    assert there.shape == (4, count, 3) and np.isnan(there).all(-1).sum() == 4 * (count - 21)
    np.testing.assert_array_equal(skeleton_tables.reorder(there, rows), joints)


def test_index_tables_name_the_joints_that_the_standards_name():
    fingers = ("thumb", "index", "middle", "ring", "little")
    openxr = ["palm", "wrist", *(f"thumb_{part}" for part in ("metacarpal", "proximal", "distal", "tip"))]
    for finger in fingers[1:]:
        openxr += [f"{finger}_{part}" for part in ("metacarpal", "proximal", "intermediate", "distal", "tip")]
    ours = {"mcp": "proximal", "pip": "intermediate", "dip": "distal", "tip": "tip"}
    thumb = {"cmc": "metacarpal", "mcp": "proximal", "ip": "distal", "tip": "tip"}
    expected = ["wrist"] + [f"{f}_{(thumb if f == 'thumb' else ours)[part]}" for f, part in
                            (name.split("_") for name in skeleton.JOINT_NAMES[1:])]
    assert [openxr[row] for row in skeleton_tables.OPENXR_26] == expected
    assert [openxr[1:][row] for row in skeleton_tables.WEBXR_25] == expected
    mano = ["wrist"] + [f"{f}{k}" for f in ("index", "middle", "little", "ring", "thumb") for k in (1, 2, 3)]
    mano += [f"{f}_tip" for f in ("thumb", "index", "middle", "ring", "little")]
    expected = ["wrist"] + [name for f in fingers for name in (f"{f}1", f"{f}2", f"{f}3", f"{f}_tip")]
    assert [mano[row] for row in skeleton_tables.MANO_21] == expected


# ------------------------------------------------------------------------------------------------ dex-retargeting

class FakeRetargeting:
    """What of dex-retargeting's SeqRetargeting the adapter touches."""

    joint_names = ["arm", "a", "b"]

    def __init__(self, kind, indices):
        self.optimizer = SimpleNamespace(retargeting_type=kind, target_link_human_indices=np.array(indices),
                                         idx_pin2fixed=np.array([0]), robot=SimpleNamespace(
                                             joint_limits=np.array([[-1.0, 1.0], [0.0, 1.5], [-1.0, 2.0]])))

    def retarget(self, value, fixed_qpos):
        assert fixed_qpos.shape == (1,)                 # the package refuses any other number
        self.value = value
        return np.array([0.0, 1.0, 2.001])


@pytest.mark.parametrize("kind, indices", [
    ("POSITION", [4, 8]), ("VECTOR", [[4], [8]]), ("DEXPILOT", [[8, 0, 0], [4, 4, 8]])])
def test_the_adapter_gives_what_the_package_wants(monkeypatch, tmp_path, kind, indices):
    made = FakeRetargeting(kind, indices)
    module, package = ModuleType("dex_retargeting.retargeting_config"), ModuleType("dex_retargeting")
    module.RetargetingConfig = type("RetargetingConfig", (), {
        "set_default_urdf_dir": staticmethod(lambda path: None),
        "load_from_file": staticmethod(lambda path: SimpleNamespace(build=lambda: made))})
    monkeypatch.setitem(sys.modules, "dex_retargeting", package)
    monkeypatch.setitem(sys.modules, "dex_retargeting.retargeting_config", module)
    config = folder("config") / "retargeting" / "allegro_right.yaml"
    robot = retarget.DexRetargeting(config, tmp_path)
    assert robot.joint_names == ["a", "b"]
    np.testing.assert_array_equal(robot.positions(FLAT, True), [1.0, 2.0])
    joints = retarget.operator_joints(FLAT, True)
    expected = joints[indices] if kind == "POSITION" else joints[indices[1]] - joints[indices[0]]
    np.testing.assert_allclose(made.value, expected, atol=1e-12)
    with pytest.raises(ConfigError, match="config/retargeting"):
        retarget.DexRetargeting(tmp_path / "none.yaml", tmp_path)
    with pytest.raises(ConfigError, match="URDF"):
        retarget.DexRetargeting(config, tmp_path / "none")


def test_without_the_package_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "dex_retargeting", None)
    with pytest.raises(ConfigError, match="requirements/retarget.txt"):
        retarget.DexRetargeting(folder("config") / "retargeting" / "allegro_right.yaml", tmp_path)


# ------------------------------------------------------------------------------------------------ transforms, arm

def test_frames_that_are_sent_no_more_are_forgotten():
    """Each hand that comes gets names of its own: those of a day must not stay for ever. What is still sent stays,
    slow frames too, whatever other clocks say."""
    tree = TransformTree()
    tree.add("base", "camera", np.eye(3), np.zeros(3), 0, static=True)
    for track in range(1000):
        for k in range(30):
            now = 10**9 * track + 33_000_000 * k
            tree.add("camera", f"hand_right_{track}_wrist", np.eye(3), np.zeros(3), now)
            tree.add("base", "tool", np.eye(3), np.zeros(3), now)
            tree.add("base", "elsewhere", np.eye(3), np.zeros(3), now + 70 * 10**9)
        tree.add("base", "slow", np.eye(3), np.zeros(3), 10**9 * track)
        assert tree.lookup("camera", "tool") and tree.lookup("slow", "elsewhere")
    assert tree.lookup("base", "hand_right_990_wrist")
    with pytest.raises(DataError, match="not connected"):
        tree.lookup("base", "hand_right_500_wrist")
    assert len(tree._links) < 400


def test_a_transform_that_comes_much_too_late_replaces_no_newer_one():
    tree = TransformTree()
    for k in range(20):
        tree.add("base", "camera", np.eye(3), np.array([1.0, 0, 0]), 100 * 10**9 + k * 10**8)
    tree.add("base", "camera", np.eye(3), np.array([9.0, 0, 0]), 50 * 10**9)
    assert tree.lookup("base", "camera")[1][0] == 1.0 == tree.lookup("base", "camera", 101 * 10**9)[1][0]
    for k in range(LATE_SAMPLES):                                       # a bag that starts again, no clock that jumps
        tree.add("base", "camera", np.eye(3), np.array([2.0, 0, 0]), 60 * 10**9 + k * 10**8)
    assert tree.lookup("base", "camera")[1][0] == 2.0
    tree.clear()
    tree.add("base", "camera", np.eye(3), np.array([9.0, 0, 0]), 50 * 10**9)
    assert tree.lookup("base", "camera")[1][0] == 9.0, "time has gone back"


def test_transforms_chain_interpolate_and_never_continue():
    tree = TransformTree()
    turn = Rotation.from_rotvec([0, 0, 1.0]).as_matrix()
    tree.add("world", "base", turn, np.array([1.0, 2, 3]), 0, static=True)
    tree.add("world", "arm", np.eye(3), np.zeros(3), 10**9)
    tree.add("world", "arm", Rotation.from_rotvec([0, 0, 0.4]).as_matrix(), np.array([2.0, 0, 0]), 2 * 10**9)
    R, t = tree.lookup("base", "arm", 15 * 10**8)
    truth = Rotation.from_rotvec([0, 0, 0.2 - 1.0])
    np.testing.assert_allclose(R, truth.as_matrix(), atol=1e-9)
    np.testing.assert_allclose(t, turn.T @ (np.array([1.0, 0, 0]) - [1, 2, 3]), atol=1e-9)
    np.testing.assert_allclose(tree.lookup("arm", "base", 15 * 10**8)[0], R.T, atol=1e-9)
    np.testing.assert_allclose(tree.lookup("world", "arm")[1], [2, 0, 0])
    for stamp in (5 * 10**8, 21 * 10**8):
        with pytest.raises(DataError, match="not known at that time"):
            tree.lookup("base", "arm", stamp)
    with pytest.raises(DataError, match="not connected"):
        tree.lookup("base", "camera")
    assert tree.newest_ns("base", "arm") == 2 * 10**9 and tree.newest_ns("world", "base") == 0
    tree.add("arm", "tool", np.eye(3), np.zeros(3), 10**9)
    assert tree.newest_ns("base", "tool") == tree.newest_ns("tool", "base") == 10**9     # the older of two on the way
    assert tree.newest_ns("arm", "tool") == 10**9 and tree.newest_ns("base", "arm") == 2 * 10**9
    with pytest.raises(DataError, match="not connected"):
        tree.newest_ns("base", "camera")
    tree.add("world", "broken", np.full((3, 3), np.nan), np.zeros(3), 0, static=True)
    with pytest.raises(DataError, match="not connected"):
        tree.lookup("base", "broken")


def test_rotation_of_a_quaternion_against_scipy():
    for q in RNG.normal(size=(50, 4)):
        np.testing.assert_allclose(frames.rotation_of_quaternion(q), Rotation.from_quat(q).as_matrix(), atol=1e-12)
    assert np.isnan(frames.rotation_of_quaternion(np.zeros(4))).all()


@pytest.mark.parametrize("text, words", [
    ("<robot><joint name='a' type='fixed'><child link='x'/></joint></robot>", "not a URDF"),
    ("<robot><joint name='a' type='fixed'><parent link='b'/><child link='x'/><origin xyz='1 two 3'/></joint></robot>",
     "two"), ("<robot/>", "no joint"), ("nonsense", "not a URDF"),
    ("<robot><joint name='a' type='revolute'><parent link='b'/><child link='x'/></joint></robot>", "no velocity"),
    ("<robot><joint name='a' type='floating'/></robot>", "floating")])
def test_a_urdf_that_cannot_be_used_is_refused_with_the_reason(tmp_path, text, words):
    (tmp_path / "robot.urdf").write_text(text)
    with pytest.raises(DataError, match=words):
        arm_model.load(tmp_path / "robot.urdf")


def test_the_arm_reaches_poses_within_its_speeds_and_its_jacobian_is_the_derivative():
    model = arm_model.load(folder("config") / "sim" / "arm_gripper.urdf")
    names = tuple(f"joint{k}" for k in range(1, 7))
    values = {"joint1": 0.2, "joint2": 0.5, "joint3": 1.4, "joint4": 0.1, "joint5": 1.2, "joint6": -0.3,
              "gripper_joint": 0.06}
    J = arm_model.jacobian(model, values, "tool0", names)
    R0, t0 = arm_model.links(model, values)["tool0"]
    for column, name in enumerate(names):
        R1, t1 = arm_model.links(model, {**values, name: values[name] + 1e-6})["tool0"]
        moved = np.r_[t1 - t0, frames.rotation_vector(R1 @ R0.T)] / 1e-6
        np.testing.assert_allclose(J[:, column], moved, atol=1e-4)
    goal_R, goal_t = Rotation.from_rotvec([0, 0, 0.3]).as_matrix() @ R0, t0 + [-0.05, 0.08, 0.06]
    most = {joint.name: joint.velocity for joint in model.moving}
    for _ in range(300):
        following = arm_model.follow_pose(model, values, "tool0", names, goal_t, goal_R, 0.01)
        for name in names:
            assert abs(following[name] - values[name]) <= most[name] * 0.01 + 1e-12
        values = following
    R, t = arm_model.links(model, values)["tool0"]
    assert np.linalg.norm(t - goal_t) < 2e-3 and np.linalg.norm(frames.rotation_vector(goal_R @ R.T)) < 0.01
    left, right = (arm_model.links(model, values)[f"finger_{side}"][1] for side in ("left", "right"))
    assert np.linalg.norm(left - right) == pytest.approx(0.06)            # the gripper's joint is the opening


def test_after_time_has_gone_back_only_what_stands_still_is_known():
    tree = TransformTree()
    tree.add("base", "mount", np.eye(3), np.zeros(3), 0, static=True)
    tree.add("mount", "tool", np.eye(3), np.ones(3), 10**9)
    tree.clear()
    assert tree.lookup("base", "mount")[1].tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="not connected"):
        tree.lookup("base", "tool")
