"""Lifting against its inverse, against geometry worked out by hand, and its covariance against simulated noise."""
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import hand
from test_camera import LENSES, make

from hand_pose_ros import camera as cameras
from hand_pose_ros import crop as crops
from hand_pose_ros import lift as lifting
from hand_pose_ros.lift import label, lift
from hand_pose_ros.skeleton import bone_lengths, hand_length
from hand_pose_ros.types import Crop, CropPose, JointState, ScaleSource

PINHOLE = make("pinhole")


def crop_of(camera, joints, mirrored=False, size=224) -> Crop:
    g = crops.plan(camera, crops.from_joints(cameras.project(camera, joints)), size, mirrored)
    return Crop(np.zeros((size, size, 3), np.uint8), g.K, g.R_camera_crop, g.mirrored)


def pose_of(joints, crop, rng=None, uv_sigma=1e-3, xyz_sigma=1e-4, visibility=1.0) -> CropPose:
    uv, xyz = label(joints, crop)
    if rng is not None:
        uv = uv + rng.normal(0, 1, uv.shape) * np.broadcast_to(uv_sigma, 21)[:, None]
        share = np.array([lifting.ACROSS_SHARE, lifting.ACROSS_SHARE, 1.0])
        xyz = xyz + rng.normal(0, 1, xyz.shape) * np.broadcast_to(xyz_sigma, 21)[:, None] * share
    return CropPose(uv, xyz, np.broadcast_to(uv_sigma, 21).astype(float), np.broadcast_to(xyz_sigma, 21).astype(float),
                    np.full(21, visibility), 0.99, 0.97)


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(sorted(LENSES)), right=st.booleans(), mirrored=st.booleans(), bend=st.floats(0, 1.2),
       x=st.floats(-0.2, 0.2), y=st.floats(-0.12, 0.12), z=st.floats(0.45, 2.0),
       turn=st.tuples(*[st.floats(-1.5, 1.5)] * 3), length=st.floats(0.14, 0.23))
def test_lift_undoes_label(name, right, mirrored, bend, x, y, z, turn, length):
    camera = make(name)
    joints = hand(bend=bend, length_m=length, right=right, at=(x, y, z), turn=turn)
    crop = crop_of(camera, joints, mirrored)
    lifted = lift(crop, pose_of(joints, crop), camera, length)
    assert np.abs(lifted.joints_m - joints).max() < 1e-3                     # noise-free: below one millimetre
    np.testing.assert_allclose(lifted.joints_px, cameras.project(camera, joints), atol=1e-6)
    np.testing.assert_allclose(lifted.joints_rel_m, joints - joints[0], atol=1e-3)
    assert lifted.right_probability == pytest.approx(0.03 if mirrored else 0.97)
    assert lifted.scale_source == ScaleSource.ASSUMED and hand_length(joints) == pytest.approx(length)


def test_label_of_one_joint_worked_out_by_hand():
    """Outside truth for the round trip: a hand straight ahead, crop axes equal to the camera's."""
    joints = np.zeros((21, 3)) + (0, 0, 1.0)
    joints[9:13, 1] = [-0.05, -0.1, -0.15, -0.2]                            # length 0.2 m, pointing up
    joints[4] = (0.06, -0.02, 1.02)
    crop = Crop(None, np.array([[500.0, 0, 111.5], [0, 500.0, 111.5], [0, 0, 1]]), np.eye(3), False)
    uv, xyz = label(joints, crop)
    np.testing.assert_allclose(uv[4], (111.5 + 500 * 0.06 / 1.02, 111.5 - 500 * 0.02 / 1.02))
    np.testing.assert_allclose(xyz[4], (0.3, -0.1, 0.1), atol=1e-12)
    uv_m, xyz_m = label(joints, replace(crop, mirrored=True))
    np.testing.assert_allclose(uv_m[4], (223 - uv[4, 0], uv[4, 1]))
    np.testing.assert_allclose(xyz_m[4], (-0.3, -0.1, 0.1), atol=1e-12)


def test_a_mirrored_left_hand_is_labelled_as_its_right_twin():
    left, right = hand(right=False, at=(0, 0, 0.5)), hand(right=True, at=(0, 0, 0.5))
    crop = Crop(None, np.array([[500.0, 0, 111.5], [0, 500.0, 111.5], [0, 0, 1]]), np.eye(3), False)
    for a, b in zip(label(left, replace(crop, mirrored=True)), label(right, crop)):
        np.testing.assert_allclose(a, b, atol=1e-9)


def simulate(n=300, seed=0, uv_sigma=1.5, xyz_sigma=0.03, length_sigma=0.0, z=0.7, hidden=(), **options):
    """Errors (n, 21, 3) [m] in ray axes (along, across, across), and the hands, for hands of random shape and place."""
    rng = np.random.default_rng(seed)
    errors, hands = [], []
    uv_sigmas = np.where(np.isin(np.arange(21), hidden), 8 * uv_sigma, uv_sigma)
    for _ in range(n):
        true_length = 0.186 * np.exp(rng.normal(0, length_sigma)) if length_sigma else 0.186
        joints = hand(rng, length_m=true_length, at=(*rng.uniform(-0.2, 0.2, 2), z), turn=rng.normal(0, 0.7, 3))
        crop = crop_of(PINHOLE, joints)
        lifted = lift(crop, pose_of(joints, crop, rng, uv_sigmas, xyz_sigma), PINHOLE, 0.186, **options)
        d = joints / np.linalg.norm(joints, axis=-1, keepdims=True)
        side = np.cross(d, (0, 1, 0))
        side /= np.linalg.norm(side, axis=-1, keepdims=True)
        error = lifted.joints_m - joints
        errors.append(np.stack([(error * a).sum(-1) for a in (d, side, np.cross(d, side))], -1))
        hands.append(lifted)
    return np.array(errors), hands


@pytest.mark.parametrize("options", [dict(length_sigma=0.03, scale_source=ScaleSource.CALIBRATED_HAND),
                                     dict(length_sigma=0.07),
                                     dict(length_sigma=0.07, hidden=(4, 8, 12), uv_sigma=2.5, xyz_sigma=0.06)])
def test_sigmas_are_honest(options):
    """Normalised squared errors average one: the claimed standard deviations are the real ones."""
    errors, hands = simulate(**options)
    ray = np.array([h.sigma_ray_m for h in hands])
    across = np.array([h.sigma_across_m for h in hands])
    nees_ray = (errors[..., 0]**2 / ray**2).mean()
    nees_across = (errors[..., 1:]**2 / across[..., None]**2).mean()
    # joints of one hand share the error of t and of the length: about n hands' worth of independent squares
    band = 3 * np.sqrt(2 / len(hands))
    assert 1 - band < nees_ray < 1 + band
    assert 1 - band < nees_across < 1 + band


def test_depth_error_grows_with_distance_squared():
    """A depth that is found from sizes in pixels: twice as far in the same crop-less pixels is four times as bad."""
    sigmas = []
    for z in (0.5, 1.0):
        joints = hand(at=(0, 0, z))
        g = crop_of(PINHOLE, hand(at=(0, 0, 0.5)))      # same pixels per radian: uv noise is noise of the camera
        lifted = lift(g, pose_of(joints, g, None, 2.0, 1e-4), PINHOLE, scale_source=ScaleSource.ASSUMED)
        scale = lifting.ASSUMED_LENGTH_SIGMA * np.linalg.norm(joints, axis=-1)
        sigmas.append(np.sqrt(lifted.sigma_ray_m**2 - scale**2).mean())
    assert 3.3 < sigmas[1] / sigmas[0] < 4.7


def test_unknown_hand_length_is_the_whole_error_budget_along_the_ray():
    joints = hand(at=(0, 0, 0.7))
    crop = crop_of(PINHOLE, joints)
    assumed = lift(crop, pose_of(joints, crop), PINHOLE)
    calibrated = lift(crop, pose_of(joints, crop), PINHOLE, scale_source=ScaleSource.CALIBRATED_HAND)
    assert assumed.sigma_ray_m.mean() == pytest.approx(0.07 * 0.7, rel=0.05)
    assert calibrated.sigma_ray_m.mean() == pytest.approx(0.03 * 0.7, rel=0.05)
    assert calibrated.scale_source == ScaleSource.CALIBRATED_HAND
    assert (assumed.sigma_across_m < 0.01 * assumed.sigma_ray_m).all()


def test_fused_placement_is_best():
    """The reason for step 2: nearer to the truth than either the rays or the shape alone."""
    rng = np.random.default_rng(5)
    error = {"fused": [], "on the ray": [], "rigid": []}
    uv_sigmas = np.where(np.arange(21) % 4 == 0, 12.0, 2.0)                  # wrist and tips badly seen
    for _ in range(150):
        joints = hand(rng, at=(*rng.uniform(-0.2, 0.2, 2), 0.7), turn=rng.normal(0, 0.7, 3))
        crop = crop_of(PINHOLE, joints)
        pose = pose_of(joints, crop, rng, uv_sigmas, 0.04)
        fused = lift(crop, pose, PINHOLE, 0.186)
        rays = crops.rays(crop, pose.uv)
        fit = lifting._fit(rays, pose.xyz, pose.uv_sigma / crop.K[0, 0], pose.xyz_sigma, crop.R_camera_crop)
        # with J q = M/s^2 (X + t), X + t is recovered from the fit
        rigid = np.einsum("nab,nb->na", np.linalg.inv(fit.J), fit.q)
        on_ray = rays * rigid[:, 2:]
        for name, q in (("fused", fused.joints_m), ("on the ray", on_ray @ crop.R_camera_crop.T * 0.186),
                        ("rigid", rigid @ crop.R_camera_crop.T * 0.186)):
            relative = (q - q.mean(0)) - (joints - joints.mean(0))
            error[name].append(np.linalg.norm(relative, axis=-1).mean())
    mean = {name: np.mean(values) for name, values in error.items()}
    assert mean["fused"] < 0.95 * min(mean["on the ray"], mean["rigid"]), mean


def test_one_wild_joint_does_not_move_the_hand():
    joints = hand(at=(0.05, 0, 0.6))
    crop = crop_of(PINHOLE, joints)
    pose = pose_of(joints, crop, np.random.default_rng(0), 1.0, 0.02)
    uv = pose.uv.copy()
    uv[8] += (90, -60)
    good, bad = lift(crop, pose, PINHOLE, 0.186), lift(crop, replace(pose, uv=uv), PINHOLE, 0.186)
    others = np.arange(21) != 8
    assert np.linalg.norm(good.joints_m - bad.joints_m, axis=-1)[others].max() < 0.012


def depth_image(joints, camera, noise=0.0, rng=None, inset=lifting.DEPTH_INSIDE_M):
    """A wall at 2 m and a disc of skin round each joint."""
    depth = np.full((camera.height, camera.width), 2.0, np.float32)
    v, u = np.indices(depth.shape)
    for (x, y), z in sorted(zip(cameras.project(camera, joints).tolist(), joints[:, 2]), key=lambda p: -p[1]):
        depth[(u - x)**2 + (v - y)**2 <= 36] = z - inset
    return depth if rng is None else (depth * (1 + rng.normal(0, noise, depth.shape))).astype(np.float32)


@pytest.mark.parametrize("length", [0.165, 0.186, 0.205])
def test_depth_fixes_distance_and_hand_length(length):
    rng = np.random.default_rng(3)
    joints = hand(at=(0.05, 0.02, 0.8), length_m=length, bend=0.1)
    crop = crop_of(PINHOLE, joints)
    pose = pose_of(joints, crop, rng, 1.0, 0.01)
    depth = depth_image(joints, PINHOLE, 0.01, rng, lifting.DEPTH_INSIDE_M * length / 0.186)
    depth[rng.random(depth.shape) < 0.3] = np.nan
    depth[rng.random(depth.shape) < 0.6] = 0.0
    without = lift(crop, pose, PINHOLE, 0.186)
    lifted = lift(crop, pose, PINHOLE, 0.186, depth=depth)
    assert lifted.scale_source == ScaleSource.DEPTH
    assert np.abs(lifted.joints_m - joints).max() < 0.03
    assert np.abs((lifted.joints_m - joints)[:, 2].mean()) < 0.005
    assert abs(lifted.hand_length_m - length) < 0.01
    assert lifted.sigma_ray_m.mean() < 0.35 * without.sigma_ray_m.mean()


@pytest.mark.parametrize("length, expected, source", [
    (0.12, 0.186, ScaleSource.ASSUMED), (0.14, 0.186, ScaleSource.ASSUMED), (0.225, 0.186, ScaleSource.ASSUMED),
    (0.165, 0.205, ScaleSource.CALIBRATED_HAND), (0.21, 0.165, ScaleSource.CALIBRATED_HAND)])
def test_depth_is_believed_of_a_child_and_of_another_person_than_the_calibrated_one(length, expected, source):
    rng, sources, off, told = np.random.default_rng(4), [], [], []
    for k in range(20):
        joints = hand(at=(0.05, 0.02, 0.6), length_m=length, bend=0.1)
        crop = crop_of(PINHOLE, joints)
        depth = depth_image(joints, PINHOLE, inset=lifting.DEPTH_INSIDE_M * length / 0.186)
        lifted = lift(crop, pose_of(joints, crop, rng, 2.0, 0.03), PINHOLE, expected, source, depth)
        sources.append(lifted.scale_source)
        off.append(np.median(lifted.joints_m[:, 2] / joints[:, 2]) - 1)
        told.append(lifted.hand_length_m / length - 1)
    assert set(sources) == {ScaleSource.DEPTH}, "the distance of each image would be another one"
    assert np.abs(off).max() < 0.03 and abs(np.mean(told)) < 0.07


@pytest.mark.parametrize("length", [0.08, 0.27, 0.30])
def test_depth_is_believed_of_every_size_that_is_expected(length):
    joints = hand(at=(0.05, 0.02, 0.6), length_m=length, bend=0.1)
    crop = crop_of(PINHOLE, joints)
    depth = depth_image(joints, PINHOLE, inset=lifting.DEPTH_INSIDE_M * length / 0.186)
    lifted = lift(crop, pose_of(joints, crop), PINHOLE, length, depth=depth)
    assert lifted.scale_source == ScaleSource.DEPTH and lifted.hand_length_m == pytest.approx(length, rel=0.02)


@pytest.mark.parametrize("what", ["nan", "zero", "wall", "wall near by", "something before it", "one finger"])
def test_useless_depth_is_not_used(what):
    joints = hand(at=(0.05, 0.02, 0.8))
    crop = crop_of(PINHOLE, joints)
    depth = {"nan": np.full((480, 640), np.nan), "zero": np.zeros((480, 640)), "wall": np.full((480, 640), 2.5),
             "wall near by": np.full((480, 640), 1.2), "something before it": np.full((480, 640), 0.35),
             "one finger": np.full((480, 640), np.nan)}[what].astype(np.float32)
    if what == "one finger":
        u, v = cameras.project(PINHOLE, joints[8]).round().astype(int)
        depth[v - 5:v + 5, u - 5:u + 5] = 0.8
    lifted = lift(crop, pose_of(joints, crop), PINHOLE, depth=depth)
    assert lifted.scale_source == ScaleSource.ASSUMED
    assert np.abs(lifted.joints_m - joints).max() < 1e-3


def test_degenerate_poses_are_not_metric():
    joints = hand(at=(0, 0, 0.6))
    crop = crop_of(PINHOLE, joints)
    pose = pose_of(joints, crop)
    cases = {
        "all joints in one place": replace(pose, uv=np.full((21, 2), 100.0), xyz=np.zeros((21, 3))),
        "picture upside down": replace(pose, uv=223 - pose.uv),
        "nan": replace(pose, uv=np.full((21, 2), np.nan)),
        "nothing is certain": replace(pose, uv_sigma=np.full(21, 300.0), xyz_sigma=np.full(21, 1.0)),
        "four joints": replace(pose, uv_sigma=np.where(np.arange(21) < 4, 1.0, np.nan)),
    }
    for name, bad in cases.items():
        lifted = lift(crop, bad, PINHOLE)
        assert np.isnan(lifted.joints_m).all() and lifted.scale_source == ScaleSource.NONE, name
        assert np.isnan(lifted.sigma_ray_m).all(), name


def test_a_joint_without_values_is_nan_and_the_others_are_not():
    joints = hand(at=(0, 0, 0.6))
    crop = crop_of(PINHOLE, joints)
    pose = pose_of(joints, crop)
    uv = pose.uv.copy()
    uv[7] = np.nan
    lifted = lift(crop, replace(pose, uv=uv), PINHOLE)
    good = np.arange(21) != 7
    assert np.isnan(lifted.joints_m[7]).all() and np.isnan(lifted.joints_px[7]).all()
    assert np.abs(lifted.joints_m - joints)[good].max() < 1e-3
    assert lifted.state[7] == JointState.UNKNOWN and lifted.confidence[7] == 0


def test_without_calibration_only_2d_and_shape():
    camera = replace(PINHOLE, calibrated=False)
    joints = hand(at=(0, 0, 0.6))
    crop = crop_of(camera, joints)
    lifted = lift(crop, pose_of(joints, crop), camera)
    assert np.isnan(lifted.joints_m).all() and lifted.scale_source == ScaleSource.NONE
    np.testing.assert_allclose(lifted.joints_rel_m, joints - joints[0], atol=1e-3)
    asked = lift(crop, pose_of(joints, crop), camera, metric_when_uncalibrated=True)
    assert np.isfinite(asked.joints_m).all() and asked.scale_source == ScaleSource.ASSUMED


def test_depth_says_nothing_of_a_hand_s_size_while_the_angle_of_view_is_a_guess():
    """Taken for a lens of 60 instead of 75 degrees, the hand would be a third farther off, or smaller."""
    true = cameras.assumed(640, 480, 75.0)
    camera = cameras.assumed(640, 480, 60.0)
    joints = hand(at=(0, 0, 0.6))
    px = cameras.project(true, joints)
    g = crops.plan(camera, crops.from_joints(px), 224, False)
    pose = replace(pose_of(joints, crop_of(true, joints)), uv=crops.image_to_crop(g, camera, px))
    for depth in (None, depth_image(joints, true)):
        lifted = lift(g, pose, camera, depth=depth)
        assert lifted.hand_length_m == 0.186 and lifted.scale_source == ScaleSource.NONE
        asked = lift(g, pose, camera, depth=depth, metric_when_uncalibrated=True)
        assert asked.scale_source == ScaleSource.ASSUMED


def test_states():
    joints = hand(at=(0.33, 0, 0.6))                                        # half out of the image
    crop = crop_of(PINHOLE, joints)
    pose = pose_of(joints, crop)
    visibility = np.full(21, 0.9)
    visibility[[0, 3]] = 0.2
    lifted = lift(crop, replace(pose, visibility=visibility), PINHOLE)
    outside = cameras.project(PINHOLE, joints)[:, 0] > 639.5
    assert 0 < outside.sum() < 21
    assert (lifted.state[outside] == JointState.OUTSIDE_IMAGE).all()
    inside = np.flatnonzero(~outside)
    expected = np.where(np.isin(inside, [0, 3]), JointState.SELF_OCCLUDED, JointState.VISIBLE)
    np.testing.assert_array_equal(lifted.state[inside], expected)


def test_confidence_is_the_share_of_errors_below_a_tenth_of_the_hand():
    rng = np.random.default_rng(0)
    joints = hand(at=(0, 0, 0.6))
    crop = crop_of(PINHOLE, joints)
    pose = pose_of(joints, crop, None, 9.0)
    radius = 0.1 * np.ptp(pose.uv, axis=0).max()
    share = (np.linalg.norm(rng.normal(0, 9.0, (20000, 2)), axis=-1) < radius).mean() * 0.99
    np.testing.assert_allclose(lift(crop, pose, PINHOLE).confidence, share, atol=0.01)


def test_bones_keep_their_lengths():
    joints = hand(at=(0.1, -0.05, 0.6), turn=(0.4, 0.8, 0.1))
    crop = crop_of(PINHOLE, joints)
    lifted = lift(crop, pose_of(joints, crop), PINHOLE, 0.186)
    np.testing.assert_allclose(bone_lengths(lifted.joints_m), bone_lengths(joints), rtol=0.01)


def test_depth_of_what_hides_a_joint_is_not_taken_for_the_joint():
    """A cup 6 cm before most of the hand: the network says what is hidden, depth there is the cup's."""
    joints = hand(at=(0.05, 0.02, 0.6), bend=0.1)
    crop, hidden = crop_of(PINHOLE, joints), np.arange(21) >= 8
    depth = depth_image(joints, PINHOLE)
    v, u = np.indices(depth.shape)
    for x, y in cameras.project(PINHOLE, joints)[hidden]:
        depth[(u - x)**2 + (v - y)**2 <= 49] = 0.54
    for x, y in cameras.project(PINHOLE, joints)[~hidden]:
        assert depth[round(y), round(x)] > 0.55
    pose = replace(pose_of(joints, crop), visibility=np.where(hidden, 0.1, 0.9))
    found = lift(crop, pose, PINHOLE, 0.186, depth=depth)
    assert found.scale_source == ScaleSource.DEPTH and np.abs(found.joints_m - joints).max() < 0.01


def test_a_size_taken_over_is_as_unsure_as_it_is_said():
    """Metres are proportional to the length: 3 % of it are 3 % of the distance."""
    joints = hand(at=(0.05, 0.02, 0.8))
    crop = crop_of(PINHOLE, joints)
    seen = lift(crop, pose_of(joints, crop), PINHOLE, 0.186)
    again = lifting.rescaled(seen, 0.17, 0.03, ScaleSource.CALIBRATED_HAND)
    direct = lift(crop, pose_of(joints, crop), PINHOLE, 0.17, ScaleSource.CALIBRATED_HAND)
    np.testing.assert_allclose(again.joints_m, direct.joints_m, atol=1e-9)
    np.testing.assert_allclose(again.sigma_ray_m, direct.sigma_ray_m, rtol=0.02)
    assert (again.sigma_ray_m > 0.029 * np.linalg.norm(again.joints_m, axis=-1)).all()


def test_sigmas_are_honest_with_a_depth_image_that_is_one_percent_wrong():
    rng, z = np.random.default_rng(5), []
    joints = hand(at=(0.05, 0.02, 0.8), bend=0.1)
    crop, clean = crop_of(PINHOLE, joints), depth_image(joints, PINHOLE)
    for _ in range(120):
        depth = (clean * (1 + rng.normal(0, 0.01))).astype(np.float32)       # its calibration, the same for all pixels
        found = lift(crop, pose_of(joints, crop, rng, 1.0, 0.02), PINHOLE, 0.186, depth=depth)
        assert found.scale_source == ScaleSource.DEPTH
        d = joints / np.linalg.norm(joints, axis=-1, keepdims=True)
        z.append((((found.joints_m - joints) * d).sum(-1) / found.sigma_ray_m)**2)
    assert 0.5 < np.mean(z) < 1.7
