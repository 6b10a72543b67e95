"""Fusion of several cameras against simulated cameras whose errors are known: scale, uncertainty, identity, time."""
from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))
from test_gripper import joints  # noqa: E402

from hand_pose_ros import fusion  # noqa: E402
from hand_pose_ros.frames import rotation_from_vector  # noqa: E402
from hand_pose_ros.types import Hand, JointState, ScaleSource  # noqa: E402

PLACE = np.array([0.0, 0.0, 0.8])
ACROSS_M, ALONG_M, FIT = 0.004, 0.009, 0.02
PERIOD_NS = 33_000_000


def pose(degrees: float) -> fusion.Pose:
    """A camera that looks at PLACE from another side, as far away as the first one."""
    R = rotation_from_vector(np.array([0.0, np.deg2rad(degrees), 0.0]))
    return R, PLACE - R @ PLACE


def seen(X: np.ndarray, camera: fusion.Pose, rng, length_error: float = 0.0, track_id: int = 1, right: float = 0.95,
         noise: float = 1.0, **changes) -> Hand:
    """The hand with joints X (21, 3), in the first camera's frame, as this camera reports it: a true size that differs
    from the assumed one by ``length_error`` (log), and noise of which it knows the size."""
    R, t = camera
    p = (X - t) @ R
    d = p / np.linalg.norm(p, axis=-1, keepdims=True)
    off = rng.normal(0, ACROSS_M, p.shape)
    off += d * (rng.normal(0, ALONG_M, (21, 1)) - (off * d).sum(-1, keepdims=True))
    p = (p + noise * off) * np.exp(-length_error + noise * rng.normal(0, FIT))
    length_sigma = 0.03 if changes.get("scale_source") == ScaleSource.CALIBRATED_HAND else 0.07
    sigma = np.sqrt(ALONG_M**2 + (np.linalg.norm(p, axis=-1) * np.hypot(length_sigma, FIT))**2)
    values = dict(score=0.9, right_probability=right, box=np.array([0.0, 0, 9, 9]), joints_px=rng.normal(size=(21, 2)),
                  joints_m=p, joints_rel_m=p - p[0], confidence=np.full(21, 0.8),
                  state=np.full(21, JointState.VISIBLE, np.uint8), sigma_ray_m=sigma,
                  sigma_across_m=np.full(21, ACROSS_M), hand_length_m=0.186, scale_source=ScaleSource.ASSUMED,
                  track_id=track_id)
    return Hand(**{**values, **changes})


def shape(rng) -> np.ndarray:
    """Some hand near PLACE, in any attitude."""
    return joints(rng.uniform(0.1, 0.6), rng.uniform()) @ rotation_from_vector(rng.normal(0, 1, 3)).T + PLACE \
        + rng.normal(0, 0.04, 3)


def error(hand: Hand, X: np.ndarray) -> float:
    return float(np.linalg.norm(hand.joints_m - X, axis=-1).mean())


def fuse_once(hands: dict, poses: dict, config=fusion.FusionConfig(), state=fusion.FusionState(), stamp_ns=10**9):
    for camera, of_camera in hands.items():
        state = fusion.observe(state, camera, stamp_ns, of_camera)
    return fusion.fuse(state, stamp_ns, poses, config)


@pytest.mark.parametrize("degrees, share", [(20.0, 0.25), (45.0, 0.2), (90.0, 0.2), (180.0, 0.25)])
def test_cameras_from_two_sides_measure_the_size_that_one_can_only_assume(degrees, share):
    rng, alone, together, squared, lengths = np.random.default_rng(0), [], [], [], []
    for _ in range(150):
        X, length_error = shape(rng), rng.normal(0, 0.07)
        poses = {"a": pose(0.0), "b": pose(degrees)}
        hands = {name: [seen(X, where, rng, length_error)] for name, where in poses.items()}
        _, (fused,) = fuse_once(hands, poses, fusion.FusionConfig(extrinsics_sigma_m=0.0))
        assert fused.cameras == ("a", "b") and fused.hand.scale_source == ScaleSource.MULTI_VIEW
        alone.append(error(hands["a"][0], X))
        together.append(error(fused.hand, X))
        off = fused.hand.joints_m - X
        squared.append(np.einsum("ja,jab,jb->j", off, np.linalg.inv(fused.combination.covariance), off).mean() / 3)
        lengths.append(np.log(fused.hand.hand_length_m / 0.186) - length_error)
    assert np.mean(together) < share * np.mean(alone)
    assert 0.85 < np.mean(squared) < 1.25                   # the covariance tells the error that is left
    assert np.std(lengths) < 0.03 and abs(np.mean(lengths)) < 0.01


def test_one_line_of_sight_measures_nothing_and_says_so():
    rng, kept = np.random.default_rng(1), []
    for _ in range(100):
        X, length_error = shape(rng), rng.normal(0, 0.07)
        poses = {"a": pose(0.0), "b": pose(0.0)}
        hands = {name: [seen(X, where, rng, length_error)] for name, where in poses.items()}
        _, (fused,) = fuse_once(hands, poses)
        assert fused.hand.scale_source == ScaleSource.ASSUMED
        assert np.all(fused.hand.sigma_ray_m > 0.9 * 0.07 * np.linalg.norm(fused.hand.joints_m, axis=-1))
        kept.append(error(fused.hand, X) - error(hands["a"][0], X))
    assert abs(np.mean(kept)) < 0.005                       # neither drawn nearer nor pushed away


def test_one_view_is_what_that_camera_said():
    rng = np.random.default_rng(2)
    poses = {"a": pose(0.0), "b": pose(60.0)}
    X = shape(rng)
    own = seen(X, poses["a"], rng, 0.05)
    _, (fused,) = fuse_once({"a": [own], "b": []}, poses, fusion.FusionConfig(extrinsics_sigma_m=0.0))
    np.testing.assert_allclose(fused.hand.joints_m, own.joints_m, atol=1e-6)
    np.testing.assert_allclose(fused.hand.joints_rel_m, own.joints_rel_m, atol=1e-6)
    np.testing.assert_allclose(fused.hand.sigma_ray_m, own.sigma_ray_m, rtol=0.05)
    np.testing.assert_allclose(fused.hand.sigma_across_m, own.sigma_across_m, rtol=0.05)
    assert fused.hand.scale_source == ScaleSource.ASSUMED and fused.hand.hand_length_m == pytest.approx(0.186)
    assert fused.hand.joints_px is own.joints_px and fused.hand.box is own.box
    other = seen(X, poses["b"], rng)
    _, (fused,) = fuse_once({"a": [], "b": [other]}, poses)
    np.testing.assert_allclose(fused.hand.joints_m, other.joints_m @ poses["b"][0].T + poses["b"][1], atol=1e-6)
    assert np.isnan(fused.hand.joints_px).all() and np.isnan(fused.hand.box).all()     # the first camera has no pixels


def test_each_camera_more_leaves_less_uncertainty_and_a_lost_one_gives_it_back():
    rng = np.random.default_rng(3)
    poses = {"a": pose(0.0), "b": pose(40.0), "c": pose(-50.0)}
    X = shape(rng)
    hands = {name: [seen(X, where, rng, 0.05)] for name, where in poses.items()}
    sigmas = []
    for names in ("a", "ab", "abc", "ac", "a"):
        state, (fused,) = fuse_once({name: hands[name] for name in names}, poses)
        sigmas.append(np.sqrt(np.trace(fused.combination.covariance, axis1=1, axis2=2)).mean())
    assert sigmas[0] > 3 * sigmas[1] > 3 * sigmas[2] and sigmas[3] < sigmas[4] == sigmas[0]


@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_cameras_that_are_not_synchronised_meet_at_one_time(speed):
    """The second camera's image is 16 ms older: at 1 m/s that is 16 mm, which must not end up in the hand."""
    rng, poses = np.random.default_rng(4), {"a": pose(0.0), "b": pose(70.0)}
    X, state, errors = shape(rng), fusion.FusionState(), []
    for k in range(12):
        for name, at_ns in (("b", k * PERIOD_NS - 16_000_000), ("a", k * PERIOD_NS)):
            moved = X + np.array([speed, 0.0, 0.0]) * at_ns * 1e-9
            state = fusion.observe(state, name, 10**9 + at_ns, [seen(moved, poses[name], rng, 0.05, noise=0.0)])
        state, (fused,) = fusion.fuse(state, 10**9 + k * PERIOD_NS, poses)
        errors.append(error(fused.hand, X + np.array([speed, 0.0, 0.0]) * k * PERIOD_NS * 1e-9))
    assert max(errors[2:]) < 0.004
    _, (late,) = fusion.fuse(state, 10**9 + 12 * PERIOD_NS, poses)          # nothing new came: carried on, less sure
    assert np.all(late.hand.sigma_across_m > 1.5 * fused.hand.sigma_across_m)


@pytest.mark.parametrize("behind", [1, 3, 10])
def test_hands_that_come_late_are_joined_by_the_other_cameras_of_their_own_time(behind):
    """A slower computer, an IP camera: what the other one saw meanwhile is no reason to forget what it saw then."""
    rng, poses, state = np.random.default_rng(5), {"a": pose(0.0), "b": pose(60.0)}, fusion.FusionState()
    X, errors = shape(rng), []
    for k in range(30):
        state = fusion.observe(state, "b", 10**9 + (k + behind) * PERIOD_NS, [seen(
            X + [0.02 * (k + behind), 0, 0], poses["b"], rng, 0.08)])
        if k < behind:
            continue
        moved = X + [0.02 * k, 0, 0]
        state = fusion.observe(state, "a", 10**9 + k * PERIOD_NS, [seen(moved, poses["a"], rng, 0.08)])
        state, (fused,) = fusion.fuse(state, 10**9 + k * PERIOD_NS, poses)
        errors.append(error(fused.hand, moved))
        assert fused.cameras == ("a", "b")
    assert np.mean(errors) < 0.015
    assert len(state.cameras["b"]) <= 1e9 / PERIOD_NS + 2                    # and what is remembered has an end


def test_what_two_cameras_found_out_stays_when_one_loses_sight():
    """A child's hand, 20 % smaller than assumed: alone a camera puts it 16 cm too far away. It must not jump there."""
    rng, poses, small = np.random.default_rng(12), {"a": pose(0.0), "b": pose(60.0)}, np.log(0.8)
    X, state, off = shape(rng), fusion.FusionState(), []
    for k in range(40):
        for name, where in poses.items():
            if name == "a" or not 20 <= k < 30:
                state = fusion.observe(state, name, 10**9 + k * 3 * PERIOD_NS, [seen(X, where, rng, small)])
        state, (fused,) = fusion.fuse(state, 10**9 + k * 3 * PERIOD_NS, poses, fusion.FusionConfig(max_skew_s=0.05))
        assert fused.cameras == (("a",) if 20 <= k < 30 else ("a", "b"))
        assert fused.hand.scale_source == ScaleSource.MULTI_VIEW and fused.hand.track_id == 1
        off.append(error(fused.hand, X))
        assert abs(np.log(fused.hand.hand_length_m / 0.186) - small) < 0.06
    assert max(off[:20]) < 0.02 and np.mean(off[20:30]) < 0.03 and max(off[20:30]) < 0.06
    assert error(seen(X, poses["a"], rng, small), X) > 0.1
    assert state.lengths[1].sigma == pytest.approx(fusion.LENGTH_SIGMA)
    alone = fused.hand.sigma_ray_m
    state = fusion.observe(state, "a", 2 * 10**10, [seen(X, poses["a"], rng, small, track_id=9)])
    state, (other,) = fusion.fuse(state, 2 * 10**10, poses)                 # another track may be another person
    assert other.hand.scale_source == ScaleSource.ASSUMED and np.all(other.hand.sigma_ray_m > 2 * alone)
    assert 1 not in state.lengths                                           # forgotten with its track


def film(poses, images, where, late=(), lost=(), **changes):
    """The tracks [(cameras, number, wrist)] of each image: ``where``(k) gives {camera: [(X, track id), ...]}; camera
    "b" does not send in images ``late``, camera "a" sees nothing in images ``lost``."""
    rng, state, out = np.random.default_rng(20), fusion.FusionState(), []
    for k in range(images):
        for name, hands in where(k).items():
            if name == "b" and k in late:
                continue
            hands = [] if name == "a" and k in lost else hands
            state = fusion.observe(state, name, 10**9 + k * PERIOD_NS, [
                seen(X, poses[name], rng, track_id=number, **changes) for X, number in hands])
        state, fused = fusion.fuse(state, 10**9 + k * PERIOD_NS, poses)
        out.append([(one.cameras, one.hand.track_id, one.hand.joints_m[0]) for one in fused])
    return out


@pytest.mark.parametrize("apart_m", [0.12, 0.25])
def test_a_bystander_never_gets_the_operators_number(apart_m):
    """The second camera loses images, so that its hands may be anywhere, and then the first one loses the operator."""
    X = joints(0.4, 0.3) + PLACE
    out = film({"a": pose(0.0), "b": pose(60.0)}, 45, lambda k: {
        "a": [(X, 1)], "b": [(X + [0.0, apart_m, 0.0], 2)]}, late=(28, 29, 31), lost=range(33, 45))
    operator = {number for hands in out[:28] for cameras, number, _ in hands if "a" in cameras}
    assert len(operator) == 1
    for hands in out:
        for cameras, number, wrist in hands:
            assert number not in operator or np.linalg.norm(wrist - X[0]) < 0.1, (cameras, wrist - X[0])


@pytest.mark.parametrize("off_ms, carried_on", [(-80, True), (-30, False), (30, False), (80, True)])
def test_a_hand_far_from_the_time_asked_for_is_carried_on_whether_before_or_after_it(off_ms, carried_on):
    rng = np.random.default_rng(0)
    state = fusion.observe(fusion.FusionState(), "b", 10**9, [seen(shape(rng), pose(60.0), rng)])
    _, (fused,) = fusion.fuse(state, 10**9 + off_ms * 1_000_000, {"a": pose(0.0), "b": pose(60.0)})
    assert ((fused.hand.state == JointState.EXTRAPOLATED).all()) == carried_on
    np.testing.assert_allclose(fused.hand.joints_rel_m, fused.hand.joints_m - fused.hand.joints_m[0], atol=1e-12)


def _two_hands(images):
    """images: what cameras "a" and "b" see, as (at the second place, track id, states) each. The fused hands of each
    image as (number, at the second place), and how far apart the places are."""
    rng = np.random.default_rng(3)
    X, poses, state, out = shape(rng), {"a": pose(0.0), "b": pose(60.0)}, fusion.FusionState(), []
    places = X, X + [0.25, 0.0, 0.0]
    for k, of_cameras in enumerate(images):
        hands = {name: [seen(places[there], poses[name], rng, track_id=track, noise=0.2, **changes)
                        for there, track, changes in of_cameras[name]] for name in poses}
        state, fused = fuse_once(hands, poses, state=state, stamp_ns=10**9 + k * PERIOD_NS)
        out.append({one.hand.track_id: bool(error(one.hand, places[1]) < error(one.hand, places[0])) for one in fused})
    return out


def test_a_cameras_track_that_comes_back_elsewhere_takes_no_number_from_the_hand_that_has_it():
    out = _two_hands([{"a": [(0, 3, {})], "b": [(0, 7, {})]}] * 10 + [{"a": [(0, 5, {})], "b": [(0, 7, {})]}] * 10
                     + [{"a": [(1, 3, {}), (0, 5, {})], "b": [(0, 7, {})]}] * 20)
    assert out[19] == {1: False} and all(hands == {1: False, 2: True} for hands in out[20:])


def test_of_views_that_part_the_one_that_stays_keeps_the_number_also_with_a_finger_carried_on():
    states = np.full(21, JointState.VISIBLE, np.uint8)
    states[17:] = JointState.EXTRAPOLATED
    out = _two_hands([{"a": [(0, 3, {})], "b": [(0, 7, {})]}] * 20 + [{"a": [(0, 3, {"state": states})],
                                                                      "b": [(1, 7, {})]}]
                     + [{"a": [(0, 3, {})], "b": [(1, 7, {})]}] * 20)
    assert all(hands == {1: False, 2: True} for hands in out[20:])


@pytest.mark.parametrize("share", [-3.0, -2.0, -0.5, 0.0, 2.0])
def test_a_hand_carried_to_another_time_is_as_unsure_as_the_noise_of_both_images_makes_it(share):
    """Monte Carlo is the outside truth; between the two images the noise of one is claimed, which is more."""
    rng = np.random.default_rng(0)
    X, found = shape(rng), []
    for _ in range(300):
        before, now = (seen(X, pose(0.0), rng, sigma_across_m=np.full(21, 0.002)) for _ in range(2))
        noise = rng.normal(0, 0.002, (2, 21, 3))
        before, now = replace(before, joints_m=X + noise[0]), replace(now, joints_m=X + noise[1])
        past = fusion.Seen(2 * 10**9, (now,), 2 * 10**9 - PERIOD_NS, (before,))
        found.append(fusion.carried(past, now, 2 * 10**9 + int(share * PERIOD_NS)))
    true = np.std([one.joints_m - X for one in found])
    claimed = found[0].sigma_across_m.mean()
    assert claimed == pytest.approx(max(true, 0.002), rel=0.05)


def test_two_numbers_of_one_hand_become_one_when_it_fits_for_long_enough():
    """Two cameras whose hands were too far apart to be one, by a transform that was mended meanwhile."""
    X = joints(0.4, 0.3) + PLACE
    out = film({"a": pose(0.0), "b": pose(60.0)}, 30, lambda k: {
        "a": [(X, 1)], "b": [(X + [0.0, 0.3 if k < 10 else 0.0, 0.0], 2)]})
    assert all(len(hands) == 2 for hands in out[:10])
    assert [len(hands) for hands in out[10:]] == [2] * (fusion.CONFIRMED - 1) + [1] * (21 - fusion.CONFIRMED)
    assert out[-1][0][:2] == (("a", "b"), 1)


def test_a_hand_that_one_camera_only_carries_on_stays_one_hand_with_its_number():
    rng, poses = np.random.default_rng(21), {"a": pose(0.0), "b": pose(60.0)}
    X, state = shape(rng), fusion.FusionState()
    for k in range(6):
        for name, where in poses.items():
            carried_on = name == "a" and k >= 3
            state = fusion.observe(state, name, 10**9 + k * PERIOD_NS, [seen(
                X, where, rng, state=np.full(21, JointState.EXTRAPOLATED if carried_on else JointState.VISIBLE,
                                             np.uint8))])
        state, fused = fusion.fuse(state, 10**9 + k * PERIOD_NS, poses)
        assert [(one.hand.track_id, one.cameras) for one in fused] == [(1, ("a", "b"))]
        assert (fused[0].hand.state == JointState.VISIBLE).all() and error(fused[0].hand, X) < 0.04


def test_what_is_only_carried_on_is_never_called_visible():
    rng, poses = np.random.default_rng(22), {"a": pose(0.0), "b": pose(60.0)}
    X = shape(rng)
    a, b = (seen(X, where, rng) for where in poses.values())
    lost, state = a.joints_m.copy(), b.state.copy()
    lost[8], state[8] = np.nan, JointState.EXTRAPOLATED                     # a says visible, but not where
    _, (fused,) = fuse_once({"a": [replace(a, joints_m=lost)], "b": [replace(b, state=state)]}, poses)
    assert fused.hand.state[8] == JointState.EXTRAPOLATED and fused.hand.state[7] == JointState.VISIBLE
    state[:] = JointState.EXTRAPOLATED
    _, (fused,) = fuse_once({"a": [replace(a, state=state, confidence=np.full(21, 0.8))],
                             "b": [replace(b, confidence=np.full(21, 0.02))]}, poses)
    assert (fused.hand.confidence == 0.02).all()                            # of the camera that has a part in it
    old = fusion.observe(fusion.FusionState(), "b", 10**9, [b])
    old = fusion.observe(old, "a", 10**9 + 80_000_000, [])
    _, (fused,) = fusion.fuse(old, 10**9 + 80_000_000, poses)               # nobody saw it in this image
    assert (fused.hand.state == JointState.EXTRAPOLATED).all()


@pytest.mark.parametrize("degrees", [10.0, 20.0, 45.0])
def test_what_is_wrong_with_a_cameras_place_does_not_average_away_over_the_joints(degrees):
    rng, squared, lengths = np.random.default_rng(23), [], []
    for _ in range(60):
        poses = {"a": pose(0.0), "b": pose(degrees)}
        X = shape(rng)
        hands = {name: [seen(X, where, rng)] for name, where in poses.items()}
        R, t = poses["b"]
        state, (fused,) = fuse_once(hands, {"a": poses["a"], "b": (R, t + rng.normal(0, 0.01, 3))},
                                    fusion.FusionConfig(extrinsics_sigma_m=0.01))
        off = fused.hand.joints_m - X
        squared.append(np.einsum("ja,jab,jb->j", off, np.linalg.inv(fused.combination.covariance), off).mean() / 3)
        if state.lengths:
            lengths.append((np.log(fused.hand.hand_length_m / 0.186)) / state.lengths[1].sigma)
    assert 0.5 < np.mean(squared) < 1.4
    assert len(lengths) < 5 or np.sqrt(np.mean(np.square(lengths))) < 1.5


def test_views_disagree_by_what_a_cameras_place_is_wrong_also_where_that_is_expected():
    rng, R, t = np.random.default_rng(28), *pose(60.0)
    X = shape(rng)
    views = [fusion.View(seen(X, pose(0.0), rng, noise=0.0), *pose(0.0)),
             fusion.View(seen(X, (R, t), rng, noise=0.0), R, t + [0.0, 0.06, 0.0], sigma_m=0.2)]
    together = fusion.combine(views)
    assert together.misfit < 0.1 and together.disagreement_m == pytest.approx(0.06, abs=0.01)
    right = fusion.combine([views[0], fusion.View(views[1].hand, R, t, sigma_m=0.2)])
    assert right.disagreement_m < 0.002


def test_a_calibrated_hand_does_not_jump_either_when_one_camera_loses_sight():
    rng, poses = np.random.default_rng(24), {"a": pose(0.0), "b": pose(60.0)}
    X, state, off = shape(rng), fusion.FusionState(), []
    for k in range(24):
        for name, where in poses.items():
            if name == "a" or k < 15:
                state = fusion.observe(state, name, 10**9 + k * 4 * PERIOD_NS, [
                    seen(X, where, rng, 0.06, scale_source=ScaleSource.CALIBRATED_HAND)])
        state, (fused,) = fusion.fuse(state, 10**9 + k * 4 * PERIOD_NS, poses)
        off.append(error(fused.hand, X))
    assert max(off[:15]) < 0.02 and np.mean(off[15:]) < 0.03


def test_calibrated_cameras_on_one_line_of_sight_measure_nothing():
    rng, places = np.random.default_rng(25), {name: pose(0.0) for name in "abcd"}
    X = shape(rng)
    hands = {name: [seen(X, where, rng, scale_source=ScaleSource.CALIBRATED_HAND)] for name, where in places.items()}
    _, (fused,) = fuse_once(hands, places)
    assert fused.hand.scale_source == ScaleSource.CALIBRATED_HAND


@pytest.mark.parametrize("change", [dict(hand_length_m=float("nan")), dict(hand_length_m=0.0), dict(hand_length_m=-0.1),
                                    dict(score=float("nan")), dict(right_probability=float("nan"))])
def test_a_hand_that_does_not_say_what_it_is_is_left_out(change):
    rng, poses = np.random.default_rng(26), {"a": pose(0.0), "b": pose(60.0)}
    X = shape(rng)
    state, (fused,) = fuse_once({"a": [seen(X, poses["a"], rng)], "b": [seen(X, poses["b"], rng, **change)]}, poses)
    assert fused.cameras == ("a",) and not state.lengths


def test_images_in_quick_succession_and_jumps_tell_no_speed():
    rng, pose_a = np.random.default_rng(27), {"a": pose(0.0)}
    X = shape(rng)
    for gap_ns, jump_m, most_m in ((3_000_000, 0.0, 0.02), (PERIOD_NS, 3.0, 0.25)):
        state = fusion.observe(fusion.FusionState(), "a", 10**9 - gap_ns, [seen(X - [jump_m, 0, 0], pose_a["a"], rng)])
        now = seen(X, pose_a["a"], rng)
        state = fusion.observe(state, "a", 10**9, [now])
        _, (fused,) = fusion.fuse(state, 10**9 + 50_000_000, pose_a)
        assert np.linalg.norm(fused.hand.joints_m - now.joints_m, axis=-1).max() < most_m


def test_hands_keep_their_numbers_while_they_cross_and_while_one_camera_is_blind():
    rng, poses = np.random.default_rng(5), {"a": pose(0.0), "b": pose(60.0)}
    shapes = [joints(0.4, 0.1) + PLACE, joints(0.2, 0.9) + PLACE]
    state, seen_as = fusion.FusionState(), []
    for k in range(60):
        at = np.array([0.2 - 0.4 * k / 59, 0.0, 0.0])
        X = [shapes[0] + at + [0.0, 0.07, 0.0], shapes[1] - at - [0.0, 0.07, 0.0]]
        for name, order in (("a", (0, 1)), ("b", (1, 0))):
            hands = [seen(X[i], poses[name], rng, 0.03, track_id=10 * (name == "b") + i + 1) for i in order]
            if name == "a" and 15 <= k < 25:
                hands = hands[:1]                                           # the second hand is hidden from it
            state = fusion.observe(state, name, 10**9 + k * PERIOD_NS, hands)
        state, fused = fusion.fuse(state, 10**9 + k * PERIOD_NS, poses)
        assert len(fused) == 2
        nearest = [int(np.argmin([error(one.hand, x) for x in X])) for one in fused]
        assert sorted(nearest) == [0, 1] and max(error(one.hand, X[i]) for one, i in zip(fused, nearest)) < 0.1
        seen_as.append(tuple(one.hand.track_id for i, one in sorted(zip(nearest, fused), key=lambda pair: pair[0])))
        if not 15 <= k < 25:
            assert all(one.cameras == ("a", "b") for one in fused)
    assert len(set(seen_as)) == 1


def test_views_that_do_not_meet_stay_two_hands():
    """Transforms that are 0.25 m wrong: better two hands that are unsure than one in the middle of nowhere."""
    rng, poses = np.random.default_rng(6), {"a": pose(0.0), "b": pose(60.0)}
    X = shape(rng)
    hands = {name: [seen(X, where, rng)] for name, where in poses.items()}
    R, t = poses["b"]
    _, fused = fuse_once(hands, {"a": poses["a"], "b": (R, t + [0.0, 0.25, 0.0])})
    assert [one.cameras for one in fused] == [("a",), ("b",)]
    assert fused[0].hand.track_id != fused[1].hand.track_id


def test_old_images_and_hands_without_metres_are_left_out():
    rng, poses = np.random.default_rng(7), {"a": pose(0.0), "b": pose(60.0)}
    X = shape(rng)
    state = fusion.observe(fusion.FusionState(), "b", 10**9, [seen(X, poses["b"], rng)])
    state = fusion.observe(state, "a", 10**9 + 110_000_000, [seen(X, poses["a"], rng)])
    _, (fused,) = fusion.fuse(state, 10**9 + 110_000_000, poses)
    assert fused.cameras == ("a",)
    _, (fused,) = fusion.fuse(state, 10**9 + 110_000_000, {"a": poses["a"]})           # no transform: not used
    assert fused.cameras == ("a",)
    blind = seen(X, poses["b"], rng, joints_m=np.full((21, 3), np.nan), sigma_ray_m=np.full(21, np.nan))
    _, (fused,) = fuse_once({"a": [seen(X, poses["a"], rng)], "b": [blind]}, poses)
    assert fused.cameras == ("a",) and np.isfinite(fused.hand.joints_m).all()
    assert fuse_once({"a": [], "b": [blind]}, poses)[1] == ()


def test_a_joint_that_one_camera_does_not_see_comes_from_the_other():
    rng, poses = np.random.default_rng(8), {"a": pose(0.0), "b": pose(60.0)}
    X = shape(rng)
    a, b = (seen(X, where, rng) for where in poses.values())
    lost, state = a.joints_m.copy(), a.state.copy()
    lost[8] = np.nan                                                        # not known at all
    lost[12] += 0.3                                                         # carried on from long ago, and wrong
    state[8], state[12], state[16] = JointState.UNKNOWN, JointState.EXTRAPOLATED, JointState.SELF_OCCLUDED
    _, (fused,) = fuse_once({"a": [replace(a, joints_m=lost, state=state)], "b": [b]}, poses)
    assert np.linalg.norm(fused.hand.joints_m[[8, 12]] - X[[8, 12]], axis=-1).max() < 0.05
    assert list(fused.hand.state[[8, 12, 16]]) == [JointState.VISIBLE] * 3
    assert fused.hand.sigma_ray_m[8] > fused.hand.sigma_ray_m[7]


def test_a_joint_that_one_of_three_cameras_misreads_is_outvoted():
    rng, poses = np.random.default_rng(9), {"a": pose(0.0), "b": pose(50.0), "c": pose(-50.0)}
    off = []
    for _ in range(40):
        X = shape(rng)
        hands = {name: [seen(X, where, rng)] for name, where in poses.items()}
        wrong = hands["b"][0].joints_m.copy()
        wrong[8, :2] += 0.08
        hands["b"] = [replace(hands["b"][0], joints_m=wrong)]
        _, fused = fuse_once(hands, poses)
        assert fused[0].cameras == ("a", "b", "c")
        off.append(np.linalg.norm(fused[0].hand.joints_m[8] - X[8]))
    assert np.median(off) < 0.02                                            # the mean of the three would be 0.04


def test_left_and_right_side_by_side_are_told_apart_by_their_side():
    rng, poses = np.random.default_rng(10), {"a": pose(0.0), "b": pose(30.0)}
    X = joints(0.4, 0.2) + PLACE
    left, right = X * [-1, 1, 1] + [0.03, 0.0, 0.0], X + [-0.03, 0.0, 0.0]
    sides = {name: [seen(right, where, rng, right=0.95), seen(left, where, rng, right=0.05, track_id=2)]
             for name, where in poses.items()}
    _, fused = fuse_once(sides, poses)
    assert sorted((one.hand.is_right, one.cameras) for one in fused) == [(False, ("a", "b")), (True, ("a", "b"))]


def test_a_recording_that_starts_again_begins_anew_without_using_numbers_twice():
    rng, poses = np.random.default_rng(11), {"a": pose(0.0), "b": pose(60.0)}
    X = shape(rng)
    state, (before,) = fuse_once({name: [seen(X, where, rng)] for name, where in poses.items()}, poses,
                                 stamp_ns=5 * 10**9)
    state = fusion.observe(state, "a", 10**9, [seen(X, poses["a"], rng)])
    state, (after,) = fusion.fuse(state, 10**9, poses)
    assert after.cameras == ("a",) and after.hand.track_id != before.hand.track_id


def test_no_view_is_an_error_and_no_hand_an_empty_answer():
    with pytest.raises(ValueError, match="no view"):
        fusion.combine([])
    assert fuse_once({"a": [], "b": []}, {"a": pose(0.0), "b": pose(60.0)})[1] == ()


def test_hands_that_fit_only_now_and_then_stay_two():
    X = joints(0.4, 0.3) + PLACE
    out = film({"a": pose(0.0), "b": pose(60.0)}, 60, lambda k: {
        "a": [(X, 1)], "b": [(X + [0.0, 0.0 if k % 4 == 3 else 0.3, 0.0], 2)]})
    assert all(len(hands) == 2 for hands in out)


def test_a_bad_image_does_not_part_two_views_of_one_hand():
    rng, poses = np.random.default_rng(3), {"a": pose(0.0), "b": pose(60.0)}
    X, counts = shape(rng), []
    for trial in range(15):
        state = fusion.FusionState()
        for k in range(10):
            for name, where in poses.items():
                state = fusion.observe(state, name, 10**9 + k * PERIOD_NS, [
                    seen(X, where, rng, noise=4.5 if k == 9 and name == "b" else 1.0)])
            state, out = fusion.fuse(state, 10**9 + k * PERIOD_NS, poses)
        counts.append(len(out))
    assert counts == [1] * 15


def test_a_size_that_was_measured_stays_with_a_hand_that_becomes_one_with_an_older_number():
    """Number 2, which b and c have measured, becomes one with number 1 of a, which looks along b's line of sight."""
    rng, small = np.random.default_rng(30), np.log(0.92)
    poses = {"a": pose(0.0), "b": pose(0.0), "c": pose(60.0)}
    X, state, lengths = shape(rng), fusion.FusionState(), []
    for k in range(40):
        off = np.array([0, 0.3 if k < 20 else 0.0, 0])                       # a's hand first seems to be another one
        for name, where in poses.items():
            if name != "c" or k < 20:
                state = fusion.observe(state, name, 10**9 + k * PERIOD_NS, [
                    seen(X + (off if name == "a" else 0), where, rng, small)])
        state, out = fusion.fuse(state, 10**9 + k * PERIOD_NS, poses, fusion.FusionConfig(max_skew_s=0.02))
        lengths.append(next(one for one in out if "b" in one.cameras).hand.hand_length_m)
    assert len(out) == 1 and out[0].cameras == ("a", "b") and out[0].hand.track_id == 1
    np.testing.assert_allclose(np.log(np.array(lengths[10:]) / 0.186), small, atol=0.03)


def test_a_side_that_two_cameras_dispute_does_not_flicker():
    rng, poses, sides = np.random.default_rng(1), {"a": pose(0.0), "b": pose(60.0)}, []
    state, X = fusion.FusionState(), shape(rng)
    for k in range(60):
        sure = 1.0 / (1.0 + np.exp(-np.clip(rng.normal(8, 1.5, 2), 2.5, 8)))
        hands = {"a": [seen(X, poses["a"], rng, right=sure[0])], "b": [seen(X, poses["b"], rng, right=1.0 - sure[1])]}
        if k > 40:
            del hands["a" if k % 2 else "b"]                        # one camera alone is no reason at once, either
        state, fused = fuse_once(hands, poses, state=state, stamp_ns=10**9 + k * PERIOD_NS)
        sides += [one.hand.is_right for one in fused if one.hand.track_id == 1]
    assert len(sides) >= 50 and sum(a != b for a, b in zip(sides, sides[1:])) <= 1


def test_a_side_that_all_cameras_change_changes_within_a_second_and_a_half():
    rng, poses, sides = np.random.default_rng(2), {"a": pose(0.0), "b": pose(60.0)}, []
    state, X = fusion.FusionState(), shape(rng)
    for k in range(90):
        right = 0.98 if k < 30 else 0.02
        hands = {name: [seen(X, where, rng, right=right)] for name, where in poses.items()}
        state, (one,) = fuse_once(hands, poses, state=state, stamp_ns=10**9 + k * PERIOD_NS)
        sides.append(one.hand.is_right)
    assert all(sides[:30]) and not any(sides[90 - 15:]) and sum(a != b for a, b in zip(sides, sides[1:])) == 1


def test_sigma_across_is_that_of_the_worse_direction():
    """Seen by the second camera alone, from the side: its unsure distance lies across the first one's ray."""
    rng, off, said = np.random.default_rng(1), [], []
    poses = {"a": pose(0.0), "b": pose(90.0)}
    for _ in range(200):
        X = shape(rng)
        _, (one,) = fuse_once({"a": [], "b": [seen(X, poses["b"], rng, rng.normal(0, 0.07))]}, poses)
        off.append((one.hand.joints_m - X)[:, 0])
        said.append(one.hand.sigma_across_m.mean())
    assert 0.85 < np.sqrt(np.mean(np.square(off))) / np.mean(said) < 1.15


@pytest.mark.parametrize("degrees, offset_m", [(12.0, 0.005), (20.0, 0.005), (45.0, 0.02)])
def test_a_learnt_size_makes_the_views_that_measure_it_no_surer(degrees, offset_m):
    """The errors of a hand's images, and of the cameras' places, are alike in all of them: measuring the size again and
    again does not make them go away."""
    squared, config = [], fusion.FusionConfig(extrinsics_sigma_m=offset_m)
    for seed in range(120):
        rng = np.random.default_rng(seed)
        X, true = shape(rng), {"a": pose(0.0), "b": pose(degrees)}
        length_error = rng.normal(0, 0.07)
        views = {name: [seen(X, where, rng, length_error)] for name, where in true.items()}
        poses = {"a": true["a"], "b": (true["b"][0], true["b"][1] + rng.normal(0, offset_m, 3))}
        state = fusion.FusionState()
        for k in range(4):
            state, fused = fuse_once(views, poses, config, state, 10**9 + k * PERIOD_NS)
        if len(fused) > 1:
            continue
        d = X / np.linalg.norm(X, axis=-1, keepdims=True)
        along = ((fused[0].hand.joints_m - X) * d).sum(-1)
        squared.append(((along / fused[0].hand.sigma_ray_m)**2).mean())
    assert len(squared) > 100 and np.mean(squared) < 1.1
