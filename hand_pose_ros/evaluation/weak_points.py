"""Where accuracy is lost: tables by set, by what a hand looks like and by joint, and what went wrong how often."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..skeleton import JOINT_NAMES
from . import attributes, faults
from .cases import Cases
from .scoring import HandScore, ImageScore, group_summary, headline, headline_words, shown

MIN_HANDS = 10
"""A set gets attribute tables of its own from this number of hands on."""
Table = list[list[str]]


@dataclass(frozen=True)
class Tables:
    """Everything told here, made once for the page and for the Markdown."""

    faults: Table
    attributes: dict[str, Table]                    # set: table; "": all hands
    joints: Table
    offsets: Table
    over: str = ""                                  # what the tables of all sets are over, see scoring.headline_words


def tables(images: Sequence[ImageScore], cases: Cases) -> Tables:
    """All tables of some images."""
    return Tables(fault_table(images, cases),
                  {name: attribute_table(hands) for name, hands in sets_with_tables(images)},
                  joint_table(images), offset_table(images), headline_words(images))


def hands_of(images: Sequence[ImageScore]) -> list[HandScore]:
    """All truth hands of some images."""
    return [hand for image in images for hand in image.hands]


def fault_table(images: Sequence[ImageScore], cases: Cases) -> Table:
    """One row per set: hands, missed with reasons, false with places, and the faults of found hands."""
    rows = [["set", "hands", "missed", "because", "false hands", "where", f"NME >= {100 * faults.LARGE_NME:.0f} %",
             *faults.FAULTS]]
    for subset in sorted({image.subset for image in images}):
        own = [image for image in images if image.subset == subset]
        hands = hands_of(own)
        missed = sum(not hand.found for hand in hands)
        false = Counter(kind for image in own for kind in image.false_kinds)
        found = Counter(hand.fault for hand in hands if hand.fault)
        rows.append([subset, str(len(hands)), str(missed), _asked(cases.reason_counts(subset), missed),
                     str(sum(image.false for image in own)), _counts(false), str(found.total()),
                     *[str(found[name]) if found[name] else "" for name in faults.FAULTS]])
    return rows


def _asked(reasons: Counter[str], missed: int) -> str:
    """The reasons, and of how many missed hands where that is not all: a sheet does not hold every one."""
    told = reasons.total()
    return _counts(reasons) + (f" ({told} of {missed} asked)" if told < missed else "")


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items(), key=lambda e: (-e[1], e[0])))


def attribute_table(hands: Sequence[HandScore]) -> Table:
    """One row per group of each attribute that is known of some hands: recall, errors, and the group's share of all
    joint error, so that rare bad groups and common fair ones can be weighed."""
    rows = [["attribute", "group", "hands", "recall %", "NME %", "PCK@0.1 %", "PA-MPJPE mm", "side right %",
             "share of all 2D error %", "hands with NME", "hands with 3D"]]
    whole = group_summary(hands)["error_sum"]
    for key, title in attributes.TITLES.items():
        groups = [(name, [hand for hand in hands if hand.attributes.get(key) == name])
                  for name in attributes.groups_of(key)]
        groups = [(name, group_summary(chosen)) for name, chosen in groups if chosen]
        if len(groups) < 2:
            continue
        for number, (name, found) in enumerate(groups):
            cells = [shown(column, found[column])
                     for column in ("recall", "nme", "pck_0.1", "pa_mpjpe_mm", "handedness")]
            rows.append([title if number == 0 else "", name, str(found["hands"]), *cells,
                         f"{100 * found['error_sum'] / whole:.1f}" if whole else "-",
                         str(found["hands_2d"]), str(found["hands_3d"])])
    return rows


def joint_table(images: Sequence[ImageScore]) -> Table:
    """NME in percent by joint: of all that scoring.headline takes, one column per set with enough hands, and visible
    against hidden where 3D tells."""
    every = [hand for hand in hands_of(images) if hand.found and hand.measured_joints]
    hands = [hand for hand in hands_of(headline(images)) if hand.found and hand.measured_joints]
    if not hands:
        return []
    share = {id(hand): 100 * hand.errors_px / hand.extent_px for hand in every}
    sets = Counter(hand.subset for hand in every)
    columns = [("all", hands)] + [(name, [h for h in every if h.subset == name])
                                  for name, count in sorted(sets.items()) if count >= MIN_HANDS and len(sets) > 1]
    known = [hand for hand in hands if hand.hidden is not None]
    out = [["joint", *[name for name, _ in columns], *(["visible", "hidden", "times hidden"] if known else [])]]
    for joint, title in enumerate(JOINT_NAMES):
        row = [title.replace("_", " "), *[_mean([share[id(h)][joint] for h in chosen], 1, 1) for _, chosen in columns]]
        if known:
            seen = [share[id(h)][joint] for h in known if not h.hidden[joint]]
            hidden = [share[id(h)][joint] for h in known if h.hidden[joint]]
            row += [_mean(seen, 1, 1), _mean(hidden, 1, 1), str(len(hidden))]
        out.append(row)
    out.append(["mean", *[_mean(np.concatenate([share[id(h)] for h in chosen]), 1, 1) for _, chosen in columns]])
    if known:
        flat, dark = (np.concatenate([values[id(h)] for h in known]) for values in
                      (share, {id(h): h.hidden for h in known}))
        out[-1] += [_mean(flat[~dark], 1, 1), _mean(flat[dark], 1, 1), str(int(dark.sum()))]
    return out


def offset_table(images: Sequence[ImageScore]) -> Table:
    """Mean offset of each joint in percent of the hand's size, "along / across" (see scoring.hand_frame_offsets), one
    column per set with enough hands; last the mean error that is left when every joint's mean offset is taken away.

    Only hands of one view (the commonest) are averaged: the same offset on the hand looks different from its back.
    """
    hands = [hand for hand in hands_of(images) if hand.found and np.isfinite(hand.offsets).any()]
    columns = []
    for subset, count in sorted(Counter(hand.subset for hand in hands).items()):
        if count < MIN_HANDS:
            continue
        own = [hand for hand in hands if hand.subset == subset]
        view, _ = max(Counter(hand.attributes.get("view", "") for hand in own).items(), key=lambda e: (e[1], e[0]))
        same = np.array([hand.offsets for hand in own if hand.attributes.get("view", "") == view])
        columns.append((f"{subset}, {view}", same))
    if not columns:
        return []
    out = [["joint", *[f"{name} ({len(offsets)})" for name, offsets in columns]]]
    means = [100 * np.nanmean(offsets, axis=0) for _, offsets in columns]
    for joint, title in enumerate(JOINT_NAMES):
        out.append([title.replace("_", " "), *[f"{mean[joint, 0]:+.1f} / {mean[joint, 1]:+.1f}" for mean in means]])
    for title, taken in (("mean error", 0.0), ("mean error without the offsets", 1.0)):
        errors = [np.linalg.norm(100 * offsets - taken * mean, axis=2) for (_, offsets), mean in zip(columns, means)]
        out.append([title, *[f"{np.nanmean(error):.2f}" for error in errors]])
    return out


def _mean(values: Sequence[float], factor: float, digits: int) -> str:
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return f"{factor * known.mean():.{digits}f}" if known.size else "-"


def sets_with_tables(images: Sequence[ImageScore]) -> list[tuple[str, list[HandScore]]]:
    """("", all hands that scoring.headline takes) and, if there are several sets, those of MIN_HANDS and more by
    themselves."""
    hands = hands_of(images)
    counts = Counter(hand.subset for hand in hands)
    out = [("", hands_of(headline(images)))]
    if len(counts) > 1:
        out += [(name, [hand for hand in hands if hand.subset == name])
                for name, count in sorted(counts.items()) if count >= MIN_HANDS]
    return out
