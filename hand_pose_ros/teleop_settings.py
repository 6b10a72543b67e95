"""Every setting of the teleoperation, once: ROS parameters, command line, documentation and checks follow.

Those of the step itself are the fields of gripper.TeleopConfig, with its defaults; the rest concern ROS.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from . import gestures
from .config import Setting
from .errors import ConfigError
from .gripper import TeleopConfig

GRIPPER_OUTPUTS = ("joint_state", "float64", "float64_multi_array", "joint_trajectory", "parallel_gripper_action",
                   "gripper_action", "none")
ARM_OUTPUTS = ("none", "pose", "twist", "both")

_FIELDS = {
    # name: (help, unit, low, high) or (help, choices)
    "aperture_closed": ("Distance of thumb and index tip that means closed, in hand lengths.", "", 0.0, 1.0),
    "aperture_open": ("Distance of thumb and index tip that means fully open, in hand lengths.", "", 0.05, 1.5),
    "gripper_closed_m": ("Value sent for closed, in the unit of the gripper's joint (m, or rad for angular ones).", "",
                         -4.0, 4.0),
    "gripper_open_m": ("Value sent for fully open.", "", -4.0, 4.0),
    "gripper_speed_m_s": ("Largest change of that value per second.", "", 0.001, 10.0),
    "gripper_effort": ("Largest effort, passed on where the output has a field for it.", "N", 0.0, 1000.0),
    "hysteresis": ("Share of the opening that the hand must move before the gripper turns round.", "", 0.0, 0.5),
    "gripper_takeover": ("After the clutch has closed the gripper starts from its own opening, as soon as thumb and "
                         "index move, and goes their way until both agree; or it goes where they are at once.",
                         ("gradual", "at_once")),
    "scale": ("Metres of the robot per metre of the hand.", "", 0.01, 10.0),
    "axes": ("Row-major 3x3 rotation or reflection: motion of the hand in the base frame -> motion of the target.",),
    "rotate": ("The target turns with the hand.",),
    "workspace_min_m": ("Lowest x, y, z of the target in the base frame.", "m"),
    "workspace_max_m": ("Highest x, y, z of the target in the base frame.", "m"),
    "speed_m_s": ("Largest speed of the target per axis.", "m/s", 0.001, 5.0),
    "acceleration_m_s2": ("Largest acceleration of the target per axis.", "m/s^2", 0.01, 50.0),
    "turn_rad_s": ("Largest turning speed of the target per axis.", "rad/s", 0.001, 10.0),
    "turn_acceleration_rad_s2": ("Largest turning acceleration per axis.", "rad/s^2", 0.01, 100.0),
    "min_cutoff_hz": ("One-Euro cutoff of a hand at rest: lower is smoother.", "Hz", 0.01, 100.0),
    "beta_hz_per_m_s": ("One-Euro cutoff added per speed: higher lags less.", "Hz s/m", 0.0, 1000.0),
    "side": ("Which hand may steer.", ("any", "left", "right")),
    "operator": ("Who steers if several hands could: the nearest, the one seen first, or the nearest inside region_m. "
                 "Once the clutch is closed nobody can take over.", ("nearest", "first", "region")),
    "region_m": ("Box of the operator in the camera frame: x0 y0 z0 x1 y1 z1; a hand that leaves it counts as lost.",
                 "m"),
    "clutch": ("What closes the clutch: a gesture of the steering hand, of the other hand, or ~/clutch (topic and "
               "service).", ("gesture", "other_hand", "topic")),
    "clutch_gesture": ("The gesture.", tuple(sorted(gestures.GESTURES))),
    "clutch_hold_s": ("How long the gesture must be held still.", "s", 0.05, 5.0),
    "clutch_still_m": ("How far the palm may move while the gesture is held.", "m", 0.005, 0.5),
    "clutch_release_s": ("How long the gesture must be gone before the clutch opens.", "s", 0.0, 2.0),
    "stale_s": ("Age of the image's stamp from which a hand counts as lost.", "s", 0.01, 2.0),
    "min_score": ("Lowest score of a hand that steers.", "", 0.0, 1.0),
    "min_confidence": ("Lowest confidence of the joints that are used.", "", 0.0, 1.0),
    "max_sigma_across_m": ("Largest standard deviation of these joints across the viewing ray.", "m", 0.001, 1.0),
    "max_following_error_m": ("Distance of the tool from where it was sent within the last second, from which the arm "
                              "is taken to have stopped by itself: the clutch opens. Not with arm_output twist, whose "
                              "arm is sent to no place.", "m", 0.01, 10.0),
    "max_following_turn_rad": ("The same of its orientation.", "rad", 0.05, 3.0),
    "max_sigma_ray_m": ("Largest standard deviation of these joints along the viewing ray.", "m", 0.001, 2.0),
    "max_hand_speed_m_s": ("A hand that moves faster has jumped and counts as lost.", "m/s", 0.1, 50.0),
    "max_hand_turn_rad_s": ("A hand that turns faster has flipped and counts as lost.", "rad/s", 1.0, 500.0),
    "lost_policy": ("What happens when the operator is lost: brake, hold for hold_s, then stop; or stop at once. The "
                    "gripper keeps its opening in both.", ("hold_then_stop", "stop")),
    "hold_s": ("How long a lost operator's last command is held.", "s", 0.0, 5.0),
}


def _setting(name: str, default: Any) -> Setting:
    text, *rest = _FIELDS[name]
    if isinstance(default, tuple):
        default = tuple(float(number) for number in default)
    if rest and isinstance(rest[0], tuple):
        return Setting(name, default, text, choices=rest[0])
    unit, low, high = (*rest, "", None, None)[:3] if len(rest) != 1 else (rest[0], None, None)
    return Setting(name, default, text, unit, low, high, live=True)


STEP_SETTINGS = tuple(_setting(field.name, getattr(TeleopConfig, field.name)) for field in fields(TeleopConfig))

ROS_SETTINGS = (
    Setting("hands_topic", "/hand_pose/hands", "HandPose21Array to steer by."),
    Setting("base_frame", "base_link", "Frame of the arm target. TF must connect it to the camera at each image's "
            "stamp. Not used with arm_output none."),
    Setting("tool_frame", "tool0", "End effector in TF: where the target starts each time the clutch closes. Not used "
            "with arm_output none."),
    Setting("tool_max_age_s", 0.5, "Age of TF and of joint states from which it is not known where tool and gripper "
            "are: the clutch does not close, and that of an arm opens.", "s", 0.02, 10.0),
    Setting("accept_guessed_metres", False, "Let the arm follow hands of a camera without calibration, whose distances "
            "are a guess (metric_without_calibration of the hand pose node)."),
    Setting("clutch_timeout_s", 0.0, "With clutch topic: how long a true counts that is not repeated; 0: 0.5 s where "
            "it has been repeated three times a second, else as long as its publisher is there.", "s", 0.0, 60.0,
            live=True),
    Setting("arm_output", "none", "PoseStamped on ~/target_pose, TwistStamped on ~/target_twist, both, or no arm.",
            choices=ARM_OUTPUTS),
    Setting("gripper_output", "joint_state", "Kind of the gripper's command on gripper_topic.",
            choices=GRIPPER_OUTPUTS),
    Setting("gripper_topic", "~/gripper", "Topic or action name of the gripper's command."),
    Setting("gripper_joint", "gripper_joint", "Name of the gripper's joint, in the command and in joint_states_topic."),
    Setting("joint_states_topic", "/joint_states", "Where the gripper's present opening comes from; without it the "
            "gripper is taken to be where gripper_start_m says. While it speaks of other joints only, or has ended, "
            "the clutch stays open. Empty: do not listen."),
    Setting("gripper_start_m", math.nan, "Opening at start, as long as joint_states_topic does not tell; from "
            "gripper_closed_m to gripper_open_m. nan: gripper_open_m."),
    Setting("command_rate_hz", 60.0, "Commands per second between images.", "Hz", 10.0, 500.0),
    Setting("dry_run", False, "Send no command at all, only the markers on ~/preview."),
    Setting("retarget", False, "Publish the 21 joints in the retargeting frame on ~/retarget while the clutch is "
                               "closed.",
            live=True),
    Setting("diagnostics_period_s", 1.0, "Time between two reports on /diagnostics.", "s", 0.05, 60.0),
)

SETTINGS = (*STEP_SETTINGS, *ROS_SETTINGS)
"""In the order of the documentation's table."""


def config_from(values: Mapping[str, Any]) -> TeleopConfig:
    """The step's configuration. Raises ConfigError if values cannot work together."""
    return TeleopConfig(**{setting.name: values[setting.name] for setting in STEP_SETTINGS})


def check(values: Mapping[str, Any]) -> None:
    """Raises ConfigError if values cannot work together."""
    (low, high), start_m = config_from(values).gripper_span_m, start_opening_m(values)
    if not low <= start_m <= high:
        raise ConfigError(f"gripper_start_m is {start_m:g}; it must be in the gripper's span, from gripper_closed_m "
                          f"({values['gripper_closed_m']:g}) to gripper_open_m ({values['gripper_open_m']:g})")


def start_opening_m(values: Mapping[str, Any]) -> float:
    """The opening that the gripper is taken to have where nobody tells it, in the unit of its joint."""
    start_m = values["gripper_start_m"]
    return values["gripper_open_m"] if math.isnan(start_m) else start_m
