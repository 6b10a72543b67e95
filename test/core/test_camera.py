"""Projection against OpenCV, its inverse against itself, and every way a CameraInfo can be wrong."""
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hand_pose_ros import camera as cameras
from hand_pose_ros.errors import FrameError
from hand_pose_ros.types import Camera

K = np.array([[610.0, 0, 321.5], [0, 605.0, 238.0], [0, 0, 1]])
LENSES = {
    "pinhole": ("plumb_bob", []),
    "plumb_bob 4": ("plumb_bob", [-0.28, 0.07, 0.001, -0.0005]),
    "plumb_bob 5": ("plumb_bob", [0.12, -0.25, 0.0007, -0.0011, 0.09]),
    "rational 8": ("rational_polynomial", [0.4, -2.1, 0.0006, -0.0002, 1.4, 0.28, -1.9, 1.3]),
    "rational 12": ("rational_polynomial", [0.4, -2.1, 0.0006, -0.0002, 1.4, 0.28, -1.9, 1.3, 1e-3, -2e-3, 3e-3, 1e-3]),
    "rational 14": ("rational_polynomial",
                    [0.4, -2.1, 0.0006, -0.0002, 1.4, 0.28, -1.9, 1.3, 1e-3, -2e-3, 3e-3, 1e-3, 0.03, -0.05]),
    "equidistant": ("equidistant", [-0.02, 0.011, -0.006, 0.0012]),
}


def make(name) -> Camera:
    model, D = LENSES[name]
    focal = 0.45 if model == "equidistant" else 1.0
    scale = np.array([[focal, focal, 1]] * 2 + [[1, 1, 1]])
    return Camera(640, 480, K * scale, model, np.array(D, float))


@pytest.mark.parametrize("name", LENSES)
def test_project_agrees_with_opencv(name):
    camera = make(name)
    rng = np.random.default_rng(0)
    points = rng.uniform((-0.4, -0.3, 0.8), (0.4, 0.3, 1.5), (200, 3))
    if camera.distortion_model == "equidistant":
        truth, _ = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), camera.K, camera.D)
    else:
        truth, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.K, camera.D)
    np.testing.assert_allclose(cameras.project(camera, points), truth.reshape(-1, 2), atol=1e-9)


@pytest.mark.parametrize("name", LENSES)
def test_unproject_inverts_project_over_the_whole_image(name):
    camera = make(name)
    px = np.stack(np.meshgrid(np.linspace(0, 639, 41), np.linspace(0, 479, 31)), -1)
    rays = cameras.unproject(camera, px)
    assert np.isfinite(rays).all()
    np.testing.assert_allclose(cameras.project(camera, rays * 0.7), px, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(k1=st.floats(-0.5, 0.5), k2=st.floats(-0.3, 0.3), p1=st.floats(-0.01, 0.01), p2=st.floats(-0.01, 0.01),
       k3=st.floats(-0.2, 0.2), x=st.floats(-0.8, 0.8), y=st.floats(-0.8, 0.8))
def test_round_trip_for_any_lens_or_nan(k1, k2, p1, p2, k3, x, y):
    camera = Camera(640, 480, K, "plumb_bob", np.array([k1, k2, p1, p2, k3]))
    px = cameras.project(camera, np.array([x, y, 1.0]))
    back = cameras.unproject(camera, px)
    if np.isfinite(back).all():
        np.testing.assert_allclose(cameras.project(camera, back), px, atol=1e-6)
    if np.hypot(x, y) < 0.5:
        np.testing.assert_allclose(back[:2], (x, y), atol=1e-8)


def test_a_lens_that_folds_back_answers_nan_not_a_wrong_pixel():
    camera = Camera(640, 480, K, "plumb_bob", np.array([-0.4, 0, 0, 0, 0]))
    fold = np.sqrt(1 / 1.2)                             # d/dr of r - 0.4 r^3
    assert np.isfinite(cameras.project(camera, np.array([fold - 0.01, 0, 1]))).all()
    assert np.isnan(cameras.project(camera, np.array([fold + 0.01, 0, 1]))).all()
    assert np.isnan(cameras.unproject(camera, np.array([321.5 + 610 * 0.7, 238.0]))).all()


def test_behind_the_camera_is_nan():
    for name in LENSES:
        assert np.isnan(cameras.project(make(name), np.array([[0.1, 0.1, -1.0], [0.1, 0.1, 0.0]]))).all(), name


def test_half_the_width_is_seen_at_half_the_field_of_view():
    camera = cameras.assumed(640, 480, 60.0)
    assert not camera.calibrated
    left = cameras.unproject(camera, np.array([-0.5, 239.5]))
    assert np.rad2deg(np.arctan(-left[0])) == pytest.approx(30.0)
    with pytest.raises(FrameError, match="assumed_hfov_deg is 0"):
        cameras.assumed(640, 480, 0)


def test_resizing_keeps_every_ray():
    camera = make("plumb_bob 5")
    half = cameras.resized(camera, 320, 240)
    # the centre of the 2x2 block of pixels (10, 11) x (20, 21) is the centre of pixel (5, 10)
    np.testing.assert_allclose(cameras.unproject(half, np.array([5, 10])),
                               cameras.unproject(camera, np.array([10.5, 20.5])), atol=1e-12)


def info(**changes):
    fields = dict(header=SimpleNamespace(frame_id="cam_optical"), width=640, height=480, distortion_model="plumb_bob",
                  k=K.ravel(), d=[0.1, -0.2, 0.0, 0.0, 0.0], p=np.hstack([0.9 * K, np.zeros((3, 1))]).ravel(),
                  binning_x=0, binning_y=0, roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0))
    fields["p"][10] = 1.0
    return SimpleNamespace(**{**fields, **changes})


def test_camera_info_raw_and_rectified():
    raw = cameras.from_camera_info(info(), 640, 480)
    np.testing.assert_array_equal(raw.K, K)
    assert raw.D[1] == -0.2 and raw.frame_id == "cam_optical" and raw.calibrated
    rectified = cameras.from_camera_info(info(), 640, 480, rectified=True)
    assert rectified.K[0, 0] == 0.9 * 610 and cameras.is_pinhole(rectified)
    empty = cameras.from_camera_info(info(d=[], distortion_model=""), 640, 480)
    assert cameras.is_pinhole(empty)


def test_camera_info_with_ros1_names():
    message = info()
    message.K, message.D = message.k, message.d
    del message.k, message.d
    np.testing.assert_array_equal(cameras.from_camera_info(message, 640, 480).K, K)


def test_camera_info_of_another_size_is_scaled_if_the_shape_is_the_same():
    half = cameras.from_camera_info(info(), 320, 240)
    assert (half.width, half.height) == (320, 240) and half.K[0, 0] == pytest.approx(305.0)
    with pytest.raises(FrameError, match="640 x 480 pixels but the image has 640 x 360"):
        cameras.from_camera_info(info(), 640, 360)


def test_roi_and_binning_keep_every_ray():
    full = cameras.from_camera_info(info(), 640, 480)
    cut = cameras.from_camera_info(info(binning_x=2, binning_y=2, roi=SimpleNamespace(
        x_offset=100, y_offset=60, width=320, height=200)), 160, 100)
    # binned pixel (3, 4) covers columns 106, 107 and rows 68, 69
    np.testing.assert_allclose(cameras.unproject(cut, np.array([3, 4])),
                               cameras.unproject(full, np.array([106.5, 68.5])), atol=1e-12)


@pytest.mark.parametrize("changes, says", [
    (dict(k=np.zeros(9)), r"K\[0,0\] = 0 .*not calibrated.*assumed_hfov_deg"),
    (dict(k=[]), "0 numbers in K"),
    (dict(k=np.full(9, np.nan)), "numbers in K that are not finite"),
    (dict(k=(-K).ravel()), "negative focal length"),
    (dict(k=np.full(9, 5.0)), "not a pinhole matrix"),
    (dict(distortion_model="double_sphere"), "'double_sphere' is not known; choose one of plumb_bob"),
    (dict(d=[0.1, 0.2, 0.3]), "3 coefficients, it takes 0 or 4 or 5"),
    (dict(d=[np.nan] * 5), "not finite"),
    (dict(width=0), "0 x 480"),
    (dict(roi=SimpleNamespace(x_offset=600, y_offset=0, width=100, height=480)), "does not fit into 640 x 480"),
])
def test_bad_camera_info_is_named(changes, says):
    with pytest.raises(FrameError, match=says):
        cameras.from_camera_info(info(**changes), 640, 480)


def test_rectified_needs_p():
    with pytest.raises(FrameError, match=r"P\[0,0\] = 0 .*image_is_rectified"):
        cameras.from_camera_info(info(p=np.zeros(12)), 640, 480, rectified=True)


def test_a_fisheye_that_is_filled_up_to_five_numbers_is_one_of_four():
    """As RealSense's driver sends it; a fifth number that is not zero would be another lens."""
    def info(D):
        return SimpleNamespace(width=640, height=480, distortion_model="equidistant", d=D,
                               k=[500.0, 0, 320, 0, 500, 240, 0, 0, 1])
    camera = cameras.from_camera_info(info([0.1, 0.02, 0.003, 0.0004, 0.0]), 640, 480)
    np.testing.assert_array_equal(camera.D, [0.1, 0.02, 0.003, 0.0004])
    with pytest.raises(FrameError, match="5 coefficients"):
        cameras.from_camera_info(info([0.1, 0.02, 0.003, 0.0004, 0.5]), 640, 480)


def test_binning_coarser_than_the_image_is_refused():
    info = SimpleNamespace(width=64, height=48, distortion_model="", d=[], binning_x=100, binning_y=1,
                           k=[50.0, 0, 32, 0, 50, 24, 0, 0, 1])
    with pytest.raises(FrameError, match="bins 100 x 1"):
        cameras.from_camera_info(info, 64, 48)


@pytest.mark.parametrize("name", ["fisheye", "kannala_brandt4"])
def test_other_names_of_a_fisheye_mean_the_same_lens(name):
    D, points = np.array([-0.02, 0.011, -0.006, 0.0012]), np.array([[0.4, -0.3, 0.8], [-0.2, 0.1, 0.5]])
    found = cameras.from_camera_info(info(distortion_model=name, d=D), 640, 480)
    truth, _ = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), K, D)
    np.testing.assert_allclose(cameras.project(found, points), truth[:, 0], atol=1e-6)


def test_a_skewed_pinhole_is_inverted_too():
    skewed = K + [[0, 8.0, 0], [0, 0, 0], [0, 0, 0]]
    px = np.array([[20.0, 30.0], [600.0, 400.0]])
    truth = np.linalg.solve(skewed, np.c_[px, np.ones(2)].T).T
    np.testing.assert_allclose(cameras.unproject(Camera(640, 480, skewed), px), truth, atol=1e-12)


def test_a_resized_guess_is_still_a_guess():
    assert not cameras.resized(cameras.assumed(640, 480, 60.0), 320, 240).calibrated
