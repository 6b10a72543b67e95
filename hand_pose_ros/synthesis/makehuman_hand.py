"""The right arm of the MakeHuman base mesh, re-rigged: knuckles inside their heads, tips on the skin."""
from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np

from hand_pose_ros.skeleton import FINGERTIPS, hand_length
from hand_pose_ros.synthesis import anthropometry, autorig, makehuman, reshape, rig
from hand_pose_ros.synthesis.hand_model import HandModel, HandShape, Mesh

ARM_BONES = ("upperarm02.R", "lowerarm01.R", "lowerarm02.R", "wrist.R",
             *(f"metacarpal{ray}.R" for ray in range(1, 5)),
             *(f"finger{finger}-{bone}.R" for finger in range(1, 6) for bone in range(1, 4)))

AXES = np.array([[-0.25, 0.47, 0.83], [0.97, 0.20, 0.12], [0.99, -0.12, -0.02], [0.95, -0.30, 0.03],
                 [0.89, -0.43, -0.05]])
"""Flexion axes of thumb..little in the mesh's rest pose: between the normals of the planes in which its fingers are
bent and the axes that its nails face."""
AXES /= np.linalg.norm(AXES, axis=1, keepdims=True)
THUMB_REST = np.zeros(5)
THUMB_CMC = np.array([-0.027, 0.027, -0.013])
"""The thumb's saddle joint in the hand frame: radial and palmar of the carpus."""
THUMB_MCP_SHIFT, LITTLE_PIP_SHIFT = 0.003, 0.0025
PROXIMAL_PHALANX = (0.035, 0.0375, 0.036, 0.0285)
"""Metres from the PIP to the knuckle of index..little. MakeHuman's own joints sit at the web, up to 11 mm too far out;
these lie between X-ray lengths (Buryanov & Kotiuk 2010, Table 3) and the joints that MANO learned."""
KNUCKLE_DEPTH = (0.0105, 0.011, 0.0105, 0.0095)
"""Metres below the dorsal skin: half a metacarpal head, its cartilage and the skin."""


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
    faces = makehuman.triangles(where).astype(np.int32)
    weld = local[unique[:, 0]].astype(np.int32)
    uv = base.uv[unique[:, 1]].astype(np.float32)
    rim = autorig.caps(weld[faces])                     # closes the arm's cut end, so that it is not hollow
    rim_skin, rim_local = np.unique(rim, return_inverse=True)
    faces = np.concatenate([faces, (len(weld) + rim_local.reshape(rim.shape)).astype(np.int32)])
    uv = np.concatenate([uv, np.repeat(uv[np.flatnonzero(weld == rim_skin[0])[:1]], len(rim_skin), axis=0)])
    weld = np.concatenate([weld, rim_skin.astype(np.int32)])

    young = base.vertices.copy()
    for name, strength in _macro(anthropometry.MEAN):
        makehuman.add_target(young, name, strength)
    vertices, elbow, cubes = _to_hand_frame(base, young, skin)
    skin_faces = weld[faces]
    joints = _joints(vertices, skin_faces, cubes)
    skeleton = rig.measure(joints, elbow, AXES, THUMB_REST)
    weights = autorig.hand_weights(vertices, skin_faces, joints, elbow, _finger_share(base, skin))
    part = np.array(rig.BONE_PART, dtype=np.uint8)[weights.argmax(axis=1)]
    mesh = Mesh(faces, uv, weld, skin_faces, weights, part[weld])
    family = _Family(base, skin, young, vertices, skeleton, weights)
    return HandModel("makehuman", mesh, family)


class _Family:
    """The shapes of this mesh: MakeHuman's targets for body, age and hand, then the person's proportions and size."""

    def __init__(self, base, skin, young, vertices, skeleton, weights):
        self.base, self.skin, self.weights = base, skin, weights
        self.vertices, self.skeleton = vertices, skeleton
        self.local = np.full(len(base.vertices), -1)
        self.local[skin] = np.arange(len(skin))
        self.turn = _hand_axes(base, young)
        self.regress = np.stack([autorig.regressor(vertices, joint) for joint in (*skeleton.joints, skeleton.elbow)])
        for number in FINGERTIPS:
            self.regress[number] = autorig.regressor(vertices, skeleton.joints[number], count=4)
        self.mean = dict(_macro(anthropometry.MEAN))
        self.number = {name: number for number, name in enumerate(_target_names())}
        self.known: set = set()
        self.offsets = np.zeros((len(self.number), 3 * len(vertices)))

    def _number(self, name: str) -> int:
        """Row of ``offsets`` that holds a target as (S * 3) metres in the hand frame; read from its file once."""
        number = self.number[name]
        if number not in self.known:
            indices, offsets = makehuman.target(name)
            rows = self.local[indices]
            self.offsets[number].reshape(-1, 3)[rows[rows >= 0]] = (offsets @ self.turn.T)[rows >= 0]
            self.known.add(number)
        return number

    def __call__(self, rng: np.random.Generator | None, grown: bool = False) -> HandShape:
        person = anthropometry.MEAN if rng is None else anthropometry.sample(rng, grown)
        strengths = np.zeros(len(self.number))
        for name, strength in self.mean.items():
            strengths[self._number(name)] = -strength
        for name, strength in (*_macro(person), *(_detail(rng) if rng is not None else ())):
            strengths[self._number(name)] += strength
        # A sum over all rows in their fixed order: the same whichever targets this process has read before.
        vertices = self.vertices + (strengths @ self.offsets).reshape(-1, 3)
        points = self.regress @ vertices                                   # (22, 3): the joints and the elbow
        turn = _align(points[:21] - points[0], self.skeleton.joints)
        vertices = (vertices - points[0]) @ turn.T
        points = (points - points[0]) @ turn.T
        skeleton = rig.measure(points[:21], points[21], AXES, THUMB_REST)
        vertices, joints = reshape.proportions(vertices, self.weights, skeleton, person)
        scale = person.hand_length_m / hand_length(joints)
        return HandShape(vertices * scale, rig.measure(joints * scale, points[21] * scale, AXES, THUMB_REST), person)


def _macro(person: anthropometry.Person) -> list[tuple[str, float]]:
    """MakeHuman's body targets with their strengths, as MakeHuman itself blends them."""
    age = person.age_years
    young = np.interp(age, (8.0, 20.0, 35.0, 90.0), (0.0, 1.0, 1.0, 0.0))
    ages = {"child": 1.0 - young if age < 25.0 else 0.0, "young": young, "old": 1.0 - young if age >= 25.0 else 0.0}
    sexes = {"male": person.male, "female": 1.0 - person.male}
    out = []
    for sex, sex_share in sexes.items():
        for when, age_share in ages.items():
            for origin, origin_share in zip(anthropometry.ORIGINS, person.origins):
                out.append((f"{origin}-{sex}-{when}", sex_share * age_share * origin_share))
            for muscle, muscle_share in _thirds(person.muscle):
                for weight, weight_share in _thirds(person.weight):
                    out.append((f"universal-{sex}-{when}-{muscle}muscle-{weight}weight",
                                sex_share * age_share * muscle_share * weight_share))
    return [(name, float(strength)) for name, strength in out if strength > 0.0]


def _target_names() -> list[str]:
    """Every target that a person may need."""
    names = []
    for sex, age in itertools.product(("male", "female"), ("child", "young", "old")):
        names += [f"{origin}-{sex}-{age}" for origin in anthropometry.ORIGINS]
        names += [f"universal-{sex}-{age}-{muscle}muscle-{weight}weight"
                  for muscle, weight in itertools.product(("min", "average", "max"), repeat=2)]
    return names + [f"{name}-{end}" for name in DETAILS for end in ("decr", "incr")]


def _thirds(value: float) -> list[tuple[str, float]]:
    return [("min", max(0.0, 1.0 - 2.0 * value)), ("average", 1.0 - abs(2.0 * value - 1.0)),
            ("max", max(0.0, 2.0 * value - 1.0))]


DETAILS = {"r-hand-fingers-diameter": 0.5, "r-lowerarm-fat": 0.5, "r-lowerarm-muscle": 0.6,
           "r-lowerarm-scale-depth": 0.25, "r-lowerarm-scale-horiz": 0.25, "measure-wrist-circ": 0.4}
"""Pairs of targets (-decr, -incr) and the standard deviation of their strength."""


def _detail(rng: np.random.Generator) -> list[tuple[str, float]]:
    out = []
    for name, spread in DETAILS.items():
        strength = float(np.clip(rng.normal(0.0, spread), -1.0, 1.0))
        out.append((f"{name}-{'incr' if strength > 0 else 'decr'}", abs(strength)))
    return out


def _align(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) about the origin that best maps points onto others (Kabsch 1976)."""
    left, _, right = np.linalg.svd(points.T @ onto)
    flip = np.diag([1.0, 1.0, np.linalg.det(left @ right)])
    return (left @ flip @ right).T


def _to_hand_frame(base, vertices: np.ndarray, skin: np.ndarray):
    """The arm's skin, its elbow and the MakeHuman joint cubes in the hand frame (rig.py)."""
    def joint(name):
        return base.joint(f"joint-r-{name}", vertices)

    cubes = np.array([joint("hand"), *(joint(f"finger-{finger}-{bone}")
                                       for finger in range(1, 6) for bone in range(1, 5))])
    turn = _hand_axes(base, vertices)
    return (vertices[skin] - cubes[0]) @ turn.T, turn @ (joint("elbow") - cubes[0]), (cubes - cubes[0]) @ turn.T


def _hand_axes(base, vertices: np.ndarray) -> np.ndarray:
    """Rows are the hand frame's axes in the base mesh; (3, 3)."""
    y = _unit(base.joint("joint-r-finger-3-1", vertices) - base.joint("joint-r-hand", vertices))
    x = base.joint("joint-r-finger-5-1", vertices) - base.joint("joint-r-finger-2-1", vertices)
    x = _unit(x - y * (x @ y))
    return np.array([x, y, np.cross(x, y)])


def _joints(vertices: np.ndarray, faces: np.ndarray, cubes: np.ndarray) -> np.ndarray:
    """The 21 joints inside the mean adult's mesh; (21, 3) metres."""
    joints = cubes.copy()
    joints[1] = THUMB_CMC
    joints[2] += THUMB_MCP_SHIFT * _unit(cubes[3] - cubes[2])
    joints[18] += LITTLE_PIP_SHIFT * _unit(cubes[17] - cubes[18])
    for ray in range(4):
        knuckle = 5 + 4 * ray
        joints[knuckle] = (joints[knuckle + 1]
                           + PROXIMAL_PHALANX[ray] * _unit(cubes[knuckle] - joints[knuckle + 1]))
        up = autorig.ray_hit(vertices, faces, joints[knuckle], np.array([0.0, 0.0, 1.0]))[0]
        joints[knuckle, 2] += up - KNUCKLE_DEPTH[ray]
    return autorig.settle_fingers(vertices, faces, joints, cubes, AXES)


def _finger_share(base, skin: np.ndarray) -> np.ndarray:
    """How much of each skin vertex belongs to thumb..little, from MakeHuman's own weights; (S, 5)."""
    share = np.zeros((len(base.vertices), 5))
    for finger in range(5):
        for bone in range(1, 4):
            indices, values = base.weights[f"finger{finger + 1}-{bone}.R"]
            share[indices, finger] += values
    return share[skin]


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
