"""Predicted hands as JSON Lines: one image per line, the same fields as annotations.jsonl where they mean the same.

{"image": name, "stamp_ns": n or absent, "detector_ran": bool, "hands": [{"bbox": [x, y, w, h], "score",
"handedness", "right_probability", "track_id", "joints_2d": 21 x [u, v], "joints_3d": 21 x [x, y, z] metres from the
wrist, "joints_camera": the same in the camera's frame or null, "confidence", "state", "sigma_ray", "sigma_across",
"hand_length", "scale_source"}]}. A file of another program may also hold "vertices" (its mesh, metres). Unknown is
null. Numbers are rounded (pixels to 1e-3, metres to 1e-6), so that equal runs give equal bytes and files stay small.
"""
from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..skeleton import NUM_JOINTS
from ..types import Hand


@dataclass(frozen=True, eq=False)
class Predicted:
    """One predicted hand, from our pipeline or from another program's file: what is missing is None."""

    score: float = 1.0
    box: np.ndarray | None = None                   # (4,) x0 y0 x1 y1 pixels
    handedness: str | None = None
    joints_px: np.ndarray | None = None             # (21, 2)
    joints_m: np.ndarray | None = None              # (21, 3) metres; any origin
    joints_camera_m: np.ndarray | None = None       # (21, 3) metres in the camera's frame
    sigma_ray_m: np.ndarray | None = None
    sigma_across_m: np.ndarray | None = None
    state: np.ndarray | None = None
    vertices_m: np.ndarray | None = None            # (V, 3) metres; any origin
    track_id: int = 0


@dataclass(frozen=True, eq=False)
class Row:
    """One line."""

    image: str
    hands: tuple[Predicted, ...]
    stamp_ns: int | None = None
    detector_ran: bool = True
    dropped: int = 0                                # frames before this one that real time left out


def line(image: str, hands: Sequence[Hand], stamp_ns: int | None = None, detector_ran: bool = True,
         **extra: Any) -> str:
    """One line, with its line end, for the hands of one image."""
    row: dict[str, Any] = {"image": image}
    if stamp_ns is not None:
        row["stamp_ns"] = int(stamp_ns)
    row["detector_ran"] = bool(detector_ran)
    row.update(extra)
    row["hands"] = [_hand(hand) for hand in hands]
    return json.dumps(row, allow_nan=False) + "\n"


def _hand(hand: Hand) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(value) for value in hand.box)
    return {
        "bbox": _plain([x0, y0, x1 - x0, y1 - y0], 3), "score": _plain(hand.score, 4),
        "handedness": None if np.isnan(hand.right_probability) else "right" if hand.is_right else "left",
        "right_probability": _plain(hand.right_probability, 4), "track_id": int(hand.track_id),
        "joints_2d": _plain(hand.joints_px, 3), "joints_3d": _plain(hand.joints_rel_m, 6),
        "joints_camera": None if np.isnan(hand.joints_m).all() else _plain(hand.joints_m, 6),
        "confidence": _plain(hand.confidence, 3), "state": [int(state) for state in hand.state],
        "sigma_ray": _plain(hand.sigma_ray_m, 6), "sigma_across": _plain(hand.sigma_across_m, 6),
        "hand_length": _plain(hand.hand_length_m, 5), "scale_source": int(hand.scale_source)}


def _plain(values: Any, digits: int) -> Any:
    """Rounded floats in lists, with None for what is not finite (JSON has no NaN)."""
    array = np.round(np.asarray(values, float), digits) + 0.0                          # + 0.0: no negative zero
    return np.where(np.isfinite(array), array.astype(object), None).tolist()


def read(path: str | Path, foreign: bool = False) -> dict[str, Row]:
    """All lines of a file by image. Raises DataError, with the line's number, for one that is not a prediction and, of
    a ``foreign`` file, for an image's second one."""
    rows: dict[str, Row] = {}
    path = Path(path)
    try:
        text = path.read_text("utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as lines of text: {error}") from error
    for number, content in enumerate(text.split("\n"), 1):
        if content.strip():
            try:
                row = parse(json.loads(content))
                if foreign and row.image in rows:
                    raise DataError(f"{path}:{number}: {row.image} has a line already; all its hands belong in one")
                rows[row.image] = row
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                raise DataError(f"{path}:{number}: not a prediction line ({type(error).__name__}: {error})") from error
    return rows


def parse(row: dict[str, Any]) -> Row:
    """One parsed line. Raises KeyError, ValueError, TypeError, AttributeError or OverflowError if it is not one."""
    return Row(row["image"], tuple(_predicted(hand) for hand in row.get("hands") or []), row.get("stamp_ns"),
               bool(row.get("detector_ran", True)), int(row.get("dropped") or 0))


def _predicted(hand: dict[str, Any]) -> Predicted:
    box = hand.get("bbox")
    if box is not None:
        x, y, w, h = box
        box = np.array([x, y, x + w, y + h], float)
    score, side = hand.get("score"), hand.get("handedness")
    state = hand.get("state")
    return Predicted(1.0 if score is None else float(score), box, None if side is None else side.lower(),
                     _array(hand.get("joints_2d"), (NUM_JOINTS, 2)), _array(hand.get("joints_3d"), (NUM_JOINTS, 3)),
                     _array(hand.get("joints_camera"), (NUM_JOINTS, 3)), _array(hand.get("sigma_ray"), (NUM_JOINTS,)),
                     _array(hand.get("sigma_across"), (NUM_JOINTS,)),
                     None if state is None else np.asarray(state, np.uint8), _array(hand.get("vertices"), (-1, 3)),
                     int(hand.get("track_id") or 0))


def _array(values: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    return None if values is None else np.array(values, float).reshape(shape)


def write(path: Path, lines: Iterable[str]) -> None:
    """Write lines to a file that appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf8", newline="\n") as file:
        file.writelines(lines)
    part.replace(path)
