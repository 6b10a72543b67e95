"""Hands that several cameras see -> the same hands once, in metres, in the frame of the first camera.

    state = observe(state, camera, stamp_ns, hands)                    # for every HandPose21Array
    state, fused = fuse(state, stamp_ns, poses)                        # for every image of the camera that leads

One camera knows well where a joint is across its viewing ray, and the hand's shape, but its distance only as well as
the hand's true size is known: scaling a scene about the camera's centre changes no pixel. So each view brings one
unknown scale k, and each joint j one unknown place X:

    R_v p_vj = (X_j - c_v - o_v) / k_v + e_vj,   e ~ N(0, S_vj),   log k ~ N(0, Q),   o_v ~ N(0, sigma_v^2)

S is small across the ray and as large along it as the relative depth within the hand is unsure; Q holds how unsure the
size is, one error for all views that assumed the same hand length; o is what may be wrong with the camera's place and
with the time that passed, the same for all joints. A few Gauss-Newton steps solve the weighted least squares; in each X
is eliminated first (Schur complement), as in bundle adjustment (Triggs et al., Vision Algorithms 1999, section 6.1),
and Huber's psi weakens joints on which the views disagree. Cameras that look from different sides thus measure the
scale; with one view, or along one line of sight, the result is what that view said, with its own uncertainty. What
several cameras have found out about a hand's size stays with its track, so that nothing jumps when one loses sight.

Nothing here reads a clock, a topic or a transform. Cameras need not be synchronised: each is carried on to the wanted
time at its joints' speed, and what that may be wrong by widens its uncertainty.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hand_pose_ros.lift import ASSUMED_LENGTH_SIGMA, CALIBRATED_LENGTH_SIGMA
from hand_pose_ros.tracking import VOTE_FLIP, VOTE_LIMIT, VOTE_PER_S, probability
from hand_pose_ros.types import Hand, JointState, ScaleSource

Pose = tuple[np.ndarray, np.ndarray]
"""R (3, 3) and t (3,) m, from a camera to the first one."""

SHAPE_ALONG = 2.0
"""A joint's place along the ray, relative to the hand, is this much less sure than across it at least (as lift.py's
ACROSS_SHARE says of the network)."""
FIT_SIGMA = 0.02
"""Relative standard deviation of a view's distance beside that of an assumed hand length, at least."""
MEASURED_SIGMA = 0.005
"""The same for a depth image."""
STEPS = 5
"""Gauss-Newton steps: from hands 15 % too large or too small they come within a hundredth of a millimetre."""
TINY = 1e-9
"""Information [1/m^2] that keeps the matrices of joints that no view has from being singular."""
HUBER = 2.5
"""Whitened residual above which a joint's weight falls."""
SAME_HAND, SAME_PLACE_M = 12.0, 0.05
"""Mean squared whitened residual (1 where all sigmas are right) and ``Combination.disagreement_m`` up to which two
views may be of one hand."""
SHARED_JOINTS = 6
"""Joints that two views must see to be compared by those alone."""
MOST_SURPRISE, LIKELY_SURPRISE = 5.0, 1.5
"""Standard deviations that a common size may be from what the views assume: of hands that are new, children's among
them, and of two hands that have numbers of their own. Two hands whose rays cross by chance pass for one of another size
somewhere else."""
CONFIRMED = 8
"""Images in a row in which two hands with numbers of their own must fit before they become one: one image alone in
which somebody else's hand happens to fit must not hand over a number that a robot follows."""
KNOWN_PAIR, OTHER_SIDE = 0.25, 4.0
"""Factors on it for views that were of one hand before, and for hands of which one says left and one right."""
LENGTH_SIGMA = 0.01
"""Relative standard deviation of a hand's length, however often it was measured, at least."""
LEARNING = 0.1
"""Share of each new measurement in it."""
MEASURES_SCALE = 0.7
"""The scale counts as measured by the cameras if they leave less than this share of its former uncertainty."""
SPEED_SIGMA = 0.5
"""Metres a second by which a joint's speed may be wrong while its place is carried on."""
SPEED_GAP_NS = 200_000_000
"""Images further apart than this tell no speed."""
FASTEST_M_S = 4.0
"""No joint is carried on faster than this."""
SHORTEST_GAP_NS = 10_000_000
"""Images closer together than this tell noise, no speed."""
CARRIED_NS = 60_000_000
"""What an image further away than this says is extrapolated: nobody should act on it."""
NEAR_M = 0.1
"""Of hands that claim one number the nearer to where it was keeps it, told apart in steps of this."""
HISTORY_NS = 1_000_000_000
"""Images of a camera that are older than this before its newest are forgotten: another camera's may come later by as
much, and is then joined by those of its own time."""
FORGET_NS = 1_000_000_000
"""A track unseen for this long has no number any more: its node gives a new one itself, and one that was started anew
begins to count at 1 again."""
SMALLEST_SIGMA_M = 1e-4
"""No joint and no camera's place is better known than this."""
SHORTEST_M, LONGEST_M = 0.05, 0.4
"""Hands outside these lengths are none."""
_SIDE_SURE = 0.8
"""Difference of the probabilities of a right hand from which two views contradict each other."""
_BEST_FIRST = np.array([5, 0, 1, 1, 3, 4])
"""Rank of each JointState: a joint that one camera sees is seen."""


@dataclass(frozen=True)
class FusionConfig:
    """Settings of the fusion."""

    max_skew_s: float = 0.1                         # older hands of a camera are not used
    extrinsics_sigma_m: float = 0.005               # how well the cameras' places are known, at the hand


@dataclass(frozen=True, eq=False)
class View:
    """One hand as one camera sees it. ``sigma_m``: standard deviation [m], in every direction, of what is wrong with
    all joints alike: the camera's place, and the time that passed."""

    hand: Hand
    R: np.ndarray                                   # (3, 3) from the camera to the first one
    t: np.ndarray                                   # (3,) m
    sigma_m: float = 0.0
    age_ns: int = 0                                 # by how much it was carried on


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
    disagreement_m: float                           # largest of the views' median distances from the common joints
    whitened: np.ndarray                            # (V, 21, 3) residuals in standard deviations, weakened by Huber
    log_scale_whitened: np.ndarray                  # (V,) the same of log k
    surprise: float                                 # standard deviations of the views' common log k from its prior
    used: np.ndarray                                # (V, 21) bool: the view had a part in the joint


def combine(views: Sequence[View], length: Length | None = None, carried_too: bool = False) -> Combination:
    """The weighted least squares of the module's text. Each view's hand must have finite joints and sigmas for at
    least one joint.

    length: what several cameras found out about this hand before. carried_too: use joints that a view only extrapolates
    although another one sees them. Raises ValueError if there is no view.
    """
    if not views:
        raise ValueError("no view to combine")
    P = np.array([view.hand.joints_m for view in views], float)                          # (V, 21, 3)
    ray = np.array([view.hand.sigma_ray_m for view in views], float)
    across = np.array([view.hand.sigma_across_m for view in views], float)
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(P).all(-1) & (ray > 0) & (across > 0) & np.isfinite(ray) & np.isfinite(across)
    seen = usable & (np.array([_states(view) for view in views]) != JointState.EXTRAPOLATED)
    usable = usable if carried_too else np.where(seen.any(0), seen, usable)
    P = np.where(usable[..., None], P, 1.0)
    ray, across = (np.maximum(np.where(usable, a, 1.0), SMALLEST_SIGMA_M) for a in (ray, across))
    distance = np.maximum(np.linalg.norm(P, axis=-1), SMALLEST_SIGMA_M)
    prior = np.min(np.where(usable, ray / distance, np.inf), axis=1)                     # (V,) of the scale
    prior = np.where(np.isfinite(prior), prior, ASSUMED_LENGTH_SIGMA)

    Y = np.einsum("vab,vjb->vja", np.array([view.R for view in views], float), P)
    c = np.array([view.t for view in views], float)                                      # (V, 3)
    d = Y / distance[..., None]
    along, beside = np.maximum(ray**2 - (prior[:, None] * distance)**2, (SHAPE_ALONG * across)**2), across**2
    outer = np.einsum("vja,vjb->vjab", d, d)
    information = usable[..., None, None] * (np.eye(3) / beside[..., None, None]
                                             + outer * (1.0 / along - 1.0 / beside)[..., None, None])
    mean, Q = _scale_prior(views, prior, length)
    offsets = np.maximum([view.sigma_m for view in views], SMALLEST_SIGMA_M)
    weight, X, log_scale, o = np.ones(usable.shape), None, mean, np.zeros((len(views), 3))
    for _ in range(STEPS):
        L = weight[..., None, None] * information
        X, log_scale, o, A_inverse, C, G = _improve(X, log_scale, o, L, Y, c, mean, Q, offsets)
        residual = Y - (X - c[:, None] - o[:, None]) / np.exp(log_scale)[:, None, None]
        squared = np.einsum("vja,vjab,vjb->vj", residual, information, residual)
        weight = np.minimum(1.0, HUBER / np.sqrt(np.maximum(squared, 1e-12)))
    whitened = residual / np.sqrt(beside)[..., None]
    whitened += d * ((d * residual).sum(-1) * (along**-0.5 - beside**-0.5))[..., None]
    whitened *= np.sqrt(weight * usable)[..., None]
    covariance = A_inverse + np.einsum("jak,kl,jbl->jab", G, C, G)
    known = usable.any(0)
    X = np.where(known[:, None], X, np.nan)
    covariance = np.where(known[:, None, None], covariance, np.nan)
    shared = usable.sum(0) > 1
    freedom = 3 * (usable.sum(0) - 1)[shared].sum()
    misfit = float(squared[:, shared][usable[:, shared]].sum() / freedom) if freedom else float("nan")
    k = np.exp(log_scale)
    # Without o: a camera that is believed to stand elsewhere disagrees all the same.
    apart = np.linalg.norm(c[:, None] + k[:, None, None] * Y - X, axis=-1)
    apart = [np.median(row[use]) for row, use in zip(apart, usable & shared) if use.any()]
    return Combination(X, covariance, k, np.sqrt(np.diag(C)[:len(views)]), np.sqrt(np.diag(Q)), misfit,
                       float(max(apart)) if apart else float("nan"), whitened,
                       np.linalg.solve(np.linalg.cholesky(Q), log_scale - mean),
                       float(abs((log_scale - mean).sum()) / np.sqrt(Q.sum())), usable)


def _states(view: View) -> np.ndarray:
    """(21,) JointState of a view at the time it was carried on to."""
    if abs(view.age_ns) <= CARRIED_NS:
        return view.hand.state
    return np.where(view.hand.state == JointState.UNKNOWN, JointState.UNKNOWN, JointState.EXTRAPOLATED)


def _scale_prior(views: Sequence[View], prior: np.ndarray, length: Length | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean (V,) and covariance (V, V) of log k. Views that assumed a hand length assumed the same one, so that its
    error is one error, likewise those that were told a calibrated one; less of it is left once the cameras have
    measured the length, and then it is one error of both."""
    sources = np.array([view.hand.scale_source for view in views])
    assumed, calibrated = sources == ScaleSource.ASSUMED, sources == ScaleSource.CALIBRATED_HAND
    common = np.where(assumed, ASSUMED_LENGTH_SIGMA, np.where(calibrated, CALIBRATED_LENGTH_SIGMA, 0.0))
    own = np.maximum(prior**2 - common**2, np.where(common > 0, FIT_SIGMA, MEASURED_SIGMA)**2)
    mean = np.zeros(len(views))
    if length is None:
        shared = (common[:, None] == common) * np.outer(common, common)
        if assumed.any():                                   # different assumptions about one hand: the truth is between
            log_m = np.log([view.hand.hand_length_m for view in views])
            mean = np.where(assumed, log_m[assumed].mean() - log_m, 0.0)
    else:
        told = common > 0
        shared = length.sigma**2 * np.outer(told, told)
        mean = np.where(told, length.log_m - np.log([view.hand.hand_length_m for view in views]), 0.0)
    return mean, np.diag(own) + shared


def _improve(X: np.ndarray | None, log_scale: np.ndarray, o: np.ndarray, L: np.ndarray, Y: np.ndarray, c: np.ndarray,
             mean: np.ndarray, Q: np.ndarray, offsets: np.ndarray):
    """One Gauss-Newton step on r_vj = Y_vj - (X_j - c_v - o_v) / k_v and the priors of log k and o, X eliminated first.

    The noise lies in what the views say (Y), so the model must be turned this way round: fitting k Y to X instead would
    shrink k, since a smaller hand has smaller residuals. X (21, 3) or None at the start, log_scale (V,), o (V, 3),
    L (V, 21, 3, 3), Y (V, 21, 3), c (V, 3), mean (V,) and Q (V, V) of log k, offsets (V,) m -> X, log_scale, o, inverse
    of X's own information (21, 3, 3), covariance (4V, 4V) of all log k and then all o, and dX/d(those) (21, 3, 4V).
    """
    V = len(Y)
    if X is None:
        A = L.sum(0) + TINY * np.eye(3)                     # a joint that no view has: anything, but finite
        X = np.linalg.solve(A, np.einsum("vjab,vjb->ja", L, np.exp(mean)[:, None, None] * Y + c[:, None])[..., None])
        X = X[..., 0]
    k = np.exp(log_scale)[:, None, None]
    Z = (X - c[:, None] - o[:, None]) / k
    B = np.zeros(Y.shape + (4 * V,))                        # dr/d(log k, o); a view knows only its own
    for v in range(V):
        B[v, :, :, v] = Z[v]
        B[v, :, :, V + 3 * v:V + 3 * v + 3] = np.eye(3) / k[v]
    Lr, LB = np.einsum("vjab,vjb->vja", L, Y - Z), L @ B
    A_inverse = np.linalg.inv((L / k[..., None]**2).sum(0) + TINY * np.eye(3))
    pull, lever = (Lr / k).sum(0), (LB / k[..., None]).sum(0)                            # (21, 3), (21, 3, 4V)
    G = A_inverse @ lever
    prior = np.zeros((4 * V, 4 * V))
    prior[:V, :V], prior[V:, V:] = np.linalg.inv(Q), np.diag(np.repeat(offsets**-2.0, 3))
    S = np.einsum("vjap,vjaq->pq", B, LB) - np.einsum("jap,jaq->pq", lever, G) + prior
    now = np.concatenate([log_scale - mean, o.ravel()])
    g = np.einsum("jap,ja->p", G, pull) - np.einsum("vjap,vja->p", B, Lr) - prior @ now
    C = np.linalg.inv(S)
    step = C @ g
    X = X + np.einsum("jab,jb->ja", A_inverse, pull) + G @ step
    return X, log_scale + step[:V], o + step[V:].reshape(V, 3), A_inverse, C, G


# ------------------------------------------------------------------------------------------------ cameras over time

@dataclass(frozen=True, eq=False)
class Seen:
    """The hands in one image of a camera, and where they were in the one before."""

    stamp_ns: int
    hands: tuple[Hand, ...]
    before_ns: int | None = None
    before: tuple[Hand, ...] = ()


@dataclass(frozen=True, eq=False)
class FusionState:
    """All that is remembered. Make the first one without arguments."""

    cameras: Mapping[str, tuple[Seen, ...]] = field(default_factory=dict)
    """Images of each camera in the order of their stamps, those of the last HISTORY_NS."""
    numbers: Mapping[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    """(camera, its track id): (fused track id, stamp of its last use)."""
    last_number: int = 0
    lengths: Mapping[int, Length] = field(default_factory=dict)
    """Fused track id: its hand's true length, as far as several cameras have seen it together."""
    places: Mapping[int, np.ndarray] = field(default_factory=dict)
    """Fused track id: mean of its joints (3,) when it was last seen, in the first camera's frame."""
    sides: Mapping[int, tuple[float, bool, int]] = field(default_factory=dict)
    """Fused track id: log-odds of a right hand, the side that it is taken for, and the stamp of that."""
    fitting: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """Two fused track ids: in how many images in a row they could have been one hand."""


@dataclass(frozen=True, eq=False)
class FusedHand:
    """One hand in the frame of the first camera, and how it came about."""

    hand: Hand
    cameras: tuple[str, ...]                        # that saw it
    combination: Combination
    surprise: float                                 # of the views without what was learnt before


def observe(state: FusionState, camera: str, stamp_ns: int, hands: Sequence[Hand]) -> FusionState:
    """Remembers what a camera saw. A stamp that goes back (a bag that starts again) begins anew with that camera; one
    that repeats changes nothing."""
    last = newest(state, camera)
    if last is not None and stamp_ns == last.stamp_ns:
        return state
    if last is None or stamp_ns < last.stamp_ns:
        numbers = {key: value for key, value in state.numbers.items() if key[0] != camera}
        return replace(state, cameras={**state.cameras, camera: (Seen(stamp_ns, tuple(hands)),)}, numbers=numbers)
    kept = tuple(seen for seen in state.cameras[camera] if stamp_ns - seen.stamp_ns <= HISTORY_NS)
    now = Seen(stamp_ns, tuple(hands), last.stamp_ns, last.hands)
    return replace(state, cameras={**state.cameras, camera: (*kept, now)})


def newest(state: FusionState, camera: str) -> Seen | None:
    """The last image of a camera, None if there was none."""
    return state.cameras[camera][-1] if camera in state.cameras else None


def nearest(state: FusionState, camera: str, stamp_ns: int) -> Seen | None:
    """The image of a camera whose stamp is nearest to a time, None if there was none."""
    return min(state.cameras.get(camera, ()), key=lambda seen: abs(seen.stamp_ns - stamp_ns), default=None)


def fuse(state: FusionState, stamp_ns: int, poses: Mapping[str, Pose], config: FusionConfig = FusionConfig()
         ) -> tuple[FusionState, tuple[FusedHand, ...]]:
    """All hands at ``stamp_ns``, in the frame of the first camera.

    poses: R and t from each camera that may be used to the first, which is the first key. Of each camera the image
    nearest to that time counts; one whose nearest is more than ``max_skew_s`` away, or of which no pose is given, is
    left out. Hands without metres are left out, too.
    """
    first, groups, fitting = next(iter(poses)), [], {}
    for camera, (R, t) in poses.items():
        seen = nearest(state, camera, stamp_ns)
        if seen is None or abs(stamp_ns - seen.stamp_ns) > config.max_skew_s * 1e9:
            continue
        age_ns = stamp_ns - seen.stamp_ns
        sigma = np.hypot(0.0 if camera == first else config.extrinsics_sigma_m, SPEED_SIGMA * abs(age_ns) * 1e-9)
        views = [(camera, hand, View(carried(seen, hand, stamp_ns), R, t, float(sigma), age_ns))
                 for hand in seen.hands if _usable(hand)]
        _join(groups, views, state, fitting)
    numbers, last_number, lengths = dict(state.numbers), state.last_number, dict(state.lengths)
    named: list[tuple[int, list]] = []
    taken: set[int] = set()
    places, sides = dict(state.places), dict(state.sides)
    # Who is where the hand was keeps its number; of several the one that is seen best.
    for group in sorted(groups, key=lambda group: (_steps_away(group, state), -_seen_joints(group))):
        known = {state.numbers[camera, hand.track_id][0] for camera, hand, _ in group
                 if (camera, hand.track_id) in state.numbers} - taken
        number = min(known) if known else (last_number := last_number + 1)
        taken.add(number)
        for other in known - {number}:                                          # one hand from now on
            if other in lengths and (number not in lengths or lengths[other].sigma < lengths[number].sigma):
                lengths[number] = lengths[other]
        for camera, hand, _ in group:
            # One hand is one track of a camera: one of before that comes back elsewhere is another hand.
            numbers = {key: value for key, value in numbers.items() if key[0] != camera or value[0] != number}
            numbers[camera, hand.track_id] = number, stamp_ns
        named.append((number, group))
    out = []
    for number, group in named:
        views = [view for _, _, view in group]
        free = combine(views)
        if _measures(free):
            lengths[number] = _learnt(lengths.get(number), free, views)
        combination = combine(views, lengths[number]) if number in lengths else free
        if _measures(free):             # the length is these views' own measurement, too: it makes them no surer
            combination = replace(combination, covariance=free.covariance)
        sides[number] = _side(sides.get(number), [hand for _, hand, _ in group], stamp_ns)
        places[number] = np.nanmean(combination.joints_m, axis=0)
        own = next((hand for camera, hand, _ in group if camera == first), None)
        out.append(FusedHand(_hand(combination, views, own, number, number in lengths, sides[number]),
                             tuple(camera for camera, _, _ in group), combination, free.surprise))
    numbers = {key: value for key, value in numbers.items() if abs(stamp_ns - value[1]) < FORGET_NS}
    alive = {number for number, _ in numbers.values()}
    lengths = {number: length for number, length in lengths.items() if number in alive}
    places = {number: place for number, place in places.items() if number in alive}
    sides = {number: side for number, side in sides.items() if number in alive}
    return replace(state, numbers=numbers, last_number=last_number, lengths=lengths, places=places, sides=sides,
                   fitting=fitting), tuple(out)


def _join(groups: list, views: list, state: FusionState, fitting: dict) -> None:
    """Puts each view of one camera into the group that it fits best, one per group, or into one of its own. Hands that
    fit, but have different numbers, are noted in ``fitting``, and join when they have fitted for long enough."""
    costs: list[tuple[float, int, int]] = []
    for g, group in enumerate(groups):
        for v, view in enumerate(views):
            cost, surprise = _cost(group, view, state)
            if cost > SAME_HAND or surprise > MOST_SURPRISE:
                continue
            ours, theirs = _numbers(group, state), _numbers([view], state)
            if ours and theirs and not ours & theirs:
                if surprise > LIKELY_SURPRISE:
                    continue
                pair = (min(ours), min(theirs))
                fitting[pair] = state.fitting.get(pair, 0) + 1
                if fitting[pair] < CONFIRMED:
                    continue
            costs.append((cost, g, v))
    placed: dict[int, int] = {}
    for _, g, v in sorted(costs):
        if v not in placed and g not in placed.values():
            placed[v] = g
    for v, view in enumerate(views):
        if v in placed:
            groups[placed[v]].append(view)
        else:
            groups.append([view])


def _numbers(group: Sequence[tuple[str, Hand, View]], state: FusionState) -> set[int]:
    """The fused track ids that the views of a group have had."""
    return {state.numbers[camera, hand.track_id][0] for camera, hand, _ in group
            if (camera, hand.track_id) in state.numbers}


def _steps_away(group: Sequence[tuple[str, Hand, View]], state: FusionState) -> float:
    """How many NEAR_M a group is away from where the hand of its number was last; infinite without a number."""
    known = [state.places[number] for number in _numbers(group, state) if number in state.places]
    here = np.mean([view.R @ np.nanmean(view.hand.joints_m, axis=0) + view.t for _, _, view in group], axis=0)
    return min((float(np.round(np.linalg.norm(here - place) / NEAR_M)) for place in known), default=np.inf)


def _seen_joints(group: Sequence[tuple[str, Hand, View]]) -> int:
    states = np.array([_states(view) for _, _, view in group])
    return int(((states != JointState.EXTRAPOLATED) & (states != JointState.UNKNOWN)).any(0).sum())


def _cost(group: list, view: tuple[str, Hand, View], state: FusionState) -> tuple[float, float]:
    """How badly a view fits a group, and how surprising the sizes are that make it fit. What may have happened
    since its image widens the fused hand's uncertainty, but is no reason to take a hand that is further away for
    the same one."""
    ours = _numbers(group, state)
    length = next((state.lengths[number] for number in sorted(ours) if number in state.lengths), None)
    views = [*(other for _, _, other in group), view[2]]
    both = combine(views, length)
    if (both.used.sum(0) > 1).sum() < SHARED_JOINTS:        # one of them only carries its hand on
        both = combine(views, length, carried_too=True)
    if not np.isfinite(both.misfit) or both.disagreement_m > SAME_PLACE_M:
        return np.inf, np.inf
    misfit = both.misfit
    if ours & _numbers([view], state):
        misfit *= KNOWN_PAIR
    right = [other.right_probability for _, other, _ in group]
    if abs(np.mean(right) - view[1].right_probability) > _SIDE_SURE:
        misfit *= OTHER_SIDE
    return misfit, both.surprise


def _usable(hand: Hand) -> bool:
    """Whether the hand has metres, a size that hands have, and says what it is."""
    with np.errstate(invalid="ignore"):
        placed = np.isfinite(hand.joints_m).all(-1) & (hand.sigma_ray_m > 0) & (hand.sigma_across_m > 0)
    return bool(placed.any() and SHORTEST_M <= hand.hand_length_m <= LONGEST_M
                and np.isfinite([hand.score, hand.right_probability]).all())


def carried(seen: Seen, hand: Hand, stamp_ns: int) -> Hand:
    """The hand at another time than its image's, at the speed it had between the last two images; what the noise of
    both does to it widens its sigma across the ray (along it, the size is what is unsure, the same in both)."""
    before = next((other for other in seen.before if other.track_id == hand.track_id), None)
    if before is None or not SHORTEST_GAP_NS <= seen.stamp_ns - seen.before_ns <= SPEED_GAP_NS:
        return hand
    share = (stamp_ns - seen.stamp_ns) / (seen.stamp_ns - seen.before_ns)
    step = hand.joints_m - before.joints_m
    fastest = FASTEST_M_S * 1e-9 * (seen.stamp_ns - seen.before_ns)
    with np.errstate(invalid="ignore"):
        step = step * np.minimum(1.0, fastest / np.maximum(np.linalg.norm(step, axis=-1, keepdims=True), 1e-9))
        known = np.isfinite(step).all(-1) & (hand.state != JointState.EXTRAPOLATED) \
            & (before.state != JointState.EXTRAPOLATED)
    noise = np.where(known, max(float(np.hypot(1.0 + share, share)), 1.0), 1.0)         # between the two images: less
    return replace(hand, joints_m=np.where(known[:, None], hand.joints_m + share * step, hand.joints_m),
                   sigma_across_m=hand.sigma_across_m * noise)


def _measures(combination: Combination) -> bool:
    """Whether the views together, not what was assumed of each, tell the scale."""
    return len(combination.scale) > 1 and \
        combination.scale_sigma.min() < max(MEASURES_SCALE * combination.prior_sigma.min(), LENGTH_SIGMA)


def _learnt(before: Length | None, free: Combination, views: Sequence[View]) -> Length:
    """The hand's length after one more measurement, ``free`` of what was learnt before. Errors of neighbouring images
    are alike, those of the cameras' places stay, so it never gets surer than one image is, nor than LENGTH_SIGMA."""
    sigma = max(float(free.scale_sigma.min()), LENGTH_SIGMA)
    log_m = float(np.log(_length_m(free, views)))
    if before is None:
        return Length(log_m, sigma)
    return Length(before.log_m + LEARNING * (log_m - before.log_m), before.sigma + LEARNING * (sigma - before.sigma))


def _length_m(combination: Combination, views: Sequence[View]) -> float:
    return float(np.average([view.hand.hand_length_m * k for view, k in zip(views, combination.scale)],
                            weights=combination.scale_sigma**-2))


def _side(before: tuple[float, bool, int] | None, hands: Sequence[Hand], stamp_ns: int) -> tuple[float, bool, int]:
    """Log-odds of a right hand by what the cameras say together, which side it is taken for, and the stamp. As a
    camera's own track does, a hand keeps its side until the other is clearly likelier: cameras may disagree for long,
    and one of them may lose sight of it."""
    p = np.clip([hand.right_probability for hand in hands], 1e-9, 1.0 - 1e-9)
    looks = float(np.clip(np.log(p / (1.0 - p)).sum(), -VOTE_LIMIT, VOTE_LIMIT))
    if before is None:
        return looks, looks >= 0.0, stamp_ns
    odds, is_right, last_ns = before
    share = min(max(stamp_ns - last_ns, 0) * 1e-9 * VOTE_PER_S * 2.0 / VOTE_LIMIT, 1.0)
    odds = float(np.clip(odds + share * looks, -VOTE_LIMIT, VOTE_LIMIT))
    return odds, odds > -VOTE_FLIP if is_right else odds > VOTE_FLIP, stamp_ns


def _hand(combination: Combination, views: Sequence[View], own: Hand | None, number: int, measured: bool,
          side: tuple[float, bool, int]) -> Hand:
    """A Hand as one camera would report it. Pixels and box are the first camera's own, NaN if it does not see it.
    measured: several cameras have told its size, now or before. side: as of ``_side``."""
    joints, covariance = combination.joints_m, combination.covariance
    distance = np.linalg.norm(joints, axis=-1, keepdims=True)
    d = joints / np.maximum(distance, 1e-9)
    along = np.einsum("ja,jab,jb->j", d, covariance, d)
    P = np.eye(3) - d[:, :, None] * d[:, None, :]
    plane = P @ covariance @ P                              # of rank 2: its larger eigenvalue, in the worse direction
    trace, squares = np.trace(plane, axis1=1, axis2=2), (plane * plane).sum((1, 2))
    across = np.maximum(0.5 * (trace + np.sqrt(np.maximum(2.0 * squares - trace**2, 0.0))), 0.0)
    hands = [view.hand for view in views]
    states = np.where(combination.used, [_states(view) for view in views], JointState.UNKNOWN)
    state = np.take_along_axis(states, np.argsort(_BEST_FIRST[states], axis=0, kind="stable")[:1], axis=0)[0]
    confidence = np.max(np.where(combination.used, [np.nan_to_num(hand.confidence) for hand in hands], 0.0), axis=0)
    told = any(hand.scale_source in (ScaleSource.ASSUMED, ScaleSource.CALIBRATED_HAND) for hand in hands)
    measured = measured and (told or len(views) > 1)
    return Hand(score=max(hand.score for hand in hands),
                right_probability=probability(*side[:2]),
                box=own.box if own else np.full(4, np.nan),
                joints_px=own.joints_px if own else np.full((21, 2), np.nan),
                joints_m=joints, joints_rel_m=joints - joints[0],
                confidence=confidence, state=state.astype(np.uint8),
                sigma_ray_m=np.sqrt(along), sigma_across_m=np.sqrt(across),
                hand_length_m=_length_m(combination, views),
                scale_source=ScaleSource.MULTI_VIEW if measured else (own or hands[0]).scale_source, track_id=number)
