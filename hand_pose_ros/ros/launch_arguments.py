"""What launch arguments and parameters that are text stand for: switches and lists; and which there are."""
from __future__ import annotations

import difflib
import sys
from collections.abc import Collection
from pathlib import Path

OF_LAUNCH = ("sigterm_timeout", "sigkill_timeout", "emulate_tty", "launch-prefix", "launch-prefix-filter")
"""What launch itself takes as name:=value, for every process that it starts."""
TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


def is_true(name: str, text: str) -> bool:
    """The launch argument ``name`` as a switch. Raises ValueError for all that is neither true nor false."""
    word = text.strip().lower()
    if word not in TRUE + FALSE:
        raise ValueError(f"{name}:={text} is neither true ({', '.join(TRUE[1:])}) nor false ({', '.join(FALSE[1:])})")
    return word in TRUE


def refuse_unknown(file: str, share: str, arguments: Collection[str], parameters: Collection[str] = (),
                   command: str = "") -> None:
    """Raises ValueError for a name:=value of the command line that a launch file does not declare: launch itself says
    nothing, and a misspelt dry_run:=true would drive the robot. Does nothing where another launch file includes this
    one: what it was called with may be its own.

    file: the launch file's name, share: this package's share folder, parameters: what the command ``hand-pose
    <command>`` takes after --ros-args -p.
    """
    own = Path(share, "launch", file).resolve()
    called = next((k for k, (before, word) in enumerate(zip(["", *sys.argv], sys.argv)) if Path(word).name == file
                   and (before == "hand_pose_ros" or Path(word).resolve() == own)), len(sys.argv))
    for word in sys.argv[called + 1:]:
        name, given, _ = word.partition(":=")
        if not given or name in arguments or name in OF_LAUNCH:
            continue
        close = difflib.get_close_matches(name, arguments, 1)
        remedy = (f"it is a parameter: write it into a YAML file and give config:=FILE, or call hand-pose {command} "
                  f"--ros-args -p {word}" if name in parameters else f"did you mean {close[0]}:=?" if close else
                  f"ros2 launch hand_pose_ros {file} --show-args lists them")
        raise ValueError(f"{word} is no argument of {file}; {remedy}")


def rviz() -> str:
    """The package of RViz. Raises ValueError where it is not installed: launch itself would say so only after the other
    nodes are started, and leave them running."""
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        raise ValueError("rviz:=true, but rviz2 is not installed: apt install ros-$ROS_DISTRO-rviz2, or leave out "
                         "rviz:=true and look from another machine") from None
    return "rviz2"


def listed(text: str) -> list[str]:
    """The parts of a text that are separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
