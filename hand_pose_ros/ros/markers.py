"""Hands as visualization_msgs/MarkerArray for RViz and Foxglove: one colour per finger, gone when the hand is gone."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..annotate import colour_of_joint
from ..skeleton import BONES, WRIST
from ..types import Hand
from .transforms import hand_name

BONE_WIDTH_M, JOINT_SIZE_M, TEXT_SIZE_M = 0.006, 0.011, 0.03
LIFETIME_S = 1
"""Markers of a node that died vanish after this; those of a lost hand are deleted at once."""


class HandMarkers:
    """Makes the messages and remembers what is shown, so that lost hands are deleted."""

    def __init__(self, array_type: Any, marker_type: Any, point_type: Any, color_type: Any, prefix: str) -> None:
        self._array, self._marker, self._point, self._color = array_type, marker_type, point_type, color_type
        self._prefix = prefix
        self._shown: set[str] = set()

    def message(self, header: Any, hands: tuple[Hand, ...]) -> Any:
        """MarkerArray of the hands that are known in metres; bones, joints and a label for each."""
        metric = {hand_name(hand, self._prefix): hand for hand in hands if np.isfinite(hand.joints_m).all()}
        gone = sorted(self._shown - set(metric))
        markers = [self._deleted(header, name, number) for name in gone for number in range(3)]
        for name, hand in metric.items():
            markers += [self._bones(header, name, hand), self._joints(header, name, hand),
                        self._label(header, name, hand)]
        self._shown = set(metric)
        return self._array(markers=markers)

    def _new(self, header: Any, name: str, number: int, kind: int) -> Any:
        marker = self._marker()
        marker.header, marker.ns, marker.id, marker.type = header, name, number, kind
        marker.action = self._marker.ADD
        marker.pose.orientation.w = 1.0
        marker.lifetime.sec = LIFETIME_S
        return marker

    def _deleted(self, header: Any, name: str, number: int) -> Any:
        marker = self._new(header, name, number, self._marker.SPHERE)
        marker.action = self._marker.DELETE
        return marker

    def _bones(self, header: Any, name: str, hand: Hand) -> Any:
        marker = self._new(header, name, 0, self._marker.LINE_LIST)
        marker.scale.x = BONE_WIDTH_M
        for bone in BONES:
            for joint in bone:
                self._add(marker, hand.joints_m[joint], colour_of_joint(bone[1]))
        return marker

    def _joints(self, header: Any, name: str, hand: Hand) -> Any:
        marker = self._new(header, name, 1, self._marker.SPHERE_LIST)
        marker.scale.x = marker.scale.y = marker.scale.z = JOINT_SIZE_M
        for joint, position in enumerate(hand.joints_m):
            self._add(marker, position, colour_of_joint(joint))
        return marker

    def _label(self, header: Any, name: str, hand: Hand) -> Any:
        marker = self._new(header, name, 2, self._marker.TEXT_VIEW_FACING)
        marker.scale.z = TEXT_SIZE_M
        position = marker.pose.position
        position.x, position.y, position.z = (float(value) for value in hand.joints_m[0])
        marker.color = self._rgba(colour_of_joint(WRIST))
        marker.text = f"{'right' if hand.is_right else 'left'} {hand.track_id}"
        return marker

    def _add(self, marker: Any, position: np.ndarray, color: tuple[int, int, int]) -> None:
        x, y, z = (float(value) for value in position)
        marker.points.append(self._point(x=x, y=y, z=z))
        marker.colors.append(self._rgba(color))

    def _rgba(self, color: tuple[int, int, int]) -> Any:
        red, green, blue = (value / 255.0 for value in color)
        return self._color(r=red, g=green, b=blue, a=1.0)
