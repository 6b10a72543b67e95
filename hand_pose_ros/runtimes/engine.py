"""A serialised TensorRT engine as a callable on tensors, through TensorRT's own Python interface.

Torch-TensorRT builds the engine; running it needs TensorRT alone. So a start does not wait for torch_tensorrt to be
imported, and what lies in the cache does not depend on a file format of torch.export.
"""
from __future__ import annotations

import collections
import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from . import host
from .base import Refused

if TYPE_CHECKING:
    import torch

PASSING = re.compile(r"out ?of ?memory|MemoryError|bad_alloc|memory ?allocation|to allocate|no space left|"
                     r"illegal memory access|launch failure|insufficient|could not be allocated|alloc_failed|"
                     r"NVML_SUCCESS|initiali[sz]ation failure|cuda runtime", re.I)
"""What TensorRT and torch say where memory or disk is short (on a Jetson torch as an assertion on NVML), or where CUDA
has broken down before: another start may go well. Whatever else they refuse, they refuse each time."""
NO_KERNEL_LEFT = "could not find any implementation"
"""What TensorRT says where it knows no kernel for an operation; on a Jetson, also where memory was short for all."""
ERRORS_KEPT = 8


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


def kind_of(said: str) -> type[ModelError]:
    """The error for what TensorRT did not do, by the reason it gave: Refused, or ModelError where another start may go
    well or the reason is not known ("")."""
    passing = PASSING.search(said) or NO_KERNEL_LEFT in said.lower() and host.on_jetson()
    return Refused if said and not passing else ModelError


def errors_kept(trt):
    """A logger of TensorRT that keeps the newest errors in ``said``. Not a subclass of trt.Logger: TensorRT does not
    call what Python overrides there."""
    class Kept(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said = collections.deque(maxlen=ERRORS_KEPT)

        def log(self, severity, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.said.append(message)

    return Kept()


@dataclass(frozen=True, eq=False)
class _Bound:
    """An execution context with one batch size and the tensors it writes to. One each, since a CUDA graph that was
    captured from a context must not outlive a change of its shapes."""

    context: Any
    outputs: tuple[torch.Tensor, ...]
    captures_itself: bool


class Engine:
    """An engine with one input, its batch free, and outputs named output0, output1, ... as Torch-TensorRT names them.

    payload: the engine as bytes. trt: ``import_tensorrt()``. device: where tensors are; "cpu" for tests. kernels: what
    ``kernels()`` gave for the same engine in another process, b"" if that is not known. Raises Refused if TensorRT does
    not take the bytes: an engine of another GPU or version; ModelError if memory is short.
    """

    def __init__(self, payload: bytes, trt, device: str = "cuda", kernels: bytes = b"") -> None:
        self._trt, self._device, self._known_kernels = trt, device, kernels
        self._logger = errors_kept(trt)              # TensorRT does not keep it alive
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(payload)
        if self._engine is None:
            said = "; ".join(filter(None, (self._validity(payload), self._said()))) or "it does not say why"
            if kind_of(said) is Refused:
                raise Refused(f"TensorRT refuses the engine: it was built for another GPU or version ({said})")
            raise ModelError(f"TensorRT does not load the engine ({said})")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        if len(inputs) != 1:
            raise ModelError(f"the engine has the inputs {inputs}, not one")
        self._input = inputs[0]
        self._outputs = sorted((name for name in names if name != self._input),
                               key=lambda name: int(re.search(r"\d+$", name).group()))
        self._bound: dict[int, _Bound] = {}
        self._kernels: Any = None                    # a runtime cache, which must outlive the contexts that use it

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """images: (N, H, W, 3) uint8, contiguous. Runs on the current stream; the outputs are overwritten by the next
        call with the same N. Raises RuntimeError for a shape that the engine does not take and for what cannot be
        captured in a CUDA graph; Refused if TensorRT does not run the engine and says why, ModelError if memory is
        short."""
        bound = self._bound.get(len(images)) or self._bind(tuple(images.shape))
        if bound.captures_itself and _capturing():
            raise RuntimeError("TensorRT-RTX captures this engine in a graph of its own")
        bound.context.set_tensor_address(self._input, images.data_ptr())
        if not bound.context.execute_async_v3(self._stream()):
            said = self._said()
            kind = RuntimeError if _capturing() else kind_of(said)
            raise kind(f"TensorRT did not run the engine for {tuple(images.shape)} ({said or 'it does not say why'})")
        return bound.outputs

    def kernels(self) -> bytes:
        """What TensorRT-RTX has compiled for this engine at run time; b"" if that is nothing more than was given, or
        this flavour compiles nothing then."""
        stored = self._kernels.serialize() if self._kernels is not None else None
        made = b"" if stored is None else bytes(memoryview(stored))
        return b"" if len(made) == len(self._known_kernels) else made

    def _said(self) -> str:
        """TensorRT's newest errors, in one line."""
        return "; ".join(" ".join(message.split()) for message in self._logger.said)

    def _validity(self, payload: bytes) -> str:
        """What TensorRT-RTX thinks of an engine here, "" where the bindings do not tell."""
        if not hasattr(self._runtime, "get_engine_validity"):
            return ""
        validity, diagnostics = self._runtime.get_engine_validity(payload)
        return f"validity {validity.name}, diagnostics {diagnostics:#x}"

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
        ones serve: here at once, so that what is measured and captured is what serves. All contexts share what they
        have compiled. Raises Refused if TensorRT gives none and says why, ModelError if not or if memory is short."""
        # dir(): a stand-in that Torch-TensorRT may have put there prints when it is asked for what it lacks.
        if "DynamicShapesKernelSpecializationStrategy" in dir(self._trt):
            config = self._engine.create_runtime_config()
            strategies = self._trt.DynamicShapesKernelSpecializationStrategy
            config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
            if own_graph:
                config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self._share_kernels(config)
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            said = self._said()
            raise kind_of(said)(f"TensorRT gives no execution context ({said or 'out of memory?'})")
        return context

    def _share_kernels(self, config) -> None:
        """One cache of kernels for all contexts, with those of earlier starts: without it each start compiles again."""
        if not hasattr(config, "create_runtime_cache"):
            return
        if self._kernels is None:
            self._kernels = config.create_runtime_cache()
            if self._known_kernels and not self._kernels.deserialize(self._known_kernels):
                self._kernels.reset()                # of another version: compiled anew
                self._known_kernels = b""
        config.set_runtime_cache(self._kernels)


def _capturing() -> bool:
    import torch
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
