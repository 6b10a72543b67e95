"""Rooms behind the hands: they stand upright, whatever the camera does, and depend on the generator only."""
import numpy as np
import pytest

from hand_pose_ros.synthesis import materials, rooms, scene

SIZE = 96
K = np.array([[90.0, 0, (SIZE - 1) / 2], [0, 90.0, (SIZE - 1) / 2], [0, 0, 1]])
LEVEL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def _paint(seed, R):
    return rooms.paint(np.random.default_rng(seed), SIZE, SIZE, K, R, 1.5)


@pytest.mark.parametrize("seed", range(8))
def test_rooms_are_pictures_that_depend_on_the_generator_only(seed):
    image = _paint(seed, LEVEL)
    assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.float32
    assert np.isfinite(image).all() and image.min() >= 0 and image.std() > 1e-3
    np.testing.assert_array_equal(image, _paint(seed, LEVEL))


def test_a_camera_on_its_head_sees_the_room_upside_down():
    for seed in range(6):
        upright = _paint(seed, LEVEL)
        turned = _paint(seed, LEVEL @ np.diag([-1.0, -1.0, 1.0]))[::-1, ::-1]
        assert np.median(np.abs(upright - turned)) < 0.01
        assert np.median(np.abs(upright - upright[::-1, ::-1])) > 0.02      # which tells the two apart


def test_people_before_the_camera_stand_on_their_feet():
    rng = np.random.default_rng(0)
    for _ in range(50):
        R_world_camera = scene.sample_up(rng)
        ray = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), 1.0])
        R = scene._before_person(rng, R_world_camera, ray)
        assert np.linalg.det(R) == pytest.approx(1.0)
        assert (R_world_camera @ R)[2, 1] > 0.94                    # the body's y axis points up in the world


def test_hands_of_people_are_not_inside_their_bodies():
    inside = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        person, arms, _ = scene._person(rng, materials.sample_skin(rng)[0], False, showing=seed % 2 == 0)
        inside += [person.holds(arm.joints @ R.T + t).any() for arm, R, t in arms]
        chest = person.trunk.mean(0)
        assert person.holds(chest[None]).all() and not person.holds(chest[None] + [0, 0, 0.6]).any()
    assert np.mean(inside) < 0.1
