"""Poses that people's hands take: named anchors, blends of them, free draws, all within anatomical limits.

A pose is an array (25,) in the order of rig.DOFS, radians. ``sample`` draws one; ``anchor`` gives a named one.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.skeleton import FINGERS
from hand_pose_ros.synthesis import rig, touch
from hand_pose_ros.synthesis.touch import Spot

LIMITS_DEG = {
    "wrist_flexion": (-65, 70), "wrist_deviation": (-32, 20), "forearm_twist": (-80, 80), "arch": (0, 57.3),
    "thumb_cmc_flexion": (-22, 50), "thumb_cmc_abduction": (-32, 24), "thumb_cmc_twist": (-20, 60),
    "thumb_mcp_flexion": (-15, 60), "thumb_ip_flexion": (-20, 80),
    **{f"{finger}_{name}": limits for finger in FINGERS[1:] for name, limits in (
        ("mcp_flexion", (-25, 92)), ("pip_flexion", (-3, 110)), ("dip_flexion", (-6, 75)))},
    "index_mcp_abduction": (-18, 20), "middle_mcp_abduction": (-12, 12), "ring_mcp_abduction": (-14, 15),
    "little_mcp_abduction": (-25, 16),
}
"""Active range of motion of healthy adults, degrees (AAOS, Joint Motion, 1965; Hume et al., J. Hand Surg. 15A, 1990;
thumb saddle joint: Li & Tang, J. Biomech. 40, 2007, from this rig's rest). ``arch`` is 0..1."""
SPREAD_DEG = (17.0, 14.0, 32.0)
"""Largest angle between neighbouring fingers 2-3, 3-4, 4-5 (Chatzioglou et al., Anat. Cell Biol. 57(2), 2024)."""
DIP_FOLLOWS_PIP, DIP_FREEDOM_DEG = 0.62, 7.0
"""In free motion the last joint bends with the middle one (Hahn et al., J. Hand Surg. 20B, 1995: about two thirds)."""
PRESSED, PRESSED_JITTER = 0.6, 0.15
"""Share of poses, free ones left out, whose last joints are straighter than that, since the tips rest on palm or thing
or since only the superficial flexor pulls: by a factor of 0 to 1 for all fingers and the deviation for each. With 0 it
is the straight fist of Wehbe (Am. J. Occup. Ther. 41(3), 1987)."""
LIFTED, LIFTED_FROM, LIFTED_JITTER, CURLED_PIP_DEG = 0.45, 0.3, 0.1, 70.0
"""Share of poses, free ones left out, whose curled fingers are lifted from the palm, since the long flexors bend the
outer joints alone as far as together with the knuckle: their knuckles bend by a factor, from the second to 1 for all
and with the deviation for each, of what the anchor says. The last: fingers whose middle joints bend by more are
curled."""
RESTED, RESTED_KNUCKLE_DEG, RESTED_PIP = 0.25, (74.0, 8.0), (0.5, 0.85)
"""Share of poses, free ones left out, in which a little finger that is curled rests on the palm or under a thumb: its
knuckle bends at least so far (mean and standard deviation), its middle joint that many times as far (uniform); the ring
finger changes by a third of that. In 28 of 259 hands of ge_real and in 4 of 18 of a signing hand the little finger's
knuckle bends by 55 degrees or more and its middle joint by 30 to 70."""
LEVEL_DEG = (5.0, 8.0)
"""Mean and standard deviation of what all four knuckles of a hand are bent more than the anchor says: a hand that is
held up is not pressed flat."""
THUMB_SHARES_DEG = 8.0
"""Standard deviation of what the thumb's knuckle bends more, and its saddle joint less, than the named pose says:
people's knuckles can bend by 40 to 126 degrees (100 volunteers, Yoshida et al., J. Hand Surg. 28A(5), 2003)."""

LOWER = np.radians([LIMITS_DEG[name][0] for name in rig.DOFS])
UPPER = np.radians([LIMITS_DEG[name][1] for name in rig.DOFS])

# Finger postures: MCP flexion, PIP flexion, DIP flexion [degrees]
_FINGER = {
    "straight": (0, 3, 2), "back": (-12, 0, 0), "lazy": (15, 18, 10), "relaxed": (26, 35, 20), "half": (45, 55, 32),
    "curl": (87, 102, 56), "loose": (62, 88, 50), "hook": (8, 92, 60), "claw": (-5, 58, 38), "bent": (78, 6, 4),
    "slope": (45, 12, 8), "ring": (48, 52, 28), "tuck": (70, 100, 52), "wide": (28, 38, 24), "medium": (42, 52, 34),
    "tight": (60, 72, 46), "cup": (30, 25, 15), "crook": (10, 75, 45), "tripod": (52, 45, 22), "plate": (60, 12, 10),
    "fold": (10, 104, 64),
}
# Radial abduction of index, middle, ring and little finger [degrees]
_SPREAD = {
    "parallel": (-4, 0, 4, 9), "together": (-6, -1, 5, 12), "open": (3, 0, 0, 0), "spread": (13, 1, -9, -22),
    "fist": (-4, 0, 4, 8), "vee": (12, -6, 0, 4), "vulcan": (-3, 4, -8, -6), "crossed": (-14, 10, 4, 8),
}
# Thumb: saddle joint flexion, abduction, twist, MCP flexion, IP flexion [degrees]
_THUMB = {
    "rest": (4, -4, 0, 8, 12), "out": (-13, -11, 0, 5, -1), "wide": (-8, 5, 0, 3, 0), "beside": (16, -30, -8, 6, 4),
    "up": (-20, -24, -6, -6, -12), "over": (5, 18, 16, 46, 36), "under": (18, 8, 20, 56, 42),
    "across": (20, -2, 22, 55, 42), "oppose": (28, 14, 32, 14, 20), "grip": (8, 20, 20, 14, 26),
    "side": (16, -22, 0, 18, 30), "lazy": (10, 2, 6, 14, 20), "touch": (36, 14, 44, 24, 20),
}


@dataclass(frozen=True)
class Anchor:
    """A named pose: postures of the fingers, what touches what, and how often it is drawn."""

    fingers: str                                # postures of index, middle, ring, little, by name
    thumb: str
    spread: str = "parallel"
    arch: float = 0.1
    contacts: tuple = ()                        # pairs of Spots that meet
    weight: float = 1.0
    kind: str = "sign"                          # count | sign | grasp | rest


def _pad(finger: str) -> Spot:
    return Spot("thumb_ip" if finger == "thumb" else f"{finger}_dip", 0.68)


def _pinch(*fingers: str) -> tuple:
    """The thumb's pad on one finger's pad, or between two fingers' pads."""
    if len(fingers) == 1:
        return ((_pad("thumb"), _pad(fingers[0])),)
    return tuple((Spot("thumb_ip", 0.75, side), Spot(f"{finger}_dip", 0.7))
                 for finger, side in zip(fingers, (25.0, -25.0)))


_ON_INDEX_SIDE = ((_pad("thumb"), Spot("index_pip", 0.5, 80.0)),)
_OVER_FIST = ((Spot("thumb_ip", 0.4, 0.0), Spot("index_pip", 0.6, 175.0)),)
_OVER_MIDDLE = ((Spot("thumb_ip", 0.6, 0.0), Spot("middle_pip", 0.5, 165.0)),)
_BESIDE_INDEX = ((Spot("thumb_ip", 0.5, 0.0), Spot("index_pip", 0.3, 105.0)),)
_ON_RING = ((_pad("thumb"), Spot("ring_pip", 0.8, 170.0)),)
_ON_MIDDLE = ((_pad("thumb"), Spot("middle_pip", 0.8, 170.0)),)

ANCHORS = {
    # what is held up to a camera
    "open_flat": Anchor("straight straight straight straight", "wide", "open", 0.0, weight=5, kind="count"),
    "flat_together": Anchor("straight straight straight straight", "beside", "together", 0.05, weight=3),
    "five": Anchor("straight straight straight straight", "out", "spread", 0.0, weight=5, kind="count"),
    "relaxed": Anchor("lazy relaxed relaxed relaxed", "rest", "parallel", 0.15, weight=6, kind="rest"),
    "hanging": Anchor("lazy lazy relaxed relaxed", "lazy", "parallel", 0.2, weight=5, kind="rest"),
    "half_closed": Anchor("half half half half", "lazy", "fist", 0.3, weight=4, kind="rest"),
    "fist": Anchor("curl curl curl curl", "over", "fist", 0.4, _OVER_FIST, 6, "count"),
    "fist_thumb_side": Anchor("curl curl curl curl", "side", "fist", 0.4,
                              ((_pad("thumb"), Spot("index_mcp", 0.85, 95.0)),), 2),
    "loose_fist": Anchor("loose loose loose loose", "side", "fist", 0.35, _BESIDE_INDEX, 4, kind="rest"),
    "thumb_up": Anchor("curl curl curl curl", "up", "fist", 0.4, weight=5, kind="count"),
    "point": Anchor("straight curl curl curl", "over", "fist", 0.35, _OVER_MIDDLE, 6, "count"),
    "point_loose": Anchor("lazy loose loose loose", "oppose", "fist", 0.3, _OVER_MIDDLE, 5),
    "point_thumb": Anchor("straight curl curl curl", "side", "fist", 0.35,
                          ((_pad("thumb"), Spot("middle_pip", 0.2, 120.0)),), 2),
    "l": Anchor("straight curl curl curl", "out", "fist", 0.3, weight=3, kind="count"),
    "gun": Anchor("straight straight curl curl", "up", "together", 0.3, weight=2),
    "victory": Anchor("straight straight curl curl", "over", "vee", 0.35, _ON_RING, 5, "count"),
    "two_together": Anchor("straight straight curl curl", "over", "together", 0.35, _ON_RING, 2, "count"),
    "three": Anchor("straight straight curl curl", "out", "vee", 0.3, weight=3, kind="count"),
    "three_w": Anchor("straight straight straight curl", "under", "spread", 0.3,
                      ((_pad("thumb"), Spot("little_pip", 0.7, 165.0)),), 3, "count"),
    "four": Anchor("straight straight straight straight", "across", "open", 0.25, weight=4, kind="count"),
    "call": Anchor("curl curl curl straight", "out", "spread", 0.2, weight=4),
    "horns": Anchor("straight curl curl straight", "over", "open", 0.3, _OVER_MIDDLE, 2),
    "rock": Anchor("straight curl curl straight", "out", "open", 0.2, weight=2),
    "little_up": Anchor("curl curl curl straight", "over", "fist", 0.3, _OVER_FIST, 1.5, "count"),
    "middle_ring_little": Anchor("ring straight straight straight", "touch", "spread", 0.15, _pinch("index"), 1.5),
    "ok": Anchor("ring lazy lazy straight", "grip", "spread", 0.15, _pinch("index"), 5),
    "vulcan": Anchor("straight straight straight straight", "out", "vulcan", 0.0, weight=0.7),
    "crossed": Anchor("straight slope curl curl", "over", "crossed", 0.3, _ON_RING, 0.7),
    "bent_back": Anchor("back back back back", "out", "spread", 0.0, weight=1),
    # pinches and grasps, as of objects that are or are not there
    "pinch": Anchor("tripod half half half", "oppose", "parallel", 0.25, _pinch("index"), 7, "grasp"),
    "pinch_straight": Anchor("slope lazy lazy lazy", "oppose", "parallel", 0.2, _pinch("index"), 4, "grasp"),
    "pinch_fist": Anchor("tripod loose loose loose", "oppose", "fist", 0.35, _pinch("index"), 4, "grasp"),
    "pinch_open": Anchor("wide half half half", "grip", "parallel", 0.2, weight=5, kind="grasp"),
    "pinch_wide": Anchor("lazy lazy relaxed relaxed", "wide", "open", 0.1, weight=4, kind="grasp"),
    "pinch_middle": Anchor("lazy tripod lazy lazy", "oppose", "open", 0.25, _pinch("middle"), 2, "grasp"),
    "pinch_ring": Anchor("straight lazy tripod lazy", "touch", "open", 0.4, _pinch("ring"), 1.2, "grasp"),
    "pinch_little": Anchor("straight straight lazy tripod", "touch", "open", 0.7, _pinch("little"), 1.0, "grasp"),
    "tripod": Anchor("tripod tripod half half", "oppose", "together", 0.3, _pinch("index", "middle"), 5, "grasp"),
    "writing": Anchor("medium medium loose loose", "oppose", "together", 0.35, _pinch("index", "middle"), 2, "grasp"),
    "beak": Anchor("tripod tripod tripod tripod", "oppose", "together", 0.4, _pinch("index", "middle"), 1.5, "grasp"),
    "key": Anchor("loose loose loose loose", "side", "fist", 0.3, _ON_INDEX_SIDE, 4, "grasp"),
    "power_wide": Anchor("wide wide wide wide", "grip", "parallel", 0.2, weight=5, kind="grasp"),
    "power_medium": Anchor("medium medium medium medium", "grip", "parallel", 0.3, weight=5, kind="grasp"),
    "power_tight": Anchor("tight tight tight tight", "grip", "fist", 0.4, weight=4, kind="grasp"),
    "sphere": Anchor("wide wide wide wide", "grip", "spread", 0.5, weight=4, kind="grasp"),
    "sphere_small": Anchor("medium medium medium medium", "oppose", "open", 0.5, weight=3, kind="grasp"),
    "hook": Anchor("hook hook hook hook", "rest", "parallel", 0.1, weight=3, kind="grasp"),
    "hook_loose": Anchor("crook crook crook crook", "lazy", "parallel", 0.15, weight=2.5, kind="rest"),
    "hook_fist": Anchor("fold fold fold fold", "side", "fist", 0.1, weight=3),
    "hook_fist_thumb": Anchor("fold fold fold fold", "up", "parallel", 0.1, weight=2),
    "claw": Anchor("claw claw claw claw", "out", "spread", 0.0, weight=3, kind="grasp"),
    "cup": Anchor("cup cup cup cup", "beside", "together", 0.6, weight=3, kind="grasp"),
    "platform": Anchor("lazy lazy lazy lazy", "wide", "open", 0.1, weight=3, kind="grasp"),
    "table": Anchor("bent bent bent bent", "beside", "together", 0.1, weight=1.5, kind="grasp"),
    "plate_grip": Anchor("plate plate plate plate", "grip", "parallel", 0.2, weight=3, kind="grasp"),
    "trigger": Anchor("half curl curl curl", "up", "fist", 0.3, weight=1.5, kind="grasp"),
    "typing": Anchor("half half half half", "rest", "open", 0.1, weight=3, kind="rest"),
    "snap": Anchor("lazy half curl curl", "touch", "fist", 0.3, _pinch("middle"), 1),
    # finger spelling that none of the above is (American manual alphabet)
    "asl_a": Anchor("curl curl curl curl", "beside", "fist", 0.3, weight=1),
    "asl_c": Anchor("wide wide wide wide", "grip", "together", 0.2, weight=1.5),
    "asl_d": Anchor("straight half half half", "touch", "fist", 0.3, _pinch("middle"), 1.2),
    "asl_e": Anchor("hook hook hook hook", "across", "together", 0.3, weight=0.7),
    "asl_k": Anchor("straight bent curl curl", "up", "vee", 0.3,
                    ((_pad("thumb"), Spot("middle_mcp", 0.75, 90.0)),), 1.2),
    "asl_m": Anchor("bent bent bent curl", "across", "together", 0.3, weight=0.6),
    "asl_n": Anchor("tight tight curl curl", "across", "together", 0.3, weight=0.8),
    "asl_o": Anchor("medium medium medium medium", "oppose", "together", 0.35, _pinch("index", "middle"), 1.2),
    "asl_r": Anchor("straight slope curl curl", "over", "crossed", 0.3, _ON_RING, 0.5),
    "asl_t": Anchor("loose curl curl curl", "side", "fist", 0.3, _BESIDE_INDEX, 0.6),
    "asl_x": Anchor("crook curl curl curl", "over", "fist", 0.35, _ON_MIDDLE, 1),
    "asl_7": Anchor("straight straight tripod straight", "touch", "open", 0.4, _pinch("ring"), 0.7, "count"),
    "asl_6": Anchor("straight straight straight tripod", "touch", "open", 0.7, _pinch("little"), 0.7, "count"),
    "asl_8": Anchor("straight tripod straight straight", "oppose", "open", 0.25, _pinch("middle"), 0.7, "count"),
}
SHARES = {"anchor": 0.32, "code": 0.32, "blend": 0.2, "free": 0.16}
"""How poses are drawn: near one anchor, each finger stretched or bent by itself, per finger between two anchors, or
freely within the limits."""
_STRETCHED = {"straight": 0.6, "lazy": 0.2, "back": 0.1, "slope": 0.1}
_BENT = {"curl": 0.41, "loose": 0.17, "tuck": 0.12, "half": 0.1, "hook": 0.1, "fold": 0.1}
"""Postures of a finger in a code, with their shares. A network that has only seen neighbours bend together reads one
bent finger as stretched."""
THUMB_HOLDS, THUMB_PINCHES = 0.3, 0.2
"""Shares of codes whose thumb lies on a bent finger, and meets a finger's pad."""
MAX_OVERLAP = 0.008
"""Deepest cut that is let pass beyond what flesh gives, in hand lengths (1.5 mm)."""
ATTEMPTS = 12


def anchor(name: str) -> np.ndarray:
    """A named pose as an array (25,), fingers that touch not yet solved. Raises ConfigError for an unknown name."""
    if name not in ANCHORS:
        raise ConfigError(f"unknown pose '{name}'; choose one of: {', '.join(sorted(ANCHORS))}")
    return _raw(name).copy()


@lru_cache(maxsize=None)
def _raw(name: str) -> np.ndarray:
    made = ANCHORS[name]
    pose = np.zeros(rig.NUM_DOFS)
    pose[rig.DOF["arch"]] = made.arch
    pose[rig.DOF["thumb_cmc_flexion"]:rig.DOF["thumb_ip_flexion"] + 1] = np.radians(_THUMB[made.thumb])
    for ray, posture in enumerate(made.fingers.split()):
        mcp, pip, dip = _FINGER[posture]
        first = rig.DOF["index_mcp_flexion"] + 4 * ray
        pose[first:first + 4] = np.radians([mcp, _SPREAD[made.spread][ray], pip, dip])
    return within_limits(pose)


def within_limits(pose: np.ndarray) -> np.ndarray:
    """The nearest pose inside the anatomical limits, the coupled ones included. pose: (..., 25); returns a copy."""
    pose = np.clip(pose, LOWER, UPPER)
    bends = pose[..., _MCP]
    shrink = 1.0 - 0.75 * np.clip(bends / np.radians(90.0), 0.0, 1.0)        # abduction needs slack side ligaments
    spread = np.clip(pose[..., _ABDUCTION], LOWER[_ABDUCTION] * shrink, UPPER[_ABDUCTION] * shrink)
    extended = 1.0 - np.clip(np.abs(np.diff(bends, axis=-1)) / np.radians(60.0), 0.0, 1.0)
    limit = np.radians(SPREAD_DEG) + (1.0 - extended) * np.radians(20.0)     # fingers at different heights pass by
    fan = -np.diff(spread + rig.FAN_RAD, axis=-1)                            # > 0: neighbours point apart
    excess = np.maximum(fan - limit, 0.0)
    spread[..., 0] -= excess[..., 0]
    spread[..., 2] += excess[..., 1]
    fan = -np.diff(spread + rig.FAN_RAD, axis=-1)
    spread[..., 3] += np.maximum(fan[..., 2] - limit[..., 2], 0.0)
    pose[..., _ABDUCTION] = np.clip(spread, LOWER[_ABDUCTION], UPPER[_ABDUCTION])
    return pose


_MCP = np.array([rig.DOF[f"{finger}_mcp_flexion"] for finger in FINGERS[1:]])
_ABDUCTION, _PIP, _DIP = _MCP + 1, _MCP + 2, _MCP + 3
_THUMB_DOFS = np.arange(rig.DOF["thumb_cmc_flexion"], rig.DOF["thumb_ip_flexion"] + 1)
_FREE_TO_MOVE = np.concatenate([_THUMB_DOFS, np.sort(np.concatenate([_MCP, _ABDUCTION, _PIP, _DIP]))])


def sample(rng: np.random.Generator, shape=None) -> np.ndarray:
    """Draw one pose (25,): touching fingers meet, fingers do not cut each other, limits hold.

    shape: the hand_model.HandShape that will take the pose; the mean adult's without it.
    """
    return sample_named(rng, shape)[0]


def sample_named(rng: np.random.Generator, shape=None, kinds: tuple[str, ...] | None = None):
    """``sample`` with the name of the anchor it came from (``free`` if none). kinds: only anchors of these kinds, or of
    these names. Raises ConfigError for a kind or name that no anchor has."""
    skeleton, radii, length = body(shape)
    for _ in range(ATTEMPTS):
        pose, name, contacts = _draw(rng, kinds)
        pose = meet(skeleton, radii, within_limits(pose), contacts)
        pivots = rig.posed_pivots(skeleton, rig.motions(skeleton, pose))
        if touch.overlap(pivots, radii) <= MAX_OVERLAP * length:
            return pose, name
    name = "relaxed" if kinds is None else _table(kinds)[0][0]
    return within_limits(_wrist(rng, solved(name, shape))), name


def meet(skeleton: rig.Skeleton, radii: np.ndarray, pose: np.ndarray, contacts=()) -> np.ndarray:
    """Bend the thumb and the fingers so that contacts close and cuts open; (25,) within the limits."""
    if not contacts and not touch.overlap(rig.posed_pivots(skeleton, rig.motions(skeleton, pose)), radii) > 0.0:
        return pose
    return within_limits(touch.solve(skeleton, radii, pose, contacts, _FREE_TO_MOVE, LOWER, UPPER))


def solved(name: str, shape=None) -> np.ndarray:
    """A named pose (25,) for a shape with its touching fingers solved; the mean adult's without a shape."""
    skeleton, radii, _ = body(shape)
    return meet(skeleton, radii, anchor(name), ANCHORS[name].contacts)


def body(shape):
    """(Skeleton, capsule radii (19,) m, hand length m) of a hand_model.HandShape; the mean adult's without it."""
    if shape is None:
        from hand_pose_ros.synthesis.hand_model import HandModel

        shape = HandModel.load("makehuman").shape()
    length = shape.hand_length_m
    return shape.skeleton, touch.capsule_radii(length, shape.person.finger_thickness), length


def _draw(rng: np.random.Generator, kinds):
    names, chances = _table(kinds)
    how = rng.choice(list(SHARES), p=list(SHARES.values()))
    named = kinds is not None and any(kind in ANCHORS for kind in kinds)
    if kinds is not None and (how in ("code", "free") or named):        # those are of no kind, and blends of no name
        how = "anchor"
    name = names[rng.choice(len(names), p=chances)]
    if how == "anchor":
        pose, contacts = anchor(name), ANCHORS[name].contacts
        pose = pose + _noise(rng, 5.0)
    elif how == "code":
        pose, contacts, name = *_code(rng), "code"
        pose = pose + _noise(rng, 6.0)
    elif how == "blend":
        other = names[rng.choice(len(names), p=chances)]
        pose, contacts = _blend(rng, anchor(name), anchor(other)), ()
        pose = pose + _noise(rng, 8.0)
    else:
        return _wrist(rng, _free(rng)), "free", ()
    pose[_MCP] += np.radians(rng.normal(*LEVEL_DEG))
    return _wrist(rng, _shared(rng, _pressed(rng, _rested(rng, _lifted(rng, pose))))), name, contacts


@lru_cache(maxsize=None)
def _table(kinds):
    known = {*ANCHORS, *(made.kind for made in ANCHORS.values())}
    for kind in kinds or ():
        if kind not in known:
            raise ConfigError(f"unknown pose '{kind}'; choose one of: count, grasp, rest, sign (kinds), "
                              f"{', '.join(sorted(ANCHORS))}")
    names = tuple(name for name, made in ANCHORS.items() if kinds is None or made.kind in kinds or name in kinds)
    weights = np.array([ANCHORS[name].weight for name in names])
    return names, weights / weights.sum()


def _noise(rng: np.random.Generator, spread_deg: float) -> np.ndarray:
    """Correlated noise: neighbouring fingers and the joints of one finger bend together. (25,) radians."""
    out = np.zeros(rig.NUM_DOFS)
    fingers = _neighbours() @ rng.standard_normal((4, 2))                    # bend, spread
    own = rng.standard_normal((4, 3))
    bend = 0.7 * fingers[:, :1] + 0.7 * own
    out[_MCP], out[_PIP] = bend[:, 0], 1.2 * bend[:, 1]
    out[_DIP] = DIP_FOLLOWS_PIP * 1.2 * bend[:, 1] + 0.6 * bend[:, 2]
    out[_ABDUCTION] = 0.5 * fingers[:, 1] + 0.45 * rng.standard_normal(4)
    out[_THUMB_DOFS] = rng.standard_normal(5) * (1.0, 1.0, 0.8, 1.2, 1.6)
    out = np.radians(spread_deg) * np.clip(out, -2.5, 2.5)
    out[rig.DOF["arch"]] = 0.12 * rng.standard_normal()
    return out


@lru_cache(maxsize=1)
def _neighbours() -> np.ndarray:
    """Square root of the fingers' correlation: 0.75 between neighbours, less further away. (4, 4)"""
    apart = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    return np.linalg.cholesky(0.75 ** apart)


def _blend(rng: np.random.Generator, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Between two poses, with a share per finger that is alike for neighbours."""
    share = 1.0 / (1.0 + np.exp(-1.6 * (_neighbours() @ rng.standard_normal(4))))
    shares = np.full(rig.NUM_DOFS, float(share.mean()))
    for ray in range(4):
        shares[_MCP[ray]:_MCP[ray] + 4] = share[ray]
    shares[_THUMB_DOFS] = rng.beta(0.6, 0.6)
    return (1.0 - shares) * one + shares * two


def _code(rng: np.random.Generator) -> tuple[np.ndarray, tuple]:
    """Each finger stretched or bent by itself, any thumb, any spread: (pose, contacts)."""
    pose = np.zeros(rig.NUM_DOFS)
    pose[rig.DOF["arch"]] = rng.uniform(0.0, 0.4)
    thumbs = np.array(list(_THUMB.values()))
    pose[_THUMB_DOFS] = np.radians(rng.dirichlet(np.full(2, 0.6)) @ thumbs[rng.choice(len(thumbs), 2, replace=False)])
    fans = np.array(list(_SPREAD.values()))
    fan = rng.dirichlet(np.full(2, 0.6)) @ fans[rng.choice(len(fans), 2, replace=False)]
    bent = rng.random(4) < 0.5
    for ray in range(4):
        shares = _BENT if bent[ray] else _STRETCHED
        mcp, pip, dip = _FINGER[str(rng.choice(list(shares), p=list(shares.values())))]
        pose[_MCP[ray]:_MCP[ray] + 4] = np.radians([mcp, fan[ray], pip, dip])
    contacts, u = (), rng.random()
    if u < THUMB_HOLDS and bent.any():
        finger = FINGERS[1 + int(rng.choice(np.flatnonzero(bent)))]
        bone, along = ("pip", rng.uniform(0.4, 0.8)) if rng.random() < 0.7 else ("dip", rng.uniform(0.2, 0.7))
        contacts = ((_pad("thumb"), Spot(f"{finger}_{bone}", along, rng.uniform(155.0, 175.0))),)
    elif THUMB_HOLDS < u < THUMB_HOLDS + THUMB_PINCHES:
        ray = int(rng.choice(4, p=(0.55, 0.25, 0.12, 0.08)))
        pose[_MCP[ray]:_MCP[ray] + 4:2] = np.radians(_FINGER["ring"][:2])
        pose[_DIP[ray]] = np.radians(_FINGER["ring"][2])
        pose[_THUMB_DOFS] = np.radians(_THUMB["oppose" if ray < 2 else "touch"])
        contacts = _pinch(FINGERS[1 + ray])
    return within_limits(pose), contacts


def _free(rng: np.random.Generator) -> np.ndarray:
    """Correlated draws over the whole anatomical range."""
    pose = np.zeros(rig.NUM_DOFS)
    common = rng.standard_normal(3)
    fingers = 0.6 * common[:2] + 0.8 * (_neighbours() @ rng.standard_normal((4, 2)))
    mcp = np.radians(30.0 + 32.0 * fingers[:, 0])
    pip = np.radians(42.0 + 34.0 * (0.35 * fingers[:, 0] + 0.94 * fingers[:, 1]))
    pose[_MCP], pose[_PIP] = mcp, np.maximum(pip, np.radians(-3.0))
    pose[_DIP] = DIP_FOLLOWS_PIP * pose[_PIP] + np.radians(DIP_FREEDOM_DEG) * rng.standard_normal(4)
    fan = 0.5 + 0.6 * rng.standard_normal()
    pose[_ABDUCTION] = np.radians(fan * np.array([9.0, 1.0, -6.0, -13.0]) + np.array([-3.0, 0.0, 3.0, 7.0])
                                  + 3.0 * rng.standard_normal(4))
    low, high = LOWER[_THUMB_DOFS], UPPER[_THUMB_DOFS]
    pose[_THUMB_DOFS] = low + (high - low) * rng.beta(2.0, 2.2, size=5)
    pose[rig.DOF["arch"]] = rng.beta(1.2, 3.0)
    return pose


def _shared(rng: np.random.Generator, pose: np.ndarray) -> np.ndarray:
    """The pose with some of the thumb's flexion moved between its saddle joint and its knuckle."""
    pose, more = pose.copy(), np.radians(THUMB_SHARES_DEG) * rng.standard_normal()
    pose[rig.DOF["thumb_mcp_flexion"]] += more
    pose[rig.DOF["thumb_cmc_flexion"]] -= more
    return pose


def _lifted(rng: np.random.Generator, pose: np.ndarray) -> np.ndarray:
    """The pose, now and then with the knuckles of its curled fingers bent less."""
    if rng.random() < LIFTED:
        pose, factor = pose.copy(), rng.uniform(LIFTED_FROM, 1.0) + LIFTED_JITTER * rng.standard_normal(4)
        curled = pose[_PIP] > np.radians(CURLED_PIP_DEG)
        pose[_MCP] *= np.where(curled, np.clip(factor, 0.0, 1.1), 1.0)
    return pose


def _rested(rng: np.random.Generator, pose: np.ndarray) -> np.ndarray:
    """The pose, now and then with a curled little finger, and a little the ring finger, bent at the knuckle rather
    than at the middle joint."""
    if rng.random() < RESTED:
        pose = pose.copy()
        knuckle, factor = np.radians(rng.normal(*RESTED_KNUCKLE_DEG)), rng.uniform(*RESTED_PIP)
        for ray, share in ((3, 1.0), (2, 1.0 / 3.0)):
            if pose[_PIP[ray]] > np.radians(CURLED_PIP_DEG):
                pose[_MCP[ray]] += share * max(knuckle - pose[_MCP[ray]], 0.0)
                pose[_PIP[ray]] *= 1.0 - share * (1.0 - factor)
    return pose


def _pressed(rng: np.random.Generator, pose: np.ndarray) -> np.ndarray:
    """The pose, now and then with its last joints straightened as by what the tips press on."""
    if rng.random() < PRESSED:
        pose = pose.copy()
        pose[_DIP] *= np.clip(rng.random() + PRESSED_JITTER * rng.standard_normal(4), -0.1, 1.1)
    return pose


def _wrist(rng: np.random.Generator, pose: np.ndarray) -> np.ndarray:
    """Add wrist and forearm: mostly near straight, now and then far bent."""
    pose = pose.copy()
    wide = rng.random() < 0.25
    pose[rig.DOF["wrist_flexion"]] = np.radians(rng.normal(-8.0, 38.0 if wide else 16.0))
    pose[rig.DOF["wrist_deviation"]] = np.radians(rng.normal(-4.0, 14.0 if wide else 7.0))
    pose[rig.DOF["forearm_twist"]] = np.radians(rng.normal(0.0, 35.0))
    return pose
