"""The report's drawings: what is written can be read."""
from __future__ import annotations

import re

import numpy as np
import pytest

from hand_pose_ros.evaluation import figures


@pytest.mark.parametrize("curve", [lambda x: x, lambda x: 0.5 + 0 * x, lambda x: 1 - np.exp(-9 * x), lambda x: 0 * x])
def test_no_line_runs_through_the_legend(curve):
    x = np.linspace(0.0, 1.0, 30)
    drawn = figures.curves([("along the viewing ray", x, curve(x)), ("across it", x, curve(x) ** 2)], "x", "y")
    keys = [(float(a), float(b)) for a, b in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="12"', drawn)]
    assert len(keys) == 2
    right = keys[0][0] + 24 + figures.LETTER_PX * len("along the viewing ray")
    assert right <= 460
    for points in re.findall(r'points="([^"]*)"', drawn):
        for px, py in (map(float, point.split(",")) for point in points.split()):
            assert not (keys[0][0] <= px <= right and keys[0][1] - 8 <= py <= keys[-1][1] + 8), (px, py, keys)


def test_bars_beside_long_labels_tell_their_values_apart():
    label = ">=60 deg between the palm's normal and the ray to the camera"
    drawn = figures.bars([(label, 4.1, 10), ("short", 13.8, 20)], "%")
    short, long = (float(width) for width in re.findall(r'width="([\d.]+)" height="16"', drawn))
    assert long >= 120 and short == pytest.approx(long * 4.1 / 13.8, abs=0.1)
    width = float(re.search(r'viewBox="0 0 (\d+)', drawn).group(1))
    left = float(re.search(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="end">', drawn).group(1))
    assert left >= figures.LETTER_PX * len(label) and left + 8 + long < width
