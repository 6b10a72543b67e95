"""Identity and smoothing over time: a pure step, so that behaviour over time is tested in loops without clocks.

Identity: hands are matched to tracks by where the track is expected, how far away it is and which side it is, all pairs
at once with the least total cost, so that hands that cross keep their ids. Side: evidence adds up over the track
as log-odds, and turns over only when the other side has clearly won. Smoothing: One-Euro (Casiez et al. CHI 2012, in
filters.py) on four parts of a hand with one cutoff each: where it is in the image, its distance, and the shape of each
finger in pixels and in metres; then bones get their smoothed lengths back. So a hand does not stretch, and noise along
the viewing ray, which is the largest, does not reach the pixels.

Stamps: one that is earlier than the last resets all tracks (a bag that starts again). The same stamp again is the same
instant: ids are given, nothing is filtered further. Stamp 0 means that the time is unknown: hands are matched by place
and pass unfiltered, and a hand that is gone is forgotten at once.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hand_pose_ros import crop as crops
from hand_pose_ros.filters import OneEuroState, one_euro
from hand_pose_ros.lift import CALIBRATED_LENGTH_SIGMA, rescaled
from hand_pose_ros.skeleton import BONES, FINGERTIPS, NUM_JOINTS, WRIST, bone_lengths, mano_joints
from hand_pose_ros.types import Detection, Hand, JointState, ScaleSource

PALM = (0, 5, 9, 13, 17)
"""Joints whose mean is the place of a hand: fingers do not move it."""
FARTHEST = 1.0
"""A hand further than this many of its sizes from where a track is expected is another hand."""
FARTHEST_PER_S = 4.0
"""The same grows by this per second since the track was last seen."""
FARTHEST_OTHER_SIDE = 0.4
"""Share of the reach that is left for a hand that is of the other side for certain: a wrong side on the spot is a
mistake of the network, a wrong side further off is the other hand."""
HIDDEN_S = 0.3
"""A hand that was lost beside another one is looked for where it should be for this long: the other may hide it."""
SIDE_WEIGHT = 0.8
DISTANCE_WEIGHT = 1.0
"""Cost, in hand sizes, of being of the other side for certain, and of a distance off by a factor of e."""
VOTE_LIMIT = 8.0
"""Log-odds of a side stop here, so that a wrong side can be voted out in a second."""
VOTE_FLIP = 2.0
"""Log-odds that the other side needs before the side of a track changes."""
VOTE_PER_S = 6.0
"""Independent looks per second that the images count as, however fast they come."""
FASTEST_FINGER = 16.0
"""Hand lengths per second (about 3 m/s) that a fingertip can move against its palm; above, it is held."""
FASTEST_LOG_DISTANCE = 6.0
"""Change of the logarithm of the distance per second that is believed; above, the distance is held."""
HOLD_S = 0.12
"""A value that stays implausible for longer is the truth."""
BONE_CUTOFF_HZ = 0.3
TOLD_ANEW = 0.03
"""A hand whose size is told by something else than before, and by this share otherwise, is made anew at that size."""
LENGTH_LEARNING = 0.1
"""Share of a newly measured hand length that a track takes over: neighbouring images have the same errors."""

_PARENTS, _CHILDREN = np.array(BONES).T
_THUMB_BASE = BONES.index((WRIST, 1))
"""The one bone whose length changes as the hand moves: the thumb's metacarpal turns behind its published end."""
_FINGER_OF_JOINT = np.array([0, *np.repeat(np.arange(5), 4)])          # the wrist goes with the thumb; it is the origin


@dataclass(frozen=True, eq=False)
class Track:
    """One hand over time."""

    track_id: int
    raw: Hand                                       # as last measured
    hand: Hand                                      # filtered
    seen_ns: int                                    # stamp of the last measurement
    log_odds: float                                 # that it is a right hand
    is_right: bool
    place: OneEuroState | None                      # (4,) palm in pixels, palm x/z and y/z
    distance: OneEuroState | None                   # (1,) logarithm of the palm's z [m]
    shape_px: OneEuroState | None                   # (21, 2) pixels relative to the palm
    shape_m: OneEuroState | None                    # (21, 3) metres relative to the wrist
    bones: OneEuroState | None                      # (20,) metres
    trusted_ns: np.ndarray                          # (6,) stamps of the last believed fingers and distance
    length_m: float = float("nan")                  # of the hand, as depth images have measured it; NaN: none yet


@dataclass(frozen=True, eq=False)
class TrackerState:
    """All tracks, those lost for less than track_timeout_s included."""

    tracks: tuple[Track, ...] = ()
    stamp_ns: int = 0
    next_id: int = 1


def step(state: TrackerState, hands: tuple[Hand, ...], stamp_ns: int, config
         ) -> tuple[TrackerState, tuple[Hand, ...], tuple[Hand, ...]]:
    """One image further. Returns the state, the hands filtered and the same hands as measured, both with track ids.

    config: filter_min_cutoff_hz, filter_beta, filter_derivative_cutoff_hz, track_timeout_s. Only hands that were seen
    in this image come out. A joint that was held against an implausible jump has state EXTRAPOLATED.
    """
    hands = tuple(hand for hand in hands if np.isfinite(hand.joints_px[list(PALM)]).all())
    if 0 < stamp_ns < state.stamp_ns:
        state = replace(state, tracks=())
    timed = stamp_ns > 0 and state.stamp_ns > 0
    timeout_ns = int(config.track_timeout_s * 1e9)
    tracks = tuple(t for t in state.tracks if not timed or stamp_ns - t.seen_ns <= timeout_ns)
    pairs = dict(match(tracks, hands, stamp_ns if timed else 0))
    updated, next_id = [], state.next_id
    for j, hand in enumerate(hands):
        if j in pairs:
            updated.append(_update(tracks[pairs[j]], hand, stamp_ns, timed, config))
        else:
            updated.append(_start(next_id, hand, stamp_ns))
            next_id += 1
    updated.sort(key=lambda track: track.track_id)
    lost = [t for k, t in enumerate(tracks) if k not in pairs.values() and stamp_ns > 0]
    return (TrackerState((*updated, *lost), stamp_ns, next_id), tuple(t.hand for t in updated),
            tuple(t.raw for t in updated))


def predict(state: TrackerState, stamp_ns: int, config) -> tuple[Detection, ...]:
    """Where the hands that were seen in the last image should be now: boxes for the next crops, without a detector.

    Nothing if the last image is longer ago than config.track_timeout_s, or the clock went back.
    """
    if stamp_ns and not 0 <= stamp_ns - state.stamp_ns <= config.track_timeout_s * 1e9 and state.stamp_ns:
        return ()
    return tuple(_detection(t, stamp_ns) for t in state.tracks if t.seen_ns == state.stamp_ns)


def hidden(state: TrackerState, stamp_ns: int) -> tuple[Detection, ...]:
    """Where hands should be now that were lost at most HIDDEN_S ago beside one that is still seen and may hide them.

    The longest seen first. Nothing for stamp 0, which does not tell how long ago.
    """
    return tuple(_detection(t, stamp_ns) for t in _hidden(state, stamp_ns))


def any_lost(state: TrackerState, stamp_ns: int) -> bool:
    """Whether a hand that was followed was not seen in the last image, and is not one of those in ``hidden`` either."""
    lost = sum(t.seen_ns != state.stamp_ns for t in state.tracks)
    return lost > len(_hidden(state, stamp_ns))


def _hidden(state: TrackerState, stamp_ns: int) -> list[Track]:
    if not stamp_ns or not state.stamp_ns or stamp_ns < state.stamp_ns:
        return []
    seen = [t for t in state.tracks if t.seen_ns == state.stamp_ns]
    lost = [t for t in state.tracks if t.seen_ns != state.stamp_ns and stamp_ns - t.seen_ns <= HIDDEN_S * 1e9]
    return [t for t in lost if any(_beside(t, other, stamp_ns) for other in seen)]


def _beside(a: Track, b: Track, stamp_ns: int) -> bool:
    """Whether the middles of two hands are less than a hand size apart."""
    boxes = [_detection(t, stamp_ns).box for t in (a, b)]
    apart = np.linalg.norm(boxes[0][:2] + boxes[0][2:] - boxes[1][:2] - boxes[1][2:]) / 2
    return bool(apart < np.mean([np.max(box[2:] - box[:2]) for box in boxes]))


def match(tracks: tuple[Track, ...], hands: tuple[Hand, ...], stamp_ns: int) -> list[tuple[int, int]]:
    """Pairs (hand, track) of least total cost, those too far apart left out. stamp_ns 0: without prediction.

    A hand without a track costs as much as the worst pair there may be: where it came from nobody knows, and a hand
    that lies on its track must not be moved to another one for the sake of one pair more.
    """
    if not tracks or not hands:
        return []
    cost = np.array([[_cost(track, hand, stamp_ns) for track in tracks] for hand in hands])
    allowed = np.isfinite(cost)
    if not allowed.any():
        return []
    alone = np.full((len(hands), len(hands)), cost[allowed].max() + 1e-6)       # but two that fit nothing else do pair
    return [(j, k) for j, k in assign(np.hstack([np.where(allowed, cost, 1e6), alone]))
            if k < len(tracks) and allowed[j, k]]


def assign(cost: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (row, column) of least total cost, each row and column at most once. cost: (n, m) finite.

    The Hungarian method with potentials and shortest augmenting paths, O(n^2 m) (Kuhn 1955; Jonker, Volgenant 1987).
    """
    if cost.shape[0] > cost.shape[1]:
        return sorted((row, column) for column, row in assign(cost.T))
    n, m = cost.shape
    rows, columns = [0.0] * (n + 1), [0.0] * (m + 1)
    owner = [0] * (m + 1)                               # row of each column, counted from 1; 0: free
    values = cost.tolist()
    for row in range(1, n + 1):
        owner[0], column = row, 0
        best, before, done = [np.inf] * (m + 1), [0] * (m + 1), [False] * (m + 1)
        while owner[column]:
            done[column], here, delta, following = True, owner[column], np.inf, 0
            for c in range(1, m + 1):
                if done[c]:
                    continue
                reduced = values[here - 1][c - 1] - rows[here] - columns[c]
                if reduced < best[c]:
                    best[c], before[c] = reduced, column
                if best[c] < delta:
                    delta, following = best[c], c
            for c in range(m + 1):
                if done[c]:
                    rows[owner[c]] += delta
                    columns[c] -= delta
                else:
                    best[c] -= delta
            column = following
        while column:
            owner[column], column = owner[before[column]], before[column]
    return sorted((owner[c] - 1, c - 1) for c in range(1, m + 1) if owner[c])


def _cost(track: Track, hand: Hand, stamp_ns: int) -> float:
    """How badly a hand fits a track, in hand sizes; infinite if it cannot be the same hand."""
    expected = _expected_px(track, stamp_ns)
    size = max(np.max(track.raw.box[2:] - track.raw.box[:2]), np.max(hand.box[2:] - hand.box[:2]), 1.0)
    squares = ((expected - hand.joints_px)**2).sum(-1)
    known = squares[np.isfinite(squares)]
    apart = float(np.sqrt(known.mean())) / size if len(known) else np.inf
    gap_s = max(stamp_ns - track.seen_ns, 0) * 1e-9 if stamp_ns else 0.0
    other_side = 0.0
    if np.isfinite(hand.right_probability):
        other_side = abs(probability(track.log_odds, track.is_right) - hand.right_probability)
    reach = FARTHEST + FARTHEST_PER_S * gap_s
    if not apart <= reach * (1.0 - (1.0 - FARTHEST_OTHER_SIDE) * other_side):
        return np.inf
    apart += SIDE_WEIGHT * other_side
    z, before = _palm_z(hand), _palm_z(track.raw)
    if z > 0 and before > 0:
        apart += DISTANCE_WEIGHT * min(abs(np.log(z / before)), 1.0)
    return apart


def _detection(track: Track, stamp_ns: int) -> Detection:
    """Where a track should be, with MANO's joints that the networks learnt: their crops are made of these."""
    px = mano_joints(_expected_px(track, stamp_ns))
    return crops.from_joints(px, track.hand.score, probability(track.log_odds, track.is_right))


def _expected_px(track: Track, stamp_ns: int) -> np.ndarray:
    """Joints (21, 2) where the track should be at this stamp: as last measured, moved on at the smoothed speed."""
    gap_s = min(max(stamp_ns - track.seen_ns, 0) * 1e-9, 0.2) if stamp_ns and track.seen_ns else 0.0
    return track.raw.joints_px + (track.place.speed[:2] * gap_s if track.place is not None else 0.0)


def _palm_z(hand: Hand) -> float:
    return float(np.mean(hand.joints_m[list(PALM), 2]))


def probability(log_odds: float, is_right: bool) -> float:
    """Probability of a right hand, on the side that the track is taken for."""
    p = 1.0 / (1.0 + np.exp(-log_odds))
    return float(max(p, 0.5) if is_right else min(p, 0.4999))


def _evidence(hand: Hand) -> float:
    """Log-odds of one look, not more certain than 1 in 50."""
    p = hand.right_probability
    if np.isnan(p):
        return 0.0
    return float(np.clip(np.log(p / (1 - p)), -4, 4)) if 0 < p < 1 else 4.0 if p >= 1 else -4.0


def _start(track_id: int, hand: Hand, stamp_ns: int) -> Track:
    odds = _evidence(hand)
    raw = replace(hand, track_id=track_id)
    hand, length_m = _of_known_length(hand, float("nan"))
    track = Track(track_id, raw, raw, stamp_ns, odds, odds >= 0, None, None, None, None, None, np.full(6, stamp_ns),
                  length_m)
    filtered = _filter(track, hand, stamp_ns, None)
    return replace(filtered, hand=replace(raw, right_probability=probability(odds, odds >= 0)))


def _update(track: Track, hand: Hand, stamp_ns: int, timed: bool, config) -> Track:
    raw = replace(hand, track_id=track.track_id)
    if timed and stamp_ns == track.seen_ns:
        return replace(track, raw=raw)
    looks = min((stamp_ns - track.seen_ns) * 1e-9 * VOTE_PER_S, 1.0) if timed else 0.5
    odds = float(np.clip(track.log_odds + looks * _evidence(hand), -VOTE_LIMIT, VOTE_LIMIT))
    is_right = odds > -VOTE_FLIP if track.is_right else odds > VOTE_FLIP
    hand, length_m = _of_known_length(hand, track.length_m)
    if hand.scale_source != track.hand.scale_source:
        track = _at_length(track, hand.hand_length_m, TOLD_ANEW)
    elif hand.scale_source != ScaleSource.DEPTH:        # no measurement, so that only a setting changes it
        track = _at_length(track, hand.hand_length_m, 0.0)
    track = replace(track, raw=raw, log_odds=odds, is_right=is_right, length_m=length_m)
    if not timed or not track.seen_ns:                  # no measured time step: start the filters anew
        out = _filter(replace(track, place=None, distance=None, shape_px=None, shape_m=None, bones=None,
                              trusted_ns=np.full(6, stamp_ns)), hand, stamp_ns, None)
    else:
        out = _filter(track, hand, stamp_ns, config)
    return replace(out, hand=replace(out.hand, right_probability=probability(odds, is_right)), seen_ns=stamp_ns)


def _at_length(track: Track, length_m: float, least: float) -> Track:
    """The track as if its hand had always been taken to be this long, if that is another length by more than the share
    ``least``: bones, pose and distance have changed together, and filtered each at its own pace they would say for a
    second what is no hand."""
    ratio = length_m / track.hand.hand_length_m
    if not (np.isfinite(ratio) and ratio > 0 and abs(np.log(ratio)) > least):
        return track
    scaled = {name: replace(kept, raw=ratio * kept.raw, value=ratio * kept.value, speed=ratio * kept.speed)
              for name in ("shape_m", "bones") if (kept := getattr(track, name)) is not None}
    if track.distance is not None:                      # without a calibrated camera there is none
        scaled["distance"] = replace(track.distance, raw=track.distance.raw + np.log(ratio),
                                     value=track.distance.value + np.log(ratio))
    return replace(track, **scaled)


def _of_known_length(hand: Hand, length_m: float) -> tuple[Hand, float]:
    """The hand with the size that depth has told of its track, and that size with what this image's depth adds.

    Depth may come with every second image, or stay away for a while: a hand whose size was assumed again in between
    would jump by what the assumption is wrong, and a robot that follows it, too.
    """
    if hand.scale_source == ScaleSource.DEPTH:
        known = hand.hand_length_m
        return hand, known if np.isnan(length_m) else length_m + LENGTH_LEARNING * (known - length_m)
    if np.isnan(length_m) or hand.scale_source not in (ScaleSource.ASSUMED, ScaleSource.CALIBRATED_HAND):
        return hand, length_m
    return rescaled(hand, length_m, CALIBRATED_LENGTH_SIGMA, ScaleSource.CALIBRATED_HAND), length_m


def _filter(track: Track, hand: Hand, stamp_ns: int, config) -> Track:
    """The track with its filters one sample further and .hand rebuilt from them. config None: start them."""
    palm = list(PALM)
    raw = replace(hand, track_id=track.track_id)
    seen, shaped = (np.isfinite(joints).all(-1) for joints in (hand.joints_px, hand.joints_rel_m))
    if not (seen & shaped)[palm].all() or track.shape_m is None and not shaped.all():
        return replace(track, hand=raw, place=None, distance=None, shape_px=None, shape_m=None, bones=None)
    metric = bool(np.isfinite(hand.joints_m[palm]).all())
    palm_px, palm_m = hand.joints_px[palm].mean(0), hand.joints_m[palm].mean(0)
    # A joint that nobody knows, as beyond the lens, goes along with the hand; the others are filtered all the same.
    shape_m = hand.joints_rel_m if shaped.all() else \
        np.where(shaped[:, None], hand.joints_rel_m, track.shape_m.value - track.shape_m.value[WRIST])
    shape_px = hand.joints_px - palm_px
    if not seen.all():
        shape_px[~seen] = (_guessed_px(shape_px, shape_m) if track.shape_px is None else track.shape_px.value)[~seen]
    lengths = bone_lengths(shape_m)
    log_z = np.log(palm_m[2:]) if metric else np.full(1, np.nan)
    shape_px, shape_m, log_z, held, trusted_ns = _hold(track, shape_px, shape_m, log_z, stamp_ns, hand.hand_length_m)
    size = max(np.max(hand.box[2:] - hand.box[:2]), 1.0)
    place = np.array([*palm_px, *(palm_m[:2] / palm_m[2] if metric else (0.0, 0.0))])

    def smooth(before, signal, speed_of):
        if config is None or before is None or before.raw.shape != signal.shape or not np.isfinite(before.value).all():
            return one_euro(None, signal, stamp_ns, 1.0, 0.0)
        return one_euro(before, signal, stamp_ns, config.filter_min_cutoff_hz, config.filter_beta,
                        config.filter_derivative_cutoff_hz, speed_of)

    def per_finger(unit):
        def speed_of(rate):                             # (21, n) -> (21, 1): all joints of a finger go with its tip
            tips = np.linalg.norm(rate[list(FINGERTIPS)], axis=-1) / unit
            palm_rate = np.linalg.norm(rate[list(PALM)], axis=-1).max() / unit
            return np.maximum(tips, palm_rate)[_FINGER_OF_JOINT][:, None]
        return speed_of

    was_metric = track.distance is not None and np.isfinite(track.distance.value).all()
    if metric and not was_metric and track.place is not None:
        track = replace(track, place=None, distance=None)
    f_place = smooth(track.place, place, lambda rate: np.linalg.norm(rate[:2]) / size)
    f_distance = smooth(track.distance, log_z, lambda rate: np.abs(rate)
                        * (palm_m[2] / hand.hand_length_m)) if metric else None
    f_px = smooth(track.shape_px, shape_px, per_finger(size))
    f_m = smooth(track.shape_m, shape_m, per_finger(hand.hand_length_m))
    f_bones = one_euro(track.bones, lengths, stamp_ns, BONE_CUTOFF_HZ, 0.0) if config else \
        one_euro(None, lengths, stamp_ns, BONE_CUTOFF_HZ, 0.0)

    joints_px = f_place.value[:2] + f_px.value - f_px.value[palm].mean(0)
    bones = f_bones.value.copy()
    bones[_THUMB_BASE] = np.linalg.norm(f_m.value[_CHILDREN[_THUMB_BASE]] - f_m.value[_PARENTS[_THUMB_BASE]])
    relative = with_bone_lengths(f_m.value, bones)
    relative -= relative[WRIST]
    joints_m = np.full((NUM_JOINTS, 3), np.nan)
    if metric:
        z = np.exp(f_distance.value[0])
        joints_m = np.array([*f_place.value[2:] * z, z]) + relative - relative[palm].mean(0)
        if joints_m[:, 2].min() <= 0:                   # lag of a hand that is nearly at the camera: no place for it
            return replace(track, hand=raw, place=None, distance=None, shape_px=None, shape_m=None, bones=None)
    joints_px[~seen], relative[~shaped] = np.nan, np.nan
    joints_m[~np.isfinite(hand.joints_m).all(-1)] = np.nan
    box = np.concatenate([joints_px[seen].min(0), joints_px[seen].max(0)])
    state = np.where(held & seen & shaped, np.uint8(JointState.EXTRAPOLATED), hand.state).astype(np.uint8)
    filtered = replace(raw, joints_px=joints_px, joints_m=joints_m, joints_rel_m=relative, box=box, state=state)
    return replace(track, hand=filtered, place=f_place, distance=f_distance, shape_px=f_px, shape_m=f_m,
                   bones=f_bones, trusted_ns=trusted_ns)


def _guessed_px(shape_px: np.ndarray, shape_m: np.ndarray) -> np.ndarray:
    """Pixels (21, 2) from the palm's middle that a hand of shape (21, 3) [m] has about, by the size of its palm."""
    palm = list(PALM)
    flat = shape_m[:, :2] - shape_m[palm, :2].mean(0)
    return flat * (np.linalg.norm(shape_px[palm]) / max(np.linalg.norm(flat[palm]), 1e-9))


def with_bone_lengths(joints: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The same bone directions from the same wrist, with these bone lengths: (21, 3), (20,) -> (21, 3)."""
    bones = joints[_CHILDREN] - joints[_PARENTS]
    before = np.sqrt((bones * bones).sum(-1))
    bones *= np.where(before > 1e-9, lengths / np.maximum(before, 1e-9), 0.0)[:, None]
    fingers = joints[WRIST] + bones.reshape(5, 4, 3).cumsum(axis=1)         # the bones of a finger follow each other
    return np.concatenate([joints[WRIST][None], fingers.reshape(20, 3)])


def _hold(track: Track, shape_px, shape_m, log_z, stamp_ns: int, hand_length_m: float):
    """Replaces fingers and a distance that jumped faster than they can by their last ones, for at most HOLD_S.

    Returns the three signals, which joints are held (21,), and the stamps (6,) at which each was last believed.
    """
    trusted_ns, held = track.trusted_ns.copy(), np.zeros(NUM_JOINTS, bool)
    gap_s = (stamp_ns - track.seen_ns) * 1e-9
    if track.shape_m is None or track.shape_px is None or not 0 < gap_s < HOLD_S:
        return shape_px, shape_m, log_z, held, np.full(6, stamp_ns)
    shape_px, shape_m = shape_px.copy(), shape_m.copy()
    young = (stamp_ns - trusted_ns) * 1e-9 < HOLD_S
    for finger, tip in enumerate(FINGERTIPS):
        joints = slice(1 + 4 * finger, 5 + 4 * finger)
        jump = np.linalg.norm(shape_m[tip] - track.shape_m.raw[tip]) / hand_length_m
        if jump > 0.25 and jump > FASTEST_FINGER * gap_s and young[finger]:
            shape_m[joints], shape_px[joints] = track.shape_m.raw[joints], track.shape_px.raw[joints]
            held[joints] = True
        else:
            trusted_ns[finger] = stamp_ns
    if track.distance is not None and np.isfinite(log_z).all():
        jump = abs(float(log_z[0] - track.distance.raw[0]))
        if jump > 0.15 and jump > FASTEST_LOG_DISTANCE * gap_s and young[5]:
            log_z, held = track.distance.raw, np.ones(NUM_JOINTS, bool)
        else:
            trusted_ns[5] = stamp_ns
    return shape_px, shape_m, log_z, held, trusted_ns
