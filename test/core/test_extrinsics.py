"""Where a second camera is, from a hand that both see: against simulated cameras whose place is known."""
from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))
from test_fusion import PERIOD_NS, PLACE, pose, seen, shape  # noqa: E402
from test_gripper import joints  # noqa: E402

from hand_pose_ros import extrinsics  # noqa: E402
from hand_pose_ros.errors import ConfigError, DataError  # noqa: E402
from hand_pose_ros.frames import rotation_from_vector  # noqa: E402
from hand_pose_ros.types import JointState  # noqa: E402

IMAGES = 90


def film(camera, seed=0, late_ns=0, length_error=0.0, moves=1.0, wrong=()):
    """[(stamp, hands)] of one camera: a hand that moves and turns before it; in ``wrong`` images another hand."""
    rng, out = np.random.default_rng(seed), []
    for k in range(IMAGES):
        at_s = (k * PERIOD_NS + late_ns) * 1e-9
        turn = rotation_from_vector(np.array([0.5 * np.sin(0.9 * at_s), 0.5 * np.sin(1.3 * at_s), 0.3 * np.sin(at_s)]))
        move = moves * np.array([0.15 * np.sin(1.1 * at_s), 0.1 * np.sin(1.7 * at_s), 0.12 * np.sin(2.3 * at_s)])
        X = joints(0.4, 0.3) @ turn.T + PLACE + move
        if k in wrong:
            X = X + [0.0, -0.4, 0.1]
        out.append((10**9 + k * PERIOD_NS + late_ns, [seen(X, camera, rng, length_error)]))
    return out


def off(found, truth) -> tuple[float, float]:
    """Error of the rotation [deg] and of where the second camera puts PLACE [m]."""
    R, t = truth
    angle = np.degrees(np.arccos(np.clip((np.trace(found.R.T @ R) - 1) / 2, -1, 1)))
    return float(angle), float(np.linalg.norm(found.R @ (R.T @ (PLACE - t)) + found.t - PLACE))


@pytest.mark.parametrize("degrees", [40.0, 120.0])
def test_a_moving_hand_tells_where_the_second_camera_is(degrees):
    truth = pose(degrees)
    found = extrinsics.solve(extrinsics.pairs(film(pose(0.0), 1), film(truth, 2, late_ns=14_000_000)))
    angle, place = off(found, truth)
    assert angle < 1.0 and place < 0.012
    assert np.linalg.norm(found.t - truth[1]) < 0.03 * np.linalg.norm(truth[1]) + 0.005
    assert found.pairs >= 45 and found.disagreement_m < 0.015


def test_a_wrongly_assumed_size_scales_the_distance_and_nothing_else():
    truth = pose(60.0)
    found = extrinsics.solve(extrinsics.pairs(film(pose(0.0), 1, length_error=0.08),
                                              film(truth, 2, length_error=0.08)))
    assert off(found, truth)[0] < 1.0
    assert np.linalg.norm(found.t) == pytest.approx(np.exp(-0.08) * np.linalg.norm(truth[1]), rel=0.02)
    direction = found.t @ truth[1] / np.linalg.norm(found.t) / np.linalg.norm(truth[1])
    assert np.degrees(np.arccos(direction)) < 1.5


def test_images_in_which_the_cameras_saw_different_hands_are_left_out():
    truth = pose(60.0)
    found = extrinsics.solve(extrinsics.pairs(film(pose(0.0), 1), film(truth, 2, wrong=range(40, 52))))
    angle, place = off(found, truth)
    assert found.left_out >= 5 and angle < 1.0 and place < 0.01


def test_only_hands_that_cannot_be_confused_are_paired():
    a, b = film(pose(0.0), 1), film(pose(60.0), 2)
    assert len(extrinsics.pairs(a, b)) == IMAGES
    assert extrinsics.pairs(a, [(stamp + 10**9 * 60, hands) for stamp, hands in b]) == []
    assert extrinsics.pairs(a, [(stamp, hands * 2) for stamp, hands in b]) == []
    assert extrinsics.pairs(a, [(stamp, []) for stamp, _ in b]) == []
    rng = np.random.default_rng(0)
    left = [(stamp, [*hands, seen(joints() * [-1, 1, 1] + PLACE, pose(60.0), rng, right=0.02, track_id=2)])
            for stamp, hands in b]
    both = extrinsics.pairs(a, left)
    assert len(both) == IMAGES and all(second.is_right for _, second in both)


@pytest.mark.parametrize("first, second, words", [
    (dict(), dict(), "0 images"), (dict(moves=0.0), dict(moves=0.0), "left and right"),
    (dict(), dict(moves=-1.0), "same hand")])
def test_what_cannot_be_solved_is_said_with_the_remedy(first, second, words):
    a, b = film(pose(0.0), 1, **first), film(pose(60.0), 2, **second)
    with pytest.raises(DataError, match=words):
        extrinsics.solve([] if words == "0 images" else extrinsics.pairs(a, b))


def test_the_file_holds_every_camera_of_one_first_one(tmp_path):
    path = tmp_path / "cameras.json"
    for name, degrees in (("right", 60.0), ("top", -30.0), ("right", 90.0)):
        R, t = pose(degrees)
        extrinsics.save(path, "left", name, extrinsics.Extrinsics(R, t, 0.004, 80, 0))
    loaded = extrinsics.load(path)
    assert set(loaded) == {("left", "right"), ("left", "top")}
    for name, degrees in (("right", 90.0), ("top", -30.0)):
        for there, here in zip(pose(degrees), loaded["left", name]):
            np.testing.assert_allclose(here, there, atol=1e-6)
    extrinsics.check(path)
    extrinsics.check(path, "left")
    extrinsics.check(tmp_path / "new.json", "other")
    for refused in (lambda: extrinsics.check(path, "other"),
                    lambda: extrinsics.save(path, "other", "right", extrinsics.Extrinsics(*pose(0.0), 0.004, 80, 0))):
        with pytest.raises(ConfigError, match="relative to left, not to other"):
            refused()


@pytest.mark.parametrize("text, words", [("", "cannot be used"), ('{"kind": "x"}', "kind"), ("[]", "cannot be used"),
                                         ('{"kind": "hand_pose_ros camera extrinsics", "frame": "a", "cameras": {"b": '
                                          '{"translation_m": [1, 2], "rotation_xyzw": [0, 0, 0, 1]}}}', "anew"),
                                         ('{"kind": "hand_pose_ros camera extrinsics", "frame": "a", "cameras": {"b": '
                                          '{"translation_m": [1, 2, 3], "rotation_xyzw": [0, 0, 0, 0]}}}', "finite")])
def test_a_file_that_is_none_is_refused(tmp_path, text, words):
    (tmp_path / "x.json").write_text(text)
    for read in (extrinsics.load, extrinsics.check):
        with pytest.raises(ConfigError, match=words):
            read(tmp_path / "x.json")
    with pytest.raises(ConfigError, match="calibrate-cameras"):
        extrinsics.load(tmp_path / "none.json")


def test_a_hand_of_the_second_camera_is_moved_to_the_time_of_the_first():
    poses, rng, late = (pose(0.0), pose(60.0)), np.random.default_rng(0), 20_000_000
    X, films = shape(rng), ([], [])
    for k in range(20):
        for film, where, off in zip(films, poses, (0, late)):
            at_ns = k * PERIOD_NS + off
            film.append((10**9 + at_ns, [seen(X + [1.0 * at_ns * 1e-9, 0, 0], where, rng, noise=0.0)]))
    R, t = poses[1]
    found = extrinsics.pairs(*films)
    assert len(found) >= 18
    apart = [np.linalg.norm(b.joints_m @ R.T + t - a.joints_m, axis=-1).mean() for a, b in found[2:]]
    assert max(apart) < 0.003                                                # 1 m/s for 20 ms would be 20 mm


def test_a_flat_hand_moved_in_its_own_plane_gives_a_rotation_and_no_mirror_image():
    flat = joints(0.4, 0.0)
    flat[:, 2] = 0.0
    poses, rng, films = (pose(0.0), pose(50.0)), np.random.default_rng(0), ([], [])
    for k in range(60):
        X = flat + PLACE + [0.15 * np.sin(0.2 * k), 0.15 * np.sin(0.31 * k), 0.0]
        for film, where in zip(films, poses):
            film.append((10**9 + k * PERIOD_NS, [seen(X, where, rng, noise=0.02)]))
    found = extrinsics.solve(extrinsics.pairs(*films))
    assert np.linalg.det(found.R) == pytest.approx(1.0, abs=1e-6) and off(found, poses[1])[0] < 1.0


def test_a_hand_that_only_goes_to_and_fro_on_a_line_is_not_enough():
    poses, rng, films = (pose(0.0), pose(60.0)), np.random.default_rng(0), ([], [])
    for k in range(60):
        X = joints(0.4, 0.3) + PLACE + [0.3 * np.sin(0.2 * k), 0, 0]
        for film, where in zip(films, poses):
            film.append((10**9 + k * PERIOD_NS, [seen(X, where, rng, noise=0.2)]))
    with pytest.raises(DataError, match="left and right, up and down"):
        extrinsics.solve(extrinsics.pairs(*films))


def test_hands_that_are_only_carried_on_are_not_paired():
    a, b = film(pose(0.0), 1), film(pose(60.0), 2)
    guessed = [(stamp, [replace(one, state=np.full(21, JointState.EXTRAPOLATED, np.uint8)) for one in hands])
               for stamp, hands in b]
    assert extrinsics.pairs(a, guessed) == [] and extrinsics.pairs(guessed, a) == []
