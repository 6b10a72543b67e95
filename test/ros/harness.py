"""A camera and a listener round a node that runs in another process; every wait has a time limit."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

import standin_node
from hand_pose_ros import messages
from hand_pose_ros.msg import HandPose21Array
from hand_pose_ros.ros import images

STANDIN = [sys.executable, str(Path(__file__).parent / "standin_node.py")]
WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
FRAME = "camera_optical_frame"
RIGHT, LEFT = ((110, 150), True), ((250, 140), False)
START_S, ANSWER_S, AGAIN_S = 60.0, 15.0, 1.5


class NodeProcess:
    """The node as a child process. Output is kept; it ends with the test."""

    def __init__(self, *ros_args: str, command=None, **environment: str) -> None:
        self.log = b""
        self.process = subprocess.Popen(
            [*(command or STANDIN), "--ros-args", "-p", "diagnostics_period_s:=0.1", *ros_args],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **environment})
        os.set_blocking(self.process.stdout.fileno(), False)

    def output(self) -> str:
        """Everything it has printed so far."""
        self.log += self.process.stdout.read() or b""
        return self.log.decode(errors="replace")

    def wait(self, timeout_s: float) -> int:
        """Its exit code; fails the test if it does not end."""
        end_s = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < end_s, f"the node did not end within {timeout_s} s:\n{self.output()}"
            self.output()
            time.sleep(0.02)
        return self.process.returncode

    def stop(self) -> int:
        """Ctrl-C, then its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.wait(30.0)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Rig:
    """A camera and a listener of one node. Topics are those of a node called /hand_pose unless ``node`` says else."""

    def __init__(self, node: str = "/hand_pose", namespace: str = "/", name: str = "rig") -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = Node(name, context=self.context, namespace=namespace)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.base = namespace.rstrip("/")
        self.camera_frame = FRAME
        self.hands, self.raw, self.tf, self.diagnostics = [], [], [], []
        self.publishers = {}
        for kind, topic, kept in ((HandPose21Array, f"{node}/hands", self.hands),
                                  (HandPose21Array, f"{node}/hands_raw", self.raw), (TFMessage, "/tf", self.tf)):
            self.node.create_subscription(kind, topic, kept.append, 100)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.on_diagnostics, 100)
        self.node_name = node

    def on_diagnostics(self, message) -> None:
        own = [status for status in message.status if status.name.startswith(self.node_name + ":")]
        if own:
            self.diagnostics.append({status.name.split(": ", 1)[1]: status for status in own})

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------- sending

    def publisher(self, kind, topic, qos=10):
        if topic not in self.publishers:
            self.publishers[topic] = self.node.create_publisher(kind, topic, qos)
        return self.publishers[topic]

    def now(self):
        return self.node.get_clock().now().to_msg()

    def header(self, stamp=None):
        header = Image().header
        header.stamp, header.frame_id = stamp if stamp is not None else self.now(), self.camera_frame
        return header

    def info(self, **changes):
        """A sound CameraInfo, with changes."""
        info = CameraInfo(header=self.header(), width=WIDTH, height=HEIGHT, distortion_model="plumb_bob",
                          k=[FOCAL, 0.0, WIDTH / 2, 0.0, FOCAL, HEIGHT / 2, 0.0, 0.0, 1.0])
        for name, value in changes.items():
            setattr(info, name, value)
        return info

    def image(self, hands=(RIGHT, LEFT), encoding="rgb8", stamp=None):
        return images.raw_message(Image, self.header(stamp), standin_node.picture(hands, WIDTH, HEIGHT), encoding)

    def compressed(self, hands=(RIGHT, LEFT)):
        return images.compressed_message(CompressedImage, self.header(), standin_node.picture(hands, WIDTH, HEIGHT))

    def send(self, image, info=None):
        """One image with its camera_info (info False: without)."""
        if info is not False:
            self.publisher(CameraInfo, f"{self.base}/camera_info").publish(info or self.info())
        topic = f"{self.base}/image/compressed" if isinstance(image, CompressedImage) else f"{self.base}/image"
        self.publisher(type(image), topic).publish(image)

    # ------------------------------------------------------------------------------------------------------ receiving

    def spin(self, seconds: float) -> None:
        """Not less than a turn each 20 ms of it, so that what has arrived is taken though the machine stood still."""
        end_s, turns = time.monotonic() + seconds, 0
        while time.monotonic() < end_s or turns < 50 * seconds:
            # Always the same time: rclpy then lets those that are ready take turns; else the first is always first.
            self.executor.spin_once(timeout_sec=0.01)
            turns += 1

    def until(self, condition, timeout_s: float = ANSWER_S, what: str = "", action=lambda: None, every_s: float = 0.05):
        """Spin, doing ``action`` every now and then, until condition() is true; returns its value."""
        end_s = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < end_s, \
                f"waited {timeout_s} s in vain for {what or condition}; problems: {self.problems()}"
            action()
            self.spin(every_s)
        return value

    def ready(self, **sending) -> None:
        """Send images until the node answers, then forget what arrived."""
        self.until(lambda: self.hands and self.hands[-1].hands, START_S, "the first hands",
                   lambda: self.send(self.image(), **sending))
        self.forget()

    def forget(self) -> None:
        self.spin(0.1)
        for kept in (self.hands, self.raw, self.tf, self.diagnostics):
            kept.clear()

    def answer(self, image, info=None, timeout_s: float = ANSWER_S):
        """The HandPose21Array with this image's stamp.

        Without an answer the image is sent again: the node subscribes anew once it sees how this camera sends, and an
        image that falls between the two subscriptions reaches neither.
        """
        stamp = messages.stamp_ns(image.header)
        self.send(image, info)
        sent_s = time.monotonic()

        def found():
            return next((m for m in self.hands if messages.stamp_ns(m.header) == stamp), None)

        def again():
            nonlocal sent_s
            if time.monotonic() - sent_s > AGAIN_S:
                self.send(image, info)
                sent_s = time.monotonic()
        return self.until(found, timeout_s, f"an answer to {getattr(image, 'encoding', 'the compressed image')}",
                          again)

    def problems(self) -> dict:
        """Name -> text of what is wrong by the latest report."""
        return {name: status.message for name, status in (self.diagnostics[-1] if self.diagnostics else {}).items()
                if name != "summary" and status.level != DiagnosticStatus.OK}

    def until_problem(self, name: str, text: str, action=lambda: None, timeout_s: float = ANSWER_S) -> str:
        """Wait for a reported problem of this name that holds this text."""
        def found():
            reports = (report[name].message for report in self.diagnostics if name in report)
            return next((message for message in reports if text in message), "")
        return self.until(found, timeout_s, f"problem '{name}' with '{text}'", action)

    def frames(self) -> set:
        """Child frames received on /tf since the last forget()."""
        return {transform.child_frame_id for message in self.tf for transform in message.transforms}
