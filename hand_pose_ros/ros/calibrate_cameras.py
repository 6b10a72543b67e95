"""``hand-pose calibrate-cameras``: measure where a second camera is, by a hand that both see; store it in a file."""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from hand_pose_ros.msg import HandPose21Array

from .. import extrinsics, limits, messages
from ..errors import ConfigError, DataError
from ..frames import quaternion
from . import process
from .parameters import check_topic
from .qos import LISTENING

REPORT_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``hand-pose calibrate-cameras``."""
    parser.add_argument("first", metavar="TOPIC", help="hands of the first camera, e.g. /cam_left/hand_pose/hands")
    parser.add_argument("second", metavar="TOPIC", help="hands of the camera that is looked for")
    parser.add_argument("--out", required=True, metavar="FILE", help="the file for the parameter extrinsics_file; more "
                        "cameras may be added to it")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the hand is moved (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S",
                        help="give up if both cameras have not seen it by then (default: %(default)s)")
    parser.add_argument("--ros-args", nargs=argparse.REMAINDER, default=[], help="everything after this goes to ROS")


def main(args: argparse.Namespace) -> int:
    """Say what to do, listen, solve, store. Raises ConfigError for a bad value, DataError if nothing can be solved."""
    if args.first == args.second:
        raise ConfigError(f"both topics are {args.first}; give those of two cameras")
    for topic in (args.first, args.second):
        check_topic("TOPIC", topic)
    for name in ("seconds", "timeout"):
        if not 1.0 <= getattr(args, name) <= 3600.0:
            raise ConfigError(f"--{name} is {getattr(args, name)}; it must be 1 to 3600 s")
    out = limits.output("--out", args.out)
    extrinsics.check(out)
    print("Move one open hand slowly where both cameras see it: left and right, up and down, near and far.", flush=True)
    seen, frames = listen((args.first, args.second), args.seconds, args.timeout,
                          ["--ros-args", *args.ros_args] if args.ros_args else [], partial(extrinsics.check, out))
    found = extrinsics.solve(extrinsics.pairs(*seen))
    x, y, z = found.t
    qx, qy, qz, qw = quaternion(found.R)
    print(f"{frames[1]} is at ({x:.3f}, {y:.3f}, {z:.3f}) m in {frames[0]}; the joints of {found.pairs} images agree "
          f"within {1e3 * found.disagreement_m:.0f} mm\n"
          f"for all of TF, if nobody else sends {frames[1]}: ros2 run tf2_ros static_transform_publisher --frame-id "
          f"{frames[0]} --child-frame-id {frames[1]} --x {x:.4f} --y {y:.4f} --z {z:.4f} --qx {qx:.6f} --qy {qy:.6f} "
          f"--qz {qz:.6f} --qw {qw:.6f}", flush=True)    # known also if the disk is full
    extrinsics.save(out, *frames, found)
    print(f"stored in {out}; for the fusion alone: hand-pose fuse {args.first} {args.second} --ros-args -p "
          f"extrinsics_file:={out.resolve()}")
    return 0


def listen(topics: tuple[str, str], seconds: float, timeout_s: float, ros_args: list[str],
           check_first: Callable[[str], None]):
    """(observations of the first camera, of the second), (their frames). Ends ``seconds`` after both saw a hand.

    check_first: is told the first camera's frame as soon as it is known, and may refuse it. Raises DataError, naming
    the silent topic, if no hand is seen within timeout_s.
    """
    context = Context()
    try:
        rclpy.init(args=ros_args, context=context)
    except process.ROS_ERRORS as error:
        raise ConfigError(f"ROS does not start: {error}\n{process.ROS_REMEDY}") from error
    node = rclpy.create_node("hand_pose_calibrate_cameras", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    seen, frames, unusable = ([], []), ["", ""], ["", ""]

    def on_hands(number: int, message) -> None:
        try:
            hands, info = messages.read_array(message)
        except DataError as error:
            unusable[number] = str(error)
            return
        if messages.guessed_metres(hands, info):
            unusable[number] = "its camera is not calibrated; publish camera_info"
            return
        if messages.unplaced(hands, info):
            unusable[number] = "its hands have no places: the camera is not calibrated, or no scale known; publish " \
                               "camera_info"
            return
        known, frames[number] = frames[number], message.header.frame_id
        if number == 0 and frames[0] != known:
            check_first(frames[0])
        if frames[0] == frames[1]:
            raise DataError(f"both cameras call their frame '{frames[0]}'; give each a frame_id of its own in its "
                            "driver")
        seen[number].append((messages.stamp_ns(message.header), hands))

    for number, topic in enumerate(topics):
        node.create_subscription(HandPose21Array, topic, partial(on_hands, number), LISTENING)
    began_s, both_s, said_s = time.monotonic(), None, time.monotonic()
    try:
        while context.ok():
            executor.spin_once(timeout_sec=0.1)
            now_s = time.monotonic()
            with_hands = [any(hands for _, hands in of_camera) for of_camera in seen]
            if both_s is None and all(with_hands):
                both_s = now_s
            if both_s is not None and now_s - both_s > seconds:
                return seen, frames
            if both_s is None and now_s - began_s > timeout_s:
                raise DataError("; ".join(
                    f"{topic}: {unusable[k] or ('no hand' if seen[k] else 'no message; does its hand pose node run?')}"
                    for k, topic in enumerate(topics) if not with_hands[k]))
            if now_s - said_s > REPORT_S:
                said_s = now_s
                for topic, why, usable in zip(topics, unusable, with_hands):
                    if why and not usable:
                        print(f"{topic}: {why}", flush=True)
                found = extrinsics.pairs(*seen)
                print(f"seen by both in {len(found)} images, moved through {100 * extrinsics.spread_m(found):.0f} of "
                      f"{100 * extrinsics.MIN_SPREAD_M:.0f} cm", flush=True)
        raise DataError("ended before the hand was measured")
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
