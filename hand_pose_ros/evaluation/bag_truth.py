"""Truth for recordings: HandPose21Array in the bag, or a corrected labels file; and metrics over time."""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import messages
from ..bags import BagReader
from ..errors import DataError
from ..types import Camera, JointState
from . import metrics
from .datasets import folder as label_folder
from .datasets.base import Item, make_hand
from .predictions import Row

MAX_GAP_NS = 250_000_000
"""Frames of one track that are further apart are not neighbours."""
_NOT_SEEN = (JointState.UNKNOWN, JointState.OUTSIDE_IMAGE, JointState.EXTRAPOLATED)


def from_bag(unit: dict[str, Any], topic: str | None, problems: Counter[str]) -> dict[int, Item]:
    """Truth items of a bag by stamp; {} if it holds no truth. The only topic counts as truth if its name says so."""
    with BagReader(unit["paths"]) as reader:
        if topic is None and not any(t.type.endswith("HandPose21Array") and "truth" in t.name
                                     for t in reader.topics.values()):
            return {}
        camera = _camera(reader, unit)
        return {stamp_ns: _item(unit["name"], stamp_ns, message, camera, problems)
                for stamp_ns, message in reader.hands(topic).items()}


def _camera(reader: BagReader, unit: dict[str, Any]) -> Camera | None:
    """Any calibrated camera of the bag: its presence says that the truth's camera frame is the one of our results."""
    frame = next(iter(reader.frames(unit.get("image_topic"), unit.get("info_topic"))), None)
    return frame.frame.camera if frame else None


def _item(name: str, stamp_ns: int, message: Any, camera: Camera | None, problems: Counter[str]) -> Item:
    try:
        hands, _ = messages.read_array(message)
    except (AttributeError, DataError) as error:
        raise DataError(f"{name}: the truth at {stamp_ns} ns is no usable HandPose21Array: {error}") from error
    found, placed = [], True
    for hand in hands:
        valid = ~np.isin(hand.state, [int(state) for state in _NOT_SEEN]) if (hand.state > 0).any() else None
        in_camera = bool(np.isfinite(hand.joints_m).any())
        placed = placed and in_camera
        box = hand.box if np.isfinite(hand.box).all() and (hand.box[2:] > hand.box[:2]).all() else None
        truth = make_hand(hand.joints_px, valid, hand.joints_m if in_camera else hand.joints_rel_m, None,
                          box if not np.isfinite(hand.joints_px).any() else None, problems, name,
                          handedness=None if np.isnan(hand.right_probability) else
                          "right" if hand.is_right else "left")
        if truth:
            found.append(truth)
    # without a camera nothing is measured in its frame: joints that begin at the wrist say nothing there
    return Item(f"{name}/{stamp_ns}", Path(), tuple(found), camera if placed else None, exhaustive=True, group=name,
                subset=name, kind="recorded")


def items_of(unit: dict[str, Any], run: dict[str, Any], problems: Counter[str] | None = None) -> dict[int, Item]:
    """Truth items of a recording by stamp: from the run's labels file if there is one, else from the bag."""
    problems = Counter() if problems is None else problems
    if run.get("labels"):
        own = _labels_of(unit["name"], read_labels(run["labels"]), run["recordings"])
        return {stamp_ns: renamed(item, f"{unit['name']}/{stamp_ns}", unit["name"])
                for (_, stamp_ns), item in own.items()}
    return from_bag(unit, run.get("truth_topic"), problems) if unit["kind"] == "bag" else {}


def read_labels(path: str | Path, problems: Counter[str] | None = None) -> dict[tuple[str, int], Item]:
    """Items of an annotations.jsonl by group (the recording) and stamp_ns. Raises DataError if a line has no stamp."""
    path, problems = Path(path), Counter() if problems is None else problems
    path = path / "annotations.jsonl" if path.is_dir() else path
    out: dict[tuple[str, int], Item] = {}
    for row, item in label_folder.rows(path, problems):
        if "stamp_ns" not in row:
            raise DataError(f"{path}: the label of {item.name} has no stamp_ns, so it cannot be matched with a frame")
        key = str(row.get("group", "")), int(row["stamp_ns"])
        if key in out:
            problems[f"{item.name}: labelled twice, only the first is used"] += 1
        out.setdefault(key, item)
    return out


def _labels_of(recording: str, labels: Mapping[tuple[str, int], Item], recordings: Sequence[str]) \
        -> dict[tuple[str, int], Item]:
    """The labels of a recording: those whose group is its name; all for one that is alone and has none by its name."""
    own = {key: item for key, item in labels.items() if key[0] == recording}
    return own if own or len(recordings) > 1 else dict(labels)


def check_labels(run: dict[str, Any]) -> None:
    """Raises DataError if it cannot be told which recording the run's labels are of: two may have the same stamps."""
    labels, recordings = read_labels(run["labels"]), run["recordings"]
    used = [key for recording in recordings for key in _labels_of(recording, labels, recordings)]
    twice = len(recordings) == 1 and len({stamp_ns for _, stamp_ns in used}) < len(used)
    if labels and (twice or not used):
        groups = ", ".join(sorted({group or "none" for group, _ in labels}))
        raise DataError(f"{run['labels']}: its labels are of the group {groups}, the recordings are called "
                        f"{', '.join(recordings)}: write the name of its recording into the field \"group\" of each "
                        f"label, or evaluate one recording with the labels of one")


def label_problems(run: dict[str, Any]) -> Counter[str]:
    """What is wrong with the run's labels file, and how many of its labels are of none of the recordings."""
    problems: Counter[str] = Counter()
    labels = read_labels(run["labels"], problems)
    used = {key for recording in run["recordings"] for key in _labels_of(recording, labels, run["recordings"])}
    return problems + Counter({"label of another recording, not used": len(labels) - len(used)})


def renamed(item: Item, name: str, recording: str) -> Item:
    """The item under the name that the recording's predictions have."""
    return replace(item, name=name, group=recording, subset=recording)


def track_metrics(rows: Mapping[int, Row], truth: Mapping[int, Item]) -> dict[str, Any]:
    """Steadiness of one recording's tracks: counts, jitter, and acceleration error where there is 3D truth.

    Neighbouring frames of one track id further apart than MAX_GAP_NS start a new stretch.
    """
    stamps = sorted(rows)
    tracks: dict[int, list[tuple[int, Any]]] = defaultdict(list)
    for stamp_ns in stamps:
        for hand in rows[stamp_ns].hands:
            tracks[hand.track_id].append((stamp_ns, hand))
    px, mm, acceleration = [], [], []
    for track in tracks.values():
        for stretch in _stretches(track):
            time = np.array([stamp_ns for stamp_ns, _ in stretch])
            joints_px = np.array([hand.joints_px for _, hand in stretch])
            px.append((metrics.jitter_px(joints_px, time), len(stretch)))
            joints_m = np.array([np.full((21, 3), np.nan) if hand.joints_m is None else hand.joints_m
                                 for _, hand in stretch])
            mm.append((metrics.jitter_mm_s2(joints_m, time), len(stretch)))
            true = np.array([_nearest(truth.get(stamp_ns), hand) for stamp_ns, hand in stretch])
            acceleration.append((metrics.acceleration_error_mm_s2(joints_m, true, time), len(stretch)))
    detected = sum(rows[stamp_ns].detector_ran for stamp_ns in stamps)
    return {"frames": len(stamps), "seconds": (stamps[-1] - stamps[0]) / 1e9 if stamps else 0.0, "tracks": len(tracks),
            "frames_with_hand": sum(bool(rows[stamp_ns].hands) for stamp_ns in stamps), "detector_ran": detected,
            "jitter_px": _weighted(px), "jitter_mm_s2": _weighted(mm),
            "acceleration_error_mm_s2": _weighted(acceleration),
            "longest_track_frames": max((len(track) for track in tracks.values()), default=0)}


def _stretches(track: list[tuple[int, Any]]) -> list[list[tuple[int, Any]]]:
    out: list[list[tuple[int, Any]]] = [[]]
    for entry in track:
        if out[-1] and entry[0] - out[-1][-1][0] > MAX_GAP_NS:
            out.append([])
        out[-1].append(entry)
    return [stretch for stretch in out if len(stretch) >= 3]


def _nearest(item: Item | None, hand: Any) -> np.ndarray:
    """Wrist-relative true joints of the hand nearest in the image; NaN without truth."""
    hands = [h for h in (item.hands if item else ()) if h.joints_m is not None and h.valid_px.any()]
    if not hands:
        return np.full((21, 3), np.nan)
    best = min(hands, key=lambda h: metrics.epe_px(hand.joints_px[h.valid_px], h.joints_px[h.valid_px]).mean())
    return best.joints_m - best.joints_m[0]


def _weighted(pairs: list[tuple[float, int]]) -> float | None:
    known = [(value, count) for value, count in pairs if np.isfinite(value)]
    return float(np.average([v for v, _ in known], weights=[c for _, c in known])) if known else None
