"""Clothed people: the MakeHuman body with a face, hair, shirt and trousers, whose forearms and hands are scene.Arms.

Body frame: y up, x to the person's left, z forward, metres, origin at the body's middle. The mesh ends at the elbows;
the detailed arms of the hand model continue there.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from hand_pose_ros.synthesis import assets, makehuman, materials, rig, shapes
from hand_pose_ros.synthesis.hand_model import vertex_normals
from hand_pose_ros.synthesis.sensor import to_linear

VARIANTS = 16
_HEAD = ("neck", "head", "jaw", "levator", "oculi", "orbicularis", "oris", "risorius", "special", "temporalis",
         "tongue", "eye")
_FOREARM = ("lowerarm", "wrist", "metacarpal", "finger")


@dataclass(frozen=True, eq=False)
class Template:
    """What all bodies share."""

    quads: np.ndarray                           # (Q, 4) over body vertices
    weights: np.ndarray                         # (V, 4): torso, head, right arm, left arm
    forearm: np.ndarray                         # (V,) share of the dropped forearms and hands
    uv: np.ndarray                              # (V, 2)


@dataclass(frozen=True, eq=False)
class Figure:
    """One body shape in its rest pose, with the joints that move it."""

    vertices: np.ndarray                        # (V, 3)
    shoulders: np.ndarray                       # (2, 3) right, left
    elbows: np.ndarray                          # (2, 3)
    neck: np.ndarray                            # (3,)
    head: np.ndarray                            # (3,)
    eyes: np.ndarray                            # (2, 3)
    pelvis: np.ndarray                          # (3,)


@dataclass(frozen=True, eq=False)
class Person:
    """A dressed person in the body frame."""

    solids: tuple                               # (mesh, colour, pattern, gloss)
    elbows: np.ndarray                          # (2, 3) right, left
    upper_arms: np.ndarray                      # (2, 3) unit directions shoulder to elbow
    cloth: tuple                                # (colour, pattern, gloss) of the shirt
    long_sleeves: bool


@lru_cache(maxsize=1)
def template() -> Template:
    """Topology, weights and texture coordinates of the body. Raises DataError without the assets."""
    base = makehuman.base_mesh()
    count = int(base.quads.max()) + 1
    weights, forearm = np.zeros((count, 4)), np.zeros(count)
    for bone, (indices, values) in base.weights.items():
        inside = indices < count
        indices, values = indices[inside], values[inside]
        if bone.startswith(_FOREARM):
            forearm[indices] += values
            group = 2 if bone.endswith(".R") else 3
        elif bone.startswith("upperarm"):
            group = 2 if bone.endswith(".R") else 3
        else:
            group = 1 if bone.startswith(_HEAD) else 0
        weights[indices, group] += values
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-9)
    uv = np.zeros((count, 2))
    uv[base.quads.ravel()] = base.uv[base.quad_uv.ravel()]
    return Template(base.quads, weights, forearm, uv)


@lru_cache(maxsize=None)
def figure(variant: int) -> Figure:
    """Body shape number 0 .. VARIANTS - 1: sexes, ages, origins and weights in turn."""
    rng = np.random.default_rng(1000 + variant)
    base = makehuman.base_mesh()
    vertices = base.vertices.copy()
    sex = ("male", "female")[variant % 2]
    age = ("young", "young", "old")[variant % 3]
    for origin, share in zip(("african", "asian", "caucasian"), rng.dirichlet([0.5] * 3)):
        makehuman.add_target(vertices, f"{origin}-{sex}-{age}", share)
    muscle = ("average", "min", "max")[int(rng.integers(3))]
    weight = ("average", "min", "max", "average")[int(rng.integers(4))]
    makehuman.add_target(vertices, f"universal-{sex}-{age}-{muscle}muscle-{weight}weight", rng.uniform(0.5, 1.0))

    def joint(name):
        return base.joint("joint-" + name, vertices)

    return Figure(vertices[:len(template().uv)], np.stack([joint("r-shoulder"), joint("l-shoulder")]),
                  np.stack([joint("r-elbow"), joint("l-elbow")]), joint("neck"), joint("head"),
                  np.stack([joint("r-eye"), joint("l-eye")]), joint("pelvis"))


@lru_cache(maxsize=None)
def _face_tints(index: int) -> np.ndarray:
    """One skin image at the body's vertices, relative to its own mean skin. (V, 3) linear factors."""
    name = assets.names("skins/")[index]
    image = cv2.imread(str(assets.path(name)))
    uv = template().uv
    rows = np.clip(((1 - uv[:, 1]) * image.shape[0]).astype(int), 0, image.shape[0] - 1)
    columns = np.clip((uv[:, 0] * image.shape[1]).astype(int), 0, image.shape[1] - 1)
    colors = to_linear(image[rows, columns, ::-1])
    head = template().weights[:, 1] > 0.5
    return np.clip(colors / np.median(colors[head], axis=0), 0.05, 2.0)


def sample(rng: np.random.Generator, look: materials.SkinLook, upper_arms: np.ndarray, legs: bool = False) -> Person:
    """Draw a dressed person. look: skin, as on the hands; upper_arms: (2, 3) unit directions shoulder to elbow."""
    shared, shape = template(), figure(int(rng.integers(VARIANTS)))
    turn = (rig.axis_angle(np.array([0.0, 1.0, 0.0]), rng.normal(0, 0.35))
            @ rig.axis_angle(np.array([1.0, 0.0, 0.0]), rng.normal(0.05, 0.2)))
    motions = np.zeros((4, 3, 4))
    motions[0, :, :3] = np.eye(3)
    motions[1, :, :3], motions[1, :, 3] = turn, shape.neck - turn @ shape.neck
    elbows = np.empty((2, 3))
    for side in range(2):
        arm = shape.elbows[side] - shape.shoulders[side]
        R = turn_between(arm / np.linalg.norm(arm), upper_arms[side])
        motions[2 + side, :, :3], motions[2 + side, :, 3] = R, shape.shoulders[side] - R @ shape.shoulders[side]
        elbows[side] = R @ shape.elbows[side] + motions[2 + side, :, 3]
    blended = (shared.weights @ motions.reshape(4, 12)).reshape(-1, 3, 4)
    vertices = np.einsum("vij,vj->vi", blended[..., :3], shape.vertices) + blended[..., 3]

    rest = shape.vertices
    of_quad = rest[shared.quads].mean(1)
    arm_share = shared.weights[shared.quads][..., 2:].sum(-1).mean(1)
    head_share = shared.weights[shared.quads][..., 1].mean(1)
    keep = shared.forearm[shared.quads].min(1) < 0.6
    keep &= of_quad[:, 1] > (-0.9 if legs else shape.pelvis[1] - 0.5)
    long_sleeves = bool(rng.random() < 0.5)
    neckline = shape.neck[1] - rng.uniform(0.0, 0.05) + 1.5 * np.maximum(np.abs(of_quad[:, 0]) - 0.07, 0)
    dressed = (of_quad[:, 1] < neckline) & (head_share < 0.6)
    along = np.stack([(of_quad - s) @ (e - s) / ((e - s) @ (e - s)) for s, e in zip(shape.shoulders, shape.elbows)], 1)
    sleeve_end = 1.2 if long_sleeves else rng.choice([0.35, 0.6, 0.75]) if rng.random() < 0.85 else -0.1
    bare_arm = (arm_share > 0.5) & (along.max(1) > sleeve_end)
    hips = shape.pelvis[1] + 0.05
    trousers = dressed & (of_quad[:, 1] < hips) & (arm_share < 0.3)
    shirt = dressed & ~bare_arm & ~trousers
    skin = keep & ~shirt & ~trousers
    skull = shape.head + [0, 0.07, 0.0]
    local = of_quad - skull
    hair = (head_share > 0.7) & ((local[:, 1] > 0.045 + 0.9 * local[:, 2]) | (local[:, 1] > rng.uniform(0.085, 0.1)))
    hair &= of_quad[:, 1] > shape.neck[1] + rng.uniform(0.02, 0.09)

    faces = np.concatenate([shared.quads[:, [0, 1, 2]], shared.quads[:, [0, 2, 3]]])
    normals = vertex_normals(vertices, faces)
    cloth = materials.sample_cloth(rng), _pattern(rng, 0.5), float(rng.uniform(0.0, 0.2))
    wave = np.sin(rest @ rng.normal(0, 45, (3, 6)) + rng.uniform(0, 6, 6)) @ rng.normal(0, 1, 6)
    solids = []

    def add(select, lift, color, pattern, gloss):
        quads = shared.quads[select]
        if len(quads) == 0:
            return
        used, where = np.unique(quads, return_inverse=True)
        where = where.reshape(quads.shape)
        v = vertices[used] + normals[used] * lift(used)[:, None]
        mesh_faces = np.concatenate([where[:, [0, 1, 2]], where[:, [0, 2, 3]]])
        n = vertex_normals(v, mesh_faces)
        uv = np.stack([np.arctan2(rest[used, 0], rest[used, 2] + 0.03) * 1.3, rest[used, 1] * 6], axis=1)
        solids.append(((v, n, uv, mesh_faces), color[used] if np.ndim(color) == 2 else color, pattern, gloss))

    look_back = look.back if not look.glove else materials.tone(rng.random())
    tints = _face_tints(int(rng.integers(len(assets.names("skins/")))))
    add(skin & ~hair, lambda i: np.zeros(len(i)), look_back * tints, 0, look.gloss if not look.glove else 0.3)
    loose = rng.uniform(0.006, 0.03)
    fold = rng.uniform(0.001, 0.005)
    add(keep & shirt, lambda i: loose + fold * wave[i], *cloth)
    add(keep & trousers, lambda i: 0.012 + 0.003 * wave[i], materials.sample_cloth(rng), _pattern(rng, 0.3), 0.1)
    hair_color = (np.array([0.04, 0.028, 0.02]) * np.exp(rng.uniform(-1.2, 2.2)) * np.exp(rng.normal(0, 0.1, 3))
                  if rng.random() < 0.9 else materials.sample_cloth(rng))
    if rng.random() < 0.88:
        thick = rng.uniform(0.008, 0.035)
        add(hair, lambda i: thick * (1 + 0.25 * wave[i] / 3), hair_color, 8, 0.45)
        if rng.random() < 0.4:                                      # long hair
            back = turn @ (skull - shape.neck + [0, -0.08, -0.05]) + shape.neck
            solids.append((shapes.ball(back, [0.10, rng.uniform(0.12, 0.24), 0.075]), hair_color, 8, 0.45))
    else:
        add(hair, lambda i: np.zeros(len(i)), look_back * tints, 0, 0.4)
    for eye in shape.eyes:
        centre = turn @ (eye - shape.neck) + shape.neck
        forward = turn @ np.array([0.0, 0.0, 1.0])
        solids.append((shapes.ball(centre, 0.0125, rings=6, sides=8), np.array([0.6, 0.57, 0.55]), 0, 0.7))
        iris = shapes.ball(centre + 0.0085 * forward, 0.0062, rings=5, sides=7)
        solids.append((iris, np.array([0.03, 0.02, 0.015]), 0, 0.9))
    if rng.random() < 0.22:                                         # glasses
        for eye in shape.eyes:
            centre = turn @ (eye + [0, 0, 0.022] - shape.neck) + shape.neck
            a = np.linspace(0, 2 * np.pi, 13)
            for k in range(12):
                ends = [centre + turn @ np.array([0.027 * np.cos(t), 0.02 * np.sin(t), 0]) for t in (a[k], a[k + 1])]
                solids.append((shapes.revolve(*ends, [0.002, 0.002], sides=4), np.full(3, 0.02), 0, 0.8))
    if rng.random() < 0.12:                                         # medical mask or scarf
        face = skull + [0, -0.075, 0.055]
        solids.append((shapes.ball(turn @ (face - shape.neck) + shape.neck, [0.06, 0.05, 0.055], turn),
                       materials.sample_cloth(rng) if rng.random() < 0.5 else np.array([0.6, 0.7, 0.75]), 0, 0.1))
    for side in range(2):
        color = cloth if long_sleeves else (look_back, 0, look.gloss)
        solids.append((shapes.ball(elbows[side], 0.046 if long_sleeves else 0.040), *color))
    return Person(tuple(solids), elbows, upper_arms, cloth, long_sleeves)


def sample_gesture(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw where one arm goes. side: 0 right, 1 left. Returns unit (upper arm, forearm, palm) vectors, body frame."""
    out = -1.0 if side == 0 else 1.0
    u = rng.random()
    if u < 0.45:                                                   # raised beside or before the body
        upper, fore = [0.35, -0.85, 0.35], [rng.normal(0.0, 0.4), rng.uniform(0.3, 1.0), rng.normal(0.5, 0.4)]
        palm = [0.0, 0.0, 1.0]
    elif u < 0.65:                                                 # forward
        upper, fore = [0.25, -0.8, 0.4], [rng.normal(-0.2, 0.4), rng.normal(0.1, 0.25), 1.0]
        palm = [-0.5, -0.5, 0.3]
    elif u < 0.78:                                                 # before chest or belly
        upper, fore = [0.35, -0.9, 0.2], [-1.0, rng.normal(0.15, 0.3), rng.uniform(0.2, 0.8)]
        palm = [-0.2, -0.2, -1.0]
    elif u < 0.88:                                                 # to the face or head
        upper, fore = [0.5, -0.3, 0.7], [rng.normal(-0.5, 0.15), 0.8, rng.normal(-0.1, 0.2)]
        palm = [-0.6, 0.0, -0.6]
    elif u < 0.94:                                                 # overhead
        upper, fore = [0.6, 0.4, 0.3], [rng.normal(-0.1, 0.3), 1.0, rng.normal(0.1, 0.3)]
        palm = [0.0, 0.0, 1.0]
    else:                                                          # hanging
        upper, fore = [0.2, -1.0, 0.0], [0.05, -1.0, 0.25]
        palm = [-1.0, 0.0, -0.1]
    if rng.random() < 0.35:
        palm = rng.normal(0, 1, 3)
    mirror = np.array([out, 1.0, 1.0])
    return tuple(v / np.linalg.norm(v) for v in ((np.array(upper) + rng.normal(0, 0.15, 3)) * mirror,
                                                 np.array(fore) * mirror,
                                                 (np.array(palm) + rng.normal(0, 0.25, 3)) * mirror))


def arm_rotation(elbow_in_hand: np.ndarray, forearm: np.ndarray, palm: np.ndarray, side: int) -> np.ndarray:
    """R (3, 3) from the (right) hand frame to the body frame, reflecting for a left arm.

    Brings the forearm's direction to ``forearm`` and the palm as near to ``palm`` as that allows.
    """
    flip = np.diag([1.0 if side == 0 else -1.0, 1.0, 1.0])
    along = flip @ (-elbow_in_hand / np.linalg.norm(elbow_in_hand))
    R = turn_between(along, forearm)
    now = R @ flip @ np.array([0.0, 0.0, -1.0])
    a, b = now - forearm * (now @ forearm), palm - forearm * (palm @ forearm)
    roll = np.arctan2(np.cross(a, b) @ forearm, a @ b)
    return rig.axis_angle(forearm, roll) @ R @ flip


def turn_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotation (3, 3) that takes unit vector a to unit vector b."""
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis)
    if sine < 1e-9:
        return np.eye(3) if a @ b > 0 else rig.axis_angle(shapes.frame(a)[0], np.pi)
    return rig.axis_angle(axis / sine, np.arctan2(sine, a @ b))


def _pattern(rng: np.random.Generator, chance: float) -> int:
    return int(rng.integers(1, materials.PATTERNS)) if rng.random() < chance else 0
