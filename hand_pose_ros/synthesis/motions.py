"""Hands that move: smooth sequences for video, bags and tests of tracking, exact at every instant.

    motion = motions.make("pinch", rng)
    for hand in motion.at(1.25):                # seconds
        hand.is_right, hand.pose, hand.R_camera_hand, hand.t_camera_hand

Point-to-point movements follow the minimum-jerk profile of human reaching (Flash & Hogan, J. Neurosci. 5(7), 1985,
eq. 10); on top lies a physiological tremor of a few tenths of a millimetre. A motion depends on its generator only.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.synthesis import poses, rig, touch

TREMOR_M, TREMOR_RAD = 0.0004, 0.004
"""Root mean square of the tremor in position and in joint angles; 8 to 12 Hz in healthy adults
(Elble & Koller, Tremor, 1990)."""

CLEAR_M = 0.008
"""Least distance of the skins of two adult hands: owners with larger hands must not cut either."""
ATTEMPTS = 40


@dataclass(frozen=True, eq=False)
class MovingHand:
    """One hand at one instant. Its points in the camera's optical frame are R_camera_hand x + t_camera_hand.

    x is in the hand frame of that side: hand_model.mirror of the right hand for a left one.
    """

    is_right: bool
    pose: np.ndarray                            # (25,) rig.DOFS
    R_camera_hand: np.ndarray                   # (3, 3) proper rotation
    t_camera_hand: np.ndarray                   # (3,) metres, the wrist


@dataclass(frozen=True, eq=False)
class Track:
    """The key poses of one hand; the hand stands still before the first and after the last."""

    is_right: bool
    times_s: np.ndarray                         # (K,) rising
    poses: np.ndarray                           # (K, 25)
    rotations: np.ndarray                       # (K, 3, 3)
    places: np.ndarray                          # (K, 3) metres
    tremor: np.ndarray                          # (3, 28) frequency [Hz], phase and strength of 3 + 25 small waves


@dataclass(frozen=True, eq=False)
class Motion:
    """A named sequence of one or two hands."""

    name: str
    duration_s: float
    tracks: tuple[Track, ...]

    def at(self, time_s: float) -> tuple[MovingHand, ...]:
        """All hands at a time in seconds."""
        return tuple(_at(track, time_s) for track in self.tracks)


def facing(fingers: np.ndarray, palm: np.ndarray) -> np.ndarray:
    """R_camera_hand (3, 3) of a hand whose fingers point along ``fingers`` and whose palm looks along ``palm``.

    Both (3,) in the camera's optical frame (x right, y down, z forward); palm is made square to fingers.
    """
    y = np.asarray(fingers, dtype=float) / np.linalg.norm(fingers)
    z = -np.asarray(palm, dtype=float)
    z = z - y * (z @ y)
    z /= np.linalg.norm(z)
    return np.stack([np.cross(y, z), y, z], axis=1)


def minimum_jerk(share: np.ndarray) -> np.ndarray:
    """Share of the way (...) covered at a share (...) of the time, both 0..1, at rest at both ends."""
    share = np.clip(share, 0.0, 1.0)
    return share**3 * (10.0 - 15.0 * share + 6.0 * share**2)


def make(name: str, rng: np.random.Generator, is_right: bool | None = None) -> Motion:
    """A motion by its name in ``MOTIONS``, drawn again (at most ATTEMPTS times) where its hands come nearer to
    each other than CLEAR_M. is_right: the (first) hand's side, drawn if None. Raises ConfigError for another name."""
    if name not in MOTIONS:
        raise ConfigError(f"unknown motion '{name}'; choose one of: {', '.join(MOTIONS)}")
    side = bool(rng.random() < 0.6) if is_right is None else is_right
    for _ in range(ATTEMPTS):
        tracks = tuple(MOTIONS[name](rng, side))
        motion = Motion(name, float(max(track.times_s[-1] for track in tracks)), tracks)
        if clearance(motion) >= CLEAR_M:
            break
    return motion


def clearance(motion: Motion, step_s: float = 0.1) -> float:
    """Least distance in metres of two hands of a motion, as capsules of the mean adult; infinite for a single one."""
    if len(motion.tracks) < 2:
        return np.inf
    skeleton, radii, _ = poses.body(None)
    least = np.inf
    for time in np.arange(0.0, motion.duration_s + step_s, step_s):
        one, two = (touch.capsules(_pivots(hand, skeleton), radii) for hand in motion.at(time))
        apart = touch.segment_distance(one[:, None, 0], one[:, None, 1], two[None, :, 0], two[None, :, 1])
        least = min(least, float((apart - radii[:, None] - radii).min()))
    return least


def _pivots(hand: MovingHand, skeleton: rig.Skeleton) -> np.ndarray:
    """Where a moving hand's bones turn (21, 3), in the camera's frame."""
    pivots = rig.posed_pivots(skeleton, rig.motions(skeleton, hand.pose))
    return pivots * [1.0 if hand.is_right else -1.0, 1.0, 1.0] @ hand.R_camera_hand.T + hand.t_camera_hand


def _at(track: Track, time_s: float) -> MovingHand:
    times = track.times_s
    time = float(np.clip(time_s, times[0], times[-1]))
    key = int(np.clip(np.searchsorted(times, time, side="right") - 1, 0, len(times) - 2))
    share = minimum_jerk((time - times[key]) / (times[key + 1] - times[key]))
    wave = track.tremor[2] * np.sin(2 * np.pi * track.tremor[0] * time_s + track.tremor[1])
    pose = (1.0 - share) * track.poses[key] + share * track.poses[key + 1]
    place = (1.0 - share) * track.places[key] + share * track.places[key + 1]
    rotation = track.rotations[key] @ _power(track.rotations[key].T @ track.rotations[key + 1], share)
    return MovingHand(track.is_right, poses.within_limits(pose + wave[3:]), rotation, place + wave[:3])


def _power(rotation: np.ndarray, share: float) -> np.ndarray:
    """A share of a rotation about its own axis."""
    import cv2

    return cv2.Rodrigues(cv2.Rodrigues(rotation)[0] * share)[0]


def _track(rng: np.random.Generator, is_right: bool, keys) -> Track:
    """keys: (time_s, pose, R, place) with everything as of a right hand; mirrored across the image for a left one."""
    times = np.array([key[0] for key in keys], dtype=float)
    rotations = np.stack([key[2] for key in keys])
    places = np.array([key[3] for key in keys], dtype=float)
    if not is_right:
        flip = np.diag([-1.0, 1.0, 1.0])
        rotations, places = flip @ rotations @ flip, places @ flip
    strength = np.concatenate([np.full(3, TREMOR_M), np.full(rig.NUM_DOFS, TREMOR_RAD)]) * np.sqrt(2.0)
    strength[3 + rig.DOF["arch"]] = 0.0
    tremor = np.stack([rng.uniform(8.0, 12.0, 28), rng.uniform(0.0, 2 * np.pi, 28), strength])
    return Track(is_right, times, np.stack([key[1] for key in keys]), rotations, places, tremor)


def _start(rng: np.random.Generator, near: float = 0.45, far: float = 0.8):
    """A place before the camera and how the hand is turned there: fingers mostly up, palm or back to the camera."""
    depth = rng.uniform(near, far)
    place = np.array([rng.uniform(-0.12, 0.12) * depth, rng.uniform(0.02, 0.18) * depth, depth])
    palm = np.array([rng.normal(-0.2, 0.3), rng.normal(0.0, 0.2), -1.0 if rng.random() < 0.7 else 1.0])
    return place, facing([rng.normal(0.0, 0.25), -1.0, rng.normal(0.0, 0.25)], palm)


def _reach(rng, is_right):
    place, turn = _start(rng, 0.6, 0.9)
    goal = place + np.array([rng.uniform(-0.15, 0.15), rng.uniform(-0.1, 0.05), -rng.uniform(0.12, 0.25)])
    forward = facing([rng.normal(0.0, 0.2), -0.5, -0.8], [rng.normal(-0.5, 0.2), 0.3, -0.5])
    away, wide, shut = poses.anchor("relaxed"), poses.anchor("power_wide"), poses.anchor("power_medium")
    yield _track(rng, is_right, [(0.0, away, turn, place), (0.4, away, turn, place), (1.2, wide, forward, goal),
                                 (1.7, shut, forward, goal), (2.6, shut, turn, place), (3.2, away, turn, place)])


def _pinch(rng, is_right):
    place, turn = _start(rng)
    opened, closed = poses.anchor("pinch_open"), poses.solved("pinch")
    keys, time = [(0.0, opened, turn, place)], 0.3
    for _ in range(4):
        place = place + rng.normal(0.0, 0.012, 3)
        keys += [(time, opened, turn, place), (time + rng.uniform(0.35, 0.6), closed, turn, place)]
        time = keys[-1][0] + rng.uniform(0.2, 0.4)
        keys.append((time, closed, turn, place))
        time += rng.uniform(0.35, 0.6)
    yield _track(rng, is_right, [*keys, (time, opened, turn, place)])


def _wave(rng, is_right):
    place, _ = _start(rng)
    opened = poses.anchor("five" if rng.random() < 0.5 else "open_flat")
    keys = []
    for step in range(9):
        lean = 0.45 * (-1.0) ** step * (0.3 if step in (0, 8) else 1.0)
        keys.append((0.35 * step, opened, facing([lean, -1.0, 0.0], [0.0, 0.0, -1.0]),
                     place + np.array([0.05 * lean, 0.0, 0.0])))
    yield _track(rng, is_right, keys)


def _rotate(rng, is_right):
    place, _ = _start(rng)
    held = poses.anchor(rng.choice(["open_flat", "relaxed", "point", "pinch_open"]))
    up = np.array([rng.normal(0.0, 0.15), -1.0, rng.normal(0.0, 0.15)])
    keys = []
    for step, angle in enumerate((0.0, 60.0, 120.0, 180.0, 120.0, 60.0, 0.0)):
        angle = np.radians(angle)
        keys.append((0.55 * step, held, facing(up, [np.sin(angle), 0.0, -np.cos(angle)]), place))
    yield _track(rng, is_right, keys)


def _grasp(rng, is_right):
    place, turn = _start(rng)
    names = ("five", "power_wide", "power_medium", "power_tight", "power_medium", "power_wide", "five")
    yield _track(rng, is_right, [(0.45 * step, poses.solved(name), turn, place + rng.normal(0.0, 0.006, 3))
                                 for step, name in enumerate(names)])


def _count(rng, is_right):
    place, turn = _start(rng)
    keys = []
    for step, name in enumerate(("fist", "point", "victory", "three_w", "four", "five", "fist")):
        held = poses.solved(name)
        keys += [(0.8 * step, held, turn, place), (0.8 * step + 0.45, held, turn, place)]
    yield _track(rng, is_right, keys)


def _cross(rng, is_right):
    """Two hands pass each other, the first one nearer to the camera, and come back."""
    depth = rng.uniform(0.55, 0.8)
    height = rng.uniform(0.0, 0.08)
    for order, side in enumerate((is_right, not is_right)):
        away = np.array([0.17, height + rng.normal(0.0, 0.01), depth + 0.09 * order])
        over = away * np.array([-0.75, 1.0, 1.0])
        held = poses.anchor(rng.choice(["open_flat", "relaxed", "half_closed", "five"]))
        later = poses.anchor(rng.choice(["open_flat", "relaxed", "pinch_open"]))
        turn = facing([-0.15, -1.0, 0.0], [-0.1, 0.0, -1.0 if order == 0 or rng.random() < 0.5 else 1.0])
        lean = facing([0.35, -1.0, 0.0], [0.1, 0.0, -1.0])
        yield _track(rng, side, [(0.0, held, turn, away), (0.4, held, turn, away), (1.7, later, lean, over),
                                 (2.2, later, lean, over), (3.5, held, turn, away)])


def _handover(rng, is_right):
    """Two hands meet in the middle and part: both in view, close to each other, without crossing."""
    depth = rng.uniform(0.5, 0.75)
    for order, side in enumerate((is_right, not is_right)):
        out, near = np.array([0.25, 0.08, depth]), np.array([0.15, 0.02, depth + 0.03 * order])
        turn, inward = facing([0.0, -1.0, 0.0], [-0.5, 0.0, -0.8]), facing([-0.9, -0.5, 0.0], [-0.3, 0.2, -0.8])
        opened, shut = poses.anchor("pinch_wide"), poses.solved("pinch" if order == 0 else "tripod")
        first, last = (shut, opened) if order == 0 else (opened, shut)
        yield _track(rng, side, [(0.0, first, turn, out), (0.9, first, inward, near), (1.4, last, inward, near),
                                 (2.4, last, turn, out)])


def _steer(rng, is_right):
    """Teleoperation: a fist, the open hand held still (clutch), then thumb and index pinch while the other three
    fingers stay straight and the hand moves a little; a fist ends it."""
    turn = facing([0.05, -1.0, 0.1], [-0.35, 0.0, -1.0])
    place = np.array([0.0, 0.06, 0.5])
    fist, opened, closed = poses.solved("fist"), poses.anchor("open_flat"), poses.solved("middle_ring_little")
    keys = [(0.0, fist, turn, place), (0.7, fist, turn, place), (1.1, opened, turn, place), (2.3, opened, turn, place)]
    time = 2.3
    for _ in range(3):
        place = place + np.array([*rng.uniform(-0.025, 0.025, 2), rng.uniform(-0.015, 0.015)])
        keys += [(time + after, pose, turn, place) for after, pose in ((0.6, closed), (0.9, closed), (1.5, opened))]
        time += 1.7
        keys.append((time, opened, turn, place))
    yield _track(rng, is_right, [*keys, (time + 0.5, fist, turn, place), (time + 1.0, fist, turn, place)])


MOTIONS = {"reach": _reach, "pinch": _pinch, "wave": _wave, "rotate": _rotate, "grasp": _grasp, "count": _count,
           "cross": _cross, "handover": _handover, "steer": _steer}
