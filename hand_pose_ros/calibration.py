"""Measure the operator's hand length once: two seconds of a still, flat hand that faces the camera.

One camera cannot tell a small near hand from a large far one, so something must give the distance: a depth image, or a
known distance from the camera to the palm. Everything seen by one camera scales with the hand length that was assumed,
so the true length is the assumed one times the true distance over the seen one. A pure step, as all behaviour over
time.
"""
from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.lift import DEPTH_INSIDE_M
from hand_pose_ros.skeleton import ADULT_HAND_LENGTH_M, BONES, bone_lengths
from hand_pose_ros.types import Hand, ScaleSource

HOLD_S = 2.0
MIN_SAMPLES = 10
STRAIGHT = 0.93
"""Wrist-side knuckle to tip over the bones between, for each of the four fingers, from which a hand is flat."""
FACING = math.cos(math.radians(40.0))
"""Cosine of the largest angle between the palm's normal and the viewing ray."""
STILL = 0.08
"""Largest movement, in hand lengths, during the pose."""
DEPTH_GAP_S = 0.3
"""Images without depth that are passed over, as where depth comes with every second one."""
LONGEST_GAP_S = 1.0
"""Images further apart than this do not show that the hand was held still."""
NO_DEPTH = "no depth on the hand: give a depth image, or the distance from the camera to the palm"
LONGEST, SHORTEST = 0.30, 0.08
MAX_SPREAD = 0.05
"""Largest relative standard deviation of single images for a result to be given."""

_FILE_KIND = "hand_pose_ros hand calibration"


@dataclass(frozen=True)
class HandSize:
    """A measured hand."""

    hand_length_m: float                            # wrist to middle fingertip along the bones, skeleton.hand_length
    relative_sigma: float                           # one standard deviation over images, relative
    samples: int                                    # images it was measured in
    method: str                                     # depth | distance


@dataclass(frozen=True, eq=False)
class CalibrationState:
    """The pose so far: begins with the first good image, falls back to empty with the first bad one."""

    since_ns: int = 0
    last_ns: int = 0                                # stamp of the last image that counted
    lengths_m: tuple[float, ...] = ()
    place: np.ndarray | None = None                 # (2,) middle of the palm in the first image [px]


@dataclass(frozen=True)
class Progress:
    """What to tell the operator; ``result`` is set when done."""

    fraction: float
    message: str
    result: HandSize | None = None


def step(state: CalibrationState, hands: tuple[Hand, ...], stamp_ns: int, distance_m: float = float("nan")
         ) -> tuple[CalibrationState, Progress]:
    """One image further. hands: raw hands of this image; distance_m: known distance along z from the camera to the
    skin of palm or back, NaN to use the depth image. Stamps must be of images that follow each other; one that goes
    back starts anew.
    """
    if state.place is not None and stamp_ns == state.last_ns:
        return state, Progress(min((stamp_ns - state.since_ns) * 1e-9 / HOLD_S, 0.99), "the same image again")
    problem = _problem(state, hands, stamp_ns, distance_m)
    if problem == NO_DEPTH and state.place is not None and (stamp_ns - state.last_ns) * 1e-9 < DEPTH_GAP_S:
        return state, Progress(min((stamp_ns - state.since_ns) * 1e-9 / HOLD_S, 0.99), "hold still")
    if problem:
        return CalibrationState(), Progress(0.0, problem)
    hand = hands[0]
    length = hand.hand_length_m
    if math.isfinite(distance_m):
        inside_m = DEPTH_INSIDE_M * length / ADULT_HAND_LENGTH_M            # a tape ends at the skin
        length *= (distance_m + inside_m) / float(hand.joints_m[[0, 5, 9, 13, 17], 2].mean())
    if state.place is None:
        state = CalibrationState(stamp_ns, stamp_ns, (), hand.joints_px[[0, 5, 9, 13, 17]].mean(0))
    state = CalibrationState(state.since_ns, stamp_ns, (*state.lengths_m, length), state.place)
    held_s = (stamp_ns - state.since_ns) * 1e-9
    if held_s < HOLD_S or len(state.lengths_m) < MIN_SAMPLES:
        return state, Progress(min(held_s / HOLD_S, 0.99), "hold still")
    lengths = np.array(state.lengths_m)
    middle = float(np.median(lengths))
    spread = float(1.4826 * np.median(np.abs(lengths - middle))) / middle
    if spread > MAX_SPREAD:
        return CalibrationState(), Progress(
            0.0, f"the length scatters by {100 * spread:.0f} % between images: more light, or nearer to the camera")
    if not SHORTEST <= middle <= LONGEST:
        return CalibrationState(), Progress(
            0.0, f"a hand of {1000 * middle:.0f} mm is not plausible: check the distance or the registration of the "
            "depth image")
    method = "distance" if math.isfinite(distance_m) else "depth"
    return state, Progress(1.0, f"hand length {1000 * middle:.0f} mm", HandSize(middle, spread, len(lengths), method))


def save(path: str | Path, size: HandSize) -> None:
    """Write the file that the setting hand_calibration_file names. Raises ConfigError if it cannot be written."""
    try:
        Path(path).expanduser().write_text(json.dumps({"kind": _FILE_KIND, **asdict(size)}, indent=2) + "\n",
                                           encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the hand calibration '{path}': {error.strerror}; give a writable path"
                          ) from error


def load(path: str | Path) -> HandSize:
    """Read what ``save`` wrote. Raises ConfigError for a file that is missing, of another kind or not plausible."""
    remedy = "measure again with the calibration pose, or leave hand_calibration_file empty"
    try:
        values = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"hand_calibration_file '{path}': {error.strerror}; {remedy}") from error
    except ValueError as error:
        raise ConfigError(f"hand_calibration_file '{path}' is not JSON ({error}); {remedy}") from error
    if not isinstance(values, dict) or values.pop("kind", None) != _FILE_KIND:
        raise ConfigError(f"hand_calibration_file '{path}' is not a hand calibration; {remedy}")
    try:
        size = HandSize(float(values["hand_length_m"]), float(values["relative_sigma"]), int(values["samples"]),
                        str(values["method"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"hand_calibration_file '{path}' lacks a value or has a bad one ({error}); {remedy}"
                          ) from error
    if not SHORTEST <= size.hand_length_m <= LONGEST:
        raise ConfigError(f"hand_calibration_file '{path}' says the hand is {size.hand_length_m} m long, allowed are "
                          f"{SHORTEST} to {LONGEST}; {remedy}")
    return size


def _problem(state: CalibrationState, hands: tuple[Hand, ...], stamp_ns: int, distance_m: float) -> str:
    """Why this image does not count, as a sentence for the operator; empty if it does."""
    if len(hands) != 1:
        return "show one hand" if not hands else "show one hand only"
    hand = hands[0]
    if state.place is not None and stamp_ns < state.last_ns:
        return "the clock went back"
    if state.place is not None and stamp_ns - state.last_ns > LONGEST_GAP_S * 1e9:
        return "the images were interrupted: hold still"
    if not np.isfinite(hand.joints_m).all():
        return "no distance: the camera needs a calibration"
    if not math.isfinite(distance_m) and hand.scale_source != ScaleSource.DEPTH:
        return NO_DEPTH
    lengths = dict(zip((child for _, child in BONES), bone_lengths(hand.joints_m)))
    for first in (5, 9, 13, 17):
        chain = sum(lengths[first + k] for k in (1, 2, 3))
        if np.linalg.norm(hand.joints_m[first + 3] - hand.joints_m[first]) < STRAIGHT * chain:
            return "stretch all fingers"
    normal = np.cross(hand.joints_m[5] - hand.joints_m[0], hand.joints_m[17] - hand.joints_m[0])
    ray = hand.joints_m[9]
    if abs(normal @ ray) < FACING * np.linalg.norm(normal) * np.linalg.norm(ray):
        return "turn the palm or the back of the hand to the camera"
    place = hand.joints_px[[0, 5, 9, 13, 17]].mean(0)
    length_px = np.linalg.norm(np.diff(hand.joints_px[[0, 9, 10, 11, 12]], axis=0), axis=-1).sum()
    if state.place is not None and np.linalg.norm(place - state.place) > STILL * length_px:
        return "hold still"
    return ""
