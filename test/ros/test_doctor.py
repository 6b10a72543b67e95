"""The doctor beside sound and broken cameras: what it must find, and that every fault comes with a fix."""
from __future__ import annotations

import argparse
import re
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import rclpy
import standin_node
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from harness import START_S, NodeProcess, Rig
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from hand_pose_ros import config, messages
from hand_pose_ros.errors import HandPoseError
from hand_pose_ros.msg import HandPose21, HandPose21Array
from hand_pose_ros.ros import doctor, images
from hand_pose_ros.runtimes.base import NotBuilt

SOUND = {"width": 64, "height": 48, "distortion_model": "plumb_bob",
         "k": [60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0]}


class Camera:
    """Publishes an image and its camera_info from a thread."""

    def __init__(self, info, encoding="rgb8", stamped=True, frame="eye", info_frame="eye",
                 info_topic="/eye/camera_info", picture=np.zeros((48, 64, 3), np.uint8), topic="/eye/image_raw"):
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = Node("driver", context=self.context)
        self.info, self.encoding, self.stamped, self.picture = info, encoding, stamped, picture
        self.frame, self.info_frame, self.info_topic, self.topic = frame, info_frame, info_topic, topic
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.publish)

    def publish(self):
        pixels = self.node.create_publisher(Image, self.topic, 5)
        calibration = self.node.create_publisher(CameraInfo, self.info_topic, 5)
        while not self.stop.wait(0.03):
            header = Image().header
            header.frame_id = self.frame
            if self.stamped:
                header.stamp = self.node.get_clock().now().to_msg()
            image = images.raw_message(Image, header, self.picture)
            image.encoding = self.encoding
            pixels.publish(image)
            if self.info is not None:
                header.frame_id = self.info_frame
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


@pytest.mark.parametrize("changes, subject, text", [
    ({"info": {**SOUND, "width": 128, "height": 96, "k": [120.0, 0.0, 64.0, 0.0, 120.0, 48.0, 0.0, 0.0, 1.0]}},
     "calibration", "is for 128x96, the image is 64x48"),
    ({"info_frame": "ear"}, "calibration", "names the frame 'ear', the image 'eye'"),
    ({"frame": "", "info_frame": ""}, "frame", "no frame_id"),
], ids=["size", "other frame", "no frame"])
def test_what_the_node_only_warns_of_is_a_warning(changes, subject, text):
    with Camera(**{"info": SOUND, **changes}):
        findings = list(doctor.ros_graph("/eye/image_raw", 1.0))
    warnings = [finding for finding in findings if finding.level == doctor.WARN]
    assert [f.subject for f in warnings] == [subject] and text in warnings[0].text and warnings[0].fix, findings
    assert not any(finding.level == doctor.FAULT for finding in findings)


def test_images_rectified_by_their_name_and_what_only_p_says():
    raw = {**SOUND, "d": [0.1, 0.0, 0.0, 0.0, 0.0]}
    with Camera(raw, topic="/eye/image_rect"):
        (warning,) = [f for f in doctor.ros_graph("/eye/image_rect", 1.0) if f.level == doctor.WARN]
    assert "rectified by its name" in warning.text and "--rectified" in warning.fix
    only_p = {"width": 64, "height": 48, "p": [60.0, 0.0, 32.0, 0.0, 0.0, 60.0, 24.0, 0.0, 0.0, 0.0, 1.0, 0.0]}
    with Camera(only_p, topic="/eye/image_rect"):
        found = list(doctor.ros_graph("/eye/image_rect", 1.0, rectified=True))
    assert not any(f.level in (doctor.FAULT, doctor.WARN) for f in found), found


@pytest.mark.parametrize("stamp_s, sim_time", [(1_700_000_000, False), (1_700_000_000, True)])
def test_an_age_that_cannot_be_is_no_latency(stamp_s, sim_time):
    """Results of a bag, against the wall clock; and against a simulated one that nobody sends."""
    heard = doctor._Heard()
    now_ns = 0 if sim_time else 1_763_000_000_000_000_000
    message = hands_message(stamp_s)
    heard.add(message, now_ns)
    findings = list(doctor._results("/hand_pose/hands", heard))
    (latency,) = [f for f in findings if f.subject == "latency"]
    assert latency.level == doctor.WARN and "--sim-time" in latency.fix


def hands_message(stamp_s):
    message = HandPose21Array()
    message.header.stamp.sec = stamp_s
    return messages.fill_array(message, (), message.header, HandPose21, messages.ArrayInfo(
        model="m", runtime="r", latency_receive_ns=1, latency_publish_ns=2))


@pytest.mark.parametrize("image, info, said", [("bad topic", "", "--image is 'bad topic'"),
                                               ("/eye/image_raw", "/eye//info", "--camera-info is '/eye//info'")])
def test_a_topic_that_is_none_is_named_and_no_bug(image, info, said):
    (finding,) = doctor.ros_graph(image, 0.1, info)
    assert finding.level == doctor.FAULT and said in finding.text and "bug" not in finding.fix and finding.fix


@pytest.mark.parametrize("width, height, warned", [(64, 48, False), (128, 96, True)])
def test_a_part_of_the_sensor_explains_another_size_and_the_whole_of_it_does_not(width, height, warned):
    region = CameraInfo().roi
    region.width, region.height = width, height
    with Camera({**SOUND, "width": 128, "height": 96, "roi": region}):
        findings = list(doctor.ros_graph("/eye/image_raw", 1.0))
    told = [finding.text for finding in findings if finding.level in (doctor.WARN, doctor.FAULT)]
    assert any("it is scaled" in text for text in told) == warned == bool(told), findings


@pytest.mark.parametrize("given, faults", [(["--camera-info", "calib/info"], 0), ([], 1)])
def test_camera_info_may_be_elsewhere(capsys, given, faults):
    with Camera(SOUND, info_topic="/calib/info"):
        status = told("--no-networks", "--seconds", "0.5", "--image", "/eye/image_raw", *given)
    out = capsys.readouterr().out
    assert status == faults, out
    assert ("/calib/info: plumb_bob" in out) == (not faults) == ("nothing on /eye/camera_info" not in out)


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
        findings = list(doctor.ros_graph("/mute/image_raw", 1.0))
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


def test_nothing_is_compiled_for_minutes_by_a_check(monkeypatch):
    """On a GPU whose engines are not built: what serves meanwhile is loaded, TensorRT by name is a fault."""
    loaded, auto = [], config.Config()

    def load(settings):
        loaded.append(settings.runtime)
        raise HandPoseError("loaded")

    def unbuilt(source, options):
        assert options.live, "it would be built"
        raise NotBuilt("runtime tensorrt: the engine is not built yet")

    monkeypatch.setattr("hand_pose_ros.pipeline.load", load)
    monkeypatch.setattr("hand_pose_ros.runtimes.ladder.forecast", lambda *_: ("cuda", "tensorrt", ""))
    monkeypatch.setattr("hand_pose_ros.runtimes.ladder.opener", lambda name: unbuilt)
    assert list(doctor.networks(auto))[-1].text == "loaded" and loaded == ["cuda"]
    fault = list(doctor.networks(replace(auto, runtime="tensorrt")))[-1]
    assert fault.level == doctor.FAULT and "hand-pose build-engine --runtime tensorrt" in fault.text
    assert loaded == ["cuda"]
    list(doctor.networks(replace(auto, runtime="onnxruntime")))
    assert loaded == ["cuda", "onnxruntime"]


def test_frames_with_two_parents():
    findings = list(doctor._transforms({"hand_right_1_wrist": {"eye", "map"}, "eye": {"base"}}))
    assert [f.level for f in findings] == [doctor.FAULT, doctor.OK] and "eye, map" in findings[0].text


def told(*arguments):
    """Exit status of the command."""
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    return doctor.main(parser.parse_args(arguments))


def test_the_command_goes_through_all_checks(capsys):
    assert told("--no-networks", "--seconds", "0.2") == 0
    out = capsys.readouterr().out
    assert "no faults" in out and "HandPose21Array" in out
    for piece in ("NVIDIA driver", "torch", "torch on the GPU", "TensorRT", "Torch-TensorRT", "ONNX Runtime",
                  "engine cache"):
        assert re.search(rf"runtime +{piece}: .", out), piece


def test_a_missing_model_is_a_fault_with_a_fix(capsys):
    assert told("--seconds", "0.1", "--pose-model", "no_such", "--detector-model", "no_such") == 1
    assert "no_such" in capsys.readouterr().out


@pytest.mark.parametrize("module, fault, fix, graph", [
    ("rclpy", "rclpy cannot be imported", "source /opt/ros", False),
    ("hand_pose_ros.msg", "our messages are not built", "colcon build", False),
    ("diagnostic_msgs.msg", "needs the Python module 'diagnostic_msgs'", "pip install ros-diagnostic-msgs", False),
    ("safetensors.numpy", "safetensors", f"{sys.executable} -m pip install safetensors", True),
])
def test_what_is_missing_is_one_fault_with_its_command(monkeypatch, capsys, module, fault, fix, graph):
    monkeypatch.setitem(sys.modules, module, None)                      # as if it were not installed
    assert told("--seconds", "0.1", *([] if module.startswith("safetensors") else ["--no-networks"])) == 1
    out = capsys.readouterr().out
    assert "1 fault(s)" in out and "report this as a bug" not in out, out
    line, remedy = re.search(r"FAULT +(.*)\n +fix: (.*)", out).groups()
    assert fault in line and fix in remedy
    assert ("nobody publishes images" in out) == graph
    assert ("cameras and running nodes are not checked" in out) == (module in ("rclpy", "hand_pose_ros.msg"))


def test_a_check_that_breaks_says_so_and_the_others_go_on(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "shared_memory", lambda: iter([1 / 0 for _ in "x"]))
    assert told("--no-networks", "--seconds", "0.1") == 1
    out = capsys.readouterr().out
    assert "a check broke: ZeroDivisionError" in out and "nobody publishes images" in out


def test_the_networks_are_loaded_and_timed():
    findings = list(doctor.networks(config.Config()))
    assert [f.subject for f in findings] == ["model", "model", "runtime", "runtime", "speed"]
    assert all(f.level == doctor.OK for f in findings[:3]) and findings[2].text.startswith("files: ")
    assert findings[0].text.startswith("detector_light ") and findings[1].text.startswith("pose_light ")
    assert float(re.search(r"in 640x480: (\d+) ms", findings[4].text).group(1)) > 0


def test_a_running_node_is_heard():
    info = {"width": 320, "height": 240, "distortion_model": "plumb_bob",
            "k": [300.0, 0.0, 160.0, 0.0, 300.0, 120.0, 0.0, 0.0, 1.0]}
    with Camera(info, picture=standin_node.picture((((110, 150), True),))), \
            NodeProcess("-p", "image_topic:=/eye/image_raw") as process, Rig() as rig:
        rig.until(lambda: rig.hands and rig.hands[-1].hands, START_S, "the first hands")
        findings = list(doctor.ros_graph("/eye/image_raw", 1.0))
        assert process.stop() == 0, process.output()
    said = {finding.subject: finding for finding in findings}
    assert re.search(r"/hand_pose/hands: [\d.]+ Hz, 1 hand\(s\) .*runtime cpu \(stand-in\)",
                     next(f.text for f in findings if f.subject == "node")), findings
    assert re.search(r"\d+ ms from capture to arrival", said["latency"].text)
    assert any(f.level == doctor.OK and "wrists: hand_right_" in f.text for f in findings)
    assert said["tf"].level == doctor.NOTE and "'eye' has no parent" in said["tf"].text and said["tf"].fix
    assert not any("no hand_pose node" in f.text for f in findings)


def test_what_a_node_reports_keeps_its_weight_and_what_is_solved_goes():
    context = Context()
    rclpy.init(context=context)
    node = Node("hand_pose", context=context)
    publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    stop = threading.Event()
    statuses = [("age", DiagnosticStatus.WARN), ("qos", DiagnosticStatus.ERROR), ("summary", DiagnosticStatus.ERROR),
                ("depth", DiagnosticStatus.WARN), ("depth", DiagnosticStatus.OK)]

    def publish():
        while not stop.wait(0.05):
            publisher.publish(DiagnosticArray(status=[DiagnosticStatus(
                name=f"/hand_pose: {name}", level=level, message="words") for name, level in statuses]))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        findings = list(doctor.ros_graph(None, 2.0))
    finally:
        stop.set()
        thread.join()
        node.destroy_node()
        rclpy.shutdown(context=context)
    found = {f.text: f.level for f in findings if "words" in f.text}
    assert found == {"/hand_pose: age: words": doctor.WARN, "/hand_pose: qos: words": doctor.FAULT}


def test_depth_images_are_no_faulty_colour_cameras():
    with Camera(SOUND), Camera(None, encoding="16UC1", topic="/eye/depth/image_rect_raw"):
        findings = list(doctor.ros_graph(None, 1.0))
    assert [finding.level for finding in findings if ": depth, for depth_topic" in finding.text] == [doctor.OK]
    assert not any(finding.level == doctor.FAULT for finding in findings), findings


def test_a_named_camera_that_is_not_there_is_a_fault(monkeypatch):
    monkeypatch.setattr(doctor, "SLOW_DISCOVERY_S", 0.3)
    (finding,) = [one for one in doctor.ros_graph("/nobody/image", 0.1) if one.subject == "camera"]
    assert finding.level == doctor.FAULT and "/nobody/image" in finding.text


def test_a_named_camera_that_only_sends_compressed_is_checked_there():
    class Packed(Camera):
        def publish(self):
            publisher = self.node.create_publisher(CompressedImage, "/eye/image_raw/compressed", 5)
            while not self.stop.wait(0.03):
                header = Image().header
                header.frame_id, header.stamp = self.frame, self.node.get_clock().now().to_msg()
                publisher.publish(images.compressed_message(CompressedImage, header, self.picture))
    with Packed(None):
        found = [one for one in doctor.ros_graph("/eye/image_raw", 1.0) if one.subject == "camera"]
    assert found and all(one.level == doctor.OK and "/eye/image_raw/compressed" in one.text for one in found)
