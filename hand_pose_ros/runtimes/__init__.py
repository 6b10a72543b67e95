"""One network, several runtimes: torch eager, Torch-TensorRT, ONNX Runtime. Start reading at ladder.py."""
from __future__ import annotations

from typing import Sequence

from ..errors import ModelError
from . import host
from .base import Options, Runtime

AUTO = "auto"
ON_GPU = ("tensorrt", "cuda", "onnxruntime-cuda")
"""Runtimes of ``ladder.RUNTIMES`` that compute on a GPU."""
POSE_ACCURATE, POSE_QUICK = "pose_light_224", "pose_light"
"""The pose networks that ship: the first is nearer to the joints, for twice the operations."""


def load(kind: str, model: str, runtime: str = "auto", options: Options | None = None) -> Runtime:
    """The network of ``models/<model>`` as a callable: (N, H, W, 3) uint8 -> tuple of float32 arrays.

    kind: "pose" or "detector". runtime: "auto" or a name in ``ladder.RUNTIMES``. The result's ``.name`` is the rung
    that serves and ``.reason`` says why higher rungs do not. Raises ConfigError for an unknown kind or runtime,
    ModelError if the model folder cannot be used or the runtime cannot run it.
    """
    from .ladder import climb
    from .source import from_model
    try:
        return climb(from_model(kind, model), runtime, options or Options())
    except ModelError as error:
        if runtime == AUTO or not str(error).startswith(f"runtime {runtime}: "):
            raise
        raise type(error)(f"{error}; runtime auto takes what works here") from error


def pose_model(model: str, runtime: str) -> str:
    """The model that "auto" stands for in this runtime: the accurate one on a GPU, the quick one on a CPU, of which a
    live camera leaves no time for the other. Any other name as it is. Loads no network."""
    if model != AUTO:
        return model
    on_gpu = not host.cuda_problem() if runtime == AUTO else runtime in ON_GPU
    return POSE_ACCURATE if on_gpu else POSE_QUICK


def load_pose(model: str, runtime: str = AUTO, options: Options | None = None) -> Runtime:
    """The pose network, as ``load`` gives it; model "auto": see ``pose_model``. If runtime "auto" finds that the GPU
    runs it in no way, with no engine that is being built either, the quick one serves on the CPU."""
    name = pose_model(model, runtime)
    if not model == runtime == AUTO or name != POSE_ACCURATE:
        return load("pose", name, runtime, options)
    from .ladder import first_that_opens, improving
    from .source import from_model
    options = options or Options()
    opened, unbuilt = first_that_opens(from_model("pose", name), options)
    if not {opened.name, unbuilt} & set(ON_GPU):
        return load("pose", POSE_QUICK, runtime, options)
    return improving(opened, unbuilt, options)


def served_pose_model(model: str, runtime: str, options: Options | None = None) -> str:
    """The model that ``load_pose`` serves. Builds nothing."""
    name = pose_model(model, runtime)
    if model == runtime == AUTO and name == POSE_ACCURATE:
        from .ladder import forecast
        from .source import from_model
        serving, target, _ = forecast(from_model("pose", name), runtime, options or Options())
        if not {serving, target} & set(ON_GPU):
            return POSE_QUICK
    return name


def in_full(networks: Sequence[Runtime]) -> str:
    """What runs the networks and, in brackets, why not a faster one; network by network where they differ."""
    told = [f"{network.name} ({network.reason})" if network.reason else network.name for network in networks]
    if len(set(told)) <= 1:
        return told[0] if told else ""
    return "; ".join(f"{network.source.model}: {text}" for network, text in zip(networks, told))


def looks(detector: Runtime, pose: Runtime) -> tuple:
    """``detect.Detector.look`` and ``pipeline.Pipeline.look`` for networks that run on a GPU, or will once their engine
    is built: the frame goes up once for both. None for a network that stays on the CPU."""
    on_cpu = [network.device == "cpu" and getattr(network, "target", "") not in ON_GPU for network in (detector, pose)]
    if all(on_cpu):
        return None, None
    from .gpu_frame import DeviceDense, DeviceLook, Uploaded
    uploaded = Uploaded()
    return (None if on_cpu[0] else DeviceDense(detector, uploaded), None if on_cpu[1] else DeviceLook(pose, uploaded))
