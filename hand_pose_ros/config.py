"""Every setting of the core, once: ROS parameters, command line options, the README's table and all checks follow.

Settings that only make sense in ROS (topics, QoS, TF) are in ros/parameters.py, in the same words.
"""
from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, make_dataclass
from typing import Any

from hand_pose_ros.errors import ConfigError


@dataclass(frozen=True)
class Setting:
    """One setting. Its type is the type of its default."""

    name: str
    default: bool | int | float | str | tuple[float, ...]
    help: str = ""
    unit: str = ""
    low: float | None = None                        # smallest and largest allowed value, both allowed themselves
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False                              # may change while images are coming in

    @property
    def limits(self) -> str:
        """What is allowed, in words; empty if everything of the type is."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.low is None:
            return ""
        return f"{self.low:g} to {self.high:g}{' ' if self.unit else ''}{self.unit}"


SETTINGS = (
    Setting("detector_model", "detector_light", "Network that finds hands in the image: a folder "
            "below models/, or the path of one that begins with /, ./ or ~/."),
    Setting("pose_model", "auto", "Network that finds 21 joints in a crop: a folder below models/, or a path. auto: "
            "pose_light_224, which is nearer to the joints, where a GPU runs it, else pose_light."),
    Setting("runtime", "auto", "What runs the networks; auto: the fastest that works here.",
            choices=("auto", "tensorrt", "cuda", "onnxruntime", "onnxruntime-int8", "onnxruntime-cuda", "cpu")),
    Setting("max_hands", 2, "Most hands that are followed at a time.", low=1, high=6, live=True),
    Setting("detection_threshold", 0.5, "Probability, by detector and pose network together, from which a "
            "new hand is taken up.", low=0.01, high=1.0, live=True),
    Setting("presence_threshold", 0.5, "Probability by the pose network from which a hand counts as one, a new "
            "one as well as one that is followed.", low=0.01, high=1.0, live=True),
    Setting("detect_every_s", 0.5, "While some, but fewer than max_hands are followed, time between two looks at the "
            "whole image; 0: at every image, as while none is.", unit="s", low=0.0, high=10.0, live=True),
    Setting("hand_length_m", 0.186, "Length of the hand, wrist's crease to the end of the middle finger: sets the "
                                    "metric scale.",
            unit="m", low=0.08, high=0.30, live=True),
    Setting("hand_calibration_file", "", "File of a measured hand length (hand-pose calibrate); replaces "
            "hand_length_m. Empty: none."),
    Setting("use_depth", True, "Use a registered depth image for the distance where there is one.", live=True),
    Setting("assumed_hfov_deg", 60.0, "Horizontal field of view of a camera without camera_info. Joints are then in "
            "pixels and relative to the wrist only.", unit="deg", low=10.0, high=170.0, live=True),
    Setting("metric_without_calibration", False, "Give metres in the camera frame also with an assumed field of view. "
            "Distances are then only a guess.", live=True),
    Setting("image_is_rectified", False, "The image is already undistorted (image_rect): use P of camera_info."),
    Setting("mirrored_image", False, "The image was mirrored after capture (selfie view). Pixels stay those of the "
            "image; sides and metres are those of the real world."),
    Setting("filter_min_cutoff_hz", 1.0, "One-Euro cutoff of a hand at rest: lower is smoother.", unit="Hz", low=0.01,
            high=100.0, live=True),
    Setting("filter_beta", 5.0, "One-Euro cutoff added per speed of one hand length per second: higher lags less.",
            unit="Hz s", low=0.0, high=100.0, live=True),
    Setting("filter_derivative_cutoff_hz", 1.0, "One-Euro cutoff of the speed itself.", unit="Hz", low=0.01, high=100.0,
            live=True),
    Setting("track_timeout_s", 0.5, "A hand unseen for longer gets a new track id when it comes back. Less than the "
            "time between two images: nothing is followed from one to the next.", unit="s", low=0.0, high=10.0,
            live=True),
    Setting("max_image_age_s", 0.0, "Images older than this on arrival are skipped; 0: none are.", unit="s", low=0.0,
            high=60.0, live=True),
    Setting("draw_labels", True, "Write side, track id, score and distance beside the hands in debug images.",
            live=True),
)
"""In the order of the README's table."""

PATH_BEGINNINGS = ("/", "./", "~/")
"""Of a model that is given by the path of its folder instead of its name below models/."""

_BY_NAME = {setting.name: setting for setting in SETTINGS}


def check_value(setting: Setting, value: Any) -> Any:
    """The value in the setting's own type. Raises ConfigError naming setting, value and what is allowed."""
    if isinstance(setting.default, tuple):
        return _check_numbers(setting, value)
    kind = type(setting.default)
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {bool: isinstance(value, bool), int: number and float(value).is_integer(), float: number,
            str: isinstance(value, str)}[kind]
    if not fits:
        raise ConfigError(f"{setting.name} is {value!r}; it must be {setting.limits or wanted}")
    value = kind(value)
    if setting.choices and value not in setting.choices:
        raise ConfigError(f"{setting.name} is '{value}'; it must be {setting.limits}")
    if setting.low is not None and not setting.low <= value <= setting.high:    # also refuses NaN
        raise ConfigError(f"{setting.name} is {value}; it must be {setting.limits}")
    return value


def _check_numbers(setting: Setting, value: Any) -> tuple[float, ...]:
    """Several numbers, as many as the default has."""
    try:
        numbers = () if isinstance(value, str) else tuple(float(number) for number in value)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != len(setting.default) or not all(abs(number) < float("inf") for number in numbers):
        raise ConfigError(f"{setting.name} is {value!r}; it must be {len(setting.default)} numbers")
    return numbers


def check(values: Mapping[str, Any]) -> None:
    """Raises ConfigError if known settings cannot work together. Names that are not of the core are not looked at."""
    for name in ("detector_model", "pose_model"):
        value = values.get(name)
        if value is None or value.startswith(PATH_BEGINNINGS):          # a folder given by path: models.path looks
            continue
        if not value or "/" in value or "\\" in value or value.startswith("."):
            raise ConfigError(f"{name} is '{value}'; give the name of a folder below models/, or a path to a model's "
                              f"folder that begins with {', '.join(PATH_BEGINNINGS)}")


class _Checked:
    """What Config adds to its fields."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """A Config with these values, defaults elsewhere. Raises ConfigError for unknown names and bad values."""
        unknown = [name for name in values if name not in _BY_NAME]
        if unknown:
            raise ConfigError(f"there is no setting '{unknown[0]}'; choices: {', '.join(_BY_NAME)}")
        checked = {name: check_value(_BY_NAME[name], value) for name, value in values.items()}
        check(checked)
        return cls(**checked)


Config = make_dataclass("Config", [(s.name, type(s.default), s.default) for s in SETTINGS], bases=(_Checked,),
                        frozen=True, namespace={"__doc__": "All settings of the core; one field for each of SETTINGS.",
                                                "__module__": __name__})


def add_arguments(parser: argparse.ArgumentParser, names: Iterable[str] | None = None,
                  defaults: Mapping[str, Any] | None = None) -> None:
    """Add ``--detection-threshold`` and so on for the named settings (all of them if None) to a command's parser.
    defaults: where the command's are others than the node's."""
    for setting in SETTINGS:
        if names is not None and setting.name not in names:
            continue
        default = (defaults or {}).get(setting.name, setting.default)
        flag = "--" + setting.name.replace("_", "-")
        unit = f" [{setting.unit}]" if setting.unit else ""
        text = f"{setting.help}{unit} (default: {default})".replace("%", "%%")
        if isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
        else:
            parser.add_argument(flag, type=type(default), default=default, help=text,
                                choices=setting.choices or None, metavar=None if setting.choices else "VALUE")


def from_arguments(args: argparse.Namespace) -> Config:
    """The Config of parsed arguments; settings that the command does not offer keep their defaults."""
    return Config.from_dict({name: getattr(args, name) for name in _BY_NAME if hasattr(args, name)})


KINDS = {bool: "true, false", str: "text", float: "a number"}
"""What a setting without limits may be."""


def markdown_table(settings: Iterable[Setting] = SETTINGS) -> str:
    """The README's table of settings."""
    lines = ["| parameter | default | allowed | live | meaning |", "|---|---|---|---|---|"]
    for s in settings:
        default = str(s.default).lower() if isinstance(s.default, bool) else f"{s.default}"
        unit = f" {s.unit}" if s.unit and not isinstance(s.default, str) else ""
        allowed = s.limits or KINDS.get(type(s.default), "")
        if isinstance(s.default, tuple):                 # with decimal points, without which ROS takes no list of them
            default, allowed = f"[{', '.join(str(float(number)) for number in s.default)}]", f"{len(s.default)} numbers"
        lines.append(f"| `{s.name}` | {f'`{default}`' if default else 'empty'}{unit} | {allowed} | "
                     f"{'yes' if s.live else 'no'} | {s.help} |")
    return "\n".join(lines) + "\n"
