"""The managed node: configure loads the networks, activate subscribes, every image gives one HandPose21Array.

Two threads. The executor's callbacks only put the newest image into a slot; one worker takes it, decodes, runs the
pipeline and publishes. So there is never a backlog: while the worker is busy, older images are replaced and counted.
"""
from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockChange, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.serialization import deserialize_message
from tf2_msgs.msg import TFMessage

from .. import imaging, messages
from ..errors import FrameError, HandPoseError
from ..types import Frame, Hand, JointState, ScaleSource
from . import compat, diagnostics, images, process, transforms
from .camera_input import Arrival, CameraInput
from .diagnostics import ERROR, Monitor, Punctuality, log_of
from .engine import Engine, load_engine
from .parameters import Parameters
from .publishers import OLDEST_PLAUSIBLE_NS, Latency, Outputs

NODE_NAME = "hand_pose"
WAIT_FOR_IMAGE_S = 0.1
STOP_S = 10.0
"""So long the worker may take for its last image."""
GRAPH_PERIOD_S = 0.25
STANDSTILL = {"unconfigured": "not configured: ros2 lifecycle set NODE configure, or autostart:=true",
              "inactive": "configured, not active: ros2 lifecycle set NODE activate",
              "finalized": "shut down, which is final: start the node anew"}
GPU_FAILURES, ON_CPU = 30, "onnxruntime"
"""After so many images in a row that failed on a GPU this runtime takes over: an error of CUDA stays for good with the
process that had it."""
SAME_LENS = 0.02
"""Share of the focal length by which a calibration may change without tracks starting anew: a lens that focuses."""
DEPTH_USE_S, DEPTH_JOINTS = 1.0, 12
"""A hand with so many joints in sight for so long is one that a depth image should tell of."""
EXPLAINED = ("image", "worker", "stamp", "age")
"""Problems that are the reason why an image gives no result."""
REORDER_NS = 200_000_000
"""An image that is older than the last one by less than this came out of order; by more, and time has jumped back."""


class HandPoseNode(LifecycleNode):
    """Images and CameraInfo in, hands out. load: how the networks are loaded, if not by ``load_engine`` (in tests)."""

    def __init__(self, load: Callable[[Any], Engine] | None = None, **node_options: Any) -> None:
        super().__init__(NODE_NAME, **node_options)
        self._load = load or (lambda values: load_engine(values, self.get_logger().info))
        self._monitor = Monitor(log_of(self))
        self._monitor.standstill(STANDSTILL["unconfigured"])
        self._punctuality = Punctuality(GRAPH_PERIOD_S)
        self._engine: Engine | None = None
        self._runtime = ""                                  # as it stood in the log last
        self._outputs: Outputs | None = None
        self._input: CameraInput | None = None
        self._tf_guard: Any = None
        self._worker: threading.Thread | None = None
        self._stop = threading.Event()
        self._reset = threading.Event()
        self._last_stamp_ns: int | None = None
        self._no_depth_since_s: float | None = None         # hands are seen well, and depth tells of none of them
        self._in_networks = False                           # the worker is in the engine's step
        self._picture: tuple | None = None                  # shape, frame and camera of the last image
        self._parameters_ = Parameters(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)      # also while a paused bag stops the ROS clock
        self._period_s = self._values.diagnostics_period_s
        self._reports = self.create_timer(self._period_s, self._report, clock=self._steady)
        self.create_timer(GRAPH_PERIOD_S, self._look_at_graph, clock=self._steady)
        self._jump = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True),
            post_callback=self._time_jumped)

    @property
    def _values(self) -> Any:
        """The settings as they are now; a frozen value, so that one image sees one set of settings."""
        return self._parameters_.values

    # ------------------------------------------------------------------------------------------------- transitions

    def start(self) -> bool:
        """Configure and activate, unless autostart is false. Returns False if that failed; the log says why."""
        steps = (self.trigger_configure, self.trigger_activate) if self._values.autostart else ()
        return all(step() == TransitionCallbackReturn.SUCCESS for step in steps)

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        """Check the settings and load the networks."""
        return self._guarded("configure", self._configure, super().on_configure, state)

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        """Subscribe and start the worker."""
        done = self._guarded("activate", self._activate, super().on_activate, state)
        if done != TransitionCallbackReturn.SUCCESS:        # an inactive node must not go on listening
            self.stop()
        return done

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """Unsubscribe and stop the worker; the networks stay loaded."""
        return self._guarded("deactivate", self.stop, super().on_deactivate, state)

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        """Unload the networks."""
        return self._guarded("clean up", self._unload, super().on_cleanup, state)

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        """Stop everything, from whatever state."""
        done = self._guarded("shut down", self._unload, super().on_shutdown, state)
        if done == TransitionCallbackReturn.SUCCESS:
            self._monitor.standstill(STANDSTILL["finalized"])
        return done

    def on_error(self, state: Any) -> TransitionCallbackReturn:
        """Back to unconfigured, so that the node can be configured again."""
        return self._guarded("recover", self._unload, super().on_error, state)

    def _guarded(self, what: str, action: Callable[[], None], base: Callable[[Any], TransitionCallbackReturn],
                 state: Any) -> TransitionCallbackReturn:
        """rclpy swallows what transitions raise; here it is said, and a refusal leaves the node in its former state."""
        try:
            action()
            return base(state)
        except HandPoseError as error:
            failure = f"cannot {what}: {error}"
        except Exception as error:
            failure = f"cannot {what}: {type(error).__name__}: {error}"
            self.get_logger().error(traceback.format_exc())
        self._monitor.problem("start", failure, ERROR, standing=True)
        return TransitionCallbackReturn.FAILURE

    def _configure(self) -> None:
        cv2.setNumThreads(1)  # crops are small; on a busy machine, waiting for threads costs more
        started_s = time.monotonic()
        engine = self._load(self._values)
        prefix = self._values.tf_prefix
        self._outputs = Outputs(self, transforms.prefix_of(self.get_namespace()) if prefix == "auto" else prefix)
        self._engine = engine
        self._parameters_.frozen = True
        if self._values.diagnostics_period_s != self._period_s:
            self.destroy_timer(self._reports)
            self._period_s = self._values.diagnostics_period_s
            self._reports = self.create_timer(self._period_s, self._report, clock=self._steady)
        self._monitor.clear("start")
        self._monitor.clear("GPU")
        self._monitor.standstill(STANDSTILL["inactive"])
        self._monitor.fact("model", engine.model)
        self._runtime = engine.runtime
        self.get_logger().info(f"networks loaded in {time.monotonic() - started_s:.1f} s: {engine.model}; runtime "
                               f"{self._runtime}")

    def _activate(self) -> None:
        self._stop.clear()
        self._reset.set()
        self._punctuality.restart()
        self._input = CameraInput(self, self._monitor, lambda: self._values, lambda: self._punctuality.starved)
        if self._values.publish_tf:
            self._tf_guard = self.create_subscription(TFMessage, "/tf", self._on_tf, 100, raw=True,
                                                       event_callbacks=compat.subscription_events())
        worker = threading.Thread(target=self._work, args=(self._input,), name="hand_pose_worker", daemon=True)
        worker.start()
        self._worker = worker
        self._monitor.clear("start")
        self._monitor.standstill("")

    def stop(self) -> None:
        """Stop the worker and unsubscribe; safe in every state. Call before destroy_node."""
        self._stop.set()
        camera_input, self._input = self._input, None
        if camera_input is not None:
            camera_input.destroy()
        if self._worker is not None:
            self._worker.join(STOP_S)
            if self._worker.is_alive():                     # a daemon: it ends with the process
                raise HandPoseError(f"the worker has not ended within {STOP_S:g} s: the networks hang; end the process")
            self._worker = None
        if camera_input is not None:
            camera_input.clear_problems()
            self._monitor.clear("results")
            self._monitor.standstill(STANDSTILL["inactive"])
        if self._tf_guard is not None:
            self.destroy_subscription(self._tf_guard)
            self._tf_guard = None

    def _unload(self) -> None:
        self.stop()
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None
        self._engine = None
        self._parameters_.frozen = False
        self._monitor.standstill(STANDSTILL["unconfigured"])

    # ------------------------------------------------------------------------------------------------- every second

    def _look_at_graph(self) -> None:
        self._punctuality.tick()
        self._monitor.fact("timer late at most [ms]", f"{1e3 * self._punctuality.worst_s():.0f}")
        if self._input is not None:
            self._input.refresh()
            self._look_for_results()

    def _look_for_results(self) -> None:
        """Images without results are a fault of this node, unless something else that is reported explains it."""
        limit_s = self._values.silence_warning_s + self._input.patience_s()
        if self._monitor.unanswered_s() < limit_s or self._monitor.silence_s() > limit_s:
            self._monitor.clear("results")
        elif not any(self._monitor.has(key) for key in EXPLAINED):
            self._monitor.problem("results", f"images arrive, but for {limit_s:g} s none has given a result: the "
                                  "networks take too long, or the worker hangs; see the stage times, choose a faster "
                                  "runtime (hand-pose doctor), and report a bug if it stays", ERROR, standing=True)

    def _report(self) -> None:
        if self._engine is not None:
            runtime = self._engine.runtime
            if runtime != self._runtime:                    # an engine was built while another runtime served
                self.get_logger().info(f"runtime {runtime}")
                self._runtime = runtime
            self._monitor.fact("runtime", runtime)
        self._look_for_twins()
        self._diagnostics.publish(diagnostics.to_message(
            self._monitor.report(), self.get_fully_qualified_name(), "camera", self.get_clock().now().to_msg()))

    def _look_for_twins(self) -> None:
        own = self.get_fully_qualified_name()
        names = [f"{namespace.rstrip('/')}/{name}" for name, namespace in self.get_node_names_and_namespaces()]
        twins = names.count(own)
        self._monitor.state("node name", f"{twins} nodes are called {own}, so their parameters and results mix; start "
                            "one of them in another namespace (--ros-args -r __ns:=/cam_left)" if twins > 1 else "",
                            ERROR)

    def _on_tf(self, raw: bytes) -> None:
        outputs = self._outputs
        # A message may come after the end of its subscription.
        if outputs is None or not outputs.guard.may_concern(raw):
            return
        for transform in deserialize_message(raw, TFMessage).transforms:
            if outputs.guard.foreign(transform.child_frame_id, messages.stamp_ns(transform.header)):
                self._monitor.problem(
                    "tf clash", f"somebody else sends the TF frame '{transform.child_frame_id}' too (parent "
                    f"'{transform.header.frame_id}'), so it jumps between two places; set another tf_prefix or "
                    "namespace, or stop the other sender", ERROR)

    def _time_jumped(self, jump: Any) -> None:
        self._reset.set()
        if self._input is not None:
            self._input.restart()
        switched = jump.clock_change in (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED)
        self._monitor.problem("time", "the node's clock was switched (use_sim_time): tracking starts anew" if switched
                              else "the ROS clock jumped back (a bag that starts again?): tracking starts anew")

    # ------------------------------------------------------------------------------------------------------- worker

    def _work(self, camera_input: CameraInput) -> None:
        failures = 0                                        # in a row
        while not self._stop.is_set():
            arrival, dropped = camera_input.slot.take(WAIT_FOR_IMAGE_S)
            if arrival is None:
                continue
            self._in_networks = False
            try:
                self._process(camera_input, arrival, dropped)
                failures = 0
            except FrameError as error:
                self._monitor.problem("image", str(error))
            except Exception as error:
                if not self.context.ok() or self._stop.is_set():   # after a signal, publishing fails
                    return
                self._monitor.problem("worker", f"{type(error).__name__}: {error}", ERROR)
                self.get_logger().error(traceback.format_exc(), throttle_duration_sec=5.0)
                failures = failures + 1 if self._in_networks else 0
                if failures and failures % GPU_FAILURES == 0 and self._engine.on_gpu:
                    self._serve_on_cpu(error)

    def _serve_on_cpu(self, error: Exception) -> None:
        """Loads the networks anew for the processor; those of the GPU stay where that fails."""
        said = f"the GPU failed for {GPU_FAILURES} images in a row ({type(error).__name__}: {error})"
        try:
            engine = self._load(SimpleNamespace(**{**vars(self._values), "runtime": ON_CPU}))
        except Exception as why:
            self._monitor.problem("GPU", f"{said}, and {ON_CPU} does not take over: {why}", ERROR)
            return
        engine.number_after(self._engine)
        self._engine = engine
        self._monitor.fact("model", engine.model)
        self._monitor.problem("GPU", f"{said}: {ON_CPU} serves from here on, more slowly; start the node anew to try "
                              "the GPU again", ERROR, standing=True)

    def _process(self, camera_input: CameraInput, arrival: Arrival, dropped: int) -> None:
        values, message = self._values, arrival.image
        stamp_ns = self._tracking_stamp(arrival, values)
        if stamp_ns is None:
            return
        rgb = images.decode(message)
        lens = camera_input.lens(message.header.frame_id, rgb.shape[1], rgb.shape[0])
        if self._picture is not None and _is_another(self._picture, (rgb.shape, message.header.frame_id, lens)):
            self._engine.reset()        # tracks are in pixels of another mode or camera, or in metres of another lens
        self._picture = rgb.shape, message.header.frame_id, lens
        depth = self._depth(arrival.depth, rgb.shape[:2], message.header.frame_id)
        marks_s = {"decode": time.monotonic()}
        self._in_networks = True
        result = self._engine.step(Frame(rgb, lens, stamp_ns, depth), values)
        self._in_networks = False
        if depth is not None and values.use_depth and lens.calibrated:
            self._look_at_depth_use(result.raw)
        marks_s.update(result.marks_s)
        latency = Latency(messages.stamp_ns(message.header), arrival.received_ns, arrival.received_s, marks_s)
        self._outputs.publish(message.header, rgb, result, latency, dropped, lens, values, self._engine)
        self._monitor.published(latency.durations_ms(time.monotonic()), dropped)

    def _look_at_depth_use(self, hands: Sequence[Hand]) -> None:
        """Says so if depth images come, but for a while have told of no hand that is seen well enough for it."""
        told = any(hand.scale_source == ScaleSource.DEPTH for hand in hands)
        seen = any(hand.scale_source in (ScaleSource.ASSUMED, ScaleSource.CALIBRATED_HAND)
                   and (hand.state == JointState.VISIBLE).sum() >= DEPTH_JOINTS for hand in hands)
        if told or not seen:
            self._no_depth_since_s = None
            return
        now_s = time.monotonic()
        self._no_depth_since_s = now_s if self._no_depth_since_s is None else self._no_depth_since_s
        if now_s - self._no_depth_since_s > DEPTH_USE_S:
            self._monitor.problem("depth use", "the depth image tells of none of the hands: it has holes there (nearer "
                                  "than the camera measures?), or does not fit them (not registered to colour?); "
                                  "their distances stand on the expected hand length")

    def _tracking_stamp(self, arrival: Arrival, values: Any) -> int | None:
        """The time to track with, or None if this image must not be used."""
        monitor, stamp_ns = self._monitor, messages.stamp_ns(arrival.image.header)
        if self._reset.is_set():
            self._reset.clear()
            self._start_anew()
        stamped = stamp_ns != 0
        if not stamped:
            monitor.problem("stamp", "images carry no time stamp (0): tracking uses the time of arrival, and no TF is "
                            "sent; make the camera driver fill header.stamp")
            stamp_ns = arrival.received_ns
        age_ns = arrival.received_ns - stamp_ns
        if 0 < values.max_image_age_s * 1e9 < age_ns:
            monitor.problem("age", f"images older than max_image_age_s ({values.max_image_age_s:g} s) are skipped; the "
                            "network or the camera driver delays them")
            return None
        last_ns = self._last_stamp_ns
        if stamped and stamp_ns == last_ns:
            monitor.problem("stamp", "an image stamp came twice; the second image is not used. Check the camera "
                            "driver, and that only one publisher sends this topic")
            return None
        if last_ns is not None and stamp_ns < last_ns:
            if last_ns - stamp_ns < REORDER_NS:
                monitor.problem("stamp", "images arrive out of order; the older one is not used. Check the network, "
                                "and that only one publisher sends this topic")
                return None
            monitor.problem("stamp", "image stamps went back (a bag that starts again, or a camera clock that was "
                            "set): tracking starts anew")
            self._start_anew()
        if arrival.received_ns == 0:
            monitor.problem("time", "use_sim_time is true, but nothing comes on /clock: play the bag with --clock 100, "
                            "or set use_sim_time to false for a live camera")
        elif age_ns > OLDEST_PLAUSIBLE_NS:
            monitor.problem("age", "images are older than a minute when they arrive; if this is a recording, play it "
                            "with --clock and set use_sim_time, else set the camera's clock")
        elif age_ns < -REORDER_NS:
            monitor.problem("age", "images come from the future; synchronise the clocks of camera and computer "
                            "(chrony, PTP), or set use_sim_time for a recording")
        self._last_stamp_ns = stamp_ns
        return stamp_ns

    def _start_anew(self) -> None:
        self._engine.reset()
        self._last_stamp_ns = self._no_depth_since_s = None

    def _depth(self, message: Any, shape: Sequence[int], frame_id: str) -> Any:
        if message is None:
            return None
        if message.header.frame_id and frame_id and message.header.frame_id != frame_id:
            self._monitor.problem("depth", f"depth is in the frame '{message.header.frame_id}', the image in "
                                  f"'{frame_id}': another camera's pixels are not used; set depth_topic to the depth "
                                  "that is registered (aligned) to colour")
            return None
        try:
            depth = imaging.decode_depth(message)
        except FrameError as error:
            self._monitor.problem("depth", f"depth is not used: {error}")
            return None
        if depth.shape != tuple(shape):
            self._monitor.problem("depth", f"depth of {depth.shape[1]}x{depth.shape[0]} does not fit the colour image "
                                  f"of {shape[1]}x{shape[0]} and is not used; set depth_topic to the depth that is "
                                  "registered (aligned) to colour")
            return None
        return depth


def _is_another(before: tuple, now: tuple) -> bool:
    """Whether (shape of the image, frame_id, camera) are those of another video mode or camera, or its calibration is
    known anew; what autofocus does to it from image to image is less."""
    (*mode, lens), (*mode_now, lens_now) = before, now
    return mode != mode_now or lens.calibrated != lens_now.calibrated \
        or not np.allclose(lens.K, lens_now.K, rtol=SAME_LENS, atol=SAME_LENS * lens.K[0, 0])


def main(args: Sequence[str] | None = None, load: Callable[[Any], Engine] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM. Returns the exit code: 0, or 1 if it refused to start."""
    return process.run(lambda: HandPoseNode(load), NODE_NAME, args, HandPoseNode.start)


if __name__ == "__main__":
    sys.exit(main())
