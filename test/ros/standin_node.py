"""The real node with an oracle for its networks: it sees coloured squares, red for a right and blue for a left hand.

Run as a process of its own: python standin_node.py --ros-args ...
"""
from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

import oracle  # noqa: E402
from hand_pose_ros import camera as cameras  # noqa: E402
from hand_pose_ros import pipeline  # noqa: E402
from hand_pose_ros.ros.engine import Engine  # noqa: E402
from hand_pose_ros.ros.node import main  # noqa: E402
from hand_pose_ros.runtimes.background import Swapping  # noqa: E402
from hand_pose_ros.runtimes.base import Runtime  # noqa: E402

DISTANCE_M = 0.6
SQUARE = 15
COLORS = {True: (255, 0, 0), False: (0, 0, 255)}


def joints_at(camera, center_px, is_right):
    """The hand (21, 3) m whose middle knuckle is seen at center_px, DISTANCE_M away."""
    at = cameras.unproject(camera, np.asarray(center_px, float)) * DISTANCE_M
    return oracle.hand(right=is_right, at=at)


def picture(hands, width=320, height=240):
    """Image (H, W, 3) with one coloured square per (center_px, is_right)."""
    rgb = np.full((height, width, 3), 60, np.uint8)
    for (u, v), is_right in hands:
        rgb[v - SQUARE: v + SQUARE + 1, u - SQUARE: u + SQUARE + 1] = COLORS[is_right]
    return rgb


def squares(rgb):
    """The (center_px, is_right) that picture drew, also after JPEG."""
    found = []
    for is_right, color in COLORS.items():
        mask = (np.abs(rgb.astype(int) - color) < 80).all(-1)
        if mask.sum() > SQUARE * SQUARE:
            rows, columns = np.nonzero(mask)
            found.append(((columns.mean(), rows.mean()), is_right))
    return found


class Network:
    """What says which runtime serves."""

    name, reason = "cpu", "stand-in"


def network():
    """What says which runtime serves. If FASTER_WHEN_THERE names a file, a faster one is built until it is there."""
    file = os.environ.get("FASTER_WHEN_THERE", "")
    if not file:
        return Network()
    source = SimpleNamespace(model="squares", input_shape=(8, 8, 3))

    def named(name):
        runtime = Runtime(source, 4)
        runtime.name, runtime.run = name, lambda batch: ()
        return runtime

    def build():
        while not Path(file).exists():
            time.sleep(0.02)
        return named("onnxruntime-int8")
    return Swapping(named("onnxruntime"), build, lambda line: None, "onnxruntime-int8")


class SquareEngine(Engine):
    """The real engine and pipeline, with an oracle that is told by the squares where the hands are.

    delay_s: how long the pose network takes. oracle_s: processor time the oracle has used, to take it off in
    benchmarks.
    """

    def __init__(self, delay_s: float = 0.0, size: int = 224) -> None:
        self.oracle = oracle.Oracle(cameras.assumed(8, 8, 60.0), size=size)
        self.delay_s, self.oracle_s = delay_s, 0.0
        steps = pipeline.Pipeline(self.detect, self.estimate, self.oracle.size)
        super().__init__(steps, "squares 00000000", (network(),))

    def detect(self, image, threshold):
        return self.timed(self.oracle.detect, image)

    def estimate(self, crops):
        time.sleep(self.delay_s)
        return self.timed(self.oracle.estimate, crops)

    def look(self, frame):
        self.oracle.camera = frame.camera
        self.oracle.hands = [(joints_at(frame.camera, *square), square[1]) for square in squares(frame.image)]

    def step(self, frame, values):
        self.timed(self.look, frame)
        return super().step(frame, values)

    def timed(self, function, *arguments):
        started_s = time.thread_time()
        answer = function(*arguments)
        self.oracle_s += time.thread_time() - started_s
        return answer


if __name__ == "__main__":
    delay_s = float(sys.argv.pop(1)) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else 0.0
    sys.exit(main(sys.argv, load=lambda values: SquareEngine(delay_s)))
