"""Everything about the runtimes that needs a GPU, in one command, PASS or FAIL line by line. Needs no network.

    python3 benchmarks/gpu_check.py [--random] [--out report.json]

Without --random the shipped models are checked; with it the same architectures with random weights. INFO lines are
measurements without a limit, GOAL lines hold the best runtime against what the project wants to reach.

Torch-TensorRT, or its TensorRT-RTX flavour, is used where it is installed; without it those lines are FAIL and the CUDA
lines still count. For a host without network fetch the wheels elsewhere, for its Python and torch, and take them along:

    pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 -d wheels \\
        torch-tensorrt-rtx==2.11.0 tensorrt-rtx-cu13-libs==1.4.0.76 tensorrt-rtx-cu13-bindings==1.4.0.76 dllist
    pip wheel --no-deps -w wheels tensorrt-rtx==1.4.0.76 tensorrt-rtx-cu13==1.4.0.76       # published as source only
    pip install --no-index --no-deps --target site wheels/*.whl && export PYTHONPATH=$PWD/site      # on the host
"""
from __future__ import annotations

import argparse
import json
import resource
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
from hand_pose_ros.runtimes.gpu_frame import DeviceDense, DeviceFrame, DeviceLook, Uploaded  # noqa: E402
from hand_pose_ros.runtimes.source import NetworkSource, from_model  # noqa: E402
from hand_pose_ros.types import Camera, CropPose, Crop, Detection  # noqa: E402

LIMIT_POSE_MS = 1.0
LIMIT_FRAME_MS = 3.0
LIMIT_SECOND_START_S = 5.0
LIMIT_SPEED_UP = 3.0
SWAP_WAIT_S = 240.0
KINDS = ("detector", "pose")

checks: list[dict] = []
measured: dict[str, dict[str, float]] = {}
"""Milliseconds by what was measured and runtime, for the GOAL lines."""


def check(name: str, passed: bool, detail: str) -> None:
    """Prints and keeps one line."""
    checks.append({"name": name, "passed": bool(passed), "detail": detail})
    print(f"{'PASS' if passed else 'FAIL'} {name}: {detail}", flush=True)


def info(name: str, detail: str) -> None:
    """Prints and keeps a measurement that has no limit."""
    checks.append({"name": name, "passed": None, "detail": detail})
    print(f"INFO {name}: {detail}", flush=True)


def gpu_in_use_mib() -> float:
    """Of the whole GPU, all processes together; TensorRT allocates past torch."""
    import torch
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


def cpu_peak_mib() -> float:
    """Of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
        return {kind: from_model(kind, f"{kind}_light") for kind in KINDS}
    from hand_pose_ros import models, networks

    def module(card: dict):
        import torch
        torch.manual_seed(0)
        return networks.build(card)
    cards = {kind: models.card(f"{kind}_light") for kind in KINDS}
    return {kind: NetworkSource(kind, f"random_{card['name']}", tuple(card["input"]), lambda c=card: module(c),
                                {"weights": "random"})
            for kind, card in cards.items()}


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
    info(f"{label} latency", f"{detail}; {eager_ms / times[1]:.1f} x faster than eager ({eager_ms:.3f} ms); CUDA "
                             f"graphs: {runtime.info.get('cuda_graphs')}")
    measured.setdefault(source.kind, {})[name] = times[1]
    measured.setdefault(f"{source.kind} eager", {})[name] = eager_ms


SECOND_START = """
import sys, time
started = time.perf_counter()
sys.path.insert(0, {root!r}); sys.path.insert(0, {here!r})
import numpy as np
import gpu_check
from hand_pose_ros.runtimes import Options, host, ladder, tensorrt
from hand_pose_ros.runtimes.cache import EngineCache
source = gpu_check.sources({random})[{kind!r}]
tensorrt.import_tensorrt(), host.cuda_problem()
before = gpu_check.gpu_in_use_mib()
imported = time.perf_counter()
runtime = ladder.climb(source, "tensorrt", Options(cache=EngineCache({cache!r})))
runtime(np.zeros((1, *source.input_shape), np.uint8))
ready = time.perf_counter()
print(imported - started, ready - imported, "torch_tensorrt" in sys.modules, gpu_check.gpu_in_use_mib() - before,
      gpu_check.cpu_peak_mib(), sep="|")
"""


def check_tensorrt(source: NetworkSource, options: Options, random: bool, eager_ms: float):
    """Build, load, agreement, latency, second start in a new process, damaged file. Returns the runtime or None."""
    label = f"{source.kind} tensorrt"
    start = time.perf_counter()
    runtime = guarded(f"{label} builds and loads", ladder.climb, source, "tensorrt", options)
    if runtime is None:
        return None
    check(f"{label} builds and loads", True, f"{time.perf_counter() - start:.1f} s, {json.dumps(runtime.info)}")
    info(f"{label} memory after building", f"{gpu_in_use_mib():.0f} MiB in use on the GPU, CPU peak "
                                           f"{cpu_peak_mib():.0f} MiB")
    check_runtime("tensorrt", source, runtime, eager_ms)
    ingredients = tensorrt.key_ingredients(source, options)
    entry = options.cache.get(ingredients)
    check(f"{label} is stored", entry is not None, runtime.info.get("not_stored") or f"key {entry.key[:12]}")
    if entry is None:
        return runtime
    path = options.cache.path(entry.key)
    whole, written = path.read_bytes(), path.stat().st_ino
    program = SECOND_START.format(root=str(ROOT), here=str(ROOT / "benchmarks"), random=random, kind=source.kind,
                                  cache=str(options.cache.folder))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode:
        check(f"{label} second start", False, (done.stderr.strip().splitlines() or ["no message"])[-1])
    else:
        imports_s, opening_s, builder, gpu_mib, cpu_mib = done.stdout.strip().splitlines()[-1].split("|")
        check(f"{label} second start below {LIMIT_SECOND_START_S} s", float(opening_s) < LIMIT_SECOND_START_S,
              f"{float(opening_s):.2f} s to open and run the cached engine, after {float(imports_s):.2f} s of imports")
        check(f"{label} second start builds nothing", builder == "False" and path.stat().st_ino == written,
              "torch_tensorrt is not imported, the file is the same")
        info(f"{label} memory of the second start",
             f"{float(gpu_mib):.0f} MiB on the GPU besides the CUDA context, CPU peak {float(cpu_mib):.0f} MiB")
    path.write_bytes(whole[:-1000])
    check(f"{label} truncated engine is not loaded", options.cache.get(ingredients) is None, path.name[:12])
    path.write_bytes(whole)
    return runtime


def check_swap(source: NetworkSource) -> None:
    """The CUDA rung serves while TensorRT builds in another process; every call meanwhile is answered, and the same."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as scratch:
        runtime = ladder.climb(source, "auto", Options(cache=EngineCache(scratch), live=True))
        images = drawn_hands(*source.input_shape[:2], 1)
        first, names, calls, furthest = runtime(images), [runtime.name], 0, 0.0
        end = time.monotonic() + SWAP_WAIT_S
        while getattr(runtime, "building", False) and time.monotonic() < end:
            outputs, calls = runtime(images), calls + 1
            furthest = max(furthest, float(np.abs(outputs[0] - first[0]).max()))
            time.sleep(0.005)
        outputs = runtime(images)
        furthest = max(furthest, float(np.abs(outputs[0] - first[0]).max()))
        names.append(runtime.name)
    check("engine built in the background is swapped in", names[-1] == "tensorrt",
          f"{' then '.join(names)}, {calls} calls meanwhile, none lost, furthest {furthest:.3f} px from the first; "
          f"{runtime.reason or 'no reason given'}")


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
    placed = frame.letterboxed((224, 256)).cpu().numpy()[0].astype(int)
    difference = np.abs(placed - detect.letterbox(image, (224, 256))[0])
    check("GPU letterbox equals CPU letterbox", difference.max() <= 1, f"largest difference {difference.max()} levels")


def check_frame(name: str, detector, pose) -> None:
    """Camera frame in memory to joints in metres, one hand: upload, crop, network, download, lift."""
    for width, height in ((640, 480), (1280, 720)):
        image = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
        camera = cameras.assumed(width, height, 60.0)
        half = height / 8
        box = np.array([width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half])
        found = Detection(box, 1.0, 1.0, np.array([0.0, -1.0]))
        uploaded = Uploaded()
        looking, searching = DeviceLook(pose, uploaded), DeviceDense(detector, uploaded)
        search = detect.Detector(detector, detector.source.input_shape[:2], searching)

        def joints(fresh: np.ndarray) -> None:
            geometry = crops.plan(camera, found, pose.source.input_shape[0])
            outputs = looking.outputs(fresh, camera, [geometry])
            crop = Crop(fresh, geometry.K, geometry.R_camera_crop, geometry.mirrored)
            lift(crop, CropPose(*(output[0] for output in outputs)), camera)

        def detection() -> None:
            fresh = image[:]
            search(fresh)
            joints(fresh)                                       # the frame is on the GPU already
            joints(fresh)

        took = median_ms(lambda: joints(image[:]))              # another array object: uploaded anew, as each frame is
        info(f"{name} frame to joints {width} x {height}", f"{took:.3f} ms")
        measured.setdefault(f"frame to joints {width} x {height}", {})[name] = took
        took = median_ms(detection)
        info(f"{name} detection frame {width} x {height}", f"{took:.3f} ms: detector and two looks, one upload")


def check_goals() -> None:
    """What the project wants to reach, by the best runtime that ran and agreed."""
    for kind, limit_ms, speed_up in (("pose", LIMIT_POSE_MS, LIMIT_SPEED_UP),
                                     ("frame to joints 640 x 480", LIMIT_FRAME_MS, None)):
        if not measured.get(kind):
            check(f"GOAL {kind}", False, "no runtime could be measured")
            continue
        name = min(measured[kind], key=measured[kind].get)
        took = measured[kind][name]
        check(f"GOAL {kind} below {limit_ms} ms", took < limit_ms, f"{took:.3f} ms through {name}")
        if speed_up:
            factor = measured[f"{kind} eager"][name] / took
            check(f"GOAL {kind} at least {speed_up} x faster than eager", factor >= speed_up,
                  f"{factor:.1f} x through {name}, eager at its better precision")


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
    info("versions", f"torch {torch.__version__}, Python {sys.version.split()[0]}")
    guarded("GPU crop equals CPU crop", check_crops)
    with tempfile.TemporaryDirectory(dir=Path.home()) as scratch:
        options = Options(cache=EngineCache(args.cache or scratch),
                          report=lambda line: print(f"     {line}", flush=True))
        opened: dict[str, dict] = {"cuda": {}, "tensorrt": {}}
        for kind, source in sources(args.random).items():
            timings = {half: guarded(f"{kind} eager", eager_milliseconds, source, half) for half in (False, True)}
            if None in timings.values():
                continue
            info(f"{kind} eager on the GPU", f"fp32 {timings[False]:.3f} ms, fp16 {timings[True]:.3f} ms")
            eager_ms = min(timings.values())
            opened["cuda"][kind] = guarded(f"{kind} cuda opens", ladder.climb, source, "cuda", options)
            if opened["cuda"][kind]:
                check_runtime("cuda", source, opened["cuda"][kind], eager_ms)
            opened["tensorrt"][kind] = check_tensorrt(source, options, args.random, eager_ms)
            if opened["tensorrt"][kind] or tensorrt.engine_problem():       # else it would build in vain once more
                automatic = guarded(f"{kind} auto", ladder.climb, source, "auto", options)
                expected = "tensorrt" if opened["tensorrt"][kind] else "cuda"
                check(f"{kind} auto serves through {expected}", automatic is not None and automatic.name == expected,
                      automatic.reason or "nothing passed over" if automatic else "see above")
        for name, pair in opened.items():
            if pair.get("detector") and pair.get("pose"):
                guarded(f"{name} frame to joints", check_frame, name, pair["detector"], pair["pose"])
        if opened["tensorrt"].get("pose") and not args.random:      # the build process knows models by name only
            guarded("engine built in the background is swapped in", check_swap, from_model("pose", "pose_light"))
    info("memory at the end", f"{gpu_in_use_mib():.0f} MiB in use on the GPU, CPU peak {cpu_peak_mib():.0f} MiB")
    check_goals()
    failed = [one["name"] for one in checks if one["passed"] is False]
    print(f"{sum(one['passed'] is True for one in checks)} passed, {len(failed)} failed"
          + (f": {', '.join(failed)}" if failed else ""))
    if args.out:
        Path(args.out).write_text(json.dumps({"machine": host.gpu_ingredients(), "checks": checks}, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
