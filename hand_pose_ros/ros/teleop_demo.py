"""``hand-pose teleop-demo``: the closed loop on this machine, without camera and robot.

Four processes over real DDS: a camera (a recorded hand), the hand pose node, the teleoperation, and a simulated arm
with a gripper; this one listens. Leaves teleop.png (the hand's aperture and the gripper's opening over time) and
numbers.json.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .. import gestures, messages
from ..errors import HandPoseError
from ..gripper import TeleopConfig
from ..resources import folder
from . import environment
from .demo import stop

SAMPLE_BAG = ("test", "data/teleop_hand.mcap")
START_TIMEOUT_S, TAIL_S = 120.0, 1.0
LARGEST_DELAY_S, GRID_HZ = 1.0, 200.0
WIDTH, HEIGHT, MARGIN = 1200, 620, 70
PHASE_COLOURS = {"idle": (225, 225, 225), "follow": (205, 240, 205), "hold": (190, 225, 255), "stop": (200, 200, 255)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``hand-pose teleop-demo``."""
    parser.add_argument("--bag", "--video", dest="location", metavar="FILE",
                        help="recorded hand: a bag or a video (default: the sample bag that comes with the package)")
    parser.add_argument("--source", choices=("pipeline", "truth"), default=None,
                        help="hands from the hand pose node, or the true ones in the bag, which shows the "
                             "teleoperation alone (default: truth for the sample bag, else pipeline)")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after this much of the recording")
    parser.add_argument("--hfov", type=float, default=60.0,
                        help="field of view of a video's camera (default: %(default)s)")
    parser.add_argument("--stale", type=float, default=None, metavar="S",
                        help="stale_s of the teleoperation; a slow computer needs more than the default")
    parser.add_argument("--out", default="out/teleop",
                        help="folder for the picture and the numbers (default: %(default)s)")
    parser.add_argument("--domain", type=int, default=None, help="ROS_DOMAIN_ID to use (default: one of its own)")
    parser.add_argument("--ros-args", nargs=argparse.REMAINDER, default=[],
                        help="everything after this goes to the teleoperation: -p clutch_hold_s:=1.0")


@dataclass(eq=False)
class Record:
    """What arrived, with times of arrival in seconds of time.monotonic()."""

    hands: list[tuple[float, int, float]] = field(default_factory=list)     # arrival, stamp, share of the opening
    commands: list[tuple[float, float]] = field(default_factory=list)        # arrival, opening [m]
    opening: list[tuple[float, float]] = field(default_factory=list)         # arrival, opening of the robot [m]
    tool: list[tuple[float, float]] = field(default_factory=list)
    states: list[tuple[float, str]] = field(default_factory=list)
    delays: dict[str, str] = field(default_factory=dict)                     # from /diagnostics
    ended_s: float = 0.0


def main(args: argparse.Namespace) -> int:
    """Run the loop. Returns 0 if the gripper was steered, else 1."""
    environment.use_large_image_profile()
    environment.keep_to_this_machine(os.environ, args.domain if args.domain is not None else 1 + os.getpid() % 100)
    from . import sources
    location = args.location or str(folder(SAMPLE_BAG[0]) / SAMPLE_BAG[1])
    source = sources.find(location)
    truth = (args.source or ("pipeline" if args.location else "truth")) == "truth"
    if truth and not source.truth_topic:
        raise HandPoseError(f"{location} holds no true hands; leave --source away")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    given = list(args.ros_args)
    hands_topic = source.truth_topic if truth else "/hand_pose/hands"
    run = [sys.executable, "-m", "hand_pose_ros"]
    processes: dict[str, subprocess.Popen] = {}

    def start(name: str, command: list[str], more: Sequence[str] = (), **parameters: Any) -> None:
        settings = [*(part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")), *more]
        processes[name] = subprocess.Popen([*command, *(["--ros-args", *settings] if settings else [])])

    try:
        bag = source.kind == "bag"
        start("robot", [*run, "sim-robot"], **({"world_frame": "world"} if bag else {"camera_frame": sources.FRAME_ID}))
        teleop = {"hands_topic": hands_topic, "arm_output": "pose", "gripper_output": "joint_state",
                  **({} if args.stale is None else {"stale_s": float(args.stale)})}
        start("teleop", [*run, "teleop"], given, **teleop)
        if not truth:
            start("hand_pose", [*run, "run"], image_topic=source.image_topic.removesuffix("/compressed"),
                  **({} if bag else {"camera_info_wait_s": 0.0, "assumed_hfov_deg": float(args.hfov),
                                     "metric_without_calibration": "true"}))
        record = receive(processes, hands_topic, lambda: start(
            "player", [sys.executable, "-m", "hand_pose_ros.ros.player", location, "--seconds", str(args.seconds),
                       "--listeners", "0" if truth else "1"]))
    finally:
        for name in ("player", "teleop", "hand_pose", "robot"):
            stop(processes.get(name))
    numbers = summary(record, "truth" if truth else "pipeline", location)
    width = max(map(len, numbers))
    print("\n".join(f"  {name:<{width}}  {value:.3g}" if isinstance(value, float) else f"  {name:<{width}}  {value}"
                    for name, value in numbers.items()))
    (out / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n")
    cv2.imwrite(str(out / "teleop.png"), plot(record, numbers))
    print(f"picture: {out / 'teleop.png'}")
    return 0 if record.commands else 1


def receive(processes: dict[str, subprocess.Popen], hands_topic: str, play: Any) -> Record:
    """Wait for teleoperation and robot, start the recording, listen until it has ended. Raises HandPoseError."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from geometry_msgs.msg import PoseStamped
    from rclpy.executors import ExternalShutdownException
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import JointState
    from std_msgs.msg import String

    from hand_pose_ros.msg import HandPose21Array

    from . import compat

    record, config = Record(), TeleopConfig()
    rclpy.init(args=[])
    node = rclpy.create_node("teleop_demo_receiver")

    def on_hands(message: Any) -> None:
        hands, _ = messages.read_array(message)
        if hands:
            aperture = gestures.aperture(hands[0].joints_rel_m, hands[0].hand_length_m)
            share = (aperture - config.aperture_closed) / (config.aperture_open - config.aperture_closed)
            record.hands.append((time.monotonic(), messages.stamp_ns(message.header), float(np.clip(share, 0.0, 1.0))))

    def on_states(message: Any) -> None:
        where = dict(zip(message.name, message.position))
        if "gripper_joint" in where:
            record.opening.append((time.monotonic(), where["gripper_joint"]))

    def on_diagnostics(message: Any) -> None:
        for status in message.status:
            if status.name == "/teleop: summary":
                delays = {item.key: item.value for item in status.values if "to command" in item.key}
                record.delays = delays or record.delays

    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(HandPose21Array, hands_topic, on_hands, 50)
    node.create_subscription(
        JointState, "/teleop/gripper", lambda m: record.commands.append((time.monotonic(), m.position[0])), 50)
    node.create_subscription(PoseStamped, "/teleop/target_pose",
                             lambda m: record.tool.append((time.monotonic(), m.pose.position.z)), 50)
    node.create_subscription(JointState, "/joint_states", on_states, 50)
    node.create_subscription(
        String, "/teleop/state", lambda m: record.states.append((time.monotonic(), m.data)), latched)
    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
    executor = compat.executor()
    executor.add_node(node)
    begun_s, ended_s, player = time.monotonic(), None, None
    try:
        while ended_s is None or time.monotonic() - ended_s < TAIL_S:
            executor.spin_once(timeout_sec=0.1)
            for name, process in processes.items():
                if name != "player" and process.poll() is not None:
                    raise HandPoseError(f"{name} ended with exit code {process.returncode}; it says why above")
            if player is None and record.opening and record.states and node.count_subscribers(hands_topic) >= 2:
                play()
                player = processes["player"]
            if player is None and time.monotonic() - begun_s > START_TIMEOUT_S:
                raise HandPoseError(f"robot and teleoperation were not ready after {START_TIMEOUT_S:.0f} s")
            if player is not None and ended_s is None and player.poll() is not None:
                ended_s = time.monotonic()
    except (KeyboardInterrupt, ExternalShutdownException):
        print("stopped by Ctrl-C; this is what arrived until then")
    finally:
        record.ended_s = time.monotonic()
        node.destroy_node()
        rclpy.try_shutdown()
    if player is not None and player.returncode:
        raise HandPoseError("the player failed; it says why above")
    return record


def phases(record: Record) -> list[tuple[float, float, str]]:
    """(start, end, phase) over the time in which hands came."""
    if not record.hands or not record.states:
        return []
    first, last = record.hands[0][0], record.hands[-1][0]
    changes = [(at, text.partition(":")[0]) for at, text in record.states]
    ends = [at for at, _ in changes[1:]] + [record.ended_s]
    return [(max(at, first), min(end, last), phase) for (at, phase), end in zip(changes, ends)
            if min(end, last) > max(at, first)]


def delay(time_a: np.ndarray, a: np.ndarray, time_b: np.ndarray, b: np.ndarray) -> float:
    """Seconds by which signal b follows signal a: the shift with the largest correlation; NaN if one does not move."""
    if len(a) < 5 or len(b) < 5:
        return float("nan")
    grid = np.arange(max(time_a[0], time_b[0]), min(time_a[-1], time_b[-1]), 1.0 / GRID_HZ)
    if len(grid) < GRID_HZ:
        return float("nan")
    first = np.interp(grid, time_a, a)
    best, found = -np.inf, float("nan")
    for shift in np.arange(0.0, LARGEST_DELAY_S, 1.0 / GRID_HZ):
        keep = grid + shift <= time_b[-1]
        x, y = first[keep], np.interp(grid[keep] + shift, time_b, b)
        if keep.sum() > GRID_HZ / 2 and x.std() > 1e-6 and y.std() > 1e-6:
            score = float(np.corrcoef(x, y)[0, 1])
            if score > best:
                best, found = score, float(shift)
    return found


def following(record: Record) -> list[tuple[float, float]]:
    """Longest stretches of the phase 'follow' as (start, end); those shorter than 1.5 s are left out."""
    return sorted(((start, end) for start, end, phase in phases(record) if phase == "follow" and end - start > 1.5),
                  key=lambda span: span[0] - span[1])


def summary(record: Record, source: str, location: str) -> dict[str, Any]:
    """Delays, tracking error and the share of time in each phase."""
    spans = phases(record)
    total = sum(end - start for start, end, _ in spans)
    numbers: dict[str, Any] = {"recording": Path(location).name, "hands from": source,
                               "hands received": len(record.hands),
                               "commands received": len(record.commands)}
    for phase in ("idle", "follow", "hold", "stop"):
        inside = sum(end - start for start, end, name in spans if name == phase)
        numbers[f"time in {phase} [%]"] = 100.0 * inside / total if total else float("nan")
    numbers |= {name: value for name, value in record.delays.items()}
    lag, error, opening_error = float("nan"), float("nan"), float("nan")
    commands, opening = np.array(record.commands).reshape(-1, 2), np.array(record.opening).reshape(-1, 2)
    hands = np.array([(at, share) for at, _, share in record.hands]).reshape(-1, 2)
    if following(record):
        start, end = following(record)[0]
        span = TeleopConfig().gripper_open_m - TeleopConfig().gripper_closed_m

        def within(rows: np.ndarray) -> np.ndarray:
            return rows[(rows[:, 0] >= start + 0.5) & (rows[:, 0] <= end)]
        h, c, o = within(hands), within(commands), within(opening)
        lag = delay(h[:, 0], h[:, 1], o[:, 0], o[:, 1])
        numbers["hand -> command, by correlation [ms]"] = 1e3 * delay(h[:, 0], h[:, 1], c[:, 0], c[:, 1])
        if np.isfinite(lag):
            asked = np.interp(o[:, 0] - lag, h[:, 0], h[:, 1])
            error = 1e3 * float(np.mean(np.abs(asked * span - o[:, 1])))
            opening_error = 1e3 * float(np.mean(np.abs(np.interp(o[:, 0], h[:, 0], h[:, 1]) * span - o[:, 1])))
    return numbers | {"hand -> gripper, by correlation [ms]": 1e3 * lag,
                      "tracking error, delay taken out, mean [mm of 80]": error,
                      "tracking error, delay included, mean [mm of 80]": opening_error}


def plot(record: Record, numbers: dict[str, Any]) -> np.ndarray:
    """The picture (H, W, 3) BGR: what the hand asked for, the command, the gripper; coloured by phase."""
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    times = [at for at, *_ in record.hands] or [0.0, 1.0]
    first, last = times[0], max(times[-1], times[0] + 1.0)
    top, bottom = MARGIN, HEIGHT - MARGIN

    def x(at: Any) -> np.ndarray:
        return MARGIN + (np.asarray(at) - first) / (last - first) * (WIDTH - 2 * MARGIN)

    def y(share: Any) -> np.ndarray:
        return bottom - np.asarray(share) * (bottom - top)

    for start, end, phase in phases(record):
        cv2.rectangle(image, (int(x(start)), top), (int(x(end)), bottom), PHASE_COLOURS.get(phase, (255, 255, 255)), -1)
    for k in range(5):
        cv2.line(image, (MARGIN, int(y(k / 4))), (WIDTH - MARGIN, int(y(k / 4))), (210, 210, 210), 1)
        _text(image, f"{80 * k / 4:.0f}", (MARGIN - 38, int(y(k / 4)) + 5))
    for second in range(int(last - first) + 1):
        _text(image, f"{second}", (int(x(first + second)) - 4, bottom + 22))
    span = TeleopConfig().gripper_open_m - TeleopConfig().gripper_closed_m
    curves = (("hand: thumb-index aperture asked for", [(at, share) for at, _, share in record.hands], (200, 90, 20)),
              ("command", [(at, value / span) for at, value in record.commands], (60, 60, 230)),
              ("simulated gripper", [(at, value / span) for at, value in record.opening], (30, 130, 30)))
    for number, (name, rows, colour) in enumerate(curves):
        rows = [row for row in rows if first <= row[0] <= last]
        if len(rows) > 1:
            data = np.array(rows)
            pieces = np.split(data, np.flatnonzero(np.diff(data[:, 0]) > 0.3) + 1)      # a gap is not a line
            for piece in pieces:
                points = np.stack([x(piece[:, 0]), y(piece[:, 1])], 1).round().astype(np.int32)
                cv2.polylines(image, [points], False, colour, 2,
                              cv2.LINE_AA)
        cv2.line(image, (MARGIN + 10 + 330 * number, 48), (MARGIN + 40 + 330 * number, 48), colour, 3)
        _text(image, name, (MARGIN + 46 + 330 * number, 53))
    for number, (phase, colour) in enumerate(PHASE_COLOURS.items()):
        left = MARGIN + 110 * number
        cv2.rectangle(image, (left, HEIGHT - 30), (left + 20, HEIGHT - 14), colour, -1)
        _text(image, phase, (MARGIN + 26 + 110 * number, HEIGHT - 16))
    _text(image, "opening [mm] over time [s]", (WIDTH - MARGIN - 240, HEIGHT - 16))
    lag = numbers["hand -> gripper, by correlation [ms]"]
    _text(image, f"{numbers['recording']}, hands from {numbers['hands from']}; gripper follows the hand after "
          f"{lag:.0f} ms, mean error {numbers['tracking error, delay taken out, mean [mm of 80]']:.1f} mm",
          (MARGIN, 24))
    return image


def _text(image: np.ndarray, text: str, at: tuple[int, int]) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.48, (40, 40, 40), 1, cv2.LINE_AA)
