"""Settings that ROS reads from the environment before rclpy starts."""
from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from importlib import metadata

from ..errors import ConfigError
from ..resources import folder

FASTDDS_PROFILE = "fastdds.xml"
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
LAST_DOMAIN = 232
FIRST_RCLPY_AFTER_HUMBLE, FIRST_RCLPY_WITH_FASTDDS_3 = 4, 9


def use_large_image_profile(environment: MutableMapping[str, str] = os.environ) -> None:
    """Point Fast DDS to config/fastdds.xml, unless the user has a profile: its default shared memory loses large
    images.

    The sender of the images needs the profile too. Not on Humble with ROS_LOCALHOST_ONLY=1: there a profile's own
    transports are used beside the one that keeps to this machine, so that all interfaces would be open.
    """
    if wants_profile(environment):
        environment[profile_variable()] = str(folder("config") / FASTDDS_PROFILE)


def wants_profile(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether our profile is to be set: see ``use_large_image_profile``."""
    if environment.get("ROS_LOCALHOST_ONLY") == "1" and _is_humble():
        return False
    return not any(name in environment for name in PROFILE_VARIABLES)


def profile_variable() -> str:
    """The variable that this ROS version's Fast DDS reads without a warning: Fast DDS 3 (Kilted) renamed it."""
    try:
        old = int(metadata.version("rclpy").partition(".")[0]) < FIRST_RCLPY_WITH_FASTDDS_3
    except (metadata.PackageNotFoundError, ValueError):
        old = os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    return PROFILE_VARIABLES[1 if old else 0]


def _is_humble() -> bool:
    try:
        return int(metadata.version("rclpy").partition(".")[0]) < FIRST_RCLPY_AFTER_HUMBLE
    except (metadata.PackageNotFoundError, ValueError):
        return os.environ.get("ROS_DISTRO") == "humble"


def keep_to_this_machine(environment: MutableMapping[str, str], domain: int) -> None:
    """Nobody else hears or disturbs what runs with this environment. Jazzy, too, obeys the name that Humble knows, but
    warns of it at every start.

    Raises ConfigError for a domain for which there are no ports.
    """
    if not 0 <= domain <= LAST_DOMAIN:
        raise ConfigError(f"the ROS domain is {domain}; it must be 0 to {LAST_DOMAIN}")
    environment["ROS_DOMAIN_ID"] = str(domain)
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    environment.pop("ROS_LOCALHOST_ONLY", None)
    if _is_humble():
        environment["ROS_LOCALHOST_ONLY"] = "1"
