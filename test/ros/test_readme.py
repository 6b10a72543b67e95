"""The README's parameter table is the one that the settings give, and its example of a subscriber works."""
from __future__ import annotations

from pathlib import Path

import pytest

from hand_pose_ros import config
from hand_pose_ros.msg import HandPose21, HandPose21Array
from hand_pose_ros.ros import parameters

README = Path(__file__).resolve().parents[2] / "README.md"


def test_parameter_table_is_up_to_date():
    text = README.read_text()
    _, rest = text.split("<!-- parameters -->\n")
    table, _ = rest.split("<!-- /parameters -->")
    assert table == config.markdown_table(parameters.all_settings()), \
        "run: python3 benchmarks/readme_tables.py"


@pytest.mark.parametrize("folder", ["docs/jetson.md", "docs/images/demo.jpg", "CONTRIBUTING.md", "models"])
def test_what_the_readme_points_to_is_there(folder):
    assert folder in README.read_text() and (README.parent / folder).exists()


@pytest.mark.parametrize("metric, state, sigma_m, said", [
    (True, HandPose21.STATE_VISIBLE, 0.04, "hand 3: 0.100 -0.200 0.700 m in eye\n"), (True, 2, 0.04, "hand 3: "),
    (False, HandPose21.STATE_VISIBLE, 0.04, ""), (True, HandPose21.STATE_EXTRAPOLATED, 0.04, ""),
    (True, HandPose21.STATE_VISIBLE, float("nan"), ""), (True, HandPose21.STATE_UNKNOWN, 0.04, "")])
def test_the_example_of_a_subscriber_tells_places_that_are_seen_and_no_others(capsys, metric, state, sigma_m, said):
    code = README.read_text().split("```python\n")[1].split("```")[0]
    names = {}
    exec(code.split("rclpy.init()")[0], names)
    message, hand = HandPose21Array(metric=metric), HandPose21(track_id=3)
    hand.header.frame_id = "eye"
    hand.state[HandPose21.INDEX_TIP], hand.sigma_ray[HandPose21.INDEX_TIP] = state, sigma_m
    place = hand.joints_camera[HandPose21.INDEX_TIP]
    place.x, place.y, place.z = 0.1, -0.2, 0.7
    message.hands.append(hand)
    names["on_hands"](message)
    out = capsys.readouterr().out
    assert out.startswith(said) and bool(out) == bool(said)
