"""A small tree of transforms: what of tf2's buffer teleoperation needs, as values, for machines without tf2_ros.

The rules are tf2's: static transforms hold at all times; moving ones are interpolated between the two samples round the
asked time and never continued beyond them; time 0 asks for the newest.
"""
from __future__ import annotations

import bisect
from dataclasses import dataclass, field

import numpy as np

from .errors import DataError
from .frames import rotation_from_vector, rotation_vector

KEPT_NS = 10_000_000_000
"""Samples older than this before the newest one of the same frame are forgotten; tf2's default too."""
LATE_SAMPLES = 5
"""So many samples in a row that are older than that are no stragglers any more."""
MOST_FRAMES, PASSED_OVER = 256, 20
"""With more frames than that, moving ones that were not sent in the last so many times as many samples are forgotten:
each hand has names of its own. Counted, as stamps come from several clocks."""


@dataclass(eq=False)
class _Link:
    parent: str
    static: bool
    came: int = 0                                       # number of its newest sample among all
    late: int = 0                                       # samples in a row that were older than what is kept
    stamps_ns: list[int] = field(default_factory=list)
    rotations: list[np.ndarray] = field(default_factory=list)
    translations: list[np.ndarray] = field(default_factory=list)


class TransformTree:
    """Frames with one parent each."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}
        self._samples = 0

    def add(self, parent: str, child: str, R_parent_child: np.ndarray, t_parent_child: np.ndarray, stamp_ns: int,
            static: bool = False) -> None:
        """One sample. R (3, 3), t (3,) m. Samples that are not finite, or older than what is kept, are ignored; with
        LATE_SAMPLES old ones in a row the link begins anew: a bag has started again."""
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if not (np.all(np.isfinite(R_parent_child)) and np.all(np.isfinite(t_parent_child))) or parent == child:
            return
        link = self._links.get(child)
        if link is None or link.parent != parent or link.static != static or static:
            link = self._links[child] = _Link(parent, static)
        if link.stamps_ns and stamp_ns < link.stamps_ns[-1] - KEPT_NS:
            link.late += 1
            if link.late < LATE_SAMPLES:
                return
            link.stamps_ns, link.rotations, link.translations = [], [], []          # stamps have gone back
        link.late = 0
        at = bisect.bisect_left(link.stamps_ns, stamp_ns)
        link.stamps_ns.insert(at, stamp_ns)
        link.rotations.insert(at, np.asarray(R_parent_child, float))
        link.translations.insert(at, np.asarray(t_parent_child, float))
        while link.stamps_ns[-1] - link.stamps_ns[0] > KEPT_NS:
            for values in (link.stamps_ns, link.rotations, link.translations):
                del values[0]
        link.came = self._samples = self._samples + 1
        if self._samples % MOST_FRAMES == 0 and len(self._links) > MOST_FRAMES:
            oldest = self._samples - PASSED_OVER * len(self._links)
            self._links = {name: one for name, one in self._links.items() if one.static or one.came > oldest}

    def clear(self) -> None:
        """Forget everything that moves, as after time has gone back."""
        self._links = {child: link for child, link in self._links.items() if link.static}

    def lookup(self, target: str, source: str, stamp_ns: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """R_target_source (3, 3) and t_target_source (3,) at a time. Raises DataError if they are not known then."""
        target, source = target.lstrip("/"), source.lstrip("/")
        up_target, up_source = self._chain(target), self._chain(source)
        common = next((frame for frame in up_source if frame in up_target), None)
        if common is None:
            raise DataError(f"frames '{target}' and '{source}' are not connected in TF")
        R_ct, t_ct = self._to(common, target, up_target, stamp_ns)
        R_cs, t_cs = self._to(common, source, up_source, stamp_ns)
        return R_ct.T @ R_cs, R_ct.T @ (t_cs - t_ct)

    def newest_ns(self, target: str, source: str) -> int:
        """Stamp up to which all moving transforms between two frames are known; 0 if none of them moves. DataError."""
        up_target, up_source = self._chain(target.lstrip("/")), self._chain(source.lstrip("/"))
        children = set(up_target) ^ set(up_source)
        if up_target[-1] != up_source[-1]:
            raise DataError(f"frames '{target}' and '{source}' are not connected in TF")
        return min((self._links[child].stamps_ns[-1] for child in children if not self._links[child].static), default=0)

    def _chain(self, frame: str) -> list[str]:
        chain = [frame]
        while chain[-1] in self._links and self._links[chain[-1]].parent not in chain:
            chain.append(self._links[chain[-1]].parent)
        return chain

    def _to(self, common: str, frame: str, chain: list[str], stamp_ns: int) -> tuple[np.ndarray, np.ndarray]:
        R, t = np.eye(3), np.zeros(3)
        for child in chain[:chain.index(common)]:
            R_link, t_link = self._sample(child, stamp_ns)
            R, t = R_link @ R, R_link @ t + t_link
        return R, t

    def _sample(self, child: str, stamp_ns: int) -> tuple[np.ndarray, np.ndarray]:
        link = self._links[child]
        times = link.stamps_ns
        if link.static or stamp_ns == 0 or stamp_ns == times[-1]:
            return link.rotations[-1], link.translations[-1]
        if not times[0] <= stamp_ns <= times[-1]:
            late = (stamp_ns - times[-1]) * 1e-9
            raise DataError(f"TF frame '{child}' is not known at that time (its newest transform is {late:.3f} s "
                            "older)")
        k = bisect.bisect_right(times, stamp_ns) - 1
        share = (stamp_ns - times[k]) / (times[k + 1] - times[k])
        turn = rotation_vector(link.rotations[k + 1] @ link.rotations[k].T)
        return (rotation_from_vector(share * turn) @ link.rotations[k],
                (1 - share) * link.translations[k] + share * link.translations[k + 1])
