"""Fits the rule by which the pipeline takes what its detector proposes for a hand, on virtual whole frames.

    python3 -m hand_pose_ros.training.new_hand_rule SHARDS [--images 600] [--detector-model NAME] [--pose-model NAME]

prints EVIDENCE_WEIGHTS and EVIDENCE_NEEDED for ``pipeline.py``, and what the present weights need ("least"), which
``--write`` puts into the card of the pose network. To be run again when a network changes; the frames must be none
that the detector was trained on.
"""
from __future__ import annotations

import argparse
import dataclasses
import sys

import numpy as np
from tqdm import tqdm

from hand_pose_ros import config as configs
from hand_pose_ros import crop as crops
from hand_pose_ros import limits, models, pipeline
from hand_pose_ros.detect import iou
from hand_pose_ros.errors import DataError, HandPoseError
from hand_pose_ros.runtimes import served_pose_model
from hand_pose_ros.training import shards
from hand_pose_ros.types import Frame

IS_HAND_IOU, IS_NOT_IOU = 0.4, 0.1
"""Of a candidate's box with a true hand's: from the first it is that hand, below the second it is none; between, or
over a hand that is too hidden to be labelled, nobody can say."""
RIDGE = 1e-3
OTHERS_TAKEN = 0.005
"""Share of the other candidates that may pass. A hand that is missed is found an image later, a false one is followed
by a robot: so the rule asks for more than that a candidate is as likely a hand as not."""


def candidates(pipe: pipeline.Pipeline, folder: str, images: int, config) -> tuple[np.ndarray, np.ndarray]:
    """What the detector proposes in up to ``images`` virtual frames: (evidence (n, 3), is it a hand (n,) 0 or 1).

    Raises DataError if the folder has no readable frames.
    """
    found, held = shards.find(folder, "frames")
    pool, features, truth = shards.Pool(), [], []
    pictures = [(s, k) for s in map(pool.get, found + held) if s is not None for k in range(len(s))]
    if not pictures:
        raise DataError(f"{folder} holds no readable frames*.tar: render some with hand-pose render --kind frames")
    for shard, k in tqdm(pictures[::max(1, len(pictures) // images)][:images], unit="frame", desc="candidates"):
        label = shard.label(k)
        frame = Frame(shard.image(k), label["camera"], 0)
        new = [d for d in pipe.detect(frame.image, pipeline.CANDIDATE_SCORE) if pipeline.usable(d, frame)]
        hands = [crops.from_joints(hand["joints_px"]).box for hand in label["hands"]]
        for look in pipe.examine(frame, (), new, config):
            box = look.refined(frame.camera).box if np.isfinite(look.pose.uv).all() else look.detection.box
            best = max((iou(box, other) for other in hands), default=0.0)
            unsure = IS_NOT_IOU < best < IS_HAND_IOU or any(iou(box, other) > IS_NOT_IOU for other in label["unseen"])
            if not unsure or best >= IS_HAND_IOU:
                features.append(pipeline.evidence(look.detection, look.pose))
                truth.append(best >= IS_HAND_IOU)
    return np.reshape(features, (-1, 3)), np.asarray(truth, float)


def fit(features: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """(weights (3,), needed): logistic regression by Newton's method, with a slight ridge on the weights.

    features (n, 3), truth (n,) 0 or 1. Raises DataError if only one kind of candidate is there.
    """
    if not 0 < truth.sum() < len(truth):
        raise DataError(f"of {len(truth)} candidates {int(truth.sum())} are hands: both kinds are needed, give more "
                        "frames")
    X = np.column_stack([features, np.ones(len(features))])
    w, ridge = np.zeros(4), RIDGE * len(X) * np.diag([1.0, 1.0, 1.0, 0.0])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-X @ w))
        step = np.linalg.solve(X.T @ (X * (p * (1 - p) + 1e-9)[:, None]) + ridge, X.T @ (truth - p) - ridge @ w)
        w = w + step
        if np.abs(step).max() < 1e-8:
            break
    return w[:3], float(-w[3])


def main() -> int:
    """Fits and prints. Returns 0, or 1 if it failed and said why."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", help="folder with frames*.tar")
    parser.add_argument("--images", type=limits.whole(1), default=600)
    parser.add_argument("--write", action="store_true", help="into the card of the pose network: evidence_needed")
    configs.add_arguments(parser, ("detector_model", "pose_model"))
    args = parser.parse_args()
    try:
        config = configs.from_arguments(args)
        config = dataclasses.replace(config, pose_model=served_pose_model(config.pose_model, config.runtime))
        pipe = pipeline.load(config)
        features, truth = candidates(pipe, args.shards, args.images, config)
        weights, even = fit(features, truth)
        now = np.array(pipeline.EVIDENCE_WEIGHTS)
        least = float(np.quantile(features[truth == 0] @ now, 1.0 - OTHERS_TAKEN))
    except HandPoseError as error:
        print(f"new_hand_rule: {error}", file=sys.stderr)
        return 1
    needed = max(even, float(np.quantile(features[truth == 0] @ weights, 1.0 - OTHERS_TAKEN)))
    print(f"{len(truth)} candidates, {int(truth.sum())} of them hands")
    for name, w, n in (("now", now, pipe.evidence_needed), ("least", now, least), ("fitted", weights, needed)):
        taken = features @ w > n
        print(f"{name:7} weights {np.round(w, 2).tolist()} needed {n:.2f}: takes {100 * taken[truth > 0].mean():.1f} % "
              f"of the hands and {100 * taken[truth == 0].mean():.1f} % of the others")
    if args.write:
        try:
            models.write_evidence(config.pose_model, round(least, 2))
        except HandPoseError as error:
            print(f"new_hand_rule: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
