"""What virtual hands lack: joint angles of labelled photographs, of predictions for them and of virtual hands.

    python3 benchmarks/joint_angles.py --eval EVAL_FOLDER --predictions out/score/predictions_box_given.jsonl

First table: how far knuckles, middle and last joints of index .. little finger bend (degrees, mean and standard
deviation), for fingers that are stretched, half bent and curled (middle joint below 30, to 70, above), in the labels
with 3D joints, in the predictions and in freshly drawn virtual hands, the last two as they are published. A fault of
the hand model or of its poses shows here where pictures hide it. Below it how far the knuckles are from the wrist, in
that of the middle one (median), which tells ways of labelling apart.
Second table: how near the nearest drawn hands come to each photographed one (after moving, turning and scaling;
millimetres a joint of a hand of 186 mm) and the predictions' error there. Error that grows with that distance asks for
other poses; error where virtual hands are near does not.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hand_pose_ros.one_blas_thread  # noqa: F401, E402
import numpy as np  # noqa: E402

from hand_pose_ros.errors import DataError  # noqa: E402
from hand_pose_ros.evaluation import metrics, predictions  # noqa: E402
from hand_pose_ros.evaluation.datasets import folder as labels  # noqa: E402
from hand_pose_ros.skeleton import ADULT_HAND_LENGTH_M, FINGERS, KNUCKLES, joint_centres  # noqa: E402
from hand_pose_ros.synthesis import poses, rig  # noqa: E402
from hand_pose_ros.synthesis.hand_model import HandModel  # noqa: E402

STRETCHED_DEG, CURLED_DEG = 30.0, 70.0
FLAT_DEG, SQUARE_DEG = 10.0, 80.0
"""Knuckles bent by less lie flat, by more stand square, as in a fist; the first table counts both."""
SHAPES = 12
COMPARED = list(range(2, 21))
"""Joints whose place is compared: data sets disagree most about the wrist and the thumb's saddle joint."""
NEAREST = 5


def bends(joints: np.ndarray) -> np.ndarray:
    """How far MCP, PIP and DIP of index .. little bend. joints: (..., 21, 3). Returns (..., 4, 3) degrees."""
    out = []
    for knuckle in KNUCKLES:
        bones = np.diff(joints[..., [0, knuckle, knuckle + 1, knuckle + 2, knuckle + 3], :], axis=-2)
        bones = bones / np.linalg.norm(bones, axis=-1, keepdims=True)
        cosine = (bones[..., :-1, :] * bones[..., 1:, :]).sum(-1)
        out.append(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
    return np.stack(out, axis=-2)


def drawn(count: int) -> np.ndarray:
    """(count, 21, 3) hand lengths: right virtual hands of several people in drawn poses, as joints are published."""
    rng, model = np.random.default_rng(0), HandModel.load("makehuman")
    shapes = [model.shape(rng) for _ in range(SHAPES)]
    out = np.empty((count, 21, 3))
    for k in range(count):
        shape = shapes[k % SHAPES]
        motions = rig.motions(shape.skeleton, poses.sample(rng, shape))
        out[k] = joint_centres(rig.posed_joints(shape.skeleton, motions)) / shape.hand_length_m
        if k % 1000 == 999:
            print(f"\r{k + 1} of {count} hands drawn", end="" if k + 1 < count else "\n", file=sys.stderr, flush=True)
    return out


def photographed(folder: Path, answers: Path | None) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """By data set: labels (N, 21, 3), predictions (N, 21, 3) or NaN, and their error (N,) in % of the tight box.

    Left hands are mirrored. Only hands of a known side with 21 labelled joints in 2D and 3D. Raises DataError for a
    file that cannot be read, with the line that is at fault.
    """
    found = predictions.read(answers) if answers else {}
    sets: dict[str, list] = {}
    for row, item in labels.rows(folder / labels.FILE):
        answer = found.get(row["image"])
        for hand in item.hands:
            if hand.joints_m is None or not (hand.valid_m.all() and hand.valid_px.all()) or hand.handedness is None:
                continue
            flip = np.array([1.0 if hand.handedness == "right" else -1.0, 1.0, 1.0])
            joints, error = np.full((21, 3), np.nan), np.nan
            known = [one for one in (answer.hands if answer else ()) if one.joints_px is not None
                     and one.joints_m is not None]
            if known:
                errors = [metrics.epe_px(one.joints_px, hand.joints_px) for one in known]
                best = int(np.argmin([one.mean() for one in errors]))
                joints = known[best].joints_m
                error = 100 * metrics.nme(errors[best], np.ptp(hand.joints_px, axis=0).max())
            sets.setdefault(item.subset, []).append((hand.joints_m * flip, joints * flip, error))
    return {name: tuple(np.array(column) for column in zip(*hands)) for name, hands in sets.items()}


def nearest(hands: np.ndarray, virtual: np.ndarray) -> np.ndarray:
    """Millimetres a joint, of a hand of 186 mm, between each hand and its NEAREST-th nearest virtual one after
    moving, turning and scaling (Procrustes; Gower 1975). hands: (N, 21, 3) in any unit; virtual: (M, 21, 3) in hand
    lengths. Returns (N,).
    """
    def shape(joints):
        centred = joints[:, COMPARED] - joints[:, COMPARED].mean(axis=1, keepdims=True)
        size = np.sqrt((centred * centred).sum(axis=(1, 2), keepdims=True))
        return centred / size, size[:, 0, 0]

    (pool, sizes), (asked, _) = shape(virtual), shape(hands)
    spread_mm = 1000 * ADULT_HAND_LENGTH_M * sizes.mean() / np.sqrt(len(COMPARED))
    out = np.empty(len(hands))
    for k, hand in enumerate(asked):
        product = np.einsum("nki,kj->nij", pool, hand)
        values = np.linalg.svd(product, compute_uv=False)
        values[:, 2] *= np.sign(np.linalg.det(product))
        out[k] = np.partition(np.sqrt(np.maximum(2.0 - 2.0 * values.sum(axis=1), 0.0)), NEAREST - 1)[NEAREST - 1]
    return spread_mm * out


def angle_table(sources: dict[str, np.ndarray]) -> list[str]:
    """Lines of the first table. sources: name -> joints (N, 21, 3)."""
    lines = [f"| finger | | of | hands | knuckle | below {FLAT_DEG:.0f}, % | above {SQUARE_DEG:.0f}, % | middle joint "
             "| last joint |", "| --- " * 9 + "|"]
    angles = {name: bends(joints[np.isfinite(joints).all(axis=(1, 2))]) for name, joints in sources.items()}
    for ray, finger in enumerate(FINGERS[1:]):
        for posture, low, high in (("stretched", -1.0, STRETCHED_DEG), ("half bent", STRETCHED_DEG, CURLED_DEG),
                                   ("curled", CURLED_DEG, 181.0)):
            for name, all_bends in angles.items():
                bent = all_bends[:, ray]
                bent = bent[(bent[:, 1] >= low) & (bent[:, 1] < high)]
                if len(bent):
                    knuckle, middle, last = (f"{mean:.0f} +- {spread:.0f}"
                                             for mean, spread in zip(bent.mean(0), bent.std(0)))
                    flat, square = 100 * (bent[:, 0] < FLAT_DEG).mean(), 100 * (bent[:, 0] > SQUARE_DEG).mean()
                    lines.append(f"| {finger} | {posture} | {name} | {len(bent)} "
                                 f"| {knuckle} | {flat:.0f} | {square:.0f} | {middle} | {last} |")
    return lines


def reach(joints: np.ndarray) -> str:
    """Index, ring and little knuckle: median distance from the wrist in that of the middle one. joints: (N, 21, 3)."""
    far = np.linalg.norm(joints[:, KNUCKLES] - joints[:, :1], axis=-1)
    return ", ".join(f"{value:.2f}" for value in np.nanmedian(far / far[:, 1:2], axis=0)[[0, 2, 3]])


def coverage_table(distance_mm: np.ndarray, error: np.ndarray) -> list[str]:
    """Lines of the second table. distance_mm, error: (N,)."""
    lines = ["| nearest virtual hands, mm a joint | hands | error, % of the box |", "| --- | --- | --- |"]
    for low, high in ((0, 5), (5, 6), (6, 7), (7, 8), (8, 10), (10, np.inf)):
        inside = (distance_mm >= low) & (distance_mm < high)
        if inside.any():
            told = f"{np.nanmean(error[inside]):.2f}" if np.isfinite(error[inside]).any() else "-"
            lines.append(f"| {low} to {high} | {inside.sum()} | {told} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eval", type=Path, required=True, help="folder with annotations.jsonl")
    parser.add_argument("--predictions", type=Path, help="what `hand-pose score` or `predict --boxes` wrote")
    parser.add_argument("--count", type=int, default=8000, help="virtual hands to draw (default: 8000, half a minute)")
    args = parser.parse_args()
    try:
        sets = photographed(args.eval, args.predictions)
    except DataError as error:
        raise SystemExit(f"joint_angles: {error}") from None
    if not sets:
        raise SystemExit(f"{args.eval}: no label with 21 joints in 3D")
    virtual = drawn(args.count)
    for name, (truth, found, error) in sets.items():
        print(f"\n## {name}: {len(truth)} hands\n")
        print("\n".join(angle_table({"labels": truth, "predictions": found, "virtual": virtual})) + "\n")
        print(f"index, ring and little knuckle from the wrist, in that of the middle one: labels {reach(truth)}; "
              f"virtual {reach(virtual)}\n")
        distance = nearest(truth, virtual)
        print("\n".join(coverage_table(distance, error)))
        known = np.isfinite(error)
        if known.sum() > 2:
            print(f"\ncorrelation of distance and error: {np.corrcoef(distance[known], error[known])[0, 1]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
