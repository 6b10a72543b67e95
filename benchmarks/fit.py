"""Whether a pose network lacks pictures or capacity, and how much of its error on photographs is definition.

    python3 benchmarks/fit.py --learnt SHARDS --unseen SHARDS
    python3 benchmarks/fit.py --predictions out/score/predictions_box_given.jsonl --eval EVAL_FOLDER

The first form compares the error (NME: mean joint error in % of the longer side of the tight box) on pictures that the
network learnt from with that on pictures it has never seen, both in crops as a detector leaves them; and on those
hands alone that are easy to see (three quarters of the joints visible, the palm not seen end on).
The second form takes the median offset of each joint, in the frame of the palm's long axis, out of the predictions for
labelled photographs: what then remains is no matter of where a data set puts its joints. It also moves each joint
along the bone that leads to it: where every set has less error then, the joint is published in a wrong place.
"""
from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hand_pose_ros.one_blas_thread  # noqa: F401, E402
import numpy as np  # noqa: E402

from hand_pose_ros import runtimes, skeleton  # noqa: E402
from hand_pose_ros.evaluation import predictions as files  # noqa: E402
from hand_pose_ros.training import measure, pose_samples, shards  # noqa: E402

CLEAR_JOINTS, CLEAR_PALM = 0.75, 0.4
STEPS = (-0.1, -0.05, 0.05, 0.1, 0.15)
"""Shares of the bone by which joints are moved towards the wrist."""
GROSS = 12.0
"""Predictions with a larger error in % are wrong as a whole and say nothing about definitions."""


def nme(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N,) % of found (N, 21, 2) against truth (N, 21, 2)."""
    return 100 * np.linalg.norm(found - truth, axis=-1).mean(1) / np.ptp(truth, axis=1).max(-1)


def on_shards(model: str, folder: str, count: int) -> None:
    """Print the error on ``count`` drawn hands of a folder of shards."""
    network = runtimes.load("pose", model, "onnxruntime")
    size = network.source.input_shape[0]
    paths = tuple(sorted(map(str, Path(folder).rglob("crops*.tar"))))
    pool, rng = shards.Pool(), np.random.default_rng(0)
    if not paths:
        raise SystemExit(f"{folder}: no shard called crops*.tar")
    pictures, truth, clear = [], [], []
    while len(pictures) < count:
        shard, k = pool.draw(paths, rng)
        label = shard.label(k)
        if not label["hands"]:
            continue
        hand = label["hands"][0]
        sample = pose_samples.hand_sample(shard.image(k), label["camera"], hand, size, rng, measure.JITTER)
        px = (sample["uv"] + 1) * (size / 2) - 0.5
        palm = np.linalg.norm(px[9] - px[0]) / np.ptp(px, axis=0).max()
        pictures.append(sample["image"])
        truth.append(px)
        clear.append((hand["state"] == 1).mean() >= CLEAR_JOINTS and palm >= CLEAR_PALM)
    found = np.concatenate([network(np.stack(pictures[k:k + 8]))[0] for k in range(0, count, 8)])
    error, clear = nme(found, np.array(truth)), np.array(clear)
    print(f"{folder}: {error.mean():.2f} % on {count} hands, median {np.median(error):.2f}; "
          f"{error[clear].mean():.2f} % on the {clear.sum()} that are easy to see")


def in_palm(offset: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(21, 2) px -> along wrist to middle knuckle, and across towards the index finger."""
    along = truth[9] - truth[skeleton.WRIST]
    along = along / np.linalg.norm(along)
    across = np.array([-along[1], along[0]])
    across *= np.sign(across @ (truth[5] - truth[17])) or 1.0
    return np.stack([offset @ along, offset @ across], -1)


def moved_along_bones(pairs: dict) -> list[str]:
    """Lines of a table: by joint and step, what the joint's error changes by in each set, % of the box.

    pairs: set -> [(found (21, 2) px, truth (21, 2) px), ...].
    """
    lines = ["| joint | moved by | " + " | ".join(f"{name} ({len(pairs[name])})" for name in sorted(pairs)) + " |",
             "| --- " * (2 + len(pairs)) + "|"]
    stacked = {name: np.swapaxes(np.array(rows), 0, 1) for name, rows in pairs.items()}       # (2, N, 21, 2)
    for parent, joint in skeleton.BONES:
        for step in STEPS:
            cells = []
            for name in sorted(stacked):
                found, truth = stacked[name]
                box = np.ptp(truth, axis=1).max(-1)
                at = found[:, joint] + step * (found[:, parent] - found[:, joint])
                change = [np.linalg.norm(px - truth[:, joint], axis=-1) for px in (at, found[:, joint])]
                cells.append(f"{(100 * (change[0] - change[1]) / box).mean():+.2f}")
            lines.append(f"| {skeleton.JOINT_NAMES[joint]} | {step:+.2f} | " + " | ".join(cells) + " |")
    return lines


def on_photographs(predictions: Path, folder: Path) -> None:
    """Print the error by set before and after the offsets of the joints are taken out, the largest of these, and what
    moving joints along their bones changes."""
    read = files.read(predictions)
    offsets, pairs = defaultdict(list), defaultdict(list)
    for record in measure.Photographs(folder).records:
        row = read.get(record["image"])
        found = [one.joints_px for one in row.hands if one.joints_px is not None] if row else []
        for hand in record["hands"]:
            truth = hand["joints_2d"]
            if not hand["valid_2d"].all() or not found:
                continue
            best = min(found, key=lambda one: np.linalg.norm(one - truth, axis=1).mean())
            if nme(best[None], truth[None])[0] < GROSS:
                pairs[record["dataset"]].append((best, truth))
                offsets[record["dataset"]].append(in_palm(best - truth, truth) / np.ptp(truth, axis=0).max())
    for name, rows in sorted(offsets.items()):
        if len(rows) < 10:
            continue
        rows = 100 * np.array(rows)
        median = np.median(rows, axis=0)
        before, after = (np.linalg.norm(r, axis=-1).mean() for r in (rows, rows - median))
        largest = sorted(range(skeleton.NUM_JOINTS), key=lambda j: -abs(median[j, 0]))[:5]
        told = ", ".join(f"{skeleton.JOINT_NAMES[j]} {median[j, 0]:+.1f}" for j in largest)
        print(f"{name}: {before:.2f} % on {len(rows)} hands, {after:.2f} % without the joints' median offsets; these "
              f"along the palm, % of the box, towards the fingers: {told}")
    print("\n" + "\n".join(moved_along_bones(pairs)))


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pose_light")
    parser.add_argument("--learnt", metavar="SHARDS")
    parser.add_argument("--unseen", metavar="SHARDS")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--predictions", type=Path)
    parser.add_argument("--eval", type=Path)
    args = parser.parse_args()
    for folder in filter(None, (args.learnt, args.unseen)):
        on_shards(args.model, folder, args.count)
    if args.predictions:
        on_photographs(args.predictions, args.eval)


if __name__ == "__main__":
    main()
