"""Puts joints inside a mesh and derives skinning weights from both: the geometry behind every hand model."""
from __future__ import annotations

import numpy as np

from hand_pose_ros.errors import DataError
from hand_pose_ros.skeleton import FINGERS
from hand_pose_ros.synthesis import rig


def ray_hit(vertices: np.ndarray, faces: np.ndarray, origin: np.ndarray, direction: np.ndarray):
    """First triangle that a ray meets (Moeller & Trumbore, JGT 2(1), 1997).

    vertices: (V, 3); faces: (F, 3); origin, direction: (3,). Returns (distance in lengths of ``direction``,
    face index, barycentric coordinates (3,)). Raises DataError if nothing is met.
    """
    a = vertices[faces[:, 0]]
    ab, ac = vertices[faces[:, 1]] - a, vertices[faces[:, 2]] - a
    p = np.cross(direction, ac)
    determinant = (ab * p).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        to = origin - a
        u = (to * p).sum(axis=1) / determinant
        q = np.cross(to, ab)
        v = q @ direction / determinant
        distance = (ac * q).sum(axis=1) / determinant
    hit = (np.abs(determinant) > 1e-18) & (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > 1e-9)
    if not hit.any():
        raise DataError(f"a ray from {origin.round(4).tolist()} along {direction.round(3).tolist()} meets no skin; "
                        "the mesh is not the one that this rig was made for")
    face = int(np.where(hit, distance, np.inf).argmin())
    return float(distance[face]), face, np.array([1.0 - u[face] - v[face], u[face], v[face]])


def centred(vertices: np.ndarray, faces: np.ndarray, joint: np.ndarray, dorsal: np.ndarray, side: np.ndarray,
            depth: float) -> np.ndarray:
    """Move a joint to the middle of its finger's width, at ``depth`` (0 dorsal .. 1 palmar) of its thickness. (3,)"""
    right = ray_hit(vertices, faces, joint, side)[0]
    left = ray_hit(vertices, faces, joint, -side)[0]
    joint = joint + side * (right - left) / 2
    up = ray_hit(vertices, faces, joint, dorsal)[0]
    down = ray_hit(vertices, faces, joint, -dorsal)[0]
    return joint + dorsal * (up - depth * (up + down))


def regressor(vertices: np.ndarray, joint: np.ndarray, count: int = 40) -> np.ndarray:
    """Weights (V,) that add up to 1, reproduce ``joint`` from the nearest vertices and are as even as possible.

    They carry the joint along when the shape of the hand changes; exact for every affine change.
    """
    near = np.argsort(np.linalg.norm(vertices - joint, axis=1))[:count]
    system = np.concatenate([vertices[near] - joint, np.full((count, 1), 0.01)], axis=1).T          # (4, count)
    weights = np.zeros(len(vertices))
    weights[near] = np.linalg.lstsq(system, np.array([0.0, 0.0, 0.0, 0.01]), rcond=None)[0]
    return weights


def laplacian(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Cotangent Laplacian (V, V), positive semi-definite, with negative weights clipped (Pinkall & Polthier 1993)."""
    size = len(vertices)
    out = np.zeros((size, size))
    for corner in range(3):
        i, j, k = faces[:, corner], faces[:, (corner + 1) % 3], faces[:, (corner + 2) % 3]
        one, two = vertices[j] - vertices[i], vertices[k] - vertices[i]
        area = np.maximum(np.linalg.norm(np.cross(one, two), axis=1), 1e-12)
        half = np.clip((one * two).sum(axis=1) / area, 0.02, 20.0) / 2
        np.add.at(out, (j, k), -half)
        np.add.at(out, (k, j), -half)
    out[np.diag_indices(size)] = -out.sum(axis=1)
    return out


def heat_weights(vertices: np.ndarray, faces: np.ndarray, segments: np.ndarray, allowed: np.ndarray,
                 stiffness: float = 1.0) -> np.ndarray:
    """Skinning weights from heat that flows from each vertex's nearest bone over the skin.

    Bone heat (Baran & Popovic, SIGGRAPH 2007, eq. 1): (A^-1 L + H) w = H p, with H = stiffness / d^2.
    vertices: (V, 3); segments: (B, 2, 3) bones; allowed: (V, B) bool, the bones that may be nearest to a vertex.
    Returns (V, B); rows add up to 1.
    """
    start, along = segments[:, 0], segments[:, 1] - segments[:, 0]
    share = np.einsum("vbk,bk->vb", vertices[:, None] - start, along) / np.maximum((along**2).sum(axis=1), 1e-12)
    closest = start + np.clip(share, 0.0, 1.0)[..., None] * along
    distance = np.where(allowed, np.linalg.norm(vertices[:, None] - closest, axis=2), np.inf)        # (V, B)
    nearest = distance.min(axis=1, keepdims=True)
    source = distance <= nearest * 1.0001 + 1e-6
    source = source / source.sum(axis=1, keepdims=True)
    area = np.zeros(len(vertices))
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    np.add.at(area, faces, (np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6)[:, None])
    heat = stiffness * area / np.maximum(nearest[:, 0], 1e-4)**2
    weights = np.linalg.solve(laplacian(vertices, faces) + np.diag(heat), heat[:, None] * source)
    weights = np.where(weights > 1e-3, weights, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def caps(faces: np.ndarray) -> np.ndarray:
    """Triangles (C, 3) that close every hole of a mesh with a fan. faces: (F, 3), counter-clockwise from outside."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {tuple(edge) for edge in edges.tolist()}
    after = {end: start for start, end in known if (end, start) not in known}     # the rim, walked the other way
    out = []
    while after:
        first = next(iter(after))
        loop, corner = [first], after.pop(first)
        while corner != first:
            loop.append(corner)
            corner = after.pop(corner)
        out += [(loop[0], loop[i], loop[i + 1]) for i in range(1, len(loop) - 1)]
    return np.array(out, dtype=faces.dtype).reshape(-1, 3)


def settle_fingers(vertices: np.ndarray, faces: np.ndarray, joints: np.ndarray, guide: np.ndarray,
                   axes: np.ndarray) -> np.ndarray:
    """Move PIP, DIP (thumb: MCP, IP) into the middle of their fingers and the tips onto the skin.

    joints: (21, 3) metres, knuckles in place. guide: (21, 3) rough joints that give the fingers' directions.
    axes: (5, 3) flexion axes. Returns (21, 3).
    """
    joints = joints.copy()
    for finger in range(5):
        first = 2 if finger == 0 else 6 + 4 * (finger - 1)
        for joint in (first, first + 1):
            along = _unit(guide[joint + 1] - guide[joint - 1])
            side = _unit(axes[finger] - along * (axes[finger] @ along))
            joints[joint] = centred(vertices, faces, joints[joint], np.cross(side, along), side, 0.45)
        last = first + 1
        outer = vertices[((vertices - joints[last]) @ _unit(guide[last + 1] - guide[last]) > 0.0)
                         & (np.linalg.norm(vertices - guide[last + 1], axis=1) < 0.02)]
        along = _unit(outer.mean(axis=0) - joints[last])
        joints[last + 1] = joints[last] + along * ray_hit(vertices, faces, joints[last], along)[0]
    return joints


def hand_weights(vertices: np.ndarray, faces: np.ndarray, joints: np.ndarray, elbow: np.ndarray,
                 finger_share: np.ndarray) -> np.ndarray:
    """Heat weights for the hand, a smooth hand-over at the wrist and a spread twist along the forearm.

    vertices: (V, 3) metres in the hand frame; finger_share: (V, 5) how much belongs to thumb..little.
    Returns (V, 23), rows add up to 1.
    """
    segments, turning, bases = np.zeros((rig.NUM_BONES, 2, 3)), rig.pivots(joints), rig.metacarpal_bases(joints)
    allowed = np.zeros((len(vertices), rig.NUM_BONES), dtype=bool)
    for finger, name in enumerate(FINGERS):
        chain = turning[1 + 4 * finger:5 + 4 * finger]
        bones = [rig.BONE[f"{name}_{joint}"] for joint in (("cmc", "mcp", "ip") if finger == 0
                                                             else ("mcp", "pip", "dip"))]
        for bone, ends in zip(bones, zip(chain[:-1], chain[1:])):
            segments[bone] = ends
        allowed[np.ix_(finger_share[:, finger] > 0.3, bones)] = True
        if finger:
            metacarpal = rig.BONE[f"metacarpal_{name}"]
            segments[metacarpal] = bases[finger - 1], chain[0]
            allowed[:, metacarpal] = (finger_share[:, np.arange(5) != finger] <= 0.5).all(axis=1)
        else:
            allowed[:, bones[0]] |= finger_share[:, 1:].max(axis=1) < 0.3
    segments[rig.BONE["palm"]] = [0.0, -0.01, 0.0], [0.0, 0.02, 0.0]
    allowed[:, rig.BONE["palm"]] = finger_share.max(axis=1) < 0.3
    weights = heat_weights(vertices, faces, segments, allowed)

    height = vertices @ -_unit(elbow)                               # 0 at the wrist, negative towards the elbow
    forearm = 1.0 - _smoothstep((height + 0.022) / 0.044)
    weights *= (1.0 - forearm)[:, None]
    twist = np.clip(-height / np.linalg.norm(elbow), 0.0, 1.0)      # 0 wrist .. 1 elbow
    weights[:, rig.BONE["forearm"]] += forearm * np.clip(1.0 - 2.0 * twist, 0.0, 1.0)
    weights[:, rig.BONE["forearm_upper"]] += forearm * (1.0 - np.abs(1.0 - 2.0 * twist))
    weights[:, rig.BONE["upper_arm"]] += forearm * np.clip(2.0 * twist - 1.0, 0.0, 1.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _smoothstep(value: np.ndarray) -> np.ndarray:
    value = np.clip(value, 0.0, 1.0)
    return value * value * (3.0 - 2.0 * value)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
