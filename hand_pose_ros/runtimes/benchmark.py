"""``hand-pose benchmark``: how long a frame takes, per stage, per runtime, beside MediaPipe on the same frames.

Every runtime is measured in a process of its own, held to the same number of processors, so that memory and threads
are its own. With several rounds the processes take turns, so that a busy machine troubles all of them alike.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np

from .. import limits
from ..errors import ConfigError, HandPoseError, ModelError, pip_install
from . import AUTO, POSE_ACCURATE, POSE_QUICK, host, ladder, looks, pose_model
from .base import Options
from .build import BUILT_RUNTIMES, DETECTOR
from .cache import EngineCache
from .source import from_model

BATCHES = (1, 2, 4)
PERCENTILES = (50, 95, 99)
WARM_UP = 20
GPU_RUNTIMES = ("tensorrt", "cuda")
"""Runtimes with a choice of precision."""
PEER = Path(__file__).resolve().parents[2] / "benchmarks" / "mediapipe_peer.py"


def size(text: str) -> str:
    """Type of a size in pixels, WIDTHxHEIGHT; 0x0 stands for that of the frames."""
    if not re.fullmatch(r"[1-9]\d{0,3}x[1-9]\d{0,3}|0x0", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give WIDTHxHEIGHT such as 640x480, up to 9999, or "
                                         "0x0")
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``hand-pose benchmark``."""
    parser.add_argument("--video", help="frames to work on (default: a drawn hand that moves)")
    parser.add_argument("--size", type=size, default="640x480",
                        help="fit frames into this size on black; 0x0: as they are")
    parser.add_argument("--frames", type=limits.whole(1), default=300, help="frames per runtime and round")
    parser.add_argument("--rounds", type=limits.whole(1), default=1, help="turns that each runtime gets")
    parser.add_argument("--threads", type=limits.whole(1), default=2,
                        help="processors that each measured process may use")
    parser.add_argument("--runtime", nargs="+", metavar="NAME", choices=list(ladder.RUNTIMES),
                        help=f"default: all that run here, of {', '.join(ladder.RUNTIMES)}")
    parser.add_argument("--precision", choices=("auto", "fp32", "fp16"), default="auto",
                        help="of tensorrt and cuda; auto: what each does best. The others have one precision each")
    parser.add_argument("--spinning", action="store_true", help="let ONNX Runtime's threads poll within a call")
    parser.add_argument("--detector-model", default=DETECTOR,
                        help="a folder of models/, or a path to one")
    parser.add_argument("--pose-model", default=AUTO,
                        help="a folder of models/, or a path to one (default: what a node takes on this machine)")
    parser.add_argument("--cache", type=limits.folder, metavar="FOLDER", help="engine cache")
    parser.add_argument("--mediapipe", metavar="PYTHON",
                        help="Python of an environment with mediapipe 0.10.21: it is measured too "
                             "(benchmarks/mediapipe_peer.py says how)")
    parser.add_argument("--estimate", action="store_true", help="only operation counts and what they imply on Jetson")
    parser.add_argument("--out", type=limits.folder, metavar="FOLDER",
                        help="write benchmark.json, benchmark.md and benchmark.png there")
    parser.add_argument("--measure", help=argparse.SUPPRESS)


def main(args: argparse.Namespace) -> int:
    """Measures and prints. Returns 0; raises ConfigError for arguments that do not fit, ModelError if nothing runs."""
    if args.measure:
        print(json.dumps(measured(args.measure, args)))
        return 0
    if args.estimate:
        from .operations import estimate_lines
        asked = (POSE_QUICK, POSE_ACCURATE) if args.pose_model == AUTO else (args.pose_model,)
        sources = [from_model("detector", args.detector_model), *(from_model("pose", name) for name in asked)]
        print("\n".join(estimate_lines(sources, BATCHES)))
        return 0
    args.pose_model = pose_model(args.pose_model, AUTO)
    if args.video:
        frames(argparse.Namespace(video=args.video, size=args.size, frames=1))     # else each process would say so
    if args.mediapipe and not (args.video and PEER.is_file()):
        raise ConfigError("--mediapipe needs --video, since it does not find drawn hands, and a source tree with "
                          f"{PEER}")
    contenders = list(args.runtime or ladder.RUNTIMES)
    if args.precision != "auto":
        fixed = [name for name in args.runtime or () if name not in GPU_RUNTIMES]
        if fixed:
            raise ConfigError(f"--precision {args.precision} is for {' and '.join(GPU_RUNTIMES)}: {fixed[0]} has one")
        contenders = [name for name in contenders if name in GPU_RUNTIMES]
    results: dict[str, dict] = {}
    failed: dict[str, str] = {}
    commands = {name: _own_command(name, args) for name in contenders}
    for name in [name for name in contenders if name in BUILT_RUNTIMES]:       # what it exports or builds is no start
        print(f"preparing {name}", file=sys.stderr, flush=True)
        _collect({}, failed, name, [*commands[name], "--frames", "1"])
    for complexity, label in ((1, "MediaPipe full"), (0, "MediaPipe lite")) if args.mediapipe else ():
        commands[label] = _peer_command(complexity, args)
    for number in range(args.rounds):
        for name in [name for name in commands if name not in failed]:
            print(f"round {number + 1} of {args.rounds}: {name}", file=sys.stderr, flush=True)
            _collect(results, failed, name, commands[name])
    for name, reason in failed.items():
        print(f"{name}: left out: {reason}", file=sys.stderr)
    if not results:
        raise ModelError("no runtime runs here: see the lines above")
    report = {"machine": machine(args), "results": results}
    lines = table_lines(report)
    if args.out:                                        # first: who listens to what is printed may be gone
        folder = Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "benchmark.json").write_text(json.dumps(report, indent=1))
        (folder / "benchmark.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)
    if args.out:
        plot(report, folder / "benchmark.png")
    asked = [*(args.runtime or ()), *(name for name in failed if name.startswith("MediaPipe"))]
    if any(name in failed for name in asked):
        raise ModelError("; ".join(f"{name} cannot be measured: {failed[name]}" for name in asked if name in failed))
    return 0


def _own_command(runtime: str, args: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "hand_pose_ros", "benchmark", "--measure", runtime, "--size", args.size,
               "--frames", str(args.frames), "--threads", str(args.threads), "--precision", args.precision,
               "--detector-model", args.detector_model, "--pose-model", args.pose_model]
    command += ["--video", args.video] if args.video else []
    command += ["--cache", args.cache] if args.cache else []
    return command + (["--spinning"] if args.spinning else [])


def _peer_command(complexity: int, args: argparse.Namespace) -> list[str]:
    return [args.mediapipe, str(PEER), "video", args.video, "--size", args.size, "--frames", str(args.frames),
            "--threads", str(args.threads), "--complexity", str(complexity)]


def _collect(results: dict[str, dict], failed: dict[str, str], name: str, command: list[str]) -> None:
    """Runs one process and adds its times to what earlier rounds gave; what does not run is noted in ``failed``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[2]),
                                                                os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        failed[name] = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return
    fresh = json.loads(done.stdout.splitlines()[-1])
    if name not in results:
        results[name] = fresh
        return
    for key, value in fresh.items():
        if not key.endswith("_ms"):
            results[name][key] = value
        else:
            results[name][key] = ({part: results[name][key][part] + value[part] for part in value}
                                  if isinstance(value, dict) else results[name][key] + value)


def measured(runtime: str, args: argparse.Namespace) -> dict:
    """Times of one runtime in this process: networks alone per batch size, and whole frames per stage, milliseconds."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])
    started = time.perf_counter()
    options = Options(threads=args.threads, spinning=args.spinning, precision=args.precision, live=False,
                      cache=EngineCache(args.cache))
    detector = ladder.climb(from_model("detector", args.detector_model), runtime, options)
    pose = ladder.climb(from_model("pose", args.pose_model), runtime, options)
    start_s = time.perf_counter() - started
    result: dict = {"runtime": runtime, "start_s": start_s, "info": {"pose": pose.info, "detector": detector.info}}
    result["network_ms"] = {f"detector {_size(detector)}": _network_times(detector, 1, args.frames)}
    for batch in BATCHES:
        result["network_ms"][f"pose {_size(pose)} x {batch}"] = _network_times(pose, batch, args.frames)
    result.update(_frame_times(detector, pose, args))
    result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if runtime in ("cuda", "tensorrt", "onnxruntime-cuda") and not host.cuda_problem():
        import torch
        free, total = torch.cuda.mem_get_info()                 # what TensorRT and ONNX Runtime take is none of torch's
        result["gpu_memory_mb"] = (total - free) / 2**20
    return result


def _size(runtime) -> str:
    height, width, _ = runtime.source.input_shape
    return f"{width} x {height}"


def _network_times(runtime, batch: int, repeats: int) -> list[float]:
    from .agreement import drawn_hands
    height, width, _ = runtime.source.input_shape
    images = drawn_hands(height, width, batch)
    for _ in range(WARM_UP):
        runtime(images)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        runtime(images)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _frame_times(detector, pose, args: argparse.Namespace) -> dict:
    """Whole frames through the pipeline: once with a tracked hand, once as if no hand were known yet."""
    import cv2

    from .. import config, detect, estimate, pipeline
    from ..camera import assumed
    from ..types import Frame

    cv2.setNumThreads(1)                                    # as the node does
    images = frames(args)
    height, width = images[0].shape[:2]
    camera = assumed(width, height, 60.0)
    settings = config.Config(max_hands=1)
    dense, look = looks(detector, pose)
    whole = pipeline.Pipeline(detect.Detector(detector, detector.source.input_shape[:2], dense),
                              estimate.Estimator(pose), pose.source.input_shape[0], look=look)
    result: dict = {"frames": len(images), "size": f"{width}x{height}", "stage_ms": {}}
    for mode in ("tracking", "detection"):
        state, times, processor, found = pipeline.PipelineState(), [], [], 0
        stages: dict[str, list[float]] = {"detect": [], "pose": [], "lift": []}
        for index in range(-min(WARM_UP, len(images)), len(images)):
            frame = Frame(images[index], camera, (index + WARM_UP + 1) * 40_000_000)
            if mode == "detection":
                state = pipeline.PipelineState()
            start, used, mark = time.perf_counter(), time.process_time(), time.monotonic()
            state, shown = whole.step(state, frame, settings)
            took, used = (time.perf_counter() - start) * 1e3, (time.process_time() - used) * 1e3
            if index < 0 or shown.detector_ran != (mode == "detection"):
                continue                                # warming up, or a hand was lost while tracking
            times.append(took)
            processor.append(used)
            found += bool(shown.hands)
            for stage, end in shown.marks_s.items():
                stages[stage].append((end - mark) * 1e3)
                mark = end
        result[f"{mode}_ms"], result[f"{mode}_cpu_ms"], result[f"{mode}_frames_with_hand"] = times, processor, found
        result["stage_ms"].update({f"{mode}: {stage}": values for stage, values in stages.items()})
    return result


def frames(args: argparse.Namespace) -> list[np.ndarray]:
    """Frames (H, W, 3) uint8 RGB of the video, fitted into ``--size``; without a video a drawn hand that moves.

    Raises ConfigError if the video cannot be read.
    """
    import cv2

    from .agreement import drawn_hands
    width, height = (int(side) for side in args.size.split("x"))
    if not args.video:
        hand = drawn_hands(height or 480, width or 640, 1)[0]
        return [np.roll(hand, 2 * (index % 20), axis=1) for index in range(args.frames)]
    video, read = cv2.VideoCapture(args.video), []
    while len(read) < args.frames:
        there, image = video.read()
        if not there:
            break
        if width and height:
            scale = min(width / image.shape[1], height / image.shape[0])
            small = cv2.resize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)),
                               interpolation=cv2.INTER_AREA)
            top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
            image = np.zeros((height, width, 3), np.uint8)
            image[top:top + small.shape[0], left:left + small.shape[1]] = small
        read.append(np.ascontiguousarray(image[..., ::-1]))
    if not read:
        raise ConfigError(f"no frame of {args.video} can be read: give a video that OpenCV opens")
    return read


def machine(args: argparse.Namespace) -> dict[str, str]:
    """What the numbers were measured on."""
    packages = ("torch", "onnxruntime", "numpy", "opencv-python-headless", "opencv-python", *host.TENSORRT_PACKAGES)
    found = {"processor": host.cpu_name(), "processors": f"{args.threads} of {os.cpu_count()}",
             "load": f"{os.getloadavg()[0]:.1f}", "system": platform.platform(), "Python": platform.python_version(),
             "date": time.strftime("%Y-%m-%d"), **{name: host.version(name) for name in packages if host.version(name)}}
    if not host.cuda_problem():
        found.update({name: value for name, value in host.gpu_ingredients().items() if value})
    return found


def _percentiles(times: list[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in np.percentile(times, PERCENTILES)) if times else "no frame"


def table_lines(report: dict) -> list[str]:
    """The report as Markdown: whole frames, stages, networks, machine."""
    results = report["results"]
    lines = ["| whole frames, ms p50 / p95 / p99 | tracking frame | detection frame | processor time, ms | "
             "frames with a hand | memory with the video, MB |", "|---|---|---|---|---|---|"]
    for name, one in results.items():
        processor = " and ".join(f"{np.median(one[key]):.2f}" if one[key] else "no frame"
                                 for key in ("tracking_cpu_ms", "detection_cpu_ms"))
        hands = f"{one['tracking_frames_with_hand']} and {one['detection_frames_with_hand']} of {one['frames']}"
        times = " | ".join(_percentiles(one[key]) for key in ("tracking_ms", "detection_ms"))
        memory = f"{one['peak_memory_mb']:.0f}" + (f" + {one['gpu_memory_mb']:.0f} in use on the GPU"
                                                  if "gpu_memory_mb" in one else "")
        lines.append(f"| {name} | {times} | {processor} | {hands} | {memory} |")
    peer = results.get("MediaPipe full")
    for name, one in results.items():
        if peer and "stage_ms" in one and one["tracking_ms"] and one["detection_ms"]:
            ratios = [np.median(one[key]) / np.median(peer[key])
                      for key in ("tracking_ms", "detection_ms", "tracking_cpu_ms", "detection_cpu_ms")]
            lines.append(f"| {name} / MediaPipe full | {ratios[0]:.2f} x | {ratios[1]:.2f} x | {ratios[2]:.2f} x and "
                         f"{ratios[3]:.2f} x | | |")
    for key, title in (("stage_ms", "stages"), ("network_ms", "networks alone")):
        own = {name: one[key] for name, one in results.items() if key in one}
        rows = list(dict.fromkeys(row for one in own.values() for row in one))
        lines += ["", f"| {title}, ms p50 / p95 / p99 | " + " | ".join(own) + " |", "|---" * (1 + len(own)) + "|"]
        for row in rows:
            lines.append(f"| {row} | " + " | ".join(_percentiles(one.get(row, [])) for one in own.values()) + " |")
    starts = [f"{name} {one['start_s']:.2f} s" for name, one in results.items() if "start_s" in one]
    lines += ["", "Start, networks loaded: " + ", ".join(starts)]
    lines += ["", *textwrap.wrap("Processor time is that of all threads, medians of the tracking and the detection "
                                 "frame; it depends less than clock time on what else the machine does.", 120)]
    lines += ["", *textwrap.wrap("; ".join(f"{name} {value}" for name, value in report["machine"].items()), 120)]
    return lines


def plot(report: dict, path: Path) -> None:
    """Bars of the median tracking and detection frame with their 95th percentile. Raises HandPoseError without
    matplotlib."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise HandPoseError(f"the plot needs matplotlib: {pip_install('matplotlib')}, or leave --out away") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot
    results = report["results"]
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.55 * len(results)), layout="constrained")
    for offset, (key, label) in enumerate((("tracking_ms", "tracking frame"), ("detection_ms", "detection frame"))):
        middles = [np.median(one[key]) if one[key] else 0.0 for one in results.values()]
        highs = [np.percentile(one[key], 95) if one[key] else 0.0 for one in results.values()]
        rows = np.arange(len(results)) + 0.36 * (offset - 0.5)
        whiskers = [np.zeros(len(middles)), np.subtract(highs, middles)]
        axes.barh(rows, middles, 0.34, xerr=whiskers, label=label, capsize=3)
        for row, middle, high in zip(rows, middles, highs):
            axes.text(high, row, f"  {middle:.1f}", va="center", fontsize=8)
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    axes.margins(x=0.08)                                    # room for the figures
    axes.set_xlabel("milliseconds per frame (bar: median, whisker: 95th percentile)")
    axes.set_title(f"{report['machine']['processor']}, {report['machine']['processors']} processors", fontsize=9)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
