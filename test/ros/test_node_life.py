"""Starting, stopping, overload, clocks, twins and several cameras: each test has nodes of its own."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
import services
from geometry_msgs.msg import TransformStamped
from harness import ANSWER_S, START_S, STANDIN, NodeProcess, Rig
from lifecycle_msgs.msg import Transition
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from services import Lifecycle
from tf2_msgs.msg import TFMessage

import hand_pose_ros
from hand_pose_ros import messages, resources
from hand_pose_ros.errors import HandPoseError
from hand_pose_ros.ros import node as ros_node
from hand_pose_ros.ros.engine import Engine
from hand_pose_ros.ros.node import HandPoseNode

SUCCESS = TransitionCallbackReturn.SUCCESS
RUN = [sys.executable, "-m", "hand_pose_ros", "run"]


def test_without_autostart_a_lifecycle_manager_is_in_charge():
    with NodeProcess("-p", "autostart:=false") as process, Rig() as rig:
        lifecycle = Lifecycle(rig)
        change, state = lifecycle.change, lifecycle.state

        def summary(text):
            return lambda: any(text in report["summary"].message for report in rig.diagnostics)

        assert state() == "unconfigured"
        rig.until(summary("not configured"), what="a word that nothing runs")
        for _ in range(2):
            assert change(Transition.TRANSITION_CONFIGURE) and state() == "inactive"
            rig.until(summary("not active"), what="a word that nothing runs yet")
            rig.send(rig.image())
            rig.spin(0.3)
            assert not rig.hands
            assert change(Transition.TRANSITION_ACTIVATE) and state() == "active"
            rig.ready()
            rig.until(summary("running"), what="a word that it runs", action=lambda: rig.send(rig.image()))
            assert change(Transition.TRANSITION_DEACTIVATE) and state() == "inactive"
            rig.until(lambda: not rig.node.get_subscriptions_info_by_topic("/image"), what="the end of its listening")
            rig.forget()
            assert change(Transition.TRANSITION_CLEANUP) and state() == "unconfigured"
            rig.until(lambda: not rig.node.count_publishers("/tf"), what="the end of the last sender of /tf")
        assert change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) and state() == "finalized"
        rig.until(summary("start the node anew"), what="a word that this was the end")
        assert process.stop() == 0


def test_a_runtime_that_takes_over_shows_in_the_log_the_diagnostics_and_the_messages(tmp_path):
    built = tmp_path / "built"
    with NodeProcess(FASTER_WHEN_THERE=str(built)) as process, Rig() as rig:
        rig.ready()
        assert messages.read_array(rig.answer(rig.image()))[1].runtime == \
            "onnxruntime (onnxruntime-int8: engine is being built in the background)"
        built.touch()
        rig.until(lambda: rig.hands[-1].runtime == "onnxruntime-int8", START_S, "the change of runtime",
                  lambda: rig.send(rig.image()))
        assert len(rig.hands[-1].hands) == 2
        rig.until(lambda: any({"runtime": "onnxruntime-int8"}.items() <= {value.key: value.value for value in
                                                                          report["summary"].values}.items()
                              for report in rig.diagnostics), what="the runtime in the diagnostics")
        assert process.stop() == 0
        assert "runtime onnxruntime (" in process.output() and "runtime onnxruntime-int8\n" in process.output()


def test_two_nodes_on_one_camera_notice_that_they_send_the_same_frames():
    """Both send the same names, and for the images that both have taken also the same stamps."""
    with NodeProcess("-r", "__node:=one"), NodeProcess("-r", "__node:=two"), Rig("/one") as one, \
            Rig("/two", name="rig_two") as two:
        for rig in (one, two):                              # both are there before the first image: same tracks
            rig.until(lambda: rig.diagnostics, START_S, "the node")
        two.until(lambda: two.hands and two.hands[-1].hands, START_S, "hands of the second",
                  lambda: one.send(one.image()))
        for rig in (one, two):
            said = rig.until_problem("tf clash", "hand_", lambda: one.send(one.image()), START_S)
            assert "tf_prefix" in said


def test_a_node_without_processor_time_does_not_blame_the_camera():
    """The process is stopped for a while, as a scheduler with better things to do would."""
    with NodeProcess("-p", "silence_warning_s:=1.5") as process, Rig() as rig:
        rig.until_problem("image source", "nobody publishes", timeout_s=START_S)
        rig.ready()
        # Also that there is a camera now must have been said: the word "solved" may come after the stop.
        rig.until(lambda: rig.diagnostics and "image source" not in rig.diagnostics[-1],
                  what="a report without a missing camera", action=lambda: rig.send(rig.image()))
        process.process.send_signal(signal.SIGSTOP)
        rig.spin(0.5)                                       # what it said before
        rig.diagnostics.clear()
        time.sleep(2.5)
        process.process.send_signal(signal.SIGCONT)
        rig.until_problem("processor", "too little processor time")
        assert not any("image source" in report for report in rig.diagnostics)
        rig.ready()                                         # and it goes on


def test_the_newest_image_is_taken_and_nothing_waits():
    """A network of 200 ms and a camera of 20 Hz: every result is newer than the last, and none is old."""
    with NodeProcess("-p", "max_hands:=1", command=[*STANDIN, "0.2"]) as process, Rig() as rig:
        rig.ready()
        sent = []
        for _ in range(60):
            image = rig.image()
            sent.append(messages.stamp_ns(image.header))
            rig.send(image)
            rig.spin(1 / 20)
        rig.spin(0.5)
        results = [m for m in rig.hands if messages.stamp_ns(m.header) in sent]
        stamps = [messages.stamp_ns(m.header) for m in results]
        assert stamps == sorted(set(stamps)) and 5 <= len(stamps) < len(sent) / 2
        gaps = [sent.index(b) - sent.index(a) - 1 for a, b in zip(stamps, stamps[1:])]
        dropped = [m.dropped for m in results[1:]]
        # What the middleware's queue of one image replaced on a busy machine, the node cannot count.
        assert all(count <= gap for count, gap in zip(dropped, gaps)) and sum(dropped) > 0.5 * sum(gaps)
        queued_s = [(m.latency_decode - m.latency_receive) * 1e-9 for m in results]
        busy_s = [(m.latency_publish - m.latency_decode) * 1e-9 for m in results]
        assert np.median(queued_s) < 1.5 * np.median(busy_s)  # at most one image's work ahead of it, never a queue
        assert process.stop() == 0


def test_images_without_results_are_this_nodes_fault():
    with NodeProcess("-p", "silence_warning_s:=0.5", command=[*STANDIN, "60.0"]) as process, Rig() as rig:
        assert "none has given a result" in rig.until_problem(
            "results", "images arrive", lambda: rig.send(rig.image()), START_S)
        process.process.kill()


def test_sim_time_and_a_bag_that_starts_again():
    with NodeProcess("-p", "use_sim_time:=true", "-p", "camera_info_wait_s:=0.0") as process, Rig() as rig:
        def tick(seconds):
            clock = Clock()
            clock.clock.sec, clock.clock.nanosec = int(seconds), int(seconds % 1 * 1e9)
            rig.publisher(Clock, "/clock").publish(clock)
            rig.send(rig.image(stamp=clock.clock))
        at = iter(np.arange(100.0, 1000.0, 0.05))
        rig.until(lambda: rig.hands and rig.hands[-1].hands, START_S, "hands in sim time", lambda: tick(next(at)))
        rig.until(lambda: rig.hands and 0 <= rig.hands[-1].latency_publish < 1e9, what="an age in sim time",
                  action=lambda: tick(next(at)))
        before = {hand.track_id for message in rig.hands for hand in message.hands}
        again = iter(np.arange(50.0, 90.0, 0.05))
        rig.until_problem("time", "jumped back", lambda: tick(next(again)))
        rig.until(lambda: rig.hands[-1].hands and rig.hands[-1].header.stamp.sec < 95, what="hands after the jump",
                  action=lambda: tick(next(again)))
        assert not before & {hand.track_id for hand in rig.hands[-1].hands}     # others' names are not used again
        assert process.stop() == 0


def test_a_clock_that_is_switched_is_not_said_to_have_jumped():
    with NodeProcess("-p", "camera_info_wait_s:=0.0") as process, Rig() as rig:
        rig.ready()
        services.call(rig.node, rig.until, SetParameters, "/hand_pose/set_parameters", SetParameters.Request(
            parameters=[Parameter("use_sim_time", value=True).to_parameter_msg()]))
        rig.until_problem("time", "was switched (use_sim_time)")
        assert process.stop() == 0


def test_a_request_that_the_middleware_refuses_does_not_end_the_node():
    """rclpy of Humble and Jazzy lets a lifecycle transition out of turn raise RCLError out of the executor."""
    script = """
import os, signal
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from hand_pose_ros.ros import process
class Asked(Node):
    def __init__(self):
        super().__init__("asked")
        self.count = 0
        self.create_timer(0.05, self.tick)
    def tick(self):
        self.count += 1
        if self.count == 2:
            raise rclpy_implementation.RCLError("no transition matching 1")
        if self.count == 5:
            print("alive", flush=True)
            os.kill(os.getpid(), signal.SIGINT)
    def stop(self):
        pass
raise SystemExit(process.run(Asked, "asked", []))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "alive" in done.stdout and "no transition matching 1" in done.stderr


def test_a_node_whose_worker_hangs_ends_and_says_so():
    script = """
import os, signal
from rclpy.node import Node
from hand_pose_ros.errors import HandPoseError
from hand_pose_ros.ros import process
class Hangs(Node):
    def __init__(self):
        super().__init__("hangs")
        self.create_timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
    def stop(self):
        raise HandPoseError("the networks hang")
raise SystemExit(process.run(Hangs, "hangs", []))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "hangs: the networks hang" in done.stderr and "Traceback" not in done.stderr


def test_transforms_that_come_after_the_shutdown_disturb_nobody():
    """An EventsExecutor still delivers what was queued for a subscription that is gone (Jazzy, Kilted)."""
    context = Context()
    rclpy.init(context=context)
    node = HandPoseNode(lambda values: SimpleNamespace(model="none", runtime="none"), context=context,
                        use_global_arguments=False)
    try:
        late = serialize_message(TFMessage(transforms=[TransformStamped(child_frame_id="hand_right_1_wrist")]))
        for transition in (node.trigger_configure, node.trigger_activate, node.trigger_shutdown):
            assert transition() == SUCCESS
        node._on_tf(late)
    finally:
        node.stop()
        node.destroy_node()
        rclpy.shutdown(context=context)


ENGINE = {"model": "none", "runtime": "none", "on_gpu": False, "reset": lambda: None,
          "number_after": lambda earlier: None}


@pytest.fixture
def inside():
    """Makes a hand pose node in this process, with stand-ins for its networks (``load``, ``step``); its ``spin`` turns
    for some seconds and sends an image each 30 ms if that is asked."""
    context, nodes = Context(), []
    rclpy.init(context=context)

    def make(load=None, step=None, **parameters):
        node = HandPoseNode(load or (lambda values: SimpleNamespace(**ENGINE, step=step)), context=context,
                            use_global_arguments=False,
                            parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()])
        nodes.append(node)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        camera = node.create_publisher(Image, "/image", 1)

        def spin(seconds, images=False):
            end_s, sent_s = time.monotonic() + seconds, 0.0
            while time.monotonic() < end_s:
                if images and time.monotonic() > sent_s + 0.03:
                    sent_s, message = time.monotonic(), Image(height=4, width=4, step=12, encoding="rgb8",
                                                              data=bytes(48))
                    message.header.stamp, message.header.frame_id = node.get_clock().now().to_msg(), "camera"
                    camera.publish(message)
                executor.spin_once(timeout_sec=0.02)

        node.spin = spin
        return node

    yield make
    for node in nodes:
        node.stop()
        node.destroy_node()
    rclpy.shutdown(context=context)


def said(node) -> dict:
    return {status.name: status.summary for status in node._monitor.report() if status.summary != "solved"}


def test_an_activation_that_fails_leaves_nothing_that_listens(inside, monkeypatch):
    """The thread of the worker cannot be started."""
    node = inside()
    assert node.trigger_configure() == SUCCESS
    before = len(list(node.subscriptions))
    with monkeypatch.context() as broken:
        broken.setattr("threading.Thread.start", lambda self: (_ for _ in ()).throw(RuntimeError("no thread left")))
        assert node.trigger_activate() != SUCCESS
    assert len(list(node.subscriptions)) == before and "no thread left" in said(node)["start"]
    assert node.trigger_activate() == SUCCESS and "start" not in said(node)
    assert node.trigger_deactivate() == SUCCESS and len(list(node.subscriptions)) == before


def test_an_input_that_is_refused_halfway_leaves_nothing_that_listens(inside):
    """Images and calibrations on one topic: the middleware takes the first subscription only."""
    node = inside(image_topic="/cam/camera_info")
    assert node.trigger_configure() == SUCCESS
    before = len(list(node.subscriptions))
    assert node.trigger_activate() != SUCCESS and len(list(node.subscriptions)) == before


def test_outputs_that_are_refused_halfway_are_not_made_twice(inside):
    node = inside(**{"qos_overrides./hand_pose/markers.publisher.reliability": "nonsense"})
    before = len(list(node.publishers))
    for _ in range(2):
        assert node.trigger_configure() != SUCCESS
    assert len(list(node.publishers)) == before


def test_a_worker_that_hangs_is_told_of_beside_other_problems_and_can_be_left(inside, monkeypatch):
    hang = threading.Event()
    monkeypatch.setattr(ros_node, "STOP_S", 0.3)
    node = inside(step=lambda *_: hang.wait(60), silence_warning_s=0.5, camera_info_wait_s=0.0)
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    node.spin(3.0, images=True)
    assert {"results", "calibration"} <= said(node).keys()
    with pytest.raises(HandPoseError, match="the networks hang; end the process"):
        node.stop()
    hang.set()


def test_a_gpu_that_fails_for_good_leaves_its_work_to_the_processor(inside):
    """An error of CUDA makes every later call of the process fail; ONNX Runtime needs no CUDA."""
    asked, stepped = [], []

    def load(values):
        asked.append(values.runtime)

        def step(frame, values):
            if len(asked) == 1:
                raise RuntimeError("CUDA error: unspecified launch failure")
            stepped.append(frame)
            return SimpleNamespace(hands=(), raw=(), detector_ran=True, marks={})
        return SimpleNamespace(**{**ENGINE, "on_gpu": len(asked) == 1}, step=step)
    node = inside(load=load, camera_info_wait_s=0.0)
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    end_s = time.monotonic() + 60.0
    while not stepped and time.monotonic() < end_s:
        node.spin(0.2, images=True)
    assert asked == ["auto", "onnxruntime"] and stepped
    node.spin(1.0, images=True)
    assert "unspecified launch failure" in said(node)["GPU"] and "onnxruntime serves" in said(node)["GPU"]
    assert len(asked) == 2, "what fails on the processor, too, is not loaded again and again"


def test_an_engine_knows_whether_a_gpu_runs_it_and_goes_on_with_the_numbers_of_another():
    def engine(*names):
        return Engine(None, "none", [SimpleNamespace(name=name) for name in names])
    assert engine("cuda", "onnxruntime").on_gpu and engine("onnxruntime", "tensorrt").on_gpu
    assert not engine("onnxruntime", "onnxruntime-int8").on_gpu
    before, after = engine("cuda"), engine("onnxruntime")
    before._state = replace(before._state, tracker=replace(before._state.tracker, next_id=7))
    after.number_after(before)
    assert after._state.tracker.next_id == 7


def test_waiting_for_a_calibration_is_no_hang(inside):
    node = inside(step=lambda *_: None, silence_warning_s=0.5, camera_info_wait_s=30.0)
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    node.spin(2.0, images=True)
    assert "results" not in said(node)


def test_a_worker_goes_on_after_an_error_in_a_context_of_its_own(inside):
    calls = []

    def step(*_):
        calls.append(1)
        raise ValueError("once more")

    node = inside(step=step, camera_info_wait_s=0.0)
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    node.spin(1.5, images=True)
    assert len(calls) > 1 and "once more" in said(node)["worker"]


def test_loading_networks_for_a_manager_is_no_want_of_processor_time(inside):
    def load(values):
        time.sleep(1.2)
        return SimpleNamespace(**ENGINE)

    node = inside(load)
    node.spin(0.5)
    node.create_timer(0.01, lambda: node._engine or node.trigger_configure())      # in a callback, as by a service
    while node._engine is None:
        node.spin(0.1)
    node.spin(0.4)
    assert node._punctuality.worst_s() > 0.5                                        # it was late, but
    assert node.trigger_activate() == SUCCESS and node._punctuality.worst_s() < 0.5


def test_sim_time_without_a_clock_names_the_clock():
    with NodeProcess("-p", "use_sim_time:=true", "-p", "camera_info_wait_s:=0.0") as process, Rig() as rig:
        rig.until_problem("time", "--clock", lambda: rig.send(rig.image()), START_S)
        assert not any("future" in text for text in rig.problems().values())
        assert process.stop() == 0


def test_sim_time_without_a_clock_and_stamps_uses_every_image():
    zero = Image().header.stamp
    with NodeProcess("-p", "use_sim_time:=true", "-p", "camera_info_wait_s:=0.0") as process, Rig() as rig:
        rig.until_problem("time", "--clock", lambda: rig.send(rig.image(stamp=zero)), START_S)
        rig.forget()
        rig.until(lambda: len(rig.hands) > 5, what="hands", action=lambda: rig.send(rig.image(stamp=zero)))
        assert not any("twice" in text for text in rig.problems().values())
        assert process.stop() == 0


def test_a_node_that_does_not_listen_any_more_says_nothing_of_the_camera():
    """The worker waits for a camera_info while the node is deactivated."""
    with NodeProcess("-p", "camera_info_wait_s:=5.0") as process, Rig() as rig:
        rig.until(lambda: rig.diagnostics, START_S, "the node")
        for _ in range(10):
            rig.send(rig.image(), False)
            rig.spin(0.05)
        assert Lifecycle(rig).change(Transition.TRANSITION_DEACTIVATE)
        rig.forget()
        rig.until(lambda: len(rig.diagnostics) > 3, what="reports")
        assert "calibration" not in rig.problems(), rig.problems()
        assert process.stop() == 0


def test_two_nodes_of_one_name_and_two_cameras():
    cameras = [("/cam_left", "left_rig"), ("/cam_right", "right_rig")]
    processes = [NodeProcess("-r", f"__ns:={namespace}") for namespace, _ in cameras]
    processes.append(NodeProcess("-r", "__ns:=/cam_left"))
    rigs = [Rig(f"{namespace}/hand_pose", namespace, name) for namespace, name in cameras]
    try:
        for rig in rigs:
            rig.ready()
        said = rigs[0].until_problem("node name", "__ns:=", timeout_s=START_S)
        assert "2 nodes are called /cam_left/hand_pose" in said
        for rig in rigs:
            rig.until(lambda: any(name.startswith(rig.base.strip("/") + "/hand_right_") for name in rig.frames()),
                      what="frames with the camera's prefix", action=lambda: rig.send(rig.image()))
        for process in processes:
            assert process.stop() == 0, process.output()
    finally:
        for rig in rigs:
            rig.close()
        for process in processes:
            process.__exit__()


def test_results_can_be_sent_in_another_quality_and_an_override_of_nothing_is_said():
    """A listener over a bad radio link wants them best effort."""
    name = "qos_overrides./hand_pose/hands.publisher.reliability"
    wrong = "qos_overrides./hand_pos/hands.publisher.depth"
    with NodeProcess("-p", f"{name}:=best_effort", "-p", f"{wrong}:=1") as process, Rig() as rig:
        def offered(topic="hands"):
            return {p.qos_profile.reliability for p in rig.node.get_publishers_info_by_topic(f"/hand_pose/{topic}")}
        rig.until(lambda: f"'{wrong}' changes nothing" in process.output(), START_S, "all publishers")
        assert rig.until(offered, START_S, "the publisher") == {ReliabilityPolicy.BEST_EFFORT}
        assert rig.until(lambda: offered("markers"), START_S, "the markers") == {ReliabilityPolicy.RELIABLE}
        assert f"'{name}'" not in process.output()
        assert process.stop() == 0, process.output()


def test_missing_camera_info_means_2d_until_it_comes():
    with NodeProcess("-p", "camera_info_wait_s:=0.3") as process, Rig() as rig:
        rig.until(lambda: rig.hands and rig.hands[-1].hands, START_S, "2D hands", lambda: rig.send(rig.image(), False))
        assert not rig.hands[-1].metric and not rig.tf
        said = rig.until_problem("calibration", "no camera_info", lambda: rig.send(rig.image(), False))
        assert "/camera_info" in said
        rig.until(lambda: rig.hands[-1].metric, action=lambda: rig.send(rig.image()), what="metres")
        rig.until(lambda: rig.tf, action=lambda: rig.send(rig.image()), what="TF")
        assert process.stop() == 0


def test_guessed_metres_only_if_asked():
    settings = ("-p", "camera_info_wait_s:=0.0", "-p", "metric_without_calibration:=true")
    with NodeProcess(*settings) as process, Rig() as rig:
        rig.until(lambda: rig.tf and rig.hands, START_S, "TF from a guess", lambda: rig.send(rig.image(), False))
        assert not rig.hands[-1].metric
        assert process.stop() == 0


def test_compressed_images_are_found_by_themselves():
    with NodeProcess() as process, Rig() as rig:
        rig.until(lambda: rig.hands and len(rig.hands[-1].hands) == 2, START_S, "hands in JPEG",
                  lambda: rig.send(rig.compressed()))
        broken = rig.compressed()
        broken.data = broken.data[:-200]
        rig.until_problem("image", "JPEG", lambda: rig.send(broken_now(rig, broken)))
        rig.forget()
        rig.until(lambda: rig.hands, action=lambda: rig.send(rig.compressed()), what="hands after a broken JPEG")
        assert process.stop() == 0


def broken_now(rig, message):
    message.header = rig.header()
    return message


@pytest.mark.parametrize("arguments, text", [
    (("-p", "max_hands:=99"), "max_hands"),
    (("-p", "max_hand:=1"), "no parameter 'max_hand'; the nearest is 'max_hands'"),
    (("-p", "assumed_hfov_deg:=60"), "decimal point"),
    (("-p", "image_transport:=pigeon"), "pigeon"),
    (("-p", "image_topic:=my topic"), "image_topic is 'my topic', which is no topic name"),
    (("-p", "tf_prefix:=/left/"), "tf_prefix is '/left/'"),
])
def test_a_bad_parameter_refuses_to_start(arguments, text):
    with NodeProcess(*arguments) as process:
        assert process.wait(START_S) == 1
        assert text in process.output() and "Traceback" not in process.output()


def absent(folder):
    shutil.rmtree(folder)


def truncated(folder):
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def of_another_version(folder):
    file = folder / "card.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 99}))


@pytest.mark.parametrize("damage, text", [(absent, "no model 'detector_light'"), (of_another_version, "version 99"),
                                          (truncated, "not the file that its card describes")])
def test_a_model_that_cannot_be_used_refuses_to_start(tmp_path, damage, text):
    """The package in a tree of its own, with its own models and an empty engine cache."""
    config = resources.folder("config")
    for there in (Path(hand_pose_ros.__file__).parent, config, config.with_name("package.xml")):
        (tmp_path / there.name).symlink_to(there)
    shutil.copytree(resources.folder("models"), tmp_path / "models")
    damage(tmp_path / "models" / "detector_light")      # the first to be loaded
    command = ["sh", "-c", 'cd "$0" && exec "$@"', str(tmp_path), *RUN]       # python -m looks where it is first
    with NodeProcess(command=command, ROS_HOME=str(tmp_path / "home")) as process:
        assert process.wait(START_S + 10) == 1
        assert text in process.output() and "Traceback" not in process.output()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_loading_of_networks_quietly(number, tmp_path):
    begun, script = tmp_path / "begun", tmp_path / "slow_node.py"
    script.write_text(SLOW.format(begun=str(begun)))
    with NodeProcess(command=[sys.executable, str(script)], PYTHONPATH=str(Path(__file__).parent)) as process:
        end_s = time.monotonic() + START_S
        while not begun.exists():
            assert time.monotonic() < end_s, process.output()
            time.sleep(0.02)
        process.process.send_signal(number)
        assert process.wait(ANSWER_S) == 0, process.output()
        assert process.output() == ""


SLOW = """
import sys, time
from pathlib import Path
from standin_node import main

def load(values):
    Path({begun!r}).touch()
    time.sleep(60.0)

sys.exit(main(sys.argv, load=load))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_stops_cleanly_and_stays_deaf_to_a_second_signal(number):
    with NodeProcess() as process, Rig() as rig:
        rig.ready()
        process.process.send_signal(number)
        for _ in range(5):
            time.sleep(0.02)
            if process.process.poll() is None:
                process.process.send_signal(number)
        assert process.wait(ANSWER_S) == 0
        assert "Traceback" not in process.output()


@pytest.mark.parametrize("words, environment", [
    (["-p", "max_hands"], {}), ([], {"ROS_DOMAIN_ID": "abc"}),
    ([], {"HOME": "/proc/nowhere", "ROS_HOME": "/proc/nowhere"})])
def test_what_keeps_ros_from_starting_is_said_without_a_traceback(words, environment):
    done = subprocess.run([*RUN, *(["--ros-args", *words] if words else [])], capture_output=True, text=True,
                          timeout=60, env={**os.environ, **environment})
    assert done.returncode == 1 and "ROS does not start" in done.stderr and "Traceback" not in done.stderr
    assert "ROS_LOG_DIR" in done.stderr
