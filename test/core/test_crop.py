"""The virtual camera: laws of its geometry, and pictures whose every pixel is known."""
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import hand, rotation
from test_camera import LENSES, make

from hand_pose_ros import camera as cameras
from hand_pose_ros import crop as crops
from hand_pose_ros import lift
from hand_pose_ros.errors import FrameError
from hand_pose_ros.types import Camera, Crop, Detection, Frame

UP = np.array([0.0, -1.0])
PINHOLE = make("pinhole")


def detection(box, up=UP):
    return Detection(np.array(box, float), 1.0, np.nan, np.array(up, float))


def direction_image(camera: Camera) -> np.ndarray:
    """A smooth picture of the directions themselves: its exact colour is known for any virtual camera."""
    px = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), -1).astype(float)
    return colour(cameras.unproject(camera, px)).round().astype(np.uint8)


def colour(rays) -> np.ndarray:
    d = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    return np.nan_to_num(127.5 + 100 * np.sin(6 * d + np.array([0.3, 1.1, 20 * 0.1])))


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(sorted(LENSES)), x=st.floats(60, 580), y=st.floats(60, 420), w=st.floats(20, 200),
       h=st.floats(20, 200), roll=st.floats(-np.pi, np.pi), mirrored=st.booleans())
def test_crop_and_image_pixels_are_inverse(name, x, y, w, h, roll, mirrored):
    camera = make(name)
    geometry = crops.plan(camera, detection((x - w / 2, y - h / 2, x + w / 2, y + h / 2),
                                            (np.sin(roll), -np.cos(roll))), 128, mirrored)
    np.testing.assert_allclose(geometry.R_camera_crop @ geometry.R_camera_crop.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(geometry.R_camera_crop) == pytest.approx(1)
    uv = np.array([[63.5, 63.5], [0, 0], [100, 20]])
    px = crops.crop_to_image(geometry, camera, uv)
    np.testing.assert_allclose(px[0], (x, y), atol=1e-6)                    # the middle looks at the middle
    good = np.isfinite(px).all(-1)
    np.testing.assert_allclose(crops.image_to_crop(geometry, camera, px[good]), uv[good], atol=1e-6)
    ahead = np.array([x, y]) + 2 * np.array([np.sin(roll), -np.cos(roll)])
    u, v = crops.image_to_crop(geometry, camera, ahead) - 63.5
    assert v < 0 and abs(u) < 0.05 * abs(v)                                 # up is up


@pytest.mark.parametrize("roll", np.linspace(-3, 3, 7))
def test_every_joint_in_the_box_is_in_the_crop(roll):
    box = (200, 100, 320, 220)
    geometry = crops.plan(PINHOLE, detection(box, (np.sin(roll), np.cos(roll))), 128)
    corners = np.array([[200, 100], [320, 100], [200, 220], [320, 220]], float)
    uv = crops.image_to_crop(geometry, PINHOLE, corners)
    assert (uv > -0.5).all() and (uv < 127.5).all()


def test_field_of_view_is_margin_times_the_longer_side():
    geometry = crops.plan(PINHOLE, detection((290, 200, 350, 290)), 100)    # 60 x 90 px near the axis
    left, right = crops.crop_to_image(geometry, PINHOLE, np.array([[-0.5, 49.5], [99.5, 49.5]]))
    assert np.linalg.norm(right - left) == pytest.approx(1.3 * 90, rel=0.02)


def test_a_hand_on_the_diagonal_of_its_box_is_in_the_crop_and_no_smaller_than_upright():
    """A hand of 200 x 90 px, as an ellipse, at any direction: its box shrinks to 0.78 on the diagonal, the hand stays.
    """
    t = np.linspace(0, 2 * np.pi, 90)
    ellipse = np.stack([45 * np.cos(t), 100 * np.sin(t)], -1)
    filled = []
    for roll in np.linspace(-np.pi, np.pi, 33):
        c, s = np.cos(roll), np.sin(roll)
        outline = np.array([320.0, 240.0]) + ellipse @ np.array([[c, s], [-s, c]])
        box = (*outline.min(0), *outline.max(0))
        geometry = crops.plan(PINHOLE, detection(box, (s, -c)), 128)
        uv = crops.image_to_crop(geometry, PINHOLE, outline)
        assert (uv > 2).all() and (uv < 125).all(), roll
        filled.append(np.ptp(uv[:, 1]) / 128)
    assert min(filled) > 0.7 and max(filled) < 0.92


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("name", LENSES)
def test_the_crop_shows_what_a_camera_there_would_see(name, mirrored):
    camera = make(name)
    frame = Frame(direction_image(camera), camera, 0)
    for box, up in (((250, 180, 380, 300), UP), ((60, 50, 200, 190), (0.6, 0.8)), ((420, 260, 600, 420), (-0.8, 0.6))):
        crop = crops.take(frame, detection(box, up), 96, mirrored)
        uv = np.stack(np.meshgrid(np.arange(96.0), np.arange(96.0)), -1)
        rays = crops.rays(crop, uv) @ crop.R_camera_crop.T
        px = cameras.project(camera, rays)
        inside = ((px > 2) & (px < (637, 477))).all(-1)                     # off the border by a block of averaging
        assert inside.mean() > 0.5
        error = np.abs(crop.image - colour(rays))[inside]
        assert error.max() < 4 and error.mean() < 0.8


def test_identity_crop_returns_the_very_pixels():
    """Pixel centres: a crop of the image's own focal length, on its axis, is a cut-out."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (64, 64, 3), np.uint8)
    camera = Camera(64, 64, np.array([[400.0, 0, 31.5], [0, 400.0, 31.5], [0, 0, 1]]))
    c = 0.5 * (16 - 1)
    geometry = crops.CropGeometry(16, np.array([[400.0, 0, c], [0, 400.0, c], [0, 0, 1]]), np.eye(3), False)
    np.testing.assert_array_equal(crops.sample(image, camera, geometry), image[24:40, 24:40])
    flipped = crops.sample(image, camera, replace(geometry, mirrored=True))
    np.testing.assert_array_equal(flipped, image[24:40, 24:40][:, ::-1])


@pytest.mark.parametrize("name", ["pinhole", "plumb_bob 5"])
@pytest.mark.parametrize("box", [(250, 180, 380, 300), (100, 20, 560, 460)])
def test_any_memory_layout_will_do(name, box):
    """Decoded messages are read-only views, channel-flipped ones have negative strides."""
    camera = make(name)
    image = direction_image(camera)
    expected = crops.take(Frame(image, camera, 0), detection(box), 64).image
    backwards = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
    read_only = np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape)
    padded = np.zeros((480, 700, 3), np.uint8)
    padded[:, :640] = image
    for view in (backwards, read_only, padded[:, :640]):
        np.testing.assert_array_equal(crops.take(Frame(view, camera, 0), detection(box), 64).image, expected)


def test_turning_the_image_turns_nothing_in_the_crop():
    """Rotating picture, box and up by 90 degrees gives the same crop."""
    rng = np.random.default_rng(1)
    image = cv2.GaussianBlur(rng.integers(0, 255, (200, 200, 3), np.uint8), (0, 0), 2)
    camera = Camera(200, 200, np.array([[250.0, 0, 99.5], [0, 250.0, 99.5], [0, 0, 1]]))
    upright = crops.take(Frame(image, camera, 0), detection((60, 40, 120, 140)), 96)
    turned = np.ascontiguousarray(np.rot90(image, -1))                       # clockwise: (u, v) -> (199 - v, u)
    lying = crops.take(Frame(turned, camera, 0), detection((199 - 140, 60, 199 - 40, 120), (1, 0)), 96)
    assert np.abs(upright.image.astype(int) - lying.image).max() <= 2


@pytest.mark.parametrize("name", [n for n in LENSES if n != "pinhole"])
def test_coarse_map_is_within_a_tenth_of_a_pixel(name):
    camera = make(name)
    for box in ((20, 20, 300, 300), (500, 300, 630, 470), (300, 200, 340, 260)):
        geometry = crops.plan(camera, detection(box, (0.6, 0.8)), 224)
        exact = crops._exact_source_pixels(camera, geometry, np.arange(224.0))
        finite = np.isfinite(exact)
        assert np.abs(crops._source_pixels(camera, geometry) - exact)[finite].max() < 0.1


@pytest.mark.parametrize("name", ["pinhole", "plumb_bob 5"])
def test_large_hands_are_averaged_not_aliased(name):
    camera = make(name)
    checker = ((np.indices((480, 640)).sum(0) % 2) * 255).astype(np.uint8)
    image = np.repeat(checker[..., None], 3, -1)
    crop = crops.take(Frame(image, camera, 0), detection((180, 100, 440, 360), (0.1, -1)), 64)   # 5 px per crop px
    assert np.abs(crop.image.astype(float) - 127.5).max() < 20
    wave = (127.5 + 100 * np.sin(np.arange(640) / 13.0))[None, :, None].repeat(480, 0).repeat(3, -1).round()
    crop = crops.take(Frame(wave.astype(np.uint8), camera, 0), detection((180, 100, 440, 360), (0.1, -1)), 64)
    uv = np.stack(np.meshgrid(np.arange(64.0), np.arange(64.0)), -1)
    px = crops.crop_to_image(crop, camera, uv)
    inside = ((px > 12) & (px < (627, 467))).all(-1)
    expected = 127.5 + 100 * np.sin(px[..., 0] / 13.0)                       # half a source pixel is 4 grey levels
    assert np.abs(crop.image[..., 0] - expected)[inside].mean() < 3.0        # and it does not shift the picture


def test_a_box_that_reaches_beyond_the_lens_gets_a_crop_of_its_size():
    """What can be measured of it, at 0.3 or 0.1 of its sides, stands for all of it."""
    K = np.array([[200.0, 0, 320], [0, 200.0, 240], [0, 0, 1]])
    camera = Camera(640, 480, K, "equidistant", np.zeros(4))
    side = []
    for x in np.arange(300.0, 630.0, 2.0):
        box = np.array([x - 80, 160, x + 80, 320])
        centre = 0.5 * (box[:2] + box[2:])
        if np.isfinite(cameras.unproject(camera, centre + [[0, 0], [2, 0], [0, 2], [-2, 0], [0, -2]])).all():
            geometry = crops.plan(camera, Detection(box, 1.0, np.nan, np.array([0.0, -1.0])), 128)
            side.append(np.degrees(2 * np.arctan(64 / geometry.K[0, 0])))
    assert min(side) > 0.9 * side[0] and len(side) > 100


@pytest.mark.parametrize("scale", [1.52, 1.64, 1.87, 2.1, 2.62, 3.5, 4.7, 5.9])
def test_a_crop_of_a_hand_a_little_larger_is_not_aliased(scale):
    """Stripes finer than a crop pixel are grey, whatever the hand's size; a picture as sharp as the crop stays so."""
    fine = ((np.arange(640)[None, :, None] % 2) * 255).astype(np.uint8).repeat(480, 0).repeat(3, -1)
    side = scale * 64 / 1.3                                                 # so many source pixels per crop pixel
    box = (320 - side / 2, 240 - side / 2, 320 + side / 2, 240 + side / 2)
    crop = crops.take(Frame(fine, PINHOLE, 0), detection(box), 64).image.astype(float)
    assert crop.std() < 30                                                  # sampled without averaging: 73
    waves = 127.5 + 100 * np.sin(np.arange(640) * 2 * np.pi / (6 * scale))  # six crop pixels long
    coarse = waves.round().astype(np.uint8)[None, :, None].repeat(480, 0).repeat(3, -1)
    assert np.ptp(crops.take(Frame(coarse, PINHOLE, 0), detection(box), 64).image.astype(float)) > 140


@pytest.mark.parametrize("name", ["pinhole", "plumb_bob 5", "equidistant"])
@pytest.mark.parametrize("box", [(-100, 100, 60, 300), (600, 440, 900, 700), (-300, -300, 1000, 900)])
def test_outside_the_image_is_black(name, box):
    camera = make(name)
    frame = Frame(np.full((480, 640, 3), 200, np.uint8), camera, 0)
    try:
        crop = crops.take(frame, detection(box), 64)
    except FrameError:
        return                                                              # off the lens altogether
    uv = np.stack(np.meshgrid(np.arange(64.0), np.arange(64.0)), -1)
    px = crops.crop_to_image(crop, camera, uv)
    margin = 12 if box[0] > -300 else 90                                    # four crop pixels
    outside = ~((px > -margin) & (px < (639 + margin, 479 + margin))).all(-1)
    inside = ((px > margin) & (px < (639 - margin, 479 - margin))).all(-1)
    assert (crop.image[outside] == 0).all()
    assert (crop.image[inside] >= 199).all()


def test_bad_boxes_are_named():
    with pytest.raises(FrameError, match="nan"):
        crops.plan(PINHOLE, detection((np.nan, 0, 10, 10)), 64)
    fisheye_edge = Camera(640, 480, PINHOLE.K, "plumb_bob", np.array([-0.4, 0, 0, 0, 0.0]))
    with pytest.raises(FrameError, match="outside the image of the lens"):
        crops.plan(fisheye_edge, detection((5000, 0, 5100, 100)), 64)
    assert crops.plan(PINHOLE, detection((100, 100, 100, 100)), 64).K[0, 0] < 1e6   # a point has a finite crop


def test_detection_from_joints():
    joints = cameras.project(PINHOLE, hand(turn=(0, 0, 0.5)))
    d = crops.from_joints(joints, 0.7, 0.2)
    np.testing.assert_allclose(d.box, [*joints.min(0), *joints.max(0)])
    assert d.up @ (np.sin(0.5), -np.cos(0.5)) > 0.99 and (d.score, d.right_probability) == (0.7, 0.2)
    end_on = joints.copy()
    end_on[9] = end_on[0] + 1
    assert np.isnan(crops.from_joints(end_on).up).all()                      # no made-up direction
    with pytest.raises(FrameError, match="no joint"):
        crops.from_joints(np.full((21, 2), np.nan))


def test_a_hand_looks_the_same_wherever_it_is():
    """Moving a hand round the camera's centre changes where its crop looks, not where its joints are in it."""
    joints = hand(at=(0, 0, 0.5))
    turn = rotation((0.25, -0.35, 0))
    first, second = (crops.plan(PINHOLE, crops.from_joints(cameras.project(PINHOLE, p)), 128)
                     for p in (joints, joints @ turn.T))
    same_view = replace(first, R_camera_crop=turn @ first.R_camera_crop)
    np.testing.assert_allclose(crops.to_uv(same_view, joints @ turn.T @ same_view.R_camera_crop),
                               crops.to_uv(first, joints @ first.R_camera_crop), atol=1e-9)
    # the box of the moved hand is another one, yet its crop is nearly the same camera
    assert abs(np.log(second.K[0, 0] / first.K[0, 0])) < 0.12
    assert isinstance(Crop(None, first.K, first.R_camera_crop, False), Crop)


def test_a_hand_before_a_fisheye_is_seen_whole_up_to_130_degrees():
    camera = make("equidistant")
    for degrees in (50, 58):
        s = np.tan(np.deg2rad(degrees))
        joints = np.stack([np.linspace(-s, s, 21), np.linspace(0.2, -0.2, 21), np.ones(21)], 1)
        px = cameras.project(camera, joints)
        uv = crops.image_to_crop(crops.plan(camera, crops.from_joints(px), 224), camera, px)
        assert ((uv > -0.5) & (uv < 223.5)).all(), degrees


def test_a_foreshortened_palm_still_tells_which_way_is_up():
    px = hand(at=(0, 0, 0.6), turn=(1.2, 0, 0))
    px = cameras.project(make("pinhole"), px)
    up = px[9] - px[0]
    share = np.linalg.norm(up) / np.ptp(px, axis=0).max()
    assert 0.15 < share < 0.38
    np.testing.assert_allclose(crops.from_joints(px).up, up / np.linalg.norm(up))


def test_points_behind_the_crop_have_no_pixel():
    geometry = crops.plan(PINHOLE, Detection(np.array([200.0, 150, 300, 250]), 1.0, 1.0, np.array([0.0, -1])), 224)
    assert np.isnan(crops.to_uv(geometry, np.array([[0.1, 0.1, -1.0], [0.0, 0.0, -0.5]]))).all()
    joints = hand(at=(0, 0, 0.02), turn=(1.5, 0, 0))
    uv, _ = lift.label(joints, geometry)
    behind = (joints @ geometry.R_camera_crop)[:, 2] <= 0
    assert behind.any() and np.isnan(uv[behind]).all() and np.isfinite(uv[~behind]).all()


def test_a_picture_wider_than_ten_thousand_pixels_is_sampled_where_it_is():
    """Beside the rim of the lens, where some pixels of the crop see nothing."""
    wide = 14000
    f = wide / 2 / np.deg2rad(88)
    camera = Camera(wide, wide, np.array([[f, 0, (wide - 1) / 2], [0, f, (wide - 1) / 2], [0, 0, 1.0]]), "equidistant",
                    np.zeros(4))
    centre = np.array([wide / 2 + f * np.deg2rad(80), wide / 2])
    geometry = crops.plan(camera, detection(np.concatenate([centre - 700, centre + 700])), 64)
    exact = crops._exact_source_pixels(camera, geometry, np.arange(64.0))
    seen = np.isfinite(exact).all(0)
    assert 0.2 < seen.mean() < 1.0 and exact[0][seen].max() > 12000
    assert np.abs(crops._source_pixels(camera, geometry) - exact)[:, seen].max() < 1.0
