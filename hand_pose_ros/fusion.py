"""Hands that several cameras see -> the same hands once, in metres, in the frame of the first camera.

    state = observe(state, camera, stamp_ns, hands)                    # for every HandPose21Array
    state, fused = fuse(state, stamp_ns, poses)                        # for every image of the camera that leads

One camera knows well where a joint is across its viewing ray, and the hand's shape, but its distance only as well as
the hand's true size is known: scaling a scene about the camera's centre changes no pixel. So each view brings one
unknown scale k, and each joint j one unknown place X:

    R_v p_vj = (X_j - c_v) / k_v + e_vj,   e ~ N(0, S_vj),   log k ~ N(0, Q)

S is small across the ray and as large along it as the relative depth within the hand is unsure; Q holds how unsure the
size is, one error for all views that assumed the same hand length. The weighted least squares are linear; X is
eliminated first (Schur complement), as in bundle adjustment (Triggs et al., Vision Algorithms 1999, section 6.1), and
Huber's psi weakens joints on which the views disagree. Cameras that look from different sides thus measure the scale;
with one view, or along one line of sight, the result is what that view said, with its own uncertainty. What several
cameras have found out about a hand's size stays with its track, so that nothing jumps when one of them loses sight.

Nothing here reads a clock, a topic or a transform. Cameras need not be synchronised: each is carried on to the wanted
time at its joints' speed, and what that may be wrong by widens its uncertainty.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hand_pose_ros.lift import ASSUMED_LENGTH_SIGMA
from hand_pose_ros.types import Hand, JointState, ScaleSource

Pose = tuple[np.ndarray, np.ndarray]
"""R (3, 3) and t (3,) m, from a camera to the first one."""

SHAPE_ALONG = 2.0
"""A joint's place along the ray, relative to the hand, is this much less sure than across it at least (as lift.py's
ACROSS_SHARE says of the network)."""
FIT_SIGMA = 0.02
"""Relative standard deviation of a view's distance beside that of an assumed hand length, at least."""
MEASURED_SIGMA = 0.005
"""The same for a calibrated hand or a depth image."""
STEPS = 5
"""Gauss-Newton steps: from hands 15 % too large or too small they come within a hundredth of a millimetre."""
TINY = 1e-9
HUBER = 2.5
"""Whitened residual above which a joint's weight falls."""
SAME_HAND = 12.0
"""Mean squared whitened residual up to which two views may be of one hand; 1 where all sigmas are right."""
KNOWN_PAIR, OTHER_SIDE = 0.25, 4.0
"""Factors on it for views that were of one hand before, and for hands of which one says left and one right."""
LENGTH_SIGMA = 0.01
"""Relative standard deviation of a hand's length, however often it was measured, at least."""
MEASURES_SCALE = 0.7
"""The scale counts as measured by the cameras if they leave less than this share of its former uncertainty."""
SPEED_SIGMA = 0.5
"""Metres a second by which a joint's speed may be wrong while its place is carried on."""
SPEED_GAP_NS = 200_000_000
"""Images further apart than this tell no speed."""
FORGET_NS = 5_000_000_000
"""A track unseen for this long has no number any more."""
_SIDE_SURE = 0.8
_BEST_FIRST = np.array([5, 0, 1, 1, 3, 4])
"""Rank of each JointState: a joint that one camera sees is seen."""


@dataclass(frozen=True)
class FusionConfig:
    """Settings of the fusion."""

    max_skew_s: float = 0.1                         # older hands of a camera are not used
    extrinsics_sigma_m: float = 0.005               # how well the cameras' places are known, at the hand


@dataclass(frozen=True, eq=False)
class View:
    """One hand as one camera sees it. ``sigma_m``: standard deviation [m], in every direction, of what is not the
    camera's own error: its place, and the time that passed."""

    hand: Hand
    R: np.ndarray                                   # (3, 3) from the camera to the first one
    t: np.ndarray                                   # (3,) m
    sigma_m: float = 0.0


@dataclass(frozen=True)
class Length:
    """The true length of a hand, as several cameras have measured it."""

    log_m: float                                    # logarithm of its metres
    sigma: float                                    # relative standard deviation


@dataclass(frozen=True, eq=False)
class Combination:
    """What several views say together, in the frame of the first camera."""

    joints_m: np.ndarray                            # (21, 3), NaN where no view has the joint
    covariance: np.ndarray                          # (21, 3, 3) m^2
    scale: np.ndarray                               # (V,) true distance over that of the view
    scale_sigma: np.ndarray                         # (V,) what is left of its uncertainty
    prior_sigma: np.ndarray                         # (V,) and what it was
    misfit: float                                   # mean squared whitened residual per degree of freedom, NaN: 1 view
    disagreement_m: float                           # median distance of the views' joints from the common ones
    whitened: np.ndarray                            # (V, 21, 3) residuals in standard deviations, weakened by Huber
    log_scale_whitened: np.ndarray                  # (V,) the same of log k


def combine(views: Sequence[View], length: Length | None = None) -> Combination:
    """The weighted least squares of the module's text. Each view's hand must have finite joints and sigmas for at
    least one joint; length: what several cameras found out about this hand before. Raises ValueError if there is no
    view."""
    if not views:
        raise ValueError("no view to combine")
    P = np.array([view.hand.joints_m for view in views], float)                          # (V, 21, 3)
    ray = np.array([view.hand.sigma_ray_m for view in views], float)
    across = np.array([view.hand.sigma_across_m for view in views], float)
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(P).all(-1) & (ray > 0) & (across > 0) & np.isfinite(ray) & np.isfinite(across)
    carried = np.array([view.hand.state for view in views]) == JointState.EXTRAPOLATED
    seen = usable & ~carried
    usable = np.where(seen.any(0), seen, usable)                                         # carried on: only if all are
    P, ray, across = (np.where(usable[..., None] if a.ndim == 3 else usable, a, 1.0) for a in (P, ray, across))
    distance = np.linalg.norm(P, axis=-1)
    prior = np.min(np.where(usable, ray / distance, np.inf), axis=1)                     # (V,) of the scale
    prior = np.where(np.isfinite(prior), prior, ASSUMED_LENGTH_SIGMA)

    Y = np.einsum("vab,vjb->vja", np.array([view.R for view in views], float), P)
    c = np.array([view.t for view in views], float)                                      # (V, 3)
    d = Y / distance[..., None]
    extra = np.array([view.sigma_m for view in views])[:, None] ** 2
    along = np.maximum(ray**2 - (prior[:, None] * distance)**2, (SHAPE_ALONG * across)**2) + extra
    beside = across**2 + extra
    outer = np.einsum("vja,vjb->vjab", d, d)
    information = usable[..., None, None] * (np.eye(3) / beside[..., None, None]
                                             + outer * (1.0 / along - 1.0 / beside)[..., None, None])
    mean, Q = _scale_prior(views, prior, length)
    weight, X, log_scale = np.ones(usable.shape), None, mean
    for _ in range(STEPS):
        L = weight[..., None, None] * information
        X, log_scale, A_inverse, scale_covariance, G = _improve(X, log_scale, L, Y, c, mean, Q)
        residual = Y - (X - c[:, None]) / np.exp(log_scale)[:, None, None]
        squared = np.einsum("vja,vjab,vjb->vj", residual, information, residual)
        weight = np.minimum(1.0, HUBER / np.sqrt(np.maximum(squared, 1e-12)))
    whitened = residual / np.sqrt(beside)[..., None]
    whitened += d * ((d * residual).sum(-1) * (along**-0.5 - beside**-0.5))[..., None]
    whitened *= np.sqrt(weight * usable)[..., None]
    covariance = A_inverse + np.einsum("jak,kl,jbl->jab", G, scale_covariance, G)
    known = usable.any(0)
    X = np.where(known[:, None], X, np.nan)
    covariance = np.where(known[:, None, None], covariance, np.nan)
    shared = usable.sum(0) > 1
    freedom = 3 * (usable.sum(0) - 1)[shared].sum()
    misfit = float(squared[:, shared][usable[:, shared]].sum() / freedom) if freedom else float("nan")
    apart = np.linalg.norm(residual, axis=-1)[:, shared][usable[:, shared]]
    return Combination(X, covariance, np.exp(log_scale), np.sqrt(np.diag(scale_covariance)), np.sqrt(np.diag(Q)), misfit,
                       float(np.median(apart)) if len(apart) else float("nan"), whitened,
                       np.linalg.solve(np.linalg.cholesky(Q), log_scale - mean))


def _scale_prior(views: Sequence[View], prior: np.ndarray, length: Length | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean (V,) and covariance (V, V) of log k: views that assumed a hand length assumed the same one, so that its
    error is one error, and less of it is left once the length was measured."""
    assumed = np.array([view.hand.scale_source == ScaleSource.ASSUMED for view in views])
    own = np.where(assumed, np.maximum(prior**2 - ASSUMED_LENGTH_SIGMA**2, FIT_SIGMA**2),
                   np.maximum(prior**2, MEASURED_SIGMA**2))
    mean, sigma = np.zeros(len(views)), ASSUMED_LENGTH_SIGMA
    if length is not None:
        mean = np.where(assumed, length.log_m - np.log([view.hand.hand_length_m for view in views]), 0.0)
        sigma = length.sigma
    return mean, np.diag(own) + sigma**2 * np.outer(assumed, assumed)


def _improve(X: np.ndarray | None, log_scale: np.ndarray, L: np.ndarray, Y: np.ndarray, c: np.ndarray, mean: np.ndarray,
             Q: np.ndarray):
    """One Gauss-Newton step on r_vj = Y_vj - (X_j - c_v) / k_v and the prior of log k, X eliminated first.

    The noise lies in what the views say (Y), so the model must be turned this way round: fitting k Y to X instead would
    shrink k, since a smaller hand has smaller residuals. X (21, 3) or None at the start, log_scale (V,), L (V, 21, 3,
    3), Y (V, 21, 3), c (V, 3), mean (V,) and Q (V, V) of log k -> X, log_scale, inverse of X's own information (21, 3, 3), covariance of
    log_scale (V, V), dX/dlog_scale (21, 3, V).
    """
    if X is None:
        A = L.sum(0) + TINY * np.eye(3)                     # a joint that no view has: anything, but finite
        X = np.linalg.solve(A, np.einsum("vjab,vjb->ja", L, np.exp(mean)[:, None, None] * Y + c[:, None])[..., None])[..., 0]
    k = np.exp(log_scale)[:, None, None]
    Z = (X - c[:, None]) / k
    Lr, LZ = np.einsum("vjab,vjb->vja", L, Y - Z), np.einsum("vjab,vjb->vja", L, Z)
    A_inverse = np.linalg.inv((L / k[..., None]**2).sum(0) + TINY * np.eye(3))
    G = np.einsum("jab,vjb->jav", A_inverse, LZ / k)
    prior = np.linalg.inv(Q)
    S = np.diag(np.einsum("vja,vja->v", LZ, Z)) - np.einsum("vja,jaw->vw", LZ / k, G) + prior
    pull = (Lr / k).sum(0)
    g = np.einsum("jav,ja->v", G, pull) - np.einsum("vja,vja->v", Z, Lr) - prior @ (log_scale - mean)
    scale_covariance = np.linalg.inv(S)
    step = scale_covariance @ g
    return (X + np.einsum("jab,jb->ja", A_inverse, pull) + G @ step, log_scale + step, A_inverse, scale_covariance, G)


# ------------------------------------------------------------------------------------------------ cameras over time

@dataclass(frozen=True, eq=False)
class Seen:
    """The last hands of one camera, and where they were before."""

    stamp_ns: int
    hands: tuple[Hand, ...]
    before_ns: int | None = None
    before: tuple[Hand, ...] = ()


@dataclass(frozen=True, eq=False)
class FusionState:
    """All that is remembered. Make the first one without arguments."""

    cameras: Mapping[str, Seen] = field(default_factory=dict)
    numbers: Mapping[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    """(camera, its track id): (fused track id, stamp of its last use)."""
    last_number: int = 0
    lengths: Mapping[int, Length] = field(default_factory=dict)
    """Fused track id: its hand's true length, as far as several cameras have seen it together."""


@dataclass(frozen=True, eq=False)
class FusedHand:
    """One hand in the frame of the first camera, and how it came about."""

    hand: Hand
    cameras: tuple[str, ...]                        # that saw it
    combination: Combination


def observe(state: FusionState, camera: str, stamp_ns: int, hands: Sequence[Hand]) -> FusionState:
    """Remembers what a camera saw. Stamps that go back (a bag that starts again) begin anew with all cameras; one that
    repeats changes nothing."""
    last = state.cameras.get(camera)
    if last is not None and stamp_ns == last.stamp_ns:
        return state
    if last is not None and stamp_ns < last.stamp_ns:
        return FusionState({camera: Seen(stamp_ns, tuple(hands))}, last_number=state.last_number)
    seen = Seen(stamp_ns, tuple(hands)) if last is None else Seen(stamp_ns, tuple(hands), last.stamp_ns, last.hands)
    return replace(state, cameras={**state.cameras, camera: seen})


def fuse(state: FusionState, stamp_ns: int, poses: Mapping[str, Pose], config: FusionConfig = FusionConfig()
         ) -> tuple[FusionState, tuple[FusedHand, ...]]:
    """All hands at ``stamp_ns``, in the frame of the first camera.

    poses: R and t from each camera that may be used to the first, which is the first key. A camera whose last image is
    more than ``max_skew_s`` away, or of which no pose is given, is left out. Hands without metres are left out, too.
    """
    groups: list[list[tuple[str, Hand, View]]] = []
    for camera, (R, t) in poses.items():
        seen = state.cameras.get(camera)
        if seen is None or abs(stamp_ns - seen.stamp_ns) > config.max_skew_s * 1e9:
            continue
        views = [(camera, hand, View(carried(seen, hand, stamp_ns), R, t, _sigma(seen, stamp_ns, config)))
                 for hand in seen.hands if _metric(hand)]
        _join(groups, views, state)
    numbers, last_number, lengths, out = dict(state.numbers), state.last_number, dict(state.lengths), []
    taken: set[int] = set()
    for group in groups:
        known = sorted({numbers[camera, hand.track_id][0] for camera, hand, _ in group
                        if (camera, hand.track_id) in numbers} - taken)
        number = known[0] if known else (last_number := last_number + 1)
        taken.add(number)
        for camera, hand, _ in group:
            numbers[camera, hand.track_id] = number, stamp_ns
        views = [view for _, _, view in group]
        combination = combine(views, lengths.get(number))
        if _measures(combination):
            lengths[number] = _learnt(lengths.get(number), combination, views)
        first = next(iter(poses))
        own = next((hand for camera, hand, _ in group if camera == first), None)
        out.append(FusedHand(_hand(combination, views, own, number, number in lengths),
                             tuple(camera for camera, _, _ in group), combination))
    numbers = {key: value for key, value in numbers.items() if stamp_ns - value[1] < FORGET_NS}
    alive = {number for number, _ in numbers.values()}
    lengths = {number: length for number, length in lengths.items() if number in alive}
    return replace(state, numbers=numbers, last_number=last_number, lengths=lengths), tuple(out)


def _join(groups: list, views: list, state: FusionState) -> None:
    """Puts each view of one camera into the group that it fits best, one per group, or into one of its own."""
    costs = [(cost, g, v) for g, group in enumerate(groups) for v, view in enumerate(views)
             if (cost := _cost(group, view, state)) <= SAME_HAND]
    placed: dict[int, int] = {}
    for _, g, v in sorted(costs):
        if v not in placed and g not in placed.values():
            placed[v] = g
    for v, view in enumerate(views):
        if v in placed:
            groups[placed[v]].append(view)
        else:
            groups.append([view])


def _cost(group: list, view: tuple[str, Hand, View], state: FusionState) -> float:
    numbers = {state.numbers.get((name, other.track_id), (0,))[0] for name, other, _ in group}
    length = next((state.lengths[number] for number in sorted(numbers) if number in state.lengths), None)
    misfit = combine([*(other for _, _, other in group), view[2]], length).misfit
    if not np.isfinite(misfit):
        return np.inf
    camera, hand, _ = view
    if state.numbers.get((camera, hand.track_id), (-1,))[0] in numbers:
        misfit *= KNOWN_PAIR
    right = [other.right_probability for _, other, _ in group]
    if abs(np.mean(right) - hand.right_probability) > _SIDE_SURE:
        misfit *= OTHER_SIDE
    return misfit


def _metric(hand: Hand) -> bool:
    with np.errstate(invalid="ignore"):
        return bool((np.isfinite(hand.joints_m).all(-1) & (hand.sigma_ray_m > 0) & (hand.sigma_across_m > 0)).any())


def carried(seen: Seen, hand: Hand, stamp_ns: int) -> Hand:
    """The hand at another time than its image's, at the speed it had between the last two images."""
    before = next((other for other in seen.before if other.track_id == hand.track_id), None)
    if before is None or not 0 < seen.stamp_ns - seen.before_ns <= SPEED_GAP_NS:
        return hand
    share = (stamp_ns - seen.stamp_ns) / (seen.stamp_ns - seen.before_ns)
    moved = hand.joints_m + share * (hand.joints_m - before.joints_m)
    return replace(hand, joints_m=np.where(np.isfinite(moved), moved, hand.joints_m))


def _sigma(seen: Seen, stamp_ns: int, config: FusionConfig) -> float:
    return float(np.hypot(config.extrinsics_sigma_m, SPEED_SIGMA * abs(stamp_ns - seen.stamp_ns) * 1e-9))


def _measures(combination: Combination) -> bool:
    """Whether the views together, not what was assumed of each, tell the scale."""
    return len(combination.scale) > 1 and \
        combination.scale_sigma.min() < max(MEASURES_SCALE * combination.prior_sigma.min(), LENGTH_SIGMA)


def _learnt(before: Length | None, combination: Combination, views: Sequence[View]) -> Length:
    """The hand's length after one more measurement: errors of neighbouring images are alike, so it never gets surer
    than LENGTH_SIGMA."""
    sigma = max(float(combination.scale_sigma.min()), 2.0 * LENGTH_SIGMA)
    log_m = float(np.log(_length_m(combination, views)))
    if before is None:
        return Length(log_m, sigma)
    weight = before.sigma**2 / (before.sigma**2 + sigma**2)
    return Length(before.log_m + weight * (log_m - before.log_m), max(before.sigma * (1 - weight)**0.5, LENGTH_SIGMA))


def _length_m(combination: Combination, views: Sequence[View]) -> float:
    return float(np.average([view.hand.hand_length_m * k for view, k in zip(views, combination.scale)],
                            weights=combination.scale_sigma**-2))


def _hand(combination: Combination, views: Sequence[View], own: Hand | None, number: int, measured: bool) -> Hand:
    """A Hand as one camera would report it. Pixels and box are the first camera's own, NaN if it does not see it.
    measured: several cameras have told its size, now or before."""
    joints, covariance = combination.joints_m, combination.covariance
    distance = np.linalg.norm(joints, axis=-1, keepdims=True)
    d = joints / np.maximum(distance, 1e-9)
    along = np.einsum("ja,jab,jb->j", d, covariance, d)
    across = np.maximum(np.trace(covariance, axis1=1, axis2=2) - along, 0.0) / 2.0
    hands = [view.hand for view in views]
    states = np.array([hand.state for hand in hands])
    state = np.take_along_axis(states, np.argsort(_BEST_FIRST[states], axis=0, kind="stable")[:1], axis=0)[0]
    return Hand(score=max(hand.score for hand in hands),
                right_probability=float(np.mean([hand.right_probability for hand in hands])),
                box=own.box if own else np.full(4, np.nan), joints_px=own.joints_px if own else np.full((21, 2), np.nan),
                joints_m=joints, joints_rel_m=joints - joints[0],
                confidence=np.max([hand.confidence for hand in hands], axis=0), state=state.astype(np.uint8),
                sigma_ray_m=np.sqrt(along), sigma_across_m=np.sqrt(across),
                hand_length_m=_length_m(combination, views),
                scale_source=ScaleSource.MULTI_VIEW if measured else (own or hands[0]).scale_source, track_id=number)
