"""The installed headers and CMake files as a C++ program on the robot uses them; Python reads what it wrote."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import hand_pose_ros.msg
from hand_pose_ros.msg import HandPose21, HandPose21Array

SOURCE = Path(__file__).parent / "cpp_consumer"


def prefixes():
    """The install prefix of the messages that Python has loaded, then where their dependencies are."""
    loaded = Path(hand_pose_ros.msg.__file__).parents
    own = next(folder for folder in loaded if (folder / "share" / "hand_pose_ros" / "cmake").is_dir())
    return [str(own), *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]


def test_cpp_program_writes_what_python_reads(tmp_path):
    from rclpy.serialization import deserialize_message
    joined = os.pathsep.join(prefixes())
    environment = dict(os.environ, AMENT_PREFIX_PATH=joined, CMAKE_PREFIX_PATH=joined)
    # LD_LIBRARY_PATH of this process knows the wheels' folders already; the messages of colcon come on top.
    libraries = [f"{prefix}/lib" for prefix in prefixes()] + [environment.get("LD_LIBRARY_PATH", "")]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    for command in (
        ["cmake", "-S", str(SOURCE), "-B", str(tmp_path), f"-DPython3_EXECUTABLE={sys.executable}"],
        ["cmake", "--build", str(tmp_path)],
    ):
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    program = subprocess.run([str(tmp_path / "cpp_consumer")], env=environment, capture_output=True)
    assert program.returncode == 0, program.stderr.decode()

    message = deserialize_message(program.stdout, HandPose21Array)
    (hand,) = message.hands
    assert message.model == "from C++" and message.latency_publish == -1
    assert (hand.header.stamp.sec, hand.header.stamp.nanosec) == (1700000000, 123456789)
    assert hand.header.frame_id == "camera_color_optical_frame"
    assert hand.track_id == 7 and hand.side == HandPose21.SIDE_LEFT and hand.side_probability == 0.75
    np.testing.assert_array_equal(np.asarray(hand.joints_image).reshape(21, 2),
                                  np.stack([np.arange(21), 100 + np.arange(21)], axis=1))
    assert [point.z for point in hand.joints_camera] == [0.5 + 0.125 * joint for joint in range(21)]
    assert all(np.isnan(point.x) and point.y == 0 for point in hand.joints_wrist)
    assert list(hand.state) == [HandPose21.STATE_VISIBLE] * 20 + [HandPose21.STATE_EXTRAPOLATED]
    assert hand.scale_source == HandPose21.SCALE_DEPTH
