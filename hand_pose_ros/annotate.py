"""Hands drawn on an image: for the debug topic, predict and demo. Colours say the finger, hollow dots say not seen."""
from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from hand_pose_ros.skeleton import BONES, WRIST
from hand_pose_ros.types import Hand, JointState

FINGER_COLOURS = ((255, 176, 59), (92, 225, 120), (80, 170, 255), (190, 120, 255), (255, 99, 132))
"""RGB of thumb, index, middle, ring and little finger: told apart on skin, and by most colour-blind eyes by
lightness."""
WRIST_COLOUR = (235, 235, 235)
LEFT_COLOUR, RIGHT_COLOUR = (255, 214, 102), (122, 220, 255)
_OUTLINE = (20, 20, 20)
_SHIFT = 4                                          # fractional bits of cv2's drawing coordinates


def draw(rgb: np.ndarray, hands: Iterable[Hand], labels: bool = True) -> np.ndarray:
    """A copy of the image (H, W, 3) uint8 RGB with the hands on it.

    Bones and joints have their finger's colour; joints that are not VISIBLE are hollow. ``labels`` writes side and its
    probability, track id, score and distance beside each hand. Sizes follow the size of the hand in the image.
    """
    out, hands = np.ascontiguousarray(rgb).copy(), tuple(hands)
    for hand in hands:
        _draw_hand(out, hand)
    if labels:
        taken: list[tuple[int, int, int, int]] = []
        for hand in hands:
            _draw_label(out, hand, taken)
    return out


def colour_of_joint(joint: int) -> tuple[int, int, int]:
    """RGB of one of the 21 joints."""
    return WRIST_COLOUR if joint == WRIST else FINGER_COLOURS[(joint - 1) // 4]


def caption(hand: Hand) -> str:
    """Side with its probability, track id, score, distance of the wrist: "right 98% #3 0.95 0.62 m"."""
    p = hand.right_probability
    side = f"{'right' if p >= 0.5 else 'left'} {100 * max(p, 1 - p):.0f}%" if np.isfinite(p) else "side unknown"
    parts = [side] + ([f"#{hand.track_id}"] if hand.track_id else []) + [f"{hand.score:.2f}"]
    distance = float(np.linalg.norm(hand.joints_m[WRIST]))
    return " ".join(parts + ([f"{distance:.2f} m"] if np.isfinite(distance) else []))


def _draw_hand(image: np.ndarray, hand: Hand) -> None:
    size = float(np.nanmax(hand.box[2:] - hand.box[:2])) if np.isfinite(hand.box).any() else 0.0
    size = min(size, float(max(image.shape)))           # one joint far outside is no reason for dots without end
    thickness = int(np.clip(size / 70, 1, 8))
    radius = max(1.5, 0.016 * size)
    limit = 4.0 * max(image.shape)                      # cv2 draws nothing sensible far outside
    points = [tuple(np.round(p * 2**_SHIFT).astype(int).tolist()) if np.isfinite(p).all() and np.abs(p).max() < limit
              else None for p in hand.joints_px]
    for colour, extra in ((_OUTLINE, 2), (None, 0)):
        for parent, child in BONES:
            if points[parent] and points[child]:
                cv2.line(image, points[parent], points[child], colour or colour_of_joint(child), thickness + extra,
                         cv2.LINE_AA, _SHIFT)
    for joint, point in enumerate(points):
        if point is None:
            continue
        r = round(radius * 2**_SHIFT)
        cv2.circle(image, point, r + (1 << _SHIFT), _OUTLINE, -1, cv2.LINE_AA, _SHIFT)
        if hand.state[joint] == JointState.VISIBLE:
            cv2.circle(image, point, r, colour_of_joint(joint), -1, cv2.LINE_AA, _SHIFT)
        else:
            cv2.circle(image, point, r, colour_of_joint(joint), max(1, thickness // 2), cv2.LINE_AA, _SHIFT)


def _draw_label(image: np.ndarray, hand: Hand, taken: list[tuple[int, int, int, int]]) -> None:
    """The caption above the box, below those that are there already; ``taken``: their x0, y0, x1, y1, this one's then
    added. In a picture that is narrow for it, it is smaller."""
    if not np.isfinite(hand.box).all():
        return
    text = caption(hand)
    scale = float(np.clip(image.shape[0] / 900, 0.4, 1.5))
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    scale *= min(1.0, max(image.shape[1] - 8, 1) / width)
    thickness = max(1, round(scale * 1.6))
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    x = int(np.clip(hand.box[0], 2, max(2, image.shape[1] - width - 2)))
    y = int(np.clip(hand.box[1] - 0.06 * (hand.box[3] - hand.box[1]) - base, height + 2, image.shape[0] - base - 2))

    def fits(y: int) -> bool:
        inside = y - height - 2 >= 0 and y + base <= image.shape[0]
        return inside and not any(x0 < x + width + 2 and x - 2 < x1 and y0 < y + base and y - height - 2 < y1
                                  for x0, y0, x1, y1 in taken)
    beside = (place for _, y0, _, y1 in taken for place in (y1 + height + 3, y0 - base - 1))
    y = next((place for place in (y, *sorted(beside, key=lambda place: abs(place - y))) if fits(place)), y)
    taken.append((x - 2, y - height - 2, x + width + 2, y + base))
    cv2.rectangle(image, (x - 2, y - height - 2), (x + width + 2, y + base), _OUTLINE, -1)
    colour = RIGHT_COLOUR if hand.is_right else LEFT_COLOUR
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
