"""``hand-pose build-engine``: builds what a runtime needs ahead of time, so that the node starts with it."""
from __future__ import annotations

import argparse
import time

from .. import limits
from ..errors import ConfigError, ModelError
from . import AUTO, POSE_ACCURATE, POSE_QUICK, host, int8, ladder, ort, pose_model, tensorrt
from .base import Options
from .cache import EngineCache, default_folder, read_header
from .source import OUTPUTS, from_model

DETECTOR = "detector_light"
INT8 = "onnxruntime-int8"
BUILT_RUNTIMES = ("tensorrt", "onnxruntime", INT8)
"""Runtimes that keep something in the cache; the others run the weights as they are."""
NODE = Options()
"""What a node asks for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``hand-pose build-engine``."""
    parser.add_argument("--kind", choices=sorted(OUTPUTS), help="build only this network (default: detector and pose)")
    parser.add_argument("--model", help="folder below models/; needs --kind (default: what a node takes: "
                                        f"{DETECTOR}, and {POSE_ACCURATE} on a GPU or {POSE_QUICK} on a CPU)")
    parser.add_argument("--runtime", choices=("auto", *BUILT_RUNTIMES), default="auto",
                        help="auto: what a node takes here: TensorRT, or ONNX Runtime in 8 bits if the processor has "
                             "instructions for it, or in 32")
    parser.add_argument("--precision", choices=("auto", "fp32", "fp16", "int8"), default="auto",
                        help="of TensorRT: auto, as nodes ask for it, is fp16, or fp32 where that disagrees; int8 is "
                             "short for --runtime onnxruntime-int8")
    parser.add_argument("--max-batch", type=limits.whole(1), default=NODE.max_batch,
                        help=f"largest number of hands in one call (nodes ask for {NODE.max_batch})")
    parser.add_argument("--calibration", nargs="+", metavar="FILE", default=[],
                        help="what int8 takes its ranges from: tar files of hand-pose render or bags with truth "
                             "(default: the sample bag)")
    parser.add_argument("--cache", type=limits.folder, metavar="FOLDER",
                        help=f"where engines are kept (default: {default_folder()})")
    parser.add_argument("--if-missing", action="store_true", help="leave alone what is there")
    parser.add_argument("--list", action="store_true", help="list what is in the cache and do nothing else")


def main(args: argparse.Namespace) -> int:
    """Builds and says what it did. Returns 0, or raises ModelError (from the builder, or because what was built could
    not be stored) and ConfigError."""
    cache = EngineCache(args.cache)
    if args.list:
        return list_entries(cache)
    if args.model and not args.kind:
        raise ConfigError("--model needs --kind detector or --kind pose")
    if args.precision == "int8" and args.runtime not in ("auto", INT8):
        raise ConfigError(f"--precision int8 is that of --runtime {INT8}, not of {args.runtime}: leave --runtime out")
    runtime = INT8 if args.precision == "int8" else args.runtime
    _refuse_precision(args.precision, runtime)
    if args.calibration and runtime != INT8:
        raise ConfigError("--calibration needs --precision int8: nothing else takes ranges from pictures")
    started = time.monotonic()

    def report(line: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {line}", flush=True)

    options = Options(precision=args.precision, max_batch=args.max_batch, cache=cache, live=False, report=report)
    chosen = choose(report) if runtime == "auto" else runtime
    _refuse_precision(args.precision, chosen)
    if chosen == "cuda":
        print("a node takes torch on the GPU here: nothing has to be built")
        return 0
    if chosen == "tensorrt" and (args.precision, args.max_batch) not in (("auto", NODE.max_batch),
                                                                        ("int8", NODE.max_batch)):
        report(f"no node asks for this engine: it wants --precision auto and --max-batch {NODE.max_batch}")
    models = {"detector": DETECTOR, "pose": pose_model(AUTO, chosen)}
    for kind, model in {args.kind: args.model or models[args.kind]}.items() if args.kind else models.items():
        source = from_model(kind, model)
        if chosen == "tensorrt" and not args.if_missing:
            tensorrt.forget_refusal(source, options)
        if chosen == INT8 and not args.if_missing:
            built = int8.build(source, options, args.calibration)
            if "not_stored" in built.info:
                raise ModelError(f"{model} is not stored: {built.info['not_stored']}")
        opened = ladder.climb(source, chosen, options)
        report(f"{model}: {chosen} is ready, difference to eager {opened.info.get('agreement', 'not measured')}")
        if "not_stored" in opened.info:
            raise ModelError(f"{model} is not stored: {opened.info['not_stored']}")
    print(f"engines are in {cache.folder}")
    return 0


def _refuse_precision(precision: str, runtime: str) -> None:
    if precision in ("fp32", "fp16") and runtime.startswith("onnxruntime"):
        raise ConfigError(f"--precision {precision} is for TensorRT: {runtime} has one precision")


def choose(report) -> str:
    """The highest rung that nothing is known against, as a node takes it, saying why not a higher."""
    problems = {"tensorrt": tensorrt.engine_problem, "cuda": host.cuda_problem,
                INT8: lambda: ort.onnx_problem() or ort.int8_problem() or int8.build_problem()}
    for runtime, problem_of in problems.items():
        problem = problem_of()
        if not problem:
            return runtime
        report(f"{runtime}: {problem}")
    return "onnxruntime"


def list_entries(cache: EngineCache) -> int:
    """Prints one line per file of the cache. Returns 0."""
    entries = cache.entries()
    for path, size, used in entries:
        try:
            made_of = read_header(path).get("ingredients", {})
        except (OSError, ModelError):
            print(f"{path.name[:12]}  {size / 1e6:8.1f} MB  damaged, or none of ours: built again when it is needed")
            continue
        words = [made_of[name] for name in ("model", "runtime", "part", "precision", "shapes") if name in made_of]
        words += [f"{name} {made_of[name]}" for name in ("gpu", *host.TENSORRT_PACKAGES) if made_of.get(name)]
        print(f"{path.name[:12]}  {size / 1e6:8.1f} MB  used {time.strftime('%Y-%m-%d %H:%M', time.localtime(used))}  "
              + "  ".join(words))
    print(f"{len(entries)} engines, {sum(size for _, size, _ in entries) / 1e6:.1f} MB in {cache.folder} "
          f"(limit {cache.limit_bytes / 1e6:.0f} MB)")
    return 0
