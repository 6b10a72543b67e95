"""Clothed people: the MakeHuman body with a face, hair, shirt and trousers, whose forearms and hands are scene.Arms.

Body frame: y up, x to the person's left, z forward, metres, origin at the body's middle. The mesh ends at the elbows;
the detailed arms of the hand model continue there.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from hand_pose_ros.synthesis import anthropometry, assets, makehuman, materials, rig, shapes
from hand_pose_ros.synthesis.hand_model import vertex_normals
from hand_pose_ros.synthesis.sensor import to_linear

VARIANTS = 16
SEXES, AGES = ("male", "female"), ("young", "young", "old")
"""Of body shapes, in turn."""
MIDDLE_HEIGHT_M = 0.82
"""Height of a body's origin over the floor it stands on."""
FROM_FACE_M = (0.10, 0.19)
"""How far from the middle of the head the middle of a hand is that is held to it."""
ELBOW_TO_PALM_M = 0.34
TINT_HUES = (0.9, 1.15)
"""How far a channel of the skin images may go from the image's own middle skin, beside what all channels do: blood in
the cheeks and lips, but no grey."""
LEGS_FROM_M = 0.56
"""What lies as far below the pelvis of the base mesh is drawn only where legs are wanted."""
_FACE_FROM_EYES = (0.0, -0.03, -0.075)
_HEAD = ("neck", "head", "jaw", "levator", "oculi", "orbicularis", "oris", "risorius", "special", "temporalis",
         "tongue", "eye")
_FOREARM = ("lowerarm", "wrist", "metacarpal", "finger")


@dataclass(frozen=True, eq=False)
class Template:
    """What all bodies share: the part of the MakeHuman body that is drawn."""

    used: np.ndarray                            # (V,) which of the base mesh's vertices these are
    quads: np.ndarray                           # (Q, 4) over them
    weights: np.ndarray                         # (V, 4): torso, head, right arm, left arm
    uv: np.ndarray                              # (V, 2)
    faces: np.ndarray                           # (2 Q, 3): the quads as triangles
    quad_arm: np.ndarray                        # (Q,) mean weight of both arms
    quad_head: np.ndarray                       # (Q,) and of the head


@dataclass(frozen=True, eq=False)
class Figure:
    """One body shape in its rest pose, with the joints that move it."""

    vertices: np.ndarray                        # (V, 3)
    clothed: np.ndarray                         # (V, 3) the same without the relief that cloth hides
    quad_middles: np.ndarray                    # (Q, 3), of those that are drawn
    male: bool
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
    trunk: np.ndarray                           # (n, 3) skin of torso, legs and head
    face: np.ndarray                            # (3,) point between the ears, below the eyes

    def holds(self, points: np.ndarray) -> np.ndarray:
        """Which of some points (n, 3) in the body frame lie inside trunk or head or within 3 cm of them. (n,) bool."""
        low, high = points.min(0) - 0.025, points.max(0) + 0.025
        x, y, z = self.trunk.T
        x, y, z = self.trunk[(x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])].T
        near = (np.abs(points[:, :1] - x) < 0.025) & (np.abs(points[:, 1:2] - y) < 0.025)
        front = np.where(near, z, -np.inf).max(1, initial=-np.inf) + 0.03
        behind = np.where(near, z, np.inf).min(1, initial=np.inf) - 0.03
        return (points[:, 2] < front) & (points[:, 2] > behind)


@lru_cache(maxsize=None)
def template(legs: bool) -> Template:
    """Topology, weights and texture coordinates of a body without forearms and hands, and without what lies far below
    the hips if no ``legs`` are wanted: half of the vertices. Raises DataError without the assets."""
    base, full = makehuman.base_mesh(), _whole()
    kept = full.forearm[full.quads].min(1) < 0.6
    if not legs:
        pelvis = base.joint("joint-pelvis", base.vertices)
        kept &= base.vertices[full.quads][..., 1].mean(1) > pelvis[1] - LEGS_FROM_M
    used, quads = np.unique(full.quads[kept], return_inverse=True)
    quads = quads.reshape(-1, 4)
    weights = full.weights[used]
    return Template(used, quads, weights, full.uv[used], makehuman.triangles(quads),
                    weights[quads][..., 2:].sum(-1).mean(1), weights[quads][..., 1].mean(1))


@dataclass(frozen=True, eq=False)
class _Whole:
    """The body mesh as published, with feet, forearms and hands."""

    quads: np.ndarray
    weights: np.ndarray
    forearm: np.ndarray                         # (V,) share of forearms and hands
    uv: np.ndarray


@lru_cache(maxsize=1)
def _whole() -> _Whole:
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
    return _Whole(base.quads, weights, forearm, uv)


@lru_cache(maxsize=None)
def figure(variant: int, legs: bool) -> Figure:
    """Body shape number 0 .. VARIANTS - 1, sexes, ages, origins and weights in turn, of the ``template`` of ``legs``.
    """
    whole, used = _whole_figure(variant), template(legs).used
    vertices = whole.vertices[used]
    return replace(whole, vertices=vertices, clothed=whole.clothed[used],
                   quad_middles=vertices[template(legs).quads].mean(1))


@lru_cache(maxsize=None)
def _whole_figure(variant: int) -> Figure:
    rng = np.random.default_rng(1000 + variant)
    base = makehuman.base_mesh()
    vertices = base.vertices.copy()
    sex, age = SEXES[variant % 2], AGES[variant % 3]
    for origin, share in zip(("african", "asian", "caucasian"), rng.dirichlet([0.5] * 3)):
        makehuman.add_target(vertices, f"{origin}-{sex}-{age}", share)
    muscle = ("average", "average", "min")[int(rng.integers(3))]
    weight = ("average", "min", "max", "average", "max")[int(rng.integers(5))]
    makehuman.add_target(vertices, f"universal-{sex}-{age}-{muscle}muscle-{weight}weight", rng.uniform(0.5, 1.0))

    def joint(name):
        return base.joint("joint-" + name, vertices)

    skin = vertices[:len(_whole().uv)]
    return Figure(skin, _clothed(skin), np.zeros((0, 3)), sex == "male",
                  np.stack([joint("r-shoulder"), joint("l-shoulder")]),
                  np.stack([joint("r-elbow"), joint("l-elbow")]), joint("neck"), joint("head"),
                  np.stack([joint("r-eye"), joint("l-eye")]), joint("pelvis"))


@lru_cache(maxsize=1)
def _smoother():
    """Sparse (V, V) matrix that takes every body vertex to the mean of its neighbours."""
    from scipy.sparse import coo_matrix, diags
    quads = _whole().quads
    edges = np.vstack([quads[:, [0, 1]], quads[:, [1, 2]], quads[:, [2, 3]], quads[:, [3, 0]]])
    edges = np.unique(np.vstack([edges, edges[:, ::-1]]), axis=0)
    matrix = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(_whole().uv),) * 2).tocsr()
    return diags(1 / np.maximum(np.asarray(matrix.sum(1)).ravel(), 1)) @ matrix


def _clothed(skin: np.ndarray) -> np.ndarray:
    """Body vertices (V, 3) as cloth lies over them: smoothed, hollows bridged, nowhere inside the skin."""
    normals = vertex_normals(skin, makehuman.triangles(_whole().quads))
    smooth = skin
    for _ in range(4):
        for _ in range(14):
            smooth = _smoother() @ smooth
        inside = ((smooth - skin) * normals).sum(1)
        smooth = smooth + np.maximum(-inside, 0)[:, None] * normals
    return _smoother() @ smooth


@lru_cache(maxsize=None)
def _face_tints(index: int) -> np.ndarray:
    """One skin image at the body's vertices, relative to its own middle skin: (V, 3) linear factors, lighter or darker
    at will but of nearly the same hue. Where the image shows a highlight it is white, and the face must not be."""
    name = assets.names("skins/")[index]
    image = cv2.imread(str(assets.path(name)))
    uv = _whole().uv
    rows = np.clip(((1 - uv[:, 1]) * image.shape[0]).astype(int), 0, image.shape[0] - 1)
    columns = np.clip((uv[:, 0] * image.shape[1]).astype(int), 0, image.shape[1] - 1)
    colors = to_linear(image[rows, columns, ::-1])
    head = _whole().weights[:, 1] > 0.5
    tints = colors / np.median(colors[head], axis=0)
    light = tints @ [0.2126, 0.7152, 0.0722]
    return np.clip(light, 0.05, 1.4)[:, None] * np.clip(tints / light[:, None], *TINT_HUES)


def fitting(person: anthropometry.Person) -> list[int]:
    """Numbers of the body shapes of somebody's sex and age. There are none of children."""
    sex, age = SEXES[person.male < 0.5], AGES[2 * (person.age_years >= anthropometry.ELDER_YEARS)]
    return [variant for variant in range(VARIANTS) if (SEXES[variant % 2], AGES[variant % 3]) == (sex, age)]


def sample(rng: np.random.Generator, look: materials.SkinLook, upper_arms: np.ndarray, whose: anthropometry.Person,
           legs: bool = False) -> Person:
    """Draw a dressed person. look: skin, as on the hands; upper_arms: (2, 3) unit directions shoulder to elbow; whose:
    the owner of the hands, grown up."""
    shared, shape = template(legs), figure(int(rng.choice(fitting(whose))), legs)
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
    clothed = np.einsum("vij,vj->vi", blended[..., :3], shape.clothed) + blended[..., 3]

    rest = shape.vertices
    of_quad, arm_share, head_share = shape.quad_middles, shared.quad_arm, shared.quad_head
    long_sleeves = bool(rng.random() < 0.5)
    neck_height = shape.neck[1] - rng.uniform(0.0, 0.05)
    neckline = neck_height + 1.5 * np.maximum(np.abs(of_quad[:, 0]) - 0.07, 0)
    dressed = (of_quad[:, 1] < neckline) & (head_share < 0.6)
    along = np.stack([(of_quad - s) @ (e - s) / ((e - s) @ (e - s)) for s, e in zip(shape.shoulders, shape.elbows)], 1)
    sleeve_end = 1.2 if long_sleeves else rng.choice([0.35, 0.6, 0.75]) if rng.random() < 0.85 else -0.1
    bare_arm = (arm_share > 0.5) & (along.max(1) > sleeve_end)
    hips = shape.pelvis[1] + 0.05
    collar = neck_height + 1.5 * np.maximum(np.abs(rest[:, 0]) - 0.07, 0) - rest[:, 1]   # metres below the neckline
    trousers = dressed & (of_quad[:, 1] < hips + 0.05) & (arm_share < 0.3)
    shirt = dressed & ~bare_arm & ((of_quad[:, 1] > hips - 0.02) | (arm_share > 0.3))
    skin = ~shirt & ~trousers
    normals = vertex_normals(vertices, shared.faces)
    cloth = materials.sample_cloth(rng), _pattern(rng, 0.4), float(rng.uniform(0.0, 0.2))
    wave = np.sin(rest @ rng.normal(0, 45, (3, 6)) + rng.uniform(0, 6, 6)) @ rng.normal(0, 1, 6)
    printed = rng.random() < 0.25
    if printed:                                                     # one picture on the chest
        cloth = cloth[0], materials.PRINTS[int(rng.integers(len(materials.PRINTS)))], cloth[2]
    print_uv = 0.5 + (rest[:, :2] - [0.0, shape.neck[1] - rng.uniform(0.16, 0.24)]) / rng.uniform(0.3, 0.5) * [1, -1]
    print_uv = np.clip(print_uv, 0.02, 0.98)
    around_uv = np.stack([np.arctan2(rest[:, 0], rest[:, 2] + 0.03) * 1.3, rest[:, 1] * 6], axis=1)
    solids = []

    def add(select, surface, lift, color, pattern, gloss, uv=around_uv):
        quads = shared.quads[select]
        if len(quads) == 0:
            return
        mask = np.zeros(len(rest), bool)
        mask[quads] = True
        used, where = np.flatnonzero(mask), (np.cumsum(mask) - 1)[quads]
        v = surface[used] + normals[used] * lift[used][:, None]
        mesh_faces = makehuman.triangles(where)
        n = vertex_normals(v, mesh_faces)
        solids.append(((v, n, uv[used], mesh_faces), color[used] if np.ndim(color) == 2 else color, pattern, gloss))

    # Blood shows through: the hands' shader scatters red light, which plain solids do not.
    colors = look.back * [1.07, 0.94, 0.92] * _face_tints(int(rng.integers(len(assets.names("skins/")))))[shared.used]
    colors = colors * np.minimum(1.0, 0.75 / colors.max(1, keepdims=True))      # of all channels, or it turns white
    hair_color = (np.array([0.04, 0.028, 0.02]) * np.exp(rng.uniform(-1.2, 2.2)) * np.exp(rng.normal(0, 0.1, 3))
                  if rng.random() < 0.93 else materials.sample_cloth(rng))
    colors, hairy, hair_lift = _head(rng, shape, shared.weights[:, 1], colors, hair_color)
    hair = (hairy[shared.quads].max(1) > 0.02) & (head_share > 0.7)
    hem = (_ramp(collar, 0.015) * (1 - shared.weights[:, 2:].max(1)))[:, None]
    add(skin, vertices, np.zeros(len(rest)), colors + hem * (cloth[0] * 0.8 - colors), 0, look.gloss)
    mixed = colors + np.clip(hairy * 1.6, 0, 1)[:, None] * (hair_color * (1 + 0.2 * wave[:, None] / 3) - colors)
    add(hair, vertices, hair_lift, np.clip(mixed, 0.002, 1), materials.HAIR, 0.4, rest[:, :2] * 7)
    loose, fold = rng.uniform(0.004, 0.018), rng.uniform(0.001, 0.004)
    stand_off = 0.003 + _ramp(collar, 0.06) * (loose + fold * wave)
    hanging = clothed.copy()                                        # down to a level hem
    hanging[:, 1] = np.where(shared.weights[:, 0] > 0.95, np.maximum(clothed[:, 1], hips), clothed[:, 1])
    add(shirt, hanging, stand_off, *cloth, print_uv if printed else around_uv)
    under = np.where(rest[:, 1] > hips - 0.03, stand_off - 0.003, np.inf)           # the shirt, or they show through
    trousers_off = np.minimum(0.010 + 0.003 * wave, under)
    add(trousers, clothed, trousers_off, materials.sample_cloth(rng), _pattern(rng, 0.2), 0.1)

    def on_head(points):
        return (points - shape.neck) @ turn.T + shape.neck

    if hair_lift.max() > 0 and rng.random() < (0.12 if shape.male else 0.7):
        solids.append((_long_hair(rng, shape, on_head), hair_color * 0.9, materials.HAIR, 0.4))
    skull = shape.head + [0, 0.07, 0.0]
    if rng.random() < 0.1:                                          # cap or hat
        top = shapes.ball(on_head(skull + [0, 0.055, -0.005]), [0.092, 0.085, 0.112], turn)
        solids.append((top, materials.sample_cloth(rng), _pattern(rng, 0.3), 0.1))
        if rng.random() < 0.6:
            brim = shapes.ball(on_head(skull + [0, 0.06, 0.115]), [0.07, 0.007, 0.05], turn)
            solids.append((brim, materials.sample_cloth(rng), 0, 0.1))
    for eye in shape.eyes:
        centre = turn @ (eye - shape.neck) + shape.neck
        forward = turn @ np.array([0.0, 0.0, 1.0])
        solids.append((shapes.ball(centre, 0.0125, rings=6, sides=8), np.array([0.6, 0.57, 0.55]), 0, 0.7))
        iris = shapes.ball(centre + 0.0085 * forward, 0.0062, rings=5, sides=7)
        solids.append((iris, np.array([0.03, 0.02, 0.015]), 0, 0.9))
    if rng.random() < 0.22:                                         # glasses
        for eye in shape.eyes:
            centre = turn @ (eye + [0, 0, 0.022] - shape.neck) + shape.neck
            a = np.linspace(0, 2 * np.pi, 17)
            rim = centre + np.stack([0.027 * np.cos(a), 0.02 * np.sin(a), np.zeros(17)], 1) @ turn.T
            solids.append((shapes.wire(rim, turn[:, 2], 0.002), np.full(3, 0.02), 0, 0.8))
    if rng.random() < 0.1:                                          # medical mask or scarf
        below = shape.eyes[:, 1].mean() - of_quad[:, 1]
        face = (head_share > 0.6) & (below > 0.033) & (below < 0.125) & (of_quad[:, 2] > shape.head[2] + 0.005)
        color = materials.sample_cloth(rng) if rng.random() < 0.5 else np.array([0.6, 0.7, 0.75])
        add(face, clothed, np.full(len(rest), 0.004), color, 0, 0.1)
    for side in range(2):
        color = cloth if long_sleeves else (look.back, 0, look.gloss)
        solids.append((shapes.ball(elbows[side], 0.044 if long_sleeves else 0.036), *color))
    trunk = vertices[(shared.weights[:, 2:].sum(1) < 0.1) & (rest[:, 1] > shape.pelvis[1] - 0.3)]
    return Person(tuple(solids), elbows, upper_arms, cloth, long_sleeves, trunk,
                  on_head(shape.eyes.mean(0) + _FACE_FROM_EYES))


def _head(rng, shape: Figure, on_head: np.ndarray, colors: np.ndarray, hair_color: np.ndarray) -> tuple:
    """Brows, beard and hair. on_head: (V,) share of the head; colors: (V, 3) of bare skin.

    Returns skin colours (V, 3), how much hair covers a vertex (V,) in 0..1 and how far it stands off (V,) metres.
    """
    p = shape.vertices
    eye_y, face_z = shape.eyes[:, 1].mean(), shape.eyes[:, 2].mean()
    dark = np.zeros(len(p))
    lift_m, arch, thick = rng.uniform(0.017, 0.023), rng.uniform(4, 14), rng.uniform(0.0025, 0.0045)
    for eye, side in zip(shape.eyes, (-1.0, 1.0)):
        x = (p[:, 0] - eye[0]) * side
        y = p[:, 1] - eye_y - lift_m + arch * (x - 0.004) ** 2
        dark = np.maximum(dark, np.exp(-(y / thick) ** 2) * (np.abs(x) < 0.026) * (p[:, 2] > face_z - 0.03))
    dark *= rng.uniform(0.35, 0.9)
    if shape.male and rng.random() < 0.4:                          # beard, from stubble to full
        full = rng.uniform(0.15, 0.9)
        below = eye_y - p[:, 1]
        mouth = np.exp(-((p[:, 0] / 0.024) ** 4 + ((below - 0.073) / 0.008) ** 4))
        bearded = _ramp(below - 0.052 - 0.25 * np.maximum(0.05 - np.abs(p[:, 0]), 0), 0.012)
        bearded *= _ramp(p[:, 2] - shape.head[2] + 0.02, 0.02) * _ramp(0.125 - below, 0.015) * (1 - mouth)
        dark = np.maximum(dark, full * bearded)
    colors = colors + (dark * on_head)[:, None] * (np.minimum(hair_color, [0.10, 0.075, 0.055]) - colors)
    if rng.random() < (0.16 if shape.male else 0.03):               # bald
        return colors, np.zeros(len(p)), np.zeros(len(p))
    local = p - (shape.head + [0, 0.07, 0.0])
    brow = rng.uniform(-0.035, -0.008)
    edge = local[:, 1] - brow - 0.9 * local[:, 2]
    edge += 0.008 * np.sin(local[:, 0] * rng.uniform(60, 160) + rng.uniform(0, 6))
    edge = np.maximum(edge, local[:, 1] - rng.uniform(0.052, 0.075))
    edge = np.minimum(edge, p[:, 1] - shape.neck[1] - rng.uniform(0.03, 0.09))
    covered = _ramp(edge, 0.012) * (on_head > 0.7)
    return colors, covered, rng.uniform(0.004, 0.035) * _ramp(edge, 0.03) * (on_head > 0.7)


def _ramp(x: np.ndarray, width: float) -> np.ndarray:
    t = np.clip(x / width, 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _long_hair(rng, shape: Figure, on_head) -> tuple:
    """Hair that falls behind and beside the face, as an open curtain. on_head: rest points (n, 3) to the posed head."""
    length, reach = np.exp(rng.uniform(np.log(0.10), np.log(0.42))), rng.uniform(1.5, 2.15)
    rows, columns = 12, 33
    angle = np.linspace(-reach, reach, columns)[None]                # 0 behind
    t = np.linspace(0, 1, rows)[:, None]
    crown = shape.head + [0, 0.09, -0.005]
    drop = -0.02 + t * (length + 0.12)
    inside = np.sqrt(np.clip(1 - np.clip(0.10 - drop, 0, 0.1) ** 2 / 0.0115, 0.05, 1))
    flare = 1 + rng.uniform(-0.1, 0.35) * np.clip(t - 0.4, 0, 1)
    strands = cv2.resize(rng.normal(0, 1, (4, 24)).astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC)
    radius = inside * flare * (1 + 0.05 * strands) + 0.06 * rng.random()
    uneven = 1 + 0.08 * rng.normal(0, 1, columns) * t
    points = np.stack([radius * 0.088 * np.sin(angle), 0.045 - drop * uneven, -radius * 0.105 * np.cos(angle)], axis=-1)
    points = on_head((crown + points).reshape(-1, 3))
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (i * columns + j).ravel()
    faces = np.vstack([np.stack([a, a + 1, a + columns], 1), np.stack([a + 1, a + columns + 1, a + columns], 1)])
    uv = np.stack(np.broadcast_arrays(angle * 0.7, t * (length + 0.12) * 2), axis=-1).reshape(-1, 2)
    return points, vertex_normals(points, faces), uv, faces


def sample_gesture(rng: np.random.Generator, side: int, showing: bool = False, calm: bool = False,
                   hanging: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw where one arm goes. side: 0 right, 1 left. Returns unit (upper arm, forearm, palm) vectors, body frame.

    showing: the hand is held up beside the face. calm: the arm more often hangs or lies before the body. hanging: it
    hangs.
    """
    out = -1.0 if side == 0 else 1.0
    u = rng.random()
    if hanging:
        u = 0.95
    if calm and not showing and u < 0.6:
        u = 0.66 + 0.12 * rng.random() if u < 0.2 else 0.95
    if showing and u < 0.85:                                       # beside the face, from the shoulder to the crown
        upper = [rng.uniform(0.1, 0.9), rng.uniform(-0.95, -0.35), rng.uniform(0.1, 0.7)]
        fore, palm = [rng.normal(-0.15, 0.28), 1.0, rng.normal(0.15, 0.25)], [0.0, 0.0, 1.0]
    elif u < 0.45:                                                   # raised beside or before the body
        upper, fore = [0.35, -0.85, 0.35], [rng.normal(0.0, 0.4), rng.uniform(0.3, 1.0), rng.normal(0.5, 0.4)]
        palm = [0.0, 0.0, 1.0]
    elif u < 0.65:                                                 # forward
        upper, fore = [0.25, -0.8, 0.4], [rng.normal(-0.2, 0.4), rng.normal(0.1, 0.25), 1.0]
        palm = [-0.5, -0.5, 0.3]
    elif u < 0.78:                                                 # before chest or belly
        upper, fore = [0.45, -0.85, 0.4], [-1.0, rng.normal(0.15, 0.3), rng.uniform(0.45, 1.1)]
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


def sample_reach(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw an arm whose hand is held to the head: to cheek, ear, mouth, chin, temple or hair, or a hand's breadth off.

    side: 0 right, 1 left. Returns (unit upper arm (3,), where the hand shall be seen from ``Person.face`` (3,) metres),
    in the body frame.
    """
    out = np.array([-1.0 if side == 0 else 1.0, 1.0, 1.0])
    at = np.array([rng.uniform(-0.3, 1.2), rng.uniform(-1.0, 0.5), rng.uniform(-0.2, 1.0)])
    at = out * at / np.linalg.norm(at) * rng.uniform(*FROM_FACE_M)
    mean = figure(0, False)                            # people differ by less than the hand's place does
    uppers = out * rng.uniform((0.0, -1.0, -0.1), (0.9, 0.25, 0.9), (64, 3))
    uppers /= np.linalg.norm(uppers, axis=-1, keepdims=True)
    elbows = mean.shoulders[side] + np.linalg.norm(mean.elbows[side] - mean.shoulders[side]) * uppers
    goal = mean.eyes.mean(0) + _FACE_FROM_EYES + at
    return uppers[np.argmin(np.abs(np.linalg.norm(goal - elbows, axis=-1) - ELBOW_TO_PALM_M))], at


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
