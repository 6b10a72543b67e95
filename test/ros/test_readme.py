"""The README's parameter table is the one that the settings give, so it cannot fall behind them."""
from __future__ import annotations

from pathlib import Path

import pytest

from hand_pose_ros import config
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
