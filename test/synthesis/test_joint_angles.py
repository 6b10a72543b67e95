"""benchmarks/joint_angles.py: angles and distances of hands, on hands of known ones."""
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from hand_pose_ros.errors import DataError
from hand_pose_ros.skeleton import joint_centres
from hand_pose_ros.synthesis import rig
from hand_pose_ros.synthesis.hand_model import HandModel

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "joint_angles.py"
_spec = importlib.util.spec_from_file_location("joint_angles", PROGRAM)
joint_angles = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(joint_angles)


def _hand(**degrees):
    shape, pose = HandModel.load("makehuman").shape(), np.zeros(rig.NUM_DOFS)
    for dof, angle in degrees.items():
        pose[rig.DOF[dof]] = np.radians(angle)
    return joint_centres(rig.posed_joints(shape.skeleton, rig.motions(shape.skeleton, pose))) / shape.hand_length_m


def test_a_bent_finger_bends_by_what_it_was_told():
    bends = joint_angles.bends(_hand(ring_mcp_flexion=60, ring_pip_flexion=90, ring_dip_flexion=40))
    np.testing.assert_allclose(bends[2], (60, 90, 40), atol=5)
    assert (bends[[0, 1, 3], 1:] < 6).all()


def test_the_distance_to_the_nearest_hands_is_in_millimetres_and_blind_to_place_turn_and_size():
    flat, fist = _hand(), _hand(**{f"{f}_{j}_flexion": 80 for f in ("index", "middle", "ring", "little")
                                   for j in ("mcp", "pip")})
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    pool = np.stack([flat] * joint_angles.NEAREST)
    near, far = joint_angles.nearest(np.stack([3.0 * flat @ turn.T + 2.0, fist]), pool)
    assert near == pytest.approx(0.0, abs=1e-4) and far > 15.0
    moved = flat.copy()
    moved[8] += [0.0, 0.0, 0.05]                               # 9.3 mm of 186, at one joint of the 19 that count
    assert joint_angles.nearest(moved[None], pool)[0] == pytest.approx(9.3 / np.sqrt(19), rel=0.2)


def test_labels_and_their_predictions_are_paired_and_left_hands_mirrored(tmp_path):
    joints = 0.186 * _hand()
    px = 400.0 * joints[:, :2] / 0.6 + 128.0
    label = {"joints_2d": px.tolist(), "joints_3d": (joints * (-1, 1, 1)).tolist(),
             "bbox": [0, 0, 256, 256]}
    rows = [{"image": image, "width": 256, "height": 256, "dataset": "mine", "hands": [{**label, "handedness": side}]}
            for image, side in (("a.jpg", "Left"), ("b.jpg", None))]
    (tmp_path / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    far, near = (([[x + off, y] for x, y in px.tolist()]) for off in (60.0, 3.0))
    answer = {"image": "a.jpg", "hands": [{"joints_2d": at, "joints_3d": label["joints_3d"]} for at in (far, near)]}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(answer) + "\n")
    truth, found, error = joint_angles.photographed(tmp_path, tmp_path / "predictions.jsonl")["mine"]
    np.testing.assert_allclose(truth, joints[None], atol=1e-9)
    np.testing.assert_allclose(found, joints[None], atol=1e-9)
    np.testing.assert_allclose(error, 300 / np.ptp(px, axis=0).max())
    (tmp_path / "predictions.jsonl").write_text("no line\n")
    with pytest.raises(DataError, match="predictions.jsonl:1"):
        joint_angles.photographed(tmp_path, tmp_path / "predictions.jsonl")
