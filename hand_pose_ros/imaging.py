"""sensor_msgs images <-> arrays, by attribute access, so that rclpy and rosbags messages both work.

RGB uint8 inside the package; every other encoding is converted here and nowhere else. Encoding names:
sensor_msgs/image_encodings.hpp; formats of CompressedImage: CompressedImage.msg. Row padding (``step``) and byte order
are honoured. Depth becomes float32 metres along z with NaN where nothing was measured (REP 118).
"""
from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .errors import DataError, FrameError
from .types import Camera

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
"""Endings, in small letters, of files that are taken for pictures and for videos."""

_RGB_FROM = {
    "rgb8": (3, "u1", None), "bgr8": (3, "u1", cv2.COLOR_BGR2RGB), "8UC3": (3, "u1", cv2.COLOR_BGR2RGB),
    "rgba8": (4, "u1", cv2.COLOR_RGBA2RGB), "bgra8": (4, "u1", cv2.COLOR_BGRA2RGB),
    "8UC4": (4, "u1", cv2.COLOR_BGRA2RGB),
    "mono8": (1, "u1", cv2.COLOR_GRAY2RGB), "8UC1": (1, "u1", cv2.COLOR_GRAY2RGB),
    "rgb16": (3, "u2", None), "bgr16": (3, "u2", cv2.COLOR_BGR2RGB),
    "rgba16": (4, "u2", cv2.COLOR_RGBA2RGB), "bgra16": (4, "u2", cv2.COLOR_BGRA2RGB),
    "mono16": (1, "u2", cv2.COLOR_GRAY2RGB),
    # The letters of a Bayer encoding are the first two pixels of the first two rows; OpenCV's name is taken one pixel
    # further down and right, hence the other letters.
    "bayer_rggb8": (1, "u1", cv2.COLOR_BayerBG2RGB), "bayer_bggr8": (1, "u1", cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, "u1", cv2.COLOR_BayerGR2RGB), "bayer_grbg8": (1, "u1", cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": (1, "u2", cv2.COLOR_BayerBG2RGB), "bayer_bggr16": (1, "u2", cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": (1, "u2", cv2.COLOR_BayerGR2RGB), "bayer_grbg16": (1, "u2", cv2.COLOR_BayerGB2RGB),
    "yuv422": (2, "u1", cv2.COLOR_YUV2RGB_UYVY), "uyvy": (2, "u1", cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, "u1", cv2.COLOR_YUV2RGB_YUY2), "yuyv": (2, "u1", cv2.COLOR_YUV2RGB_YUY2),
}
"""Encoding: channels, sample type, OpenCV conversion to RGB."""

_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
"""Encodings with a full plane of Y and below it one of half the height with U and V."""

_PAIRS = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", *_PLANAR)
"""Encodings in which two neighbours in a row, and with planes also two rows, share their U and V."""

_RGB_TO = {"rgb8": (3, None), "bgr8": (3, cv2.COLOR_RGB2BGR), "rgba8": (4, cv2.COLOR_RGB2RGBA),
           "bgra8": (4, cv2.COLOR_RGB2BGRA), "mono8": (1, cv2.COLOR_RGB2GRAY)}

ENCODINGS = (*_RGB_FROM, *_PLANAR)
"""Colour encodings that decode() reads."""

_END, _SCAN, _RESTARTS = 0xD9, 0xDA, range(0xD0, 0xD8)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_BETWEEN_SCANS = (0xC4, 0xCC, _SCAN, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE)
"""Second bytes of JPEG markers (ITU-T T.81, table B.1): end of the image, start of a scan, restarts that count round,
starts of a frame, those of them that need several scans, and what may stand before a further scan."""
_FLAT_PERIOD_BITS = 192
"""Most bits of a group of flat blocks: four of Y, one of U, one of V, each two codes of at most 16 bits."""


def decode(message: Any) -> np.ndarray:
    """A sensor_msgs/Image or CompressedImage as (H, W, 3) uint8 RGB.

    16-bit samples are scaled to 8. The array may share memory with the message if its encoding is rgb8. Raises
    FrameError, with the remedy, for an unknown encoding, odd sides of one that stores pairs of pixels, missing or
    surplus bytes, and compressed data that is seen to be damaged. In a JPEG that is a missing end, a marker where none
    may be and, unless it is progressive, data that ends some 32 rows before the image does. JPEG has no checksum, so
    other damage that still reads as codes is not seen, and part of the image is then wrong: 200 random bytes inside one
    of 640x480 are found in 6 of 10 cases, 20 bytes in 1 of 10, a few missing blocks or a single bit hardly ever.
    """
    if not hasattr(message, "encoding"):
        return _decode_compressed(message)
    encoding = message.encoding
    if encoding in _PAIRS:
        for side, pixels in (("width", message.width), ("height", message.height if encoding in _PLANAR else 0)):
            if pixels % 2:
                raise FrameError(f"image {side} is {pixels}, but {encoding!r} stores the colour of two pixels at once: "
                                 f"set an even {side} in the driver, or another encoding")
    if encoding in _PLANAR:
        rows = _rows(message, 1, "u1", message.height + message.height // 2)[..., 0]
        return cv2.cvtColor(np.ascontiguousarray(rows), _PLANAR[encoding])
    if encoding not in _RGB_FROM:
        hint = "this is a depth encoding: give a colour topic" if encoding in ("16UC1", "32FC1") else \
            f"known are {', '.join(ENCODINGS)}"
        raise FrameError(f"image encoding {encoding!r} cannot be shown to the networks; {hint}")
    channels, sample, conversion = _RGB_FROM[encoding]
    pixels = _rows(message, channels, sample, message.height)
    if channels == 1:
        pixels = pixels[..., 0]
    if sample == "u2":
        pixels = np.round(pixels * (255.0 / 65535.0)).astype(np.uint8)
    if conversion is None:
        return pixels
    return cv2.cvtColor(np.ascontiguousarray(pixels), conversion)


def _rows(message: Any, channels: int, sample: str, height: int) -> np.ndarray:
    """(height, width, channels) in the byte order of this machine, without the padding of the rows."""
    width, size = int(message.width), np.dtype(sample).itemsize
    used = width * channels * size
    step = int(message.step) or used
    data = np.frombuffer(memoryview(message.data), np.uint8)
    if width <= 0 or height <= 0:
        raise FrameError(f"image of {width} x {height} pixels: the driver sends an empty image; restart it, or set "
                         "another video mode")
    if step < used:
        raise FrameError(f"image step is {step} bytes, but {width} pixels of {message.encoding!r} take {used}: the "
                         "driver must fill width, encoding and step so that they fit (step 0: rows without padding)")
    if data.size < step * (height - 1) + used:
        raise FrameError(f"image data is {data.size} bytes, but {height} rows of {step} bytes are needed: the message "
                         f"is cut off or its step, height or encoding {message.encoding!r} is wrong; check the "
                         "driver, and that messages of this size get through (config/fastdds.xml)")
    if data.size >= step * (height + 1):                # less than a row: a driver's buffer that is rounded up
        raise FrameError(f"image data is {data.size} bytes, but {height} rows of {step} bytes are {step * height}: its "
                         f"step, height or encoding {message.encoding!r} is wrong, and the image would be a wrong one: "
                         "correct it in the driver")
    rows = np.lib.stride_tricks.as_strided(data, (height, used), (step, 1), writeable=False)
    order = ">" if message.is_bigendian else "<"
    samples = np.ascontiguousarray(rows).view(np.dtype(sample).newbyteorder(order))
    return samples.astype(sample, copy=False).reshape(height, width, channels)


def _decode_compressed(message: Any) -> np.ndarray:
    data = bytes(memoryview(message.data))
    if "compressedDepth" in message.format:
        raise FrameError(f"format {message.format!r} is depth: give a colour topic")
    if not data:
        raise FrameError("compressed image without data: the encoder sent nothing; restart the camera driver, or take "
                         "its raw images (image_transport: raw)")
    mosaic = None
    if message.format.startswith("bayer_") and "compressed bgr" not in message.format:      # nobody made colours of it
        mosaic = _RGB_FROM.get(message.format.partition(";")[0].strip())
    pixels = _uncompressed(data, cv2.IMREAD_GRAYSCALE if mosaic else cv2.IMREAD_COLOR)
    if pixels is None:
        raise FrameError(f"compressed image of {len(data)} bytes, format {message.format!r}, cannot be decoded: it is "
                         "damaged or of a kind that OpenCV does not read; set the driver to jpeg or png")
    if mosaic:
        return cv2.cvtColor(pixels, mosaic[2])
    if "compressed rgb" in message.format:          # written from RGB by an encoder that expects BGR
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _uncompressed(data: bytes, flags: int) -> np.ndarray | None:
    """Pixels as stored, (H, W, 3) uint8 BGR or (H, W) grey; None if OpenCV cannot read them. Raises FrameError for a
    JPEG that is seen to be damaged. flags: cv2.IMREAD_COLOR or IMREAD_GRAYSCALE."""
    codes = _checked_jpeg(data) if data[:2] == b"\xff\xd8" else b""
    try:
        # An EXIF orientation is not followed: the calibration belongs to the stored pixels.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:                                   # a damaged header asks for gigabytes (older OpenCV)
        return None
    if pixels is not None and _ends_early(np.atleast_3d(pixels), codes):
        raise FrameError(_damaged(data, len(data), "the data ends before the last rows of the image"))
    return pixels


def read_picture(path: Path) -> np.ndarray:
    """A picture's file as (H, W, 3) uint8 RGB, the pixels as stored: an EXIF orientation is not followed, since labels,
    boxes and calibration belong to the stored pixels.

    Raises FrameError if the file is missing, empty, damaged, cut off or no picture. Its words are the same for every
    file, so that equal ones can be counted: who catches it names the file.
    """
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise FrameError(f"the file cannot be read: {error.strerror}") from error
    if not data:
        raise FrameError("the file is missing or empty")
    try:
        pixels = _uncompressed(data, cv2.IMREAD_COLOR)
    except FrameError:                                  # speaks of cameras and drivers
        pixels = None
    if pixels is None:
        raise FrameError("the file cannot be decoded as a picture: it is damaged, cut off or of a kind that OpenCV "
                         "does not read; copy it again, or store it as PNG or JPEG")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def write_picture(path: Path, rgb: np.ndarray, jpeg_quality: int = 95) -> None:
    """Write (H, W, 3) uint8 RGB as the path's ending says. Raises DataError, naming the file, if the disk does not take
    it, of which cv2.imwrite says at most that something went wrong."""
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if path.suffix == ".jpg" else []
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR), options)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}; free some space or give another --out") from error


def _damaged(data: bytes, at: int, what: str) -> str:
    return (f"JPEG is damaged at byte {at} of {len(data)}: {what}; check the camera's cable (USB: port, hub, lower "
            "rate), the network and the driver's buffers")


def _checked_jpeg(data: bytes) -> bytes:
    """Walk over the markers of a JPEG: FrameError if it has no end or one stands where none may be.

    In coded data 0xFF is followed by 0, by a restart marker in its turn (if the header announces them) or by what ends
    the scan; other values tell of lost or changed bytes, which libjpeg fills up and draws without an error that OpenCV
    passes on. What follows the end (padding, a second picture) does not count. Returns the coded data after the last
    restart if all is in one scan, else b"".
    """
    values = np.frombuffer(data, np.uint8)
    marks = np.flatnonzero(values[:-1] == 0xFF)
    kinds = values[marks + 1]
    marks, kinds = (found[(kinds != 0) & (kinds != 0xFF)] for found in (marks, kinds))  # 0xFF repeated is filling
    components, one_scan, restarts, scanned = 0, True, False, False
    end = 2                                             # of the segment before; the first two bytes are the start
    while (number := int(np.searchsorted(marks, end))) < len(marks):
        at, kind = int(marks[number]), int(kinds[number])
        if scanned and data[end: at].strip(b"\xff"):
            raise FrameError(_damaged(data, end, "marker inside the coded data"))
        if kind == _END:
            return b""
        if kind == 0x01 or kind in _RESTARTS:           # they mean nothing here, and have no length
            end = at + 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2: at + 4], "big")
        segment = data[at: end]
        if kind in _FRAMES and len(segment) > 9:
            components, one_scan = segment[9], kind not in _PROGRESSIVE
        elif kind == 0xDD and len(segment) > 5:
            restarts = segment[4:6] != b"\0\0"
        if kind != _SCAN or len(segment) < 5:
            continue
        scanned, one_scan = True, one_scan and segment[4] == components
        first = int(np.searchsorted(marks, end))
        others = np.flatnonzero((kinds[first:] & 0xF8) != _RESTARTS[0])
        last = first + int(others[0]) if others.size else len(marks)
        turn = _RESTARTS[0] + np.arange(last - first) % len(_RESTARTS)
        wrong = np.flatnonzero(kinds[first: last] != turn) if restarts else np.arange(last - first)
        if wrong.size:
            at, kind = int(marks[first + wrong[0]]), int(kinds[first + wrong[0]])
            raise FrameError(_damaged(data, at, f"restart marker FF {kind:02X} out of turn"))
        if last == len(marks):
            break
        begin = end if last == first else int(marks[last - 1]) + 2
        end, kind = int(marks[last]), int(kinds[last])
        if kind == _END:
            return data[begin: end].rstrip(b"\xff") if one_scan else b""
        if kind != 0xDC and (one_scan or kind not in _BETWEEN_SCANS):
            raise FrameError(_damaged(data, end, f"marker FF {kind:02X} inside the coded data"))
    raise FrameError(f"JPEG of {len(data)} bytes is cut off (no end marker): check the camera's cable, the network and "
                     "the driver's buffers")


def _ends_early(bgr: np.ndarray, codes: bytes) -> bool:
    """Whether libjpeg ran out of codes before the last rows, which it then fills with grey 128.

    codes: as from _checked_jpeg. A camera may see exactly that grey too, but then the codes of these blocks are there,
    the same bits over and over. Few rows of a narrow image have too few bits to tell, and pass.
    """
    if not codes or not (bgr[-15:] == 128).all():       # quick; the 16th may be mixed with its neighbours
        return False
    rows = int(np.argmin((bgr[::-1] == 128).all(axis=(1, 2)))) or len(bgr)
    count = min(rows // 16 * (bgr.shape[1] // 4), 1024)     # a block of 8 x 8 takes at least 2 bits
    tail = codes[-count // 4 - 1: -1].replace(b"\xff\0", b"\xff")       # the last byte is filled up with ones
    bits = np.unpackbits(np.frombuffer(tail, np.uint8))[-count:]
    if len(bits) < _FLAT_PERIOD_BITS + 40:
        return False
    return not any(np.array_equal(bits[period:], bits[:-period]) for period in range(1, _FLAT_PERIOD_BITS + 1))


def decode_depth(message: Any) -> np.ndarray:
    """A depth Image (16UC1, mono16: millimetres; 32FC1: metres) or compressedDepth PNG as (H, W) float32 metres.

    Zero, negative and infinite become NaN. Raises FrameError for anything else.
    """
    if not hasattr(message, "encoding"):
        return _decode_compressed_depth(message)
    if message.encoding in ("16UC1", "mono16"):
        return _metres(_rows(message, 1, "u2", message.height)[..., 0], 0.001)
    if message.encoding == "32FC1":
        return _metres(_rows(message, 1, "f4", message.height)[..., 0], 1.0)
    raise FrameError(f"depth encoding {message.encoding!r} is not known: use 16UC1 (millimetres) or 32FC1 (metres)")


def _metres(values: np.ndarray, unit_m: float) -> np.ndarray:
    depth = values.astype(np.float32) * np.float32(unit_m)
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def _decode_compressed_depth(message: Any) -> np.ndarray:
    """PNG after a header of 12 bytes: an integer and the two numbers of the inverse-depth quantisation.

    Source: compressed_depth_image_transport (codec.cpp): depth = a / (value - b) for 32FC1.
    """
    data = bytes(memoryview(message.data))
    if "compressedDepth" not in message.format or len(data) < 13 or "rvl" in message.format:
        raise FrameError(f"compressed depth format {message.format!r} is not known: use compressedDepth png")
    values = cv2.imdecode(np.frombuffer(data[12:], np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 2:
        raise FrameError(f"compressed depth of {len(data)} bytes cannot be decoded: it is damaged or not a PNG of one "
                         "channel; set the camera to compressedDepth png, or take its raw depth image")
    if not message.format.startswith("32FC1"):
        return _metres(values, 0.001)
    _, a, b = struct.unpack_from("<iff", data)
    with np.errstate(divide="ignore"):
        return _metres(np.where(values > 0, a / (values.astype(np.float32) - b), 0), 1.0)


def encode(rgb: np.ndarray, message: Any, encoding: str = "rgb8") -> Any:
    """Fill a sensor_msgs/Image (all but its header). rgb: (H, W, 3) uint8. Raises FrameError for other encodings."""
    if encoding not in _RGB_TO:
        raise FrameError(f"image encoding {encoding!r} cannot be written; choose one of {', '.join(_RGB_TO)}")
    channels, conversion = _RGB_TO[encoding]
    pixels = rgb if conversion is None else cv2.cvtColor(np.ascontiguousarray(rgb), conversion)
    return _fill(message, pixels, encoding, channels)


def encode_depth(depth_m: np.ndarray, message: Any, encoding: str = "16UC1") -> Any:
    """Fill a depth sensor_msgs/Image. depth_m: (H, W) metres, NaN unknown. encoding: "16UC1" (mm; what is farther than
    65.535 m becomes unknown) or "32FC1" (m)."""
    if encoding == "16UC1":
        values = np.round(np.asarray(depth_m, np.float64) * 1000.0)
        with np.errstate(invalid="ignore"):
            values = np.where((values > 0) & (values <= 65535), values, 0)
        return _fill(message, values.astype("<u2"), encoding, 2)
    if encoding == "32FC1":
        return _fill(message, np.asarray(depth_m).astype("<f4"), encoding, 4)
    raise FrameError(f"depth encoding {encoding!r} cannot be written; choose 16UC1 or 32FC1")


def _fill(message: Any, pixels: np.ndarray, encoding: str, bytes_per_pixel: int) -> Any:
    message.height, message.width = pixels.shape[:2]
    message.encoding, message.is_bigendian = encoding, 0
    message.step = pixels.shape[1] * bytes_per_pixel
    message.data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    return message


def encode_compressed(rgb: np.ndarray, message: Any, format: str = "jpeg", quality: int = 95) -> Any:
    """Fill a sensor_msgs/CompressedImage. rgb: (H, W, 3) uint8. format: "jpeg" or "png"; quality: JPEG, 1..100."""
    if format not in ("jpeg", "png"):
        raise FrameError(f"compressed format {format!r} cannot be written; choose jpeg or png")
    options = [cv2.IMWRITE_JPEG_QUALITY, int(quality)] if format == "jpeg" else []
    _, data = cv2.imencode("." + format, cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR), options)
    message.format = f"rgb8; {format} compressed bgr8"
    message.data = data.reshape(-1)
    return message


def fill_camera_info(message: Any, camera: Camera) -> Any:
    """Fill a sensor_msgs/CameraInfo (all but its header) of a monocular camera."""
    message.height, message.width = camera.height, camera.width
    message.distortion_model = camera.distortion_model
    message.d = np.asarray(camera.D, np.float64)
    message.k = np.asarray(camera.K, np.float64).reshape(-1)
    message.r = np.eye(3).reshape(-1)
    message.p = np.hstack([camera.K, np.zeros((3, 1))]).reshape(-1)
    return message
