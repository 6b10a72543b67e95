"""``hand-pose fuse``: the fusion node without ros2 launch."""
from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``hand-pose fuse``."""
    parser.add_argument("hands_topics", nargs="*", metavar="TOPIC",
                        help="hands of two or more cameras, e.g. /cam_left/hand_pose/hands /cam_right/hand_pose/hands; "
                             "results are in the first one's frame")
    parser.add_argument("--config", metavar="FILE", help="YAML file of parameters")
    parser.add_argument("--ros-args", nargs=argparse.REMAINDER, default=[],
                        help="everything after this goes to ROS: -p max_skew_s:=0.05 -p use_sim_time:=true ...")


def main(args: argparse.Namespace) -> int:
    """Run until Ctrl-C. Raises ConfigError for a parameter file that says nothing to this node."""
    from .fusion_node import NODE_NAME
    from .fusion_node import main as run_node
    from .parameters import with_file
    ros = with_file(args.config, NODE_NAME, args.ros_args)
    if args.hands_topics:
        ros += ["-p", f"hands_topics:={','.join(args.hands_topics)}"]
    return run_node(["fuse", *(["--ros-args", *ros] if ros else [])])
