"""Every setting as a ROS parameter: declared with its description and range, checked, live where that makes sense.

The settings of the core come from config.py; here are only those that make sense in ROS alone.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidTopicNameException, ParameterException
from rclpy.validate_topic_name import validate_topic_name

from ..config import SETTINGS, Setting, check, check_value
from ..errors import ConfigError

ROS_SETTINGS = (
    Setting("autostart", True, help="Configure and activate at once; false: wait for a lifecycle manager."),
    Setting("image_topic", "image", help="Base image topic as in image_transport; remapping works too."),
    Setting("image_transport", "auto", choices=("auto", "raw", "compressed"),
            help="auto takes raw images where somebody publishes them, else <image_topic>/compressed."),
    Setting("image_reliability", "auto", choices=("auto", "reliable", "best_effort"),
            help="Delivery asked of the image publisher; auto asks for what it offers."),
    Setting("camera_info_topic", "", help="Empty: camera_info beside the image topic."),
    Setting("camera_info_wait_s", 1.0, unit="s", low=0.0, high=60.0, live=True,
            help="How long to wait for a first camera_info before a field of view is assumed."),
    Setting("depth_topic", "", help="Depth image registered to the colour image; empty: none."),
    Setting("depth_slop_s", 0.015, unit="s", low=0.0, high=1.0,
            help="Largest difference between the stamps of an image and its depth image."),
    Setting("silence_warning_s", 2.0, unit="s", low=0.1, high=3600.0, live=True,
            help="Time without images after which diagnostics say so."),
    Setting("publish_raw", True, live=True, help="Publish the unsmoothed hands on ~/hands_raw."),
    Setting("publish_tf", True, help="Send TF frames of wrists and fingertips."),
    Setting("tf_prefix", "auto", help="Put before every TF frame name; auto: the node's namespace and '/'."),
    Setting("diagnostics_period_s", 1.0, unit="s", low=0.05, high=60.0,
            help="Time between two reports on /diagnostics."),
)
TOPICS = ("image_topic", "camera_info_topic", "depth_topic")


def all_settings() -> tuple[Setting, ...]:
    """The settings of the core and those of ROS, in the order of the README's table."""
    return (*SETTINGS, *ROS_SETTINGS)


def check_all(values: Mapping[str, Any]) -> None:
    """Raises ConfigError if values of the core cannot work together, or a topic or frame name is none."""
    check(values)
    for name in TOPICS:
        if values.get(name):
            check_topic(name, values[name])
    check_tf_prefix(values.get("tf_prefix", ""))


def check_topic(name: str, topic: str) -> None:
    """Raises ConfigError if what the parameter ``name`` holds is no topic name."""
    try:
        validate_topic_name(topic)
    except InvalidTopicNameException as error:
        raise ConfigError(f"{name} is '{topic}', which is no topic name: {' '.join(str(error).split())}") from error


def check_tf_prefix(prefix: str) -> None:
    """Raises ConfigError if tf2 would take no frame name that begins so."""
    if prefix.startswith("/") or any(letter.isspace() for letter in prefix):
        raise ConfigError(f"tf_prefix is '{prefix}'; tf2 takes no frame name with a leading '/' or blanks: leave them "
                          "out")


class Parameters:
    """Declared parameters of one node and their present values.

    ``values`` has one attribute per setting and is replaced as a whole when a parameter changes, so that a worker
    thread that holds it sees no mixture. While ``frozen``, only the live settings may change.
    """

    def __init__(self, node: Any, settings: Sequence[Setting] | None = None,
                 check: Callable[[Mapping[str, Any]], Any] = check_all) -> None:
        """settings: what to declare (None: those of the hand pose node). check: raises ConfigError for values that
        cannot work together. Raises ConfigError, naming parameter, value and remedy, if a given value cannot be used.
        """
        self.frozen = False
        self._check = check
        self._settings = {setting.name: setting for setting in (all_settings() if settings is None else settings)}
        found = {name: _declared(node, setting) for name, setting in self._settings.items()}
        check(found)
        self.values = SimpleNamespace(**found)
        node.add_on_set_parameters_callback(self._on_set)

    def _on_set(self, parameters: Sequence[Any]) -> SetParametersResult:
        changes = {parameter.name: parameter.value for parameter in parameters if parameter.name in self._settings}
        try:
            for name, value in changes.items():
                setting = self._settings[name]
                if self.frozen and not setting.live and value != getattr(self.values, name):
                    raise ConfigError(f"{name} is fixed while the node is configured; 'ros2 lifecycle set' it to "
                                      "deactivate and cleanup first, or start it anew with the new value")
                changes[name] = check_value(setting, value)
            merged = {**vars(self.values), **changes}
            self._check(merged)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.values = SimpleNamespace(**merged)
        return SetParametersResult(successful=True)


def _declared(node: Any, setting: Setting) -> Any:
    default = setting.default
    try:
        return check_value(setting, node.declare_parameter(
            setting.name, list(default) if isinstance(default, tuple) else default, descriptor(setting)).value)
    except ParameterException as error:
        hint = " with a decimal point (20.0, not 20)" if isinstance(default, (float, tuple)) else ""
        raise ConfigError(f"{error}; it must be {setting.limits or type(setting.default).__name__}{hint}") from error


def descriptor(setting: Setting) -> ParameterDescriptor:
    """What `ros2 param describe` shows."""
    unit = f" [{setting.unit}]" if setting.unit else ""
    out = ParameterDescriptor(description=f"{setting.help}{unit}")
    out.additional_constraints = "; ".join(
        ([setting.limits] if setting.choices else [])
        + ["may be changed at any time" if setting.live else "takes effect at configure"])
    if setting.low is not None and setting.high is not None:
        if isinstance(setting.default, float):
            out.floating_point_range = [FloatingPointRange(from_value=float(setting.low), to_value=float(setting.high))]
        else:
            out.integer_range = [IntegerRange(from_value=int(setting.low), to_value=int(setting.high), step=1)]
    return out
