"""A serialised TensorRT engine as a callable on tensors, through TensorRT's own Python interface.

Torch-TensorRT builds the engine; running it needs TensorRT alone. So a start does not wait for torch_tensorrt to be
imported, and what lies in the cache does not depend on a file format of torch.export.
"""
from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from . import host

if TYPE_CHECKING:
    import torch


def import_tensorrt():
    """The module ``tensorrt``, or ``tensorrt_rtx`` where Torch-TensorRT's RTX flavour is installed (it then builds).

    Raises ModelError if it does not load.
    """
    name = "tensorrt_rtx" if host.version("torch-tensorrt-rtx") else "tensorrt"
    try:
        return importlib.import_module(name)
    except Exception as error:                       # missing libraries, another CUDA: various types
        raise ModelError(f"runtime tensorrt: {name} does not load ({type(error).__name__}: {error}); install the "
                         f"version that torch-tensorrt asks for, see docs/jetson.md") from error


@dataclass(frozen=True, eq=False)
class _Bound:
    """An execution context with one batch size and the tensors it writes to. One each, since a CUDA graph that was
    captured from a context must not outlive a change of its shapes."""

    context: Any
    outputs: tuple[torch.Tensor, ...]
    captures_itself: bool


class Engine:
    """An engine with one input, its batch free, and outputs named output0, output1, ... as Torch-TensorRT names them.

    payload: the engine as bytes. trt: ``import_tensorrt()``. device: where tensors are; "cpu" for tests. Raises
    ModelError if TensorRT refuses the bytes: an engine of another GPU or version.
    """

    def __init__(self, payload: bytes, trt, device: str = "cuda") -> None:
        self._trt, self._device = trt, device
        self._logger = trt.Logger(trt.Logger.ERROR)  # TensorRT does not keep it alive
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(payload)
        if self._engine is None:
            raise ModelError("TensorRT refuses the engine: it was built for another GPU or version")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        if len(inputs) != 1:
            raise ModelError(f"the engine has the inputs {inputs}, not one")
        self._input = inputs[0]
        self._outputs = sorted((name for name in names if name != self._input),
                               key=lambda name: int(re.search(r"\d+$", name).group()))
        self._bound: dict[int, _Bound] = {}

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """images: (N, H, W, 3) uint8, contiguous. Runs on the current stream; the outputs are overwritten by the next
        call with the same N. Raises RuntimeError if TensorRT does not run it, or not in a CUDA graph that is being
        captured."""
        bound = self._bound.get(len(images)) or self._bind(tuple(images.shape))
        if bound.captures_itself and _capturing():
            raise RuntimeError("TensorRT-RTX captures this engine in a graph of its own")
        bound.context.set_tensor_address(self._input, images.data_ptr())
        if not bound.context.execute_async_v3(self._stream()):
            raise RuntimeError(f"TensorRT did not run the engine for {tuple(images.shape)}")
        return bound.outputs

    def _stream(self) -> int:
        import torch
        return torch.cuda.current_stream().cuda_stream if self._device == "cuda" else 0

    def _bind(self, shape: tuple[int, ...]) -> _Bound:
        """A context for this shape, with its outputs allocated. Raises RuntimeError if the engine does not take it."""
        import torch
        context, own_graph = self._context(own_graph=False), False
        self._shaped(context, shape)
        if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(self._stream()):
            context, own_graph = self._context(own_graph=True), True
            self._shaped(context, shape)
        outputs = []
        for name in self._outputs:
            kind = getattr(torch, {"FLOAT": "float32", "HALF": "float16"}[self._engine.get_tensor_dtype(name).name])
            outputs.append(torch.empty(tuple(context.get_tensor_shape(name)), dtype=kind, device=self._device))
            context.set_tensor_address(name, outputs[-1].data_ptr())
        self._bound[shape[0]] = _Bound(context, tuple(outputs), own_graph)
        return self._bound[shape[0]]

    def _shaped(self, context, shape: tuple[int, ...]) -> None:
        if not context.set_input_shape(self._input, shape):
            raise RuntimeError(f"the engine does not take {shape}")

    def _context(self, own_graph: bool):
        """An execution context. TensorRT-RTX compiles its kernels in it, by default in the background while slower
        ones serve: here at once, so that what is measured and captured is what serves."""
        if not hasattr(self._trt, "DynamicShapesKernelSpecializationStrategy"):
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        if own_graph:
            config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return self._engine.create_execution_context(config)


def _capturing() -> bool:
    import torch
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
