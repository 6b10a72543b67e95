"""The calibration command over real DDS: a node's raw hands in, a file out."""
import argparse
import os
import re
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header

sys.path.append(str(Path(__file__).parents[1] / "core"))
from oracle import hand  # noqa: E402
from test_tracking import observed  # noqa: E402

from hand_pose_ros import calibration, messages  # noqa: E402
from hand_pose_ros.errors import ConfigError  # noqa: E402
from hand_pose_ros.msg import HandPose21, HandPose21Array  # noqa: E402
from hand_pose_ros.ros import calibrate, qos  # noqa: E402

TOPIC = "/test_calibrate/hands_raw"
FLAT = replace(observed(hand(bend=0.05, length_m=0.186, at=(0, 0, 0.6))), track_id=1)


@pytest.fixture(params=[True])
def publisher(request):
    """Publishes a flat hand every 5 ms whose stamps are 100 ms apart, until the test ends. The parameter: whether its
    metres are known, or a quality of service to publish with."""
    context, stop = Context(), threading.Event()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("test_calibrate_publisher", context=context)
    profile = request.param if isinstance(request.param, QoSProfile) else qos.RESULTS
    out = node.create_publisher(HandPose21Array, TOPIC, profile)

    def send():
        stamp_ms = 1000
        while not stop.is_set():
            header = Header(frame_id="camera")
            header.stamp.sec, header.stamp.nanosec = stamp_ms // 1000, stamp_ms % 1000 * 1_000_000
            out.publish(messages.fill_array(HandPose21Array(), [FLAT], header, HandPose21,
                                             messages.ArrayInfo(metric=bool(request.param))))
            stamp_ms += 100
            time.sleep(0.005)
    executor = SingleThreadedExecutor(context=context)                  # for its parameter services
    executor.add_node(node)
    threads = [threading.Thread(target=send), threading.Thread(target=executor.spin)]
    for thread in threads:
        thread.start()
    yield node
    stop.set()
    executor.shutdown()
    for thread in threads:
        thread.join()
    node.destroy_node()
    context.try_shutdown()


def arguments(*given):
    parser = argparse.ArgumentParser()
    calibrate.add_arguments(parser)
    return parser.parse_args(given)


@pytest.mark.parametrize("publisher", [True, QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)],
                         indirect=True)
def test_a_known_distance_measures_the_hand_and_stores_it(publisher, tmp_path, capsys):
    out = tmp_path / "hand.json"
    seen_m = FLAT.joints_m[[0, 5, 9, 13, 17], 2].mean()
    args = arguments("--hands", TOPIC, "--distance", str(0.9 * seen_m - 0.009), "--out", str(out), "--timeout", "20")
    assert calibrate.main(args) == 0
    assert calibration.load(out).hand_length_m == pytest.approx(0.9 * 0.186, rel=1e-3)       # 9 mm: skin to joints
    assert "hand_calibration_file:=" in capsys.readouterr().out


def test_a_measurement_that_cannot_be_stored_is_said_all_the_same(publisher, capsys):
    args = arguments("--hands", TOPIC, "--distance", "0.6", "--out", "/dev/full", "--timeout", "20")
    with pytest.raises(ConfigError, match="No space left"):
        calibrate.main(args)
    said = capsys.readouterr().out
    assert re.search(r"hand length \d+ mm, from \d+ images", said) and "stored" not in said


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys, monkeypatch):
    with pytest.raises(ConfigError, match="is a folder"):
        calibrate.main(arguments("--out", str(tmp_path), "--timeout", "0.3"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)        # root may write everywhere
    with pytest.raises(ConfigError, match=f"{tmp_path} must not be written to"):
        calibrate.main(arguments("--out", str(tmp_path / "h.json"), "--timeout", "0.3"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("publisher", [False], indirect=True)
def test_guessed_distances_measure_no_hand(publisher, tmp_path, capsys):
    given = arguments("--out", str(tmp_path / "x.json"), "--hands", TOPIC, "--distance", "0.6", "--timeout", "4")
    assert calibrate.main(given) == 1 and not (tmp_path / "x.json").exists()
    assert "camera is not calibrated" in capsys.readouterr().out


def test_without_distance_and_depth_it_says_what_is_missing(publisher, tmp_path, capsys):
    args = arguments("--hands", TOPIC, "--out", str(tmp_path / "hand.json"), "--timeout", "3")
    assert calibrate.main(args) == 1
    assert "give a depth image, or the distance" in capsys.readouterr().out


@pytest.mark.parametrize("publisher", [True], indirect=True)
def test_depth_does_not_measure_a_hand_of_a_node_that_expects_another(publisher, tmp_path, capsys, monkeypatch):
    publisher.declare_parameter("hand_calibration_file", "/etc/anna.json")
    monkeypatch.setattr(calibrate, "ASK_S", 20.0)
    out = tmp_path / "hand.json"
    with pytest.raises(ConfigError, match="test_calibrate_publisher runs with hand_calibration_file '/etc/anna.json'"):
        calibrate.main(arguments("--hands", TOPIC, "--out", str(out), "--timeout", "20"))
    assert calibrate.main(arguments("--hands", TOPIC, "--out", str(out), "--distance", "0.6", "--timeout", "20")) == 0


def test_silence_and_bad_values_are_said(tmp_path, capsys):
    assert calibrate.main(arguments("--hands", "/nobody", "--out", str(tmp_path / "h.json"), "--timeout", "0.3")) == 1
    assert "nothing arrives on /nobody" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--hands is 'a b', which is no topic name"):
        calibrate.main(arguments("--hands", "a b", "--out", str(tmp_path / "h.json")))
    with pytest.raises(ConfigError, match="--distance is 60"):
        calibrate.main(arguments("--distance", "60", "--out", str(tmp_path / "h.json")))
    with pytest.raises(ConfigError, match="there is no folder"):
        calibrate.main(arguments("--out", str(tmp_path / "no" / "h.json")))
