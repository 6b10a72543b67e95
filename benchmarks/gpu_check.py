"""Everything about the runtimes that needs a GPU, in one command, PASS or FAIL line by line. Needs no network.

    python3 benchmarks/gpu_check.py [--random] [--out report.json]

Without --random the shipped models are checked; with it the same architectures with random weights. Torch-TensorRT, or
its TensorRT-RTX flavour, is used where it is installed; without it those lines are FAIL and the CUDA lines still count.
With torch_tensorrt_rtx 2.11.0 and tensorrt_rtx 1.4 remove the folder tensorrt_rtx/plugin: it cannot be imported.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hand_pose_ros import camera as cameras  # noqa: E402
from hand_pose_ros import crop as crops  # noqa: E402
from hand_pose_ros import detect  # noqa: E402
from hand_pose_ros.lift import lift  # noqa: E402
from hand_pose_ros.runtimes import Options, eager, host, ladder, tensorrt  # noqa: E402
from hand_pose_ros.runtimes.agreement import drawn_hands, refuse_disagreement  # noqa: E402
from hand_pose_ros.runtimes.cache import EngineCache  # noqa: E402
from hand_pose_ros.runtimes.gpu_frame import DeviceFrame, DeviceLook  # noqa: E402
from hand_pose_ros.runtimes.source import NetworkSource, from_model  # noqa: E402
from hand_pose_ros.types import Camera, CropPose, Crop, Detection  # noqa: E402

LIMIT_POSE_MS = 1.0
LIMIT_FRAME_MS = 3.0
LIMIT_SECOND_START_S = 5.0
LIMIT_SPEED_UP = 3.0
RANDOM = {"detector": ("detector_light", (256, 320, 3)), "pose": ("pose_light", (224, 224, 3))}

checks: list[dict] = []


def check(name: str, passed: bool, detail: str) -> None:
    """Prints and keeps one line."""
    checks.append({"name": name, "passed": bool(passed), "detail": detail})
    print(f"{'PASS' if passed else 'FAIL'} {name}: {detail}", flush=True)


def guarded(name: str, function, *args):
    """What the function returns; a FAIL line and None if it raises."""
    try:
        return function(*args)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return None


def sources(random: bool) -> dict[str, NetworkSource]:
    """The networks to check."""
    if not random:
        return {kind: from_model(kind, f"{kind}_light") for kind in RANDOM}
    from hand_pose_ros import networks

    def module(architecture: str):
        import torch
        torch.manual_seed(0)
        return networks.build({"architecture": architecture, "options": {}})

    return {kind: NetworkSource(kind, f"random_{name}", shape, lambda name=name: module(name), {"weights": "random 0"})
            for kind, (name, shape) in RANDOM.items()}


def median_ms(function, repeats: int = 200, warm_up: int = 30) -> float:
    """Median wall time of one call in milliseconds; the function must wait for the GPU itself."""
    for _ in range(warm_up):
        function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1e3)


def eager_milliseconds(source: NetworkSource, half: bool) -> float:
    """One image through the plain module on the GPU, upload and download included, no CUDA graph."""
    import torch
    module = source.module().eval().cuda().to(memory_format=torch.channels_last)
    module = module.half() if half else module
    image = np.zeros((1, *source.input_shape), np.uint8)

    def once() -> None:
        with torch.inference_mode():
            outputs = module(torch.from_numpy(image).cuda())
            for output in eager.as_tuple(outputs):
                output.cpu()

    return median_ms(once)


def check_runtime(name: str, source: NetworkSource, runtime, eager_ms: float) -> None:
    """Agreement with eager, latencies and speed-up of one opened runtime."""
    label = f"{source.kind} {name}"
    difference = guarded(f"{label} agrees with eager", refuse_disagreement, runtime,
                         eager.open_cpu(source, Options()))
    if difference is not None:
        check(f"{label} agrees with eager", True, json.dumps(difference))
    height, width, _ = source.input_shape
    times = {}
    for batch in (1, 2, 4)[:1 if source.kind == "detector" else 3]:
        images = drawn_hands(height, width, batch)
        times[batch] = median_ms(lambda images=images: runtime(images))
    detail = ", ".join(f"batch {batch}: {value:.3f} ms" for batch, value in times.items())
    check(f"{label} batch 1 below {LIMIT_POSE_MS} ms", times[1] < LIMIT_POSE_MS,
          f"{detail}; CUDA graphs: {runtime.info.get('cuda_graphs')}")
    check(f"{label} at least {LIMIT_SPEED_UP} x faster than eager", eager_ms / times[1] >= LIMIT_SPEED_UP,
          f"{eager_ms:.3f} ms / {times[1]:.3f} ms = {eager_ms / times[1]:.1f} x")


SECOND_START = """
import sys, time
started = time.perf_counter()
sys.path.insert(0, {root!r}); sys.path.insert(0, {here!r})
import numpy as np
import gpu_check
from hand_pose_ros.runtimes import Options, ladder
from hand_pose_ros.runtimes.cache import EngineCache
source = gpu_check.sources({random})[{kind!r}]
runtime = ladder.climb(source, "tensorrt", Options(cache=EngineCache({cache!r})))
runtime(np.zeros((1, *source.input_shape), np.uint8))
print(time.perf_counter() - started, runtime.info.get("built_now"))
"""


def check_tensorrt(source: NetworkSource, options: Options, random: bool, eager_ms: float):
    """Build, load, agreement, latency, second start in a new process, damaged file. Returns the runtime or None."""
    label = f"{source.kind} tensorrt"
    start = time.perf_counter()
    runtime = guarded(f"{label} builds and loads", ladder.climb, source, "tensorrt", options)
    if runtime is None:
        return None
    check(f"{label} builds and loads", True, f"{time.perf_counter() - start:.1f} s, {json.dumps(runtime.info)}")
    check_runtime("tensorrt", source, runtime, eager_ms)
    program = SECOND_START.format(root=str(ROOT), here=str(ROOT / "benchmarks"), random=random, kind=source.kind,
                                  cache=str(options.cache.folder))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode:
        check(f"{label} second start", False, (done.stderr.strip().splitlines() or ["no message"])[-1])
    else:
        seconds = float(done.stdout.split()[-2])
        check(f"{label} second start below {LIMIT_SECOND_START_S} s", seconds < LIMIT_SECOND_START_S,
              f"{seconds:.2f} s from the first import to the first result, in a new process")
    ingredients = tensorrt.key_ingredients(source, options)
    entry = options.cache.get(ingredients)
    if entry:
        path = options.cache.path(entry.key)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1000])
        check(f"{label} truncated engine is not loaded", options.cache.get(ingredients) is None, path.name[:12])
        path.write_bytes(whole)
    return runtime


def check_crops() -> None:
    """The crop and the letterbox on the GPU against their twins on the CPU."""
    y, x = np.mgrid[:480, :640].astype(float)
    waves = [np.sin(x / 11 + y / 23), np.cos(x / 17 - y / 13), np.sin((x + y) / 19)]
    image = np.uint8(127.5 + 110 * np.stack(waves, -1))
    matrix = np.array([[600.0, 0, 330], [0, 610, 236], [0, 0, 1]])
    wide = np.array([[300.0, 0, 330], [0, 305, 236], [0, 0, 1]])
    lenses = (Camera(640, 480, matrix),
              Camera(640, 480, matrix, "plumb_bob", np.array([-0.28, 0.09, 0.001, -0.002, 0])),
              Camera(640, 480, wide, "equidistant", np.array([0.05, -0.01, 0.002, 0])))
    places = (((320, 240), 120, (0, -1)), ((250, 300), 90, (0.6, 0.8)), ((330, 230), 400, (0.2, -1)))
    frame, worst = DeviceFrame(image, "cuda"), 0.0
    for camera in lenses:
        for centre, side, up in places:
            half = np.array([side, side]) / 2
            box = np.concatenate([centre - half, centre + half])
            found = Detection(box, 1.0, 1.0, np.array(up) / np.linalg.norm(up))
            for mirrored in (False, True):
                geometry = crops.plan(camera, found, 224, mirrored)
                twin = crops.sample(image, camera, geometry).astype(int)
                cut = frame.crops(camera, [geometry]).cpu().numpy()[0].astype(int)
                worst = max(worst, float(np.abs(cut - twin).mean()))
    check("GPU crop equals CPU crop", worst < 0.6, f"largest mean difference {worst:.3f} grey levels over 18 crops")
    placed = frame.letterboxed((256, 320)).cpu().numpy()[0].astype(int)
    difference = np.abs(placed - detect.letterbox(image, (256, 320))[0])
    check("GPU letterbox equals CPU letterbox", difference.max() <= 1, f"largest difference {difference.max()} levels")


def check_frame(name: str, detector, pose) -> None:
    """Camera frame in memory to joints in metres, one hand: upload, crop, network, download, lift."""
    for width, height in ((640, 480), (1280, 720)):
        image = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
        camera = cameras.assumed(width, height, 60.0)
        half = height / 8
        box = np.array([width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half])
        found = Detection(box, 1.0, 1.0, np.array([0.0, -1.0]))
        size, letterbox = pose.source.input_shape[0], detector.source.input_shape[:2]
        looking = DeviceLook(pose)

        def once() -> None:
            fresh = image[:]                                # another array object: uploaded anew, as each frame is
            geometry = crops.plan(camera, found, size)
            outputs = looking.outputs(fresh, camera, [geometry])
            crop = Crop(fresh, geometry.K, geometry.R_camera_crop, geometry.mirrored)
            lift(crop, CropPose(*(output[0] for output in outputs)), camera)

        took = median_ms(once)
        limit = f"below {LIMIT_FRAME_MS} ms"
        check(f"{name} frame to joints {width} x {height} {limit}", took < LIMIT_FRAME_MS, f"{took:.3f} ms")
        took = median_ms(lambda: detector.run_on_device(DeviceFrame(image, "cuda").letterboxed(letterbox)))
        check(f"{name} frame to detector map {width} x {height}", True, f"{took:.3f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", action="store_true", help="random weights instead of the shipped models")
    parser.add_argument("--cache", help="engine cache (default: a new folder that is removed at the end)")
    parser.add_argument("--out", help="write all lines as JSON")
    args = parser.parse_args()
    problem = host.cuda_problem()
    check("torch sees a GPU", not problem, problem or json.dumps(host.gpu_ingredients()))
    if problem:
        return 1
    import torch
    check("versions", True, f"torch {torch.__version__}, Python {sys.version.split()[0]}")
    guarded("GPU crop equals CPU crop", check_crops)
    with tempfile.TemporaryDirectory(dir=Path.home()) as scratch:
        options = Options(cache=EngineCache(args.cache or scratch),
                          report=lambda line: print(f"     {line}", flush=True))
        opened: dict[str, dict] = {"cuda": {}, "tensorrt": {}}
        for kind, source in sources(args.random).items():
            timings = {half: guarded(f"{kind} eager", eager_milliseconds, source, half) for half in (False, True)}
            if None in timings.values():
                continue
            check(f"{kind} eager on the GPU", True, f"fp32 {timings[False]:.3f} ms, fp16 {timings[True]:.3f} ms")
            eager_ms = min(timings.values())
            opened["cuda"][kind] = guarded(f"{kind} cuda opens", ladder.climb, source, "cuda", options)
            if opened["cuda"][kind]:
                check_runtime("cuda", source, opened["cuda"][kind], eager_ms)
            opened["tensorrt"][kind] = check_tensorrt(source, options, args.random, eager_ms)
            automatic = guarded(f"{kind} auto", ladder.climb, source, "auto", options)
            if automatic:
                check(f"{kind} auto serves from the GPU", automatic.name in ("cuda", "tensorrt"),
                      f"{automatic.name}; {automatic.reason or 'nothing passed over'}")
        for name, pair in opened.items():
            if pair.get("detector") and pair.get("pose"):
                guarded(f"{name} frame to joints", check_frame, name, pair["detector"], pair["pose"])
    check("GPU memory", True, f"{torch.cuda.max_memory_reserved() / 2**20:.0f} MiB reserved by torch at most")
    failed = [one["name"] for one in checks if not one["passed"]]
    print(f"{len(checks) - len(failed)} passed, {len(failed)} failed" + (f": {', '.join(failed)}" if failed else ""))
    if args.out:
        Path(args.out).write_text(json.dumps({"machine": host.gpu_ingredients(), "checks": checks}, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
