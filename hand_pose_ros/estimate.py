"""Crops -> poses: one call of a pose network for all hands of a frame."""
from __future__ import annotations

from typing import Callable, Sequence

import numpy as np

from hand_pose_ros.errors import ModelError
from hand_pose_ros.skeleton import joint_centres
from hand_pose_ros.types import Crop, CropPose


class Estimator:
    """A pose network (``runtimes.load("pose", ...)``): (N, S, S, 3) uint8 -> the tuple ``networks.POSE_OUTPUTS``."""

    def __init__(self, network: Callable[[np.ndarray], tuple]):
        self.network = network

    def __call__(self, crops: Sequence[Crop]) -> list[CropPose]:
        """The pose in each crop, in order; all crops must have the size that the network takes.

        Raises ModelError if the network does not answer with the agreed outputs.
        """
        if not crops:
            return []
        return split(self.network(np.stack([crop.image for crop in crops])), len(crops))


def split(outputs: Sequence[np.ndarray], count: int) -> list[CropPose]:
    """The network's outputs for ``count`` crops, one pose each, with the joints where they are published: networks
    learn MANO's. Raises ModelError if they are not the agreed ones."""
    expected = [(count, *rest) for rest in ((21, 2), (21, 3), (21,), (21,), (21,), (), ())]
    if [np.shape(o) for o in outputs] != expected:
        raise ModelError(f"the pose network answered with shapes {[np.shape(o) for o in outputs]} instead of "
                         f"{expected}: this model belongs to another version")
    return [CropPose(joint_centres(uv), joint_centres(xyz), uv_sigma.astype(np.float64),
                     xyz_sigma.astype(np.float64), visibility.astype(np.float64), float(presence), float(right))
            for uv, xyz, uv_sigma, xyz_sigma, visibility, presence, right in zip(*outputs)]
