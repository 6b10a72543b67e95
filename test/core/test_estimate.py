"""Crops in, poses out, in order; answers of another shape are refused."""
import numpy as np
import pytest

from hand_pose_ros.errors import ModelError
from hand_pose_ros.estimate import Estimator
from hand_pose_ros.skeleton import joint_centres
from hand_pose_ros.types import Crop


def crop(value):
    return Crop(np.full((32, 32, 3), value, np.uint8), np.eye(3), np.eye(3), False)


def echo(batch):
    """A network whose every number is the grey level of its crop."""
    level = batch[:, 0, 0, 0].astype(np.float32)
    shapes = ((21, 2), (21, 3), (21,), (21,), (21,), (), ())
    return tuple(np.broadcast_to(level.reshape(-1, *[1] * len(s)), (len(batch), *s)) for s in shapes)


def test_poses_come_in_the_order_of_the_crops():
    poses = Estimator(echo)([crop(3), crop(200), crop(7)])
    assert [p.presence for p in poses] == [3.0, 200.0, 7.0]
    assert all((p.uv == p.presence).all() and p.xyz.shape == (21, 3) and p.uv.dtype == np.float64 for p in poses)


def test_joints_are_moved_to_where_they_are_published():
    answer = [np.random.default_rng(k).normal(size=(2, 21, *s)).astype(np.float32)
              for k, s in enumerate([(2,), (3,), (), (), ()])]
    poses = Estimator(lambda batch: (*answer, np.ones(2), np.zeros(2)))([crop(0), crop(1)])
    for k, name in enumerate(("uv_sigma", "xyz_sigma", "visibility"), 2):                # each in its place
        np.testing.assert_array_equal([getattr(pose, name) for pose in poses], answer[k])
    assert [(pose.presence, pose.right_probability) for pose in poses] == [(1.0, 0.0)] * 2
    np.testing.assert_array_equal([pose.uv for pose in poses], joint_centres(answer[0]))
    np.testing.assert_array_equal([pose.xyz for pose in poses], joint_centres(answer[1]))


def test_no_crop_does_not_ask_the_network():
    assert Estimator(None)([]) == []


def test_a_network_of_another_interface_is_refused():
    with pytest.raises(ModelError, match="another version"):
        Estimator(lambda batch: echo(batch)[:6])([crop(1)])
