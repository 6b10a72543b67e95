"""INT8 for the CPU: convolutions quantised statically, their ranges taken from virtual hands.

Quantise-dequantise pairs round every convolution, weights per output channel (ONNX Runtime's static quantisation;
Jacob et al., CVPR 2018). Attention, soft-argmax and heads stay in float32: they decide fractions of a pixel.
Clipping counts to the convolution before it: its 8 bits then cover what is left, and nothing is converted in between.
"""
from __future__ import annotations

import contextlib
import io
import itertools
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Iterator, Sequence

import cv2
import numpy as np

from .. import bags, detect, messages, resources
from .. import crop as crops
from ..errors import DataError, FrameError, ModelError, pip_install
from ..skeleton import mano_joints
from ..types import Camera, Frame
from . import host, ort
from .agreement import refuse_disagreement
from .base import Disagreement, Options, not_refused
from .cache import Entry
from .eager import Eager
from .source import NetworkSource

PICTURES = 256
"""Pictures taken. Half of them set the ranges (more change them by less than the rounding), of the rest some tell
whether the result agrees with eager: what rounding does to drawings says little about hands."""
COMPARED = 16
FIRST = 3
"""Convolutions, at most a quarter of all, that stay in float32: those next to the pixels have the widest ranges. No
more than these: the next map of EfficientNet-Lite0 is six times as large; converting it took a sixth of the time."""
QUANTISED = ["Conv", "Clip", "Relu"]
LIMITS = {"mean_px": 2.0, "mean_mm": 2.0, "mean_probability": 0.05, "mean_camera_mm": 8.0, "mean_log_sigma": 0.15,
          "mean_up_deg": 3.0}
"""Rounding to 8 bits may change more than other runtimes do: what it costs is measured on labelled pictures. With the
networks that ship 0.3 px, 0.6 mm, 1.3 mm in the camera's frame and 0.2 degrees (``hand-pose build-engine`` says so)."""


def built(source: NetworkSource, options: Options) -> Entry:
    """The quantised network from the cache; quantised on the sample bag and stored if it is not there yet. Raises
    ModelError without onnx or if the result strays further from eager than ``LIMITS``."""
    entry = options.cache.get_or_build(ort.int8_ingredients(source), lambda: _made(source, options, ()))
    return not_refused(entry, source, "int8")


def build(source: NetworkSource, options: Options, recordings: Sequence[str] = ()) -> Entry:
    """Quantises a network on the pictures of ``recordings`` (none: the sample bag) and stores it whatever was there.
    Raises DataError for files that cannot be read, ModelError as ``built``."""
    entry = options.cache.replace(ort.int8_ingredients(source), *_made(source, options, recordings))
    return not_refused(entry, source, "int8")


def _made(source: NetworkSource, options: Options, recordings: Sequence[str]) -> tuple[bytes, dict]:
    """A quantised network, or nothing and why it is refused."""
    pictures = np.stack(list(calibration_pictures(source, recordings or [sample_bag()])))
    pictures = np.random.default_rng(0).permutation(pictures)       # else one half may be one hand of a bag
    taken, others = pictures[::2], pictures[1::2] if len(pictures) > 1 else pictures
    options.report(f"{source.model}: quantising, ranges from {len(taken)} pictures")
    float_model = ort.built(source, options).payload
    payload = quantised(float_model, taken)
    candidate = ort.OnnxRuntime(source, payload, options, "CPUExecutionProvider", "onnxruntime-int8")
    try:
        difference = refuse_disagreement(candidate, Eager(source, options), LIMITS,
                                         others[::-(-len(others) // COMPARED)])
    except Disagreement as error:
        return b"", {"refused": str(error)}
    return payload, {"agreement": difference, "calibration_pictures": len(taken)}


def build_problem() -> str:
    """Why networks cannot be quantised here, "" if they can."""
    for package in ("onnx", "rosbags"):
        if not host.version(package):
            return f"quantising needs the {package} package ({pip_install(package)})"
    if not Path(sample_bag()).is_file():
        return f"the sample bag {sample_bag()} is not there (build-engine --precision int8 --calibration FILE)"
    return host.torch_problem()


def quantised(model: bytes, pictures: np.ndarray) -> bytes:
    """An ONNX model with its convolutions in INT8. pictures: (N, H, W, 3) uint8 inputs. Raises ModelError without the
    onnx package."""
    try:
        import onnx
        from onnxruntime.quantization import (CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType,
                                              quantize_static)
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ModelError(f"int8 needs the onnx package ({error}): {pip_install('onnx')}") from error

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(pictures)

        def get_next(self):
            picture = next(self.left, None)
            return None if picture is None else {ort.INPUT: picture[None]}

    with tempfile.TemporaryDirectory() as scratch:
        prepared, result = Path(scratch) / "prepared.onnx", Path(scratch) / "int8.onnx"
        quant_pre_process(onnx.load(io.BytesIO(model)), str(prepared), skip_symbolic_shape=True)
        convolutions = [node.name for node in onnx.load(str(prepared)).graph.node if node.op_type == "Conv"]
        quantize_static(str(prepared), str(result), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                        op_types_to_quantize=QUANTISED,
                        nodes_to_exclude=convolutions[:min(FIRST, len(convolutions) // 4)],
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        calibrate_method=CalibrationMethod.MinMax,
                        extra_options={"CalibMovingAverage": True, "ActivationSymmetric": False})
        return result.read_bytes()


def sample_bag() -> str:
    """The bag of virtual hands that comes with the package: calibrates where nothing else is given."""
    return str(resources.folder("test/data") / "virtual_hands.mcap")


def calibration_pictures(source: NetworkSource, recordings: Sequence[str], count: int = PICTURES
                         ) -> Iterator[np.ndarray]:
    """Inputs of the network, (H, W, 3) uint8: crops round labelled hands, or whole frames for a detector.

    recordings: tar files of hand-pose render, or bags with truth. Taken evenly from all. Raises DataError, naming the
    file, if one is neither or none shows a hand.
    """
    found = 0
    for index, recording in enumerate(recordings):
        wanted = -(-(count - found) // (len(recordings) - index))
        of_this = (picture for frame, hands in labelled(recording) for picture in inputs(source, frame, hands))
        for picture in itertools.islice(of_this, wanted):
            found += 1
            yield picture
    if not found:
        raise DataError(f"no picture of {', '.join(recordings)} shows a hand that {source.model} can be calibrated on: "
                        f"render crops for pose networks, frames for detectors")


def inputs(source: NetworkSource, frame: Frame, hands: Sequence[tuple[np.ndarray, bool]]) -> Iterator[np.ndarray]:
    """What the network would see of a frame whose hands are known: joints (21, 2) [px], whether it is a right one."""
    if source.kind == "detector":
        yield detect.letterbox(frame.image, source.input_shape[:2])[0]
        return
    for joints_px, is_right in hands:
        with contextlib.suppress(FrameError):               # no joint in the picture, or off the lens
            found = crops.from_joints(joints_px)
            yield crops.take(frame, found, source.input_shape[0], not is_right).image


def labelled(recording: str) -> Iterator[tuple[Frame, list[tuple[np.ndarray, bool]]]]:
    """The frames of a tar file of hand-pose render or of a bag with truth, each with its hands as in ``inputs``."""
    return _of_shard(recording) if recording.endswith(".tar") else _of_bag(recording)


def _of_shard(shard: str) -> Iterator[tuple[Frame, list[tuple[np.ndarray, bool]]]]:
    """Pictures of a tar of <index>.jpg and <index>.json."""
    try:
        with tarfile.open(shard) as tar:
            names = {member.name: member for member in tar.getmembers() if member.isfile()}
            for name in sorted(name for name in names if name.endswith(".jpg")):
                label = names.get(f"{name[:-4]}.json")
                data = np.frombuffer(tar.extractfile(names[name]).read(), np.uint8)
                image = cv2.imdecode(data, cv2.IMREAD_COLOR)
                if image is None or label is None:
                    continue
                record = json.loads(tar.extractfile(label).read())
                camera = Camera(image.shape[1], image.shape[0], np.array(record["K"], float).reshape(3, 3),
                                record.get("distortion_model") or "plumb_bob", np.array(record.get("D") or [], float))
                yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), camera, 0), [
                    (np.array(hand["joints_px"], float).reshape(21, 2), hand["is_right"]) for hand in record["hands"]]
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{shard} cannot be read as a shard ({error}): give tar files of hand-pose render or bags with "
                        f"truth") from error


def _of_bag(path: str) -> Iterator[tuple[Frame, list[tuple[np.ndarray, bool]]]]:
    """Images of a bag that have a HandPose21Array of truth with their stamp."""
    with bags.BagReader(path) as reader:
        truth = reader.hands()
        for recorded in reader.frames():
            if recorded.frame.stamp_ns in truth:
                hands, _ = messages.read_array(truth[recorded.frame.stamp_ns])
                yield recorded.frame, [(mano_joints(hand.joints_px), hand.is_right) for hand in hands]
