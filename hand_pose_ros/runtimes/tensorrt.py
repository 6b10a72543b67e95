"""Torch-TensorRT, ahead of time: torch.export -> dynamo front end -> one serialised engine in the cache (engine.py).

The network is exported in half precision, typed explicitly: every operation runs in the type the network gives it. The
batch is free between 1 and ``max_batch``; CUDA graphs are captured per batch size when it is first used.
Torch-TensorRT's own engine cache stays off: its key leaves out operator arguments, GPU and TensorRT version.
"""
from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import inspect
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Iterator

from ..errors import ModelError
from . import host
from .agreement import refuse_disagreement
from .base import HALF_REFUSED, PART_ENDS, Disagreement, NotBuilt, Options, Refused, Runtime, brief, not_refused
from .cache import Entry, key_of
from .eager import CAPTURING, Eager, GraphedCuda
from .engine import ERRORS_KEPT, Engine, import_tensorrt, kind_of
from .source import NetworkSource

COMPILE_OPTIONS = {
    "min_block_size": 1,
    "require_full_compilation": True,                # a split network would copy between torch and TensorRT
    "use_explicit_typing": True,
    "truncate_double": True,
    "disable_tf32": True,                            # what serves where FP16 disagrees must have more than its mantissa
    "cache_built_engines": False,
    "reuse_cached_engines": False,
    "optimization_level": 3,
    "workspace_size": 1 << 30,                       # else all of the memory, which on a Jetson is the robot's
    "num_avg_timing_iters": 4,                       # timed while another network serves, and kept
}
LOGGERS = ("torch_tensorrt", "torch_tensorrt [TensorRT Conversion Context]")
"""Of Torch-TensorRT, and that under which it repeats what TensorRT says, which is no child of the first."""


def engine_problem() -> str:
    """Why Torch-TensorRT cannot build here, "" if nothing is known against it. Does not import it."""
    problem = host.driver_problem()                  # first: without a GPU nobody needs gigabytes of TensorRT
    if problem:
        return problem
    if not any(host.version(package) for package in ("torch-tensorrt", "torch-tensorrt-rtx")):
        return "torch_tensorrt is not installed (pip install torch-tensorrt, see docs/jetson.md on a Jetson)"
    return host.cuda_problem()


def import_torch_tensorrt():
    """The torch_tensorrt module. Raises ModelError if it is installed but does not load."""
    if host.version("tensorrt-rtx").startswith("1.4."):
        sys.modules.setdefault("tensorrt.plugin", None)     # this release lacks half of it, and torch_tensorrt looks
    try:
        import torch_tensorrt
    except Exception as error:                       # missing libnvinfer, another torch, no driver: various types
        found = host.version("torch-tensorrt-rtx") or host.version("torch-tensorrt")
        raise ModelError(f"runtime tensorrt: torch_tensorrt {found} does not load with torch "
                         f"{host.version('torch')} ({type(error).__name__}: {error}); install matching versions, "
                         f"see docs/jetson.md") from error
    return torch_tensorrt


def key_ingredients(source: NetworkSource, options: Options) -> dict[str, str]:
    """Everything the engine depends on; the GPU's part needs a usable torch with CUDA."""
    batch = f"1 to {source.batch_limit(options.max_batch)}"
    return {**source.key_ingredients("tensorrt", options.precision, batch, COMPILE_OPTIONS), **host.gpu_ingredients()}


def precision(options: Options) -> str:
    """fp16 unless the options say fp32; "auto" begins with fp16."""
    return "fp32" if options.precision == "fp32" else "fp16"


def exported_program(source: NetworkSource, options: Options, device: str):
    """The network through torch.export, batch free from 1 to ``max_batch`` (fixed to 1 if that is 1)."""
    import torch
    module = source.module().eval().to(device)
    if precision(options) == "fp16":
        module = module.half()
    limit = source.batch_limit(options.max_batch)
    example = torch.zeros((min(2, limit), *source.input_shape), dtype=torch.uint8, device=device)
    free = ({0: torch.export.Dim("batch", min=1, max=limit)},) if limit > 1 else None
    with torch.no_grad():
        return torch.export.export(module, (example,), dynamic_shapes=free)


def described_input(torch_tensorrt, source: NetworkSource, options: Options):
    """The shapes that the engine must take: one crop fastest, up to ``max_batch`` of them."""
    import torch
    limit, shape = source.batch_limit(options.max_batch), tuple(source.input_shape)
    if limit == 1:
        return torch_tensorrt.Input(shape=(1, *shape), dtype=torch.uint8)
    return torch_tensorrt.Input(min_shape=(1, *shape), opt_shape=(1, *shape), max_shape=(limit, *shape),
                                dtype=torch.uint8)


def compile_engine(source: NetworkSource, options: Options, device: str = "cuda") -> bytes:
    """Builds the engine for this GPU; minutes on a Jetson. Returns it serialised.

    device: where torch.export runs. Raises Refused if an operation has no converter or TensorRT refuses the network or
    this GPU, ModelError if it may go well another time.
    """
    torch_tensorrt = import_torch_tensorrt()
    limit = source.batch_limit(options.max_batch)
    options.report(f"{source.model}: torch.export")
    program = exported_program(source, options, device)
    options.report(f"{source.model}: TensorRT builds the engine ({precision(options)}, batch 1 to {limit})")
    convert = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine
    logged: collections.deque[str] = collections.deque(maxlen=ERRORS_KEPT)
    kept = _timings_file(options.cache.folder)
    for known in (kept.exists(), False):
        logged.clear()
        try:
            with _errors_logged(logged), _timings(kept, known) as timings:
                arguments = supported_arguments(convert, {**COMPILE_OPTIONS, "timing_cache_path": timings})
                return bytes(convert(program, arg_inputs=[described_input(torch_tensorrt, source, options)],
                                     **arguments))
        except Exception as error:
            parts = [f"{type(error).__name__}: {error}", *_causes(error), *logged]
            said, why = "; ".join(parts), "; ".join(dict.fromkeys(brief(part, PART_ENDS) for part in parts))
            unsaid = isinstance(error, UnboundLocalError) and not logged                # 2.8 trips over its own error
            kind = ModelError if unsaid or _is_passing(error) else kind_of(said)
            # Torch-TensorRT trips over timings that TensorRT does not take: what can be that is judged only when it did
            # without.
            doubted = not logged or "timing" in said.lower() or isinstance(error, (AttributeError, TypeError))
            if not (known and doubted and kind is Refused):
                raise kind(f"runtime tensorrt: {source.model} does not compile ({why}); use runtime cuda") from error
            options.report(f"{source.model}: {why}; once more without the timings of earlier builds")
    raise AssertionError("not reached")


def _causes(error: BaseException) -> list[str]:
    """What the errors that led to this one say, the first one last."""
    found = []
    while (error := error.__cause__ or error.__context__) is not None:
        found.append(f"{type(error).__name__}: {error}")
    return found


def _is_passing(error: BaseException | None) -> bool:
    """Whether the machine failed, not the network: Torch-TensorRT wraps what happens in its interpreter in
    RuntimeErrors."""
    while error is not None:
        if isinstance(error, (OSError, ImportError, MemoryError)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _timings_file(folder: Path) -> Path:
    """Where timings are kept: of this GPU and these versions alone, TensorRT takes no others."""
    import torch
    here = host.gpu_ingredients() if torch.cuda.is_available() else {name: host.version(name)
                                                                     for name in host.TENSORRT_PACKAGES}
    return folder / f"timing_cache.{hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()[:12]}.bin"


@contextlib.contextmanager
def _errors_logged(kept: collections.deque[str]) -> Iterator[None]:
    """Adds the first line of each error that Torch-TensorRT and TensorRT log meanwhile, and what the exception says
    that came with it: some releases log the cause and then raise something else."""
    def keep(record: logging.LogRecord) -> None:
        kept.append(record.getMessage().strip().partition("\n")[0])
        if record.exc_info and record.exc_info[1] is not None:
            kept.append(str(record.exc_info[1]))

    handler = logging.Handler(logging.ERROR)
    handler.emit = keep
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)


@contextlib.contextmanager
def _timings(kept: Path, known: bool) -> Iterator[str]:
    """Where TensorRT notes how long its kernels took: a copy of what earlier builds noted, if those shall be ``known``,
    which replaces it whole when all has gone well. A folder that cannot be written costs time only."""
    with tempfile.TemporaryDirectory() as scratch:
        used = Path(scratch) / kept.name
        with contextlib.suppress(OSError):
            if known:
                shutil.copyfile(kept, used)
        yield str(used)
        with contextlib.suppress(OSError):
            partial = kept.with_name(f".{kept.name}.{os.getpid()}.partial")
            shutil.copyfile(used, partial)
            os.replace(partial, kept)


def supported_arguments(function, arguments: dict) -> dict:
    """Those arguments that this version of the function names; options came and went between versions."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in arguments.items() if name in names}


class EngineRuntime(GraphedCuda):
    """An engine in CUDA graphs, with what TensorRT-RTX compiles for it at run time: that is kept in the cache, so that
    the next start does not compile it again. Other flavours compile nothing then and nothing is kept.

    Raises ModelError if TensorRT does not load the payload.
    """

    def __init__(self, source: NetworkSource, options: Options, payload: bytes) -> None:
        self._cache = options.cache
        self._ingredients = {"kind": source.kind, "model": source.model, "runtime": "tensorrt", "part": "kernels",
                             "engine": hashlib.sha256(payload).hexdigest(), **host.gpu_ingredients()}
        kept = self._cache.get(self._ingredients)
        self._engine = Engine(payload, import_tensorrt(), kernels=kept.payload if kept else b"")
        super().__init__(source, self._engine, source.batch_limit(options.max_batch), "tensorrt")

    def keep_kernels(self) -> None:
        """Stores what has been compiled since the kernels were loaded; if that fails, the next start takes longer."""
        kernels = self._engine.kernels()
        if kernels:
            with contextlib.suppress(ModelError):
                self._cache.replace(self._ingredients, kernels, {})


def built(source: NetworkSource, options: Options) -> Entry:
    """The engine from the cache; built, compared with eager and stored if it is not there yet. With precision "auto"
    one that half precision makes disagree is built again in single precision. That TensorRT refuses network or GPU is
    stored too. Raises Refused then, and ModelError for what may go well another time."""
    def build() -> tuple[bytes, dict]:
        refused = ""
        for now in ("fp16", "fp32") if options.precision == "auto" else (options.precision,):
            chosen = dataclasses.replace(options, precision=now)
            try:
                payload = compile_engine(source, chosen)
                candidate = EngineRuntime(source, chosen, payload)
                options.report(f"{source.model}: comparing the engine with eager")
                agreement = refuse_disagreement(candidate, Eager(source, options))
                candidate.keep_kernels()
                info = {"agreement": agreement, "precision": now, "cuda_graphs": candidate.info["cuda_graphs"]}
                return payload, {**info, HALF_REFUSED: refused} if refused else info
            except Refused as error:
                refused = str(error)
                options.report(refused)
                if not isinstance(error, Disagreement):                 # in no precision
                    break
        return b"", {"refused": refused}

    return not_refused(options.cache.get_or_build(key_ingredients(source, options), build), source,
                       options.precision)


def forget_refusal(source: NetworkSource, options: Options) -> None:
    """Have an engine that was refused once built and compared again."""
    if not engine_problem():
        options.cache.forget_refusal(key_ingredients(source, options))


def open_built(source: NetworkSource, options: Options, entry: Entry) -> Runtime:
    """A runtime from an entry, warmed up so that no frame pays for it. Raises NotBuilt if TensorRT refuses the engine,
    whose file is removed then; ModelError if it does not run, as when memory is short."""
    try:
        with CAPTURING:
            runtime = _loaded(source, options, entry)
            runtime.warm_up()
    except NotBuilt:
        raise
    except Exception as error:
        raise ModelError(f"runtime tensorrt: the engine of {source.model} does not run ({error}); free memory and "
                         f"start again, or remove {options.cache.path(entry.key)} to have it rebuilt") from error
    runtime.keep_kernels()
    runtime.info = {**entry.info, **runtime.info}
    return runtime


def _loaded(source: NetworkSource, options: Options, entry: Entry) -> EngineRuntime:
    try:
        return EngineRuntime(source, options, entry.payload)
    except Refused as error:
        with contextlib.suppress(OSError):
            options.cache.path(entry.key).unlink()
        raise NotBuilt(f"runtime tensorrt: the engine of {source.model} does not load ({error}); its file is removed, "
                       f"start again to rebuild it") from error


def open_tensorrt(source: NetworkSource, options: Options) -> Runtime:
    """The network as a TensorRT engine. Raises ModelError if TensorRT cannot run here, NotBuilt if the engine is not
    in the cache and ``options.live`` asks not to wait for it."""
    problem = engine_problem()
    if problem:
        raise ModelError(f"runtime tensorrt: {problem}")
    import_tensorrt()
    ingredients = key_ingredients(source, options)
    entry = options.cache.get(ingredients)
    if entry is None and options.live:
        raise NotBuilt(f"runtime tensorrt: engine {key_of(ingredients)[:12]} of {source.model} is not built yet")
    if entry is not None:
        try:
            return open_built(source, options, not_refused(entry, source, options.precision))
        except NotBuilt:
            if options.live:
                raise
    return open_built(source, options, built(source, options))
