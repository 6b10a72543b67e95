"""What launch arguments and parameters that are text stand for: switches and lists."""
from __future__ import annotations

TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


def is_true(name: str, text: str) -> bool:
    """The launch argument ``name`` as a switch. Raises ValueError for all that is neither true nor false."""
    word = text.strip().lower()
    if word not in TRUE + FALSE:
        raise ValueError(f"{name}:={text} is neither true ({', '.join(TRUE[1:])}) nor false ({', '.join(FALSE[1:])})")
    return word in TRUE


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
