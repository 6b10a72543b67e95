"""Builds a TensorRT-RTX engine of every shipped network on a machine without a GPU, and fails below full coverage.

For CI: shows that torch.export, Torch-TensorRT's converters and TensorRT's builder take every network whole, in half
precision, with the batch that the robot uses. An engine built so cannot be run or even loaded without a GPU.

    bash .ci/rtx            # makes an environment from requirements/rtx.txt, kept for the next time, and runs this file

Torch-TensorRT asks for a GPU when it is imported and after it has built. What it asks is answered here by stand-ins:
properties of an RTX 4090, and an engine that is kept as bytes instead of being loaded (seen with 2.13.0).
"""
from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hand_pose_ros.errors import HandPoseError  # noqa: E402
from hand_pose_ros.runtimes import POSE_ACCURATE, POSE_QUICK, Options, tensorrt  # noqa: E402
from hand_pose_ros.runtimes.build import DETECTOR  # noqa: E402
from hand_pose_ros.runtimes.cache import EngineCache  # noqa: E402
from hand_pose_ros.runtimes.source import from_model  # noqa: E402

MODELS = (("detector", DETECTOR), ("pose", POSE_QUICK), ("pose", POSE_ACCURATE))


class KeptEngine:
    """Stands for the engine that torch_tensorrt would load: knows only its own bytes."""

    def __init__(self, payload) -> None:
        self.payload = bytes(payload)

    def serialize(self) -> bytes:
        return self.payload


def import_without_gpu():
    """torch_tensorrt, imported on a machine without a GPU."""
    card = SimpleNamespace(name="NVIDIA GeForce RTX 4090", major=8, minor=9, total_memory=24 << 30,
                           multi_processor_count=128)
    answers = {"get_device_properties": card, "get_device_capability": (8, 9), "get_device_name": card.name,
               "current_device": 0, "device_count": 1, "is_available": False, "set_device": None, "synchronize": None,
               "empty_cache": None, "mem_get_info": (20 << 30, 24 << 30)}
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *args, answer=answer, **kwargs: answer)
    if not hasattr(torch._C, "_CudaDeviceProperties"):
        torch._C._CudaDeviceProperties = object
    is_file = os.path.isfile                                # libtorchtrt*.so runs engines, and needs a driver to load
    os.path.isfile = lambda path: "libtorchtrt" not in str(path) and is_file(path)
    try:
        torch_tensorrt = tensorrt.import_torch_tensorrt()
        from torch_tensorrt.dynamo.conversion import _TRTInterpreter as interpreter
    finally:
        os.path.isfile = is_file
    interpreter.trt.Runtime = lambda *args: SimpleNamespace(deserialize_cuda_engine=KeptEngine)
    return torch_tensorrt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs=2, action="append", metavar=("KIND", "NAME"),
                        help="default: " + ", ".join(" ".join(pair) for pair in MODELS))
    parser.add_argument("--max-batch", type=int, default=4)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    try:
        torch_tensorrt = import_without_gpu()
    except HandPoseError as error:
        print(f"rtx_build_check: {error}", file=sys.stderr)
        return 1
    print(f"torch {torch.__version__}, torch_tensorrt {torch_tensorrt.__version__}")
    with tempfile.TemporaryDirectory() as scratch:          # for TensorRT's timing cache; no engine is stored
        cache = EngineCache(scratch)
        built = [builds(kind, model, Options(precision=precision, max_batch=args.max_batch, cache=cache))
                 for kind, model in args.model or MODELS for precision in ("fp16", "fp32")]
    return 0 if all(built) else 1


def builds(kind: str, model: str, options: Options) -> bool:
    """Whether the whole network becomes one engine; prints a line. Torch-TensorRT raises for an operation without a
    converter, since nothing may stay behind in torch."""
    started = time.monotonic()
    try:
        engine = tensorrt.compile_engine(from_model(kind, model), options, device="cpu")
    except Exception as error:                              # torch.export raises types of its own
        print(f"FAIL {model} {options.precision}: {type(error).__name__}: {error}", flush=True)
        return False
    print(f"PASS {model} {options.precision}: one engine of {len(engine) / 1e6:.1f} MB in "
          f"{time.monotonic() - started:.1f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
