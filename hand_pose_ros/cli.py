"""``hand-pose COMMAND``: one plain table of commands; only the chosen command's module is imported.

A command is a module with ``add_arguments(parser)`` and ``main(args) -> int``. To add one: the module, one line here.
"""
from __future__ import annotations

import argparse
import difflib
import errno
import sys
from importlib import import_module

import hand_pose_ros.one_blas_thread  # noqa: F401, before any module that imports numpy
from hand_pose_ros import __version__
from hand_pose_ros.errors import ConfigError, HandPoseError

COMMANDS = {
    "run": ("hand_pose_ros.ros.run", "start the node: camera images in, hands out"),
    "demo": ("hand_pose_ros.ros.demo",
             "the main job on this machine: a recorded or live camera, the node, what it sends"),
    "calibrate-cameras": ("hand_pose_ros.ros.calibrate_cameras",
                          "measure where a second camera is, by a hand that both see"),
    "fuse": ("hand_pose_ros.ros.fuse", "several cameras' hands in, the same hands once, in true metres, out"),
    "teleop": ("hand_pose_ros.ros.teleop", "steer a gripper and an arm by a hand: clutch, limits, emergency stop"),
    "sim-robot": ("hand_pose_ros.ros.sim_robot",
                  "a simulated arm with a gripper that takes the teleoperation's commands"),
    "teleop-demo": ("hand_pose_ros.ros.teleop_demo",
                    "the closed loop: recorded hand, node, teleoperation, simulated robot, plot"),
    "doctor": ("hand_pose_ros.ros.doctor",
               "check this machine, its cameras and a running node, with the fix for each fault"),
    "calibrate": ("hand_pose_ros.ros.calibrate", "measure the operator's hand with the running node: true metres"),
    "assets": ("hand_pose_ros.synthesis.assets", "fetch the meshes, skins and light probes of the virtual hands"),
    "render": ("hand_pose_ros.synthesis.render", "make labelled virtual pictures of hands"),
    "train": ("hand_pose_ros.training.train", "learn a network from virtual pictures of hands, and export it"),
    "gpu-train": ("hand_pose_ros.training.gpu_host", "render and train on a GPU host in pieces of some minutes"),
    "predict": ("hand_pose_ros.predict", "hands in pictures and videos, written as lines of JSON"),
    "score": ("hand_pose_ros.training.score", "accuracy of the models on a folder of labelled photographs"),
    "build-engine": ("hand_pose_ros.runtimes.build", "build what a runtime needs ahead of time, into the engine cache"),
    "benchmark": ("hand_pose_ros.runtimes.benchmark", "time per stage and frame, of every runtime that runs here"),
    "evaluate": ("hand_pose_ros.evaluation.evaluate", "data sets, bags and videos -> metrics and a report"),
    "labels": ("hand_pose_ros.evaluation.labels", "predictions as a draft label file that a person corrects"),
    "bag": ("hand_pose_ros.evaluation.video_bag", "turn a video or a folder of pictures into a bag"),
}
"""name: (module, help)"""

REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space, or give another place"),
    errno.EFBIG: "the file system, or ulimit -f, takes no bigger file: give another place",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "get the right to it, or give another place"),
    errno.EEXIST: "give another name", errno.ENOENT: "check the name", errno.EISDIR: "give a file, not a folder",
    errno.ENOTDIR: "a part of it is a file: give another place", errno.EPIPE: "what reads the output has ended"}
"""What to do about the errors of files and disks that a command has no better word for."""


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 the command failed and said why, 2 wrong usage."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"hand_pose_ros {__version__}")
        return 0
    try:
        for word in argv:
            if any("\udc80" <= letter <= "\udcff" for letter in word):     # how Python keeps other bytes
                raise ConfigError(f"the name {word!r} is not UTF-8, which OpenCV cannot open: rename it")
        return run(argv[0], argv[1:])
    except HandPoseError as error:
        print(f"hand-pose {argv[0]}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        remedy = REMEDIES.get(error.errno, "check that what is read is there and what is written has room")
        print(f"hand-pose {argv[0]}: {where}{error.strerror or error}: {remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run_for_ros(name: str) -> int:
    """Entry of ``ros2 run hand_pose_ros NAME``."""
    return main([name, *sys.argv[1:]])


def run(name: str, arguments: list[str]) -> int:
    """Import the command's module, parse its arguments, run it.

    What follows ``--ros-args``, which launch files append to everything they start, is not the command's own: one that
    starts a node declares that option and gets it as the list ``ros_args``. Raises ConfigError for an unknown name and
    for a dependency that is not installed or does not load.
    """
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise ConfigError(f"there is no command '{name}'{hint} Choices: {', '.join(COMMANDS)}")
    module_name, help_text = COMMANDS[name]
    parser = argparse.ArgumentParser(prog=f"hand-pose {name}", description=help_text)
    try:
        module = import_module(module_name)
        module.add_arguments(parser)
        at = arguments.index("--ros-args") if "--ros-args" in arguments else len(arguments)
        args = parser.parse_args(arguments[:at])
        if hasattr(args, "ros_args"):
            args.ros_args = arguments[at + 1:]
        return module.main(args) or 0
    except ImportError as error:
        missing, absent = (error.name or "").partition(".")[0], isinstance(error, ModuleNotFoundError)
        if missing == "hand_pose_ros" or absent and not missing:
            raise
        raise ConfigError(
            f"needs the Python module '{missing}', which is not installed; requirements/*.txt say which set it is in"
            if absent else f"{missing or 'a library'} is installed but does not load ({error}): install what it lacks "
            "(OpenCV: apt install libgl1 libglib2.0-0), or versions that fit each other; docs/jetson.md has those of a "
            "Jetson") from error


def overview() -> str:
    """The text of ``hand-pose --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {help_text}" for name, (_, help_text) in COMMANDS.items()]
    return "\n".join([
        "usage: hand-pose COMMAND [...]      (hand-pose COMMAND --help lists its options)", "",
        "Hands seen by an external RGB camera: 21 joints in 2D and 3D for ROS 2.", "",
        *lines,
    ])
