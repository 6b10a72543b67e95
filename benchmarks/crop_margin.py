"""How wide the pose network's crop should be: error on photographs over the crop's side, and the room that rolled hands
need (crop.MARGIN, crop.ROLL_ROOM).

    python3 benchmarks/crop_margin.py --eval EVAL_FOLDER [--pose-model NAME] [--margins 1.2 1.3 1.5] [--size PIXELS]

Prints NME (% of the box) and PA-MPJPE (mm) by set for each margin, with box and side given; then, of all completely
labelled hands turned at random, how far they reach out of their box as the crop widens it, and as it is.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hand_pose_ros import crop as crops  # noqa: E402
from hand_pose_ros import models, networks  # noqa: E402
from hand_pose_ros.runtimes import POSE_ACCURATE  # noqa: E402
from hand_pose_ros.training import measure  # noqa: E402

TURNS = 8


def reach(joints_px: np.ndarray) -> tuple[float, float] | None:
    """How far joints (21, 2) [px] reach from the middle of their box along the crop's axes, in halves of the box's
    longer side: (as the crop widens it, as it is). None where the hand has no direction."""
    found = crops.from_joints(joints_px)
    if not np.isfinite(found.up).all():
        return None
    sides, (x, y) = found.box[2:] - found.box[:2], found.up
    offset = (joints_px - (found.box[:2] + found.box[2:]) / 2) @ np.array([[x, -y], [y, x]])
    needed = 2 * np.abs(offset).max() / sides.max()
    return needed / (1 + crops.ROLL_ROOM * (2 * x * y * sides.min() / sides.max()) ** 2), needed


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eval", type=Path, required=True, help="labelled photographs")
    parser.add_argument("--pose-model", default=POSE_ACCURATE, help="model below models/ (default: %(default)s)")
    parser.add_argument("--margins", type=float, nargs="+", default=[1.2, 1.25, 1.3, 1.4, 1.5])
    parser.add_argument("--size", type=int, help="pixels of the crop (default: the model's)")
    args = parser.parse_args()
    photographs, network = measure.Photographs(args.eval), networks.load(args.pose_model)
    size = args.size or models.card(args.pose_model)["input"][0]
    for margin in args.margins:
        sets = measure.pose_on_photographs(network, photographs, size, margin)
        print(f"{margin:.2f} x the box, {size} px: " + ", ".join(
            f"{name} {row['nme']:.2f} %" + (f" ({row['pa_mm']:.1f} mm)" if "pa_mm" in row else "")
            for name, row in sets.items()), flush=True)
    rng, reached = np.random.default_rng(0), []
    hands = [hand for record, _ in photographs.pictures() for hand in record["hands"] if hand["valid_2d"].all()]
    for hand in hands:
        for angle in rng.uniform(0, 2 * np.pi, TURNS):
            c, s = np.cos(angle), np.sin(angle)
            reached.append(reach(hand["joints_2d"] @ np.array([[c, -s], [s, c]])))
    widened, plain = 100 * (np.array([r for r in reached if r]).T - 1)
    for name, out in (("widened by ROLL_ROOM", widened), ("as it is", plain)):
        print(f"{len(hands)} hands out of the box {name}: nine of ten less than {np.quantile(out, 0.9):.0f} %, "
              f"all less than {np.ceil(out.max()):.0f} %")


if __name__ == "__main__":
    main()
