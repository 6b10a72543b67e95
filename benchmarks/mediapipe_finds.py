"""How lifelike the virtual hands are to an outsider: how often MediaPipe Hands, trained on real ones, finds them.

    python3 benchmarks/mediapipe_finds.py render FOLDER --count 400
    mediapipe-venv/bin/python benchmarks/mediapipe_peer.py images FOLDER --out found.jsonl     # see that file
    python3 benchmarks/mediapipe_finds.py score FOLDER found.jsonl

``render`` writes crops of 256 px at random views whose hand shows 7 or more joints, with their labels. The training
pictures imitate bad cameras too (blur, 24 px hands, night); ``--good-camera`` leaves that out and so asks about the
hands alone. ``--context 2`` shows the same hands with as many pixels in pictures twice as wide: a robot's camera sees
what is round a hand, and MediaPipe looks for palms in whole pictures, not in crops. ``score`` prints, for
free hands, holding hands and hands that a loose object covers in part, the share in which a hand was found at the true
place (its joints' box overlaps the true one by an intersection over union of 0.3) and the median error of its joints,
and of the hands' means, in per cent of the true box's longest side, with the labels moved to where MediaPipe puts
joints (synthesis/conventions.py); and by how much MediaPipe's joints still lie further out along the palm, where that
is seen from the side.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np


GOOD = {"resolution": 1.0, "motion_px": 0.0, "defocus_px": 0.0, "key": 0.27, "shot": 2e-4, "read": 2e-3, "black": 0.0,
        "contrast": 1.05, "gamma": 1.0, "saturation": 1.0, "spare": True, "jpeg": 90}
GOOD_FIT = 12.0
"""Joint error, % of the box, up to which a hand says where MediaPipe puts joints, and not that it went wrong."""


def render(args: argparse.Namespace) -> None:
    """Write ``<index>.png`` and ``truth.jsonl``."""
    import cv2

    from hand_pose_ros.synthesis import render as pictures
    from hand_pose_ros.synthesis import scene, sensor
    from hand_pose_ros.types import JointState

    if args.good_camera:
        drawn = sensor.sample
        sensor.sample = lambda rng, hand_px: drawn(rng, hand_px) | GOOD
    scene.BOX_SHARE = tuple(share / args.context for share in scene.BOX_SHARE)
    args.folder.mkdir(parents=True, exist_ok=True)
    size = round(args.size * args.context)
    renderer = scene.make_renderer(size, size)
    kept, index = 0, 0
    with open(args.folder / "truth.jsonl", "w") as stream:
        while kept < args.count:
            image, meta, _, _ = pictures.picture("crops", renderer, args.seed, index)
            index += 1
            hand = meta["hands"][0] if meta["hands"] else None
            if hand is None or hand.get("glove") or hand["state"].count(int(JointState.VISIBLE)) < 7:
                continue
            kept += 1
            cv2.imwrite(str(args.folder / f"{index - 1:06d}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            stream.write(json.dumps({"image": f"{index - 1:06d}.png", "meta": meta}) + "\n")
    print(f"{kept} of {index} pictures kept in {args.folder}")


def overlap(one: np.ndarray, two: np.ndarray) -> float:
    """Intersection over union of the boxes round two sets of points (21, 2)."""
    low, high = np.maximum(one.min(0), two.min(0)), np.minimum(one.max(0), two.max(0))
    common = np.prod(np.maximum(high - low, 0))
    return float(common / (np.prod(np.ptp(one, 0)) + np.prod(np.ptp(two, 0)) - common))


def score(args: argparse.Namespace) -> None:
    """Print the table."""
    from hand_pose_ros.skeleton import JOINT_NAMES, hand_length
    from hand_pose_ros.synthesis import conventions

    found = {record["image"]: record["hands"] for record in map(json.loads, open(args.found))}
    rows: dict = {"free": [], "holding": [], "covered": []}
    shares: dict = {}
    offsets: list = []
    for line in open(args.folder / "truth.jsonl"):
        record = json.loads(line)
        meta, hand = record["meta"], record["meta"]["hands"][0]
        moved = conventions.convert(np.array(hand["joints_m"]), "mediapipe")
        truth = moved[:, :2] / moved[:, 2:] @ np.array(meta["K"])[:2, :2].T + np.array(meta["K"])[:2, 2]
        side = float(np.ptp(truth, axis=0).max())
        best = max((np.array(other["joints_px"]) for other in found[record["image"]]),
                   key=lambda joints: overlap(joints, truth), default=None)
        hit = best is not None and overlap(best, truth) > 0.3
        joints = np.linalg.norm(best - truth, axis=1) / side * 100 if hit else np.full(len(truth), np.nan)
        palm = truth[9] - truth[0]
        if hit and joints.mean() < GOOD_FIT and np.linalg.norm(palm) > 0.45 * side:
            out = (best - truth) @ palm / (palm @ palm)
            offsets.append(100 * out * np.linalg.norm(moved[9] - moved[0]) / hand_length(moved))
        kind = "covered" if meta.get("occluder") else "holding" if hand.get("holding") else "free"
        rows[kind].append(joints)
        for name in ("background", "person", "occluder", "model"):
            value = hand.get(name, meta.get(name))
            shares.setdefault(f"{name}={value}", []).append(hit)
    rows["free and holding"] = rows["free"] + rows["holding"]
    for name, errors in rows.items():
        seen = np.array([joints for joints in errors if np.isfinite(joints).all()])
        middle, of_means = (np.median(seen), np.median(seen.mean(1))) if len(seen) else (float("nan"), float("nan"))
        print(f"{name:16} {len(errors):4d} hands: found {100 * len(seen) / max(len(errors), 1):5.1f} %, "
              f"median joint error {middle:.1f} % of the box, of the hands' means {of_means:.1f} %")
    if offsets:
        middle, spread = np.median(offsets, axis=0), np.std(offsets, axis=0) / len(offsets) ** 0.5
        print(f"further out along the palm, % of the hand's length, {len(offsets)} hands:")
        print("  " + ", ".join(f"{name} {a:.1f} +- {b:.1f}" for name, a, b in zip(JOINT_NAMES, middle, spread)))
    for name in sorted(shares):
        print(f"  {name:24} {len(shares[name]):4d} {100 * np.mean(shares[name]):5.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("render")
    first.add_argument("folder", type=Path)
    first.add_argument("--count", type=int, default=400)
    first.add_argument("--size", type=int, default=256)
    first.add_argument("--context", type=float, default=1.0, help="side of the pictures over that of crops")
    first.add_argument("--good-camera", action="store_true",
                       help="in focus, in colour, well exposed, at full resolution")
    first.add_argument("--seed", type=int, default=2026)
    first.set_defaults(run=render)
    second = commands.add_parser("score")
    second.add_argument("folder", type=Path)
    second.add_argument("found", type=Path)
    second.set_defaults(run=score)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
