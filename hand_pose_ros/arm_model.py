"""A robot as its URDF describes it: positions of all links, and joints that follow a tool pose or twist within limits.

Kinematics only: no masses, no contacts. Damped least squares: Wampler, IEEE Trans. SMC 16(1), 1986, equation 12.
"""
from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import DataError
from .frames import rotation_from_vector, rotation_vector

DAMPING = 0.05
GAIN_HZ = 15.0
"""Share of the remaining error per second that the tool is asked to make good."""


@dataclass(frozen=True, eq=False)
class Joint:
    """One joint of a URDF."""

    name: str
    kind: str                                       # revolute | prismatic | fixed
    parent: str
    child: str
    rotation: np.ndarray                            # (3, 3) of the child in the parent at 0
    origin: np.ndarray                              # (3,) m
    axis: np.ndarray                                # (3,) unit
    lower: float
    upper: float
    velocity: float                                 # rad/s or m/s
    mimic: tuple[str, float, float] | None = None   # joint, multiplier, offset


@dataclass(frozen=True)
class Model:
    """All joints, parents before children."""

    name: str
    joints: tuple[Joint, ...]

    @property
    def moving(self) -> tuple[Joint, ...]:
        """Joints with a position of their own."""
        return tuple(joint for joint in self.joints if joint.kind != "fixed" and joint.mimic is None)


def load(path: str | Path) -> Model:
    """The model of a URDF file. Raises DataError if it is none, or has kinds of joints that are not known here."""
    try:
        root = ElementTree.parse(path).getroot()
        joints = [_joint(element) for element in root.findall("joint")]
    except (OSError, ElementTree.ParseError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a URDF: {error}") from error
    if not joints:
        raise DataError(f"{path} is not a URDF of a robot: it has no joint")
    return Model(root.get("name", "robot"), tuple(_sorted(joints)))


def positions(model: Model, values: dict[str, float]) -> dict[str, float]:
    """Positions of all joints that are not fixed, those that follow another one too."""
    out = dict(values)
    for joint in model.joints:
        if joint.mimic is not None:
            other, multiplier, offset = joint.mimic
            out[joint.name] = multiplier * values[other] + offset
    return out


def links(model: Model, values: dict[str, float]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rotation (3, 3) and position (3,) m of every link in the root link's frame. values: the moving joints'
    positions."""
    every = positions(model, values)
    out = {model.joints[0].parent: (np.eye(3), np.zeros(3))}
    for joint in model.joints:
        R, t = out[joint.parent]
        R_local, t_local = local(joint, every.get(joint.name, 0.0))
        out[joint.child] = R @ R_local, R @ t_local + t
    return out


def local(joint: Joint, value: float) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and position (3,) m of a joint's child in its parent."""
    if joint.kind == "revolute":
        return joint.rotation @ rotation_from_vector(joint.axis * value), joint.origin
    if joint.kind == "prismatic":
        return joint.rotation, joint.origin + joint.rotation @ joint.axis * value
    return joint.rotation, joint.origin


def jacobian(model: Model, values: dict[str, float], tip: str, names: tuple[str, ...]) -> np.ndarray:
    """(6, n): linear above angular velocity of a link in the root's frame, per joint speed of the named joints."""
    placed = links(model, values)
    _, target = placed[tip]
    out = np.zeros((6, len(names)))
    for joint in model.joints:
        if joint.name in names:
            column = names.index(joint.name)
            R, t = placed[joint.child]
            axis = R @ joint.axis
            turns = joint.kind == "revolute"
            out[:, column] = np.r_[np.cross(axis, target - t), axis] if turns else np.r_[axis, np.zeros(3)]
    return out


def follow_twist(model: Model, values: dict[str, float], tip: str, names: tuple[str, ...], twist: np.ndarray, dt: float
                 ) -> dict[str, float]:
    """Joint positions after dt seconds of moving the tip with a twist (6,), within the joints' speeds and ranges."""
    J = jacobian(model, values, tip, names)
    speeds = J.T @ np.linalg.solve(J @ J.T + DAMPING**2 * np.eye(6), twist)
    limits = {joint.name: joint for joint in model.joints}
    most = np.array([limits[name].velocity for name in names])
    speeds = speeds / max(1.0, float(np.max(np.abs(speeds) / most)))       # slower, but in the same direction
    out = dict(values)
    for name, speed in zip(names, speeds):
        out[name] = float(np.clip(values[name] + speed * dt, limits[name].lower, limits[name].upper))
    return out


def follow_pose(model: Model, values: dict[str, float], tip: str, names: tuple[str, ...], position: np.ndarray,
                rotation: np.ndarray, dt: float) -> dict[str, float]:
    """Joint positions after dt seconds of moving the tip towards a pose in the root's frame."""
    R, t = links(model, values)[tip]
    return follow_twist(model, values, tip, names, GAIN_HZ * np.r_[position - t, rotation_vector(rotation @ R.T)], dt)


def _joint(element: ElementTree.Element) -> Joint:
    name, kind = element.get("name", ""), element.get("type", "")
    if kind not in ("revolute", "prismatic", "fixed"):
        raise DataError(f"joint '{name}' is of type '{kind}'; known are revolute, prismatic and fixed")
    origin, limit, mimic = element.find("origin"), element.find("limit"), element.find("mimic")

    def numbers(found: ElementTree.Element | None, attribute: str, default: str) -> np.ndarray:
        return np.array((default if found is None else found.get(attribute, default)).split(), float)

    roll, pitch, yaw = numbers(origin, "rpy", "0 0 0")
    turn = (rotation_from_vector(np.array([0.0, 0.0, yaw])) @ rotation_from_vector(np.array([0.0, pitch, 0.0]))
            @ rotation_from_vector(np.array([roll, 0.0, 0.0])))
    bounds = {key: 0.0 if limit is None else float(limit.get(key, "0")) for key in ("lower", "upper", "velocity")}
    if kind != "fixed" and mimic is None and not 0 < bounds["velocity"] < np.inf:
        raise DataError(f"joint '{name}' has no velocity above 0 in its <limit>: it could never move")
    return Joint(name, kind, element.find("parent").get("link"), element.find("child").get("link"), turn,
                 numbers(origin, "xyz", "0 0 0"), numbers(element.find("axis"), "xyz", "1 0 0"), **bounds,
                 mimic=None if mimic is None else (mimic.get("joint"), float(mimic.get("multiplier", "1")),
                                                   float(mimic.get("offset", "0"))))


def _sorted(joints: list[Joint]) -> list[Joint]:
    children = {joint.child for joint in joints}
    known = {joint.parent for joint in joints} - children
    out: list[Joint] = []
    while len(out) < len(joints):
        ready = [joint for joint in joints if joint.parent in known and joint not in out]
        if not ready:
            raise DataError("the joints of the URDF are not one tree")
        out += ready
        known |= {joint.child for joint in ready}
    return out
