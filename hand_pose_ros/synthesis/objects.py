"""Things that hands hold: fitted into a posed hand so that fingers touch them rather than cut them.

The hand is taken as the capsules round its bones. An object's core is the largest ball or rod that fits between them at
a place enclosed by fingers, thumb and palm; boxes then grow sideways until a finger stops them.
"""
from __future__ import annotations

import numpy as np

from hand_pose_ros.skeleton import BONES
from hand_pose_ros.synthesis import materials, shapes

BONE_RADIUS_M = np.array([.011, .011, .0095, .0085] + [.0125, .0085, .008, .0065] * 4)
"""Radii (20,) of the capsules round BONES of an adult hand."""
_KEY_POINTS = np.array([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
_MAX_RADIUS = 0.042


def hold(rng: np.random.Generator, joints: np.ndarray) -> tuple[list, str] | None:
    """Draw an object for a grasping hand.

    joints: (21, 3) of a right hand in the hand frame (z out of the back), metres. Returns (solids as (mesh, colour,
    pattern, gloss), name), or None if nothing fits.
    """
    a, b = np.array(BONES).T
    segments = np.stack([joints[a], joints[b]], axis=1)                                    # (20, 2, 3)
    kind = str(rng.choice(["rod", "ball", "slab", "pen"], p=[0.42, 0.14, 0.28, 0.16]))
    tips = np.linalg.norm(joints[4] - joints[[8, 12]], axis=1).min()
    if tips < 0.03 and kind != "slab" and rng.random() < 0.7:
        kind = "pen"
    if kind == "pen":
        return _pen(rng, joints)
    if kind == "ball":
        fit = _fit(rng, joints, segments, None)
        if fit is None or fit[1] < 0.008:
            return None
        turn = np.stack([*shapes.frame(axis := _unit(rng.normal(0, 1, 3))), axis], axis=1)
        radii = fit[1] * (np.ones(3) if rng.random() < 0.6 else rng.uniform(0.75, 1.0, 3))
        return [(shapes.ball(fit[0], radii, turn), *_stuff(rng))], "ball"
    across = _unit(joints[5] - joints[17]) if rng.random() < 0.75 else _unit(rng.normal(0, 1, 3))
    axis = _unit(across + rng.normal(0, 0.18, 3))
    fit = _fit(rng, joints, segments, axis)
    if fit is None:
        return None
    centre, radius = fit
    if kind == "rod":
        return _rod(rng, centre, axis, radius, joints)
    return _slab(rng, centre, axis, radius, joints, segments)


def _fit(rng, joints, segments, axis):
    """Centre and radius of the largest ball (or rod along ``axis``) among random places enclosed by the hand."""
    shares = rng.dirichlet(np.full(len(_KEY_POINTS), 0.25), 400)
    places = shares @ joints[_KEY_POINTS]
    clearance = _clearance(places, segments, axis)
    near = shares[:, :3].sum(1)                                    # some thumb, some finger
    clearance = np.where((near > 0.1) & (near < 0.85), clearance, -1.0)
    best = int(np.argmax(clearance))
    if clearance[best] < 0.002:
        return None
    centre, radius = places[best], clearance[best]
    for _ in range(3):                                             # climb
        tries = centre + rng.normal(0, 0.25 * radius + 0.002, (60, 3))
        value = _clearance(tries, segments, axis)
        value = np.where(value < min(radius * 1.25, _MAX_RADIUS), value, -1.0)
        if value.max() > radius:
            centre, radius = tries[np.argmax(value)], value.max()
    return centre, float(min(radius, _MAX_RADIUS))


def _clearance(places, segments, axis):
    """Distance (n,) from places (n, 3) to the hand's skin, across ``axis`` if given."""
    if axis is not None:
        flat = np.eye(3) - np.outer(axis, axis)
        places, segments = places @ flat, segments @ flat
    start, along = segments[:, 0], segments[:, 1] - segments[:, 0]
    t = np.einsum("nsk,sk->ns", places[:, None] - start, along) / np.maximum((along ** 2).sum(1), 1e-10)
    nearest = start + np.clip(t, 0, 1)[..., None] * along
    return (np.linalg.norm(places[:, None] - nearest, axis=-1) - 0.95 * BONE_RADIUS_M).min(1)


def _rod(rng, centre, axis, radius, joints):
    """A bottle, can, cup, handle or tool along the axis."""
    reach = np.ptp(joints[[5, 9, 13, 17]] @ axis)
    if radius > 0.018:
        name = "bottle" if rng.random() < 0.5 else "can"
        up, down = rng.uniform(0.02, 0.12), rng.uniform(0.03, 0.1)
        start, end = centre - axis * (down + reach / 2), centre + axis * (up + reach / 2)
        if name == "can":
            profile, heights = [radius, radius, radius], None
        else:
            neck = rng.uniform(0.25, 0.5)
            profile = [radius, radius, radius * 0.95, radius * neck, radius * neck]
            heights = [0, 0.5, rng.uniform(0.55, 0.75), 0.82, 1.0]
        return [(shapes.revolve(start, end, profile, heights), *_stuff(rng))], name
    up, down = rng.uniform(0.03, 0.18), rng.uniform(0.01, 0.06)
    start, end = centre - axis * (down + reach / 2), centre + axis * (up + reach / 2)
    profile = radius * np.array([1.0, rng.uniform(0.8, 1.05), rng.uniform(0.5, 1.1)])
    parts = [(shapes.revolve(start, end, profile), *_stuff(rng))]
    if rng.random() < 0.6:                                         # the tool's head
        x, y = shapes.frame(axis)
        size = rng.uniform(0.01, 0.05, 3) * [1.0, rng.uniform(0.1, 1.0), 1.6]
        head = shapes.ball(end + axis * size[2] * 0.7, size, np.stack([x, y, axis], 1)) if rng.random() < 0.5 else \
            shapes.box(end + axis * size[2] * 0.8, np.stack([x, y, axis], 1), 2 * size)
        parts.append((head, np.full(3, rng.uniform(0.2, 0.7)), 0, float(rng.uniform(0.5, 1.0))))
    return parts, "handle"


def _slab(rng, centre, axis, radius, joints, segments):
    """A phone, card, book or box between thumb and fingers."""
    thumb = joints[3:5].mean(0) - centre
    normal = thumb - axis * (thumb @ axis)
    normal = _unit(normal)
    side = np.cross(normal, axis)
    half = min(radius, 0.02)
    share = np.linspace(0, 1, 5)[None, :, None]
    flesh = (segments[:, :1] * (1 - share) + segments[:, 1:] * share).reshape(-1, 3) - centre
    thick = np.repeat(BONE_RADIUS_M, 5)
    across, height, u = flesh @ normal, flesh @ axis, flesh @ side
    length = rng.uniform(0.05, 0.17)
    blocking = (np.abs(across) < half + 0.7 * thick) & (np.abs(height) < length / 2)
    forward = np.min(np.where(blocking & (u > 0), u - thick, 0.08), initial=0.08)
    backward = np.min(np.where(blocking & (u < 0), -u - thick, 0.08), initial=0.08)
    forward, backward = max(forward, half * 0.7), max(backward, half * 0.7)
    forward, backward = forward * rng.uniform(0.6, 1.0), backward * rng.uniform(0.6, 1.0)
    middle = centre + side * (forward - backward) / 2 + axis * rng.normal(0, 0.015)
    rotation = np.stack([normal, side, axis], axis=1)
    if np.linalg.det(rotation) < 0:
        rotation[:, 1] *= -1
    size = np.array([2 * half, forward + backward, length])
    parts = [(shapes.box(middle, rotation, size), *_stuff(rng))]
    if half < 0.009 and size[1] > 0.03:                            # a phone's screen
        face = shapes.box(middle - normal * half, rotation, size * [0.05, 0.93, 0.95])
        parts.append((face, np.full(3, rng.choice([0.01, 0.02, 0.6])), 0, 0.95))
    return parts, "phone" if half < 0.009 else "box"


def _pen(rng, joints):
    """A pen, spoon, fork, knife or key from the pinch towards the web between thumb and index."""
    finger = int(np.argmin(np.linalg.norm(joints[[8, 12, 16, 20]] - joints[4], axis=1)))
    pad = joints[8 + 4 * finger]
    pinch = 0.5 * (joints[4] + pad) + np.array([0, -0.004, 0.002])
    gap = np.linalg.norm(joints[4] - pad)
    if gap > 0.06:
        return None
    web = 0.5 * (joints[2] + joints[5]) + [0, 0, 0.012]
    across = _unit(np.cross(pad - joints[4], joints[7 + 4 * finger] - joints[4]) + 1e-6)
    axis = _unit(web - pinch) if rng.random() < 0.6 else across * rng.choice([-1.0, 1.0])
    axis = _unit(axis + rng.normal(0, 0.12, 3))
    radius = float(np.clip(gap / 2 - 0.006, 0.0015, 0.012))
    ahead, behind = rng.uniform(0.01, 0.09), rng.uniform(0.05, 0.14)
    start, end = pinch - axis * ahead, pinch + axis * behind
    shaft = shapes.revolve(start, end, radius * np.array([0.3, 1.0, 1.0, 0.9]), [0, 0.12, 0.6, 1.0], sides=10)
    parts = [(shaft, *_stuff(rng))]
    if rng.random() < 0.45:                                        # a bowl or blade instead of a tip
        x, y = shapes.frame(axis)
        bowl = np.array([rng.uniform(0.006, 0.024), rng.uniform(0.0015, 0.006), rng.uniform(0.012, 0.04)])
        mesh = shapes.ball(start - axis * bowl[2] * 0.8, bowl, np.stack([x, y, axis], 1))
        parts.append((mesh, np.full(3, 0.6), 0, 0.95))
    return parts, "pen"


def _stuff(rng) -> tuple:
    pattern = int(rng.integers(1, materials.PATTERNS)) if rng.random() < 0.45 else 0
    return materials.sample_cloth(rng), pattern, float(rng.uniform(0.0, 1.0))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-9)
