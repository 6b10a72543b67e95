"""What went wrong with a hand, in words: for hands found with a large error, missed hands and false ones.

A fault names the first thing of a fixed list that is wrong, so that every hand counts once and the counts add up.
"""
from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import numpy as np

from .. import pipeline as pipelines
from ..config import Config
from ..lift import confidence
from ..types import Frame
from . import metrics
from .datasets.base import TruthHand
from .predictions import Predicted

LARGE_NME = 0.10
"""From this mean joint error on, in sizes of the hand, a found hand has a fault."""
TURNED_DEG = 30.0
SIZE_RATIO = 1.33
SHIFTED = 0.10
LOOKED_AT = 0.02
"""Detector score from which a box counts as something that the detector saw at a missed hand."""

FAULTS = ("wrong side", "turned", "wrong size", "fingers exchanged", "shifted", "one finger", "several fingers")
"""Of found hands, in the order in which they are tried."""


def of_found(truth: TruthHand, predicted: Predicted) -> str:
    """One of FAULTS; "" if the error is below LARGE_NME or there are no joints to compare.

    turned: the hand's axis (wrist to middle base) points elsewhere in the image by more than TURNED_DEG. fingers
    exchanged: the wrist is right, but the fingers fit their neighbours clearly better than themselves. shifted: most
    joints are off in the same direction.
    """
    valid = truth.valid_px
    if predicted.joints_px is None or valid.sum() < 2:
        return ""
    guess, true = predicted.joints_px, truth.joints_px
    size = max(np.ptp(true[valid], axis=0).max(), 1e-9)
    errors = metrics.epe_px(guess, true) / size
    if not np.nanmean(errors[valid]) >= LARGE_NME:
        return ""
    if truth.handedness and predicted.handedness and truth.handedness != predicted.handedness:
        return "wrong side"
    if valid[[0, 9]].all():
        a, b = guess[9] - guess[0], true[9] - true[0]
        cosine = a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-9)
        if np.degrees(np.arccos(np.clip(cosine, -1, 1))) > TURNED_DEG:
            return "turned"
    ratio = np.ptp(guess[valid], axis=0).max() / size
    if not 1 / SIZE_RATIO <= ratio <= SIZE_RATIO:
        return "wrong size"
    if valid.all() and errors[0] < SHIFTED and _exchanged(guess, true, errors * size):
        return "fingers exchanged"
    if np.linalg.norm(np.median(guess[valid] - true[valid], axis=0)) > SHIFTED * size:
        return "shifted"
    wrong = sum(np.nanmean(errors[base + 1:base + 4]) > 1.5 * LARGE_NME for base in (1, 5, 9, 13, 17)
                if np.isfinite(errors[base + 1:base + 4]).any())
    return "one finger" if wrong <= 1 else "several fingers"


def _exchanged(guess: np.ndarray, true: np.ndarray, own: np.ndarray) -> bool:
    """Whether neighbouring fingers fit clearly better than the right ones."""
    for shift in (-1, 1):
        pairs = [(slice(a, a + 4), slice(a + 4 * shift, a + 4 * shift + 4)) for a in (5, 9, 13, 17)
                 if 5 <= a + 4 * shift <= 17]
        other = np.mean([metrics.epe_px(guess[mine], true[next_to]).mean() for mine, next_to in pairs])
        if other < 0.6 * np.mean([own[mine].mean() for mine, _ in pairs]):
            return True
    return False


def of_missed(frame: Frame, truth: TruthHand, answers: Sequence[Predicted], taken: Container[int | None], chain: Any,
              config: Config, min_iou: float = 0.3) -> str:
    """Why the pipeline did not find a labelled hand, by asking its two networks again.

    frame: the picture. answers: the hands that were given for it; taken: numbers of those that belong to other labelled
    hands. chain: the pipeline.Pipeline. Returns a sentence that starts with one of: "one answer for two hands", "answer
    beside", "detector", "not looked at", "evidence", "presence", "pose".
    """
    near = [(metrics.box_iou(truth.tight_box, box), k in taken) for k, a in enumerate(answers)
            if (box := _box(a)) is not None]
    overlap, other = max(near, default=(0.0, False))
    if overlap >= min_iou and other:
        return f"one answer for two hands: IoU {overlap:.2f} with the answer for another hand"
    if overlap > 0.1 and not other:
        return f"answer beside: IoU {overlap:.2f}"
    found = chain.detect(frame.image, LOOKED_AT)
    at = [(d.score, rank, d) for rank, d in enumerate(found) if metrics.box_iou(truth.tight_box, d.box) >= min_iou]
    least = min(pipelines.CANDIDATE_SCORE, config.detection_threshold)
    if not at:
        nearest = max(found, key=lambda d: metrics.box_iou(truth.tight_box, d.box), default=None)
        overlap = metrics.box_iou(truth.tight_box, nearest.box) if nearest else 0.0
        return "detector: saw nothing there" + (f", best box IoU {overlap:.2f} with score {nearest.score:.2f}"
                                               if overlap > 0.05 else "")
    score, rank, detection = max(at, key=lambda entry: (entry[0], -entry[1]))
    if score < least:
        return f"detector: score {score:.2f} < {least:.2f}"
    if rank >= pipelines.CANDIDATES * config.max_hands:
        return f"not looked at: rank {rank + 1} of {len(found)} boxes, score {score:.2f}"
    look = chain.examine(frame, (), [detection], config)[0]
    pose = look.pose
    p = chain.new_hand_probability(detection, pose)
    told = f"detector {score:.2f}, presence {pose.presence:.2f}, joints {confidence(pose).mean():.2f}"
    if p < config.detection_threshold:
        return f"evidence: p {p:.2f} of {told}"
    if pose.presence < config.presence_threshold:
        return f"presence: {pose.presence:.2f} < {config.presence_threshold:.2f} ({told})"
    return f"pose: p {p:.2f} ({told}), joints lie elsewhere or another hand was preferred"


def _box(predicted: Predicted) -> np.ndarray | None:
    return predicted.box if predicted.joints_px is None else metrics.tight_box(predicted.joints_px)


def of_false(predicted: Predicted, truth: Sequence[TruthHand]) -> str:
    """Where a false hand lies: "part of a labelled hand" (most of its box inside one), "round a labelled hand" (the
    other way round), or "elsewhere"."""
    box = _box(predicted)
    for hand in truth:
        region = tuple(hand.tight_box)
        if metrics.share_inside(box, region) > 0.5:
            return "part of a labelled hand"
        if metrics.share_inside(hand.tight_box, (*box[:2], *box[2:])) > 0.5:
            return "round a labelled hand"
    return "elsewhere"
