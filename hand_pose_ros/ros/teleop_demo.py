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
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .. import limits, messages
from ..config import Config
from ..errors import HandPoseError
from ..gripper import TeleopConfig, opening_of
from ..resources import folder
from . import environment, teleop_record
from .demo import make_folder, stop
from .teleop_record import Record

SAMPLE_BAG = ("test", "data/teleop_hand.mcap")
START_TIMEOUT_S, TAIL_S = 120.0, 1.0
SLOWER, LONGEST_STALE_S = 1.5, 2.0
"""On a slow computer, stale_s is set to so many times the age of the oldest image, up to what is allowed."""
SLOW_MOTION = 0.15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``hand-pose teleop-demo``."""
    parser.add_argument("--bag", "--video", dest="location", metavar="FILE",
                        help="recorded hand: a bag or a video (default: the sample bag that comes with the package)")
    parser.add_argument("--source", choices=("pipeline", "truth"), default="pipeline",
                        help="hands from the hand pose node, or the true ones in the bag, which shows the "
                             "teleoperation alone (default: %(default)s)")
    parser.add_argument("--image-topic", metavar="TOPIC", help="camera of a bag that holds several")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after this much of the recording")
    parser.add_argument("--hfov", type=float, default=60.0,
                        help="field of view of a video's camera (default: %(default)s)")
    parser.add_argument("--speed", type=limits.number(0.01, 100), default=1.0,
                        help="play the recording so many times as fast; a slow computer needs less than 1")
    parser.add_argument("--stale", type=limits.number(0.01, 2), default=None, metavar="S",
                        help="stale_s of the teleoperation; a slow computer needs more than the default")
    parser.add_argument("--out", default="out/teleop",
                        help="folder for the picture and the numbers (default: %(default)s)")
    parser.add_argument("--domain", type=int, default=None, help="ROS_DOMAIN_ID to use (default: one of its own)")
    parser.add_argument("--ros-args", nargs=argparse.REMAINDER, default=[],
                        help="everything after this goes to the teleoperation: -p clutch_hold_s:=1.0")


def main(args: argparse.Namespace) -> int:
    """Run the loop. Returns 0 if the gripper was steered, else 1."""
    environment.keep_to_this_machine(os.environ, args.domain if args.domain is not None else 1 + os.getpid() % 100)
    environment.use_large_image_profile()
    from . import sources
    location = args.location or str(folder(SAMPLE_BAG[0]) / SAMPLE_BAG[1])
    source = sources.find(location, args.image_topic)
    if args.source == "truth" and not source.truth_topic:
        raise HandPoseError(f"{location} holds no true hands; leave --source away")
    out = Path(args.out)
    make_folder(out)
    if not args.seconds >= 0:
        raise HandPoseError(f"--seconds {args.seconds:g} must be a number not below 0")
    stale_s = TeleopConfig().stale_s if args.stale is None else args.stale
    speed = args.speed
    record = run(args, source, stale_s, speed)
    late_s = teleop_record.late_s(record)
    if late_s > stale_s:
        enough_s = min(SLOWER * late_s, LONGEST_STALE_S)
        said = f"this computer is slow or busy: images were up to {late_s:.2f} s old when their hands came in"
        if args.stale is None and not teleop_record.following(record):
            stale_s, speed = enough_s, SLOW_MOTION * speed
            print(f"{said}, and counted as lost; once more with --stale {stale_s:.1f} --speed {speed:g}",
                  file=sys.stderr)
            record = run(args, source, stale_s, speed)
        else:
            print(f"{said}; try --stale {enough_s:.1f} --speed {SLOW_MOTION * speed:g}", file=sys.stderr)
    numbers = teleop_record.summary(record, args.source, location, speed) | {"stale_s [s]": float(stale_s)}
    width = max(map(len, numbers))
    print("\n".join(f"  {name:<{width}}  {value:.3g}" if isinstance(value, float) else f"  {name:<{width}}  {value}"
                    for name, value in numbers.items()))
    plain = {name: None if value != value else value for name, value in numbers.items()}     # JSON knows no NaN
    (out / "numbers.json").write_text(json.dumps(plain, indent=1) + "\n")
    if not cv2.imwrite(str(out / "teleop.png"), teleop_record.plot(record, numbers)):
        raise HandPoseError(f"{out / 'teleop.png'} cannot be written; is the disk full?")
    print(f"picture: {out / 'teleop.png'}")
    if not record.commands:
        last = record.states[-1][1] if record.states else "the teleoperation was never heard"
        print(f"the gripper was not steered: {last}", file=sys.stderr)
    return 0 if record.commands else 1


def run(args: argparse.Namespace, source: Any, stale_s: float, speed: float) -> Record:
    """Start the processes, play the recording once, end them. Raises HandPoseError if one of them fails."""
    from . import sources
    truth, bag = args.source == "truth", source.kind == "bag"
    hands_topic = source.truth_topic if truth else "/hand_pose/hands"
    command = [sys.executable, "-m", "hand_pose_ros"]
    processes: dict[str, subprocess.Popen] = {}

    def start(name: str, words: list[str], more: Sequence[str] = (), **parameters: Any) -> None:
        settings = [*(part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")), *more]
        processes[name] = subprocess.Popen([*words, *(["--ros-args", *settings] if settings else [])])

    try:
        start("robot", [*command, "sim-robot"],
              **({"world_frame": "world"} if bag else {"camera_frame": sources.FRAME_ID}))
        start("teleop", [*command, "teleop"], list(args.ros_args), hands_topic=hands_topic, arm_output="pose",
              gripper_output="joint_state", stale_s=float(stale_s),
              hold_s=float(np.clip(TeleopConfig().hold_s / speed, 0.5, 5.0)), accept_guessed_metres=not bag)
        if not truth:
            start("hand_pose", [*command, "run"], image_topic=source.image_topic.removesuffix("/compressed"),
                  track_timeout_s=float(np.clip(Config().track_timeout_s / speed, 0.5, 10.0)),
                  **({} if bag else {"camera_info_wait_s": 0.0, "assumed_hfov_deg": float(args.hfov),
                                     "metric_without_calibration": "true"}))
        camera = ["--image-topic", source.image_topic] if bag else []
        player = [sys.executable, "-m", "hand_pose_ros.ros.player", source.location, "--seconds", str(args.seconds),
                  "--listeners", "0" if truth else "1", "--tf-listeners", "1", "--speed", str(speed), *camera]
        return receive(processes, hands_topic, source.truth_topic, lambda: start("player", player))
    finally:
        for name in ("player", "teleop", "hand_pose", "robot"):
            stop(processes.get(name))


def receive(processes: dict[str, subprocess.Popen], hands_topic: str, truth_topic: str, play: Any) -> Record:
    """Wait for teleoperation and robot, start the recording, listen until it has ended. Raises HandPoseError."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import ExternalShutdownException
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import JointState
    from std_msgs.msg import String

    from hand_pose_ros.msg import HandPose21Array

    from . import compat

    record, config = Record(), TeleopConfig()
    rclpy.init(args=[])
    node = rclpy.create_node("teleop_demo_receiver")

    def share(message: Any) -> tuple[float, float] | None:
        """Image stamp and the opening that its first hand asks for."""
        hands, _ = messages.read_array(message)
        if not hands:
            return None
        return 1e-9 * messages.stamp_ns(message.header), opening_of(hands[0], config)

    def on_hands(message: Any) -> None:
        seen = share(message)
        if seen:
            record.hands.append((*seen, time.time()))

    def on_truth(message: Any) -> None:
        true = share(message)
        if true:
            record.truth.append(true)

    def on_command(message: Any) -> None:
        record.commands.append((1e-9 * messages.stamp_ns(message.header), message.position[0]))

    def on_states(message: Any) -> None:
        where = dict(zip(message.name, message.position))
        if "gripper_joint" in where:
            record.opening.append((1e-9 * messages.stamp_ns(message.header), where["gripper_joint"]))

    def on_diagnostics(message: Any) -> None:
        for status in message.status:
            if status.name == "/teleop: summary":
                found = {item.key: item.value for item in status.values
                         if item.key.startswith(("image stamp to", "hands to"))}
                record.delays = found or record.delays

    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(HandPose21Array, hands_topic, on_hands, 50)
    if truth_topic and truth_topic != hands_topic:
        node.create_subscription(HandPose21Array, truth_topic, on_truth, 50)
    node.create_subscription(JointState, "/teleop/gripper", on_command, 50)
    node.create_subscription(JointState, "/joint_states", on_states, 50)
    node.create_subscription(String, "/teleop/state", lambda m: record.states.append((time.time(), m.data)), latched)
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
        record.ended_s = time.time()
        node.destroy_node()
        rclpy.try_shutdown()
    if player is not None and player.returncode:
        raise HandPoseError("the player failed; it says why above")
    return record
