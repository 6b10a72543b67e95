"""Where one camera stands relative to another, from a hand that both see moving: no board, no tape.

``pairs`` collects what both saw at the same time, ``solve`` finds the transform. Each pair of hands gives 21 points;
the least squares are those of fusion.py, in which the joints and each view's scale are eliminated (variable projection:
Golub and Pereyra, SIAM J. Numer. Anal. 1973), so that six numbers are left: a rotation and a translation. Cameras that
see a hand of assumed size know the distance between them as well as that size: calibrate the hand first (`hand-pose
calibrate`), or measure that distance.
"""
from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hand_pose_ros import fusion
from hand_pose_ros.errors import ConfigError, DataError
from hand_pose_ros.frames import quaternion, rotation_from_vector, rotation_of_quaternion
from hand_pose_ros.types import Hand, JointState

MIN_PAIRS = 20
MOST_PAIRS = 50
"""More add time, not truth: neighbouring images have the same errors."""
MIN_SPREAD_M = 0.08
"""The hand must have moved through a region whose second largest extent (standard deviation times two) is this."""
MOST_APART_M = 0.025
"""Under a transform that leaves the joints further apart than this the cameras do not see one hand."""
MAX_SKEW_NS = 50_000_000
STEPS, STEP = 25, 1e-5
CONVERGED = 1e-4
"""Radians and metres: a tenth of a millimetre at arm's length."""
OUTLIER = 4.0
"""Pairs whose joints disagree by more than this many times the median are left out."""


@dataclass(frozen=True, eq=False)
class Extrinsics:
    """From the second camera to the first one."""

    R: np.ndarray                                   # (3, 3)
    t: np.ndarray                                   # (3,) m
    disagreement_m: float                           # median distance of the views' joints from the common ones
    pairs: int                                      # that were used
    left_out: int                                   # that were not, since they disagree with the others


_FILE_KIND = "hand_pose_ros camera extrinsics"

Observation = tuple[int, Sequence[Hand]]
"""Stamp [ns] of an image and the hands of one camera in it."""


def pairs(first: Iterable[Observation], second: Iterable[Observation]) -> list[tuple[Hand, Hand]]:
    """Hands that both cameras saw, the second camera's moved to the time of the first one's image.

    Both in the order of their stamps. Only where there is no doubt which hand is which: one left or one right hand in
    each. Joints that were carried on from earlier images count as unknown.
    """
    second, out = list(second), []
    stamps = np.array([stamp for stamp, _ in second], np.int64)
    for stamp, hands in first:
        if not len(stamps):
            break
        k = int(np.argmin(np.abs(stamps - stamp)))
        if abs(stamps[k] - stamp) > MAX_SKEW_NS:
            continue
        seen = fusion.Seen(*second[k], *(second[k - 1] if k else (None, ())))
        for side in (False, True):
            ours = [hand for hand in hands if hand.is_right == side]
            theirs = [hand for hand in seen.hands if hand.is_right == side]
            if len(ours) == len(theirs) == 1 and _whole(ours[0]) and _whole(theirs[0]):
                out.append((ours[0], fusion.carried(seen, theirs[0], stamp)))
    return out


def solve(found: Sequence[tuple[Hand, Hand]]) -> Extrinsics:
    """The transform under which the pairs agree best.

    Raises DataError, with what to do, if there are too few pairs, the hand hardly moved, or the cameras do not see the
    same hand.
    """
    if len(found) < MIN_PAIRS:
        raise DataError(f"both cameras saw the hand in {len(found)} images at the same time; {MIN_PAIRS} are needed: "
                        "move one hand slowly where both see it, and let their clocks agree within "
                        f"{MAX_SKEW_NS / 1e6:.0f} ms")
    chosen = [found[k] for k in np.unique(np.linspace(0, len(found) - 1, MOST_PAIRS).round().astype(int))]
    extent = spread_m(chosen)
    if not extent > MIN_SPREAD_M:
        raise DataError(f"the hand moved through {100 * extent:.0f} cm only across its way; {100 * MIN_SPREAD_M:.0f} "
                        "cm are needed: move it left and right, up and down, near and far")
    R, t = _aligned(chosen)
    R, t = _refined(chosen, R, t)
    apart = np.array([_combined(pair, R, t).disagreement_m for pair in chosen])
    kept = [pair for pair, off in zip(chosen, apart) if off <= OUTLIER * np.median(apart)]
    if len(kept) < len(chosen):
        R, t = _refined(kept, R, t)
    apart = np.array([_combined(pair, R, t).disagreement_m for pair in kept])
    if not np.median(apart) < MOST_APART_M:
        raise DataError(f"under the best transform the joints are still {1e3 * np.median(apart):.0f} mm apart: do both "
                        "cameras see the same hand, do their clocks agree, are their calibrations right?")
    return Extrinsics(R, t, float(np.median(apart)), len(kept), len(chosen) - len(kept))


def spread_m(found: Sequence[tuple[Hand, Hand]]) -> float:
    """How far [m] the hand moved across its main way, see MIN_SPREAD_M; 0 for fewer than three pairs."""
    if len(found) < 3:
        return 0.0
    wrists = np.array([a.joints_m[0] for a, _ in found])
    return float(2.0 * np.sqrt(max(np.linalg.eigvalsh(np.cov(wrists.T))[1], 0.0)))


def save(path: str | Path, first_frame: str, second_frame: str, found: Extrinsics) -> None:
    """Write the transform; other cameras of the same first one that the file holds already stay in it.

    Raises ConfigError as ``check`` does, or if the file cannot be written.
    """
    path = Path(path).expanduser()
    check(path, first_frame)
    entry = {"translation_m": np.round(found.t, 6).tolist(), "rotation_xyzw": np.round(quaternion(found.R), 8).tolist(),
             "disagreement_mm": round(1e3 * found.disagreement_m, 1), "pairs": found.pairs}
    before = json.loads(path.read_text())["cameras"] if path.exists() else {}
    content = {"kind": _FILE_KIND, "frame": first_frame, "cameras": {**before, second_frame: entry}}
    try:
        path.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def check(path: str | Path, first_frame: str | None = None) -> None:
    """Raises ConfigError if there is a file already and it holds something else than cameras, or cameras relative to
    another one than ``first_frame`` (None: not known yet): to be asked before the work, since ``save`` refuses both."""
    path = Path(path).expanduser()
    known = load(path) if path.exists() else {}
    others = {first for first, _ in known} - {first_frame}
    if others and first_frame is not None:
        raise ConfigError(f"{path} holds cameras relative to {others.pop()}, not to {first_frame}; give another file")


def load(path: str | Path) -> dict[tuple[str, str], fusion.Pose]:
    """{(frame of the first camera, of another one): R and t from that one to the first}.

    Raises ConfigError, with the remedy, if the file is missing or no such file.
    """
    path = Path(path).expanduser()
    try:
        content = json.loads(path.read_text())
        if content["kind"] != _FILE_KIND:
            raise ValueError(f"its kind is {content['kind']!r}")
        out = {(content["frame"], name): (rotation_of_quaternion(np.array(entry["rotation_xyzw"], float)),
                                          np.array(entry["translation_m"], float).reshape(3))
               for name, entry in content["cameras"].items()}
        if not all(np.isfinite(R).all() and np.isfinite(t).all() for R, t in out.values()):
            raise ValueError("a transform in it is not finite")
        return out
    except OSError as error:
        raise ConfigError(f"camera extrinsics {path}: {error.strerror}; make the file with hand-pose calibrate-cameras"
                          ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"camera extrinsics {path} cannot be used ({type(error).__name__}: {error}); make the file "
                          "anew with hand-pose calibrate-cameras") from error


def _whole(hand: Hand) -> bool:
    """All joints are known, and none only from earlier images."""
    return bool(np.isfinite(hand.joints_m).all() and np.isfinite(hand.sigma_ray_m).all()
                and (hand.state != JointState.EXTRAPOLATED).all())


def _aligned(chosen: Sequence[tuple[Hand, Hand]]) -> fusion.Pose:
    """R and t that bring the second camera's points to the first one's (Kabsch, Acta Cryst. 1976)."""
    a, b = (np.concatenate([pair[k].joints_m for pair in chosen]) for k in (0, 1))
    U, _, V = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    R = V.T @ np.diag([1.0, 1.0, np.sign(np.linalg.det(V.T @ U.T))]) @ U.T
    return R, a.mean(0) - R @ b.mean(0)


def _combined(pair: tuple[Hand, Hand], R: np.ndarray, t: np.ndarray) -> fusion.Combination:
    return fusion.combine([fusion.View(pair[0], np.eye(3), np.zeros(3)), fusion.View(pair[1], R, t)])


def _residuals(chosen: Sequence[tuple[Hand, Hand]], R: np.ndarray, t: np.ndarray) -> np.ndarray:
    out = []
    for pair in chosen:
        together = _combined(pair, R, t)
        out += [together.whitened.ravel(), together.log_scale_whitened]
    return np.concatenate(out)


def _refined(chosen: Sequence[tuple[Hand, Hand]], R: np.ndarray, t: np.ndarray) -> fusion.Pose:
    """Levenberg-Marquardt over a small rotation and translation, with differences for the Jacobian."""
    residual, damping = _residuals(chosen, R, t), 1e-3
    for _ in range(STEPS):
        J = np.empty((len(residual), 6))
        for k in range(6):
            step = np.zeros(6)
            step[k] = STEP
            J[:, k] = (_residuals(chosen, rotation_from_vector(step[:3]) @ R, t + step[3:]) - residual) / STEP
        normal = J.T @ J
        step = -np.linalg.solve(normal + damping * np.diag(np.diag(normal)), J.T @ residual)
        tried = rotation_from_vector(step[:3]) @ R, t + step[3:]
        after = _residuals(chosen, *tried)
        if after @ after < residual @ residual:
            (R, t), residual, damping = tried, after, damping / 3.0
            if np.abs(step).max() < CONVERGED:
                break
        else:
            damping *= 4.0
    return R, t
