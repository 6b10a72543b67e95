"""Things that hands hold: fitted into a posed hand so that fingers touch them rather than cut them.

To propose one, the hand is taken as the capsules round its bones. An object's core is the largest ball or rod that fits
between them at a place enclosed by fingers, thumb and palm; boxes then grow sideways until a finger stops them; pens
lie between the pads, across both; phones and books lie on palm and fingers. What was proposed is measured on the meshes
and drawn again until it holds.
"""
from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.spatial import ConvexHull, cKDTree

from hand_pose_ros.skeleton import ADULT_HAND_LENGTH_M, BONES
from hand_pose_ros.synthesis import materials, rig, shapes, touch

BONE_RADIUS_M = np.array([.011, .011, .0095, .0085] + [.0125, .0085, .008, .0065] * 4)
"""Radii (20,) of the capsules round BONES of an adult hand."""
_KEY_POINTS = np.array([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
_MAX_RADIUS = 0.042
MAX_CUT_M = 0.003
"""How far an object may reach under the skin: what a pad gives under a firm grip (Serina et al., J. Biomech. 30, 1997:
2 to 3 mm at the tip)."""
TOUCH_M = 0.002
"""A part of the hand touches an object that comes this near to its skin."""
FLAT_SIZES_M = {"phone": ((0.007, 0.0105), (0.066, 0.08), (0.136, 0.168)),
                "remote": ((0.012, 0.022), (0.036, 0.05), (0.13, 0.2)),
                "card": ((0.0008, 0.0012), (0.0535, 0.0545), (0.085, 0.0865)),
                "book": ((0.006, 0.025), (0.1, 0.14), (0.17, 0.215))}
"""Thickness, width and length of what lies on a hand, lowest and highest."""
PRESSED_M = 0.001
"""How far flesh gives under a thing that lies on it."""
FLAT_TRIES, WITHOUT_THUMB = 6, 0.05
"""Places that are tried for such a thing; share of those out of the thumb's reach that are taken."""
_ATTEMPTS = 8
_SAMPLE_M, _REACH_M = 0.005, 0.01


def hold(rng: np.random.Generator, hand, thickness: np.ndarray | None = None) -> tuple[list, str] | None:
    """Draw an object for a grasping hand: it touches two parts of the hand and cuts none by more than MAX_CUT_M.

    hand: hand_model.PosedHand, a right one. thickness: (5,) relative finger thickness, thumb first. Returns (solids as
    (mesh, colour, pattern, gloss), name), or None if nothing fits.
    """
    radii = BONE_RADIUS_M * hand.hand_length_m / ADULT_HAND_LENGTH_M
    if thickness is not None:
        radii = radii * np.concatenate([[1.0], np.repeat(thickness[0], 3), *([1.0, t, t, t] for t in thickness[1:])])
    skin = cKDTree(hand.vertices)
    kind = _kind(rng, hand.joints)
    for attempt in range(_ATTEMPTS):
        if attempt == _ATTEMPTS - 3:                               # another kind of thing may fit better
            kind = _kind(rng, hand.joints)
        found = _flat(rng, hand) if kind == "flat" else _propose(rng, kind, hand.joints, radii)
        if found is not None:
            cut, parts = contact([part[0] for part in found[0]], hand, skin)
            if cut <= MAX_CUT_M and parts >= 2:
                return found
    return None


def contact(meshes: list, hand, skin: cKDTree | None = None) -> tuple[float, int]:
    """How deep surfaces reach under a hand's skin (metres, 0 if nowhere), and how many parts of the hand they touch.

    meshes: as of shapes.py. hand: hand_model.PosedHand. skin: search tree of its vertices.
    """
    skin = cKDTree(hand.vertices) if skin is None else skin
    low, high = hand.vertices.min(0) - TOUCH_M, hand.vertices.max(0) + TOUCH_M
    corners = np.concatenate([mesh[0][mesh[3]] for mesh in meshes])                        # (T, 3, 3)
    corners = corners[((corners.max(1) > low) & (corners.min(1) < high)).all(1)]
    points = _surface_points(corners)
    points = points[((points > low) & (points < high)).all(1)]
    points = points[_may_be_near(points, hand.vertices, low, high)]
    # What reaches deeper than the bound passes through lesser depths on its way in.
    distance, nearest = skin.query(points, distance_upper_bound=_REACH_M)
    near = np.isfinite(distance)
    nearest = nearest[near]
    height = np.einsum("nk,nk->n", points[near] - hand.vertices[nearest], hand.normals[nearest])
    return float(max(-height.min(initial=0.0), 0.0)), len(np.unique(hand.part_ids[nearest[height < TOUCH_M]]))


def _may_be_near(points: np.ndarray, vertices: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which points (n, 3) share a cell of _REACH_M, or one beside it, with a vertex: the tree is spared the rest.

    low, high: (3,) bounds of both.
    """
    cells = np.zeros(np.floor((high - low) / _REACH_M).astype(int) + 3, bool)
    cells[tuple(((vertices - low) / _REACH_M).astype(int).T + 1)] = True
    for axis in range(3):
        beside = np.moveaxis(cells, axis, 0)
        beside[:] = beside | np.roll(beside, 1, 0) | np.roll(beside, -1, 0)
    return cells[tuple(((points - low) / _REACH_M).astype(int).T + 1)]


def _surface_points(corners: np.ndarray) -> np.ndarray:
    """Points (n, 3) all over triangles (T, 3, 3): the middles of as many smaller ones as bring sides to _SAMPLE_M."""
    sides = ((corners - np.roll(corners, 1, axis=1)) ** 2).sum(2).max(1) ** 0.5
    steps = np.clip(np.ceil(sides / _SAMPLE_M), 1, 40).astype(int)
    return np.concatenate([np.zeros((0, 3)), *((_middles(n) @ corners[steps == n]).reshape(-1, 3)
                                               for n in np.unique(steps).tolist())])


@lru_cache(maxsize=None)
def _middles(n: int) -> np.ndarray:
    """Barycentric coordinates (n * n, 3) of the middles of the equal parts of a triangle with n of them a side."""
    upright = [(3 * i + 1, 3 * j + 1) for i in range(n) for j in range(n - i)]
    turned = [(3 * i + 2, 3 * j + 2) for i in range(n - 1) for j in range(n - 1 - i)]
    i, j = np.array(upright + turned).T / (3 * n)
    return np.stack([i, j, 1 - i - j], axis=1)


def _kind(rng: np.random.Generator, joints: np.ndarray) -> str:
    kind = str(rng.choice(["rod", "ball", "slab", "flat", "pen"], p=[0.36, 0.12, 0.12, 0.26, 0.14]))
    tips = np.linalg.norm(joints[4] - joints[[8, 12]], axis=1).min()
    return "pen" if tips < 0.03 and kind not in ("slab", "flat") and rng.random() < 0.7 else kind


def _propose(rng: np.random.Generator, kind: str, joints: np.ndarray, radii: np.ndarray) -> tuple[list, str] | None:
    """An object of a kind that probably fits. joints: (21, 3); radii: (20,) of the capsules round BONES."""
    a, b = np.array(BONES).T
    segments = np.stack([joints[a], joints[b]], axis=1)                                    # (20, 2, 3)
    if kind == "pen":
        return _pen(rng, joints, segments, radii)
    if kind == "ball":
        fit = _fit(rng, joints, segments, radii, None)
        if fit is None or fit[1] < 0.008:
            return None
        turn = np.stack([*shapes.frame(axis := _unit(rng.normal(0, 1, 3))), axis], axis=1)
        radii = fit[1] * (np.ones(3) if rng.random() < 0.6 else rng.uniform(0.75, 1.0, 3))
        if rng.random() < 0.4:                                     # apple, orange, lemon, tomato, egg
            fruit = np.array([[0.5, 0.06, 0.04], [0.8, 0.32, 0.03], [0.8, 0.65, 0.08], [0.3, 0.45, 0.08],
                              [0.75, 0.6, 0.48]])[int(rng.integers(5))]
            mesh = shapes.ball(fit[0], radii, turn)
            return [(mesh, fruit * np.exp(rng.normal(0, 0.2)), materials.FRUIT, 0.45)], "fruit"
        return [(shapes.ball(fit[0], radii, turn), *_stuff(rng))], "ball"
    across = _unit(joints[5] - joints[17]) if rng.random() < 0.75 else _unit(rng.normal(0, 1, 3))
    axis = _unit(across + rng.normal(0, 0.18, 3))
    fit = _fit(rng, joints, segments, radii, axis)
    if fit is None:
        return None
    centre, radius = fit
    if kind == "rod":
        return _rod(rng, centre, axis, radius, joints)
    return _slab(rng, centre, axis, radius, joints, segments, radii)


def _fit(rng, joints, segments, radii, axis):
    """Centre and radius of the largest ball (or rod along ``axis``) among random places enclosed by the hand."""
    shares = rng.dirichlet(np.full(len(_KEY_POINTS), 0.25), 400)
    places = shares @ joints[_KEY_POINTS]
    clearance = _clearance(places, segments, radii, axis)
    near = shares[:, :3].sum(1)                                    # some thumb, some finger
    clearance = np.where((near > 0.1) & (near < 0.85), clearance, -1.0)
    best = int(np.argmax(clearance))
    if clearance[best] < 0.002:
        return None
    centre, radius = places[best], clearance[best]
    for _ in range(3):                                             # climb
        tries = centre + rng.normal(0, 0.25 * radius + 0.002, (60, 3))
        value = _clearance(tries, segments, radii, axis)
        value = np.where(value < min(radius * 1.25, _MAX_RADIUS), value, -1.0)
        if value.max() > radius:
            centre, radius = tries[np.argmax(value)], value.max()
    return centre, float(min(radius, _MAX_RADIUS))


def _clearance(places, segments, radii, axis):
    """Distance (n,) from places (n, 3) to the hand's skin, across ``axis`` if given."""
    if axis is not None:
        flat = np.eye(3) - np.outer(axis, axis)
        places, segments = places @ flat, segments @ flat
    start, along = segments[:, 0], segments[:, 1] - segments[:, 0]
    t = np.einsum("nsk,sk->ns", places[:, None] - start, along) / np.maximum((along ** 2).sum(1), 1e-10)
    nearest = start + np.clip(t, 0, 1)[..., None] * along
    return (np.linalg.norm(places[:, None] - nearest, axis=-1) - 0.95 * radii).min(1)


def _rod(rng, centre, axis, radius, joints):
    """A bottle, can, cup or tool along the axis."""
    reach = np.ptp(joints[[5, 9, 13, 17]] @ axis)
    if radius <= 0.018:
        return _tool(rng, centre, axis, radius, reach)
    name = str(rng.choice(["bottle", "can", "cup", "mug"], p=[0.35, 0.2, 0.2, 0.25]))
    up, down = rng.uniform(0.02, 0.12), rng.uniform(0.03, 0.1)
    if name in ("cup", "mug"):
        up, down = rng.uniform(0.01, 0.04), rng.uniform(0.01, 0.04)
    start, end = centre - axis * (down + reach / 2), centre + axis * (up + reach / 2)
    color, pattern, gloss = _stuff(rng)
    heights = None
    if name == "bottle":
        neck = rng.uniform(0.25, 0.5)
        profile = radius * np.array([0.92, 1, 1, 0.97, neck, neck])
        heights = [0, 0.03, 0.55, rng.uniform(0.6, 0.75), 0.84, 0.95]
        cap = shapes.revolve(start + 0.93 * (end - start), end, radius * neck * np.array([1.15, 1.15, 1.1]))
        body = shapes.revolve(start, start + 0.95 * (end - start), profile, np.array(heights) / 0.95)
        parts = [(body, color, 0, 0.9), (cap, materials.sample_cloth(rng), 0, 0.5)]
    elif name == "can":
        profile, heights = radius * np.array([0.88, 1, 1, 0.86, 0.9]), [0, 0.05, 0.93, 0.985, 1.0]
        parts = [(shapes.revolve(start, end, profile, heights), np.full(3, 0.55), 0, 0.9)]
    else:
        taper = rng.uniform(0.75, 0.95) if name == "cup" else 1.0
        parts = [(shapes.revolve(start, end, radius * np.array([taper, (1 + taper) / 2, 1.0])), color, pattern, gloss)]
        drink = shapes.revolve(end, end + axis * 0.0008, radius * np.array([0.9, 0.9]))
        lid = name == "cup" and rng.random() < 0.5
        parts.append((drink, np.full(3, 0.7) if lid else np.array([0.05, 0.03, 0.02]) * rng.uniform(0.5, 6), 0, 0.7))
        if name == "mug":                                          # its handle, away from the palm
            away = _unit(centre - joints[[0, 5, 17]].mean(0))
            away = _unit(away - axis * (away @ axis))
            parts += _handle(centre, axis, away, radius, np.linalg.norm(end - start) * 0.33, color, pattern, gloss)
    if name in ("bottle", "can"):
        low, high = (0.06, 0.92) if name == "can" else (rng.uniform(0.05, 0.2), rng.uniform(0.4, 0.6))
        label = shapes.tube(start + np.linspace(low, high, 4)[:, None] * (end - start), np.full(4, radius * 1.005),
                            np.full(4, radius * 1.005), *shapes.frame(axis))
        print_number = int(rng.choice([6, 15, 24, 7, 16, *materials.PRINTS]))
        parts.append((label, materials.sample_cloth(rng), print_number, float(rng.uniform(0.1, 0.8))))
    return parts, name


def _handle(centre, axis, away, radius, half, color, pattern, gloss):
    """The ear of a mug."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 7)
    path = centre + (radius * 0.97 + 0.026 * np.cos(angle))[:, None] * away + (half * np.sin(angle))[:, None] * axis
    return [(shapes.wire(path, rig.cross(away, axis), 0.0045, 8), color, pattern, gloss)]


def _tool(rng, centre, axis, radius, reach):
    """Something with a handle as thin as a finger: screwdriver, hammer, knife, brush, microphone, torch."""
    name = str(rng.choice(["screwdriver", "hammer", "knife", "brush", "microphone", "torch"]))
    down = rng.uniform(0.01, 0.05)
    start, end = centre - axis * (down + reach / 2), centre + axis * (rng.uniform(0.005, 0.05) + reach / 2)
    wooden = name in ("hammer", "brush", "knife") and rng.random() < 0.5
    if wooden:
        grip = np.array([0.35, 0.2, 0.09]) * np.exp(rng.normal(0, 0.4)), materials.WOOD, 0.3
    else:
        grip = _stuff(rng)
    profile = radius * np.array([0.85, 1.0, rng.uniform(0.85, 1.0), 1.0, rng.uniform(0.5, 0.9)])
    parts = [(shapes.revolve(start, end, profile), *grip)]
    x, y = shapes.frame(axis)
    turn = np.stack([x, y, axis], 1)
    metal = np.full(3, rng.uniform(0.35, 0.7)), 0, 0.95
    long = rng.uniform(0.06, 0.16)
    if name == "screwdriver":
        parts.append((shapes.revolve(end, end + axis * long, np.array([0.003, 0.003, 0.0035, 0.001]),
                                     [0, 0.85, 0.92, 1.0], sides=8), *metal))
    elif name == "hammer":
        parts.append((shapes.revolve(end, end + axis * long, np.full(2, radius * 0.7)), *grip))
        parts.append((shapes.revolve(end + axis * long - x * 0.05, end + axis * long + x * 0.06,
                                     [0.013, 0.013, 0.010, 0.014, 0.014], [0, 0.3, 0.5, 0.8, 1]), *metal))
    elif name == "knife":
        parts.append((shapes.box(end + axis * long * 0.5, turn, np.array([0.028, 0.0016, long])), *metal))
    elif name == "brush":
        wide = rng.uniform(0.02, 0.06)
        parts.append((shapes.box(end + axis * 0.015, turn, np.array([wide, 0.014, 0.03])), *metal))
        parts.append((shapes.box(end + axis * 0.05, turn, np.array([wide * 0.95, 0.012, 0.045])),
                      materials.sample_cloth(rng), 0, 0.1))
    elif name == "microphone":
        parts.append((shapes.ball(end + axis * 0.02, [0.024, 0.024, 0.028], turn), np.full(3, 0.12), 8, 0.5))
    else:
        parts.append((shapes.revolve(end, end + axis * 0.05, radius * np.array([0.9, 1.5, 1.6])), grip[0], 0, 0.6))
    return parts, name


def _slab(rng, centre, axis, radius, joints, segments, radii):
    """A book or box between thumb and fingers."""
    thumb = joints[3:5].mean(0) - centre
    normal = thumb - axis * (thumb @ axis)
    normal = _unit(normal)
    side = np.cross(normal, axis)
    half = min(radius, 0.02)
    share = np.linspace(0, 1, 5)[None, :, None]
    flesh = (segments[:, :1] * (1 - share) + segments[:, 1:] * share).reshape(-1, 3) - centre
    thick = np.repeat(radii, 5)
    across, height, u = flesh @ normal, flesh @ axis, flesh @ side
    length = rng.uniform(0.05, 0.17)
    blocking = (np.abs(across) < half + 0.9 * thick) & (np.abs(height) < length / 2 + 0.5 * thick)
    forward = np.min(np.where(blocking & (u > 0), u - thick, 0.08), initial=0.08)
    backward = np.min(np.where(blocking & (u < 0), -u - thick, 0.08), initial=0.08)
    forward, backward = max(forward, half * 0.7), max(backward, half * 0.7)
    forward, backward = forward * rng.uniform(0.6, 1.0), backward * rng.uniform(0.6, 1.0)
    middle = centre + side * (forward - backward) / 2 + axis * rng.normal(0, 0.015)
    rotation = np.stack([normal, side, axis], axis=1)
    if np.linalg.det(rotation) < 0:
        rotation[:, 1] *= -1
    size = np.array([2 * half, forward + backward, length])
    return _thing(rng, "book" if size[1] > 0.04 and rng.random() < 0.4 else "box", middle, rotation, size)


def _flat(rng, hand) -> tuple[list, str] | None:
    """A phone, remote control, card or book of its real size, whose back lies on palm and fingers and mostly its edge
    on the thumb."""
    name = str(rng.choice(list(FLAT_SIZES_M), p=[0.5, 0.14, 0.16, 0.2]))
    size = rng.uniform(*np.transpose(FLAT_SIZES_M[name]))
    under = (hand.part_ids >= 2) & (hand.part_ids != 3)
    points, part = hand.vertices[under], hand.part_ids[under]
    # It rests where a board would: on a facet of the convex hull, so that no finger reaches through it.
    hull = ConvexHull(points)
    facets, normals = points[hull.simplices], hull.equations[:, :3]
    palm = _unit(np.cross(hand.joints[5] - hand.joints[0], hand.joints[17] - hand.joints[0]))
    several = (part[hull.simplices] != part[hull.simplices][:, :1]).any(1)
    area = np.linalg.norm(np.cross(facets[:, 1] - facets[:, 0], facets[:, 2] - facets[:, 0]), axis=1)
    weight = area * several * np.maximum(normals @ palm - 0.3, 0.0)
    if not weight.sum() > 0:
        return None
    for facet in rng.choice(len(weight), FLAT_TRIES, p=weight / weight.sum()):
        along = _unit(hand.joints[[8, 12, 16]].mean(0) - hand.joints[0]) + rng.normal(0, 0.25, 3)
        if rng.random() < 0.2:
            along = np.cross(normals[facet], along)
        rotation, middle = _laid(rng, hand, size, facets[facet], normals[facet], along)
        if middle is not None:
            return _thing(rng, name, middle, rotation, size)
    return None


def _laid(rng, hand, size, corners, normal, along):
    """A slab of ``size`` (3,) on three corners (3, 3) with its longest side along a direction: (rotation (3, 3), middle
    (3,), None if it does not cover them or cannot meet the thumb)."""
    along = _unit(along - normal * (along @ normal))
    rotation = np.stack([normal, np.cross(along, normal), along], axis=1)
    room = size[1:] / 2 - np.abs((corners - corners.mean(0)) @ rotation[:, 1:]).max(0)
    if (room < 0).any():
        return rotation, None
    offset = room * rng.uniform(-1, 1, 2)
    middle = corners.mean(0) + normal * (size[0] / 2 - PRESSED_M)
    thumb = (hand.vertices[hand.part_ids == 3] - middle) @ rotation
    thumb = thumb[np.abs(thumb[:, 0]) < size[0] / 2][:, 1:]
    if not len(thumb):
        return rotation, (middle + rotation[:, 1:] @ offset if rng.random() < WITHOUT_THUMB else None)
    ways = []                                                       # places at which one of its edges meets the thumb
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
        at = offset.copy()
        foremost = thumb[np.argmax(sign * thumb[:, axis])]
        at[axis] = foremost[axis] + sign * (size[1 + axis] / 2 - PRESSED_M)
        if abs(at[axis]) <= room[axis] and abs(foremost[1 - axis] - at[1 - axis]) < size[2 - axis] / 2:
            ways.append(at)
    if not ways:
        return rotation, None
    return rotation, middle + rotation[:, 1:] @ min(ways, key=lambda at: np.linalg.norm(at - offset))


def _thing(rng, name, middle, rotation, size) -> tuple[list, str]:
    """The parts and name of a slab-like thing. rotation (3, 3): columns out of its front, across and along it."""
    normal, half = rotation[:, 0], size[0] / 2
    front = normal * half
    if name == "phone":
        shell = materials.sample_cloth(rng) if rng.random() < 0.5 else np.full(3, 0.03)
        parts = _rounded(middle, rotation, size, shell, 0.7)
        lit = rng.random()
        screen = (np.full(3, 0.012), 0) if lit < 0.5 else (np.full(3, 0.5), int(rng.choice(materials.SCREENS)))
        parts.append((shapes.box(middle + front, rotation, size * [0.05, 0.93, 0.95]), *screen, 0.95))
        lens = middle - front + rotation @ (size * [0, 0.28, 0.38])
        parts.append((shapes.box(lens, rotation, np.array([0.003, 0.018, 0.018])), np.full(3, 0.02), 0, 0.95))
    elif name == "remote":
        shade = np.full(3, rng.choice([0.02, 0.04, 0.5]))
        parts = _rounded(middle, rotation, size, shade, 0.35)
        parts.append((shapes.box(middle + front, rotation, size * [0.05, 0.8, 0.8]), shade, materials.BUTTONS, 0.3))
    elif name == "card":
        parts = [(shapes.box(middle, rotation, size), np.full(3, 0.75) * np.exp(rng.normal(0, 0.15, 3)),
                  materials.TEXT if rng.random() < 0.7 else int(rng.choice(materials.PRINTS)), 0.2)]
    elif name == "book":
        color, cover = materials.sample_cloth(rng), int(rng.choice([0, *materials.PRINTS]))
        parts = [(shapes.box(middle, rotation, size * [0.86, 0.97, 0.97]), np.array([0.72, 0.68, 0.58]), 0, 0.05)]
        for sign in (-1.0, 1.0):
            parts.append((shapes.box(middle + sign * normal * half * 0.93, rotation, size * [0.07, 1, 1]), color, cover,
                          0.4))
    else:
        parts = [(shapes.box(middle, rotation, size), *_stuff(rng))]
    return parts, name


def _rounded(middle, rotation, size, color, gloss):
    """A box with its two long edges rounded by rods."""
    radius = size[0] / 2
    inner = np.maximum(size - [0, size[0], 0], [0, 0.002, 0])
    parts = [(shapes.box(middle, rotation, inner), color, 0, gloss)]
    for sign in (-0.5, 0.5):
        edge = middle + rotation[:, 1] * sign * inner[1]
        reach = rotation[:, 2] * size[2] / 2
        parts.append((shapes.revolve(edge - reach, edge + reach, [radius, radius], sides=10), color, 0, gloss))
    return parts


def _pen(rng, joints, segments, radii):
    """A pen, pencil, brush, spoon, fork, knife or key between the pads of the thumb and a finger."""
    finger = int(np.argmin(np.linalg.norm(joints[[8, 12, 16, 20]] - joints[4], axis=1)))
    thumb, other = 3, 7 + 4 * finger                               # the last bones, as rows of BONES
    share = rng.uniform(0.45, 0.75, 2)[:, None]
    one, two = segments[[thumb, other], 0] + share * np.diff(segments[[thumb, other]], axis=1)[:, 0]
    gap = np.linalg.norm(two - one) - radii[thumb] - radii[other]
    if gap > 0.02:
        return None
    radius = float(np.clip(gap / 2 + 0.001, 0.0015, 0.009))
    between = _unit(two - one)
    pinch = one + between * (radii[thumb] + gap / 2)
    x, y = shapes.frame(between)
    angle = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, 32, endpoint=False)
    axes = np.cos(angle)[:, None] * x + np.sin(angle)[:, None] * y + rng.normal(0, 0.06, (32, 3))
    ahead, behind = rng.uniform(0.02, 0.09), rng.uniform(0.05, 0.14)
    ends = pinch + np.array([-ahead - 0.04, behind])[:, None, None] * axes                  # (2, 32, 3)
    gaps = touch.segment_distance(np.repeat(ends[0][:, None], 20, 1), np.repeat(ends[1][:, None], 20, 1),
                                  np.repeat(segments[None, :, 0], 32, 0), np.repeat(segments[None, :, 1], 32, 0))
    cuts = np.maximum(radii + radius - gaps, 0)
    cuts[:, [thumb, other]] *= 0.3
    axis = axes[int(np.argmin(cuts.sum(1) + rng.uniform(0, 0.001, 32)))]
    start, end = pinch - axis * ahead, pinch + axis * behind
    x, y = shapes.frame(axis)
    turn = np.stack([x, y, axis], 1)
    metal = np.full(3, rng.uniform(0.4, 0.65)), 0, 0.95
    name = str(rng.choice(["pen", "pencil", "spoon", "fork", "key"], p=[0.4, 0.2, 0.2, 0.12, 0.08]))
    if name == "pencil":
        color = np.array([[0.75, 0.45, 0.05], [0.5, 0.05, 0.05], [0.05, 0.1, 0.3]])[int(rng.integers(3))]
        parts = [(shapes.revolve(start, end, np.full(2, min(radius, 0.004)), sides=6), color, 0, 0.5),
                 (shapes.revolve(start - axis * 0.012, start, [0.0006, min(radius, 0.004)], sides=6),
                  np.array([0.55, 0.38, 0.2]), materials.WOOD, 0.1)]
    elif name == "pen":
        color, _, gloss = _stuff(rng)
        shaft = shapes.revolve(start, end, radius * np.array([0.3, 1.0, 1.0, 0.9]), [0, 0.12, 0.6, 1.0], sides=12)
        parts = [(shaft, color, 0, gloss)]
        if rng.random() < 0.6:                                     # cap and clip
            cap = shapes.revolve(end - axis * 0.035, end + axis * 0.004, np.full(2, radius * 1.12), sides=12)
            clip = shapes.box(end - axis * 0.014 + x * radius * 1.25, turn, np.array([0.001, 0.0025, 0.03]))
            parts += [(cap, materials.sample_cloth(rng), 0, gloss), (clip, *metal)]
    else:
        thin = min(radius, 0.0035)
        parts = [(shapes.revolve(start, end, thin * np.array([0.8, 1.0, 1.6]), sides=10), *metal)]
        wide = rng.uniform(0.009, 0.021)
        tip = start - axis * 0.018
        if name == "spoon":
            parts.append((shapes.ball(tip, [wide, 0.004, 0.026], turn), *metal))
        elif name == "key":
            parts.append((shapes.box(tip, turn, np.array([0.007, 0.0018, 0.03])), *metal))
        else:
            parts.append((shapes.box(tip + axis * 0.012, turn, np.array([0.022, 0.002, 0.016])), *metal))
            for k in range(4):
                tine = shapes.box(tip - axis * 0.016 + x * (k - 1.5) * 0.006, turn, np.array([0.0025, 0.0016, 0.04]))
                parts.append((tine, *metal))
    return parts, name


def _stuff(rng) -> tuple:
    pattern = int(rng.integers(1, materials.PATTERNS)) if rng.random() < 0.45 else 0
    return materials.sample_cloth(rng), pattern, float(rng.uniform(0.0, 1.0))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-9)
