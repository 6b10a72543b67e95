"""How well the calibration pose measures a hand: the error behind ``lift.CALIBRATED_LENGTH_SIGMA``.

    python3 benchmarks/calibrated_length.py [--hands 40]

Flat virtual hands of different owners, still before a camera with exact depth, go through the pipeline as in `hand-pose
calibrate`; printed is the rms relative error of the hand length that depth gives, and of the one assumed without.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hand_pose_ros.one_blas_thread  # noqa: F401, E402
import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

from hand_pose_ros import pipeline  # noqa: E402
from hand_pose_ros.config import Config  # noqa: E402
from hand_pose_ros.skeleton import ADULT_HAND_LENGTH_M  # noqa: E402
from hand_pose_ros.synthesis import motions, poses, sequence  # noqa: E402
from hand_pose_ros.types import ScaleSource  # noqa: E402

FRAMES, RATE_HZ = 4, 10.0


def still(seed: int) -> motions.Motion:
    """A flat hand, its palm or back to the camera, 0.4 to 0.6 m away."""
    rng = np.random.default_rng(seed)
    turn = motions.facing([0, -1, 0], [rng.normal(0, 0.15), rng.normal(0, 0.15), -1.0 if seed % 2 else 1.0])
    place = np.array([0.0, 0.08, rng.uniform(0.4, 0.6)])
    keys = [(time_s, poses.anchor("open_flat"), turn, place) for time_s in (0.0, 1.0)]
    return motions.Motion("still", 1.0, (motions._track(rng, bool(seed % 3), keys),))


def main() -> None:
    """Print the two errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hands", type=int, default=40)
    args = parser.parse_args()
    config = Config(runtime="onnxruntime")
    chain, stage = pipeline.load(config), sequence.Stage(sequence.DEFAULT_CAMERA)
    errors, assumed = [], []
    for seed in tqdm(range(args.hands), "hands", disable=None):
        state, found = pipeline.PipelineState(), []
        for frame, hands in sequence.render_sequence(still(seed), fps=RATE_HZ, duration_s=FRAMES / RATE_HZ, seed=seed,
                                                     start_ns=10**9, stage=stage):
            state, result = chain.step(state, frame, config)
            found += [hand.hand_length_m for hand in result.raw[:1] if hand.scale_source == ScaleSource.DEPTH]
        if found:
            errors.append(np.log(np.median(found) / hands[0].hand_length_m))
            assumed.append(np.log(ADULT_HAND_LENGTH_M / hands[0].hand_length_m))
    with_depth, without = (100 * np.sqrt(np.mean(np.square(values))) for values in (errors, assumed))
    print(f"{len(errors)} of {args.hands} hands measured: length off by {with_depth:.1f} % rms, without depth by "
          f"{without:.1f} %")


if __name__ == "__main__":
    main()
