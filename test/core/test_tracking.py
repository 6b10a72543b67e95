"""Hands over time, in loops without clocks."""
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import hand
from scipy.optimize import linear_sum_assignment
from test_camera import make

from hand_pose_ros import camera as cameras
from hand_pose_ros import tracking
from hand_pose_ros.config import Config
from hand_pose_ros.detect import iou
from hand_pose_ros.filters import one_euro
from hand_pose_ros.skeleton import bone_lengths, joint_centres, mano_joints
from hand_pose_ros.tracking import TrackerState, step
from hand_pose_ros.types import Hand, JointState, ScaleSource

CAMERA = make("pinhole")
CONFIG = Config()
MS = 1_000_000


def observed(joints, right=0.95, rng=None, noise_m=0.0, noise_px=0.0) -> Hand:
    """A Hand as lift would give it, with noise along the rays and in pixels."""
    px = cameras.project(CAMERA, joints)
    if rng is not None:
        px = px + rng.normal(0, noise_px, px.shape)
        joints = joints + rng.normal(0, noise_m, joints.shape)
    return Hand(0.9, right, np.concatenate([px.min(0), px.max(0)]), px, joints, joints - joints[0], np.ones(21),
                np.full(21, JointState.VISIBLE, np.uint8), np.full(21, 0.01), np.full(21, 0.002), 0.186,
                ScaleSource.ASSUMED)


def run(frames, dt_ms=33, start_ms=1000, config=CONFIG, state=None):
    """frames: a tuple of hands for each image. Returns the final state and a list of (filtered, raw)."""
    state, out = state or TrackerState(), []
    for k, hands in enumerate(frames):
        state, filtered, raw = step(state, tuple(hands), (start_ms + k * dt_ms) * MS, config)
        out.append((filtered, raw))
    return state, out


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_assignment_is_optimal(n, m, seed):
    cost = np.random.default_rng(seed).random((n, m)).round(1)
    pairs = tracking.assign(cost)
    rows, columns = linear_sum_assignment(cost)
    assert len(pairs) == min(n, m) == len({r for r, _ in pairs}) == len({c for _, c in pairs})
    assert sum(cost[r, c] for r, c in pairs) == pytest.approx(cost[rows, columns].sum())


def crossing(seconds=1.5, dt=1 / 30, rights=(0.95, 0.05)):
    """Two hands whose ways cross in the image, one 8 cm behind the other."""
    frames = []
    for t in np.arange(0, seconds, dt):
        x = -0.2 + 0.4 * t / seconds
        frames.append((observed(hand(at=(x, 0.01, 0.7)), rights[0]),
                       observed(hand(at=(-x, 0, 0.78), right=rights[1] > 0.5), rights[1])))
    return frames


@pytest.mark.parametrize("rights", [(0.95, 0.05), (0.95, 0.95)])
@pytest.mark.parametrize("fps", [10, 30, 60])
def test_hands_that_cross_keep_their_ids(fps, rights):
    rng = np.random.default_rng(0)
    frames = [tuple(pair[k] for k in rng.permutation(2)) for pair in crossing(dt=1 / fps, rights=rights)]
    _, out = run(frames, dt_ms=round(1000 / fps))
    first, last = ({h.track_id: h.joints_m[9, 0] for h in out[k][1]} for k in (0, -1))
    assert set(first) == set(last) == {1, 2}
    assert all(first[i] * last[i] < 0 for i in first)                        # each went to the other side


def swapped(a, b, c, d):
    """Ids of c and d after a (id 1) and b (id 2) were seen in the image before."""
    _, out = run([(a, b), (c, d)])
    by_x = sorted(out[1][1], key=lambda h: h.joints_px[9, 0])
    return [h.track_id for h in (by_x if c.joints_px[9, 0] < d.joints_px[9, 0] else by_x[::-1])]


def test_side_tells_apart_what_place_does_not():
    def at(x, right):
        return observed(hand(at=(x, 0, 0.6)), 0.95 if right else 0.05)
    assert swapped(at(-0.01, True), at(0.01, False), at(0.01, True), at(-0.01, False)) == [1, 2]
    assert swapped(at(-0.01, True), at(0.01, True), at(0.01, True), at(-0.01, True)) == [2, 1]


def test_distance_tells_apart_what_place_does_not():
    def at(x, z):                                       # of one size in pixels: a near small and a far large hand
        return observed(hand(at=(x * z, 0, z), length_m=0.3 * z))
    assert swapped(at(-0.01, 0.5), at(0.01, 0.7), at(0.01, 0.5), at(-0.01, 0.7)) == [1, 2]


def test_a_track_does_not_jump_to_a_hand_of_the_other_side_but_takes_a_wrong_side_on_the_spot():
    right = [(observed(hand(at=(0, 0, 0.6)), 0.98),)] * 10
    _, out = run([*right, (observed(hand(at=(0.1, 0, 0.6)), 0.02),)])        # a hand appears beside one that has gone
    assert out[-1][0][0].track_id == 2
    _, out = run([*right, (observed(hand(at=(0.1, 0, 0.6)), 0.98),)])        # the hand moved fast
    assert out[-1][0][0].track_id == 1
    _, out = run([*right, (observed(hand(at=(0.02, 0, 0.6)), 0.02),)])       # the network is wrong once
    assert out[-1][0][0].track_id == 1 and out[-1][0][0].is_right


def test_a_hand_at_rest_keeps_its_id_though_one_beside_it_is_lost_and_another_comes():
    """Not one pair more: the lost hand's id on the hand at rest, and that one's on the newcomer."""
    rest, lost, new = (observed(hand(at=(x, 0, 0.6))) for x in (0.0, 0.246, -0.123))
    _, out = run([(rest, lost)] * 6 + [(rest,)] * 4 + [(rest, new)] * 10)
    for hands, _ in out[-10:]:
        by_x = sorted(hands, key=lambda one: one.joints_px[9, 0])
        assert [one.track_id for one in by_x] == [3, 1]


def test_the_box_is_that_of_the_published_joints_and_the_wrist_their_origin():
    frames = [(observed(hand(at=(0.004 * k, 0, 0.6), bend=0.02 * k)),) for k in range(20)]
    for filtered, _ in run(frames)[1][1:]:
        px = filtered[0].joints_px
        np.testing.assert_allclose(filtered[0].box, [*px.min(0), *px.max(0)])
        np.testing.assert_allclose(filtered[0].joints_rel_m, filtered[0].joints_m - filtered[0].joints_m[0], atol=1e-9)


def test_one_euro_starts_anew_at_a_stamp_that_repeats():
    state = one_euro(None, np.zeros(2), 10**9, 1.0, 5.0)
    state = one_euro(state, np.ones(2), 10**9, 1.0, 5.0)
    np.testing.assert_array_equal(state.value, [1.0, 1.0])
    assert np.isfinite(one_euro(state, np.full(2, 2.0), 2 * 10**9, 1.0, 5.0).value).all()


def test_a_size_that_depth_tells_makes_the_whole_hand_anew_at_once():
    """Not its distance today and its bones in a second: what pinches would open by a fifth."""
    truth = hand(at=(0, 0, 0.7), length_m=0.155, bend=0.3)
    taken = 0.186 / 0.155
    assumed = replace(observed(truth * taken), hand_length_m=0.186)
    told = replace(observed(truth), hand_length_m=0.155, scale_source=ScaleSource.DEPTH)
    _, out = run([(assumed,)] * 15 + [(told,)] * 5)
    for filtered, raw in out[15:]:
        np.testing.assert_allclose(filtered[0].joints_m, truth, atol=0.002)
        np.testing.assert_allclose(bone_lengths(filtered[0].joints_rel_m), bone_lengths(raw[0].joints_rel_m), rtol=0.02)
        assert not (filtered[0].state == JointState.EXTRAPOLATED).any()


@pytest.mark.parametrize("source", [ScaleSource.ASSUMED, ScaleSource.CALIBRATED_HAND, ScaleSource.NONE])
@pytest.mark.parametrize("length_m", [0.13, 0.18, 0.19, 0.3])
def test_a_length_that_is_set_anew_makes_the_whole_hand_anew_with_the_next_image(source, length_m):
    """hand_length_m may change at any time. NONE: a camera without calibration, so shapes in metres and no places."""
    def taken_as(length_m):
        one = observed(hand(at=(0.1, 0, 0.7), bend=0.3) * length_m / 0.186)
        joints_m = np.full((21, 3), np.nan) if source == ScaleSource.NONE else one.joints_m
        return replace(one, hand_length_m=length_m, scale_source=source, joints_m=joints_m)
    _, out = run([(taken_as(0.186),)] * 15 + [(taken_as(length_m),)])
    (filtered,), (raw,) = out[-1]
    np.testing.assert_allclose(filtered.joints_m, raw.joints_m, atol=1e-6)
    np.testing.assert_allclose(bone_lengths(filtered.joints_rel_m), bone_lengths(raw.joints_rel_m), rtol=1e-6)
    assert not (filtered.state == JointState.EXTRAPOLATED).any()
    if source != ScaleSource.NONE:
        np.testing.assert_allclose(cameras.project(CAMERA, filtered.joints_m), filtered.joints_px, atol=1e-3)


def test_what_depth_measures_anew_with_each_image_is_smoothed():
    """The hand's length scatters with each depth image; the bones must not."""
    def told(k):
        length_m = 0.186 * (1.02 if k % 2 else 0.98)
        return replace(observed(hand(at=(0, 0, 0.7)) * length_m / 0.186), hand_length_m=length_m,
                       scale_source=ScaleSource.DEPTH)
    _, out = run([(told(k),) for k in range(30)])
    lengths = np.array([bone_lengths(filtered[0].joints_rel_m)[1:] for filtered, _ in out[15:]])
    assert (lengths.std(0) / lengths.mean(0)).max() < 0.004


def test_a_hand_lost_beside_another_is_expected_where_it_was_going_and_not_for_long():
    def scene(k, both=True):
        front = observed(hand(at=(0.08 - 0.004 * k, 0, 0.6)))
        return (front, observed(hand(at=(-0.08 + 0.004 * k, 0, 0.68), right=False), 0.05)) if both else (front,)
    state, _ = run([scene(k) for k in range(15)])
    state, _ = run([scene(k, False) for k in range(15, 18)], start_ms=state.stamp_ns // MS + 33, state=state)
    now = state.stamp_ns + 33 * MS
    (found,) = tracking.hidden(state, now)
    truth = cameras.project(CAMERA, mano_joints(hand(at=(-0.08 + 0.004 * 18, 0, 0.68), right=False)))
    assert np.abs(found.box - [*truth.min(0), *truth.max(0)]).max() < 6 and found.right_probability < 0.1
    assert not tracking.any_lost(state, now) and len(tracking.predict(state, now, CONFIG)) == 1
    late = state.tracks[1].seen_ns + int((tracking.HIDDEN_S + 0.01) * 1e9)
    assert tracking.hidden(state, late) == () and tracking.any_lost(state, late)
    assert tracking.hidden(state, 0) == tracking.hidden(state, state.stamp_ns - MS) == ()


def test_a_hand_lost_far_from_any_other_is_just_lost():
    far = (observed(hand(at=(-0.2, 0, 0.6))), observed(hand(at=(0.2, 0, 0.6))))
    state, _ = run([far] * 3 + [far[:1]])
    assert tracking.hidden(state, state.stamp_ns + 33 * MS) == ()
    assert tracking.any_lost(state, state.stamp_ns + 33 * MS)


def test_order_of_hands_in_the_list_does_not_matter():
    frames = crossing(0.5)
    _, a = run(frames)
    _, b = run([pair[::-1] for pair in frames])
    ids = {h.track_id for h in a[-1][0]}
    assert ids == {h.track_id for h in b[-1][0]}
    assert a[-1][0][0].track_id < a[-1][0][1].track_id                       # and they come out by id


def test_a_hand_comes_back_under_its_id_within_the_timeout_only():
    one = (observed(hand()),)
    for gone, same in ((10, True), (25, False)):                             # 0.33 s and 0.83 s of 0.5 s
        _, out = run([one] * 5 + [()] * gone + [one])
        assert out[5] == ((), ())                                            # nothing made up while it is gone
        assert (out[-1][0][0].track_id == 1) == same


def test_one_odd_side_does_not_flip_a_track_and_steady_evidence_flips_it_once():
    joints = hand()
    sides = [0.95] * 20 + [0.03] + [0.95] * 10 + [0.03] * 90
    _, out = run([(observed(joints, p),) for p in sides])
    shown = [o[0][0].is_right for o in out]
    assert all(shown[:40])
    assert not shown[-1] and sum(a != b for a, b in zip(shown, shown[1:])) == 1
    assert out[20][1][0].right_probability == 0.03                           # raw says what was measured
    assert all((o[0][0].right_probability >= 0.5) == right for o, right in zip(out, shown))


def test_undecided_evidence_does_not_make_a_side_flicker():
    rng = np.random.default_rng(1)
    _, out = run([(observed(hand(), p),) for p in rng.choice([0.25, 0.75], 300)])
    shown = [o[0][0].is_right for o in out]
    assert sum(a != b for a, b in zip(shown, shown[1:])) <= 4


def test_voting_takes_as_long_at_any_frame_rate():
    def seconds_to_flip(fps):
        frames = [(observed(hand(), 0.95),)] * fps + [(observed(hand(), 0.05),)] * 3 * fps
        _, out = run(frames, dt_ms=1000 // fps)
        return next(k for k, o in enumerate(out) if not o[0][0].is_right) / fps - 1
    times = [seconds_to_flip(fps) for fps in (20, 40, 50)]
    assert max(times) - min(times) < 0.1 and 0.1 < min(times) < 1.0


def wave(t):
    """A hand that moves 12 cm to and fro, turns and bends."""
    return hand(at=(0.12 * np.sin(2 * np.pi * 0.5 * t), 0.03 * np.cos(4 * t), 0.7), bend=0.5 + 0.3 * np.sin(3 * t),
                turn=(0.2 * np.sin(2 * t), 0.3 * np.sin(t), 0))


def test_the_same_motion_gives_the_same_output_at_10_30_and_60_hz():
    ends = []
    for fps in (60, 30, 10):
        stamps = np.arange(0, 3 + 1e-9, 1 / fps)
        state = TrackerState()
        for t in stamps:
            state, filtered, _ = step(state, (observed(wave(t)),), int((t + 1) * 1e9), CONFIG)
        ends.append(filtered[0])
    for other in ends[1:]:
        assert np.linalg.norm(other.joints_m - ends[0].joints_m, axis=-1).max() < 0.006
        assert np.linalg.norm(other.joints_px - ends[0].joints_px, axis=-1).max() < 5


def test_smoothing_takes_jitter_from_a_still_hand_and_adds_little_lag_to_a_fast_one():
    rng = np.random.default_rng(0)
    still = hand()
    _, out = run([(observed(still, rng=rng, noise_m=0.005, noise_px=1.0),) for _ in range(120)])
    jitter = {name: np.mean([np.std([o[k][0].joints_m for o in out[30:]], axis=0)])
              for k, name in ((0, "filtered"), (1, "raw"))}
    assert jitter["filtered"] < 0.52 * jitter["raw"]                         # of joints that all tremble by themselves
    speed = 0.5                                                              # m/s
    _, out = run([(observed(hand(at=(-0.3 + speed * k / 30, 0, 0.9))),) for k in range(30)])
    lag = [(o[1][0].joints_m - o[0][0].joints_m)[:, 0].mean() / speed for o in out[15:]]
    assert 0 <= np.mean(lag) < 0.040


def test_bones_do_not_stretch():
    rng = np.random.default_rng(0)
    _, out = run([(observed(wave(k / 30), rng=rng, noise_m=0.004, noise_px=0.5),) for k in range(90)])
    steady = [bone for bone in range(20) if bone != 0]      # the thumb's metacarpal turns behind its published base
    lengths = np.array([bone_lengths(o[0][0].joints_m)[steady] for o in out[45:]])
    raw = np.array([bone_lengths(o[1][0].joints_m)[steady] for o in out[45:]])
    assert (lengths.std(0) / lengths.mean(0)).max() < 0.15 * (raw.std(0) / raw.mean(0)).max()
    np.testing.assert_allclose([o[0][0].joints_rel_m for o in out],
                               [o[0][0].joints_m - o[0][0].joints_m[0] for o in out], atol=1e-9)


def closing(bend_deg: float) -> np.ndarray:
    """(21, 3): four fingers of constant bones, bent by so much at each joint, as they are published."""
    joints = joint_centres(hand(at=(0, 0, 0.5)))
    for knuckle in (5, 9, 13, 17):
        angle, outward = 0.0, joints[knuckle] - joints[0]
        outward /= np.linalg.norm(outward)
        for k, bone in enumerate((0.036, 0.025, 0.024)):
            angle += np.deg2rad(bend_deg)
            joints[knuckle + k + 1] = joints[knuckle + k] + bone * (np.cos(angle) * outward - np.sin(angle) * Z)
    return joints


Z = np.array([0.0, 0.0, 1.0])


@pytest.mark.parametrize("begin, end", [(2.0, 75.0), (75.0, 2.0)])
def test_a_hand_that_closes_or_opens_fast_arrives(begin, end):
    bends = [begin] * 30 + list(np.linspace(begin, end, 9)) + [end] * 15
    _, out = run([(observed(closing(bend)),) for bend in bends])
    late = np.linalg.norm(out[45][0][0].joints_rel_m - out[45][1][0].joints_rel_m, axis=-1)    # 0.2 s after it arrived
    assert late.max() < 0.001


def opposing(turn_deg: float) -> np.ndarray:
    """(21, 3): the thumb turned across the palm about a point 13 mm behind its published base."""
    joints = joint_centres(hand(at=(0, 0, 0.5)))
    along = joints[2] - joints[1]
    base = joints[1] - 0.013 * along / np.linalg.norm(along)
    c, s = np.cos(np.deg2rad(turn_deg)), np.sin(np.deg2rad(turn_deg))
    joints[1:5] = base + (joints[1:5] - base) @ np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    return joints


@pytest.mark.parametrize("begin, end", [(0.0, 45.0), (45.0, 0.0)])
def test_a_thumb_that_crosses_the_palm_fast_arrives(begin, end):
    turns = [begin] * 30 + list(np.linspace(begin, end, 9)) + [end] * 15
    _, out = run([(observed(opposing(turn)),) for turn in turns])
    late = np.linalg.norm(out[45][0][0].joints_rel_m - out[45][1][0].joints_rel_m, axis=-1)
    assert late.max() < 0.001


def test_pixels_and_metres_stay_together():
    _, out = run([(observed(wave(k / 30)),) for k in range(60)])
    for filtered, _ in out:
        gap = np.linalg.norm(cameras.project(CAMERA, filtered[0].joints_m) - filtered[0].joints_px, axis=-1)
        assert gap.max() < 4.0                                               # of a hand of 160 px


def test_a_wild_finger_is_held_and_said_and_a_lasting_one_is_believed():
    straight, bent = hand(bend=0.0), hand(bend=0.0)
    bent[8] = bent[5] + (bent[5] - bent[8]) * 0.8                             # index tip thrown to the other side
    _, out = run([(observed(straight),)] * 10 + [(observed(bent),)] + [(observed(straight),)] * 5)
    filtered = out[10][0][0]
    assert (filtered.state[5:9] == JointState.EXTRAPOLATED).all() and filtered.state[12] == JointState.VISIBLE
    assert np.linalg.norm(filtered.joints_m[8] - straight[8]) < 0.005
    assert np.linalg.norm(out[10][1][0].joints_m[8] - bent[8]) < 1e-9        # raw is raw
    _, out = run([(observed(straight),)] * 10 + [(observed(bent),)] * 30)
    assert out[-1][0][0].state[8] == JointState.VISIBLE
    assert np.linalg.norm(out[-1][0][0].joints_m[8] - bent[8]) < 0.03


def test_a_jump_in_distance_is_held():
    near, far = hand(at=(0, 0, 0.6)), hand(at=(0, 0, 0.6)) * 1.5
    _, out = run([(observed(near),)] * 10 + [(observed(far),)] + [(observed(near),)] * 3)
    assert abs(out[10][0][0].joints_m[9, 2] - 0.6) < 0.02
    assert (out[10][0][0].state == JointState.EXTRAPOLATED).all()


def test_a_backwards_jump_starts_anew_and_reuses_no_id():
    one = (observed(hand()),)
    state, _ = run([one] * 5, start_ms=10_000)
    state, out = run([one] * 2, start_ms=1_000, state=state)
    assert out[0][0][0].track_id == 2 and len(state.tracks) == 1


def test_a_repeated_stamp_filters_nothing_further():
    state, out = run([(observed(hand()),)] * 5)
    moved = observed(hand(at=(0.02, 0, 0.6)))
    again, filtered, raw = step(state, (moved,), state.stamp_ns, CONFIG)
    assert filtered[0].track_id == 1
    np.testing.assert_array_equal(filtered[0].joints_m, out[-1][0][0].joints_m)
    np.testing.assert_array_equal(raw[0].joints_m, moved.joints_m)


def test_zero_stamps_keep_ids_and_pass_values_unfiltered():
    state = TrackerState()
    for k in range(5):
        joints = hand(at=(0.02 * k, 0, 0.6))
        state, filtered, _ = step(state, (observed(joints),), 0, CONFIG)
        assert filtered[0].track_id == 1
        np.testing.assert_allclose(filtered[0].joints_m, joints, atol=1e-9)
    state, filtered, _ = step(state, (), 0, CONFIG)
    assert state.tracks == ()                                                # no clock, no waiting


def test_a_hand_without_metres_is_tracked_in_pixels():
    def flat(k):
        return replace(observed(hand(at=(0.01 * k, 0, 0.6))), joints_m=np.full((21, 3), np.nan),
                       scale_source=ScaleSource.NONE)
    _, out = run([(flat(k),) for k in range(20)])
    assert {o[0][0].track_id for o in out} == {1}
    assert np.isnan(out[-1][0][0].joints_m).all() and np.isfinite(out[-1][0][0].joints_px).all()
    _, out = run([(flat(0),)] * 3 + [(observed(hand()),)] * 10 + [(flat(0),)] * 3)       # and it may come and go
    np.testing.assert_allclose(out[8][0][0].joints_m, hand(), atol=1e-3)
    assert np.isnan(out[-1][0][0].joints_m).all()


def test_prediction_moves_on_with_the_hand():
    state, _ = run([(observed(hand(at=(-0.1 + 0.3 * k / 30, 0, 0.6))),) for k in range(20)])
    box = tracking.predict(state, state.stamp_ns + 33 * MS, CONFIG)[0].box
    truth = cameras.project(CAMERA, mano_joints(hand(at=(-0.1 + 0.3 * 20 / 30, 0, 0.6))))     # as crops want it
    np.testing.assert_allclose(box, [*truth.min(0), *truth.max(0)], atol=2.5)
    state, _ = run([()], start_ms=state.stamp_ns // MS + 33, state=state)
    assert tracking.predict(state, state.stamp_ns + 33 * MS, CONFIG) == ()
    assert tracking.any_lost(state, state.stamp_ns + 33 * MS)


def test_smoothing_puts_no_joint_behind_the_camera():
    """A smoothed distance that lags behind a hand that was almost at the camera: then the measured hand is given."""
    slow = Config(filter_min_cutoff_hz=0.01, filter_beta=0.0)
    joints = hand(bend=0, at=(0, 0, 0.4), turn=(1.2, 0, 0))
    state, _ = run([(observed(joints),)] * 3, config=slow)
    track = state.tracks[0]
    near = replace(track.distance, value=np.log([0.01]))
    state = replace(state, tracks=(replace(track, distance=near),))
    _, filtered, raw = step(state, (observed(joints),), state.stamp_ns + 33 * MS, slow)
    assert (filtered[0].joints_m[:, 2] > 0).all()
    np.testing.assert_array_equal(filtered[0].joints_m, raw[0].joints_m)


def test_nothing_is_predicted_over_a_gap_or_into_the_past():
    state, _ = run([(observed(hand()),)] * 3)
    assert tracking.predict(state, state.stamp_ns + 600 * MS, CONFIG) == ()
    assert tracking.predict(state, state.stamp_ns - MS, CONFIG) == ()
    assert len(tracking.predict(state, state.stamp_ns, CONFIG)) == len(tracking.predict(state, 0, CONFIG)) == 1


def test_config_may_be_anything_with_the_attributes():
    values = SimpleNamespace(filter_min_cutoff_hz=1.0, filter_beta=1.0, filter_derivative_cutoff_hz=1.0,
                             track_timeout_s=0.5)
    assert len(run([(observed(hand()),)] * 2, config=values)[1][-1][0]) == 1


@pytest.mark.parametrize("cutoff_hz", [0.3, 1.0, 5.0])
def test_the_speed_comes_up_with_its_own_cutoff(cutoff_hz):
    """A ramp of 1/s from rest: a first-order lag of cutoff f has 1 - exp(-2 pi f t) of it after t."""
    state = one_euro(None, np.zeros(1), 10**9, 1.0, 0.0, cutoff_hz)
    for k in range(1, 31):
        state = one_euro(state, np.array([k / 100]), 10**9 + k * 10**7, 1.0, 0.0, cutoff_hz)
    assert state.speed[0] == pytest.approx(1 - np.exp(-2 * np.pi * cutoff_hz * 0.3), abs=1e-6)


def test_prediction_does_not_run_away_from_a_hand_that_stopped_during_a_gap():
    at = [-0.2 + 0.6 * k / 30 for k in range(12)]
    state, _ = run([(observed(hand(at=(x, 0, 0.6))),) for x in at])
    box = tracking.predict(state, state.stamp_ns + 450 * MS, CONFIG)[0].box
    px = cameras.project(CAMERA, hand(at=(at[-1], 0, 0.6)))
    assert iou(box, np.concatenate([px.min(0), px.max(0)])) > 0.1
    moved = 0.5 * (box[0] + box[2]) - 0.5 * (px[:, 0].min() + px[:, 0].max())
    assert 0 < moved < 0.6 * 0.25 / 0.6 * CAMERA.K[0, 0]                    # a quarter of a second on at most


def test_an_image_without_depth_takes_the_size_from_many_images_not_from_the_last():
    rng, X, lengths = np.random.default_rng(0), hand(), {True: [], False: []}

    def seen(k):
        length = 0.17 * (1 + rng.normal(0, 0.03))
        told = replace(observed(X * length / 0.186), hand_length_m=length, scale_source=ScaleSource.DEPTH)
        return told if k % 2 else observed(X)
    state = TrackerState()
    for k in range(120):
        state, _, _ = step(state, (seen(k),), (1000 + 33 * k) * MS, CONFIG)
        if k > 40:
            lengths[bool(k % 2)].append(state.tracks[0].length_m)
    assert np.std(lengths[False]) < 0.015 * 0.17


def test_the_pixels_of_a_held_finger_are_held_too():
    straight, bent = hand(bend=0.0), hand(bend=0.0)
    bent[8] = bent[5] + (bent[5] - bent[8]) * 0.8
    _, out = run([(observed(straight),)] * 10 + [(observed(bent),)])
    found, truth = out[10][0][0], cameras.project(CAMERA, straight)
    assert found.state[8] == JointState.EXTRAPOLATED
    assert np.linalg.norm(found.joints_px[8] - truth[8]) < 6.0


def test_one_look_after_a_gap_does_not_turn_the_side_over():
    state, _ = run([(observed(hand(), 0.95),)] * 30)
    state, out = run([(observed(hand(), 0.01),)], start_ms=1000 + 29 * 33 + 480, state=state)
    assert out[0][0][0].track_id == 1 and out[0][0][0].is_right


@pytest.mark.parametrize("every", [3, 1])
@pytest.mark.parametrize("what", ["pixels", "all"])
def test_a_joint_that_nobody_knows_leaves_the_others_as_steady_as_before(every, what):
    """A fingertip beyond the lens, now and then or always."""
    def jitter(missing):
        rng, state, places = np.random.default_rng(0), TrackerState(), []
        for k in range(200):
            one = observed(hand(at=(0, 0, 0.6)), rng=rng, noise_m=0.004, noise_px=1.0)
            lacks = missing and k > 0 and k % every == 0
            if lacks:
                names = ("joints_px",) if what == "pixels" else ("joints_px", "joints_m", "joints_rel_m")
                one = replace(one, **{name: np.where(np.arange(21)[:, None] == 20, np.nan, getattr(one, name))
                                      for name in names})
            state, (filtered,), _ = step(state, (one,), (1000 + 33 * k) * MS, CONFIG)
            assert np.isnan(filtered.joints_px[20]).all() == lacks and np.isfinite(filtered.box).all()
            assert np.isnan(filtered.joints_m[20]).all() == (lacks and what == "all")
            assert np.isfinite(filtered.joints_m[:20]).all()
            places.append(np.concatenate([filtered.joints_px[5], 1e3 * filtered.joints_m[5]]))
        return np.std(places, axis=0)
    assert (jitter(True) < 1.1 * jitter(False) + 0.01).all()
