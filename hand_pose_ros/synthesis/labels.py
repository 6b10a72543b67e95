"""From a rendered scene to a labelled picture: compositing, sensor and the visibility of every joint."""
from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from hand_pose_ros.skeleton import ADULT_HAND_LENGTH_M
from hand_pose_ros.synthesis import sensor
from hand_pose_ros.synthesis.renderer import SOLID_ID, Raster
from hand_pose_ros.synthesis.scene import Scene
from hand_pose_ros.types import Camera, JointState

COVER_M = np.array([.032, .030, .021, .017, .013] + [.027, .017, .014, .013] * 4)
"""How much flesh of its own may lie in front of a joint of an adult before the joint counts as hidden."""
OTHER_PART = 8
"""Value in a crop's mask of all that was rendered and is not the labelled hand: sleeve, objects, other hands."""


def joint_states(raster: Raster, joints_m: np.ndarray, joints_px: np.ndarray,
                 hand: int, hand_length_m: float) -> np.ndarray:
    """Visibility of 21 joints by depth test. Returns (21,) uint8 JointState.

    The surface at a joint's pixel hides it if it belongs to something else and lies in front, or to the same hand and
    lies further in front than the flesh round that joint.
    """
    height, width = raster.depth.shape
    column, row = np.round(joints_px).T
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height) & (joints_m[:, 2] > 0)
    column, row = (np.clip(np.nan_to_num(v), 0, n - 1).astype(int) for v, n in ((column, width), (row, height)))
    surface, ids = raster.depth[row, column], raster.ids[row, column].astype(int)
    gap = joints_m[:, 2] - surface
    cover = COVER_M * hand_length_m / ADULT_HAND_LENGTH_M
    mine = (ids >= 16 * (hand + 1)) & (ids < 16 * (hand + 2))
    own_finger = np.concatenate([[0], np.repeat(np.arange(3, 8), 4)])
    part = ids - 16 * (hand + 1)
    another_finger = mine & (part >= 3) & (part != own_finger)
    limit = np.where(another_finger, 0.5 * cover, cover)
    state = np.full(21, int(JointState.VISIBLE), np.uint8)
    state[mine & (gap > limit)] = JointState.SELF_OCCLUDED
    state[~mine & (ids > 0) & (gap > 0.0)] = JointState.OBJECT_OCCLUDED
    state[~inside] = JointState.OUTSIDE_IMAGE
    return state


def project(K: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Pinhole projection of (..., 3) metres to (..., 2) pixels."""
    return points[..., :2] / points[..., 2:] @ K[:2, :2].T + K[:2, 2]


def take(scene: Scene, renderer) -> tuple[Scene, Raster]:
    """Render a scene and bend it and its background through its lens, if it has one."""
    raster = renderer.render(scene.view)
    if scene.lens is None:
        return scene, raster
    return replace(scene, background=scene.lens.bend(scene.background)), scene.lens.bend_raster(raster)


def develop(scene: Scene, raster: Raster, rng: np.random.Generator) -> np.ndarray:
    """Lay what was rendered over the scene's background and photograph it. Returns (H, W, 3) uint8 RGB."""
    light, settings = np.dstack([raster.color, raster.alpha]), scene.settings
    if settings["moving"]:                                         # before a room that stands still
        light, settings = sensor.move(light, settings), settings | {"motion_px": 0.0}
    linear = light[..., :3] + (1.0 - light[..., 3:]) * scene.background
    if not np.isfinite(linear.sum()):                              # a degenerate fragment must not stop a long run
        linear = np.nan_to_num(linear, nan=0.0)
    hands = (raster.ids > 0) & (raster.ids < SOLID_ID)
    return sensor.develop(linear, settings, rng, raster.alpha, hands if hands.sum() > 40 else raster.alpha > 0.5)


def camera(scene: Scene) -> Camera:
    """The camera that took the picture."""
    if scene.lens is not None:
        return scene.lens.camera
    height, width = scene.background.shape[:2]
    return Camera(width, height, scene.view.K)


def hand_records(scene: Scene, raster: Raster) -> tuple[list[dict], list[list[float]]]:
    """The ``hands`` list of a shard's JSON and the boxes of hands that are not labelled: that nobody could see well
    enough, or that a crop shows beside its own.

    A record holds exact joints, states and box in pixels of the stored image and metres of its camera frame; and what
    has to be taken off the mask where it shows this hand, so that parts are left as in ``crop_mask``.
    """
    out, unseen = [], []
    height, width = raster.depth.shape
    for index, hand in enumerate(scene.hands):
        px = (scene.lens.project if scene.lens else partial(project, scene.view.K))(hand.joints_m)
        if hand.joints_m[:, 2].min() <= 0.02:                      # partly beside or behind the camera
            continue
        state = joint_states(raster, hand.joints_m, px, index, hand.hand_length_m)
        box = np.array([*px.min(0), *px.max(0)])
        if not scene.is_crop:
            if box[0] > width - 1 or box[1] > height - 1 or box[2] < 0 or box[3] < 0:
                continue
            shown = (state == JointState.VISIBLE).sum()
            if shown < 4 or shown + (state == JointState.SELF_OCCLUDED).sum() < 7:
                unseen.append(np.round(box, 2).tolist())
                continue
        out.append({"joints_m": np.round(hand.joints_m, 6).tolist(), "joints_px": np.round(px, 3).tolist(),
                    "state": state.tolist(), "is_right": hand.is_right,
                    "box": np.round(box, 3).tolist(), "hand_length_m": round(hand.hand_length_m, 6),
                    "mask_base": 0 if scene.is_crop else 16 * (index + 1),
                    **hand.attributes})
    for hand in scene.others:
        if hand.joints_m[:, 2].min() > 0.02:
            px = project(scene.view.K, hand.joints_m)
            box = np.array([*px.min(0), *px.max(0)])
            if box[0] <= width - 1 and box[1] <= height - 1 and box[2] >= 0 and box[3] >= 0:
                unseen.append(np.round(box, 2).tolist())
    return out, unseen


def is_seen(record: dict) -> bool:
    """Whether a crop can teach something: a third of the joints not behind objects, and 5 visible."""
    state = np.asarray(record["state"])
    return (state == JointState.OBJECT_OCCLUDED).sum() <= 13 and (state == JointState.VISIBLE).sum() >= 5


def crop_mask(raster: Raster) -> np.ndarray:
    """(H, W) uint8: 0 background, 1 forearm, 2 palm, 3..7 thumb..little of the labelled hand, 8 anything else."""
    ids = raster.ids
    return np.where(ids == 0, 0, np.where(ids < 32, ids - 16, OTHER_PART)).astype(np.uint8)
