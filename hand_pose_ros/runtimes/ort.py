"""ONNX Runtime: the rung for robots without a GPU.

The network is exported once from its weights into the cache; from then on neither torch nor an exporter is imported.
"""
from __future__ import annotations

import io
import warnings

import numpy as np

from ..errors import ModelError, pip_install
from . import host
from .agreement import refuse_disagreement
from .base import NotBuilt, Options, Runtime, not_refused
from .cache import Entry
from .eager import Eager
from .source import NetworkSource, crops_sha256

OPSET = 17
INPUT = "crops"
DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})
"""Instruction sets, as Linux names them, with which 8 bits are faster than 32."""
SESSION_CONFIG = {
    "session.set_denormal_as_zero": "1",             # denormals in near-black activations cost 10 x and mean nothing
}


class OnnxRuntime(Runtime):
    """One ONNX Runtime session over an exported network."""

    def __init__(self, source: NetworkSource, model: bytes, options: Options, provider: str, name: str) -> None:
        import onnxruntime
        super().__init__(source, source.batch_limit(options.max_batch))
        self.name = name
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads or host.default_threads()
        settings.inter_op_num_threads = 1
        settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(options.spinning)))
        settings.add_session_config_entry("session.force_spinning_stop", "1")       # never between two calls
        for key, value in SESSION_CONFIG.items():
            settings.add_session_config_entry(key, value)
        providers = [provider] if provider == "CPUExecutionProvider" else [provider, "CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(model, settings, providers=providers)
        if self.session.get_providers()[0] != provider:
            raise ModelError(f"runtime {name}: ONNX Runtime did not start its {provider} (CUDA or cuDNN of another "
                             f"version than onnxruntime-gpu {onnxruntime.__version__} needs)")

    def warm_up(self) -> None:
        """The largest call, once: memory grows with it and never again, and no frame waits for that."""
        self(np.zeros((self.max_batch, *self.source.input_shape), np.uint8))

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(self.session.run(None, {INPUT: np.ascontiguousarray(batch)}))


def export(source: NetworkSource) -> bytes:
    """The network as an ONNX model with a free batch dimension. Needs torch, and its ONNX exporter.

    The TorchScript exporter comes first: it takes 0.4 s where the dynamo exporter takes 5 s, and does not need
    onnxscript. The dynamo exporter serves torch versions without the other. Raises ModelError if both fail.
    """
    import torch
    module = source.module().eval()
    example = torch.zeros((2, *source.input_shape), dtype=torch.uint8)
    names = list(source.outputs)
    failures = []
    for dynamo in (False, True):
        buffer = io.BytesIO()
        shapes = ({"dynamic_shapes": ({0: torch.export.Dim("n", min=1, max=64)},)} if dynamo else
                  {"dynamic_axes": {name: {0: "n"} for name in [INPUT, *names]}, "opset_version": OPSET})
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                torch.onnx.export(module, (example,), buffer, dynamo=dynamo, input_names=[INPUT], output_names=names,
                                  **shapes)
            return buffer.getvalue()
        except Exception as error:                   # exporters raise types of their own, which differ by version
            failures.append(f"{'dynamo' if dynamo else 'TorchScript'} exporter: {type(error).__name__}: {error}")
    raise ModelError(f"{source.model} cannot be exported to ONNX with torch {torch.__version__}: "
                     + "; ".join(failures) + f" ({pip_install('onnx', 'onnxscript')}, or runtime:=cpu)")


def onnx_problem() -> str:
    """Why ONNX Runtime cannot run here, "" if it can."""
    if host.version("onnxruntime") or host.version("onnxruntime-gpu"):
        return ""
    return f"onnxruntime is not installed ({pip_install('onnxruntime')})"


def int8_problem() -> str:
    """Why 8 bits would not be faster on this processor, "" if they are."""
    if host.processor_flags() & DOT_PRODUCTS:
        return ""
    return f"this processor has none of {', '.join(sorted(DOT_PRODUCTS))}: 8 bits are no faster than 32"


def built(source: NetworkSource, options: Options) -> Entry:
    """The exported network from the cache; exported, compared with eager and stored if it is not there yet.

    Raises ModelError if it cannot be exported or does not agree with eager.
    """
    def build() -> tuple[bytes, dict]:
        problem = host.torch_problem()
        if problem:
            raise ModelError(f"{source.model} must be exported to ONNX once, and {problem}")
        options.report(f"exporting {source.model} to ONNX")
        model = export(source)
        candidate = OnnxRuntime(source, model, options, "CPUExecutionProvider", "onnxruntime")
        difference = refuse_disagreement(candidate, Eager(source, options))
        return model, {"agreement": difference}

    return options.cache.get_or_build(_ingredients(source, "fp32"), build)


def _ingredients(source: NetworkSource, precision: str) -> dict[str, str]:
    return {**source.key_ingredients("onnxruntime", precision, "any", {"opset": OPSET}), **host.cpu_ingredients()}


def int8_ingredients(source: NetworkSource) -> dict[str, str]:
    """Under what a quantised network is stored."""
    return {**_ingredients(source, "int8"), "crops": crops_sha256()}


def open_cpu(source: NetworkSource, options: Options) -> Runtime:
    """The network in ONNX Runtime on the CPU. Raises ModelError if it is not installed or the export fails."""
    problem = onnx_problem()
    if problem:
        raise ModelError(f"runtime onnxruntime: {problem}")
    return _opened(source, options, built(source, options), "onnxruntime")


def open_int8(source: NetworkSource, options: Options) -> Runtime:
    """The quantised network in ONNX Runtime on the CPU; quantised now, on the sample bag, if it was not yet.

    Raises ModelError if it cannot run or be quantised here, NotBuilt if ``options.live`` asks not to wait for it.
    """
    problem = onnx_problem() or (int8_problem() if options.live else "")
    if problem:
        raise ModelError(f"runtime onnxruntime-int8: {problem}")
    entry = options.cache.get(int8_ingredients(source))
    if entry is not None:
        not_refused(entry, source, "int8")
    else:
        from . import int8
        problem = int8.build_problem()
        if problem:
            raise ModelError(f"runtime onnxruntime-int8: {source.model} is not quantised for this machine: {problem}")
        if options.live:
            raise NotBuilt(f"runtime onnxruntime-int8: {source.model} is not quantised for this machine yet")
        entry = int8.built(source, options)
    return _opened(source, options, entry, "onnxruntime-int8")


def _opened(source: NetworkSource, options: Options, entry: Entry, name: str) -> Runtime:
    runtime = OnnxRuntime(source, entry.payload, options, "CPUExecutionProvider", name)
    runtime.info = dict(entry.info)
    runtime.warm_up()
    return runtime


def open_cuda(source: NetworkSource, options: Options) -> Runtime:
    """The network in ONNX Runtime's CUDA provider, compared with eager. Raises ModelError without onnxruntime-gpu."""
    problem = onnx_problem() or host.driver_problem()
    if not problem:
        import onnxruntime
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            problem = "this onnxruntime has no CUDA provider (pip install onnxruntime-gpu)"
    if problem:
        raise ModelError(f"runtime onnxruntime-cuda: {problem}")
    entry = built(source, options)
    if hasattr(onnxruntime, "preload_dlls"):            # CUDA of pip wheels is found only if torch was imported, or so
        onnxruntime.preload_dlls()
    runtime = OnnxRuntime(source, entry.payload, options, "CUDAExecutionProvider", "onnxruntime-cuda")
    runtime.info = {"agreement": refuse_disagreement(
        runtime, OnnxRuntime(source, entry.payload, options, "CPUExecutionProvider", "onnxruntime"))}
    return runtime
