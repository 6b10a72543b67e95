"""The WebXR generic hand (MIT, Amazon): a second hand for variety, re-rigged like the first, with a forearm added."""
from __future__ import annotations

import json
import struct
from functools import lru_cache

import numpy as np

from hand_pose_ros.errors import DataError
from hand_pose_ros.skeleton import hand_length
from hand_pose_ros.synthesis import anthropometry, assets, autorig, conventions, reshape, rig
from hand_pose_ros.synthesis.hand_model import HandModel, HandShape, Mesh

_COMPONENTS = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}

THUMB_CMC_SHIFT_M = 0.007
"""How much nearer to the wrist the thumb's saddle joint is put than the asset has it, to agree with the other mesh."""
KNUCKLE_SHIFT_M = (0.006, 0.0075, 0.006, 0.005)
"""How far outwards the knuckles are put from the asset's metacarpal heads, to agree with the other mesh."""
THUMB_REST = np.radians([2.5, 3.0, 2.0, -7.0, -11.0])
"""The angles that this mesh's thumb has at rest when they are counted from the other mesh's rest."""
FOREARM_MM = np.array([[0, 26, 18], [30, 26, 19], [60, 28, 22], [100, 33, 26], [150, 38, 31], [200, 41, 35],
                       [240, 42, 37], [290, 41, 38]], dtype=float)
"""Distance from the wrist, half width and half depth of the forearm of a 186 mm hand (the MakeHuman mesh's)."""
ELBOW_M = np.array([-0.012, -0.245, -0.006])


@lru_cache(maxsize=1)
def load() -> HandModel:
    """Build the model from the asset. Raises DataError if it is missing or malformed."""
    part = _read(assets.path("webxr/right.glb"))
    skin, weld = np.unique(part["POSITION"].round(6), axis=0, return_inverse=True)
    weld = weld.ravel()
    share = np.zeros((len(skin), 25))
    np.add.at(share, (np.repeat(weld, 4), part["JOINTS_0"].ravel()), part["WEIGHTS_0"].ravel())
    share /= share.sum(axis=1, keepdims=True)
    finger_share = np.stack([share[:, 2:5].sum(axis=1), *(share[:, first + 1:first + 5].sum(axis=1)
                                                          for first in (5, 10, 15, 20))], axis=1)
    guide = conventions.reorder(part["joints"], conventions.WEBXR_25)
    scale = anthropometry.MEAN.hand_length_m / hand_length(guide)
    turn = _hand_axes(guide)
    vertices, guide = (skin - guide[0]) @ turn.T * scale, (guide - guide[0]) @ turn.T * scale

    faces, uv = part["indices"].reshape(-1, 3).astype(np.int64), part["TEXCOORD_0"]
    vertices, faces, uv, weld, added = _add_forearm(vertices, faces, uv, weld)
    finger_share = np.concatenate([finger_share, np.zeros((added, 5))])
    axes = _flexion_axes(guide)
    joints = _joints(vertices, weld[faces], guide, axes)
    weights = autorig.hand_weights(vertices, weld[faces], joints, ELBOW_M, finger_share)
    part_ids = np.array(rig.BONE_PART, dtype=np.uint8)[weights.argmax(axis=1)]
    mesh = Mesh(faces.astype(np.int32), uv.astype(np.float32), weld.astype(np.int32),
                weld[faces].astype(np.int32), weights, part_ids[weld])
    skeleton = rig.measure(joints, ELBOW_M, axes, THUMB_REST)

    def shape(rng: np.random.Generator | None, grown: bool = False) -> HandShape:
        person = anthropometry.MEAN if rng is None else anthropometry.sample(rng, grown)
        moved, ends = reshape.proportions(vertices, weights, skeleton, person)
        size = person.hand_length_m / hand_length(ends)
        return HandShape(moved * size, rig.measure(ends * size, ELBOW_M * size, axes, THUMB_REST), person)

    return HandModel("webxr", mesh, shape)


def _read(path) -> dict:
    """Accessors of the only mesh of a binary glTF 2.0 file and the rest positions of its joints, in its own frame."""
    data = path.read_bytes()
    try:
        magic, _, _, length, kind = struct.unpack("<4sIII4s", data[:20])
        if magic != b"glTF" or kind != b"JSON":
            raise ValueError("no glTF header")
        scene = json.loads(data[20:20 + length])
        blob = data[20 + length + 8:]

        def accessor(number: int) -> np.ndarray:
            entry = scene["accessors"][number]
            view = scene["bufferViews"][entry["bufferView"]]
            width = _WIDTHS[entry["type"]]
            return np.frombuffer(blob, _COMPONENTS[entry["componentType"]], entry["count"] * width,
                                 view.get("byteOffset", 0) + entry.get("byteOffset", 0)).reshape(-1, width)

        primitive = scene["meshes"][0]["primitives"][0]
        out = {name: accessor(number).astype(np.float64 if name != "JOINTS_0" else np.int64)
               for name, number in primitive["attributes"].items()}
        out["indices"] = accessor(primitive["indices"])
        inverse = accessor(scene["skins"][0]["inverseBindMatrices"]).astype(np.float64).reshape(-1, 4, 4)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path} is not the hand it should be ({error}); {assets.REMEDY}") from None
    out["joints"] = np.linalg.inv(np.swapaxes(inverse, 1, 2))[:, :3, 3]
    return out


def _hand_axes(joints: np.ndarray) -> np.ndarray:
    y = (joints[9] - joints[0]) / np.linalg.norm(joints[9] - joints[0])
    x = joints[17] - joints[5]
    x = x - y * (x @ y)
    x /= np.linalg.norm(x)
    return np.array([x, y, np.cross(x, y)])


def _flexion_axes(joints: np.ndarray) -> np.ndarray:
    """The fingers are nearly straight at rest: their axes lie across them, level with the knuckles."""
    across = joints[17] - joints[5]
    axes = []
    for first in (5, 9, 13, 17):
        along = joints[first + 2] - joints[first]
        along = along / np.linalg.norm(along)
        axis = across - along * (across @ along)
        axes.append(axis / np.linalg.norm(axis))
    thumb = joints[4] - joints[2]
    thumb = thumb / np.linalg.norm(thumb)
    axis = np.array([-0.25, 0.47, 0.83])
    axis = axis - thumb * (axis @ thumb)
    return np.array([axis / np.linalg.norm(axis), *axes])


def _joints(vertices: np.ndarray, faces: np.ndarray, guide: np.ndarray, axes: np.ndarray) -> np.ndarray:
    joints = guide.copy()
    back = joints[0] - joints[1]
    joints[1] += THUMB_CMC_SHIFT_M * back / np.linalg.norm(back)
    for ray, shift in enumerate(KNUCKLE_SHIFT_M):
        along = joints[6 + 4 * ray] - joints[5 + 4 * ray]
        joints[5 + 4 * ray] += shift * along / np.linalg.norm(along)
    return autorig.settle_fingers(vertices, faces, joints, guide, axes)


def _add_forearm(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, weld: np.ndarray):
    """Take off the flat end at the wrist and carry its rim on to above the elbow.

    Returns vertices, faces, uv, weld and the number of skin vertices added. The forearm has a strip of texture of its
    own above the asset's square.
    """
    corners = vertices[weld[faces]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    flat = (normal @ np.array([0.0, -1.0, 0.0]) > 0.8) & (corners[..., 1].max(axis=1) < -0.008)
    faces = faces[~flat]
    rim = _rim(weld[faces])

    along = ELBOW_M / np.linalg.norm(ELBOW_M)
    side = np.cross(along, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    front = np.cross(side, along)
    ends = vertices[rim]
    start = float((ends @ along).max()) + 0.002
    angle = np.arctan2((ends - ends.mean(axis=0)) @ front, (ends - ends.mean(axis=0)) @ side)
    wrist = np.stack([np.ptp(ends @ side) / 2, np.ptp(ends @ front) / 2])
    heights = np.concatenate([[start], np.arange(np.ceil(start * 100) / 100 + 0.01, 0.29, 0.02)])
    rings = []
    for height in heights:
        radii = np.array([np.interp(height * 1000, FOREARM_MM[:, 0], FOREARM_MM[:, axis]) for axis in (1, 2)]) / 1000
        blend = np.clip((height - start) / 0.06, 0.0, 1.0)
        radii = (1 - blend) * wrist + blend * np.maximum(radii, wrist)
        centre = along * height + (1 - blend) * (ends.mean(axis=0) - along * (ends.mean(axis=0) @ along))
        rings.append(centre + radii[0] * np.cos(angle)[:, None] * side + radii[1] * np.sin(angle)[:, None] * front)
    skin = np.concatenate([vertices, *rings])
    tip = len(skin)
    skin = np.concatenate([skin, rings[-1].mean(axis=0)[None]])

    count, first = len(rim), len(weld)
    columns = [rim, *(len(vertices) + count * ring + np.arange(count) for ring in range(len(rings)))]
    grid = np.array([np.append(column, column[0]) for column in columns])                 # (R, count + 1) skin ids
    u, v = np.meshgrid(np.linspace(0.0, 1.0, count + 1), 1.02 + 0.3 * np.linspace(0.0, 1.0, len(grid)))
    ids = first + np.arange(grid.size).reshape(grid.shape)
    a, b, c, d = ids[:-1, :-1], ids[:-1, 1:], ids[1:, 1:], ids[1:, :-1]
    strip = np.concatenate([np.stack([a, d, c], -1).reshape(-1, 3), np.stack([a, c, b], -1).reshape(-1, 3)])
    close = first + grid.size
    cap = np.stack([close + np.arange(count), np.full(count, close + count + 1), close + 1 + np.arange(count)], -1)
    weld = np.concatenate([weld, grid.ravel(), grid[-1], [tip]])
    uv = np.concatenate([uv, np.stack([u.ravel(), v.ravel()], -1), np.tile([[0.5, 1.32]], (count + 2, 1))])
    return skin, np.concatenate([faces, strip, cap]), uv, weld, len(skin) - len(vertices)


def _rim(faces: np.ndarray) -> np.ndarray:
    """The one open edge loop of a mesh, in the direction of its faces' edges."""
    edges = {tuple(edge) for edge in np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).tolist()}
    after = {start: end for start, end in edges if (end, start) not in edges}
    if not after:
        raise DataError(f"the WebXR hand has no flat wrist end to open; {assets.REMEDY}")
    corner = next(iter(after))
    loop = []
    while corner in after:
        loop.append(corner)
        corner = after.pop(corner)
    if after:
        raise DataError(f"the WebXR hand opens in more than one place; {assets.REMEDY}")
    return np.array(loop)
