"""INT8 for the CPU: convolutions quantised statically, their ranges taken from virtual hands.

Quantise-dequantise pairs round every convolution, weights per output channel (ONNX Runtime's static quantisation;
Jacob et al., CVPR 2018). Attention, soft-argmax and heads stay in float32: they decide fractions of a pixel.
"""
from __future__ import annotations

import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Iterator, Sequence

import cv2
import numpy as np

from .. import crop as crops
from .. import detect
from ..errors import DataError, FrameError, ModelError
from ..types import Camera, Frame
from . import ort
from .agreement import refuse_disagreement
from .base import Options
from .cache import Entry
from .eager import Eager
from .source import NetworkSource

PICTURES = 256
"""Pictures that set the ranges; more change them by less than the rounding."""
LIMITS = {"mean_px": 2.0, "mean_mm": 2.0, "mean_probability": 0.05}
"""Rounding to 8 bits may change more than other runtimes do: what it costs is measured on labelled pictures."""


def build(source: NetworkSource, options: Options, shards: Sequence[str]) -> Entry:
    """Quantises a network on the pictures of ``shards`` and stores it. Raises DataError for shards that cannot be read,
    ModelError without onnx or if the result strays further from eager than ``LIMITS``."""
    pictures = np.stack(list(calibration_pictures(source, shards)))
    options.report(f"{source.model}: quantising, ranges from {len(pictures)} pictures")
    float_model = ort.built(source, options).payload
    payload = quantised(float_model, pictures)
    candidate = ort.OnnxRuntime(source, payload, options, "CPUExecutionProvider", "onnxruntime")
    difference = refuse_disagreement(candidate, Eager(source, options), LIMITS)
    return options.cache.replace(ort.int8_ingredients(source), payload,
                                 {"agreement": difference, "calibration_pictures": len(pictures)})


def quantised(model: bytes, pictures: np.ndarray) -> bytes:
    """An ONNX model with its convolutions in INT8. pictures: (N, H, W, 3) uint8 inputs. Raises ModelError without the
    onnx package."""
    try:
        import onnx
        from onnxruntime.quantization import (CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType,
                                              quantize_static)
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ModelError(f"int8 needs the onnx package ({error}): pip install onnx") from error

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(pictures)

        def get_next(self):
            picture = next(self.left, None)
            return None if picture is None else {ort.INPUT: picture[None]}

    with tempfile.TemporaryDirectory() as scratch:
        prepared, result = Path(scratch) / "prepared.onnx", Path(scratch) / "int8.onnx"
        quant_pre_process(onnx.load(io.BytesIO(model)), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(result), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                        op_types_to_quantize=["Conv"], activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        calibrate_method=CalibrationMethod.MinMax,
                        extra_options={"CalibMovingAverage": True, "ActivationSymmetric": False})
        return result.read_bytes()


def calibration_pictures(source: NetworkSource, shards: Sequence[str], count: int = PICTURES) -> Iterator[np.ndarray]:
    """Inputs of the network, (H, W, 3) uint8: crops round labelled hands, or whole frames for a detector.

    Taken evenly from all shards. Raises DataError, naming the file, if one is not a shard or none shows a hand.
    """
    found = 0
    for shard in shards:
        wanted = -(-(count - found) // (len(shards) - list(shards).index(shard)))
        for image, record in members(shard):
            if wanted <= 0:
                break
            picture = one_input(source, image, record)
            if picture is not None:
                found, wanted = found + 1, wanted - 1
                yield picture
    if not found:
        raise DataError(f"no picture of {', '.join(shards)} shows a hand that {source.model} can be calibrated on: "
                        f"render crops for pose networks, frames for detectors")


def one_input(source: NetworkSource, image: np.ndarray, record: dict) -> np.ndarray | None:
    """What the network would see of a labelled picture; None if it shows no usable hand."""
    if source.kind == "detector":
        return detect.letterbox(image, source.input_shape[:2])[0]
    camera = Camera(image.shape[1], image.shape[0], np.array(record["K"], float).reshape(3, 3),
                    record.get("distortion_model") or "plumb_bob", np.array(record.get("D") or [], float))
    for hand in record["hands"]:
        try:
            found = crops.from_joints(np.array(hand["joints_px"], float).reshape(21, 2))
            return crops.take(Frame(image, camera, 0), found, source.input_shape[0], not hand["is_right"]).image
        except FrameError:
            continue
    return None


def members(shard: str) -> Iterator[tuple[np.ndarray, dict]]:
    """(image (H, W, 3) uint8 RGB, label) of each picture of a shard: tar of <index>.jpg and <index>.json."""
    try:
        with tarfile.open(shard) as tar:
            names = {member.name: member for member in tar.getmembers() if member.isfile()}
            for name in sorted(name for name in names if name.endswith(".jpg")):
                label = names.get(f"{name[:-4]}.json")
                data = np.frombuffer(tar.extractfile(names[name]).read(), np.uint8)
                image = cv2.imdecode(data, cv2.IMREAD_COLOR)
                if image is not None and label is not None:
                    yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB), json.loads(tar.extractfile(label).read())
    except (OSError, tarfile.TarError, ValueError) as error:
        raise DataError(f"{shard} cannot be read as a shard ({error}): give tar files of hand-pose render") from error
