"""Time per image of everything in the core but the networks, with two hands at 640 x 480.

    python3 benchmarks/overhead.py [--lens plumb_bob] [--size 224] [--images 300]

The networks are the tests' oracle, whose own time is measured and left out. On a busy machine only the row of CPU time
means something.
"""
from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "core")]

import hand_pose_ros.one_blas_thread  # noqa: F401, E402

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from oracle import Oracle, hand  # noqa: E402

from hand_pose_ros.config import Config  # noqa: E402
from hand_pose_ros.pipeline import Pipeline, PipelineState  # noqa: E402
from hand_pose_ros.types import Camera, Frame  # noqa: E402

LENSES = {
    "none": ("plumb_bob", []),
    "plumb_bob": ("plumb_bob", [0.12, -0.25, 0.0007, -0.0011, 0.09]),
    "rational_polynomial": ("rational_polynomial", [0.4, -2.1, 0.0006, -0.0002, 1.4, 0.28, -1.9, 1.3]),
    "equidistant": ("equidistant", [-0.02, 0.011, -0.006, 0.0012]),
}


class Stopwatch:
    """Adds up the time inside a callable."""

    def __init__(self, function):
        self.function, self.seconds, self.cpu_seconds = function, 0.0, 0.0

    def __call__(self, *args):
        start, cpu = time.perf_counter(), time.process_time()
        result = self.function(*args)
        self.seconds += time.perf_counter() - start
        self.cpu_seconds += time.process_time() - cpu
        return result


def measure(lens: str, size: int, images: int) -> dict[str, list[float]]:
    """Milliseconds per image, in total without the networks, and of the stages."""
    model, D = LENSES[lens]
    camera = Camera(640, 480, np.array([[610.0, 0, 321.5], [0, 605.0, 238.0], [0, 0, 1]]), model, np.array(D, float))
    oracle = Oracle(camera, size=size, uv_sigma=1.0, xyz_sigma=0.02)
    estimate = Stopwatch(oracle.estimate)
    pipe = Pipeline(oracle.detect, estimate, size)
    state, config = PipelineState(), Config()
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8), (0, 0), 3)
    out: dict[str, list[float]] = {"total": [], "total CPU": [], "boxes": [], "crops": [], "lift and track": []}
    for k in range(images + 10):
        t = k / 30
        oracle.hands = [(hand(at=(0.12 + 0.03 * np.sin(t), 0.02, 0.6), turn=(0.2, 0, 0.4 * np.sin(t))), True),
                        (hand(right=False, at=(-0.14, 0.02 * np.cos(t), 0.65), turn=(0, 0.3, 0.2)), False)]
        estimate.seconds, estimate.cpu_seconds = 0.0, 0.0
        start, cpu = time.monotonic(), time.process_time()
        state, result = pipe.step(state, Frame(image, camera, int((t + 1) * 1e9)), config)
        end, cpu = time.monotonic(), time.process_time() - cpu
        if k < 10 or result.detector_ran:
            continue
        detect, pose, lift = result.marks_s["detect"], result.marks_s["pose"], result.marks_s["lift"]
        for name, seconds in (("total", end - start - estimate.seconds),
                              ("total CPU", cpu - estimate.cpu_seconds), ("boxes", detect - start),
                              ("crops", pose - detect - estimate.seconds), ("lift and track", lift - pose)):
            out[name].append(1e3 * seconds)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lens", choices=(*LENSES, "all"), default="all")
    parser.add_argument("--size", type=int, default=224, help="pixels of the crop's side")
    parser.add_argument("--images", type=int, default=300)
    args = parser.parse_args()
    print(f"{'lens':<20} {'stage':<15} {'median ms':>10} {'p95 ms':>8}")
    for lens in LENSES if args.lens == "all" else (args.lens,):
        for stage, values in measure(lens, args.size, args.images).items():
            p95 = statistics.quantiles(values, n=20)[-1]
            print(f"{lens:<20} {stage:<15} {statistics.median(values):>10.2f} {p95:>8.2f}")


if __name__ == "__main__":
    main()
