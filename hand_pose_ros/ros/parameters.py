"""Every setting as a ROS parameter: declared with its description and range, checked, live where that makes sense.

The settings of the core come from config.py; here are only those that make sense in ROS alone.
"""
from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidTopicNameException, ParameterException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.lifecycle import LifecycleNode
from rclpy.validate_full_topic_name import validate_full_topic_name
from rclpy.validate_topic_name import validate_topic_name

from ..config import KINDS, SETTINGS, Setting, check, check_value
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
ALIKE = 0.8
"""Ratio of difflib from which one name is taken for a misspelling of another."""


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
        validate_full_topic_name(expand_topic_name(topic, "node", "/"))      # a//b is found only here
    except (InvalidTopicNameException, ValueError) as error:
        raise ConfigError(f"{name} is '{topic}', which is no topic name: {' '.join(str(error).split())}") from error


def check_tf_prefix(prefix: str) -> None:
    """Raises ConfigError if tf2 would take no frame name that begins so."""
    if prefix.startswith("/") or any(letter.isspace() for letter in prefix):
        raise ConfigError(f"tf_prefix is '{prefix}'; tf2 takes no frame name with a leading '/' or blanks: leave them "
                          "out")


class Parameters:
    """Declared parameters of one node and their present values.

    ``values`` has one attribute per setting and is replaced as a whole when a parameter changes, so that a worker
    thread that holds it sees no mixture. While ``frozen``, only the live settings may change: a lifecycle node says
    when it is, any other one is from the start.
    """

    def __init__(self, node: Any, settings: Sequence[Setting] | None = None,
                 check: Callable[[Mapping[str, Any]], Any] = check_all) -> None:
        """settings: what to declare (None: those of the hand pose node). check: raises ConfigError for values that
        cannot work together. Raises ConfigError, naming parameter, value and remedy, if a given value cannot be used or
        a parameter was given that the node does not have.
        """
        self.frozen = False
        self._lifecycle = isinstance(node, LifecycleNode)
        self._check = check
        self._settings = {setting.name: setting for setting in (all_settings() if settings is None else settings)}
        found = {name: _declared(node, setting) for name, setting in self._settings.items()}
        _refuse_unknown(node, self._settings)
        check(found)
        self.values = SimpleNamespace(**found)
        self.frozen = not self._lifecycle
        node.add_on_set_parameters_callback(self._on_set)

    def _on_set(self, parameters: Sequence[Any]) -> SetParametersResult:
        changes = {parameter.name: parameter.value for parameter in parameters if parameter.name in self._settings}
        try:
            for name, value in changes.items():
                setting = self._settings[name]
                before = getattr(self.values, name)
                same = value == before or value != value and before != before               # NaN is NaN here
                if self.frozen and not setting.live and not same:
                    raise ConfigError(f"{name} is fixed while the node is configured; 'ros2 lifecycle set' it to "
                                      "deactivate and cleanup first, or start it anew with the new value"
                                      if self._lifecycle else
                                      f"{name} is fixed while the node runs; start it anew with the new value")
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
            setting.name, list(default) if isinstance(default, tuple) else default,
            descriptor(setting, isinstance(node, LifecycleNode))).value)
    except ParameterException as error:
        kind = f"{len(default)} numbers" if isinstance(default, tuple) else KINDS.get(type(default), "a whole number")
        hint = " with a decimal point (20.0, not 20)" if isinstance(default, (float, tuple)) else ""
        raise ConfigError(f"{error}; it must be {setting.limits or kind}{hint}") from error


def _refuse_unknown(node: Any, known: Iterable[str]) -> None:
    """Raises ConfigError for a parameter that was given and is none: the one that was meant would keep its default.

    A file given with --params-file may serve several nodes. What it gives only to nodes of any name ('/**'), and is not
    like a parameter of this one, is taken for another's and logged. All else was meant for this node.
    """
    names = [*known, "use_sim_time"]
    given = getattr(node, "_parameter_overrides", {})                # rclpy since Humble; nothing public tells
    unknown = [name for name in given if not node.has_parameter(name) and not name.startswith("qos_overrides.")
               and name != "start_type_description_service"]         # those of rclpy itself that it may declare later
    shared = _for_any_node(node)
    for name in unknown:
        if name.partition(".")[0] in shared and not get_close_matches(name, names, 1, ALIKE):
            node.get_logger().warning(f"no parameter '{name}' here: taken to be another node's, since the parameter "
                                      "file gives it to nodes of any name")
        else:
            nearest = get_close_matches(name, names, 1, 0.0)[0]
            raise ConfigError(f"there is no parameter '{name}'; the nearest is '{nearest}'. What a parameter file says "
                              "to other nodes goes below their names")


def _for_any_node(node: Any) -> set[str]:
    """Parameters that come from nothing but sections for nodes of any name, in the --params-file of this process."""
    own, shared = set(), set()
    for option, value in zip(sys.argv, sys.argv[1:]):
        if option in ("-p", "--param"):
            own.add(value.partition(":=")[0].rpartition(":")[2])     # [node:]name:=value
        elif option == "--params-file" and Path(value).is_file():
            found = list(sections(value, node.get_fully_qualified_name()))
            if not found:
                node.get_logger().warning(f"{value} has no section for {node.get_fully_qualified_name()}")
            for key, values in found:
                (shared if key.endswith("*") else own).update(values)
    return shared - own


def sections(path: Path | str, node: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, parameters) for the node of that full name, by the rules of rclpy and in the order in which they count.

    In keys * stands for one part of a name and ** for any number of them. Raises ConfigError if the file is no YAML.
    """
    def below(content: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, inside in content.items() if isinstance(content, dict) else ():
            if name != "ros__parameters":
                yield from below(inside, f"{key}/{str(name).strip('/')}")
            elif re.fullmatch(key.replace("/*", r"(/\w+)"), node):  # so "/**" becomes any number of them
                yield key, inside or {}

    try:
        return below(yaml.safe_load(Path(path).read_text()), "")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no parameter file: {' '.join(str(error).split())}") from error


def check_file(path: str, name: str, ros_args: Sequence[str]) -> None:
    """Raises ConfigError if there is no such parameter file, or it says nothing to the node: ROS would do without it.

    name: of the node, before the remapping in ros_args, which is what follows --ros-args.
    """
    if not Path(path).is_file():
        raise ConfigError(f"there is no parameter file {path}")
    renamed: dict[str, str] = {}
    for option, rule in zip(ros_args, ros_args[1:]):
        if option in ("-r", "--remap"):
            old, _, new = rule.partition(":=")
            renamed.setdefault(old.rpartition(":")[2], new)          # [node:]old:=new; the first rule counts
    node = f"/{renamed.get('__ns', '').strip('/')}/{renamed.get('__node', name)}".replace("//", "/")
    if not any(values for _, values in sections(path, node)):
        raise ConfigError(f"{path} holds no parameters for the node {node}; write '{node}' or '/**' above its "
                          "ros__parameters")


def with_file(path: str | None, name: str, ros_args: Sequence[str]) -> list[str]:
    """What follows --ros-args, with the parameter file of ``--config`` before it, if there is one, so that single
    parameters overrule it. Raises ConfigError as check_file does."""
    if not path:
        return list(ros_args)
    check_file(path, name, ros_args)
    return ["--params-file", path, *ros_args]


def descriptor(setting: Setting, lifecycle: bool = True) -> ParameterDescriptor:
    """What `ros2 param describe` shows. lifecycle: whether the node is configured by transitions."""
    unit = f" [{setting.unit}]" if setting.unit else ""
    out = ParameterDescriptor(description=f"{setting.help}{unit}")
    out.additional_constraints = "; ".join(
        ([setting.limits] if setting.choices else [])
        + ["may be changed at any time" if setting.live else
           f"takes effect at {'configure' if lifecycle else 'start'}"])
    if setting.low is not None and setting.high is not None:
        if isinstance(setting.default, float):
            out.floating_point_range = [FloatingPointRange(from_value=float(setting.low), to_value=float(setting.high))]
        else:
            out.integer_range = [IntegerRange(from_value=int(setting.low), to_value=int(setting.high), step=1)]
    return out
