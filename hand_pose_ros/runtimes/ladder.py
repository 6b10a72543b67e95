"""The ladder that always starts: the highest rung that works serves, and why the higher ones did not is kept."""
from __future__ import annotations

import dataclasses
import importlib
from typing import Callable

from ..errors import ConfigError, HandPoseError, ModelError, pip_install
from .background import Swapping, build_in_another_process
from .base import HALF_REFUSED, NotBuilt, Options, Runtime, brief
from .source import NetworkSource

RUNTIMES = {
    "tensorrt": ("tensorrt", "open_tensorrt", "Torch-TensorRT engine on the GPU, half precision"),
    "cuda": ("eager", "open_cuda", "torch on the GPU, half precision, CUDA graphs"),
    "onnxruntime": ("ort", "open_cpu", "ONNX Runtime on the CPU"),
    "onnxruntime-int8": ("ort", "open_int8", "ONNX Runtime on the CPU, convolutions in 8 bits"),
    "onnxruntime-cuda": ("ort", "open_cuda", "ONNX Runtime's CUDA provider"),
    "cpu": ("eager", "open_cpu", "torch eager on the CPU"),
}
"""Every runtime: module of this package, function ``(NetworkSource, Options) -> Runtime`` in it, one line of help."""

LADDER = ("tensorrt", "cuda", "onnxruntime-int8", "onnxruntime", "cpu")
"""Rungs that runtime "auto" tries, in order."""
LIVE_ONLY = ("onnxruntime-int8",)
"""Rungs that trade a little accuracy for latency, which only a live camera needs."""


def opener(runtime: str) -> Callable[[NetworkSource, Options], Runtime]:
    """The function that opens a network in this runtime. Raises ConfigError for an unknown name."""
    if runtime not in RUNTIMES:
        raise ConfigError(f"unknown runtime {runtime!r}: auto or one of {', '.join(RUNTIMES)}")
    module, function, _ = RUNTIMES[runtime]
    return getattr(importlib.import_module(f"{__package__}.{module}"), function)


def climb(source: NetworkSource, runtime: str, options: Options) -> Runtime:
    """The network in the given runtime, or for "auto" in the first rung of ``LADDER`` that opens.

    The reason of each rung passed over stands in ``.reason`` of what is returned. Raises ConfigError for an unknown
    name; ModelError, with the remedy, if a named runtime cannot run or, for "auto", no rung can. A runtime that is
    named is waited for while its engine is built; "auto" serves through a lower rung meanwhile if ``options.live``.
    """
    if runtime != "auto":
        return _open(runtime, source, dataclasses.replace(options, live=False))
    return improving(*first_that_opens(source, options), options)


def forecast(source: NetworkSource, runtime: str, options: Options) -> tuple[str, str, str]:
    """What ``climb`` would do with ``options.live``, building nothing: the runtime that would serve at first, the one
    that would be built in the background and take over ("" if none), and why higher rungs are passed over.

    Raises as ``climb`` does.
    """
    if runtime != "auto":
        opener(runtime)
        return runtime, "", ""
    opened, unbuilt = first_that_opens(source, dataclasses.replace(options, live=True))
    return opened.name, unbuilt, opened.reason


def first_that_opens(source: NetworkSource, options: Options) -> tuple[Runtime, str]:
    """The highest rung of ``LADDER`` that opens now, and the highest above it that only has to be built, or ""."""
    reasons: list[str] = []
    unbuilt = ""
    for rung in LADDER:
        if rung in LIVE_ONLY and not options.live:
            continue
        try:
            opened = _open(rung, source, options)
        except NotBuilt:
            unbuilt = unbuilt or rung
            continue
        except HandPoseError as error:
            reasons.append(brief(_without_prefix(str(error), rung)))
            if not options.live:                             # a node says it all in one line when it is loaded
                options.report(f"{source.model}: {rung} passed over: {reasons[-1]}")
            continue
        opened.passed_over = "; ".join(reasons)
        opened.reason = "; ".join(filter(None, (opened.passed_over, opened.reason)))
        if not options.live:
            options.report(f"{source.model}: serving through {opened.name}")
        return opened, unbuilt
    raise ModelError(f"{source.model} runs in no runtime: {'; '.join(reasons)}")


def _open(runtime: str, source: NetworkSource, options: Options) -> Runtime:
    """Opens one rung. What breaks inside a third-party library is a refusal of this rung, not of the program."""
    open_runtime = opener(runtime)
    try:
        opened = open_runtime(source, options)
        opened.reason = "; ".join(_own(opened))
        return opened
    except HandPoseError:
        raise
    except ModuleNotFoundError as error:
        raise ModelError(f"runtime {runtime}: the Python package {error.name} is missing here "
                         f"({pip_install((error.name or '').partition('.')[0])})") from error
    except Exception as error:
        raise ModelError(f"runtime {runtime}: {type(error).__name__}: {error}; "
                         f"choose another runtime or mend its installation") from error


def _own(opened: Runtime) -> list[str]:
    """What is to be said of a rung itself."""
    said = []
    if HALF_REFUSED in opened.info:
        why = brief(str(opened.info[HALF_REFUSED])).removesuffix("; choose another runtime")
        said.append(f"{opened.name} computes in single precision: {why}")
    if "not_stored" in opened.info:
        said.append(f"{opened.name} is made anew at every start: {opened.info['not_stored']}")
    return said


def improving(serving: Runtime, target: str, options: Options) -> Runtime:
    """``serving`` until the engine of the rung ``target`` is built in the background; for good if that is ""."""
    if not target:
        return serving
    source = serving.source

    def prepare() -> Runtime:
        build_in_another_process(source.kind, source.model, target, options)
        try:
            return _open(target, source, options)
        except NotBuilt as error:
            raise ModelError(f"what was built is not in {options.cache.folder}: look there for space and rights, or "
                             "set ROS_HOME to another folder") from error

    return Swapping(serving, prepare, options.report, target)


def _without_prefix(reason: str, rung: str) -> str:
    prefix = f"runtime {rung}: "
    return f"{rung}: {reason[len(prefix):] if reason.startswith(prefix) else reason}"
