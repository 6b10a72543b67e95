"""One unit of an evaluation, done and scored: each image is scored while the networks are at the next ones, and once
more only where an earlier run has left the predictions and no scores.

A judge is given predictions in the order of the images by ``add`` and says at the end what they are worth.
"""
from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from . import bag_truth, predictions, scoring, work
from .datasets.base import Item
from .predictions import Row
from .scoring import ImageScore


class Scored(NamedTuple):
    """What the predictions of a unit are worth."""

    images: list[ImageScore]                        # in the order of the unit
    problems: Counter[str]                          # of its labels
    track: dict[str, Any] | None = None             # of a recording, see bag_truth.track_metrics


def evaluate(unit: dict[str, Any], run: dict[str, Any]) -> Scored:
    """Do a unit, unless its part is there, and score it. Raises DataError for a source or truth that cannot be read."""
    judge = (Pictures if unit["kind"] == "images" else Recording)(unit, run)
    if work.is_done(unit, run):
        judge.resume()
    else:
        work.process(unit, run, judge)
    return judge.scored()


class Pictures:
    """Judge of some pictures of a data set."""

    def __init__(self, unit: dict[str, Any], run: dict[str, Any]) -> None:
        self._unit, self._run = unit, run
        self._data = work.data_set(unit["dataset"], unit["folder"], unit["split"])
        self._problems_before = Counter(self._data.problems)
        self._images: list[ImageScore] = []
        self._problems: Counter[str] = Counter()

    def add(self, row: Row, item: Item, looks: Sequence[Mapping[str, str]] | None = None) -> None:
        """Predictions for an item. looks: what attributes.of_picture said of each of its hands, None: not looked at."""
        self._images.append(scoring.score_image(item, row.hands, self._least(), looks))

    def _least(self) -> float | None:
        """The overlap that pairs need; None where each answer was asked for in a box."""
        return self._run["min_iou"] if self._unit["protocol"] == "full" else None

    def resume(self) -> None:
        """Score the part that is there. A picture without a line could not be read: counted when that was tried."""
        part = work.part_path(self._unit, self._run)
        rows, looks = predictions.read(part), work.read_looks(part)
        for item in map(self._data.__getitem__, self._unit["indices"]):
            if item.name in rows:
                self.add(rows[item.name], item, looks.get(item.name))

    def compare(self, rows: Mapping[str, Row]) -> None:
        """Score the predictions of another program; without a line, an image has no hands. An image with a damaged
        label is left out, as it is for our own."""
        for item in map(self._data.__getitem__, self._unit["indices"]):
            if item.problem:
                self._problems[f"{self._data.name}: {item.problem}"] += 1
                continue
            if item.name not in rows:
                self._problems["image without a prediction line, counted as no hands"] += 1
            row = rows.get(item.name) or Row(item.name, ())
            self._images.append(scoring.score_image(item, row.hands, self._least() or 0.0))     # in no known order

    def scored(self) -> Scored:
        """The scores, and what was wrong with the labels."""
        return Scored(self._images, self._problems + (self._data.problems - self._problems_before))


class Recording:
    """Judge of a bag or a video: its truth is what the bag or a labels file holds, or nothing. It is read while the
    networks load and begin; what is wrong with it is raised with the first frame."""

    def __init__(self, unit: dict[str, Any], run: dict[str, Any]) -> None:
        self._unit, self._run = unit, run
        self._problems: Counter[str] = Counter()
        reader = ThreadPoolExecutor(1)
        self._read = reader.submit(bag_truth.items_of, unit, run, self._problems)
        reader.shutdown(wait=False)
        self._rows: dict[int, Row] = {}
        self._images: dict[int, ImageScore] = {}

    @property
    def _truth(self) -> dict[int, Item]:
        return self._read.result()

    def add(self, row: Row) -> None:
        """Predictions for a frame."""
        self._rows[row.stamp_ns] = row
        if row.stamp_ns in self._truth:
            self._images[row.stamp_ns] = scoring.score_image(self._truth[row.stamp_ns], row.hands, self._run["min_iou"])

    def resume(self) -> None:
        """Score the part that is there."""
        for row in predictions.read(work.part_path(self._unit, self._run)).values():
            self.add(row)

    def scored(self) -> Scored:
        """The scores, and labels and frames that found no partner. Dropped frames have been counted as such."""
        lost = len(self._truth) - len(self._images) - self._dropped_labels()
        if lost:
            self._problems["label without image: no frame has its stamp"] += lost
        if self._images and len(self._rows) > len(self._images):
            self._problems["image without label, not scored"] += len(self._rows) - len(self._images)
        truth = {stamp_ns: self._truth[stamp_ns] for stamp_ns in self._images}
        return Scored([self._images[stamp_ns] for stamp_ns in sorted(self._images)], self._problems,
                      bag_truth.track_metrics(self._rows, truth))

    def _dropped_labels(self) -> int:
        """How many labels lie where frames were dropped. Of recorded hands those whose image is in the bag; else those
        between two predictions, at most as many as the second says were dropped before it."""
        without = self._truth.keys() - self._rows.keys()
        if without and self._unit.get("recorded"):
            with work.open_bag(self._unit) as reader:
                topic = reader.image_topic(self._unit.get("image_topic")).name
                return len(without & {recorded.stamp_ns for recorded in reader.messages([topic])})
        stamps = sorted(self._rows)
        between = Counter(bisect(stamps, stamp_ns) for stamp_ns in without)
        return sum(min(count, self._rows[stamps[place]].dropped) for place, count in between.items()
                   if place < len(stamps))
