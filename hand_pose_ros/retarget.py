"""The 21 joints for dexterous robot hands: the frame that dex-retargeting expects, and an adapter to that package.

The frame is MANO's as dex-retargeting defines it (dexsuite/dex-retargeting v0.5, example/vector_retargeting/
single_hand_detector.py: estimate_frame_from_hand_points, OPERATOR2MANO_RIGHT and _LEFT). The operator frame is fitted
to wrist, index and middle knuckle: x from the middle knuckle to the wrist, y normal to their plane, z from the middle
to the index finger's side. In the MANO frame that follows from it, with the wrist at the origin, the fingers point
along +z, the palm looks along +x, and the thumb's side is +y on a right hand and -y on a left hand.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .errors import ConfigError
from .skeleton import mano_joints

OPERATOR_TO_MANO = {
    True: np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    False: np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
}
"""is_right: rotation, multiplied from the right onto row vectors."""
_DEGENERATE = 1e-6


def operator_rotation(joints: np.ndarray) -> np.ndarray:
    """R (3, 3) whose columns are the operator frame's axes. joints: (21, 3), any unit; NaN if they do not define it."""
    wrist, index, middle = joints[0], joints[5], joints[9]
    back = wrist - middle
    normal = np.cross(back, index - middle)
    size = np.linalg.norm(back) * np.linalg.norm(index - middle)
    if not np.linalg.norm(normal) > _DEGENERATE * max(size, 1e-12):        # also catches NaN
        return np.full((3, 3), np.nan)
    x = back / np.linalg.norm(back)
    normal = normal / np.linalg.norm(normal)
    z = np.cross(x, normal)
    if z @ (index - middle) < 0:
        normal, z = -normal, -z
    return np.stack([x, normal, z], axis=1)


def operator_joints(joints: np.ndarray, is_right: bool) -> np.ndarray:
    """MANO's joints in the MANO frame of dex-retargeting (see the module's text), metres, wrist at the origin.

    joints: (21, 3) metres as published, in any right-handed frame. Returns (21, 3); NaN where the frame is not defined.
    """
    joints = mano_joints(joints)
    return (joints - joints[0]) @ operator_rotation(joints) @ OPERATOR_TO_MANO[bool(is_right)]


class DexRetargeting:
    """dex-retargeting for one robot hand: joints in, positions of the robot's joints out."""

    def __init__(self, config_file: str | Path, urdf_folder: str | Path) -> None:
        """config_file: YAML in dex-retargeting's format, e.g. config/retargeting/allegro_right.yaml. urdf_folder: where
        the urdf_path in it starts; robot models do not come with this package.

        Raises ConfigError if the package, the file or the URDF is missing.
        """
        if not Path(config_file).is_file():
            raise ConfigError(f"there is no retargeting configuration {config_file}; this package's are in "
                              "config/retargeting")
        if not Path(urdf_folder).is_dir():
            raise ConfigError(f"there is no folder {urdf_folder}; give the folder that holds the robot hand's URDF")
        try:
            from dex_retargeting.retargeting_config import RetargetingConfig
        except ImportError as error:
            raise ConfigError(f"retargeting needs the package dex-retargeting ({error}): "
                              "pip install -r requirements/retarget.txt, in an environment of its own where cv_bridge "
                              "needs numpy 1: dex-retargeting brings numpy 2") from error
        try:
            RetargetingConfig.set_default_urdf_dir(str(urdf_folder))
            self._retargeting = RetargetingConfig.load_from_file(str(config_file)).build()
        except ValueError as error:
            raise ConfigError(f"{config_file}: {error}") from error

        self._fixed = np.asarray(self._retargeting.optimizer.idx_pin2fixed, int)
        self._moved = np.setdiff1d(np.arange(len(self._retargeting.joint_names)), self._fixed)

    @property
    def joint_names(self) -> list[str]:
        """Names of the joints that the hand moves, in the order of what ``positions`` returns.

        Others of the same URDF, such as those of an arm that carries the gripper, are not among them.
        """
        return [self._retargeting.joint_names[k] for k in self._moved]

    def positions(self, joints: np.ndarray, is_right: bool) -> np.ndarray:
        """Positions of the robot's joints [rad or m], within their limits.

        joints: (21, 3) metres in any right-handed frame. NaN raises ValueError, nothing is made up.
        The result starts from the one before, so it needs a few calls to settle; nothing limits its speed: do that, and
        start from where the robot is, before you send it.
        """
        optimizer = self._retargeting.optimizer
        wanted = reference(operator_joints(joints, is_right), optimizer.retargeting_type,
                           optimizer.target_link_human_indices)
        found = np.asarray(self._retargeting.retarget(wanted, fixed_qpos=np.zeros(len(self._fixed))))
        low, high = np.asarray(optimizer.robot.joint_limits).T           # the solver oversteps them by a thousandth
        return np.clip(found, low, high)[self._moved]


def reference(joints: np.ndarray, kind: str, indices: Any) -> np.ndarray:
    """What dex-retargeting wants of the joints: positions (n, 3) for POSITION, else vectors (n, 3) between two joints.

    joints: (21, 3) of ``operator_joints``. indices: (n,) for POSITION, else (2, n) origins and ends. Raises ValueError
    for joints that are not finite.
    """
    indices = np.asarray(indices)
    if not np.all(np.isfinite(joints)):
        raise ValueError("joints are not finite: the hand is not fully known")
    return joints[indices] if kind.upper() == "POSITION" else joints[indices[1]] - joints[indices[0]]
