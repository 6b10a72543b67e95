"""Lens distortion of rendered frames: the picture and the labels bend alike."""
from dataclasses import replace

import numpy as np
import pytest

from hand_pose_ros import camera as camera_model
from hand_pose_ros.errors import ConfigError
from hand_pose_ros.synthesis import lens
from hand_pose_ros.types import Camera

BENT = Camera(320, 240, np.array([[200.0, 0, 161.0], [0, 201.0, 118.0], [0, 0, 1]]),
              D=np.array([-0.2, 0.03, 1e-3, 0, 0]))


@pytest.mark.parametrize("size", [None, (320, 240)])
def test_a_bright_dot_of_the_pinhole_picture_lands_where_its_point_projects(size):
    bent = lens.Lens(BENT, size)
    width, height = bent.size
    v, u = np.mgrid[:height, :width].astype(float)
    for ray in ([0.5, 0.4, 1.0], [-0.6, 0.3, 1.0], [0.0, -0.45, 1.0]):
        centre = bent.K[:2, :2] @ ray[:2] + bent.K[:2, 2]
        dot = np.exp(-((u - centre[0]) ** 2 + (v - centre[1]) ** 2) / 8).astype(np.float32)
        seen = bent.bend(dot).astype(float)
        rows, columns = np.mgrid[:240, :320]
        found = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
        np.testing.assert_allclose(found, bent.project(np.array(ray)), atol=0.15)
        assert np.linalg.norm(found - lens.Lens(replace(BENT, D=np.zeros(5))).project(np.array(ray))) > 3


def test_points_far_outside_do_not_fold_back_into_the_picture():
    bent = lens.Lens(BENT)
    rim = np.stack([np.linspace(0, 30, 200), np.linspace(0, 11, 200), np.ones(200)], axis=1)
    px = bent.project(rim)
    assert np.isfinite(px).all() and (np.diff(px[:, 0]) > 0).all()


@pytest.mark.parametrize("seed", range(30))
def test_drawn_lenses_have_an_inverse_all_over_the_picture(seed):
    rng = np.random.default_rng(seed)
    f = 160 / np.tan(np.radians(rng.uniform(42, 88)) / 2)
    drawn = lens.sample(rng, np.array([[f, 0, 159.5], [0, f, 119.5], [0, 0, 1]]), 320, 240)
    corners = np.array([[0.0, 0], [319, 0], [0, 239], [319, 239]])
    rays = camera_model.unproject(drawn.camera, corners)
    np.testing.assert_allclose(drawn.project(rays), corners, atol=1e-3)
    assert drawn.size == (320, 240)


def test_a_lens_without_inverse_is_refused():
    with pytest.raises(ConfigError, match="smaller field of view"):
        lens.Lens(replace(BENT, D=np.array([-0.9, 0, 0, 0, 0])))


def test_the_bent_pixels_look_along_the_rays_of_the_camera():
    bent = lens.Lens(BENT)
    seen = np.stack([(bent._x - bent.K[0, 2]) / bent.K[0, 0], (bent._y - bent.K[1, 2]) / bent.K[1, 1]], axis=-1)
    v, u = np.mgrid[:240, :320]
    truth = camera_model.unproject(BENT, np.stack([u, v], axis=-1).astype(float))[..., :2]
    assert np.abs(seen - truth).max() * 200 < 0.02
