"""Memory of one process that finds hands, without ROS: what docs/jetson.md states.

    python3 benchmarks/memory.py [--runtime onnxruntime onnxruntime-int8 cpu]

Each runtime gets a fresh process that takes 30 images of 640 x 480, once with an empty engine cache, as at the first
start on a machine, and once more as ever after. Prints the peak of the resident memory.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SERVE = """
import dataclasses, resource
import hand_pose_ros.one_blas_thread
import numpy as np
from hand_pose_ros import camera, config, pipeline
from hand_pose_ros.types import Frame
settings = dataclasses.replace(config.Config(), runtime="{runtime}")
chain, state = pipeline.load(settings), pipeline.PipelineState()
image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
for number in range(30):
    state, _ = chain.step(state, Frame(image, camera.assumed(640, 480, 60.0), 1 + number * 33_000_000), settings)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def main() -> None:
    """Print a line for each runtime."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", nargs="+", default=["onnxruntime", "onnxruntime-int8", "cpu"])
    for runtime in parser.parse_args().runtime:
        with tempfile.TemporaryDirectory() as cache:
            took = [int(subprocess.run([sys.executable, "-c", SERVE.format(runtime=runtime)], cwd=ROOT, check=True,
                                       stdout=subprocess.PIPE, env={**os.environ, "ROS_HOME": cache}).stdout)
                    for _ in range(2)]
        print(f"{runtime}: {took[0]} MB at the first start, {took[1]} MB after that")


if __name__ == "__main__":
    main()
