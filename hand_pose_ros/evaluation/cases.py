"""Worst, typical, missed and false hands as pictures: a few for the report, and sheets of up to 48 for each set.

The pictures are read once more from their source, only those that are shown. For a missed hand the networks are asked
again why (see faults.py).
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..config import Config
from ..errors import FrameError, HandPoseError
from ..imaging import write_picture
from ..types import Frame
from . import bag_truth, faults, figures, scale, scoring, work
from .datasets.base import Item
from .predictions import Predicted, Row
from .scoring import HandScore, ImageScore

PER_SHEET = 48
COLUMNS = 8
APART_NS = 300_000_000
"""Neighbouring frames of a recording look alike, so of one hand only frames this far apart are shown."""
SETS = 16
"""So many sets get sheets, those with the most hands first: each bag of a long list is a set, too."""
SHOT_PX, CAPTION_PX = 200, 60
KINDS = {"worst": "Worst", "missed": "Missed", "false": "False hands"}

Key = tuple[str, int]
"""Image, and number of the truth hand in it; for false hands -1 - number of the prediction."""


@dataclass(frozen=True, eq=False)
class Cases:
    """Chosen hands with their pictures."""

    sheets: dict[str, dict[str, list[Key]]]         # set: kind: hands, the worst first
    typical: list[Key]
    shots: dict[Key, np.ndarray] = field(default_factory=dict)          # (SHOT_PX, SHOT_PX, 3) uint8 RGB
    captions: dict[Key, list[str]] = field(default_factory=dict)
    reasons: dict[Key, str] = field(default_factory=dict)               # of missed hands

    def reason_counts(self, subset: str) -> Counter[str]:
        """First words of the reasons of a set's missed hands that were asked for."""
        keys = self.sheets.get(subset, {}).get("missed", [])
        return Counter(self.reasons[key].split(":")[0] for key in keys if key in self.reasons)


def choose(images: Sequence[ImageScore], typical: int = 8, stamps_ns: Mapping[str, int] | None = None) -> Cases:
    """Which hands are shown: up to PER_SHEET of each kind of each set, and some round the median of all. stamps_ns: of
    the frames of recordings by name; of one kind and hand, those nearer than APART_NS to a chosen one are left out."""
    stamps_ns = stamps_ns or {}

    def some(ranked: list[tuple[float, str, int]]) -> list[Key]:
        chosen: list[Key] = []
        for _, name, index in ranked:
            if len(chosen) == PER_SHEET:
                break
            if name in stamps_ns and any(other == index and near in stamps_ns
                                         and abs(stamps_ns[name] - stamps_ns[near]) < APART_NS
                                         for near, other in chosen):
                continue
            chosen.append((name, index))
        return chosen

    sets = Counter(image.subset for image in images)
    sheets: dict[str, dict[str, list[Key]]] = {}
    for subset, _ in sorted(sets.items(), key=lambda entry: (-entry[1], entry[0]))[:SETS]:
        own = [image for image in images if image.subset == subset]
        hands = [hand for image in own for hand in image.hands]
        found = sorted((-hand.nme, hand.image, hand.index) for hand in hands if np.isfinite(hand.nme))
        missed = sorted((-hand.size_px, hand.image, hand.index) for hand in hands if not hand.found)
        false = sorted((0.0, image.name, -1 - p) for image in own for p in image.false_places)
        kinds = {"worst": some(found), "missed": some(missed), "false": some(false)}
        sheets[subset] = {kind: keys for kind, keys in kinds.items() if keys}
    order = sorted((hand.nme, hand.image, hand.index) for image in images for hand in image.hands
                   if np.isfinite(hand.nme))
    middle = max(0, len(order) // 2 - typical // 2)
    return Cases(sheets, some(order[middle:])[:typical])


def collect(scored: Mapping[str, Sequence[ImageScore]], rows: Mapping[str, Row], units: Sequence[dict[str, Any]],
            run: dict[str, Any], ask: bool, spread: scale.Spread) -> Cases:
    """The chosen hands with pictures and captions. scored: unit: its images. ask: ask the run's pipeline why hands were
    missed. spread: who reads the pictures. Raises DataError for a source that cannot be read again."""
    images = [image for unit in units for image in scored[unit["name"]]]
    cases = choose(images, stamps_ns={name: row.stamp_ns for name, row in rows.items() if row.stamp_ns is not None})
    wanted: dict[str, list[int]] = {}
    for name, index in dict.fromkeys([key for kinds in cases.sheets.values() for keys in kinds.values() for key in keys]
                                     + cases.typical):
        wanted.setdefault(name, []).append(index)
    parts = []
    for unit in units:
        looks = {image.name: Look(tuple(wanted[image.name]), rows[image.name].hands if image.name in rows else (),
                                  {hand.index: hand for hand in image.hands})
                 for image in scored[unit["name"]] if image.name in wanted}
        if looks:
            parts.append({**unit, "looks": looks, "ask": ask})
    for _, found, error in spread(pictures, parts, run):
        if error is not None:
            raise error
        for key, (shot, caption, reason) in found.items():
            cases.shots[key], cases.captions[key] = shot, caption
            if reason:
                cases.reasons[key] = reason
    recordings = {unit["name"]: min(row.stamp_ns for name, row in rows.items() if name.startswith(f"{unit['name']}/"))
                  for unit in units if unit["kind"] != "images"}
    for (name, _), lines in cases.captions.items():
        recording, _, stamp_ns = name.rpartition("/")
        if recording in recordings:                 # seconds since its first frame say more than a stamp
            lines[0] = f"{recording}, {(int(stamp_ns) - recordings[recording]) / 1e9:.2f} s"
    return cases


class Look(NamedTuple):
    """What of an image is to be shown."""

    indices: tuple[int, ...]                        # second half of the keys
    predicted: Sequence[Predicted]
    hands: dict[int, HandScore]


def pictures(part: dict[str, Any], run: dict[str, Any]) -> dict[Key, tuple[np.ndarray, list[str], str]]:
    """Picture, caption and reason ("" none) of the wanted hands of a unit. part: the unit with "looks" and "ask"."""
    out: dict[Key, tuple[np.ndarray, list[str], str]] = {}
    for item, frame in _seen_again(part, run):
        look = part["looks"][item.name]
        taken = {hand.prediction for hand in look.hands.values()}
        for index in look.indices:
            hand, reason = look.hands.get(index), ""
            if hand is not None and not hand.found and part["ask"]:
                reason = _reason(item, hand, frame, look.predicted, taken, run)
            shot, caption = _shot(item, frame.image, hand, (item.name, index), look.predicted, reason)
            out[item.name, index] = shot, caption, reason
    return out


def _reason(item: Item, hand: HandScore, frame: Any, predicted: Sequence[Any], taken: set[int | None],
            run: dict[str, Any]) -> str:
    chain, config = work.load_pipeline(run)
    try:
        return faults.of_missed(frame, item.hands[hand.index], predicted, taken, chain, config)
    except HandPoseError as error:
        return f"not to be told: {error}"


def _shot(item: Item, rgb: np.ndarray, hand: HandScore | None, key: Key, predicted: Sequence[Any],
          reason: str) -> tuple[np.ndarray, list[str]]:
    name = Path(key[0]).stem if hand is None or len(item.hands) < 2 else f"{Path(key[0]).stem} #{key[1]}"
    if hand is None:
        false = predicted[-1 - key[1]]
        box = scoring.prediction_box(false)
        return (figures.case(rgb, None, false.joints_px, box, SHOT_PX),
                [name, f"score {false.score:.2f}, {max(box[2] - box[0], box[3] - box[1]):.0f} px",
                 faults.of_false(false, item.hands)])
    truth = item.hands[hand.index]
    joints = predicted[hand.prediction].joints_px if hand.found else None
    shot = figures.case(rgb, truth.joints_px if truth.valid_px.any() else None, joints, truth.box, SHOT_PX)
    if not hand.found:
        return shot, [f"{name}, {hand.size_px:.0f} px", reason]
    pa = f", PA {hand.pa_mpjpe_mm:.0f} mm" if np.isfinite(hand.pa_mpjpe_mm) else ""
    return shot, [name, f"NME {100 * hand.nme:.1f} %{pa}", f"{hand.size_px:.0f} px  {hand.fault}"]


def write_sheets(folder: Path, cases: Cases) -> dict[str, dict[str, str]]:
    """One JPEG per set and kind. Returns {set: {kind: file name}} of those written; folder: made if there are any."""
    written: dict[str, dict[str, str]] = {}
    for subset, kinds in cases.sheets.items():
        for kind, keys in kinds.items():
            keys = [key for key in keys if key in cases.shots]
            if not keys:
                continue
            name = "".join(c if c.isalnum() or c in "._-" else "_" for c in subset) + f"_{kind}.jpg"
            folder.mkdir(parents=True, exist_ok=True)
            picture = sheet([(cases.shots[key], cases.captions[key]) for key in keys])
            write_picture(folder / name, picture, jpeg_quality=88)
            written.setdefault(subset, {})[kind] = name
    return written


def sheet(shots: Iterable[tuple[np.ndarray, list[str]]]) -> np.ndarray:
    """Pictures with captions in rows of COLUMNS. shots: ((S, S, 3) uint8, lines of text). (H, W, 3) uint8 RGB."""
    tiles = []
    for picture, lines in shots:
        tile = np.full((SHOT_PX + CAPTION_PX, SHOT_PX + 6, 3), 255, np.uint8)
        tile[:SHOT_PX, 3:-3] = picture
        wrapped = [part for line in lines for part in _wrap(line)][:4]
        for number, text in enumerate(wrapped):
            cv2.putText(tile, text, (4, SHOT_PX + 13 + 14 * number), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (30, 30, 30), 1,
                        cv2.LINE_AA)
        tiles.append(tile)
    columns = min(COLUMNS, len(tiles))
    while len(tiles) % columns:
        tiles.append(np.full_like(tiles[0], 255))
    return np.vstack([np.hstack(tiles[k:k + columns]) for k in range(0, len(tiles), columns)])


def _wrap(text: str, width: int = 30) -> list[str]:
    lines = [""]
    for word in text.encode("ascii", "replace").decode().split():           # OpenCV's font has ASCII only
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _seen_again(part: dict[str, Any], run: dict[str, Any]) -> Iterator[tuple[Item, Frame]]:
    """Truth items and frames of the wanted images of a unit, read again from their source."""
    if part["kind"] == "images":
        data, config = work.data_set(part["dataset"], part["folder"], part["split"]), Config.from_dict(run["settings"])
        for item in map(data.__getitem__, part["indices"]):
            if item.name in part["looks"]:
                try:
                    yield item, work.still_frame(item, config)
                except FrameError:                  # scored from another program's predictions; there is no picture
                    continue
        return
    items = bag_truth.items_of(part, run)
    for frame in work.source_frames(part, run, {int(name.rpartition("/")[2]) for name in part["looks"]}):
        yield items[frame.stamp_ns], frame
