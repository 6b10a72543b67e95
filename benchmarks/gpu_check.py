"""Everything about the runtimes that needs a GPU, in one command, PASS or FAIL line by line. Needs no network.

    python3 benchmarks/gpu_check.py [--random] [--limit 560] [--out report.json]

Without --random the shipped models are checked; with it the same architectures with random weights. INFO lines are
measurements without a limit, GOAL lines hold the best runtime against what the project wants to reach.

Each piece runs in a process of its own, torch on the GPU first: TensorRT may crash or hang on a GPU that it was not
made for, and that costs the lines of its piece and no other. The report is written again after every line. What does
not fit into --limit seconds is ended or left out, and a line says so.

Torch-TensorRT, or its TensorRT-RTX flavour, is used where it is installed; without it those lines are FAIL and the CUDA
lines still count. For a host without network fetch the wheels elsewhere, for its Python and torch, and take them along:

    pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 -d wheels \\
        torch-tensorrt-rtx==2.11.0 tensorrt-rtx-cu13-libs==1.4.0.76 tensorrt-rtx-cu13-bindings==1.4.0.76 dllist \\
        psutil
    pip wheel --no-deps -w wheels tensorrt-rtx==1.4.0.76 tensorrt-rtx-cu13==1.4.0.76       # published as source only
    pip install --no-index --no-deps --target site wheels/*.whl && export PYTHONPATH=$PWD/site      # on the host

A host whose calls are limited to 64 MiB takes them in two halves of 31 MB. Before the first call:

    pip install --no-index --no-deps --no-compile --only-binary=:all: --python-version 3.12 \\
        --platform manylinux_2_28_x86_64 --target site wheels/*.whl
    tar -C site -cf - . | xz -9 > site.tar.xz && split -n 2 -d site.tar.xz half. && rm site.tar.xz    # half.00, half.01

The first call brings half.00, the second half.01 and this repository, before what the first has left is gone:

    cp half.00 ~/                                                                           # all of the first call
    cat ~/half.00 half.01 > ~/site.tar.xz && python3 -m tarfile -e ~/site.tar.xz ~/site &&
        PYTHONPATH=~/site python3 benchmarks/gpu_check.py --out report.json                 # the second
"""
from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Callable

STARTED = time.perf_counter()

import numpy as np  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hand_pose_ros import camera as cameras  # noqa: E402
from hand_pose_ros import crop as crops  # noqa: E402
from hand_pose_ros import detect  # noqa: E402
from hand_pose_ros.errors import ModelError  # noqa: E402
from hand_pose_ros.lift import lift  # noqa: E402
from hand_pose_ros.runtimes import POSE_ACCURATE, Options, eager, host, ladder, tensorrt  # noqa: E402
from hand_pose_ros.runtimes.agreement import drawn_hands, refuse_disagreement  # noqa: E402
from hand_pose_ros.runtimes.build import DETECTOR  # noqa: E402
from hand_pose_ros.runtimes.cache import EngineCache, Entry  # noqa: E402
from hand_pose_ros.runtimes.gpu_frame import DeviceDense, DeviceFrame, DeviceLook, Uploaded  # noqa: E402
from hand_pose_ros.runtimes.source import NetworkSource, from_model  # noqa: E402
from hand_pose_ros.runtimes.with_parent import end_with_parent  # noqa: E402
from hand_pose_ros.types import Camera, CropPose, Crop, Detection  # noqa: E402

LIMIT_POSE_MS = 1.0
LIMIT_FRAME_MS = 3.0
LIMIT_SECOND_START_S = 5.0
LIMIT_SPEED_UP = 3.0
LIMIT_SWAP_PX = 1.0
LIMIT_S = 560.0
SHORTEST_S = 20.0
"""A piece that has less than this is left out: a process needs about as long to import everything and reach the GPU."""
SPIN_UP_S = 1.0
MODELS = {"pose": POSE_ACCURATE, "detector": DETECTOR}
"""What a node takes on a GPU."""
KINDS = tuple(MODELS)
FRAMES = ((640, 480), (1280, 720))
SEES_A_GPU = "torch sees a GPU"
RECORD = "\x1e"
"""Before each record that a piece prints: libraries print to the same stream, and not always whole lines."""


def record(**fields) -> None:
    """Hands one record to the process that runs all pieces."""
    print(f"{RECORD}{json.dumps(fields)}", flush=True)


def check(name: str, passed: bool, detail: str) -> None:
    """One line, PASS or FAIL."""
    record(name=name, passed=bool(passed), detail=detail)


def info(name: str, detail: str) -> None:
    """A measurement that has no limit."""
    record(name=name, passed=None, detail=detail)


def measured(what: str, runtime: str, milliseconds: float) -> None:
    """A measurement that the GOAL lines may count."""
    record(measured=what, runtime=runtime, milliseconds=milliseconds)


def guarded(name: str, function, *args):
    """What the function returns; a FAIL line and None if it raises."""
    try:
        return function(*args)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())[:600]}")
        return None


def gpu_in_use_mib() -> float:
    """Of the whole GPU, all processes together; TensorRT allocates past torch."""
    import torch
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


def cpu_peak_mib() -> float:
    """Of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def source_of(kind: str, random: bool) -> NetworkSource:
    """The network to check."""
    if not random:
        return from_model(kind, MODELS[kind])
    from hand_pose_ros import models, networks
    card = models.card(MODELS[kind])

    def module():
        import torch
        torch.manual_seed(0)
        return networks.build(card)

    return NetworkSource(kind, f"random_{card['name']}", tuple(card["input"]), module, {"weights": "random"})


def options_of(run: argparse.Namespace) -> Options:
    """With the engine cache that all pieces share."""
    return Options(cache=EngineCache(run.cache), report=lambda line: print(f"     {line}", flush=True))


def spin_up() -> None:
    """Matrix products until the GPU has left its idle clocks: else what is timed first looks slow."""
    import torch
    matrix = torch.ones((4096, 4096), dtype=torch.half, device="cuda")
    end = time.perf_counter() + SPIN_UP_S
    while time.perf_counter() < end:
        matrix @ matrix
        torch.cuda.synchronize()


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


def device_ms(function, repeats: int = 200, warm_up: int = 30) -> float:
    """Median time of one call in milliseconds between two CUDA events: the GPU's part, with its waits for the CPU."""
    import torch
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(warm_up + repeats)]
    for before, after in pairs:
        before.record()
        function()
        after.record()
    torch.cuda.synchronize()
    return float(np.median([before.elapsed_time(after) for before, after in pairs[warm_up:]]))


def eager_milliseconds(source: NetworkSource, half: bool) -> tuple[float, float]:
    """One image through the plain module on the GPU, no CUDA graph: the whole call, and the network alone. Like the
    runtimes it pays for one upload from page-locked memory and one download of all outputs."""
    import torch
    torch.backends.cudnn.benchmark = True
    module = source.module().eval().cuda().to(memory_format=torch.channels_last)
    module = module.half() if half else module
    pinned = torch.zeros((1, *source.input_shape), dtype=torch.uint8, pin_memory=True)

    def once() -> None:
        outputs = eager.as_tuple(module(pinned.to("cuda", non_blocking=True)))
        torch.cat([output.reshape(-1).float() for output in outputs]).cpu()

    with torch.inference_mode():
        image = pinned.cuda()
        spin_up()
        return median_ms(once), device_ms(lambda: module(image))


def latencies(runtime) -> dict[int, float]:
    """Median milliseconds of one call by batch size."""
    height, width, _ = runtime.source.input_shape
    times = {}
    for batch in (size for size in (1, 2, 4) if size <= runtime.max_batch):
        images = drawn_hands(height, width, batch)
        times[batch] = median_ms(lambda images=images: runtime(images))
    return times


def check_runtime(name: str, runtime) -> None:
    """Agreement with eager and latencies of one opened runtime. What disagrees counts for no goal."""
    source = runtime.source
    label = f"{source.kind} {name}"
    difference = guarded(f"{label} agrees with eager",
                         lambda: refuse_disagreement(runtime, eager.open_cpu(source, Options())))
    if difference is not None:
        check(f"{label} agrees with eager", True, json.dumps(difference))
    guarded(f"{label} spin-up", spin_up)
    times = guarded(f"{label} latency", latencies, runtime)
    if times:
        detail = ", ".join(f"batch {batch}: {value:.3f} ms" for batch, value in times.items())
        info(f"{label} latency", f"{detail}; CUDA graphs: {runtime.info.get('cuda_graphs')}")
        if difference is not None:
            measured(source.kind, name, times[1])


def check_machine(run: argparse.Namespace) -> None:
    """What is here: GPU, versions, networks."""
    problem = host.cuda_problem()
    check(SEES_A_GPU, not problem, problem or json.dumps(host.gpu_ingredients()))
    if not problem:
        record(machine=host.gpu_ingredients())
    tools = [f"{package} {host.version(package) or 'not installed'}" for package in ("torch", *host.TENSORRT_PACKAGES)]
    info("versions", f"Python {sys.version.split()[0]}, {', '.join(tools)}")
    for kind in KINDS:
        if guarded(f"{kind} network loads", lambda: source_of(kind, run.random).module()):
            check(f"{kind} network loads", True, "random weights" if run.random else MODELS[kind])


def check_cuda(run: argparse.Namespace, kind: str) -> None:
    """torch on the GPU: the plain module, which is what runtimes are compared with, and CUDA graphs."""
    source = source_of(kind, run.random)
    for name, half in (("fp32", False), ("fp16", True)):
        times = guarded(f"{kind} eager {name} on the GPU", eager_milliseconds, source, half)
        if times:
            info(f"{kind} eager {name} on the GPU", f"{times[0]:.3f} ms, of which {times[1]:.3f} ms are the network "
                                                    f"between two CUDA events")
            measured(f"{kind} eager", name, times[0])
    runtime = guarded(f"{kind} cuda opens", ladder.climb, source, "cuda", options_of(run))
    if runtime:
        check(f"{kind} cuda opens", True, json.dumps(runtime.info))
        check_runtime("cuda", runtime)
    info(f"{kind} cuda memory", f"{gpu_in_use_mib():.0f} MiB in use on the GPU, CPU peak {cpu_peak_mib():.0f} MiB")


def check_tensorrt(run: argparse.Namespace, kind: str) -> None:
    """Build, load, agreement, latency, and what "auto" takes then."""
    source, options, label = source_of(kind, run.random), options_of(run), f"{kind} tensorrt"
    start = time.perf_counter()
    runtime = guarded(f"{label} builds and loads", ladder.climb, source, "tensorrt", options)
    if runtime:
        check(f"{label} builds and loads", True, f"{time.perf_counter() - start:.1f} s, {json.dumps(runtime.info)}")
        info(f"{label} memory after building", f"{gpu_in_use_mib():.0f} MiB in use on the GPU, CPU peak "
                                               f"{cpu_peak_mib():.0f} MiB")
        check_runtime("tensorrt", runtime)
    entry = None if tensorrt.engine_problem() else options.cache.get(tensorrt.key_ingredients(source, options))
    if runtime:
        check(f"{label} is stored", entry is not None, runtime.info.get("not_stored") or "in the cache")
    if runtime or entry or tensorrt.engine_problem():               # else it would build in vain once more
        automatic = guarded(f"{kind} auto", ladder.climb, source, "auto", options)
        expected = "tensorrt" if runtime else "cuda"
        check(f"{kind} auto serves through {expected}", automatic is not None and automatic.name == expected,
              automatic.reason or "nothing passed over" if automatic else "see above")


def stored(source: NetworkSource, options: Options) -> Entry:
    """The engine in the cache. Raises ModelError if there is none that serves: nothing is built in its place here."""
    problem = tensorrt.engine_problem()
    entry = None if problem else options.cache.get(tensorrt.key_ingredients(source, options))
    if entry is None or entry.refused:
        raise ModelError(problem or (entry.refused if entry else f"no engine of {source.model} was stored"))
    return entry


def check_second_start(run: argparse.Namespace, kind: str) -> None:
    """The stored engine in a process that builds nothing; then a damaged file."""
    source, options, label = source_of(kind, run.random), options_of(run), f"{kind} tensorrt"
    path = options.cache.path(stored(source, options).key)
    written = path.stat().st_ino
    tensorrt.import_tensorrt()
    before, imported = gpu_in_use_mib(), time.perf_counter()
    runtime = ladder.climb(source, "tensorrt", options)
    runtime(np.zeros((1, *source.input_shape), np.uint8))
    took = time.perf_counter() - imported
    check(f"{label} second start below {LIMIT_SECOND_START_S} s", took < LIMIT_SECOND_START_S,
          f"{took:.2f} s to open and run the cached engine, after {imported - STARTED:.2f} s of imports")
    check(f"{label} second start builds nothing", "torch_tensorrt" not in sys.modules and path.stat().st_ino == written,
          "torch_tensorrt is not imported, the file is the same")
    info(f"{label} memory of the second start", f"{gpu_in_use_mib() - before:.0f} MiB on the GPU besides the CUDA "
                                                f"context, CPU peak {cpu_peak_mib():.0f} MiB")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    entry = options.cache.get(tensorrt.key_ingredients(source, options))
    path.write_bytes(whole)
    check(f"{label} truncated engine is not loaded", entry is None, path.name[:12])


def check_swap(run: argparse.Namespace) -> None:
    """The CUDA rung serves while TensorRT builds in another process; every call meanwhile is answered, and the same."""
    name = "engine built in the background is swapped in"
    if run.random:
        info(name, "not run: the build process knows models by name only")
        return
    source = source_of("pose", run.random)
    stored(source, options_of(run))                                 # else it would be waited for in vain
    with tempfile.TemporaryDirectory(dir=Path.home()) as scratch:
        runtime = ladder.climb(source, "auto", Options(cache=EngineCache(scratch), live=True))
        images = drawn_hands(*source.input_shape[:2], 1)
        first, names, calls, furthest = runtime(images), [runtime.name], 0, 0.0
        end = time.monotonic() + run.limit - (time.perf_counter() - STARTED) - 5.0
        while getattr(runtime, "building", False) and time.monotonic() < end:
            outputs, calls = runtime(images), calls + 1
            furthest = max(furthest, float(np.abs(outputs[0] - first[0]).max()))
            time.sleep(0.005)
        outputs = runtime(images)
        furthest = max(furthest, float(np.abs(outputs[0] - first[0]).max()))
        names.append(runtime.name)
    check(name, names[-1] == "tensorrt" != names[0] and calls > 0 and furthest < LIMIT_SWAP_PX,
          f"{' then '.join(names)}, {calls} calls meanwhile, none lost, furthest {furthest:.3f} px from the first; "
          f"{runtime.reason or 'no reason given'}")


def check_crops(run: argparse.Namespace) -> None:
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


def check_frame(run: argparse.Namespace, name: str) -> None:
    """Camera frame in memory to joints in metres, one hand: upload, crop, network, download, lift."""
    options, networks = options_of(run), {}
    for kind in KINDS:
        source = source_of(kind, run.random)
        if name == "tensorrt":
            stored(source, options)
        networks[kind] = ladder.climb(source, name, options)
    pose, detector = networks["pose"], networks["detector"]
    spin_up()
    for width, height in FRAMES:
        image = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
        camera = cameras.assumed(width, height, 60.0)
        half = height / 8
        box = np.array([width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half])
        found = Detection(box, 1.0, 1.0, np.array([0.0, -1.0]))
        uploaded = Uploaded()
        looking, searching = DeviceLook(pose, uploaded), DeviceDense(detector, uploaded)
        search = detect.Detector(detector, detector.source.input_shape[:2], searching)

        def joints(fresh: np.ndarray, camera: Camera = camera) -> None:
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
        measured(f"frame to joints {width} x {height}", name, took)
        lens = Camera(width, height, camera.K, "plumb_bob", np.array([-0.28, 0.09, 0.001, -0.002, 0.0]))
        took = median_ms(lambda: joints(image[:], lens))
        info(f"{name} frame to joints {width} x {height} through a lens", f"{took:.3f} ms")
        took = median_ms(detection)
        info(f"{name} detection frame {width} x {height}", f"{took:.3f} ms: detector and two looks, one upload")


PIECES: dict[str, tuple[Callable[[argparse.Namespace], None], float]] = {
    "machine": (check_machine, 120),
    "pose cuda": (functools.partial(check_cuda, kind="pose"), 120),
    "detector cuda": (functools.partial(check_cuda, kind="detector"), 120),
    "cuda frame to joints": (functools.partial(check_frame, name="cuda"), 90),
    "crops on the GPU": (check_crops, 60),
    "pose tensorrt": (functools.partial(check_tensorrt, kind="pose"), 200),
    "pose tensorrt second start": (functools.partial(check_second_start, kind="pose"), 60),
    "detector tensorrt": (functools.partial(check_tensorrt, kind="detector"), 200),
    "detector tensorrt second start": (functools.partial(check_second_start, kind="detector"), 60),
    "tensorrt frame to joints": (functools.partial(check_frame, name="tensorrt"), 90),
    "swap": (check_swap, 270),
}
"""What runs, in this order: most important first, what may take long or crash last. And the seconds that it may take
within the default limit, more within a longer one: a small robot builds for minutes."""


class Report:
    """All lines so far. They are printed and written to ``out`` as they come, so that nothing later costs them."""

    def __init__(self, out: str | None) -> None:
        self.out = Path(out) if out else None
        if self.out:
            self.out.parent.mkdir(parents=True, exist_ok=True)
        self.machine: dict[str, str] = {}
        self.checks: list[dict] = []
        self.measured: dict[str, dict[str, float]] = {}
        """Milliseconds by what was measured and runtime."""

    def line(self, name: str, passed: bool | None, detail: str) -> None:
        """Prints and keeps one line; passed is None for a measurement without a limit."""
        self.checks.append({"name": name, "passed": passed, "detail": detail})
        print(f"{'INFO' if passed is None else 'PASS' if passed else 'FAIL'} {name}: {detail}", flush=True)
        self.write()

    def take(self, fields: dict) -> None:
        """One record of a piece."""
        if "machine" in fields:
            self.machine = fields["machine"]
        elif "measured" in fields:
            self.measured.setdefault(fields["measured"], {})[fields["runtime"]] = fields["milliseconds"]
        else:
            self.line(**fields)

    def write(self) -> None:
        """The report as JSON, whole at any moment."""
        if self.out:
            partial = self.out.with_name(f".{self.out.name}.partial")
            partial.write_text(json.dumps({"machine": self.machine, "checks": self.checks,
                                           "measured_ms": self.measured}, indent=1))
            os.replace(partial, self.out)

    def failed(self) -> dict[str, str]:
        """The details of all FAIL lines by name."""
        return {one["name"]: one["detail"] for one in self.checks if one["passed"] is False}


def command(piece: str, args: argparse.Namespace, seconds: float) -> list[str]:
    """What runs one piece."""
    return [sys.executable, str(Path(__file__).resolve()), "--piece", piece, "--cache", args.cache, "--limit",
            f"{seconds:.0f}", *(["--random"] if args.random else [])]


def run_piece(report: Report, piece: str, args: argparse.Namespace, seconds: float) -> None:
    """One piece in a process of its own. A signal, an exit or the end of its time becomes one FAIL line."""
    alive, ours = os.pipe()                                     # the piece ends with this process, however that ends
    ended_here = threading.Event()
    with subprocess.Popen(command(piece, args, seconds), stdin=alive, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", start_new_session=True) as process:
        def end() -> None:
            ended_here.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, end)
        timer.start()
        last = ""
        try:
            os.close(alive)
            for text in process.stdout:
                chatter, _, found = text.rstrip("\n").partition(RECORD)
                if chatter.strip():
                    print(chatter, file=sys.stderr, flush=True)
                    last = chatter.strip()
                with contextlib.suppress(ValueError):           # half a record of a process that was killed
                    report.take(json.loads(found))
            process.wait()
        finally:
            timer.cancel()
            os.close(ours)
            if process.returncode is None:
                end()
    if ended_here.is_set():
        report.line(piece, False, f"did not end within {seconds:.0f} s; the last it said: {last[:300]}")
    elif process.returncode:
        how = (signal.Signals(-process.returncode).name if process.returncode < 0 else f"exit {process.returncode}")
        report.line(piece, False, f"ended with {how}; the last it said: {last[:300]}")


def check_goals(report: Report) -> None:
    """What the project wants to reach, by the best runtime that ran and agreed."""
    reached = report.measured
    agreed = [name for name in reached.get("pose", {}) if name in reached.get("detector", {})]
    frame = {name: took for name, took in reached.get("frame to joints 640 x 480", {}).items() if name in agreed}
    for what, times, limit_ms in (("pose", reached.get("pose"), LIMIT_POSE_MS),
                                  ("frame to joints 640 x 480", frame, LIMIT_FRAME_MS)):
        if not times:
            report.line(f"GOAL {what} below {limit_ms} ms", False, "no runtime that agrees could be measured")
            continue
        name = min(times, key=times.get)
        report.line(f"GOAL {what} below {limit_ms} ms", times[name] < limit_ms, f"{times[name]:.3f} ms through {name}")
    for kind in KINDS:
        plain, times = reached.get(f"{kind} eager"), reached.get(kind)
        if plain and times:
            factors = {name: min(plain.values()) / took for name, took in times.items()}
            report.line(f"{kind} faster than eager", None, ", ".join(f"{factor:.1f} x through {name}" for name, factor
                                                                     in factors.items()))
    goal = f"GOAL pose at least {LIMIT_SPEED_UP} x faster than eager"
    if reached.get("pose") and reached.get("pose eager"):
        factor = min(reached["pose eager"].values()) / min(reached["pose"].values())
        report.line(goal, factor >= LIMIT_SPEED_UP, f"{factor:.1f} x, eager at its better precision")
    else:
        report.line(goal, False, "eager and a runtime that agrees could not both be measured")


def run_all(report: Report, args: argparse.Namespace) -> None:
    """Every piece that fits into the time."""
    deadline = time.perf_counter() + args.limit
    for piece, (_, most) in PIECES.items():
        left = deadline - time.perf_counter()
        if SEES_A_GPU in report.failed():
            report.line(piece, False, f"not run: {report.failed()[SEES_A_GPU]}")
        elif left < SHORTEST_S:
            report.line(piece, False, f"not run: {max(left, 0):.0f} s of --limit {args.limit:.0f} are left")
        else:
            run_piece(report, piece, args, min(most * max(1.0, args.limit / LIMIT_S), left))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", action="store_true", help="random weights instead of the shipped models")
    parser.add_argument("--cache", help="engine cache (default: a new folder that is removed at the end)")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="SECONDS",
                        help="pieces that do not fit are ended or left out (default: %(default).0f)")
    parser.add_argument("--out", help="write all lines as JSON, again after each")
    parser.add_argument("--piece", choices=PIECES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.piece:
        end_with_parent()
        guarded(args.piece, PIECES[args.piece][0], args)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))       # so that the goals are still written
    report = Report(args.out)
    with tempfile.TemporaryDirectory(dir=Path.home()) as scratch:
        args.cache = args.cache or scratch
        try:
            run_all(report, args)
        finally:
            check_goals(report)
    failed = list(report.failed())
    print(f"{sum(one['passed'] is True for one in report.checks)} passed, {len(failed)} failed"
          + (f": {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
