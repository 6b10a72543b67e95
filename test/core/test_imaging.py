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


@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_a_compressed_mosaic_gets_its_colours_too(kind):
    """As image_transport writes it: the sensor's own pixels, compressed as grey."""
    mosaic = np.tile(np.array([[200, 120], [120, 40]], np.uint8), (20, 20))
    data = cv2.imencode(kind, mosaic, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    found = imaging.decode(compressed(data, f"bayer_rggb8; {'png' if kind == '.png' else 'jpeg'} compressed "))
    assert np.abs(found[5:-5, 5:-5].astype(int) - (200, 120, 40)).max() <= 4
    colours = cv2.imencode(".png", np.full((9, 9, 3), (40, 120, 200), np.uint8))[1].tobytes()
    said = imaging.decode(compressed(colours, "bayer_rggb8; png compressed bgr8"))      # an encoder that made colours
    assert (said == (200, 120, 40)).all()


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
    (image(PICTURE.tobytes()[:-1], "rgb8"), "cut off.*check the driver"),
    (image(PICTURE.tobytes(), "rgb8", step=20), "step is 20.*driver must fill"),
    (image(b"", "rgb8", 0, 0), "empty image; restart"), (image(PICTURE.tobytes(), "magic"), "known are"),
    (image(PICTURE.tobytes(), "16UC1"), "depth"), (compressed(b""), "without data.*raw"),
    (compressed(b"nothing of the kind"), "cannot be decoded.*jpeg or png"),
    (compressed(b"x", "16UC1; compressedDepth png"), "depth"),
    *((image(bytes(84), encoding, 7), f"width is 7, but '{encoding}'.*set an even width") for encoding in (
        "yuv422", "uyvy", "yuyv", "yuv422_yuy2", "nv12", "nv21")),
    *((image(bytes(60), encoding, 8, 5), f"height is 5, but '{encoding}'.*set an even height") for encoding in (
        "nv12", "nv21"))])
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
    with pytest.raises(FrameError, match="cut off.*cable"):
        imaging.decode(jpeg)
    _, swapped = cv2.imencode(".png", smooth)                          # RGB given to an encoder that expects BGR
    np.testing.assert_array_equal(imaging.decode(compressed(swapped, "rgb8; png compressed rgb8")), smooth)


VIEW = np.clip(cv2.resize(RNG.integers(0, 256, (30, 40, 3), np.uint8), (320, 240)) + RNG.normal(0, 6, (240, 320, 3)),
               0, 255).astype(np.uint8)
"""Something with edges and noise, as a camera sees it."""
GREY_BELOW = np.concatenate([VIEW[:120], np.full_like(VIEW[:120], 128)])
SAMPLING = getattr(cv2, "IMWRITE_JPEG_SAMPLING_FACTOR", None)            # not in the OpenCV of Ubuntu 22.04 and 24.04
RESTARTS, PROGRESSIVE = (cv2.IMWRITE_JPEG_RST_INTERVAL, 20), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)


def jpeg_of(pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".jpg", pixels, options)[1].tobytes()


def coded(data: bytes) -> int:
    """Where the first coded data begins."""
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2: at + 4], "big")


def app(kind: int, inside: bytes) -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(inside) + 2) + inside


@pytest.mark.parametrize("pixels", [VIEW, VIEW[..., 0], VIEW[:233, :311], GREY_BELOW, GREY_BELOW[..., 0]],
                         ids=["colour", "grey", "odd", "colour, grey below", "grey, grey below"])
@pytest.mark.parametrize("options", [
    (), (cv2.IMWRITE_JPEG_QUALITY, 1), (cv2.IMWRITE_JPEG_QUALITY, 100), (cv2.IMWRITE_JPEG_OPTIMIZE, 1), PROGRESSIVE,
    RESTARTS, (cv2.IMWRITE_JPEG_RST_INTERVAL, 1), (*RESTARTS, *PROGRESSIVE),
    *((SAMPLING, factor) for factor in (0x111111, 0x211111, 0x121111, 0x221111, 0x411111) if SAMPLING)])
def test_sound_jpegs_are_read(pixels, options):
    data = jpeg_of(pixels, *options)
    plain = imaging.decode(compressed(data))
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(plain, bgr[..., ::-1])
    thumbnail = app(0xE1, b"Exif\0\0" + jpeg_of(pixels[:40, :40], *RESTARTS))
    for variant in (data[:2] + thumbnail + app(0xFE, b"\xff\xd9\xff\xda\xff\x42") + data[2:],   # markers in a comment
                    data + bytes(100), data + jpeg_of(pixels[:40]), data + b"\x17",             # what cameras append
                    data[:-2] + b"\xff" + data[-2:]):                                         # a marker filled up
        np.testing.assert_array_equal(imaging.decode(compressed(variant)), plain)


@pytest.mark.parametrize("options", [(), RESTARTS, PROGRESSIVE], ids=["plain", "restarts", "progressive"])
def test_a_marker_inside_the_coded_data_of_a_jpeg_is_damage(options):
    data, rng = jpeg_of(VIEW, *options), np.random.default_rng(5)
    at = coded(data) + 300
    noise = rng.integers(0, 255, 200, dtype=np.uint8).tobytes()             # without 0xFF
    for marker in (0x42, 0xC0, 0xD3, 0xE1, 0xFE):
        bad = data[:at] + noise[:50] + bytes([0xFF, marker]) + noise[52:] + data[at + 200:]
        with pytest.raises(FrameError, match=rf"damaged at byte \d+ of {len(data)}: .*cable"):
            imaging.decode(compressed(bad))
        with pytest.raises(FrameError, match="damaged at byte"):            # also behind a thumbnail with its own end
            imaging.decode(compressed(bad[:2] + app(0xE1, jpeg_of(VIEW[:40, :40])) + bad[2:]))
    with pytest.raises(FrameError, match=f"damaged at byte {at + 50} of {len(data)}: marker FF 42 inside"):
        imaging.decode(compressed(data[:at] + noise[:50] + b"\xff\x42" + noise[52:] + data[at + 200:]))


def test_a_restart_out_of_turn_is_damage():
    data = jpeg_of(VIEW, *RESTARTS)
    begin, end = data.index(b"\xff\xd1"), data.index(b"\xff\xd3")
    with pytest.raises(FrameError, match=f"damaged at byte {begin} .*restart marker FF D3 out of turn"):
        imaging.decode(compressed(data[:begin] + data[end:]))
    with pytest.raises(FrameError, match="restart marker FF D0 out of turn"):       # nobody has announced any
        imaging.decode(compressed(jpeg_of(VIEW)[:-2] + b"\xff\xd0\xff\xd9"))


@pytest.mark.parametrize("options", [(), RESTARTS, (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
                                     *((SAMPLING, 0x111111) for _ in range(1) if SAMPLING)])
@pytest.mark.parametrize("pixels", [VIEW, VIEW[..., 0]], ids=["colour", "grey"])
def test_a_jpeg_without_its_middle_third_is_damaged(pixels, options):
    data = jpeg_of(pixels, *options)
    third = (len(data) - coded(data)) // 3
    with pytest.raises(FrameError, match="damaged at byte"):
        imaging.decode(compressed(data[:coded(data) + third] + data[-third:]))


def test_a_header_that_asks_for_gigabytes_cannot_be_decoded(monkeypatch):
    data = jpeg_of(VIEW)
    at = data.index(b"\xff\xc0") + 5
    huge = compressed(data[:at] + b"\xff\xf0\xff\xf0" + data[at + 4:])
    with pytest.raises(FrameError, match="cannot be decoded"):
        imaging.decode(huge)

    def as_in_older_versions(*_):
        raise cv2.error("size")
    monkeypatch.setattr(imaging.cv2, "imdecode", as_in_older_versions)
    with pytest.raises(FrameError, match="cannot be decoded"):
        imaging.decode(huge)


def test_a_picture_s_file_is_read_as_stored_or_refused(tmp_path):
    path, data = tmp_path / "a.jpg", jpeg_of(VIEW)
    turned = app(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")   # orientation: 6
    path.write_bytes(data[:2] + turned + data[2:])
    assert cv2.imread(str(path)).shape[:2] == VIEW.shape[1::-1], "others turn it"
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(imaging.read_picture(path), stored)
    imaging.write_picture(tmp_path / "a.png", stored)
    np.testing.assert_array_equal(imaging.read_picture(tmp_path / "a.png"), stored)
    said = set()
    for damaged in (data[: len(data) // 2], data[:-2], data[:200], b"no picture"):
        path.write_bytes(damaged)
        with pytest.raises(FrameError, match="damaged, cut off") as raised:
            imaging.read_picture(path)
        said.add(str(raised.value))
    assert len(said) == 1, "equal problems are counted together"
    path.write_bytes(b"")
    for absent in (path, tmp_path, tmp_path / "none.jpg"):
        with pytest.raises(FrameError, match="missing or empty"):
            imaging.read_picture(absent)


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
    far = imaging.decode_depth(imaging.encode_depth(np.array([[65.535, 70.0], [np.inf, -1.0]]), SimpleNamespace()))
    np.testing.assert_allclose(far, [[65.535, np.nan], [np.nan, np.nan]], atol=1e-3)    # unknown, not nearer
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
