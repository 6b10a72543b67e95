"""torch eager on the CPU or a GPU: the readable twin of every other runtime, and the rung that always works.

On a GPU the network runs in half precision inside CUDA graphs, one per batch size, with fixed buffers: one upload of
the crops, one replay, one download of all outputs (https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""
from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Callable

import numpy as np

from ..errors import ModelError
from . import host
from .agreement import refuse_disagreement
from .base import HALF_REFUSED, Options, Runtime
from .source import NetworkSource

if TYPE_CHECKING:
    import torch

CAPTURING = threading.RLock()
"""Held while a CUDA graph is captured or an engine is loaded: both wait for the whole GPU, which is forbidden while
another thread captures. Serving frames does not need it."""
WARM_UP_RUNS = 3
"""Runs before capture: cuDNN picks its algorithms and libraries allocate their workspaces in the first ones."""


class Eager(Runtime):
    """The module as it is, float32: on the CPU the reference that other runtimes are compared with, and a rung."""

    name = "cpu"

    def __init__(self, source: NetworkSource, options: Options, device: str = "cpu") -> None:
        import torch
        super().__init__(source, source.batch_limit(options.max_batch))
        if options.threads and device == "cpu":
            torch.set_num_threads(options.threads)
        self.device = device
        self.module = source.module().eval().to(device, memory_format=torch.channels_last)

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        import torch
        with torch.inference_mode():
            outputs = self.module(torch.from_numpy(np.ascontiguousarray(batch)).to(self.device))
        return tuple(output.float().cpu().numpy() for output in as_tuple(outputs))


def as_tuple(outputs) -> tuple:
    """Outputs of a module as a tuple, also where the module returns one tensor."""
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


@dataclass(frozen=True, eq=False)
class _Step:
    """Fixed buffers of one batch size, and the function that computes ``packed`` from ``images`` on the stream."""

    images: torch.Tensor                             # (N, H, W, 3) uint8, GPU
    pinned: torch.Tensor                             # the same, page-locked CPU memory
    packed: torch.Tensor                             # all outputs one after the other, float32, GPU
    download: torch.Tensor                           # the same, page-locked CPU memory
    shapes: tuple[tuple[int, ...], ...]              # of the outputs
    replay: Callable[[], None]


def unpacked(values: np.ndarray, shapes: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, ...]:
    """One flat array cut into arrays of the given shapes, in order: the outputs come down in one copy."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return tuple(part.reshape(shape) for part, shape in zip(np.split(values, ends[:-1]), shapes))


class GraphedCuda(Runtime):
    """A torch callable on the GPU, replayed as one CUDA graph per batch size; ``name`` says which callable.

    ``info["cuda_graphs"]`` is "yes", or "no" and why: then the callable is run anew each time.
    """

    device = "cuda"

    def __init__(self, source: NetworkSource, forward, max_batch: int, name: str) -> None:
        import torch
        super().__init__(source, max_batch)
        self.name = name
        self._forward = forward
        self._stream = torch.cuda.Stream()
        self._steps: dict[int, _Step] = {}
        self._failed: list = []                      # graphs whose capture failed: torch may still point to them

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        import torch
        step = self._step(len(batch))
        step.pinned.numpy()[...] = batch
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            step.images.copy_(step.pinned, non_blocking=True)
            step.replay()
            step.download.copy_(step.packed, non_blocking=True)
        self._stream.synchronize()
        return unpacked(step.download.numpy().copy(), step.shapes)

    def run_on_device(self, images) -> tuple[np.ndarray, ...]:
        """As ``run`` for (N, H, W, 3) uint8 crops that are on the GPU already, written on the current stream."""
        import torch
        step = self._step(len(images))
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            step.images.copy_(images)
            step.replay()
            step.download.copy_(step.packed, non_blocking=True)
        self._stream.synchronize()
        return unpacked(step.download.numpy().copy(), step.shapes)

    def warm_up(self) -> None:
        """Runs and captures every batch size once. Raises ModelError for values that are not finite."""
        for count in range(1, self.max_batch + 1):
            outputs = self.run(np.zeros((count, *self.source.input_shape), np.uint8))
            if not all(np.isfinite(output).all() for output in outputs):
                raise ModelError(f"{self.name} gives values that are not finite for {self.source.model}")

    def _step(self, count: int) -> _Step:
        if count not in self._steps:
            self._steps[count] = self._prepared(count)
        return self._steps[count]

    def _prepared(self, count: int) -> _Step:
        """Buffers and, if the callable can be captured, the CUDA graph of one batch size."""
        import torch
        shape = (count, *self.source.input_shape)
        images = torch.zeros(shape, dtype=torch.uint8, device="cuda")
        pinned = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream())
        # Before torch 2.8 the first run of a new shape must not fall into the capture of another network.
        with CAPTURING, torch.inference_mode(), torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_RUNS):
                outputs = as_tuple(self._forward(images))
            shapes = tuple(tuple(output.shape) for output in outputs)
            packed = torch.cat([output.reshape(-1).float() for output in outputs])
        self._stream.synchronize()

        def forward() -> None:
            packed.copy_(torch.cat([output.reshape(-1).float() for output in as_tuple(self._forward(images))]))

        replay, stream = forward, torch.cuda.current_stream()
        with CAPTURING:
            graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
            try:
                # thread_local: another thread may be serving frames meanwhile, and may allocate
                with torch.inference_mode(), torch.cuda.graph(graph, pool=pool, stream=self._stream,
                                                              capture_error_mode="thread_local"):
                    forward()
                replay = graph.replay
                self.info["cuda_graphs"] = "yes"
            except RuntimeError as error:            # what a library does inside may be forbidden during capture
                # Where the capture's end fails, torch 2.11 leaves neither its own stream nor the graph's memory, and
                # goes on asking the graph which allocations are its own.
                torch.cuda.set_stream(stream)
                self._failed.append(graph)
                with contextlib.suppress(Exception):
                    end = getattr(torch._C, "_cuda_endAllocateToPool", None) \
                        or torch._C._cuda_endAllocateCurrentStreamToPool        # its name before torch 2.8
                    end(torch.cuda.current_device(), pool)
                torch.cuda.synchronize()
                self.info["cuda_graphs"] = f"no: {str(error).splitlines()[0]}"
        return _Step(images, pinned, packed, torch.empty(packed.shape, pin_memory=True), shapes, replay)


def open_cpu(source: NetworkSource, options: Options) -> Runtime:
    """The network in torch eager on the CPU. Raises ModelError without torch."""
    problem = host.torch_problem()
    if problem:
        raise ModelError(f"runtime cpu: {problem}")
    return Eager(source, replace(options, threads=options.threads or host.default_threads()))


def open_cuda(source: NetworkSource, options: Options) -> Runtime:
    """The network in torch on the GPU, in CUDA graphs: half precision if it then says what float32 says.

    Half precision that disagrees is refused; ``info[HALF_REFUSED]`` says why and float32 serves, unless
    ``options.precision`` asks for fp16 by name. Raises ModelError then, and without a usable GPU.
    """
    problem = host.cuda_problem()
    if problem:
        raise ModelError(f"runtime cuda: {problem}")
    import torch
    torch.backends.cudnn.benchmark = True            # shapes are fixed, so trying the algorithms once pays
    torch.backends.cudnn.allow_tf32 = False          # float32 shall be that, with 24 bits of mantissa and not 11
    reference = Eager(source, options)               # on the CPU: a GPU would agree with its own mistakes
    limit = source.batch_limit(options.max_batch)
    refused = ""
    if options.precision != "fp32":
        # the network casts its input to the type of its weights
        half = source.module().eval().half().to("cuda", memory_format=torch.channels_last)
        runtime = GraphedCuda(source, half, limit, "cuda")
        try:
            runtime.info["agreement"] = refuse_disagreement(runtime, reference)
            return runtime
        except ModelError as error:
            if options.precision == "fp16":
                raise
            refused = str(error)
    runtime = GraphedCuda(source, Eager(source, options, "cuda").module, limit, "cuda")
    runtime.info["agreement"] = refuse_disagreement(runtime, reference)
    if refused:
        runtime.info[HALF_REFUSED] = refused
    return runtime
