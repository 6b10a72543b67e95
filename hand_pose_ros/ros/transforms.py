"""A hand as TF frames: the wrist and five fingertips, named by side and track, children of the camera's optical frame.

Names    <prefix>hand_<left|right>_<track id>_<wrist|thumb_tip|index_tip|middle_tip|ring_tip|little_tip>
Axes     see hand_pose_ros/frames.py: X along the last bone outward (wrist: to the middle knuckle), Z out of the nail
         side (wrist: out of the back of the hand)
Sent     only what is known: a frame is made of its own joint and of those that turn it (wrist: index, middle and
         little knuckle; fingertip: these, the wrist and its finger). If one of them is not finite, of unknown state,
         outside the image or extrapolated from earlier images, the frame is not sent
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import frames
from ..skeleton import FINGERS, FINGERTIPS, KNUCKLES, NUM_JOINTS, WRIST
from ..types import Hand, JointState

FRAMES = ("wrist", *(f"{finger}_tip" for finger in FINGERS))
_JOINTS = np.array((WRIST, *FINGERTIPS))
_MADE_OF = np.zeros((len(FRAMES), NUM_JOINTS), bool)
"""Which joints each frame needs: the palm's, and a finger's own."""
_MADE_OF[:, [WRIST, *(KNUCKLES[k] for k in (0, 1, 3))]] = True
for _row, _tip in enumerate(FINGERTIPS, 1):
    _MADE_OF[_row, _tip - 3:_tip + 1] = True
_SEEN = (JointState.VISIBLE, JointState.SELF_OCCLUDED, JointState.OBJECT_OCCLUDED)


def hand_name(hand: Hand, prefix: str = "") -> str:
    """Name of one tracked hand, e.g. 'cam_left/hand_right_3'."""
    return f"{prefix}hand_{'right' if hand.is_right else 'left'}_{hand.track_id}"


def prefix_of(namespace: str) -> str:
    """Frame prefix of a node: its namespace, so that several cameras do not send the same frames. '' for '/'."""
    inner = namespace.strip("/")
    return f"{inner}/" if inner else ""


def hand_frames(hands: Sequence[Hand]) -> list[list[tuple[str, np.ndarray, np.ndarray]]]:
    """The valid frames of each hand as (name from FRAMES, position (3,) m, quaternion (4,) xyzw) in the camera
    frame."""
    if not hands:
        return []
    joints = np.stack([hand.joints_m for hand in hands])
    is_right = np.array([hand.is_right for hand in hands])
    rotations = np.concatenate([frames.wrist_rotation(joints, is_right)[:, None],
                                frames.fingertip_rotations(joints, is_right)], axis=1)
    poses = np.concatenate([joints[:, _JOINTS], frames.quaternion(rotations)], axis=2)
    seen = np.isin([hand.state for hand in hands], _SEEN)
    seen = (seen[:, None] | ~_MADE_OF).all(2)                                   # (hands, frames)
    return [[(name, pose[:3], pose[3:]) for name, pose, valid in zip(FRAMES, poses_of_hand, valids) if valid]
            for poses_of_hand, valids in zip(poses, seen & np.isfinite(poses).all(2))]


def transform_messages(new_message: Callable[[], Any], header: Any, hands: Sequence[Hand], prefix: str) -> list[Any]:
    """TransformStamped messages of all valid frames of all hands. header: the image's own. new_message: gives one to
    fill; every field is set."""
    out = []
    for hand, valid in zip(hands, hand_frames(hands)):
        name = hand_name(hand, prefix)
        for frame, position, quaternion in valid:
            message = new_message()
            message.header = header
            message.child_frame_id = f"{name}_{frame}"
            translation, rotation = message.transform.translation, message.transform.rotation
            translation.x, translation.y, translation.z = position.tolist()
            rotation.x, rotation.y, rotation.z, rotation.w = quaternion.tolist()
            out.append(message)
    return out


class ClashGuard:
    """Notices that somebody else sends frames with our names, which would make TF jump between two places.

    Our own messages come back too, each once; they are known by their stamps. So a frame that comes more often than it
    was sent is somebody else's, also if that is a second node on the same images, with the same stamps. Foreign
    messages are searched as bytes first, so that a busy /tf costs little.
    """

    def __init__(self, prefix: str, remembered: int = 4000) -> None:
        """remembered: transforms; enough for all messages that can wait in the queue of a node that was kept busy."""
        self._pattern = f"{prefix}hand_".encode()
        self._prefix, self._remembered = f"{prefix}hand_", remembered
        self._own: dict[tuple[str, int], bool] = {}         # sent: whether it has not come back yet
        self._names: Counter[str] = Counter()               # how many of those have this name

    def sent(self, child: str, stamp_ns: int) -> None:
        """Call before sending a transform."""
        self._names[child] += (child, stamp_ns) not in self._own
        self._own[(child, stamp_ns)] = True
        while len(self._own) > self._remembered:
            oldest = next(iter(self._own))
            del self._own[oldest]
            self._names[oldest[0]] -= 1
            if not self._names[oldest[0]]:
                del self._names[oldest[0]]

    def may_concern(self, raw: bytes) -> bool:
        """Whether a serialized TFMessage is worth deserializing."""
        return self._pattern in raw

    def foreign(self, child: str, stamp_ns: int) -> bool:
        """Whether a received transform carries a name we send just now, but was not sent by us. Call once for each
        transform received."""
        if self._own.get((child, stamp_ns)):
            self._own[(child, stamp_ns)] = False
            return False
        return child in self._names
