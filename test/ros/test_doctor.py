"""The doctor beside sound and broken cameras: what it must find, and that every fault comes with a fix."""
from __future__ import annotations

import argparse
import re
import threading

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from hand_pose_ros import config
from hand_pose_ros.ros import doctor, images

SOUND = {"width": 64, "height": 48, "distortion_model": "plumb_bob",
         "k": [60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0]}


class Camera:
    """Publishes a small image and its camera_info from a thread."""

    def __init__(self, info, encoding="rgb8", stamped=True):
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = Node("driver", context=self.context)
        self.info, self.encoding, self.stamped = info, encoding, stamped
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.publish)

    def publish(self):
        pixels = self.node.create_publisher(Image, "/eye/image_raw", 5)
        calibration = self.node.create_publisher(CameraInfo, "/eye/camera_info", 5)
        while not self.stop.wait(0.03):
            header = Image().header
            header.frame_id = "eye"
            if self.stamped:
                header.stamp = self.node.get_clock().now().to_msg()
            image = images.raw_message(Image, header, np.zeros((48, 64, 3), np.uint8))
            image.encoding = self.encoding
            pixels.publish(image)
            if self.info is not None:
                calibration.publish(CameraInfo(header=header, **self.info))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.mark.parametrize("camera, subject, text", [
    (Camera, "camera", ""),
    (lambda _: Camera({**SOUND, "k": [0.0] * 9}), "calibration", "not calibrated"),
    (lambda _: Camera({**SOUND, "k": [4000.0, 0.0, 32.0, 0.0, 4000.0, 24.0, 0.0, 0.0, 1.0]}), "calibration",
     "not plausible"),
    (lambda _: Camera(None), "calibration", "nothing on /eye/camera_info"),
    (lambda _: Camera(SOUND, encoding="rainbow"), "camera", "rainbow"),
    (lambda _: Camera(SOUND, stamped=False), "stamps", "no stamp"),
], ids=["sound", "zero K", "odd K", "no info", "encoding", "no stamp"])
def test_cameras(camera, subject, text):
    with camera(SOUND):
        findings = list(doctor.ros_graph("/eye/image_raw", 1.0))
    faults = [finding for finding in findings if finding.level == doctor.FAULT]
    assert all(finding.fix for finding in faults)
    if not text:
        assert faults == []
        assert [f.subject for f in findings if f.level == doctor.OK][:2] == ["camera", "camera"]
        assert any("field of view 56 degrees" in f.text for f in findings)
    else:
        assert any(f.subject == subject and text in f.text for f in faults), findings


class Starved(doctor.Punctuality):
    """As on a machine whose cores are all taken."""

    starved = True

    def worst_s(self):
        return 3.2


class Idle(Starved):
    """As on a machine with nothing else to do."""

    starved = False


@pytest.mark.parametrize("starved", [True, False])
def test_silence_is_told_from_want_of_processor_time(monkeypatch, starved):
    monkeypatch.setattr(doctor, "Punctuality", Starved if starved else Idle)
    context = Context()
    rclpy.init(context=context)
    silent = Node("driver", context=context)
    silent.create_publisher(Image, "/mute/image_raw", 5)
    try:
        findings = list(doctor.ros_graph("/mute/image_raw", 0.5))
    finally:
        silent.destroy_node()
        rclpy.shutdown(context=context)
    camera = next(f for f in findings if f.subject == "camera")
    assert camera.level == doctor.FAULT and "/mute/image_raw: nothing arrives" in camera.text and camera.fix
    assert ("too little processor time" in camera.text) == starved == ("check the driver" not in camera.fix)
    assert any(f.subject == "processor" and "3.2 s late" in f.text for f in findings) == starved


@pytest.mark.parametrize("plans, level, says", [
    ([("onnxruntime-int8", "", "")] * 2, doctor.OK, "a node: onnxruntime-int8, ready in the cache"),
    ([("onnxruntime", "onnxruntime-int8", "")] * 2, doctor.NOTE, "built in the background at the first start"),
    ([("onnxruntime", "", "onnxruntime-int8: get onnx")] * 2, doctor.OK, "onnxruntime (onnxruntime-int8: get onnx)"),
    ([("onnxruntime-int8", "", ""), ("onnxruntime", "onnxruntime-int8", "")], doctor.NOTE,
     "detector_light: onnxruntime-int8, ready in the cache; pose_light: onnxruntime at first"),
])
def test_what_a_node_will_run_its_networks_with_is_said(monkeypatch, plans, level, says):
    answers = iter(plans)
    monkeypatch.setattr("hand_pose_ros.runtimes.ladder.forecast", lambda source, runtime, options: next(answers))
    finding = doctor.node_runtime(config.Config())
    assert finding.level == level and says in finding.text
    assert ("build-engine" in finding.fix) == (level == doctor.NOTE)


def test_frames_with_two_parents():
    findings = list(doctor._transforms({"hand_right_1_wrist": {"eye", "map"}, "eye": {"base"}}))
    assert [f.level for f in findings] == [doctor.FAULT, doctor.OK] and "eye, map" in findings[0].text


def test_the_command_goes_through_all_checks(capsys):
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    assert doctor.main(parser.parse_args(["--no-networks", "--seconds", "0.2"])) == 0
    out = capsys.readouterr().out
    assert "no faults" in out and "HandPose21Array" in out
    for piece in ("NVIDIA driver", "torch", "torch on the GPU", "TensorRT", "Torch-TensorRT", "ONNX Runtime",
                  "engine cache"):
        assert re.search(rf"runtime +{piece}: .", out), piece


def test_a_missing_model_is_a_fault_with_a_fix(capsys):
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    arguments = ["--seconds", "0.1", "--pose-model", "no_such", "--detector-model", "no_such"]
    assert doctor.main(parser.parse_args(arguments)) == 1
    assert "no_such" in capsys.readouterr().out
