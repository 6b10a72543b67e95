"""The right arm of the MakeHuman base mesh, re-rigged: knuckles inside their heads, tips on the skin."""
from __future__ import annotations

from functools import lru_cache

import numpy as np

from hand_pose_ros.skeleton import FINGERS
from hand_pose_ros.synthesis import assets, makehuman, rig
from hand_pose_ros.synthesis.hand_model import HandModel, HandShape, Mesh

ARM_BONES = ("upperarm02.R", "lowerarm01.R", "lowerarm02.R", "wrist.R",
             *(f"metacarpal{ray}.R" for ray in range(1, 5)),
             *(f"finger{finger}-{bone}.R" for finger in range(1, 6) for bone in range(1, 4)))


@lru_cache(maxsize=1)
def load() -> HandModel:
    """Build the model from the assets. Raises DataError if they are missing."""
    base = makehuman.base_mesh()
    share = np.zeros(len(base.vertices))
    for bone in ARM_BONES:
        indices, weights = base.weights[bone]
        share[indices] += weights
    inside = (share[base.quads] > 0.5).all(axis=1)
    quads, quad_uv = base.quads[inside], base.quad_uv[inside]
    skin = np.unique(quads)
    local = np.full(len(base.vertices), -1)
    local[skin] = np.arange(len(skin))

    corners = np.stack([quads.ravel(), quad_uv.ravel()], axis=1)
    unique, where = np.unique(corners, axis=0, return_inverse=True)
    where = where.reshape(quads.shape)
    faces = np.concatenate([where[:, [0, 1, 2]], where[:, [0, 2, 3]]]).astype(np.int32)
    weld = local[unique[:, 0]].astype(np.int32)
    uv = base.uv[unique[:, 1]].astype(np.float32)

    young = base.vertices.copy()
    for sex in ("male", "female"):
        for origin in ("african", "asian", "caucasian"):
            makehuman.add_target(young, f"{origin}-{sex}-young", 1 / 6)
    vertices, skeleton = _place(base, young, skin)
    weights = _weights(base, skin)
    part = np.array(rig.BONE_PART, dtype=np.uint8)[weights.argmax(axis=1)]
    mesh = Mesh(faces, uv, weld, weld[faces], weights, part[weld], _nails(uv))
    return HandModel("makehuman", mesh, lambda rng: HandShape(vertices, skeleton, {}))


def _place(base, vertices: np.ndarray, skin: np.ndarray):
    def joint(name):
        return base.joint(f"joint-r-{name}", vertices)

    joints = np.array([joint("hand"), *(joint(f"finger-{finger}-{bone}")
                                        for finger in range(1, 6) for bone in range(1, 5))])
    y = joints[9] - joints[0]
    y /= np.linalg.norm(y)
    x = joints[17] - joints[5]
    x -= y * (x @ y)
    x /= np.linalg.norm(x)
    turn = np.array([x, y, np.cross(x, y)])
    local = (joints - joints[0]) @ turn.T
    elbow = turn @ (joint("elbow") - joints[0])
    axes = np.array([[-0.25, 0.47, 0.83], [0.97, 0.20, 0.12], [0.99, -0.12, -0.02],
                     [0.95, -0.30, 0.03], [0.89, -0.43, -0.05]])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    skeleton = rig.measure(local, elbow, axes, np.zeros(5))
    return (vertices[skin] - joints[0]) @ turn.T, skeleton


def _weights(base, skin: np.ndarray) -> np.ndarray:
    bones = {"upperarm02.R": "upper_arm", "lowerarm01.R": "forearm_upper", "lowerarm02.R": "forearm",
             "wrist.R": "palm", **{f"metacarpal{ray}.R": f"metacarpal_{finger}"
                                   for ray, finger in enumerate(FINGERS[1:], start=1)},
             "finger1-1.R": "thumb_cmc", "finger1-2.R": "thumb_mcp", "finger1-3.R": "thumb_ip",
             **{f"finger{number}-{step}.R": f"{finger}_{joint}"
                for number, finger in enumerate(FINGERS[1:], start=2)
                for step, joint in enumerate(("mcp", "pip", "dip"), start=1)}}
    weights = np.zeros((len(base.vertices), rig.NUM_BONES))
    for source, bone in bones.items():
        indices, values = base.weights[source]
        weights[indices, rig.BONE[bone]] += values
    weights = weights[skin]
    return weights / weights.sum(axis=1, keepdims=True)


def _nails(uv: np.ndarray) -> np.ndarray:
    import cv2

    mask = cv2.imread(str(assets.path("makehuman/mpfb_fingernails.jpg")), cv2.IMREAD_GRAYSCALE)
    height, width = mask.shape
    rows = np.clip(((1.0 - uv[:, 1]) * height).astype(int), 0, height - 1)
    columns = np.clip((uv[:, 0] * width).astype(int), 0, width - 1)
    return mask[rows, columns].astype(np.float32) / 255.0
