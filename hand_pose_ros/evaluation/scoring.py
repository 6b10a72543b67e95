"""Truth and predictions -> one record per image and per truth hand -> tables of metrics with intervals.

Matching   A truth hand and a prediction may pair if the IoU of their boxes reaches the threshold; both boxes are taken
           round those joints that are valid in the truth, for an answer without joints as they are given. They are
           widened to LEAST_SIDE first: of one joint, or of a finger seen from the side, the tight box has hardly an
           area. Pairs are made one to one, the pair with the least mean joint distance (in sizes of the hand) first;
           for truth without joints, the greatest IoU first. An answer that was asked for in a labelled box belongs to
           it, however far off it is: published errors are over all labelled hands.
Missed     Hands without a prediction count in recall and in PCK@0.2 of all joints, not in mean errors.
False      Only images whose hands are all labelled count for precision and AP; a prediction that lies by more than half
           in an ignore region counts neither way.
Size       Longer side of the tight box round the valid truth joints.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from statistics import NormalDist
from typing import Any

import numpy as np

from ..frames import cross
from ..skeleton import NUM_JOINTS
from . import attributes, faults, metrics
from .datasets.base import Item, TruthHand
from .predictions import Predicted

MIN_3D_JOINTS = 8
"""A hand needs its wrist and this many valid 3D joints to be scored in 3D."""
IGNORE_SHARE = 0.5
LEAST_SIDE, LEAST_SIDE_PX = 0.5, 8.0
"""Boxes are matched as if no side of theirs were shorter than this share of the true hand's longer side, or pixels."""


@dataclass(eq=False)
class HandScore:
    """What one truth hand got. Errors are NaN where there is nothing to compare."""

    image: str
    index: int                                      # of the hand in its image
    subset: str
    kind: str
    group: str
    size_px: float
    attributes: dict[str, str] = field(default_factory=dict)     # see attributes.py
    hidden: np.ndarray | None = None                # (21,) bool joints hidden by the hand itself; None: not known
    fault: str = ""                                 # what is wrong, see faults.py; "" for a hand found well
    prediction: int | None = None                   # which prediction it was paired with; None: missed
    iou: float = float("nan")
    score: float = float("nan")
    labelled_joints: int = 0
    side_right: bool | None = None                  # whether left or right was told correctly; None: not known
    errors_px: np.ndarray = field(default_factory=lambda: np.full(NUM_JOINTS, np.nan))
    offsets: np.ndarray = field(default_factory=lambda: np.full((NUM_JOINTS, 2), np.nan))   # of hand_frame_offsets
    box_size_px: tuple[float, float] = (float("nan"), float("nan"))
    errors_mm: np.ndarray = field(default_factory=lambda: np.full(NUM_JOINTS, np.nan))          # wrist at the origin
    scale_errors_mm: np.ndarray = field(default_factory=lambda: np.full(NUM_JOINTS, np.nan))    # and truth's scale
    pa_errors_mm: np.ndarray = field(default_factory=lambda: np.full(NUM_JOINTS, np.nan))
    mpjpe_mm: float = float("nan")
    scale_mpjpe_mm: float = float("nan")
    pa_mpjpe_mm: float = float("nan")
    camera_mpjpe_mm: float = float("nan")
    pa_mpvpe_mm: float = float("nan")               # of the mesh's vertices, where truth and prediction have one
    f_5mm: float = float("nan")
    f_15mm: float = float("nan")
    ray_errors_m: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ray_sigma_m: np.ndarray = field(default_factory=lambda: np.zeros(0))
    across_errors_m: np.ndarray = field(default_factory=lambda: np.zeros(0))
    across_sigma_m: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def found(self) -> bool:
        """Whether a prediction was paired with it."""
        return self.prediction is not None

    @property
    def extent_px(self) -> float:
        """Longer side of the tight box round the valid joints."""
        return max(self.box_size_px)

    @cached_property
    def measured_joints(self) -> int:
        """How many joints have a 2D error."""
        return int(np.isfinite(self.errors_px).sum())

    @cached_property
    def epe_px(self) -> float:
        """Mean joint error; NaN without joints."""
        known = self.errors_px[np.isfinite(self.errors_px)]
        return float(known.mean()) if known.size else float("nan")

    @cached_property
    def nme(self) -> float:
        """Mean joint error in sizes of the hand; NaN without joints."""
        known = self.errors_px[np.isfinite(self.errors_px)]
        return metrics.nme(known, self.extent_px) if known.size else float("nan")

    @cached_property
    def close_joints(self) -> int:
        """How many joints are off by at most a tenth of the hand's size."""
        return int((self.errors_px <= 0.1 * self.extent_px).sum())


@dataclass(eq=False)
class ImageScore:
    """What one image got."""

    name: str
    subset: str
    kind: str
    group: str
    exhaustive: bool
    counted: int = 0                                # predictions that count for precision
    right: int = 0                                  # of these, paired ones
    false: int = 0
    false_places: list[int] = field(default_factory=list)        # which predictions are the false ones
    false_kinds: list[str] = field(default_factory=list)         # of each of these, see faults.of_false
    boxes: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None] | None = None      # for AP
    mrrpe_mm: float = float("nan")
    hands: list[HandScore] = field(default_factory=list)


def match(truth: Sequence[TruthHand], predicted: Sequence[Predicted], min_iou: float) -> list[tuple[int, int, float]]:
    """Pairs (truth index, prediction index, IoU) by the rule in the module's text."""
    candidates = []
    for t, hand in enumerate(truth):
        valid = hand.valid_px
        has_joints = bool(valid.any())
        for p, prediction in enumerate(predicted):
            truth_box = _truth_box(hand, prediction.joints_px is None)
            box = prediction_box(prediction, valid if has_joints else None)
            if box is None:
                continue
            least = max(LEAST_SIDE * np.max(truth_box[2:] - truth_box[:2]), LEAST_SIDE_PX)
            overlap = metrics.box_iou(_widened(truth_box, least), _widened(box, least))
            if overlap < min_iou:
                continue
            if has_joints and prediction.joints_px is not None:
                distance = metrics.epe_px(prediction.joints_px[valid], hand.joints_px[valid]).mean()
                cost = distance / max(truth_box[2] - truth_box[0], truth_box[3] - truth_box[1], 1e-9)
            else:
                cost = 1.0 - overlap
            candidates.append((cost, t, p, overlap))
    pairs, used_truth, used_predictions = [], set(), set()
    for _, t, p, overlap in sorted(candidates):
        if t not in used_truth and p not in used_predictions:
            used_truth.add(t)
            used_predictions.add(p)
            pairs.append((t, p, overlap))
    return pairs


def _widened(box: np.ndarray, least: float) -> np.ndarray:
    """The box (4,) px about the same middle with no side below ``least``."""
    middle, half = 0.5 * (box[:2] + box[2:]), 0.5 * np.maximum(box[2:] - box[:2], least)
    return np.concatenate([middle - half, middle + half])


def in_order(truth: Sequence[TruthHand], predicted: Sequence[Predicted]) -> list[tuple[int, int, float]]:
    """Pairs as from ``match`` where prediction k was asked for in the box of hand k; without numbers it is missed."""
    boxes = [prediction_box(guess, hand.valid_px) for hand, guess in zip(truth, predicted)]
    return [(k, k, metrics.box_iou(_truth_box(truth[k]), box)) for k, box in enumerate(boxes) if box is not None]


def prediction_box(prediction: Predicted, valid: np.ndarray | None = None) -> np.ndarray | None:
    """Box of a prediction: tight round its joints (those that are valid in the truth), else its own box; None if it has
    neither, or numbers that are not finite: such a prediction can neither be right nor wrong."""
    box = prediction.box
    if prediction.joints_px is not None:
        joints = prediction.joints_px if valid is None or not valid.any() else prediction.joints_px[valid]
        box = metrics.tight_box(joints)
    return box if box is not None and np.isfinite(box).all() else None


def score_image(item: Item, predicted: Sequence[Predicted], min_iou: float | None = 0.3,
                seen: Sequence[Mapping[str, str]] | None = None) -> ImageScore:
    """One image: its truth against the predictions for it. min_iou: None pairs them in order. seen: what
    attributes.of_picture said of each truth hand."""
    subset = item.subset or "all"
    kind = item.kind if item.hands or item.kind == "model" else "negative"
    image = ImageScore(item.name, subset, kind, item.group, item.exhaustive)
    pairs = in_order(item.hands, predicted) if min_iou is None else match(item.hands, predicted, min_iou)
    of_truth = {t: (p, overlap) for t, p, overlap in pairs}
    used = {p for _, p, _ in pairs}
    ignore = [np.asarray(region, float) for region in item.ignore]
    if item.exhaustive:
        for p, prediction in enumerate(predicted):
            box = prediction_box(prediction)
            if p not in used and box is not None and \
                    any(metrics.share_inside(box, region) > IGNORE_SHARE for region in ignore):
                continue
            if box is None:
                continue
            image.counted += 1
            image.right += p in used
            if p not in used:
                image.false += 1
                image.false_places.append(p)
                image.false_kinds.append(faults.of_false(prediction, item.hands))
        boxes = [(box, prediction.score) for prediction in predicted
                 if (box := prediction_box(prediction)) is not None]
        boxes_only = bool(predicted) and all(prediction.joints_px is None for prediction in predicted)
        image.boxes = (np.array([box for box, _ in boxes]).reshape(-1, 4), np.array([s for _, s in boxes]),
                       np.array([_truth_box(hand, boxes_only) for hand in item.hands]).reshape(-1, 4),
                       np.array(ignore) if ignore else None)
    for t, hand in enumerate(item.hands):
        hidden = attributes.hidden_joints(hand)
        score = HandScore(item.name, t, subset, kind, item.group, hand.size_px,
                          attributes.of_hand(hand, hidden, seen[t] if seen else None), hidden,
                          labelled_joints=int(hand.valid_px.sum()))
        if hand.valid_px.any():
            low_high = metrics.tight_box(hand.joints_px[hand.valid_px])
            score.box_size_px = (low_high[2] - low_high[0], low_high[3] - low_high[1])
            if not score.extent_px > 0:                 # one joint: there is no size to count errors in
                score.labelled_joints = 0
        if t in of_truth:
            score.prediction = of_truth[t][0]
            _score_pair(score, item, hand, predicted[score.prediction], of_truth[t][1])
        image.hands.append(score)
    image.mrrpe_mm = _mrrpe(item, predicted, of_truth)
    return image


def _truth_box(hand: TruthHand, as_labelled: bool = False) -> np.ndarray:
    """Tight round the joints, as boxes of our answers are; as labelled for a detector's answers without joints."""
    return hand.box if as_labelled else hand.tight_box


def _score_pair(score: HandScore, item: Item, truth: TruthHand, predicted: Predicted, overlap: float) -> None:
    score.iou, score.score = float(overlap), predicted.score
    score.fault = faults.of_found(truth, predicted)
    valid = truth.valid_px
    if score.labelled_joints and predicted.joints_px is not None:
        score.errors_px[valid] = metrics.epe_px(predicted.joints_px[valid], truth.joints_px[valid])
        score.offsets = hand_frame_offsets(truth, predicted.joints_px)
    if truth.joints_m is not None and predicted.joints_m is not None:
        valid_m = truth.valid_m
        if valid_m[0] and valid_m.sum() >= MIN_3D_JOINTS:
            score.mpjpe_mm = metrics.mpjpe_mm(predicted.joints_m, truth.joints_m, valid_m)
            score.scale_mpjpe_mm = metrics.scale_aligned_mpjpe_mm(predicted.joints_m, truth.joints_m, valid_m)
            score.pa_mpjpe_mm = metrics.pa_mpjpe_mm(predicted.joints_m, truth.joints_m, valid_m)
            relative = [joints - joints[0] for joints in (predicted.joints_m, truth.joints_m)]
            score.errors_mm[valid_m] = metrics.joint_errors_mm(*relative)[valid_m]
            finite = valid_m & np.isfinite(relative[0]).all(axis=1)
            if finite.sum() >= MIN_3D_JOINTS:
                guess, true = (joints[finite] for joints in relative)
                score.scale_errors_mm[finite] = metrics.joint_errors_mm(metrics.scaled_to(guess, true), true)
                score.pa_errors_mm[finite] = metrics.joint_errors_mm(metrics.procrustes(guess, true), true)
    if truth.vertices_m is not None and predicted.vertices_m is not None:
        _score_mesh(score, truth.vertices_m, predicted.vertices_m)
    if truth.joints_m is not None and predicted.joints_camera_m is not None and item.camera is not None:
        score.camera_mpjpe_mm = metrics.camera_space_mpjpe_mm(predicted.joints_camera_m, truth.joints_m, truth.valid_m)
        _calibration(score, truth, predicted)
    if truth.handedness and predicted.handedness:
        score.side_right = predicted.handedness == truth.handedness


def _score_mesh(score: HandScore, truth_m: np.ndarray, predicted_m: np.ndarray) -> None:
    """PA-MPVPE and F@5, F@15 of meshes with the same vertices, after their Procrustes alignment, as FreiHAND's makers
    and most papers give them. Meshes of other vertices are not compared."""
    if truth_m.shape != predicted_m.shape or not np.isfinite(predicted_m).all():
        return
    moved = metrics.procrustes(predicted_m, truth_m)
    score.pa_mpvpe_mm = float(metrics.joint_errors_mm(moved, truth_m).mean())
    score.f_5mm, score.f_15mm = (metrics.f_score(moved, truth_m, threshold) for threshold in (5.0, 15.0))


def hand_frame_offsets(truth: TruthHand, joints_px: np.ndarray) -> np.ndarray:
    """(21, 2) prediction - truth in sizes of the hand: along the line from wrist to middle base, and across it towards
    the thumb as told by index and little base. NaN where the truth does not hold these joints.

    Offsets that all hands of a set share show another convention of its labels, or a bias of the network.
    """
    true = truth.joints_px
    along = true[9] - true[0]
    length = np.linalg.norm(along)
    if not truth.valid_px[[0, 5, 9, 17]].all() or length < 1e-6:
        return np.full((NUM_JOINTS, 2), np.nan)
    along = along / length
    across = np.array([-along[1], along[0]])
    across = across if (true[5] - true[17]) @ across >= 0 else -across
    size = np.ptp(true[truth.valid_px], axis=0).max()
    return (joints_px - true) @ np.stack([along, across], axis=1) / max(size, 1e-9)


def _calibration(score: HandScore, truth: TruthHand, predicted: Predicted) -> None:
    """Errors along and across the viewing ray of each true joint, with the stated standard deviations."""
    if predicted.sigma_ray_m is None or predicted.sigma_across_m is None:
        return
    keep = truth.valid_m & np.isfinite(predicted.joints_camera_m).all(axis=1)
    joints = truth.joints_m[keep]
    ray = joints / np.linalg.norm(joints, axis=1, keepdims=True)
    error = predicted.joints_camera_m[keep] - joints
    along = (error * ray).sum(axis=1)
    across = error - along[:, None] * ray
    u = cross(ray, np.array([0.0, 1.0, 0.0]))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = cross(ray, u)
    score.ray_errors_m, score.ray_sigma_m = along, predicted.sigma_ray_m[keep]
    score.across_errors_m = np.concatenate([(across * u).sum(axis=1), (across * v).sum(axis=1)])
    score.across_sigma_m = np.tile(predicted.sigma_across_m[keep], 2)


def _mrrpe(item: Item, predicted: Sequence[Predicted], of_truth: dict[int, tuple[int, float]]) -> float:
    """Of the image's one left and one right hand, if both were found with metric joints; else NaN."""
    sides = {hand.handedness: t for t, hand in enumerate(item.hands)
             if hand.joints_m is not None and hand.valid_m[0] and t in of_truth
             and predicted[of_truth[t][0]].joints_camera_m is not None}
    if item.camera is None or not {"left", "right"} <= sides.keys():
        return float("nan")
    left, right = sides["left"], sides["right"]
    return metrics.mrrpe_mm(predicted[of_truth[left][0]].joints_camera_m, predicted[of_truth[right][0]].joints_camera_m,
                            item.hands[left].joints_m, item.hands[right].joints_m)


# ------------------------------------------------------------------------------------------------------------- tables

COLUMNS = ("images", "hands", "recall", "precision", "nme", "nme_median", "nme_area", "epe_px", "pck_0.1", "pck_0.2",
           "pck_0.2_all", "auc_2d", "mpjpe_mm", "scale_mpjpe_mm", "pa_mpjpe_mm", "hands_3d", "handedness",
           "images_with_false")
"""Columns of the main table, in order."""


def summary(images: Iterable[ImageScore], hands: Sequence[HandScore] | None = None) -> dict[str, float]:
    """Every metric over some images. hands: only these of their hands (by size, by view); then nothing that needs whole
    images is given. NaN: nothing to average."""
    images = list(images)
    chosen = [hand for image in images for hand in image.hands] if hands is None else list(hands)
    found = [hand for hand in chosen if hand.found]
    with_px = [hand for hand in found if hand.measured_joints]
    per_joint = [hand.errors_px[np.isfinite(hand.errors_px)] for hand in with_px]
    relative = np.concatenate([e / hand.extent_px for e, hand in zip(per_joint, with_px)]) if with_px else np.zeros(0)
    nme = [hand.nme for hand in with_px]
    with_3d = [hand for hand in found if np.isfinite(hand.mpjpe_mm)]
    sides = [hand.side_right for hand in found if hand.side_right is not None]
    joints = sum(hand.labelled_joints for hand in chosen)
    good = sum(int((e <= 0.2 * hand.extent_px).sum()) for e, hand in zip(per_joint, with_px))
    out: dict[str, float] = {
        **({"images": len(images)} if hands is None else {}), "hands": len(chosen),
        "recall": _ratio(len(found), len(chosen)), "nme": _mean(nme),
        "nme_median": float(np.median(nme)) if nme else float("nan"),
        "nme_area": _mean([hand.epe_px / np.sqrt(max(np.prod(hand.box_size_px), 1e-9)) for hand in with_px]),
        "epe_px": _mean([hand.epe_px for hand in with_px]),
        "epe_joints_px": _mean(np.concatenate(per_joint)) if per_joint else float("nan"),
        "pck_0.1": float(metrics.pck(relative, 0.1)[0]), "pck_0.2": float(metrics.pck(relative, 0.2)[0]),
        "pck_0.2_all": _ratio(good, joints), "auc_2d": metrics.auc_2d(relative),
        "auc_30px": metrics.auc_30px(np.concatenate(per_joint) if per_joint else np.zeros(0)),
        "mpjpe_mm": _mean([hand.mpjpe_mm for hand in with_3d]),
        "scale_mpjpe_mm": _mean([hand.scale_mpjpe_mm for hand in with_3d]),
        "pa_mpjpe_mm": _mean([hand.pa_mpjpe_mm for hand in with_3d]),
        "hands_3d": len(with_3d),
        **{name: _mean([value for hand in found if np.isfinite(value := getattr(hand, name))])
           for name in ("camera_mpjpe_mm", "pa_mpvpe_mm", "f_5mm", "f_15mm")},
        "handedness": _mean([float(side) for side in sides])}
    for name, key in (("auc_3d", "errors_mm"), ("auc_scale", "scale_errors_mm"), ("auc_pa", "pa_errors_mm")):
        errors = [getattr(hand, key)[np.isfinite(getattr(hand, key))] for hand in with_3d]
        for span, (low, high) in metrics.PCK_3D_RANGES_MM.items():
            out[f"{name}_{span}"] = metrics.auc_3d(np.concatenate(errors), low, high) if errors else float("nan")
    for name in ("ray", "across"):
        errors = np.concatenate([getattr(hand, f"{name}_errors_m") for hand in found] or [np.zeros(0)])
        sigma = np.concatenate([getattr(hand, f"{name}_sigma_m") for hand in found] or [np.zeros(0)])
        one, two = metrics.coverage(errors, sigma)
        out.update({f"coverage_1sigma_{name}": one, f"coverage_2sigma_{name}": two,
                    f"nees_{name}": metrics.nees(errors, sigma)})
    if hands is None:
        counted = sum(image.counted for image in images)
        out["precision"] = _ratio(sum(image.right for image in images), counted)
        out["images_with_false"] = sum(image.false > 0 for image in images)
        out["mrrpe_mm"] = _mean([image.mrrpe_mm for image in images if np.isfinite(image.mrrpe_mm)])
        out.update(metrics.coco_ap([image.boxes for image in images if image.boxes is not None]))
    return out


def group_summary(hands: Sequence[HandScore]) -> dict[str, float]:
    """The few figures by which groups of hands are compared; "error_sum" is the sum of their NME, "hands_2d"
    and "hands_3d" say of how many hands the means of the errors are."""
    found = [hand for hand in hands if hand.found]
    nme = [hand.nme for hand in found if hand.measured_joints]
    pa = [hand.pa_mpjpe_mm for hand in found if not np.isnan(hand.pa_mpjpe_mm)]
    return {"hands": len(hands), "recall": _ratio(len(found), len(hands)), "nme": _mean(nme),
            "error_sum": float(sum(nme)), "hands_2d": len(nme), "hands_3d": len(pa),
            "pck_0.1": _ratio(sum(hand.close_joints for hand in found), sum(hand.measured_joints for hand in found)),
            "pa_mpjpe_mm": _mean(pa),
            "handedness": _mean([float(hand.side_right) for hand in found if hand.side_right is not None])}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


KINDS = {"real": "all independent labels, real", "recorded": "all labels of the recordings",
         "rendered": "all independent labels, rendered",
         "model": "all labels made with a model", "negative": "no hand in the picture"}


def tables(images: Sequence[ImageScore]) -> dict[str, dict[str, Any]]:
    """Summaries by subset, by kind of label and by attribute: {"subsets": {...}, "kinds": ..., "by": {"size": ...}}.

    "mean of real subsets" gives every real subset the same weight, however many hands it has, and averages the values
    as they are shown (see ``shown``), so that the row can be checked from the table.
    """
    subsets = sorted({image.subset for image in images})
    by_subset = {name: summary(image for image in images if image.subset == name) for name in subsets}
    real_subsets = {image.subset for image in images if image.kind == "real"}
    by_kind = {}
    for kind, title in KINDS.items():
        alone = len(subsets) == 1 and {image.kind for image in images} == {kind}
        if chosen := [image for image in images if image.kind == kind]:
            by_kind[title] = dict(by_subset[subsets[0]]) if alone else summary(chosen)
    real = [by_subset[name] for name in subsets if name in real_subsets]
    hands = [hand for image in images for hand in image.hands]
    out: dict[str, Any] = {"subsets": by_subset, "kinds": by_kind, "by": {}}
    if len(real) > 1:
        out["mean_of_real_subsets"] = {"subsets": len(real), **{
            column: float(np.mean(values)) if (values := [float(shown(column, row[column])) for row in real
                                                          if shown(column, row[column]) != "-"]) else float("nan")
            for column in COLUMNS if column not in ("images", "hands", "hands_3d", "images_with_false", "epe_px")}}
    for key in attributes.TITLES:
        make = partial(summary, images) if key == "size" else group_summary
        out["by"][key] = {name: make(chosen) for name in attributes.groups_of(key)
                          if (chosen := [hand for hand in hands if hand.attributes[key] == name])}
    boxes = [image.boxes for image in images if image.boxes is not None]
    for low, high, name in attributes.SIZES:
        if boxes and name in out["by"]["size"]:
            out["by"]["size"][name].update(metrics.coco_ap(boxes, (low, high)))
    return out


def headline(images: Sequence[ImageScore]) -> list[ImageScore]:
    """The images that the headline numbers are over: never labels of different worth in one mean. Where real pictures
    with independent labels are among them, these and the pictures without a hand; else all."""
    chosen = [image for image in images if image.kind in ("real", "negative")]
    return chosen if any(image.kind == "real" for image in chosen) else list(images)


def headline_words(images: Sequence[ImageScore]) -> str:
    """What ``headline`` is over, for people, where there are labels of different worth; "" where all are of one."""
    kinds = {image.kind for image in images} - {"negative"}
    if len(kinds) < 2:
        return ""
    if "real" in kinds:
        return "real pictures with independent labels and pictures without a hand"
    return "labels of different worth: " + "; ".join(title for kind, title in KINDS.items() if kind in kinds)


_SHOWN = {"recall": (100, 1), "precision": (100, 1), "nme": (100, 2), "nme_median": (100, 2), "nme_area": (100, 2),
          "epe_px": (1, 2), "epe_joints_px": (1, 2), "pck_0.1": (100, 1), "pck_0.2": (100, 1),
          "pck_0.2_all": (100, 1), "auc_2d": (1, 3), "auc_30px": (1, 3), "mpjpe_mm": (1, 1), "scale_mpjpe_mm": (1, 1),
          "pa_mpjpe_mm": (1, 1),
          "camera_mpjpe_mm": (1, 1), "mrrpe_mm": (1, 1), "pa_mpvpe_mm": (1, 1), "jitter_px": (1, 2),
          "jitter_mm_s2": (1, 0),
          "acceleration_error_mm_s2": (1, 0), "handedness": (100, 1), "ap": (100, 1), "ap50": (100, 1),
          "ap75": (100, 1), "nees_ray": (1, 2), "nees_across": (1, 2)}
"""Column: factor and digits as shown; shares and NME in percent."""


def is_share(metric: str) -> bool:
    """Whether a metric is a fraction, 0 to 1, and not a length, a number of things or a ratio of variances."""
    return metric.startswith(("auc", "coverage", "f_")) or _SHOWN.get(metric, (1, 0))[0] == 100


def shown(column: str, value: float) -> str:
    """A value as the tables show it; "-" where there is nothing."""
    if value is None or np.isnan(value):
        return "-"
    if column in ("images", "hands", "hands_3d", "images_with_false", "subsets"):
        return "-" if column == "hands_3d" and not value else str(int(value))
    factor, digits = _SHOWN.get(column, (100 if column.startswith("coverage") else 1, 1 if column.startswith("coverage")
                                         else 3))
    return f"{factor * value:.{digits}f}"


INTERVALS = ("nme", "epe_px", "mpjpe_mm", "scale_mpjpe_mm", "pa_mpjpe_mm", "camera_mpjpe_mm", "pa_mpvpe_mm", "f_5mm",
             "f_15mm", "recall", "handedness")
"""Means over hands that get a bootstrap interval."""


SHARES = ("recall", "handedness", "precision", "pck_0.1", "pck_0.2", "pck_0.2_all")


def intervals(images: Sequence[ImageScore], seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals over whole groups of images (recordings, persons), so that neighbours do not feign more
    data than there is. No interval for a single group.

    A share of which all or none is right is the same in every draw, which would say that it is known for sure: it gets
    the interval of ``wilson``, with the number of groups as the number of trials.
    """
    hands = [hand for image in images for hand in image.hands]

    def values(metric: str, hand: HandScore) -> float:
        if metric == "recall":
            return float(hand.found)
        if metric == "handedness":
            return float("nan") if hand.side_right is None else float(hand.side_right)
        return getattr(hand, metric)

    out, groups = {}, {}
    for metric in INTERVALS:
        pairs = [(value, hand.group) for hand in hands if np.isfinite(value := values(metric, hand))]
        if pairs:
            groups[metric] = len({group for _, group in pairs})
            out[metric] = metrics.bootstrap(np.array([value for value, _ in pairs]), [group for _, group in pairs],
                                            seed=seed)
    pairs = [(image.mrrpe_mm, image.group) for image in images if np.isfinite(image.mrrpe_mm)]
    if pairs:
        out["mrrpe_mm"] = metrics.bootstrap(np.array([value for value, _ in pairs]), [group for _, group in pairs],
                                            seed=seed)
    counted = [(image.right, image.counted, image.group) for image in images]
    shares = {"precision": counted}
    for name, limit in (("pck_0.1", 0.1), ("pck_0.2", 0.2)):
        shares[name] = [(int((hand.errors_px <= limit * hand.extent_px).sum()), int(np.isfinite(hand.errors_px).sum()),
                         hand.group) for hand in hands if hand.found]
    shares["pck_0.2_all"] = [(int((hand.errors_px <= 0.2 * hand.extent_px).sum()), hand.labelled_joints, hand.group)
                             for hand in hands]
    for name, rows in shares.items():
        if any(whole for _, whole, _ in rows):
            part, whole, group = zip(*rows)
            groups[name] = len({name for _, count, name in rows if count})
            out[name] = metrics.bootstrap_ratio(np.array(part), np.array(whole), group, seed=seed)
    for name in SHARES:
        if name in out and out[name] in ((0.0, 0.0), (1.0, 1.0)):
            out[name] = wilson(out[name][0], groups[name])
    return out


def wilson(share: float, trials: int) -> tuple[float, float]:
    """95 % score interval of a share of independent trials; unlike the bootstrap's not empty at 0 and 1.

    (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n), z = 1.96. Wilson, "Probable inference, the law of
    succession, and statistical inference", JASA 1927.
    """
    z = NormalDist().inv_cdf(0.975)
    middle = share + z ** 2 / (2 * trials)
    half = z * np.sqrt(share * (1 - share) / trials + z ** 2 / (4 * trials ** 2))
    low, high = ((middle + sign * half) / (1 + z ** 2 / trials) for sign in (-1, 1))
    return float(np.clip(low, 0, share)), float(np.clip(high, share, 1))
