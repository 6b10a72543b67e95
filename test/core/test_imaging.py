"""Image messages to arrays: every encoding against pixels written out by hand, padding, byte order and bad input."""
from __future__ import annotations

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from hand_pose_ros import imaging
from hand_pose_ros.errors import FrameError

RNG = np.random.default_rng(2)
PICTURE = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def image(data: bytes, encoding: str, width: int = 8, height: int = 6, step: int = 0, big: int = 0) -> SimpleNamespace:
    return SimpleNamespace(data=data, encoding=encoding, width=width, height=height, step=step, is_bigendian=big)


def compressed(data: bytes, format: str = "rgb8; jpeg compressed bgr8") -> SimpleNamespace:
    return SimpleNamespace(data=data, format=format)


def alpha(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 7, np.uint8)], axis=2)


@pytest.mark.parametrize("encoding, stored", [
    ("rgb8", PICTURE), ("bgr8", PICTURE[..., ::-1]), ("8UC3", PICTURE[..., ::-1]), ("rgba8", alpha(PICTURE)),
    ("bgra8", alpha(PICTURE[..., ::-1]))])
def test_colour(encoding, stored):
    np.testing.assert_array_equal(imaging.decode(image(stored.tobytes(), encoding)), PICTURE)


def test_padded_rows_and_missing_last_padding():
    padded = np.full((6, 40), 99, np.uint8)
    padded[:, :24] = PICTURE.reshape(6, 24)
    np.testing.assert_array_equal(imaging.decode(image(padded.tobytes(), "rgb8", step=40)), PICTURE)
    np.testing.assert_array_equal(imaging.decode(image(padded.tobytes()[:-16], "rgb8", step=40)), PICTURE)


@pytest.mark.parametrize("big", [0, 1])
def test_sixteen_bits_in_both_byte_orders(big):
    wide = PICTURE.astype(">u2" if big else "<u2") * 257
    np.testing.assert_array_equal(imaging.decode(image(wide.astype(wide.dtype).tobytes(), "rgb16", big=big)), PICTURE)
    grey = wide[..., 0].copy()
    np.testing.assert_array_equal(imaging.decode(image(grey.tobytes(), "mono16", big=big)),
                                  np.repeat(PICTURE[..., :1], 3, axis=2))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_gives_the_colour_that_was_filtered(pattern, bits):
    """A picture of one colour: each sensor pixel sees its own channel; the middle must come back as that colour."""
    colour = dict(zip("rgb", (200, 120, 40)))
    mosaic = np.tile(np.array([[colour[pattern[0]], colour[pattern[1]]], [colour[pattern[2]], colour[pattern[3]]]],
                              np.uint8), (5, 5))
    data = (mosaic.astype("<u2") * 257).tobytes() if bits == 16 else mosaic.tobytes()
    found = imaging.decode(image(data, f"bayer_{pattern}{bits}", 10, 10))
    assert np.abs(found[3:7, 3:7].astype(int) - (200, 120, 40)).max() <= 2


@pytest.mark.parametrize("encoding, order", [("yuv422", "UYVY"), ("uyvy", "UYVY"), ("yuv422_yuy2", "YUYV"),
                                             ("yuyv", "YUYV")])
def test_yuv_422(encoding, order):
    """Grey stays grey in any order of Y and chroma; red (Y 82, U 90, V 240 in BT.601) tells U from V."""
    values = {"Y": 82, "U": 90, "V": 240}
    data = bytes(values[letter] for letter in order) * 4 * 6
    red = imaging.decode(image(data, encoding))
    assert red[3, 3, 0] > 220 and red[3, 3, 1] < 40 and red[3, 3, 2] < 40


@pytest.mark.parametrize("encoding, chroma", [("nv12", (90, 240)), ("nv21", (240, 90))])
def test_two_planes(encoding, chroma):
    data = bytes([82]) * 48 + bytes(chroma) * 12
    red = imaging.decode(image(data, encoding))
    assert red.shape == (6, 8, 3) and red[3, 3, 0] > 220 and red[3, 3, 2] < 40


@pytest.mark.parametrize("message, words", [
    (image(PICTURE.tobytes()[:-1], "rgb8"), "cut off"), (image(PICTURE.tobytes(), "rgb8", step=20), "step is 20"),
    (image(b"", "rgb8", 0, 0), "empty image"), (image(PICTURE.tobytes(), "magic"), "known are"),
    (image(PICTURE.tobytes(), "16UC1"), "depth"), (compressed(b""), "without data"),
    (compressed(b"nothing of the kind"), "cannot be decoded"),
    (compressed(b"x", "16UC1; compressedDepth png"), "depth")])
def test_what_cannot_be_an_image_says_why(message, words):
    with pytest.raises(FrameError, match=words):
        imaging.decode(message)


@pytest.mark.parametrize("stored, claimed", [
    ("rgb8", "mono8"), ("rgba8", "rgb8"), ("yuyv", "mono8"), ("nv12", "mono8")])
def test_more_data_than_the_encoding_needs_is_not_read_as_another_image(stored, claimed):
    """The step tells nothing here, since drivers that mix up the encoding compute it from the wrong one."""
    size = {"rgb8": 144, "rgba8": 192, "yuyv": 96, "nv12": 72}[stored]
    with pytest.raises(FrameError, match=f"{claimed}.*wrong"):
        imaging.decode(image(bytes(size), claimed))
    imaging.decode(image(bytes(size), stored))


def test_a_buffer_rounded_up_by_less_than_a_row_is_read():
    np.testing.assert_array_equal(imaging.decode(image(PICTURE.tobytes() + bytes(23), "rgb8")), PICTURE)


def test_jpeg_and_png():
    smooth = cv2.resize(PICTURE, (64, 48), interpolation=cv2.INTER_CUBIC)
    png = imaging.encode_compressed(smooth, SimpleNamespace(), "png")
    np.testing.assert_array_equal(imaging.decode(png), smooth)
    jpeg = imaging.encode_compressed(smooth, SimpleNamespace(), "jpeg", 95)
    assert np.abs(imaging.decode(jpeg).astype(int) - smooth).mean() < 4
    jpeg.data = jpeg.data[: len(jpeg.data) // 2]
    with pytest.raises(FrameError, match="cut off"):
        imaging.decode(jpeg)
    _, swapped = cv2.imencode(".png", smooth)                          # RGB given to an encoder that expects BGR
    np.testing.assert_array_equal(imaging.decode(compressed(swapped, "rgb8; png compressed rgb8")), smooth)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_what_is_encoded_is_decoded(encoding):
    message = imaging.encode(PICTURE, SimpleNamespace(), encoding)
    np.testing.assert_array_equal(imaging.decode(message), PICTURE)
    assert (message.width, message.height) == (8, 6) and message.step * 6 == len(message.data)


def test_depth():
    depth = np.array([[0.5, np.nan], [1.234, 0.0]], np.float32)
    for encoding in ("16UC1", "32FC1"):
        found = imaging.decode_depth(imaging.encode_depth(depth, SimpleNamespace(), encoding))
        np.testing.assert_allclose(found, [[0.5, np.nan], [1.234, np.nan]], atol=5e-4)
        assert found.dtype == np.float32
    raw = image(np.array([[500, 0], [1234, 65535]], ">u2").tobytes(), "16UC1", 2, 2, big=1)
    np.testing.assert_allclose(imaging.decode_depth(raw), [[0.5, np.nan], [1.234, 65.535]], atol=1e-6)
    with pytest.raises(FrameError, match="not known"):
        imaging.decode_depth(image(b"x", "rgb8"))


def test_compressed_depth_inverts_the_published_quantisation():
    metres = np.array([[0.5, 1.0], [2.0, 4.0]])
    a, b = 100.0 * 101.0, 1 - 100.0 * 101.0 / 10.0
    _, png = cv2.imencode(".png", np.round(a / metres + b).astype(np.uint16))
    message = compressed(struct.pack("<iff", 0, a, b) + png.tobytes(), "32FC1; compressedDepth png")
    np.testing.assert_allclose(imaging.decode_depth(message), metres, rtol=1e-3)
    _, png = cv2.imencode(".png", np.array([[500, 0]], np.uint16))
    found = imaging.decode_depth(compressed(bytes(12) + png.tobytes(), "16UC1; compressedDepth png"))
    np.testing.assert_allclose(found, [[0.5, np.nan]])
    with pytest.raises(FrameError, match="use compressedDepth png"):
        imaging.decode_depth(compressed(b"x" * 40, "16UC1; compressedDepth rvl"))
