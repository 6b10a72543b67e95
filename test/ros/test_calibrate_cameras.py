"""The command that finds where a second camera is: what it says of its result, and of what it cannot use."""
from __future__ import annotations

import argparse
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.context import Context

sys.path.append(str(Path(__file__).parents[1] / "core"))
from test_extrinsics import film  # noqa: E402
from test_fusion import pose  # noqa: E402

from hand_pose_ros import extrinsics, messages  # noqa: E402
from hand_pose_ros.errors import ConfigError, DataError  # noqa: E402
from hand_pose_ros.msg import HandPose21, HandPose21Array  # noqa: E402
from hand_pose_ros.ros import calibrate_cameras, qos  # noqa: E402
from hand_pose_ros.types import ScaleSource  # noqa: E402

TOPICS = ("/test_cameras/left/hands", "/test_cameras/right/hands")
FRAMES = ("left_optical", "right_optical")
FILMS = film(pose(0.0), 1), film(pose(60.0), 2)


@pytest.fixture
def send():
    """A function that publishes the cameras' films over and over until the test ends. cameras: how many of the two;
    changed: what becomes of their hands; metric: what the messages say of them."""
    context, stop, threads = Context(), threading.Event(), []
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("two_cameras", context=context)
    publishers = [node.create_publisher(HandPose21Array, topic, qos.RESULTS) for topic in TOPICS]

    def go_on(cameras, changed, metric):
        info = messages.ArrayInfo(metric=metric)
        while not stop.is_set():
            for images in zip(*FILMS):
                for publisher, frame, (stamp_ns, hands) in zip(publishers[:cameras], FRAMES, images):
                    message = messages.fill_array(HandPose21Array(), map(changed, hands), HandPose21Array().header,
                                                  HandPose21, info)
                    message.header.frame_id = frame
                    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
                    publisher.publish(message)
                if stop.wait(0.02):
                    return

    def begin(cameras=2, changed=lambda hand: hand, metric=True):
        threads.append(threading.Thread(target=go_on, args=(cameras, changed, metric)))
        threads[-1].start()
    yield begin
    stop.set()
    for thread in threads:
        thread.join()
    node.destroy_node()
    context.try_shutdown()


def arguments(out, *more):
    parser = argparse.ArgumentParser()
    calibrate_cameras.add_arguments(parser)
    return parser.parse_args([*TOPICS, "--out", str(out), *more])


def test_a_transform_that_cannot_be_stored_is_said_all_the_same(tmp_path, capsys, monkeypatch):
    """Here the folder goes away while the hand is measured."""
    folder = tmp_path / "stick"
    folder.mkdir()

    def listen(*_):
        shutil.rmtree(folder)
        return FILMS, FRAMES
    monkeypatch.setattr(calibrate_cameras, "listen", listen)
    with pytest.raises(ConfigError, match="cannot be written"):
        calibrate_cameras.main(arguments(folder / "cameras.json"))
    said = capsys.readouterr().out
    assert "right_optical is at" in said and "static_transform_publisher" in said and "stored" not in said


def test_a_file_of_another_first_camera_is_refused_as_soon_as_the_camera_is_heard(tmp_path, send):
    path = tmp_path / "cameras.json"
    extrinsics.save(path, "top_optical", "left_optical", extrinsics.Extrinsics(*pose(0.0), 0.004, 80, 0))
    before = path.read_text()
    send(cameras=1)                                         # nothing can be measured yet
    with pytest.raises(ConfigError, match="relative to top_optical, not to left_optical"):
        calibrate_cameras.main(arguments(path))
    assert path.read_text() == before


@pytest.mark.parametrize("places, words", [
    (np.nan, "no places: the camera is not calibrated, or no scale known; publish camera_info"),
    (0.5, "its camera is not calibrated; publish camera_info")])
def test_cameras_without_calibration_are_named_and_no_clock_is_blamed(tmp_path, send, capsys, places, words):
    send(changed=lambda hand: replace(hand, joints_m=np.full((21, 3), places), scale_source=ScaleSource.NONE),
         metric=False)
    with pytest.raises(DataError) as refused:
        calibrate_cameras.main(arguments(tmp_path / "cameras.json", "--timeout", "8", "--seconds", "1"))
    assert all(f"{topic}: " in str(refused.value) for topic in TOPICS) and str(refused.value).count(words) == 2
    assert f"{TOPICS[0]}: " in capsys.readouterr().out      # while the camera can still be mended


def test_a_file_that_is_none_is_refused_before_the_work(tmp_path, capsys):
    with pytest.raises(ConfigError, match="is a folder"):
        calibrate_cameras.main(arguments(tmp_path))
    assert capsys.readouterr().out == ""
