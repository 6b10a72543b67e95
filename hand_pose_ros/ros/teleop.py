"""``hand-pose teleop``: the teleoperation node without ros2 launch."""
from __future__ import annotations

import argparse

from ..teleop_settings import ARM_OUTPUTS, GRIPPER_OUTPUTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``hand-pose teleop``."""
    parser.add_argument("--gripper", choices=GRIPPER_OUTPUTS,
                        help="kind of the gripper's command (default: joint_state)")
    parser.add_argument("--arm", choices=ARM_OUTPUTS, help="commands for an arm (default: none)")
    parser.add_argument("--dry-run", action="store_true", help="send nothing but markers on ~/preview")
    parser.add_argument("--config", metavar="FILE", help="YAML file of parameters")
    parser.add_argument("--ros-args", nargs=argparse.REMAINDER, default=[],
                        help="everything after this goes to ROS: -p base_frame:=base_link -r __ns:=/left ...")


def main(args: argparse.Namespace) -> int:
    """Run until Ctrl-C. Raises ConfigError for a parameter file that says nothing to this node."""
    from .parameters import with_file
    from .teleop_node import NODE_NAME
    from .teleop_node import main as run_node
    ros = with_file(args.config, NODE_NAME, args.ros_args)
    dry_run = "true" if args.dry_run else ""
    for name, value in (("gripper_output", args.gripper), ("arm_output", args.arm), ("dry_run", dry_run)):
        if value:
            ros += ["-p", f"{name}:={value}"]
    return run_node(["teleop", *(["--ros-args", *ros] if ros else [])])
