"""Settings of every test, made before anything imports rclpy; child processes inherit them.

They overrule the shell's own settings: a test must neither hear nor steer the robot in the next room.
"""
import os
import signal
import socket

from hypothesis import settings

from hand_pose_ros.ros.environment import keep_to_this_machine

# What a script starts with & begins with Ctrl-C ignored, and so do its children: tests that send it would wait in
# vain.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"                       # off by default, and a wrong length crashes


def _claimed_domain() -> tuple[int, socket.socket]:
    """A ROS domain that no other tests on this machine's network have, from 1 to 100 (those above 101 have ports that
    Linux gives away), and what claims it: an abstract socket, which goes with this process."""
    for number in range(os.getpid(), os.getpid() + 100):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0hand_pose_ros tests, domain {1 + number % 100}")
        except OSError:
            claim.close()
        else:
            return 1 + number % 100, claim
    raise RuntimeError("all ROS domains from 1 to 100 are taken by other tests on this machine")


_DOMAIN, _CLAIM = _claimed_domain()
keep_to_this_machine(os.environ, _DOMAIN)
settings.register_profile("any machine", deadline=None)           # a slow one is no fault of what is tested
settings.load_profile("any machine")
os.environ.setdefault("OMP_NUM_THREADS", "1")                     # small arrays; many threads only cost time
