"""Labels must sit where the picture shows the joint: checked by painting joints and looking for the paint."""
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import standin_hands
import torch

from hand_pose_ros import crop as crops
from hand_pose_ros import detect, lift, skeleton
from hand_pose_ros.camera import project
from hand_pose_ros.training import detector_samples, measure, photometric, pose_samples, shards
from hand_pose_ros.training.batches import collate
from hand_pose_ros.types import Camera, JointState

ROUGH = pose_samples.PoseAugmentation(negatives=0.0, parts=0.0, occluders=0.0, cut=0.0, small=0.0,
                                     strength=0.0)


def painted(joint, seed, right=None):
    """A large picture of a hand with one white dot at ``joint`` on black, its camera and the hand."""
    rng = np.random.default_rng(seed)
    while True:
        _, label = standin_hands.record(rng, 480, 480, 1, 0.5)
        if right is None or label["hands"][0]["is_right"] == right:
            break
    hand = {k: np.array(v) if isinstance(v, list) else v for k, v in label["hands"][0].items()}
    image = np.zeros((480, 480, 3), np.uint8)
    u, v = hand["joints_px"][joint]
    cv2.circle(image, (round(u * 16), round(v * 16)), 5 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    return image, Camera(480, 480, np.array(label["K"]), D=np.zeros(5)), hand


def centroid(image):
    weight = image[..., 0].astype(float)
    v, u = np.mgrid[:image.shape[0], :image.shape[1]]
    return np.array([(weight * u).sum(), (weight * v).sum()]) / weight.sum()


@pytest.mark.parametrize("joint, right", [(0, True), (4, True), (8, False), (12, False), (20, True), (17, False)])
def test_a_pose_label_sits_on_its_joint(joint, right):
    found = 0
    for seed in range(12):
        image, camera, hand = painted(joint, 100 * joint + seed, right)
        sample = pose_samples.hand_sample(image, camera, hand, 128, np.random.default_rng(seed), ROUGH)
        uv = (sample["uv"][joint] + 1) * 64 - 0.5
        if (np.abs(uv - 63.5) < 55).all():
            found += 1
            assert np.abs(centroid(sample["image"]) - uv).max() < 0.15
    assert found >= 6


def test_the_label_is_that_of_the_robots_own_lift():
    image, camera, hand = painted(3, 5)
    sample = pose_samples.hand_sample(image, camera, hand, 96, np.random.default_rng(0), pose_samples.EXACT)
    geometry = crops.plan(camera, crops.from_joints(hand["joints_px"]), 96, not hand["is_right"])
    uv, xyz = lift.label(hand["joints_m"], geometry)
    assert np.allclose((sample["uv"] + 1) * 48 - 0.5, uv, atol=1e-3) and np.allclose(sample["xyz"], xyz, atol=1e-6)


def test_right_hands_are_what_crops_show_unless_mirrored_wrongly():
    """Chirality by the triple product of palm vectors, which no rotation changes."""
    def chirality(xyz):
        return np.sign(np.linalg.det([xyz[5] - xyz[0], xyz[17] - xyz[0], xyz[1] - xyz[5]]))

    signs = {0.0: set(), 1.0: set()}
    for seed in range(30):
        image, camera, hand = painted(0, seed)
        flat = standin_hands.joints(np.random.default_rng(0))
        flat[1, 1] = 0.02                               # the thumb's base in front of the palm, so that sides differ
        points = (flat * (1 if hand["is_right"] else -1, 1, 1)) + hand["joints_m"].mean(0)
        px = points[:, :2] / points[:, 2:] * camera.K[0, 0] + camera.K[:2, 2]
        hand = {**hand, "joints_m": points, "joints_px": px}
        sample = pose_samples.hand_sample(image, camera, hand, 64, np.random.default_rng(seed), ROUGH)
        signs[float(sample["right"])].add(chirality(sample["xyz"]))
    assert len(signs[1.0]) == len(signs[0.0]) == 1 and signs[1.0] != signs[0.0]


def test_a_covered_joint_is_not_visible():
    hidden = 0
    for seed in range(100):
        image, camera, hand = painted(9, seed)
        image[:] = 255
        rough = pose_samples.PoseAugmentation(strength=0.0, occluders=1.0, small=0.0)
        sample = pose_samples.hand_sample(image, camera, hand, 96, np.random.default_rng(seed), rough,
                                          np.zeros((50, 50, 3), np.uint8))
        u, v = np.round((sample["uv"][9] + 1) * 48 - 0.5).astype(int)
        if 2 < u < 93 and 2 < v < 93 and (sample["image"][v, u] < 250).any():
            hidden += 1
            assert sample["visible"][9] == 0
    assert hidden >= 2


def test_a_picture_that_ends_at_the_hand_is_black_beyond_and_its_joints_there_are_not_visible():
    """As the robot's own crop of the picture that is left: same camera centre, same labels, other pixels."""
    ended = whole = hidden = 0
    for seed in range(30):
        _, camera, hand = painted(8, 300 + seed)
        hand["state"] = np.ones(21, int)
        white = np.full((480, 480, 3), 255, np.uint8)
        left, lens, _, outside = pose_samples.cut_off(white, camera, hand, crops.from_joints(hand["joints_px"]),
                                                              np.random.default_rng(seed))
        assert left.shape == (lens.height, lens.width, 3) and min(left.shape[:2]) < 480
        px = project(lens, hand["joints_m"])
        np.testing.assert_array_equal(outside, ~((px >= -0.5) & (px <= (lens.width - 0.5, lens.height - 0.5))).all(-1))
        sample = pose_samples.hand_sample(white, camera, hand, 128, np.random.default_rng(seed), replace(
            pose_samples.EXACT, cut=1.0))
        at = np.round((sample["uv"] + 1) * 64 - 0.5).astype(int)
        inside = ((at >= 0) & (at < 128)).all(-1)
        bright = np.zeros(21, bool)
        bright[inside] = sample["image"][at[inside, 1], at[inside, 0], 0] > 200
        assert (bright != (sample["visible"] > 0)).sum() <= 2                   # at the very border, either way
        black = (sample["image"] == 0).all(-1).any()
        ended, whole = ended + black, whole + (black and sample["visible"].all())
        hidden += (sample["visible"] == 0).sum()
        assert sample["presence"] == 1 and sample["known"].all()
    assert ended > 25 and whole > 5 and hidden > 40                             # an arm can be all that is missing


def test_a_small_hands_label_sits_on_its_joint_and_its_crop_holds_no_more_than_the_few_pixels(monkeypatch):
    """The dot's centroid, as above, within a fifth of one of the few pixels; a fine grid is gone."""
    monkeypatch.setattr(photometric, "sensor", lambda image, rng: image)
    monkeypatch.setattr(pose_samples, "SMALL_PX", (40.0, 40.001))
    small, found = replace(pose_samples.EXACT, small=1.0), 0
    for seed in range(12):
        image, camera, hand = painted(12, 700 + seed)
        sample = pose_samples.hand_sample(image, camera, hand, 128, np.random.default_rng(seed), small)
        uv = (sample["uv"][12] + 1) * 64 - 0.5
        sharp = pose_samples.hand_sample(image, camera, hand, 128, np.random.default_rng(seed), pose_samples.EXACT)
        np.testing.assert_array_equal(sample["uv"], sharp["uv"])
        if (np.abs(uv - 63.5) < 50).all():
            found += 1
            assert np.abs(centroid(sample["image"]) - uv).max() < 0.2 * 128 / (40 * crops.MARGIN)
        grid = np.zeros_like(image)
        grid[:, ::2] = 255
        fine = pose_samples.hand_sample(grid, camera, hand, 128, np.random.default_rng(seed), small)["image"]
        assert fine[40:88, 40:88].std() < 25
    assert found >= 6


@pytest.mark.parametrize("at", [(0.0, 0.0), (100.0, 37.0), (320.7, 230.2)])
def test_a_picture_of_fewer_pixels_keeps_its_rays(at):
    """Where a point of the large picture is in the small one, pixels' middles at whole numbers in both."""
    lens = Camera(641, 479, np.array([[500.0, 0, 310.3], [0, 480.0, 255.9], [0, 0, 1]]), D=np.zeros(5))
    ray = np.array([(at[0] - 310.3) / 500.0, (at[1] - 255.9) / 480.0, 1.0])
    small, camera = pose_samples.with_fewer_pixels(np.zeros((479, 641, 3), np.uint8), lens, 0.23)
    assert small.shape == (camera.height, camera.width, 3) == (110, 147, 3)
    expected = (np.array(at) + 0.5) * (147 / 641, 110 / 479) - 0.5
    np.testing.assert_allclose(project(camera, ray[None])[0], expected, atol=1e-9)


@pytest.mark.parametrize("side", [8, 50])
def test_a_sensor_leaves_a_picture_what_it_is(side):
    rng = np.random.default_rng(0)
    image = np.ascontiguousarray(cv2.resize(rng.integers(60, 200, (2, 2, 3), np.uint8), (side, side)))
    taken = [photometric.sensor(image, rng) for _ in range(40)]
    assert {(picture.shape, picture.dtype) for picture in taken} == {(image.shape, image.dtype)}
    off = np.array([np.abs(picture.astype(float) - image).mean() for picture in taken])
    assert off.max() < 25 and (off > 0).sum() > 20 and (off == 0).sum() > 2


def test_small_pictures_are_taken_by_a_sensor(monkeypatch):
    seen = []
    monkeypatch.setattr(photometric, "sensor", lambda image, rng: seen.append(max(image.shape)) or image)
    image, camera, hand = painted(12, 700)
    pose_samples.hand_sample(image, camera, hand, 128, np.random.default_rng(0), replace(pose_samples.EXACT, small=1.0))
    assert len(seen) == 1 and seen[0] < 480


def test_negatives_can_have_few_pixels_too(monkeypatch):
    """Else few pixels would tell them from hands, or many would."""
    monkeypatch.setattr(photometric, "sensor", lambda image, rng: image)
    image = np.random.default_rng(0).integers(0, 256, (480, 480, 3), np.uint8)
    camera = Camera(480, 480, np.array([[400.0, 0, 240], [0, 400, 240], [0, 0, 1]]), D=np.zeros(5))
    label = {"hands": [], "unseen": [], "complete": True, "camera": camera}
    pool = SimpleNamespace(draw=lambda paths, rng: (SimpleNamespace(label=lambda k: label, image=lambda k: image), 0))

    def detail(small):
        only = pose_samples.PoseAugmentation(negatives=1.0, small=small, strength=0.0)
        pictures = [pose_samples.pose_sample(pool, ["crops-0.tar"], 96, np.random.default_rng(seed), only)["image"]
                    for seed in range(24)]
        return np.mean([np.abs(np.diff(picture[32:64, 32:64].astype(float), axis=1)).mean() for picture in pictures])

    assert detail(1.0) < 0.75 * detail(0.0)


def test_another_scene_goes_behind_the_hand_and_not_over_it():
    rng = np.random.default_rng(2)
    front = np.zeros((60, 80), bool)
    front[20:40, 30:60] = True
    image = np.where(front[..., None], np.uint8(200), np.uint8(10)) * np.ones((1, 1, 3), np.uint8)
    mixed = photometric.put_behind(image, front, np.full((33, 47, 3), 90, np.uint8), rng)
    assert mixed.shape == image.shape and mixed.dtype == np.uint8
    assert (mixed[25:35, 35:55] == 200).all()
    assert (mixed[:12] == 90).all() and (mixed[:, :22] == 90).all()


def test_negatives_show_no_hand_and_teach_no_joint(tmp_path):
    pool, path = shards.Pool(), standin_hands.write(tmp_path / "crops-0.tar", 3)
    only = pose_samples.PoseAugmentation(negatives=1.0)
    sample = pose_samples.pose_sample(pool, [path], 64, np.random.default_rng(1), only)
    assert sample["presence"] == 0 and sample["labelled"] == 0 and not sample["known"].any()


def test_a_single_finger_is_no_hand(tmp_path):
    pool, path = shards.Pool(), standin_hands.write(tmp_path / "crops-0.tar", 12)
    only = pose_samples.PoseAugmentation(negatives=0.0, parts=1.0, strength=0.0, occluders=0.0, backgrounds=0.0)
    samples = [pose_samples.pose_sample(pool, [path], 64, np.random.default_rng(seed), only) for seed in range(40)]
    parts = [s for s in samples if s["presence"] == 0]
    assert len(parts) >= 5 and all(s["labelled"] == 0 and not s["known"].any() for s in parts)
    part = next(p for p in (pose_samples._part(np.stack([np.zeros(21), np.arange(21.0) * 20], -1) + 1,
                                               np.random.default_rng(s)) for s in range(9)) if p is not None)
    assert 55 < part.box[3] - part.box[1] < 0.55 * 400


def test_crops_of_a_finger_do_not_show_the_hand(tmp_path, monkeypatch):
    """Bent fingers lie in the middle of a hand: their crops would show all of it."""
    pool, path = shards.Pool(), standin_hands.write(tmp_path / "crops-0.tar", 40)
    taken = []
    seen = pose_samples._seen
    monkeypatch.setattr(pose_samples, "_seen", lambda *args: taken.append(args[1:3]) or seen(*args))
    only = pose_samples.PoseAugmentation(negatives=0.0, parts=1.0, strength=0.0, occluders=0.0, backgrounds=0.0)
    shown = []
    for seed in range(80):
        monkeypatch.setattr(pool, "draw", lambda paths, rng, k=seed: (pool.get(path), k % 40))
        taken.clear()
        pose_samples.pose_sample(pool, [path], 64, np.random.default_rng(seed), only)
        for camera, detection in taken:
            joints = pool.get(path).label(seed % 40)["hands"][0]["joints_m"]
            uv = crops.plan(camera, detection, 64, False)
            px = lift.label(joints, uv)[0]
            shown.append(((px > -0.5) & (px < 63.5)).all(-1).sum())
    assert len(shown) > 20 and max(shown) <= 9


@pytest.mark.parametrize("more", [{"unseen": np.array([[0.0, 0, 191, 191]])}, {"complete": False}])
def test_a_finger_in_front_of_another_hand_is_no_negative(tmp_path, monkeypatch, more):
    pool, path = shards.Pool(), standin_hands.write(tmp_path / "crops-0.tar", 12)
    shard = pool.get(path)
    label = shard.label
    only = pose_samples.PoseAugmentation(negatives=0.0, parts=1.0, strength=0.0, occluders=0.0, backgrounds=0.0)
    presence = []
    for other in ({}, more):
        monkeypatch.setattr(shard, "label", lambda k, other=other: {**label(k), **other})
        presence.append([pose_samples.pose_sample(pool, [path], 64, np.random.default_rng(seed), only)["presence"]
                         for seed in range(40)])
    assert sum(presence[0]) < 36 and sum(presence[1]) == 40


def test_a_crop_of_a_hand_has_room_for_negatives():
    """Where there is none, noise stands for it, which teaches little."""
    rng, noise = np.random.default_rng(0), 0
    for _ in range(200):
        joints = np.stack([rng.uniform(50, 142, 21), rng.uniform(42, 150, 21)], -1)         # as BOX_SHARE has them
        image = np.full((192, 192, 3), 100, np.uint8)
        (x0, y0), (x1, y1) = joints.min(0).astype(int), joints.max(0).astype(int)
        image[y0 + 2:y1 - 1, x0 + 2:x1 - 1] = 255
        K = np.array([[300, 0, 95.5], [0, 300, 95.5], [0, 0, 1.0]])
        label = {"camera": Camera(192, 192, K, D=np.zeros(5)), "hands": [{"joints_px": joints}],
                 "unseen": np.zeros((0, 4)), "complete": True}
        picture = pose_samples._negative(image, label, 64, rng, pose_samples.EXACT)["image"]
        if set(np.unique(picture)) <= set(range(101)):
            continue
        assert picture.std() > 50 and len(np.unique(picture)) > 200, "a part of the hand"
        noise += 1
    assert noise < 20


def test_no_other_hand_goes_behind_a_hand(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(photometric, "put_behind", lambda image, front, other, rng: used.append(other) or image)
    monkeypatch.setattr(shards.Shard, "mask", lambda self, k: np.zeros((192, 192), np.uint8))
    pool, path = shards.Pool(), standin_hands.write(tmp_path / "crops-0.tar", 3)
    frames = standin_hands.write(tmp_path / "frames-0.tar", 12, seed=1, kind="frames")
    empty = [pool.get(frames).image(k) for k in range(12) if not pool.get(frames).label(k)["hands"]]
    only = pose_samples.PoseAugmentation(negatives=0.0, parts=0.0, strength=0.0, backgrounds=1.0)
    for seed in range(10):
        pose_samples.pose_sample(pool, [path], 64, np.random.default_rng(seed), only, [frames])
    assert empty and used and all(any(np.array_equal(other, one) for one in empty) for other in used)
    used.clear()
    pose_samples.pose_sample(pool, [path], 64, np.random.default_rng(0), only)
    assert not used, "crops alone show hands"


def test_a_crop_with_an_unnoted_second_hand_teaches_the_detector_nothing():
    class Pool:
        def __init__(self):
            self.left = iter([False, False, True])

        def draw(self, paths, rng):
            complete = next(self.left)
            label = {"hands": [], "unseen": np.empty((0, 4)), "complete": complete}
            grey = np.full((192, 192, 3), 200 if complete else 50, np.uint8)
            return SimpleNamespace(label=lambda k: label, image=lambda k: grey), 0

    close = replace(detector_samples.EXACT, close_ups=1.0, close_up_zoom=(1.0, 1.0))
    sample = detector_samples.detector_sample(Pool(), [], ["crops"], (64, 64), np.random.default_rng(0), close)
    assert (sample["image"] == 200).mean() > 0.9


def test_a_calibrated_depth_is_called_calibrated():
    """Laplace errors of the stated width, the wrist at the origin without one."""
    rng, count = torch.Generator().manual_seed(0), 4000
    error = -torch.sign(u := torch.rand(count, 20, generator=rng) - 0.5) * torch.log1p(-2 * u.abs())
    xyz = torch.zeros(count, 21, 3)
    xyz[:, 1:, 2] = 0.02 * error
    sigma = torch.full((count, 21), 0.02 * 2 ** 0.5)
    uv, ones = torch.rand(count, 21, 2, generator=rng), torch.ones(count)
    samples = {"image": torch.zeros(count, 4, 4, 3, dtype=torch.uint8), "uv": 2 * uv - 1,
               "xyz": torch.zeros(count, 21, 3), "labelled": ones, "known": torch.ones(count, 21),
               "visible": torch.ones(count, 21), "presence": ones}
    answers = (uv * 4 - 0.5, xyz, sigma, sigma, torch.ones(count, 21), ones, ones)
    network = torch.nn.Linear(1, 1)
    network.forward = lambda images: [answer[:len(images)] for answer in answers]
    result = measure.pose_on_samples(network, samples, count)
    assert result["z_calibration"] == pytest.approx(1.0, abs=0.02)


def test_negatives_come_from_whole_frames_too_but_never_from_a_hand(tmp_path):
    """White stands for hands, labelled and unseen ones, in frames that are otherwise grey."""
    class Frames:
        def draw(self, paths, rng):
            assert paths == ["frames"]
            return self, 0

        def image(self, k):
            image = np.full((240, 320, 3), 100, np.uint8)
            image[50:100, 60:110] = image[150:200, 200:260] = 255
            return image

        def label(self, k):
            u, v = np.meshgrid(np.linspace(60, 109, 7), np.linspace(50, 99, 3))
            K = np.array([[300, 0, 159.5], [0, 300, 119.5], [0, 0, 1.0]])
            joints_px = np.stack([u.ravel(), v.ravel()], -1)
            return {"camera": Camera(320, 240, K, D=np.zeros(5)), "hands": [{"joints_px": joints_px}],
                    "unseen": np.array([[200.0, 150, 260, 200]]), "complete": True}

    only = pose_samples.PoseAugmentation(negatives=1.0, small=0.0, strength=0.0)
    samples = [pose_samples.pose_sample(Frames(), ["frames"], 64, np.random.default_rng(k), only, ["frames"])
               for k in range(30)]
    shown = [s for s in samples if (s["image"] == 100).any()]
    assert all(s["presence"] == 0 for s in samples) and len(shown) > 15 and max(s["image"].max() for s in shown) == 100


def test_perturbed_boxes_stay_within_the_settings():
    detection = crops.from_joints(np.random.default_rng(0).uniform(50, 150, (21, 2)))
    rng = np.random.default_rng(1)
    side = np.ptp(detection.box.reshape(2, 2), axis=0).max()
    for _ in range(200):
        other = pose_samples.perturb(detection, rng, ROUGH)
        ratio = np.ptp(other.box.reshape(2, 2), axis=0) / np.ptp(detection.box.reshape(2, 2), axis=0)
        assert np.allclose(ratio[0], ratio[1]) and 0.8 <= ratio[0] <= 1.3
        assert np.abs(other.box.reshape(2, 2).mean(0) - detection.box.reshape(2, 2).mean(0)).max() <= 0.1 * side + 1e-9
        assert np.linalg.norm(other.up) == pytest.approx(1)


def test_photometric_steps_move_nothing():
    """Shape, type and the place of an edge survive every kind of distortion."""
    rng = np.random.default_rng(0)
    image = np.zeros((96, 96, 3), np.uint8)
    image[:, 48:] = 200
    offsets = []
    for _ in range(150):
        out = photometric.distort(image, rng)
        assert out.shape == image.shape and out.dtype == np.uint8
        profile = out.astype(float).mean((0, 2))
        if np.ptp(profile) > 40:
            step = np.abs(np.diff(cv2.blur(profile[None], (5, 1))[0]))
            offsets.append((step * np.arange(95)).sum() / step.sum() - 47)
    assert len(offsets) > 100 and abs(np.median(offsets)) < 0.6


@pytest.mark.parametrize("step", [photometric._blur, photometric._resolution, photometric._sharpen,
                                  photometric._jpeg])
def test_no_photometric_step_moves_the_picture_on_average(step):
    rng = np.random.default_rng(0)
    v, u = np.mgrid[:96, :96]
    image = np.repeat((220 * np.exp(-((u - 47.5)**2 + (v - 47.5)**2) / 200.0))[..., None], 3, 2).astype(np.uint8)
    weights = [step(image, rng)[..., 1].astype(float) for _ in range(200)]
    centres = np.array([[(w * u).sum(), (w * v).sum()] / w.sum() for w in weights])
    np.testing.assert_allclose(centres.mean(0), 47.5, atol=0.05)


def test_detector_labels_decode_to_the_boxes_of_the_joints():
    rng = np.random.default_rng(0)
    _, label = standin_hands.record(rng, 320, 240, 1, 0.4)
    joints = np.array(label["hands"][0]["joints_px"])
    target = detector_samples.labels([(joints, True, detector_samples.rectangle((-0.5, -0.5), (319.5, 239.5)))],
                                     (240, 320))
    dense = np.concatenate([target["heat"][None], np.exp(target["box"]) * 8, target["side"][None], target["up"]])
    found = detect.decode(dense, 0.5)
    assert len(found) == 1
    assert np.allclose(found[0].box, np.concatenate([joints.min(0), joints.max(0)]), atol=1e-3)
    up = joints[9] - joints[0]
    assert np.allclose(found[0].up, up / np.linalg.norm(up), atol=1e-5) and found[0].right_probability == 1.0


def test_a_taught_box_ends_where_its_picture_ends(monkeypatch):
    """A frame that fills part of the input, turned, before another picture: what lies beyond its border is no part of
    its hands. The bones drawn into the frame tell where they end."""
    monkeypatch.setattr(detector_samples, "_surroundings",
                        lambda pool, frames, size, *_: np.zeros((*size, 3), np.uint8))
    rng, cut = np.random.default_rng(0), 0
    augmentation = replace(detector_samples.DetectorAugmentation(), any_turn=0.5, zoom=(0.5, 0.9))
    for seed in range(150):
        _, label = standin_hands.record(np.random.default_rng(seed), 200, 150, 1, None)
        joints = np.array(label["hands"][0]["joints_px"])
        image = np.zeros((150, 200, 3), np.uint8)
        for parent, child in skeleton.BONES:
            cv2.line(image, *(tuple(np.round(joints[j]).astype(int).tolist()) for j in (parent, child)), (255,) * 3, 2)
        pool = SimpleNamespace(draw=lambda paths, rng: (SimpleNamespace(
            label=lambda k: {"complete": True, "unseen": np.zeros((0, 4)), "hands": [
                {"joints_px": joints, "is_right": True}]}, image=lambda k: image), 0))
        view, found, _, window = detector_samples._view(pool, ["a"], [], (160, 192), rng, augmentation)
        target = detector_samples.labels([(*found[0], window)], (160, 192))
        bright = np.argwhere(view[..., 0] > 60)[:, ::-1]
        for box, *_ in measure._middles(collate([target]), 0):
            np.testing.assert_allclose(box, [*bright.min(0), *bright.max(0)], atol=3.0)
            inside = ((joints > -0.5) & (joints < (199.5, 149.5))).all(-1)
            assert inside.mean() >= 0.5
            cut += not inside.all()
    assert cut > 10


def test_hands_hardly_in_view_are_neither_taught_nor_forbidden():
    joints = np.random.default_rng(0).uniform(0, 60, (21, 2))
    whole = detector_samples.rectangle((-0.5, -0.5), (95.5, 95.5))
    far = detector_samples.labels([(joints - (45, 0), True, whole)], (96, 96))
    tiny = detector_samples.labels([(joints * 0.1 + 40, True, whole)], (96, 96))
    for target in (far, tiny):
        assert (target["heat"] < 0.999).all() and not target["weight"].any() and (target["care"] == 0).any()


def test_hands_too_hidden_to_be_labelled_are_not_forbidden():
    target = detector_samples.labels([], (96, 96), [np.array([30.0, 40, 60, 70])])
    assert target["care"][6, 5] == 0 and target["care"][0, 0] == 1 and target["care"].mean() > 0.6


def test_a_detector_label_sits_on_its_hand_and_flips_its_side(tmp_path):
    """Pictures of one white disc on black stand for the hand; the taught box must be the box of the white."""
    class OnePicture:
        def __init__(self, image, label):
            self.draw = lambda paths, rng: (self, 0)
            self.image, self.label = (lambda k: image), (lambda k: label)

    angle = np.linspace(0, 2 * np.pi, 21, endpoint=False)
    joints = np.stack([150 + 40 * np.cos(angle), 110 + 40 * np.sin(angle)], -1)
    image = np.zeros((240, 320, 3), np.uint8)
    cv2.circle(image, (150, 110), 40, (255, 255, 255), -1)
    label = {"hands": [{"joints_px": joints, "is_right": True}], "unseen": np.zeros((0, 4)), "complete": True}
    plain = detector_samples.DetectorAugmentation(mosaic=0.0, close_ups=0.0, strength=0.0, any_turn=0.3)
    cv2.circle(image, (150, 88), 10, (255, 0, 0), -1)                      # red above, blue on its left: not mirrored
    cv2.circle(image, (128, 110), 10, (0, 0, 255), -1)
    sides, checked = set(), 0
    for seed in range(40):
        sample = detector_samples.detector_sample(OnePicture(image, label), ["x"], (), (192, 256),
                                                  np.random.default_rng(seed), plain)
        batch = collate([sample])
        white = np.argwhere((sample["image"] > 250).all(-1) & ~(sample["image"] == sample["image"][0, 0]).all(-1))
        pixels = sample["image"].astype(int)
        red, blue = (np.argwhere(sign * (pixels[..., 0] - pixels[..., 2]) > 200).mean(0)[::-1] for sign in (1, -1))
        for box, right, _ in measure._middles(batch, 0):
            sides.add(right)
            to_red, to_blue = red - 0.5 * (box[:2] + box[2:]), blue - 0.5 * (box[:2] + box[2:])
            assert right == (to_red[0] * to_blue[1] < to_red[1] * to_blue[0])
            checked += 1
            assert np.abs(box - [*white.min(0)[::-1], *white.max(0)[::-1]]).max() < 3.0
    assert checked > 15 and sides == {0.0, 1.0}


def test_a_picture_that_does_not_fill_the_input_lies_on_one_without_hands(tmp_path):
    """The rest must hold no hand that nobody labelled."""
    bare = {"hands": [], "unseen": np.empty((0, 4)), "complete": True}
    joints = np.random.default_rng(2).uniform(90, 150, (21, 2))
    with_hand = {"hands": [{"joints_px": joints, "is_right": True}], "unseen": np.empty((0, 4)), "complete": True}
    pictures = {"hand": (with_hand, 200), "bare": (bare, 90), "other hand": (with_hand, 30)}

    class Pool:
        draws = iter(["hand", "other hand", "bare"])

        def draw(self, paths, rng):
            label, grey = pictures[next(self.draws)]
            return SimpleNamespace(label=lambda k: label, image=lambda k: np.full((240, 320, 3), grey, np.uint8)), 0

    augmentation = replace(detector_samples.EXACT, zoom=(0.5, 0.5), surroundings=1.0)
    sample = detector_samples.detector_sample(Pool(), ["frames"], [], (192, 256), np.random.default_rng(1),
                                              augmentation)
    assert set(np.unique(sample["image"][56:-56, 72:-72])) == {200} and set(np.unique(sample["image"][:8])) == {90}


def test_a_hidden_joint_teaches_that_it_is_hidden_and_an_unknown_one_nothing():
    image, camera, hand = painted(3, 5)
    state = np.full(21, JointState.VISIBLE)
    state[8], state[12] = JointState.SELF_OCCLUDED, JointState.UNKNOWN
    sample = pose_samples.hand_sample(image, camera, {**hand, "state": state}, 96, np.random.default_rng(0),
                                      pose_samples.EXACT)
    assert (sample["known"][8], sample["visible"][8]) == (1, 0) and sample["known"][12] == 0
    assert (sample["known"][3], sample["visible"][3]) == (1, 1)


def test_all_four_quarters_of_a_mosaic_teach_their_hands():
    angle = np.linspace(0, 2 * np.pi, 21, endpoint=False)
    joints = np.stack([160 + 80 * np.cos(angle), 120 + 80 * np.sin(angle)], -1)
    label = {"hands": [{"joints_px": joints, "is_right": True}], "unseen": np.zeros((0, 4)), "complete": True}
    picture = SimpleNamespace(label=lambda k: label, image=lambda k: np.zeros((240, 320, 3), np.uint8))
    pool = SimpleNamespace(draw=lambda paths, rng: (picture, 0))
    whole = replace(detector_samples.EXACT, mosaic=1.0)
    for seed in range(5):
        sample = detector_samples.detector_sample(pool, ["x"], (), (192, 256), np.random.default_rng(seed), whole)
        assert sample["middle"].sum() == 4 and (sample["weight"][sample["middle"] > 0] > 0).all()
