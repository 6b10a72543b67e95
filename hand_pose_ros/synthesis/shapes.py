"""Meshes of things near hands: cylinders, boxes, balls, tubes for sleeves, bands for rings and watches.

Prints on them can be read from outside: u goes to the right where v, and the picture's rows, go down.
"""
from __future__ import annotations

import numpy as np

from hand_pose_ros.synthesis.rig import cross


def revolve(start: np.ndarray, end: np.ndarray, radii, heights=None, sides: int = 20) -> tuple:
    """Surface of revolution from ``start`` to ``end`` (3,), with closed ends.

    radii: (n,) metres at ``heights`` (n,) in 0..1 along the axis, evenly spaced by default. Returns (vertices (V, 3),
    normals (V, 3), uv (V, 2), faces (T, 3)), as every function here.
    """
    radii = np.asarray(radii, np.float64)
    heights = np.linspace(0, 1, len(radii)) if heights is None else np.asarray(heights, np.float64)
    axis = end - start
    length = np.linalg.norm(axis)
    x, y = frame(axis / length)
    centres = start + heights[:, None] * axis
    vertices, normals, uv, faces = tube(centres, radii, radii, x, y, sides)
    for ring, sign in ((0, -1.0), (len(radii) - 1, 1.0)):
        if radii[ring] < 1e-5:
            continue
        base = len(vertices)
        rim = vertices[ring * (sides + 1):(ring + 1) * (sides + 1)]
        vertices = np.vstack([vertices, rim, centres[ring]])
        normals = np.vstack([normals, np.tile(sign * axis / length, (sides + 2, 1))])
        uv = np.vstack([uv, np.zeros((sides + 2, 2))])
        i = np.arange(sides)
        cap = np.stack([np.full(sides, base + sides + 1), base + i, base + i + 1], axis=1)
        faces = np.vstack([faces, cap])
    return vertices, normals, uv, faces


def tube(centres: np.ndarray, radii_x: np.ndarray, radii_y: np.ndarray, x: np.ndarray, y: np.ndarray, sides: int = 20,
         ripple: np.ndarray | None = None) -> tuple:
    """Open elliptic tube through ``centres`` (n, 3) with half axes (n,) along unit vectors x, y (3,).

    ripple: (n, sides) factors on the radius, for folds.
    """
    n = len(centres)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    radial = np.cos(angle)[:, None] * x, np.sin(angle)[:, None] * y
    factor = np.ones((n, sides + 1)) if ripple is None else np.hstack([ripple, ripple[:, :1]])
    offset = factor[..., None] * (radii_x[:, None, None] * radial[0] + radii_y[:, None, None] * radial[1])
    grid = centres[:, None] + offset                                                    # (n, sides + 1, 3)
    along = np.zeros_like(grid)
    if n > 1:
        along[1:-1], along[0], along[-1] = 0.5 * (grid[2:] - grid[:-2]), grid[1] - grid[0], grid[-1] - grid[-2]
    around = np.empty_like(grid)
    around[:, 1:-1] = grid[:, 2:] - grid[:, :-2]
    around[:, 0] = around[:, -1] = grid[:, 1] - grid[:, -2]
    (ax, ay, az), (bx, by, bz), (ox, oy, oz) = (np.moveaxis(v, -1, 0) for v in (around, along, offset))
    cx, cy, cz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    scale = np.sign(cx * ox + cy * oy + cz * oz + 1e-12) / np.maximum(np.sqrt(cx * cx + cy * cy + cz * cz), 1e-12)
    normals = np.stack([cx * scale, cy * scale, cz * scale], axis=-1)
    i, j = np.meshgrid(np.arange(n - 1), np.arange(sides), indexing="ij")
    a = (i * (sides + 1) + j).ravel()
    faces = np.vstack([np.stack([a, a + 1, a + sides + 1], 1), np.stack([a + 1, a + sides + 2, a + sides + 1], 1)])
    run = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(centres, axis=0), axis=1))])
    uv = np.stack(np.broadcast_arrays(np.linspace(0, 1, sides + 1)[None] * 2, -run[:, None] / 0.12), axis=-1)
    return grid.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), faces


def wire(path: np.ndarray, normal: np.ndarray, radius: float, sides: int = 6) -> tuple:
    """Round wire of ``radius`` metres along a path (n, 3) in a plane with unit ``normal`` (3,); its ends stay open."""
    along = np.gradient(path, axis=0)
    if np.allclose(path[0], path[-1]):
        along[0] = along[-1] = path[1] - path[-2]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    side = np.cross(along, normal)[:, None]
    normals = (np.cos(angle)[:, None] * normal + np.sin(angle)[:, None] * side).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(len(path) - 1), np.arange(sides), indexing="ij")
    a = (i * (sides + 1) + j).ravel()
    faces = np.vstack([np.stack([a, a + 1, a + sides + 1], 1), np.stack([a + 1, a + sides + 2, a + sides + 1], 1)])
    return np.repeat(path, sides + 1, axis=0) + radius * normals, normals, np.zeros((len(normals), 2)), faces


def box(centre: np.ndarray, rotation: np.ndarray, size: np.ndarray) -> tuple:
    """Cuboid with edge lengths ``size`` (3,) metres; columns of ``rotation`` (3, 3) are its axes."""
    corners = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], np.float64) * 0.5
    vertices, normals, faces = [], [], []
    for axis in range(3):
        for sign in (1, -1):
            face = np.roll(corners * [1, 1, sign], axis - 2, axis=1)
            normal = np.zeros(3)
            normal[axis] = sign
            faces.append(np.array([[0, 1, 2], [0, 2, 3]]) + 4 * len(vertices))
            vertices.append(face)
            normals.append(np.tile(normal, (4, 1)))
    vertices = np.concatenate(vertices) * size
    uv = np.tile(np.array([[1, 0], [0, 0], [0, 1], [1, 1], [0, 0], [1, 0], [1, 1], [0, 1]], np.float64), (3, 1))
    return centre + vertices @ rotation.T, np.concatenate(normals) @ rotation.T, uv, np.concatenate(faces)


def ball(centre: np.ndarray, radii, rotation: np.ndarray | None = None, rings: int = 10, sides: int = 16) -> tuple:
    """Ellipsoid with half axes ``radii`` (3,) or one radius."""
    radii = np.broadcast_to(np.asarray(radii, np.float64), 3)
    theta = np.linspace(0, np.pi, rings + 1)
    phi = np.linspace(0, 2 * np.pi, sides + 1)
    unit = np.stack([np.sin(theta)[:, None] * np.cos(phi), np.sin(theta)[:, None] * np.sin(phi),
                     np.broadcast_to(np.cos(theta)[:, None], (rings + 1, sides + 1))], axis=-1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings), np.arange(sides), indexing="ij")
    a = (i * (sides + 1) + j).ravel()
    faces = np.vstack([np.stack([a, a + 1, a + sides + 1], 1), np.stack([a + 1, a + sides + 2, a + sides + 1], 1)])
    normals = unit / radii
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    rotation = np.eye(3) if rotation is None else rotation
    uv = np.stack(np.broadcast_arrays(phi[None] / np.pi, theta[:, None] / np.pi), axis=-1).reshape(-1, 2)
    return centre + (unit * radii) @ rotation.T, normals @ rotation.T, uv, faces


def frame(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors (3,) that make a right-handed frame with the unit vector ``axis``."""
    x = cross(np.array([0.0, 1.0, 0.0] if abs(axis[1]) < 0.9 else [1.0, 0.0, 0.0]), axis)
    x /= np.linalg.norm(x)
    return x, cross(axis, x)


def girth(vertices: np.ndarray, centre: np.ndarray, axis: np.ndarray,
          x: np.ndarray, y: np.ndarray, half_m: float) -> tuple:
    """Ellipse round the vertices within ``half_m`` of a plane: (centre (3,), half axes along x and y), None if empty.

    axis: unit normal of the plane through ``centre``.
    """
    local = vertices - centre
    near = local[np.abs(local @ axis) < half_m]
    if len(near) < 4:
        return None
    px, py = near @ x, near @ y
    cx, cy = 0.5 * (px.min() + px.max()), 0.5 * (py.min() + py.max())
    return centre + cx * x + cy * y, 0.5 * (px.max() - px.min()), 0.5 * (py.max() - py.min())
