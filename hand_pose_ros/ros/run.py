"""``hand-pose run``: the node without ros2 launch."""
from __future__ import annotations

import argparse

from .environment import use_large_image_profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``hand-pose run``."""
    parser.add_argument("--image", metavar="TOPIC",
                        help="base image topic, e.g. /camera/color/image_raw (default: image)")
    parser.add_argument("--camera-info", metavar="TOPIC", help="camera_info topic (default: beside the image topic)")
    parser.add_argument("--config", metavar="FILE", help="YAML file of parameters, e.g. config/webcam.yaml")
    parser.add_argument("--sim-time", action="store_true", help="take the time from /clock (bags played with --clock)")
    parser.add_argument("--ros-args", nargs=argparse.REMAINDER, default=[],
                        help="everything after this goes to ROS: -p max_hands:=1 -r __ns:=/cam_left ...")


def main(args: argparse.Namespace) -> int:
    """Run until Ctrl-C. Raises ConfigError for a parameter file that says nothing to this node."""
    use_large_image_profile()
    from .node import NODE_NAME
    from .node import main as run_node
    from .parameters import with_file
    ros = with_file(args.config, NODE_NAME, args.ros_args)
    for name, topic in (("image_topic", args.image), ("camera_info_topic", args.camera_info)):
        if topic:
            ros += ["-p", f"{name}:={topic}"]
    if args.sim_time:
        ros += ["-p", "use_sim_time:=true"]
    return run_node(["hand_pose", *(["--ros-args", *ros] if ros else [])])
