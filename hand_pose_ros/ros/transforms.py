"""A hand as TF frames: the wrist and five fingertips, named by side and track, children of the camera's optical frame.

Names    <prefix>hand_<left|right>_<track id>_<wrist|thumb_tip|index_tip|middle_tip|ring_tip|little_tip>
Axes     see hand_pose_ros/frames.py: X along the last bone outward (wrist: to the middle knuckle), Z out of the nail
         side (wrist: out of the back of the hand)
Sent     only what is known: a joint that is not finite, outside the image or extrapolated from earlier images has no
         frame
"""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import frames
from ..skeleton import FINGERS, FINGERTIPS, WRIST
from ..types import Hand, JointState

FRAMES = ("wrist", *(f"{finger}_tip" for finger in FINGERS))
_NOT_SEEN = (JointState.OUTSIDE_IMAGE, JointState.EXTRAPOLATED)


def hand_name(hand: Hand, prefix: str = "") -> str:
    """Name of one tracked hand, e.g. 'cam_left/hand_right_3'."""
    return f"{prefix}hand_{'right' if hand.is_right else 'left'}_{hand.track_id}"


def prefix_of(namespace: str) -> str:
    """Frame prefix of a node: its namespace, so that several cameras do not send the same frames. '' for '/'."""
    inner = namespace.strip("/")
    return f"{inner}/" if inner else ""


def hand_frames(hand: Hand) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """The valid frames of one hand as (name from FRAMES, position (3,) m, quaternion (4,) xyzw) in the camera frame."""
    joints = (WRIST, *FINGERTIPS)
    rotations = [frames.wrist_rotation(hand.joints_m, hand.is_right),
                 *frames.fingertip_rotations(hand.joints_m, hand.is_right)]
    valid = []
    for name, joint, rotation in zip(FRAMES, joints, rotations):
        position, quaternion = hand.joints_m[joint], frames.quaternion(rotation)
        seen = hand.state[joint] not in _NOT_SEEN
        if seen and np.isfinite(position).all() and np.isfinite(quaternion).all():
            valid.append((name, position, quaternion))
    return valid


def transform_messages(message_type: Any, header: Any, hands: tuple[Hand, ...], prefix: str) -> list[Any]:
    """TransformStamped messages of all valid frames of all hands. header: the image's own."""
    out = []
    for hand in hands:
        name = hand_name(hand, prefix)
        for frame, position, quaternion in hand_frames(hand):
            message = message_type()
            message.header = header
            message.child_frame_id = f"{name}_{frame}"
            translation, rotation = message.transform.translation, message.transform.rotation
            translation.x, translation.y, translation.z = (float(value) for value in position)
            rotation.x, rotation.y, rotation.z, rotation.w = (float(value) for value in quaternion)
            out.append(message)
    return out


class ClashGuard:
    """Notices that somebody else sends frames with our names, which would make TF jump between two places.

    Our own messages come back too; they are known by their stamps. Foreign messages are searched as bytes first, so
    that a busy /tf costs little.
    """

    def __init__(self, prefix: str, remembered: int = 400) -> None:
        self._pattern = f"{prefix}hand_".encode()
        self._prefix, self._remembered = f"{prefix}hand_", remembered
        self._own: dict[tuple[str, int], None] = {}

    def sent(self, child: str, stamp_ns: int) -> None:
        """Call before sending a transform."""
        self._own[(child, stamp_ns)] = None
        while len(self._own) > self._remembered:
            del self._own[next(iter(self._own))]

    def may_concern(self, raw: bytes) -> bool:
        """Whether a serialized TFMessage is worth deserializing."""
        return self._pattern in raw

    def foreign(self, child: str, stamp_ns: int) -> bool:
        """Whether a received transform carries a name we send just now, but was not sent by us."""
        return (child.startswith(self._prefix) and (child, stamp_ns) not in self._own
                and any(name == child for name, _ in self._own))
