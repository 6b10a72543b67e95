"""One network, several runtimes: torch eager, Torch-TensorRT, ONNX Runtime. Start reading at ladder.py."""
from __future__ import annotations

from .base import Options, Runtime


def load(kind: str, model: str, runtime: str = "auto", options: Options | None = None) -> Runtime:
    """The network of ``models/<model>`` as a callable: (N, H, W, 3) uint8 -> tuple of float32 arrays.

    kind: "pose" or "detector". runtime: "auto" or a name in ``ladder.RUNTIMES``. The result's ``.name`` is the rung
    that serves and ``.reason`` says why higher rungs do not. Raises ConfigError for an unknown kind or runtime,
    ModelError if the model folder cannot be used or the runtime cannot run it.
    """
    from .ladder import climb
    from .source import from_model
    return climb(from_model(kind, model), runtime, options or Options())


def look_on_device(pose: Runtime):
    """``pipeline.Pipeline.look`` for a pose network that runs on a GPU; None for one that runs on the CPU."""
    if pose.device == "cpu":
        return None
    from .gpu_frame import DeviceLook
    return DeviceLook(pose)
