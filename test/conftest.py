"""Settings of every test, made before anything imports rclpy; child processes inherit them.

They overrule the shell's own settings: a test must neither hear nor steer the robot in the next room.
"""
import os
import signal

from hand_pose_ros.ros.environment import keep_to_this_machine

# What a script starts with & begins with Ctrl-C ignored, and so do its children: tests that send it would wait in
# vain.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"                       # off by default, and a wrong length crashes
keep_to_this_machine(os.environ, 1 + os.getpid() % 100)           # domains above 101 have ports that Linux gives away
os.environ.setdefault("OMP_NUM_THREADS", "1")                     # small arrays; many threads only cost time
