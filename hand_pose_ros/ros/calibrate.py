"""``hand-pose calibrate``: measure the operator's hand length with the running node, and store it in a file."""
from __future__ import annotations

import argparse
import math
import time

import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from hand_pose_ros.msg import HandPose21Array

from .. import calibration, limits, messages
from ..errors import ConfigError, DataError
from . import process
from .parameters import check_topic
from .qos import LISTENING


ASK_S, ASK_AGAIN_S = 3.0, 0.5
"""For so long the node that publishes the hands is waited for, to ask it for its parameter, and asked so often."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``hand-pose calibrate``."""
    parser.add_argument("--out", required=True, metavar="FILE", help="the file for the parameter hand_calibration_file")
    parser.add_argument("--hands", default="/hand_pose/hands_raw", metavar="TOPIC", help="raw hands of the running "
                        "node (default: %(default)s)")
    parser.add_argument("--distance", type=float, default=math.nan, metavar="M", help="distance from the camera to the "
                        "skin of the palm along the viewing direction, measured with a tape; without it the node needs "
                        "a depth image")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S",
                        help="give up after this (default: %(default)s)")
    parser.add_argument("--ros-args", nargs=argparse.REMAINDER, default=[], help="everything after this goes to ROS")


def main(args: argparse.Namespace) -> int:
    """Say what to do until the hand is measured; 1 if it was not in time. Raises ConfigError for a bad value."""
    if not math.isnan(args.distance) and not 0.1 <= args.distance <= 5.0:
        raise ConfigError(f"--distance is {args.distance}; it must be 0.1 to 5 m")
    check_topic("--hands", args.hands)
    out = limits.output("--out", args.out)
    print("Hold one flat hand still for two seconds, its palm or back to the camera.", flush=True)
    ros_args = ["--ros-args", *args.ros_args] if args.ros_args else []
    size, said = measure(args.hands, args.distance, args.timeout, ros_args)
    if size is None:
        print(f"not measured within {args.timeout:g} s; last: {said}")
        return 1
    print(f"hand length {1000 * size.hand_length_m:.0f} mm, from {size.samples} images and the {size.method}",
          flush=True)                                   # known also if the disk is full
    calibration.save(out, size)
    use = f"hand_calibration_file:={out.resolve()}"
    print(f"stored in {out}\nuse it: ros2 launch hand_pose_ros hand_pose.launch.py {use}\n"
          f"or: hand-pose run --ros-args -p {use}")
    return 0


def measure(topic: str, distance_m: float, timeout_s: float, ros_args: list[str] | None = None):
    """(HandSize or None, the last thing said). Listens to HandPose21Array on the topic for at most timeout_s."""
    context = Context()
    try:
        rclpy.init(args=ros_args or [], context=context)
    except process.ROS_ERRORS as error:
        raise ConfigError(f"ROS does not start: {error}\n{process.ROS_REMEDY}") from error
    node = rclpy.create_node("hand_pose_calibrate", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    state, progress = calibration.CalibrationState(), calibration.Progress(0.0, f"nothing arrives on {topic}")

    def on_hands(message) -> None:
        nonlocal state, progress
        if progress.result is None:
            before = progress.message
            try:
                hands, info = messages.read_array(message)
                if messages.guessed_metres(hands, info):
                    raise DataError("the camera is not calibrated, so its distances are a guess; publish camera_info")
                state, progress = calibration.step(state, hands, messages.stamp_ns(message.header), distance_m)
            except DataError as error:
                progress = calibration.Progress(0.0, str(error))
            if progress.message != before:
                print(progress.message, flush=True)

    node.create_subscription(HandPose21Array, topic, on_hands, LISTENING)
    end_s = time.monotonic() + timeout_s
    try:
        if math.isnan(distance_m):
            _refuse_a_calibrated_node(node, executor, topic, min(end_s, time.monotonic() + ASK_S))
        while progress.result is None and time.monotonic() < end_s and context.ok():
            executor.spin_once(timeout_sec=0.1)
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
    return progress.result, progress.message


def _refuse_a_calibrated_node(node, executor, topic: str, end_s: float) -> None:
    """Raises ConfigError if the hands come from a node that has a calibration file: it draws what depth measures
    towards that length. A node that does not answer until ``end_s`` is not asked any more."""
    clients, asked, again_s = {}, [], -math.inf
    while time.monotonic() < end_s and not any(future.done() for _, future in asked):
        for publisher in node.get_publishers_info_by_topic(node.resolve_topic_name(topic)):
            name = f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
            if name not in clients:
                clients[name] = node.create_client(GetParameters, f"{name}/get_parameters")
        ready = [name for name, client in clients.items() if client.service_is_ready()]
        if ready and time.monotonic() > again_s:
            # Again and again: an answer to somebody whom the node has not discovered yet is lost.
            asked += [(name, clients[name].call_async(GetParameters.Request(names=["hand_calibration_file"])))
                      for name in ready]
            again_s = time.monotonic() + ASK_AGAIN_S
        executor.spin_once(timeout_sec=0.05)
    for name, future in asked:
        values = future.result().values if future.done() and future.result() else []
        if values and values[0].string_value:
            raise ConfigError(f"{name} runs with hand_calibration_file '{values[0].string_value}', towards which it "
                              "draws the length that depth measures: start it without, or give --distance")
