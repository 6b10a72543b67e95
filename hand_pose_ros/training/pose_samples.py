"""One training sample of a pose network: a virtual picture through the robot's own crop, labelled by its own lift."""
from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from hand_pose_ros import crop as crops
from hand_pose_ros import lift
from hand_pose_ros.skeleton import NUM_JOINTS
from hand_pose_ros.training import photometric, shards
from hand_pose_ros.types import Detection, JointState


@dataclass(frozen=True)
class PoseAugmentation:
    """How wrong the box is that the network must live with, and how much the picture is distorted."""

    scale: tuple = (0.85, 1.3)          # of the box, log-uniform
    shift: float = 0.08                 # of the box's longer side, uniform +/- per axis
    roll_deg: float = 25.0              # standard deviation of the error of `up`
    any_roll: float = 0.25              # share of samples with `up` uniform
    wrong_side: float = 0.3            # share mirrored that should not be, and the other way round
    negatives: float = 0.08             # share of crops without a hand
    parts: float = 0.03                 # share of crops of one finger, which are no hand either
    occluders: float = 0.25             # share with a thing in front
    backgrounds: float = 0.3            # share with another picture behind all that was rendered
    cut: float = 0.22                   # share whose picture ends at the hand, mostly within it
    small: float = 0.25                 # share, of negatives too, whose box gets few pixels if it has more
    strength: float = 1.0               # of the photometric distortion


MIN_PART_PX, PART_OF_HAND = 12.0, 0.55
"""A finger is a part that must not pass for a hand if it is longer than the first and shorter than this of the hand."""
JOINTS_OF_PART = 9
"""A crop of a finger that shows more joints than these is one of the hand."""
CUT = (-0.2, 0.45)
"""Share of the hand's box that lies beyond the picture's end, uniform; below 0 all of the hand is seen, but not the arm
that tells where the wrist is."""
SMALL_PX = (24.0, 120.0)
"""Longer side of a small box in its picture, pixels, log-uniform. Hands rendered for crops have 100 to 200, those of a
camera across the room a third of it: without, few pixels were a sign of a negative."""
EXACT = PoseAugmentation(scale=(1.0, 1.0), shift=0.0, roll_deg=0.0, any_roll=0.0, wrong_side=0.0, negatives=0.0,
                         parts=0.0, occluders=0.0, backgrounds=0.0, cut=0.0, small=0.0, strength=0.0)
"""No augmentation: validation sees the box that fits."""


def pose_sample(pool, paths, size: int, rng: np.random.Generator, augmentation: PoseAugmentation, scenes=()) -> dict:
    """A random sample: see ``hand_sample``; with the drawn share of negatives, and of occluders and backgrounds from
    other pictures.

    paths: shards of hands; scenes: shards of whole frames, whose faces, arms and things make the better negatives.
    """
    negative = rng.random() < augmentation.negatives
    shard, k = pool.draw(scenes if negative and len(scenes) and rng.random() < 0.7 else paths, rng)
    label, image = shard.label(k), shard.image(k)
    if negative and label["complete"] or not label["hands"]:
        return _negative(image, label, size, rng, augmentation)
    hand = label["hands"][0]                                                        # the one the picture was made for
    if rng.random() < augmentation.parts:
        part = _part(hand["joints_px"], rng)
        part = None if part is None else perturb(part, rng, augmentation)
        if part is not None and _joints_in(hand, label["camera"], part, size) <= JOINTS_OF_PART \
                and not _shows_another(label, part):
            return _nothing(_seen(image, label["camera"], part, size, rng, augmentation), rng, augmentation)
    if rng.random() < augmentation.backgrounds:
        mask = shard.mask(k)
        # A hand there would compete with the one in front.
        behind = shards.empty_picture(pool, scenes, rng) if mask is not None else None
        if behind is not None:
            image = photometric.put_behind(image, mask > 0, behind, rng)
    other = None
    if rng.random() < augmentation.occluders:
        more, j = pool.draw(paths, rng)
        other = more.image(j)
    return hand_sample(image, label["camera"], hand, size, rng, augmentation, other)


def hand_sample(image, camera, hand, size: int, rng, augmentation: PoseAugmentation, other=None) -> dict:
    """The crop of one hand seen with a perturbed detection, and its labels.

    Returns image (S, S, 3) uint8; uv (21, 2) in [-1, 1] over the crop's edges; xyz (21, 3) hand lengths; visible (21,)
    and known (21,) 0 or 1; presence and right (as the crop shows it) 0 or 1; labelled 1. All float32.
    """
    exact = crops.from_joints(hand["joints_px"])
    outside = np.zeros(NUM_JOINTS, bool)
    if rng.random() < augmentation.cut:
        image, camera, exact, outside = cut_off(image, camera, hand, exact, rng)
    detection = perturb(exact, rng, augmentation)
    wrong = rng.random() < augmentation.wrong_side
    mirrored = (not hand["is_right"]) != wrong
    geometry = crops.plan(camera, detection, size, mirrored)
    picture = _taken(image, camera, geometry, detection, rng, augmentation)
    uv, xyz = lift.label(hand["joints_m"], geometry)
    visible = hand["state"] == JointState.VISIBLE
    known = hand["state"] != JointState.UNKNOWN
    inside = ((uv > -0.5) & (uv < size - 0.5)).all(-1)
    visible = visible & inside & ~outside
    if other is not None:
        picture, covered = photometric.occlude(picture, rng, other)
        at = np.clip(np.round(np.nan_to_num(uv)), 0, size - 1).astype(int)
        visible = visible & ~covered[at[:, 1], at[:, 0]]
    if augmentation.strength:
        picture = photometric.distort(picture, rng, augmentation.strength)
    return _sample(picture, (uv + 0.5) * (2.0 / size) - 1.0, xyz, visible, known, 1.0, float(not wrong), 1.0)


def cut_off(image, camera, hand, detection: Detection, rng: np.random.Generator):
    """The picture as a camera with less view would have taken it, whose border cuts the hand or the arm.

    Crops of virtual hands hold all of them, photographs do not: beyond its picture the robot's crop is black, and a
    detector's box ends there, a tracker's goes on. Returns (image, camera, detection, joints outside (21,) bool), all
    in the pixels of the new picture; the place of the camera, so joints_m and the crop's geometry, stay the same.
    """
    low, high = detection.box[:2], detection.box[2:]
    h, w = image.shape[:2]
    axis, far = int(rng.integers(2)), bool(rng.random() < 0.5)
    share = rng.uniform(*CUT)
    at = int(round(high[axis] - share * (high[axis] - low[axis]) if far else
                   low[axis] + share * (high[axis] - low[axis])))
    size = (w, h)[axis]
    at = int(np.clip(at, 1, size - 1))
    first, last = (0, at) if far else (at, size)                                # columns or rows that are left
    corner = np.array([first, 0] if axis == 0 else [0, first])
    image = np.ascontiguousarray(image[:, first:last] if axis == 0 else image[first:last])
    K = np.array(camera.K, np.float64)
    K[:2, 2] -= corner
    camera = replace(camera, K=K, width=image.shape[1], height=image.shape[0])
    end = np.array([image.shape[1], image.shape[0]]) - 0.5
    joints = hand["joints_px"] - corner
    box = detection.box - np.tile(corner, 2)
    if rng.random() < 0.5:
        box = np.clip(box, -0.5, np.tile(end, 2))
    return image, camera, replace(detection, box=box), ((joints < -0.5) | (joints > end)).any(-1)


def perturb(detection: Detection, rng: np.random.Generator, augmentation: PoseAugmentation) -> Detection:
    """The detection as a detector or tracker might give it: scaled, shifted, turned."""
    low, high = detection.box[:2], detection.box[2:]
    side = float((high - low).max())
    centre = 0.5 * (low + high) + rng.uniform(-1, 1, 2) * augmentation.shift * side
    half = 0.5 * (high - low) * np.exp(rng.uniform(*np.log(augmentation.scale)))
    up = detection.up if np.isfinite(detection.up).all() else np.array([0.0, -1.0])
    if rng.random() < augmentation.any_roll:
        angle = rng.uniform(-np.pi, np.pi)
    else:
        angle = np.deg2rad(rng.normal(0.0, 1.0) * augmentation.roll_deg)
    c, s = np.cos(angle), np.sin(angle)
    up = np.array([c * up[0] - s * up[1], s * up[0] + c * up[1]])
    return Detection(np.concatenate([centre - half, centre + half]), detection.score, detection.right_probability, up)


def _part(joints_px: np.ndarray, rng) -> Detection | None:
    """A detection of one finger only; None if that is most of the hand, or nothing to see."""
    first = 1 + 4 * int(rng.integers(5))
    finger = joints_px[first:first + 4]
    span = float(np.ptp(finger, axis=0).max())
    if not MIN_PART_PX < span < PART_OF_HAND * np.ptp(joints_px, axis=0).max():
        return None
    along = finger[-1] - finger[0]
    box = np.concatenate([finger.min(0), finger.max(0)])
    return Detection(box, 1.0, np.nan, along / max(np.linalg.norm(along), 1e-6))


def _shows_another(label, detection: Detection) -> bool:
    """Whether the crop of a detection may show another hand than the first: one boxed or not labelled at all."""
    if not label["complete"]:
        return True
    low, high = detection.box[:2], detection.box[2:]
    middle, half = 0.5 * (low + high), 0.5 * crops.WIDEST * 2**0.5 * (high - low).max()         # its corners, any roll
    boxes = [crops.from_joints(hand["joints_px"]).box for hand in label["hands"][1:]] + list(label["unseen"])
    return any(((middle + half > box[:2]) & (middle - half < box[2:])).all() for box in boxes)


def _joints_in(hand, camera, detection: Detection, size: int) -> int:
    """How many of a hand's joints lie in the crop of a detection."""
    uv, _ = lift.label(hand["joints_m"], crops.plan(camera, detection, size, False))
    return int(((uv > -0.5) & (uv < size - 0.5)).all(-1).sum())


def _negative(image, label, size, rng, augmentation):
    """A square of the picture that no hand's box reaches, at random roll; plain noise if there is no such place."""
    h, w = image.shape[:2]
    boxes = [crops.from_joints(hand["joints_px"]).box for hand in label["hands"]] + list(label["unseen"])
    for _ in range(8):
        angle = rng.uniform(-np.pi, np.pi)
        c, s = np.cos(angle), np.sin(angle)
        reach = 0.5 * crops.MARGIN * (1 + crops.ROLL_ROOM * (2 * c * s)**2) * (abs(c) + abs(s))     # of corners, sides
        centre = rng.uniform((0, 0), (w, h))
        gaps = [np.maximum(box[:2] - centre, centre - box[2:]).max() - 1.0 for box in boxes]
        largest = min([0.7 if not boxes else 0.35, *(gap / (reach * min(h, w)) for gap in gaps)])
        if largest > 0.12:
            half = np.full(2, 0.5 * rng.uniform(0.12, largest) * min(h, w))
            detection = Detection(np.concatenate([centre - half, centre + half]), 1.0, np.nan, np.array([c, s]))
            return _nothing(_seen(image, label["camera"], detection, size, rng, augmentation), rng, augmentation)
    return _nothing(np.tile(rng.integers(0, 256, (size, size, 1), np.uint8), (1, 1, 3)), rng, augmentation)


def _seen(image, camera, detection, size, rng, augmentation):
    """The robot's crop of a detection, of either side."""
    geometry = crops.plan(camera, detection, size, bool(rng.random() < 0.5))
    return _taken(image, camera, geometry, detection, rng, augmentation)


def _taken(image, camera, geometry, detection, rng, augmentation):
    """The robot's crop, of the drawn share of pictures as a camera of fewer pixels took them."""
    if augmentation.small and rng.random() < augmentation.small:
        side = float((detection.box[2:] - detection.box[:2]).max())
        scale = np.exp(rng.uniform(*np.log(SMALL_PX))) / max(side, 1.0)
        if scale < 1.0:
            image, camera = with_fewer_pixels(image, camera, scale)
            image = photometric.sensor(image, rng)
    return crops.sample(image, camera, geometry)


def with_fewer_pixels(image: np.ndarray, camera, scale: float):
    """The picture (H, W, 3) at ``scale`` < 1 of its pixels a side, 8 at least, and the camera that takes it: (image,
    camera). Rays stay, so a crop's geometry does."""
    h, w = image.shape[:2]
    width, height = max(8, round(w * scale)), max(8, round(h * scale))
    K = np.array(camera.K, np.float64)
    K[:2, 2] += 0.5                                                             # from the middle of the first pixel
    K[:2] *= np.array([[width / w], [height / h]])
    K[:2, 2] -= 0.5
    return (cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA),
            replace(camera, K=K, width=width, height=height))


def _nothing(picture, rng, augmentation):
    """The sample of a picture that shows no hand."""
    if augmentation.strength:
        picture = photometric.distort(picture, rng, augmentation.strength)
    nothing = np.zeros(NUM_JOINTS)
    return _sample(picture, np.zeros((NUM_JOINTS, 2)), np.zeros((NUM_JOINTS, 3)), nothing, nothing, 0.0, 0.5, 0.0)


def _sample(picture, uv, xyz, visible, known, presence, right, labelled):
    f = np.float32
    return {"image": picture, "uv": uv.astype(f), "xyz": xyz.astype(f), "visible": np.asarray(visible, f),
            "known": np.asarray(known, f), "presence": f(presence), "right": f(right), "labelled": f(labelled)}
