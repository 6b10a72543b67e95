"""The hand's skeleton: degrees of freedom, bones and forward kinematics, the same for every mesh.

Hand frame (right hand): origin at the wrist, y towards the middle knuckle, z out of the back of the hand, x towards the
little finger. The palm does not move in it; the forearm does. Angles are anatomical and zero in the flat hand:
flexion bends towards the palm, abduction turns a finger towards the thumb's side (radially), twist turns a bone about
its own length. The thumb's angles are counted from its rest beside the palm.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hand_pose_ros.skeleton import FINGERS, KNUCKLES, joint_centres
from hand_pose_ros.synthesis.skinning import about, compose, rotation_about

DOFS = (
    "wrist_flexion", "wrist_deviation", "forearm_twist", "arch",
    "thumb_cmc_flexion", "thumb_cmc_abduction", "thumb_cmc_twist", "thumb_mcp_flexion", "thumb_ip_flexion",
    *(f"{finger}_{joint}" for finger in FINGERS[1:]
      for joint in ("mcp_flexion", "mcp_abduction", "pip_flexion", "dip_flexion")),
)
"""25 degrees of freedom: radians, except ``arch`` (0 flat palm .. 1 fully cupped). Wrist deviation is positive
towards the thumb's side; forearm twist is positive when the palm turns down (pronation)."""
NUM_DOFS = len(DOFS)
DOF = {name: index for index, name in enumerate(DOFS)}

BONES = (
    "palm", "forearm", "forearm_upper", "upper_arm",
    "metacarpal_index", "metacarpal_middle", "metacarpal_ring", "metacarpal_little",
    "thumb_cmc", "thumb_mcp", "thumb_ip",
    *(f"{finger}_{joint}" for finger in FINGERS[1:] for joint in ("mcp", "pip", "dip")),
)
BONE = {name: index for index, name in enumerate(BONES)}
NUM_BONES = len(BONES)
PARENT = {
    "palm": None, "forearm": "palm", "forearm_upper": "forearm", "upper_arm": "forearm_upper",
    **{f"metacarpal_{finger}": "palm" for finger in FINGERS[1:]},
    "thumb_cmc": "palm", "thumb_mcp": "thumb_cmc", "thumb_ip": "thumb_mcp",
    **{f"{finger}_mcp": f"metacarpal_{finger}" for finger in FINGERS[1:]},
    **{f"{finger}_pip": f"{finger}_mcp" for finger in FINGERS[1:]},
    **{f"{finger}_dip": f"{finger}_pip" for finger in FINGERS[1:]},
}
JOINT_BONE = tuple(BONE[name] for name in (
    "palm", "palm", "thumb_cmc", "thumb_mcp", "thumb_ip",
    *(name for finger in FINGERS[1:] for name in (f"metacarpal_{finger}", f"{finger}_mcp", f"{finger}_pip",
                                                  f"{finger}_dip"))))
"""The bone that carries each of the 21 joints: the inner one of the two that it joins."""
BONE_PART = tuple(1 if name in ("forearm", "forearm_upper", "upper_arm") else
                  2 if name == "palm" or name.startswith("metacarpal") else
                  3 + FINGERS.index(name.split("_")[0]) for name in BONES)
"""Part id of each bone: 1 forearm, 2 palm, 3..7 thumb..little."""

ARCH_RAD = np.radians([11.0, 7.0, 20.0, 27.0])
"""Flexion of the metacarpals 2-5 in a fully cupped palm (El-shennawy et al., J. Hand Surg. 26A, 2001, rounded)."""
_FIRST = np.array([DOF[f"{finger}_mcp_flexion"] for finger in FINGERS[1:]])
_PROXIMAL = np.array([BONE[f"{finger}_mcp"] for finger in FINGERS[1:]])
_METACARPALS = np.array([BONE[f"metacarpal_{finger}"] for finger in FINGERS[1:]])
_KNUCKLES = np.array(KNUCKLES)
_THUMB = DOF["thumb_cmc_flexion"]
_HINGES = np.array([[DOF["thumb_mcp_flexion"], *(_FIRST + 2)], [DOF["thumb_ip_flexion"], *(_FIRST + 3)]])
_HINGE_JOINTS = np.array([[2, *(_KNUCKLES + 1)], [3, *(_KNUCKLES + 2)]])
"""(2, 5) hinges of thumb..little, the inner ones first: degrees of freedom and joints."""
_BASES = np.array([BONE["thumb_cmc"], *_PROXIMAL])
_IDENTITY = np.eye(3)
THUMB_METACARPAL = 46.22 / 31.57
"""Length of the thumb's metacarpal in that of its proximal phalanx (X-rays, Buryanov & Kotiuk 2010). It turns so far
from MANO's knuckle; MANO's saddle joint, as the labels have it, is nearer: 33 mm of a 186 mm hand instead of 46."""
METACARPAL_BASE = 0.28
"""Where a metacarpal hinges, as a share of the way from wrist to knuckle."""
FAN_RAD = np.radians([6.0, 0.0, -7.5, -15.5])
"""Radial abduction of the fingers 2-5 at angle zero against the hand's y axis: they fan out from the wrist."""
CONVERGENCE_RAD = np.radians([2.0, 11.0, 8.5, 4.5])
"""How far towards the little finger the plane in which finger 2-5 bends has turned once it is curled into the palm."""
OBLIQUE_RAD = np.radians([0.0, 0.0, 0.0, 3.0, 8.0])
"""How far the hinges of thumb..little's outer joints lean, so that what lies beyond them bends towards the thumb.

Curled fingers point at the tubercle of the scaphoid, at the root of the thumb, and not back along themselves: against
the middle one the index finger by 11, the ring finger by 9, the little finger by 19 degrees (Tan, Kinchelow &
Beredjiklian, J. Hand Surg. 33A, 2008). The shares of knuckle and outer joints are set so that both come near that."""


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Joints and hinge axes of one hand in its rest pose, in the hand frame."""

    joints: np.ndarray                          # (21, 3) metres
    elbow: np.ndarray                           # (3,) metres
    axes: np.ndarray                            # (5, 3) flexion axis of thumb..little at rest, unit length
    rest: np.ndarray                            # (25,) angles of the rest pose
    zero: np.ndarray                            # (4, 3, 3) frames of the proximal phalanges at zero flexion and spread
    thumb: np.ndarray                           # (3, 3) frame of the thumb's metacarpal at rest
    arch_axes: np.ndarray                       # (4, 3) axes about which the metacarpals lift

    @cached_property
    def pivots(self) -> np.ndarray:
        """(21, 3): the joints where bones turn: wrist, knuckles and the thumb's outer joints as they are published, its
        saddle joint set back to THUMB_METACARPAL. A hand that turned about MANO's knuckles would have too short
        phalanges in a fist."""
        return pivots(self.joints)

    @cached_property
    def metacarpal_bases(self) -> np.ndarray:
        """(4, 3): where the metacarpals of the fingers 2-5 hinge."""
        return metacarpal_bases(self.joints)

    @cached_property
    def from_rest(self) -> np.ndarray:
        """(4, 3, 3): takes the proximal phalanges from the rest pose to their zero frames."""
        return np.swapaxes(self.zero @ _knuckle_turn(self.rest), -1, -2)

    @cached_property
    def thumb_from_rest(self) -> np.ndarray:
        """(3, 3): the same of the thumb's metacarpal."""
        return _thumb_turn(self.rest[_THUMB:_THUMB + 3]).T @ self.thumb.T

    @cached_property
    def forearm_spin(self) -> tuple[np.ndarray, np.ndarray]:
        return _spin(self.elbow / np.linalg.norm(self.elbow))

    @cached_property
    def arch_spin(self) -> tuple[np.ndarray, np.ndarray]:
        return _spin(self.arch_axes)

    @cached_property
    def hinge_spin(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the outer joints' axes, which lean as OBLIQUE_RAD says."""
        along = self.pivots[_HINGE_JOINTS[0]] - self.pivots[_HINGE_JOINTS[0] - 1]
        dorsal = np.cross(self.axes, along)
        dorsal /= np.linalg.norm(dorsal, axis=1, keepdims=True)
        return _spin((axis_angle(dorsal, -OBLIQUE_RAD) @ self.axes[..., None])[..., 0])


def measure(joints: np.ndarray, elbow: np.ndarray, axes: np.ndarray, thumb_rest: np.ndarray) -> Skeleton:
    """A skeleton whose rest angles are measured from its joints, so that its rest pose reproduces the mesh exactly.

    joints: (21, 3) metres in the hand frame. elbow: (3,). axes: (5, 3) flexion axes at rest.
    thumb_rest: (5,) radians, the angles that the mesh's thumb is said to have at rest (its zero is a convention).
    """
    rest = np.zeros(NUM_DOFS)
    turning = pivots(joints)
    zeros = np.stack([_zero(ray, axes[ray + 1]) for ray in range(4)])
    rest[DOF["thumb_cmc_flexion"]:DOF["thumb_ip_flexion"] + 1] = thumb_rest
    for ray, finger in enumerate(FINGERS[1:]):
        chain = turning[5 + 4 * ray:9 + 4 * ray]
        frames = [_frame(end - start, axes[ray + 1]) for start, end in zip(chain[:-1], chain[1:])]
        relative = zeros[ray].T @ frames[0]
        rest[DOF[f"{finger}_mcp_abduction"]] = np.arctan2(relative[1, 0], relative[0, 0])
        rest[DOF[f"{finger}_mcp_flexion"]] = np.arctan2(-relative[2, 1], relative[2, 2])
        for joint, (inner, outer) in zip(("pip", "dip"), zip(frames[:-1], frames[1:])):
            relative = inner.T @ outer
            rest[DOF[f"{finger}_{joint}_flexion"]] = np.arctan2(-relative[2, 1], relative[2, 2])
    across = np.cross(joints[_KNUCKLES] - joints[0], [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return Skeleton(joints, elbow, axes, rest, zeros, _frame(joints[2] - joints[1], axes[0]), across)


def pivots(joints: np.ndarray) -> np.ndarray:
    """``Skeleton.pivots`` of joints (21, 3) at rest, as the labels have them."""
    out, centres = np.array(joints, dtype=float), joint_centres(joints)
    back, proximal = out[1] - out[2], np.linalg.norm(out[3] - out[2])
    out[1] = out[2] + THUMB_METACARPAL * proximal * back / np.linalg.norm(back)
    published = [0, 2, 3, *KNUCKLES]
    out[published] = centres[published]
    return out


def metacarpal_bases(joints: np.ndarray) -> np.ndarray:
    """Where the metacarpals of the fingers 2-5 hinge on the carpus; (4, 3) metres. joints: (21, 3) as labelled."""
    return joints[0] + METACARPAL_BASE * (pivots(joints)[_KNUCKLES] - joints[0])


def _frame(along: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Columns x (hinge), y (along the bone), z (dorsal)."""
    y = along / np.sqrt(along @ along)
    z = cross(axis, y)
    z /= np.sqrt(z @ z)
    return np.array([cross(y, z), y, z]).T


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of two vectors (3,): numpy's own spends 50 times longer on checking one pair."""
    (a0, a1, a2), (b0, b1, b2) = a.tolist(), b.tolist()
    return np.array([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0])


def _zero(ray: int, axis: np.ndarray) -> np.ndarray:
    """Frame of a finger's proximal phalanx at zero flexion and abduction, rolled so that the rest pose has no twist."""
    return _frame(np.array([-np.sin(FAN_RAD[ray]), np.cos(FAN_RAD[ray]), 0.0]), axis)


def motions(skeleton: Skeleton, pose: np.ndarray) -> np.ndarray:
    """Forward kinematics: motions of the bones from rest to a pose, in the hand frame.

    pose: (..., 25) in the order and units of DOFS. Returns (..., 23, 3, 4), metres.
    """
    joints, turning, rest = skeleton.joints, skeleton.pivots, skeleton.rest
    out = np.zeros((*pose.shape[:-1], NUM_BONES, 3, 4))
    out[..., 0, :, :3] = np.eye(3)

    wrist = (rotation_about(2, pose[..., DOF["wrist_deviation"]])
             @ rotation_about(0, -pose[..., DOF["wrist_flexion"]]))
    out[..., BONE["forearm"], :, :] = about(np.swapaxes(wrist, -1, -2), turning[0])
    twist = about(_spun(skeleton.forearm_spin, 0.5 * pose[..., DOF["forearm_twist"]]), joints[0])
    for name in ("forearm_upper", "upper_arm"):
        out[..., BONE[name], :, :] = compose(out[..., BONE[PARENT[name]], :, :], twist)

    knuckles = turning[_KNUCKLES]                                            # (4, 3)
    lift = _spun(skeleton.arch_spin, -ARCH_RAD * pose[..., DOF["arch"], None])           # (..., 4, 3, 3)
    carrier = about(lift, skeleton.metacarpal_bases)
    out[..., _METACARPALS, :, :] = carrier
    turn = skeleton.zero @ _knuckle_turn(pose) @ skeleton.from_rest
    out[..., _PROXIMAL, :, :] = compose(carrier, about(turn, knuckles))
    turn = _thumb_turn(pose[..., _THUMB:_THUMB + 3])
    out[..., BONE["thumb_cmc"], :, :] = about(skeleton.thumb @ turn @ skeleton.thumb_from_rest, turning[1])

    bend = _spun(skeleton.hinge_spin, rest[_HINGES] - pose[..., _HINGES])                # (..., 2, 5, 3, 3)
    bend = about(bend, turning[_HINGE_JOINTS])
    for step in (0, 1):                                                      # the middle, then the last phalanges
        carrier = out[..., _BASES + step, :, :]
        out[..., _BASES + step + 1, :, :] = compose(carrier, bend[..., step, :, :, :])
    return out


def _knuckle_turn(pose: np.ndarray) -> np.ndarray:
    """Flexion and abduction of the fingers 2-5 at their knuckles, with the turn that comes with curling. (..., 4, 3, 3)
    """
    flexion = pose[..., _FIRST]
    curled = 0.5 * (1.0 - np.cos(np.clip(flexion + pose[..., _FIRST + 2], 0.0, np.pi)))
    abduction = pose[..., _FIRST + 1] - CONVERGENCE_RAD * curled
    return rotation_about(2, abduction) @ rotation_about(0, -flexion)


def _thumb_turn(angles: np.ndarray) -> np.ndarray:
    """Flexion (across the palm), abduction (away from its plane) and twist of the thumb's saddle joint."""
    return (rotation_about(2, angles[..., 1]) @ rotation_about(0, -angles[..., 0])
            @ rotation_about(1, angles[..., 2]))


def axis_angle(axis: np.ndarray, angle) -> np.ndarray:
    """Rotation matrices (..., 3, 3) about unit axes (3,) or (..., 3) by ``angle`` (...) radians (Rodrigues)."""
    return _spun(_spin(axis), angle)


def _spin(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrix (..., 3, 3) of the cross product with ``axis`` (..., 3), and its square."""
    cross = np.zeros((*axis.shape[:-1], 3, 3))
    cross[..., 0, 1], cross[..., 0, 2], cross[..., 1, 2] = -axis[..., 2], axis[..., 1], -axis[..., 0]
    cross[..., 1, 0], cross[..., 2, 0], cross[..., 2, 1] = axis[..., 2], -axis[..., 1], axis[..., 0]
    return cross, cross @ cross


def _spun(spin: tuple[np.ndarray, np.ndarray], angle) -> np.ndarray:
    angle = np.asarray(angle, dtype=np.float64)[..., None, None]
    return np.sin(angle) * spin[0] + (1.0 - np.cos(angle)) * spin[1] + _IDENTITY


def posed_joints(skeleton: Skeleton, bone_motions: np.ndarray) -> np.ndarray:
    """The 21 joints (..., 21, 3) metres carried by their bones' motions (..., 23, 3, 4), as the labels have them."""
    return _carried(skeleton.joints, bone_motions)


def posed_pivots(skeleton: Skeleton, bone_motions: np.ndarray) -> np.ndarray:
    """The same of ``Skeleton.pivots``, (..., 21, 3) metres: bones between them keep their lengths."""
    return _carried(skeleton.pivots, bone_motions)


def _carried(points: np.ndarray, bone_motions: np.ndarray) -> np.ndarray:
    carriers = bone_motions[..., list(JOINT_BONE), :, :]
    return np.einsum("...kij,kj->...ki", carriers[..., :3], points) + carriers[..., 3]
