"""Types of command line options with limits: argparse then names the option, the value and what is allowed, exit 2;
files that a command is to write; and numbers that torchrun sets."""
from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path

from hand_pose_ros.errors import ConfigError


def number(low: float, high: float = math.inf) -> Callable[[str], float]:
    """Type of a finite number, low and high allowed themselves."""
    return _limited(float, "a number", low, high)


def whole(low: int, high: float = math.inf) -> Callable[[str], int]:
    """Type of a whole number, low and high allowed themselves."""
    return _limited(int, "a whole number", low, high)


def folder(text: str) -> str:
    """Type of a folder to write into, made later if it is not there: refused before the work that fills it."""
    place = Path(text).absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        why = "must not be written to" if place.is_dir() else "is a file"
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: {place} {why}; give a new or another folder")
    return text


def output(option: str, text: str) -> Path:
    """The path of a file to write, ~ resolved. Raises ConfigError, before the work whose result it is to hold, if it
    has no folder or must not be written to."""
    path = Path(text).expanduser()
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {text}: there is no folder {path.parent.absolute()}")
    if path.is_dir():
        raise ConfigError(f"{option} {text} is a folder: give a file in it")
    place = path if path.exists() else path.parent
    if not os.access(place, os.W_OK):
        raise ConfigError(f"{option} {text}: {place} must not be written to; give another place")
    return path


def from_environment(name: str, default: int) -> int:
    """A whole number that torchrun sets. Raises ConfigError for another value."""
    try:
        return int(os.environ.get(name, default))
    except ValueError:
        raise ConfigError(f"the environment variable {name} is {os.environ[name]!r}: give a whole number, or unset "
                          "it") from None


def _limited(kind: Callable[[str], float], name: str, low: float, high: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high and value < math.inf):             # also refuses NaN
            limits = f"from {low} to {high}" if high < math.inf else f"from {low} on"
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give {name} {limits}")
        return value

    return convert
