"""Fingers that touch: contact points on the skin, solving a pose so that they meet, and telling when fingers cut.

The hand is stood in for by capsules: one round each finger bone and each metacarpal.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hand_pose_ros.skeleton import FINGERS
from hand_pose_ros.synthesis import rig


@dataclass(frozen=True)
class Spot:
    """A place on a finger's skin: a bone, how far along it and how far round it."""

    bone: str                                   # such as "index_dip"
    along: float = 0.62                         # 0 at its inner joint .. 1 at its outer end
    round_deg: float = 0.0                      # 0 palmar, 90 towards the thumb's side, 180 dorsal


_CAPSULES = tuple([(bone, *_ends) for bone, _ends in (
    *((f"thumb_{joint}", (1 + step, 2 + step)) for step, joint in enumerate(("cmc", "mcp", "ip"))),
    *((f"{finger}_{joint}", (5 + 4 * ray + step, 6 + 4 * ray + step)) for ray, finger in enumerate(FINGERS[1:])
      for step, joint in enumerate(("mcp", "pip", "dip"))),
    *((f"metacarpal_{finger}", (0, 5 + 4 * ray)) for ray, finger in enumerate(FINGERS[1:])))])
CAPSULE_BONES = tuple(name for name, *_ in _CAPSULES)
CAPSULE_ENDS = np.array([ends for _, *ends in _CAPSULES])
"""(19, 2) indices of the capsules' ends among Skeleton.pivots."""
_LAST = np.array([2, 5, 8, 11, 14])
RADIUS_SHARE = np.array([0.066, 0.050, 0.043, 0.046, 0.040, 0.036, 0.046, 0.041, 0.036, 0.043, 0.039, 0.034,
                         0.037, 0.032, 0.029, 0.060, 0.060, 0.060, 0.056])
"""(19,) capsule radii in hand lengths of the mean adult's mesh."""


FINGER_GIVE, PALM_GIVE = 0.12, 0.3
"""How much nearer two axes may come than their radii add up to: flesh gives, the palm more than the fingers."""


def capsule_radii(hand_length_m: float, thickness: np.ndarray) -> np.ndarray:
    """Radii (19,) in metres. thickness: (5,) relative finger thickness, thumb first."""
    factor = np.concatenate([np.repeat(thickness, 3), np.ones(4)])
    return RADIUS_SHARE * hand_length_m * factor


@lru_cache(maxsize=1)
def _pairs() -> np.ndarray:
    """(P, 2) capsules that may meet: of different fingers, and finger ends against the palm."""
    owner = [name.split("_")[0] for name in CAPSULE_BONES]
    pairs = []
    for i, one in enumerate(CAPSULE_BONES):
        for j in range(i + 1, len(CAPSULE_BONES)):
            two = CAPSULE_BONES[j]
            palm = (owner[i] == "metacarpal") + (owner[j] == "metacarpal")
            if palm == 2 or (palm == 0 and owner[i] == owner[j]):
                continue
            if palm == 1 and (one.endswith(("_cmc", "_mcp")) and not one.startswith("thumb_mcp")):
                continue
            if palm == 0 and one.endswith("_cmc") and two.endswith("_mcp"):
                continue
            if palm == 0 and one.endswith("_mcp") and two.endswith("_mcp") and owner[i] != "thumb":
                continue
            pairs.append((i, j))
    return np.array(pairs)


def overlap(pivots: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """How deep the hand cuts into itself beyond what its flesh gives. pivots: (..., 21, 3) metres; radii: (19,).

    Returns (...) metres, 0 if it does not.
    """
    return np.maximum(_cuts(pivots, radii).max(axis=-1), 0.0)


def _cuts(pivots: np.ndarray, radii: np.ndarray, pairs: np.ndarray | None = None) -> np.ndarray:
    """Overlap of pairs of capsules less the give of the flesh, (..., P) metres, negative where apart.

    pairs: (P, 2), all that may meet if not given.
    """
    pairs = _pairs() if pairs is None else pairs
    ends = np.ascontiguousarray(np.moveaxis(capsules(pivots, radii), (-1, -2), (0, 1)))      # (3, 2, ..., 19)
    one, two = ends[..., pairs[:, 0]], ends[..., pairs[:, 1]]
    reach = radii[pairs[:, 0]] + radii[pairs[:, 1]]
    give = np.where(pairs[:, 1] >= 15, PALM_GIVE, FINGER_GIVE) * reach
    return reach - give - _segment_distance(one[:, 0], one[:, 1], two[:, 0], two[:, 1])


def capsules(pivots: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Ends of the capsules' axes (..., 19, 2, 3) metres; the last one of a finger ends a radius before the tip."""
    ends = pivots[..., CAPSULE_ENDS, :]
    along = ends[..., _LAST, 1, :] - ends[..., _LAST, 0, :]
    length = np.linalg.norm(along, axis=-1, keepdims=True)
    ends[..., _LAST, 1, :] -= along * (radii[_LAST][:, None] / length)
    return ends


def segment_distance(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Shortest distance of the segments a-b and c-d, all (..., 3) (Ericson, Real-Time Collision Detection, 5.1.9)."""
    return _segment_distance(*(np.moveaxis(p, -1, 0) for p in (a, b, c, d)))


def _segment_distance(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """``segment_distance`` of ends (3, ...): sums over a short last axis would cost most of the time."""
    u, v, w = b - a, d - c, a - c
    uu, uv, vv, uw, vw = _dot(u, u), _dot(u, v), _dot(v, v), _dot(u, w), _dot(v, w)
    denominator = uu * vv - uv * uv
    s = np.where(denominator > 1e-12, (uv * vw - vv * uw) / np.maximum(denominator, 1e-12), 0.5)
    s = np.minimum(np.maximum(s, 0.0), 1.0)
    t = np.minimum(np.maximum((uv * s + vw) / np.maximum(vv, 1e-12), 0.0), 1.0)
    s = np.minimum(np.maximum((uv * t - uw) / np.maximum(uu, 1e-12), 0.0), 1.0)
    gap = w + s * u - t * v
    return np.sqrt(_dot(gap, gap))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def spot_points(skeleton: rig.Skeleton, motions: np.ndarray, spot: Spot):
    """The point on the bone's axis below a spot, and the skin's outward normal at the spot.

    motions: (..., 23, 3, 4). Returns (..., 3) metres in the hand frame and (..., 3) unit vectors.
    """
    return _carried(motions, *_rest_spot(skeleton, spot))


def _rest_spot(skeleton: rig.Skeleton, spot: Spot) -> tuple[int, np.ndarray, np.ndarray]:
    """Bone, point and normal of ``spot_points`` in the rest pose."""
    capsule = CAPSULE_BONES.index(spot.bone)
    start, end = skeleton.pivots[CAPSULE_ENDS[capsule]]
    finger = FINGERS.index(spot.bone.split("_")[0])
    along = (end - start) / np.linalg.norm(end - start)
    dorsal = rig.cross(skeleton.axes[finger], along)
    dorsal /= np.linalg.norm(dorsal)
    angle = np.radians(spot.round_deg)
    normal = -np.cos(angle) * dorsal + np.sin(angle) * rig.cross(dorsal, along)
    return rig.BONE[spot.bone], start + spot.along * (end - start), normal


def _carried(motions: np.ndarray, bone: int, point: np.ndarray, normal: np.ndarray):
    carrier = motions[..., bone, :, :]
    return carrier[..., :3] @ point + carrier[..., 3], carrier[..., :3] @ normal


def touching_distance(radii: np.ndarray, one: Spot, two: Spot) -> float:
    """Metres between the axes below two spots whose skins touch and give a little."""
    return (1.0 - FINGER_GIVE) * float(radii[CAPSULE_BONES.index(one.bone)] + radii[CAPSULE_BONES.index(two.bone)])


def solve(skeleton: rig.Skeleton, radii: np.ndarray, pose: np.ndarray, contacts, dofs, lower: np.ndarray,
          upper: np.ndarray, steps: int = 7, stay: float = 0.003, facing: float = 0.25) -> np.ndarray:
    """Bend ``dofs`` as little as needed so that pairs of spots touch face to face and nothing cuts.

    Damped Gauss-Newton within the limits. pose: (25,). contacts: ((Spot, Spot), ...), may be empty.
    dofs: indices that may change. lower, upper: (25,) limits. stay: metres of missed contact that weigh as much as
    one radian away from ``pose``. facing: weight of skin normals that do not oppose each other, in radii.
    Returns (25,).
    """
    start, pose, dofs = pose, pose.copy(), np.asarray(dofs)
    probe = np.zeros((len(dofs) + 1, len(pose)))
    probe[np.arange(len(dofs)) + 1, dofs] = 1e-4
    meeting = [(*(_rest_spot(skeleton, spot) for spot in pair), touching_distance(radii, *pair)) for pair in contacts]
    for _ in range(steps):
        motions = rig.motions(skeleton, pose + probe)
        pivots = rig.posed_pivots(skeleton, motions)
        near = _pairs()[_cuts(pivots[0], radii) > -0.0005]
        terms = [np.maximum(_cuts(pivots, radii, near), 0.0)]
        for one, two, reach in meeting:
            (here, out), (there, back) = _carried(motions, *one), _carried(motions, *two)
            apart = np.linalg.norm(there - here, axis=-1, keepdims=True)
            towards = (there - here) / apart
            terms += [apart - reach, facing * reach / 2 * (out - towards), facing * reach / 2 * (back + towards)]
        gaps = np.concatenate(terms, axis=-1)                               # (1 + D, residuals)
        if not contacts and gaps.shape[1] == 0:
            break
        slope = (gaps[1:] - gaps[0]) / 1e-4
        system = slope @ slope.T + stay**2 * np.eye(len(dofs))
        step = np.linalg.solve(system, -slope @ gaps[0] - stay**2 * (pose - start)[dofs])
        moved = np.clip(pose[dofs] + np.clip(step, -0.35, 0.35), lower[dofs], upper[dofs])
        still = np.abs(moved - pose[dofs]).max() < 2e-3                     # a tenth of a degree
        pose[dofs] = moved
        if still:
            break
    return pose
