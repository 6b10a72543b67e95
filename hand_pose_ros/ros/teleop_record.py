"""What the closed loop of ``hand-pose teleop-demo`` did: delays, errors, and the picture over time."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..gripper import TeleopConfig

LARGEST_DELAY_S, GRID_HZ = 1.0, 200.0
SHORTEST_FOLLOWING_S, SETTLING_S = 1.5, 0.5
"""Stretches of steering that are shorter say nothing about delays; each one starts with the gripper on its way to the
hand's opening, which is left out."""
SAME_IMAGE_S = 1e-4
GAP_S, GAP_INTERVALS = 0.3, 4.0
"""A curve is interrupted where nothing came for so long, and for so many of its usual intervals."""
MOST_TICKS = 16
WIDTH, HEIGHT, MARGIN = 1200, 640, 70
PHASE_COLOURS = {"idle": (225, 225, 225), "follow": (205, 240, 205), "hold": (190, 225, 255), "stop": (200, 200, 255)}
LAG = "true hand -> gripper, by correlation [ms]"
SEEN_LAG = "seen hand -> gripper, by correlation [ms]"


@dataclass(eq=False)
class Record:
    """What arrived. Times in seconds of the system's clock, as in the stamps; shares: 0 closed, 1 open."""

    hands: list[tuple[float, float, float]] = field(default_factory=list)    # image stamp, share asked for, arrival
    truth: list[tuple[float, float]] = field(default_factory=list)           # image stamp, true share
    commands: list[tuple[float, float]] = field(default_factory=list)        # time of sending, opening [m]
    opening: list[tuple[float, float]] = field(default_factory=list)         # time, opening of the robot [m]
    states: list[tuple[float, str]] = field(default_factory=list)
    delays: dict[str, str] = field(default_factory=dict)                     # from /diagnostics
    ended_s: float = 0.0


def late_s(record: Record) -> float:
    """Largest age of an image's stamp when its hands arrived; 0 without hands."""
    return max((arrival - stamp for stamp, _, arrival in record.hands), default=0.0)


def phases(record: Record) -> list[tuple[float, float, str]]:
    """(start, end, phase) over the time in which hands came."""
    if not record.hands or not record.states:
        return []
    first, last = record.hands[0][0], record.hands[-1][0]
    changes = [(at, text.partition(":")[0]) for at, text in record.states]
    ends = [at for at, _ in changes[1:]] + [record.ended_s]
    return [(max(at, first), min(end, last), phase) for (at, phase), end in zip(changes, ends)
            if min(end, last) > max(at, first)]


def following(record: Record) -> list[tuple[float, float]]:
    """Stretches of the phase 'follow' as (start, end), the longest first, without short ones."""
    joined: list[list[float]] = []
    for start, end, phase in phases(record):
        if phase == "follow" and joined and start - joined[-1][1] < 1e-6:
            joined[-1][1] = end
        elif phase == "follow":
            joined.append([start, end])
    return sorted(((start, end) for start, end in joined if end - start > SHORTEST_FOLLOWING_S),
                  key=lambda span: span[0] - span[1])


def delay(time_a: np.ndarray, a: np.ndarray, time_b: np.ndarray, b: np.ndarray, largest_s: float = LARGEST_DELAY_S
          ) -> float:
    """Seconds by which signal b follows signal a: the shift with the largest correlation; NaN if one does not move, or
    the delay is longer than what is searched."""
    if len(a) < 5 or len(b) < 5:
        return float("nan")
    grid = np.arange(max(time_a[0], time_b[0]), min(time_a[-1], time_b[-1]), 1.0 / GRID_HZ)
    if len(grid) < GRID_HZ:
        return float("nan")
    first = np.interp(grid, time_a, a)
    best, found = -np.inf, float("nan")
    shifts = np.arange(0.0, largest_s, 1.0 / GRID_HZ)
    for shift in shifts:
        keep = grid + shift <= time_b[-1]
        x, y = first[keep], np.interp(grid[keep] + shift, time_b, b)
        if keep.sum() > GRID_HZ / 2 and x.std() > 1e-6 and y.std() > 1e-6:
            score = float(np.corrcoef(x, y)[0, 1])
            if score > best:
                best, found = score, float(shift)
    return found if found != shifts[-1] else float("nan")


def summary(record: Record, source: str, location: str, speed: float = 1.0) -> dict[str, Any]:
    """Delays, errors and the share of time in each phase. Errors are in mm of the gripper's opening, fully open 80.

    speed: of the recording's playing; slow motion leaves room for longer delays before they become ambiguous.
    """
    spans = phases(record)
    total = sum(end - start for start, end, _ in spans)
    config = TeleopConfig()
    range_m = config.gripper_open_m - config.gripper_closed_m
    full = f"[mm of {1e3 * range_m:.0f}]"
    numbers: dict[str, Any] = {"recording": Path(location).name, "hands from": source,
                               "hands received": len(record.hands), "commands received": len(record.commands)}
    for phase in PHASE_COLOURS:
        inside = sum(end - start for start, end, name in spans if name == phase)
        numbers[f"time in {phase} [%]"] = 100.0 * inside / total if total else float("nan")
    numbers |= record.delays
    hands, truth = np.array([row[:2] for row in record.hands]).reshape(-1, 2), np.array(record.truth).reshape(-1, 2)
    if len(hands) and len(truth):
        nearest = truth[np.abs(truth[:, 0][None] - hands[:, 0][:, None]).argmin(axis=1)]
        same = np.abs(nearest[:, 0] - hands[:, 0]) < SAME_IMAGE_S
        error = 1e3 * range_m * np.abs(nearest[same, 1] - hands[same, 1])
        numbers[f"aperture seen - true, same image, mean {full}"] = float(error.mean()) if same.any() else float("nan")
        numbers[f"aperture seen - true, same image, p95 {full}"] = \
            float(np.percentile(error, 95)) if same.any() else float("nan")
    commands, opening = np.array(record.commands).reshape(-1, 2), np.array(record.opening).reshape(-1, 2)
    start, end = next(iter(following(record)), (0.0, 0.0))

    def within(rows: np.ndarray) -> np.ndarray:
        return rows[(rows[:, 0] >= start + SETTLING_S) & (rows[:, 0] <= end)]

    seen, true, sent, moved = within(hands), within(truth), within(commands), within(opening)
    largest_s = LARGEST_DELAY_S / min(speed, 1.0)
    numbers["seen hand -> command, by correlation [ms]"] = 1e3 * delay(*seen.T, *sent.T, largest_s)
    for name, asked, label in (("seen", seen, SEEN_LAG), ("true", true, LAG)):
        if not len(truth) and name == "true":
            continue
        lag_s = delay(*asked.T, *moved.T, largest_s)
        numbers[label] = 1e3 * lag_s
        for words, shift_s in (("delay taken out", lag_s), ("delay included", 0.0)):
            error = np.abs(np.interp(moved[:, 0] - shift_s, asked[:, 0], asked[:, 1]) * range_m - moved[:, 1]) \
                if np.isfinite(lag_s) else np.array([np.nan])
            numbers[f"gripper - {name} hand, {words}, mean {full}"] = 1e3 * float(error.mean())
    return numbers | {"speed": speed}


def plot(record: Record, numbers: dict[str, Any]) -> np.ndarray:
    """The picture (H, W, 3) BGR: true and seen hand, the command, the gripper; coloured by phase."""
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    times = [at for at, *_ in record.hands] or [0.0, 1.0]
    first, last = times[0], max(times[-1], times[0] + 1.0)
    top, bottom = MARGIN + 30, HEIGHT - MARGIN

    def x(at: Any) -> np.ndarray:
        return MARGIN + (np.asarray(at) - first) / (last - first) * (WIDTH - 2 * MARGIN)

    def y(share: Any) -> np.ndarray:
        return bottom - np.asarray(share) * (bottom - top)

    for start, end, phase in phases(record):
        cv2.rectangle(image, (int(x(start)), top), (int(x(end)), bottom), PHASE_COLOURS.get(phase, (255, 255, 255)), -1)
    for k in range(5):
        cv2.line(image, (MARGIN, int(y(k / 4))), (WIDTH - MARGIN, int(y(k / 4))), (210, 210, 210), 1)
        _text(image, f"{80 * k / 4:.0f}", (MARGIN - 38, int(y(k / 4)) + 5))
    for second in range(0, int(last - first) + 1, 1 + int((last - first) / MOST_TICKS)):
        _text(image, f"{second}", (int(x(first + second)) - 4, bottom + 22))
    range_m = TeleopConfig().gripper_open_m - TeleopConfig().gripper_closed_m
    hands = [row[:2] for row in record.hands]
    curves = (("true hand", record.truth, (150, 150, 150)),
              ("hand as seen: thumb-index aperture", hands, (200, 90, 20)),
              ("command", [(at, value / range_m) for at, value in record.commands], (60, 60, 230)),
              ("simulated gripper", [(at, value / range_m) for at, value in record.opening], (30, 130, 30)))
    left = MARGIN
    for name, rows, colour in curves:
        rows = [row for row in rows if first <= row[0] <= last]
        if len(rows) < 2:
            continue
        data = np.array(rows)
        gap_s = max(GAP_S, GAP_INTERVALS * float(np.median(np.diff(data[:, 0]))))
        for piece in np.split(data, np.flatnonzero(np.diff(data[:, 0]) > gap_s) + 1):
            line = np.stack([x(piece[:, 0]), y(piece[:, 1])], 1).round().astype(np.int32)
            cv2.polylines(image, [line], False, colour, 2, cv2.LINE_AA)
        cv2.line(image, (left, 75), (left + 30, 75), colour, 3)
        left += 60 + _text(image, name, (left + 36, 80))
    for number, (phase, colour) in enumerate(PHASE_COLOURS.items()):
        left = MARGIN + 110 * number
        cv2.rectangle(image, (left, HEIGHT - 30), (left + 20, HEIGHT - 14), colour, -1)
        _text(image, phase, (left + 26, HEIGHT - 16))
    _text(image, "opening [mm] over time [s]", (WIDTH - MARGIN - 240, HEIGHT - 16))
    slow = f", at {numbers['speed']:g} of its speed" if numbers["speed"] != 1.0 else ""
    _text(image, f"{numbers['recording']}{slow}, hands from: {numbers['hands from']}", (MARGIN, 24))
    lag = numbers.get(LAG, numbers[SEEN_LAG])
    error = numbers.get("gripper - true hand, delay taken out, mean [mm of 80]",
                        numbers["gripper - seen hand, delay taken out, mean [mm of 80]"])
    _text(image, f"the gripper follows the {'true' if LAG in numbers else 'seen'} hand after {lag:.0f} ms, mean error "
          f"then {error:.1f} mm" if np.isfinite(lag) else "the hand did not steer for long enough to tell a delay",
          (MARGIN, 50))
    return image


def _text(image: np.ndarray, text: str, at: tuple[int, int]) -> int:
    """Write and return the width in pixels."""
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.48, (40, 40, 40), 1, cv2.LINE_AA)
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.48, 1)[0][0]
