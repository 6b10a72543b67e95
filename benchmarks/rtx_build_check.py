"""Builds a TensorRT-RTX engine of every shipped network on a machine without a GPU, and fails below full coverage.

For CI: shows that torch.export, Torch-TensorRT's converters and TensorRT's builder take every network whole, in half
precision, with the batch that the robot uses. An engine built so cannot be run or even loaded without a GPU.

    python3 -m venv rtx && rtx/bin/pip install torch==2.13.0 torch-tensorrt-rtx==2.13.0 tensorrt-rtx==1.5.0.114 \\
        numpy opencv-python-headless safetensors psutil
    rtx/bin/python benchmarks/rtx_build_check.py

Torch-TensorRT asks for a GPU when it is imported and after it has built. What it asks is answered here by stand-ins:
properties of an RTX 4090, and an engine that is kept as bytes instead of being loaded (seen with 2.13.0).
"""
from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MODELS = (("detector", "detector_light"), ("pose", "pose_light"))


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
        import torch_tensorrt
        from torch_tensorrt.dynamo.conversion import _TRTInterpreter as interpreter
    finally:
        os.path.isfile = is_file
    interpreter.trt.Runtime = lambda *args: SimpleNamespace(deserialize_cuda_engine=KeptEngine)
    return torch_tensorrt


def build(torch_tensorrt, kind: str, model: str, precision: str, max_batch: int) -> bytes:
    """A serialised engine of the whole network. Raises what Torch-TensorRT raises if an operation has no converter."""
    from hand_pose_ros.runtimes import Options, tensorrt
    from hand_pose_ros.runtimes.source import from_model
    source, options = from_model(kind, model), Options(precision=precision, max_batch=max_batch)
    program, _ = tensorrt.exported_program(source, options, device="cpu")
    build_engine = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine
    arguments = tensorrt.supported_arguments(build_engine, tensorrt.COMPILE_OPTIONS)
    described = tensorrt.described_input(torch_tensorrt, source, options)
    return build_engine(program, arg_inputs=[described], **arguments)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs=2, action="append", metavar=("KIND", "NAME"),
                        help="default: " + ", ".join(" ".join(pair) for pair in MODELS))
    parser.add_argument("--max-batch", type=int, default=4)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch_tensorrt = import_without_gpu()
    print(f"torch {torch.__version__}, torch_tensorrt {torch_tensorrt.__version__}")
    failures = 0
    for kind, model in args.model or MODELS:
        for precision in ("fp16", "fp32"):
            started = time.monotonic()
            try:
                engine = build(torch_tensorrt, kind, model, precision, args.max_batch)
                print(f"PASS {model} {precision}: one engine of {len(engine) / 1e6:.1f} MB in "
                      f"{time.monotonic() - started:.1f} s", flush=True)
            except Exception as error:                      # every kind of refusal is a failed line, not a traceback
                failures += 1
                print(f"FAIL {model} {precision}: {type(error).__name__}: {error}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
