"""Linear blend skinning: the numpy and the torch one agree, and both move rigidly what one bone carries."""
import numpy as np
import pytest
import torch

from hand_pose_ros.synthesis import poses, rig, skinning
from hand_pose_ros.synthesis.hand_model import HandModel


@pytest.mark.parametrize("name", ["makehuman", "webxr"])
def test_numpy_and_torch_agree_to_a_thousandth_of_a_millimetre(name):
    model, rng = HandModel.load(name), np.random.default_rng(0)
    shape = model.shape(rng)
    motions = rig.motions(shape.skeleton, np.stack([poses.sample(rng, shape) for _ in range(8)]))
    ours = skinning.skin(shape.vertices, model.mesh.weights, motions)
    double = skinning.skin_torch(*(torch.tensor(array) for array in (shape.vertices, model.mesh.weights, motions)))
    single = skinning.skin_torch(*(torch.tensor(array).float()
                                   for array in (shape.vertices, model.mesh.weights, motions)))
    assert ours.shape == (8, *shape.vertices.shape)
    assert np.abs(ours - double.numpy()).max() < 1e-12
    assert np.abs(ours - single.numpy()).max() < 1e-6


def test_skin_of_one_bone_moves_rigidly():
    rng = np.random.default_rng(1)
    points, turn, shift = rng.normal(size=(50, 3)), skinning.rotation_about(1, 0.7), np.array([0.1, -0.2, 0.3])
    motions = np.stack([np.concatenate([turn, shift[:, None]], axis=1), np.zeros((3, 4))])
    weights = np.tile([1.0, 0.0], (50, 1))
    np.testing.assert_allclose(skinning.skin(points, weights, motions), points @ turn.T + shift, atol=1e-15)


def test_skin_between_two_bones_lies_half_way():
    still, lifted = np.eye(4)[:3], np.eye(4)[:3].copy()
    lifted[:, 3] = [0.0, 0.0, 0.02]
    moved = skinning.skin(np.zeros((1, 3)), np.array([[0.5, 0.5]]), np.stack([still, lifted]))
    np.testing.assert_allclose(moved, [[0.0, 0.0, 0.01]])


def test_motion_about_a_centre_leaves_the_centre_where_it_is():
    centre = np.array([0.3, 0.1, -0.2])
    motion = skinning.about(skinning.rotation_about(0, 1.1), centre)
    np.testing.assert_allclose(motion[:, :3] @ centre + motion[:, 3], centre, atol=1e-15)


def test_composition_is_one_after_the_other():
    rng = np.random.default_rng(2)
    first = skinning.about(skinning.rotation_about(2, 0.4), rng.normal(size=3))
    second = skinning.about(skinning.rotation_about(0, -0.9), rng.normal(size=3))
    point = rng.normal(size=3)
    both = skinning.compose(second, first)
    between = first[:, :3] @ point + first[:, 3]
    np.testing.assert_allclose(both[:, :3] @ point + both[:, 3], second[:, :3] @ between + second[:, 3], atol=1e-14)


def test_rotations_are_right_handed():
    np.testing.assert_allclose(skinning.rotation_about(2, np.pi / 2) @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-15)
    np.testing.assert_allclose(skinning.rotation_about(0, np.pi / 2) @ [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], atol=1e-15)
    np.testing.assert_allclose(skinning.rotation_about(1, np.pi / 2) @ [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], atol=1e-15)
