"""Reads the CC0 MakeHuman base mesh, its rig weights and its shape targets as plain arrays (metres)."""
from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hand_pose_ros.errors import DataError
from hand_pose_ros.synthesis import assets

METRES_PER_UNIT = 0.1                           # the base mesh is in decimetres


@dataclass(frozen=True, eq=False)
class BaseMesh:
    """The whole hm08 mesh in its rest pose: y up, x to the person's left, z forward."""

    vertices: np.ndarray                        # (19158, 3) metres, helper geometry and joint cubes included
    quads: np.ndarray                           # (F, 4) vertex indices of the body's skin
    quad_uv: np.ndarray                         # (F, 4) indices into uv
    uv: np.ndarray                              # (T, 2), (0, 0) bottom left
    joint_cubes: dict                           # name -> vertex indices whose mean is the joint
    weights: dict                               # bone -> (indices, weights)

    def joint(self, name: str, vertices: np.ndarray | None = None) -> np.ndarray:
        """Centre of one joint cube such as ``joint-r-finger-2-1``; (3,) metres."""
        return (self.vertices if vertices is None else vertices)[self.joint_cubes[name]].mean(axis=0)


def triangles(quads: np.ndarray) -> np.ndarray:
    """(Q, 4) vertex indices -> (2 Q, 3): the first halves of all, then the second ones."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


@lru_cache(maxsize=1)
def base_mesh() -> BaseMesh:
    """Parse the base mesh and its weights. Raises DataError if an asset is missing or malformed."""
    vertices, uv, quads, quad_uv, cubes, group = [], [], [], [], {}, ""
    name = assets.path("makehuman/base.obj")
    try:
        for line in name.read_text().splitlines():
            word, _, rest = line.partition(" ")
            if word == "v":
                vertices.append([float(value) for value in rest.split()])
            elif word == "vt":
                uv.append([float(value) for value in rest.split()[:2]])
            elif word == "g":
                group = rest.strip()
            elif word == "f":
                corners = [corner.split("/") for corner in rest.split()]
                indices = [int(corner[0]) - 1 for corner in corners]
                if group == "body":
                    quads.append(indices)
                    quad_uv.append([int(corner[1]) - 1 for corner in corners])
                elif group.startswith("joint-"):
                    cubes.setdefault(group, set()).update(indices)
        weights = {bone: (np.array([int(pair[0]) for pair in pairs], dtype=np.int64),
                          np.array([float(pair[1]) for pair in pairs]))
                   for bone, pairs in json.loads(assets.path("makehuman/weights.default.json").read_text())
                   ["weights"].items()}
    except (ValueError, IndexError, KeyError) as error:
        raise DataError(f"{name} or its weights cannot be read ({error}); {assets.REMEDY}") from None
    return BaseMesh(np.array(vertices) * METRES_PER_UNIT, np.array(quads), np.array(quad_uv), np.array(uv),
                    {cube: np.array(sorted(found)) for cube, found in cubes.items()}, weights)


@lru_cache(maxsize=None)
def target(name: str) -> tuple[np.ndarray, np.ndarray]:
    """One shape target: (indices (n,), offsets (n, 3) metres) to add to the base mesh at full strength."""
    with gzip.open(assets.path(f"makehuman/{name}.target.gz"), "rt") as stream:
        text = "".join(line for line in stream if not line.startswith("#"))
    rows = np.fromstring(text, sep=" ").reshape(-1, 4)
    return rows[:, 0].astype(np.int64), rows[:, 1:] * METRES_PER_UNIT


def add_target(vertices: np.ndarray, name: str, strength: float) -> None:
    """Add a target to (19158, 3) vertices in place."""
    indices, offsets = target(name)
    vertices[indices] += strength * offsets
