"""The camera model: response, exposure, grey pictures, noise, and light probes that keep energy."""
import numpy as np
import pytest

from hand_pose_ros.synthesis import environment, labels, scene, sensor
from hand_pose_ros.synthesis.renderer import Raster

PLAIN = {"resolution": 1.0, "motion_px": 0.0, "motion_angle": 0.0, "defocus_px": 0.0, "key": 0.2, "meter": 0.0,
         "white_balance": np.ones(3), "shot": 0.0, "read": 0.0, "denoise": False, "contrast": 1.0, "gamma": 1.0,
         "black": 0.0, "saturation": 1.0, "sharpen": 0.0, "vignette": 0.0, "jpeg": 0, "rescale": 0,
         "shoulder": 1.0, "spare": False}


def _develop(linear, **changes):
    return sensor.develop(linear.astype(np.float32), PLAIN | changes, np.random.default_rng(0))


def test_srgb_there_and_back():
    codes = np.arange(256, dtype=np.uint8)
    assert np.abs(sensor.to_srgb(sensor.to_linear(codes)) * 255 - codes).max() < 2.0
    assert sensor.to_linear(np.uint8(188)) == pytest.approx(0.5029, abs=1e-3)      # IEC 61966-2-1


def test_exposure_brings_the_mean_to_the_key_within_its_range():
    for level in (0.06, 0.3, 0.9):
        image = _develop(np.full((16, 16, 3), level))
        assert sensor.to_linear(image).mean() == pytest.approx(0.2, rel=0.03)
    assert sensor.to_linear(_develop(np.full((16, 16, 3), 1e-3))).mean() < 0.02    # night stays night


def test_no_saturation_is_grey_and_noise_is_as_strong_as_asked():
    rng = np.random.default_rng(1)
    grey = _develop(rng.uniform(0, 1, (24, 24, 3)), saturation=0.0)
    assert np.ptp(grey.astype(int), axis=-1).max() <= 1
    flat = np.full((64, 64, 3), 0.2)
    noisy = sensor.to_linear(_develop(flat, read=0.01))
    assert noisy.std() == pytest.approx(0.01, rel=0.1)
    assert sensor.to_linear(_develop(flat, shot=1e-3)).std() == pytest.approx(np.sqrt(1e-3 * 0.2), rel=0.1)


def test_motion_blur_spreads_along_its_angle_and_keeps_light():
    dot = np.zeros((31, 31, 3))
    dot[15, 15] = 1.0
    kernel = sensor._motion_kernel(9.0, 0.0)
    assert kernel.sum() == pytest.approx(1.0)
    rows, columns = np.nonzero(kernel > 0.02)
    assert np.ptp(columns) >= 6 and np.ptp(rows) <= 2


@pytest.mark.parametrize("length", [0.8, 1.0, 1.4, 2.1, 3.0, 4.7, 6.5, 9.0, 40.0])
def test_motion_blur_is_centred_and_as_long_as_asked(length):
    """The variance of a segment is a twelfth of its length squared; sharing a point among four pixels adds at most a
    quarter across it."""
    for angle in np.linspace(0, np.pi, 25):
        kernel = sensor._motion_kernel(length, angle)
        assert kernel.sum() == pytest.approx(1.0, abs=1e-5) and kernel.min() >= 0
        y, x = np.indices(kernel.shape) - (np.array(kernel.shape)[:, None, None] - 1) / 2
        assert abs((kernel * x).sum()) < 1e-4 and abs((kernel * y).sum()) < 1e-4
        along, aside = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        assert np.sqrt(12 * (kernel * along ** 2).sum()) == pytest.approx(length, rel=0.02)
        assert (kernel * aside ** 2).sum() < 0.251
    assert sensor._motion_kernel(100.0, 0.3).shape == sensor._motion_kernel(40.0, 0.3).shape


@pytest.mark.parametrize("moving", [False, True])
def test_either_the_hand_moves_or_the_camera(moving):
    """A bright square before stripes; labels are those of the middle of the exposure."""
    size = 96
    alpha, ids = np.zeros((size, size), np.float32), np.zeros((size, size), np.uint8)
    alpha[40:56, 40:56], ids[40:56, 40:56] = 1.0, 20
    stripes = np.repeat(0.1 + 0.2 * (np.arange(size) % 4 < 2), 3).reshape(1, size, 3).repeat(size, 0).astype(np.float32)
    raster = Raster(np.repeat(0.9 * alpha[..., None], 3, axis=2), alpha, alpha, ids)
    view = scene.View(np.eye(3), None)

    def developed(background=stripes, **changes):
        settings = PLAIN | {"moving": moving, "motion_angle": 0.0} | changes
        drawn = scene.Scene(view, background, settings, ())
        return sensor.to_linear(labels.develop(drawn, raster, np.random.default_rng(0)))[..., 0]

    sharp, moved = developed(), developed(motion_px=12.0)
    contrast = moved[:, :30].std(axis=1).mean() / sharp[:, :30].std(axis=1).mean()
    assert contrast == pytest.approx(1.0, abs=0.05) if moving else contrast < 0.25
    black = developed(np.zeros_like(stripes), motion_px=12.0, key=0.01)
    assert 0 < black[48, 36] < 0.7 * black[48, 48]                 # its edge is smeared either way,
    assert (black * np.arange(size)).sum() / black.sum() == pytest.approx(47.5, abs=0.1)    # and its middle stays


def test_of_blurred_pictures_half_show_a_moving_hand():
    drawn = [sensor.sample(np.random.default_rng(seed), 90.0) for seed in range(1500)]
    moving = [settings["moving"] for settings in drawn if settings["motion_px"] > 0.8]
    assert len(moving) > 100 and 0.4 < np.mean(moving) < 0.6


def test_fewer_pixels_lose_detail_but_not_size():
    rng = np.random.default_rng(2)
    image = rng.uniform(0, 1, (64, 64, 3))
    assert _develop(image, resolution=0.25).shape == (64, 64, 3)
    assert _develop(image, resolution=0.25).std() < 0.6 * _develop(image).std()


def test_settings_and_noise_depend_on_the_generator_only():
    one, two = (sensor.sample(np.random.default_rng(4), 90.0) for _ in range(2))
    assert all(np.array_equal(one[key], two[key]) for key in one)


def test_the_mean_irradiance_of_a_probe_is_that_of_its_panorama():
    """Outside truth: over all directions, irradiance / pi averages to the mean radiance, 1 before splitting."""
    rng = np.random.default_rng(0)
    normals = rng.normal(0, 1, (4000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    for probe in environment.probes()[:4]:
        diffuse = environment._basis(normals) @ probe.sh
        lamps = sum(np.maximum(normals @ direction, 0)[:, None] * color for direction, color in probe.lights)
        assert np.mean(diffuse + lamps) == pytest.approx(1.0, rel=0.08)


def test_irradiance_agrees_with_summing_the_panorama():
    probe = environment.probes()[0]
    directions, solid = environment._directions(64)
    import cv2
    small = cv2.resize(probe.panorama, (128, 64), interpolation=cv2.INTER_AREA)
    for normal in np.vstack([np.eye(3), -np.eye(3)]):
        cosine = np.maximum(directions @ normal, 0) * solid
        true = np.tensordot(cosine, small, axes=([0, 1], [0, 1])) / np.pi
        got = environment._basis(normal) @ probe.sh + sum(max(normal @ d, 0) * c for d, c in probe.lights)
        assert np.allclose(got, true, rtol=0.25, atol=0.12)


def test_views_look_where_they_should():
    """A panorama with a bright sky: a camera that looks up sees it, one that looks down does not."""
    sky = np.zeros((32, 64, 3), np.float32)
    sky[:16] = 1.0
    probe = environment.Probe("sky", sky, np.zeros((9, 3)), (), np.zeros((2, 4, 4, 3)))
    level = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    picture = environment.view(probe, level, 1.0, 20, 20)
    assert picture[:8].min() > 0.99 and picture[12:].max() < 0.01
