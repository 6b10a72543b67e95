"""Virtual hands: a skinned mesh, its shapes and its 21 joints, under one API for every mesh.

    model = HandModel.load("makehuman")
    shape = model.shape(rng)                    # a person's hand: mesh, joints and hand length
    hand = model.pose(shape, poses.sample(rng)) # vertices, normals and joints, metres, in the hand frame (rig.py)
    left = mirror(hand)

All hands are right hands; ``mirror`` makes the left one.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.skeleton import hand_length
from hand_pose_ros.synthesis import rig, skinning
from hand_pose_ros.synthesis.anthropometry import Person


@dataclass(frozen=True, eq=False)
class Mesh:
    """A hand's mesh without its shape: what stays the same for every person and pose."""

    faces: np.ndarray                           # (F, 3) int32, counter-clockwise from outside
    uv: np.ndarray                              # (V, 2) float32, (0, 0) bottom left; vertices are doubled at UV seams
    weld: np.ndarray                            # (V,) int32: the skin vertex (row of the skinning arrays) of each one
    skin_faces: np.ndarray                      # (F, 3) int32: the same faces over skin vertices
    weights: np.ndarray                         # (S, 23) float64 skinning weights of the skin vertices
    part_ids: np.ndarray                        # (V,) uint8: 1 forearm, 2 palm, 3..7 thumb..little


@dataclass(frozen=True, eq=False)
class HandShape:
    """One person's hand in the mesh's rest pose, hand frame."""

    vertices: np.ndarray                        # (S, 3) metres, float64
    skeleton: rig.Skeleton
    person: Person                              # whose hand it is: age, sex, proportions

    @property
    def hand_length_m(self) -> float:
        return float(hand_length(self.skeleton.joints))


@dataclass(frozen=True, eq=False)
class PosedHand:
    """One hand in the hand frame (rig.py): wrist at the origin, y to the middle knuckle, z dorsal, x to the little
    finger.

    A left hand (``is_right`` False) is the mirror image: its x points to the thumb's side.
    """

    vertices: np.ndarray                        # (V, 3) metres, float64
    normals: np.ndarray                         # (V, 3) unit length, outwards
    joints: np.ndarray                          # (21, 3) metres, float64, order of skeleton.JOINT_NAMES
    faces: np.ndarray                           # (F, 3) int32
    uv: np.ndarray                              # (V, 2) float32
    part_ids: np.ndarray                        # (V,) uint8
    hand_length_m: float
    is_right: bool


class HandModel:
    """One mesh with its rig and its family of shapes. Get one with ``HandModel.load``."""

    def __init__(self, name: str, mesh: Mesh, make_shape):
        self.name = name
        self.mesh = mesh
        self._make_shape = make_shape

    @staticmethod
    def load(name: str = "makehuman") -> "HandModel":
        """A model by its name in ``MODELS``. Raises ConfigError for another name, DataError without its assets."""
        return _load(name)

    def shape(self, rng: np.random.Generator | None = None, grown: bool = False) -> HandShape:
        """A random person's hand, or the mean adult's without ``rng``. grown: nobody below 15."""
        return self._make_shape(rng, grown)

    def pose(self, shape: HandShape, pose: np.ndarray) -> PosedHand:
        """A right hand in a pose. pose: (25,) in the order and units of rig.DOFS."""
        motions = rig.motions(shape.skeleton, pose)
        vertices = skinning.skin(shape.vertices, self.mesh.weights, motions)
        normals = vertex_normals(vertices, self.mesh.skin_faces)
        mesh = self.mesh
        return PosedHand(vertices[mesh.weld], normals[mesh.weld], rig.posed_joints(shape.skeleton, motions),
                         mesh.faces, mesh.uv, mesh.part_ids, shape.hand_length_m, True)

    def rest(self, shape: HandShape) -> np.ndarray:
        """The pose (25,) in which the mesh was modelled; posing with it returns the mesh unchanged."""
        return shape.skeleton.rest.copy()


def mirror(hand: PosedHand) -> PosedHand:
    """The other side's hand: x negated, faces turned round so that they stay counter-clockwise from outside."""
    flip = np.array([-1.0, 1.0, 1.0])
    return replace(hand, vertices=hand.vertices * flip, normals=hand.normals * flip, joints=hand.joints * flip,
                   faces=np.ascontiguousarray(hand.faces[:, ::-1]), is_right=not hand.is_right)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals. vertices: (V, 3); faces: (F, 3), counter-clockwise from outside. Returns (V, 3)."""
    corners = np.ascontiguousarray(faces.T)
    x, y, z = np.ascontiguousarray(vertices.T)[:, corners]                                  # (3, F) each
    (ux, vx), (uy, vy), (uz, vz) = ((p[1:] - p[0]) for p in (x, y, z))
    out = np.empty((3, len(vertices)))
    for axis, area in enumerate((uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx)):
        out[axis] = np.bincount(corners.ravel(), np.tile(area, 3), minlength=len(vertices))
    return (out / np.maximum(np.sqrt((out * out).sum(0)), 1e-12)).T.copy()


def _makehuman() -> HandModel:
    from hand_pose_ros.synthesis import makehuman_hand

    return makehuman_hand.load()


def _webxr() -> HandModel:
    from hand_pose_ros.synthesis import webxr_hand

    return webxr_hand.load()


MODELS = {"makehuman": _makehuman, "webxr": _webxr}


@lru_cache(maxsize=None)
def _load(name: str) -> HandModel:
    if name not in MODELS:
        raise ConfigError(f"unknown hand model '{name}'; choose one of: {', '.join(MODELS)}")
    return MODELS[name]()
