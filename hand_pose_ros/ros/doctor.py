"""``hand-pose doctor``: what works on this machine and what does not, each fault with its fix.

One function per subject, each returns findings; the ROS part listens for a few seconds to whatever is running.
"""
from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

import numpy as np

from .. import camera, config, imaging, limits, messages, models, resources
from ..errors import ConfigError, FrameError, HandPoseError, ModelError, pip_install
from . import environment
from .diagnostics import WARN as DIAGNOSTIC_WARN
from .diagnostics import Punctuality

OK, NOTE, WARN, FAULT = "ok", "note", "warn", "FAULT"
SHM_NEEDED_BYTES = 256 * 2**20
DISCOVERY_S, SLOW_DISCOVERY_S = 1.5, 10.0
"""How long to wait for publishers to be found, and for a topic that was named."""
BUILT = ("tensorrt", "onnxruntime-int8")
"""Runtimes that need something built on this machine first."""
OLD_STAMP_S = 0.5
PLAUSIBLE_AGE_S = 60.0
TRIES = 5
PACKAGES = {"cv2": "opencv-python-headless", "yaml": "PyYAML"}
"""Python modules whose package on PyPI has another name."""
TICK_S = 0.1
"""Period of the timer that tells whether this check itself gets processor time."""


@dataclass(frozen=True)
class Finding:
    """One line of the report. A fault has a fix; so has a warning, with which the node still runs; a note is worth
    knowing."""

    level: str
    subject: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:>5}  {self.subject:<14} {self.text}" + (f"\n{'':21} fix: {self.fix}" if self.fix else "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``hand-pose doctor``."""
    parser.add_argument("--image", metavar="TOPIC",
                        help="check this image topic only (default: all that are published)")
    parser.add_argument("--camera-info", metavar="TOPIC", default="",
                        help="its camera_info topic, as the node's parameter camera_info_topic (default: beside the "
                             "image topic)")
    parser.add_argument("--sim-time", action="store_true", help="take the time from /clock (bags played with --clock)")
    parser.add_argument("--rectified", action="store_true",
                        help="the images are rectified, as the node's parameter image_is_rectified")
    parser.add_argument("--seconds", type=limits.number(0, 3600), default=4.0,
                        help="how long to listen to ROS (default: %(default)s)")
    parser.add_argument("--no-networks", action="store_true", help="do not load the networks")
    config.add_arguments(parser, ("detector_model", "pose_model", "runtime"))


def main(args: argparse.Namespace) -> int:
    """Print the findings. Returns 1 if there is a fault."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]], set[str]]] = [     # the last: subjects that it needs
        ("versions", versions, set()), ("ROS packages", ros_packages, set()), ("runtimes", runtimes, set()),
        ("shared memory", shared_memory, set())]
    if not args.no_networks:
        checks.append(("networks", lambda: networks(config.from_arguments(args)), set()))
    checks.append(("cameras and running nodes", lambda: ros_graph(args.image, args.seconds, args.camera_info,
                                                                        args.sim_time, args.rectified),
                   {"ros", "messages"}))
    findings: list[Finding] = []
    for what, check, needed in checks:
        for finding in _guarded(what, check, needed & {found.subject for found in findings if found.level == FAULT}):
            print(finding, flush=True)
            findings.append(finding)
    faults, warnings = (sum(found.level == level for found in findings) for level in (FAULT, WARN))
    print((f"{faults} fault(s)" if faults else "no faults") + (f", {warnings} warning(s)" if warnings else ""))
    return 1 if faults else 0


def _guarded(what: str, check: Callable[[], Iterator[Finding]], broken: set[str]) -> Iterator[Finding]:
    """The findings of one check; one line instead if what it needs is known to be broken, or if it breaks itself."""
    if broken:
        yield Finding(NOTE, "doctor", f"{what} are not checked: that needs what is at fault above "
                                      f"({', '.join(sorted(broken))})", "mend that, then check again")
        return
    try:
        yield from check()
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module in ("", "hand_pose_ros"):
            yield _broke(error)
        else:
            yield Finding(FAULT, "python", f"the check of {what} needs the Python module '{module}', which is not "
                                           "installed", _install(module))
    except Exception as error:                          # a doctor that falls ill says so and goes on
        yield _broke(error)


def _broke(error: Exception) -> Finding:
    return Finding(FAULT, "doctor", f"a check broke: {type(error).__name__}: {error}", "report this as a bug")


def _install(module: str) -> str:
    """The command that installs a missing Python module."""
    if module == "rclpy" or module.endswith("_msgs"):
        package = module.replace("_", "-")
        wheel = "ros-kilted-rclpy[fastrtps]" if module == "rclpy" else f"ros-{package}"
        return (f"with a ROS install: source it, or sudo apt install ros-<distro>-{package}; without: {sys.executable} "
                f"-m pip install {wheel}")
    return f"{sys.executable} -m {pip_install(PACKAGES.get(module, module))}"


def version(package: str) -> str:
    """Installed version, '' if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def versions() -> Iterator[Finding]:
    """Python and the libraries that every part needs."""
    yield Finding(OK if sys.version_info >= (3, 10) else FAULT, "python", platform.python_version(),
                  "" if sys.version_info >= (3, 10) else "use Python 3.10 or newer (Humble has 3.10)")
    import cv2
    yield Finding(OK, "numpy", np.__version__)
    if int(cv2.__version__.partition(".")[0]) >= 5:
        yield Finding(NOTE, "opencv", f"{cv2.__version__}: cv_bridge does not work with OpenCV 5 (this package does)",
                      "pip install 'opencv-python-headless<5' if another node needs cv_bridge")
    else:
        yield Finding(OK, "opencv", cv2.__version__)


def ros_packages() -> Iterator[Finding]:
    """ROS itself, our messages, and what a full ROS install has besides."""
    tried = subprocess.run([sys.executable, "-c", "import rclpy"], capture_output=True, text=True)
    if tried.returncode not in (0, 1):                  # the middleware library ends the process that cannot load it
        yield Finding(FAULT, "ros", f"rclpy ends the process: {tried.stderr.strip()[-300:]}",
                      "install the middleware that RMW_IMPLEMENTATION names, or unset it")
        return
    try:
        import rclpy  # noqa: F401
        from rclpy.utilities import get_rmw_implementation_identifier
    except ImportError as error:
        yield Finding(FAULT, "ros", f"rclpy cannot be imported: {error}",
                      "source /opt/ros/<distro>/setup.bash, or pip install this package (it brings the ROS wheels)")
        return
    distribution = os.environ.get("ROS_DISTRO") or f"wheels, rclpy {version('rclpy') or 'unknown'}"
    yield Finding(OK, "ros", f"{distribution}, {get_rmw_implementation_identifier()}, domain "
                             f"{os.environ.get('ROS_DOMAIN_ID', '0')}")
    try:
        from hand_pose_ros.msg import HandPose21Array  # noqa: F401
        yield Finding(OK, "messages", "hand_pose_ros/msg/HandPose21Array")
    except ImportError as error:
        yield Finding(FAULT, "messages", f"our messages are not built: {error}",
                      "colcon build and source install/setup.bash, or pip install .")
    from . import compat
    for name, there in compat.present().items():
        found = "found" if there else "not installed; a stand-in serves"
        yield Finding(OK if there else NOTE, "ros", f"{name} {found}")


def runtimes() -> Iterator[Finding]:
    """Every piece that a rung of the runtime ladder needs. One rung is enough, so a missing piece is no fault; that no
    rung works is said by ``networks``."""
    from ..runtimes.pieces import pieces
    for piece in pieces():
        yield Finding(OK if piece.there else NOTE, "runtime", f"{piece.name}: {piece.said}")


def shared_memory() -> Iterator[Finding]:
    """Images travel through shared memory; containers give it 64 MB by default."""
    if not os.path.isdir("/dev/shm"):
        return
    free = shutil.disk_usage("/dev/shm").free
    if free < SHM_NEEDED_BYTES:
        yield Finding(FAULT, "shared memory", f"{free / 2**20:.0f} MB free in /dev/shm: large images get lost",
                      "start the container with --shm-size=1g (or --ipc=host), or remove stale /dev/shm/fastrtps_*")
    else:
        yield Finding(OK, "shared memory", f"{free / 2**20:.0f} MB free in /dev/shm")
    if not any(name in os.environ for name in environment.PROFILE_VARIABLES):
        yield Finding(NOTE, "shared memory",
                      "no Fast DDS profile is set for this shell; hand-pose run and the launch file set their own",
                      f"for the camera driver: export {environment.profile_variable()}="
                      f"{resources.folder('config') / environment.FASTDDS_PROFILE}")


def networks(settings: Any) -> Iterator[Finding]:
    """Models with their checksums, the rung of the runtime ladder that serves, and its speed."""
    from .. import pipeline
    from ..types import Frame
    for _, name in _models(settings):
        try:
            models.load_weights(name)
            yield Finding(OK, "model", f"{name} {models.card(name)['sha256'][:8]}")
        except HandPoseError as error:
            missing = isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name
            yield Finding(FAULT, "model", str(error), _install(missing.partition(".")[0]) if missing else
                          "reinstall the package (in a clone: git checkout -- models)")
            return
    try:
        serving = without_building(settings)
        loaded = pipeline.load(replace(settings, runtime=serving) if serving else settings)
    except HandPoseError as error:
        yield Finding(FAULT, "runtime", str(error), "set runtime to auto")
        return
    network = loaded.estimate.network
    wait = "tensorrt, built before the first picture, which takes minutes; until then " if serving else ""
    yield Finding(OK, "runtime", f"files: {wait}{network.name}" + (f" ({network.reason})" if network.reason else ""))
    yield node_runtime(settings)
    lens = camera.assumed(640, 480, 60.0)
    times_ms = []
    for number in range(TRIES + 1):
        started_s = time.perf_counter()
        loaded.step(pipeline.PipelineState(), Frame(np.full((480, 640, 3), 90, np.uint8), lens, number + 1), settings)
        times_ms.append((time.perf_counter() - started_s) * 1e3)
    yield Finding(OK, "speed", f"looking for hands in 640x480: {np.median(times_ms[1:]):.0f} ms "
                               f"(first time {times_ms[0]:.0f} ms); hand-pose benchmark measures more")


def _models(settings: Any) -> tuple[tuple[str, str], ...]:
    """Kind and model of each network that these settings stand for here."""
    from ..runtimes import served_pose_model
    return ("detector", settings.detector_model), ("pose", served_pose_model(settings.pose_model, settings.runtime))


def without_building(settings: Any) -> str:
    """The runtime that serves while TensorRT engines are not built, "" if none has to be: a check of a machine must not
    compile for minutes without a word. Raises ModelError, naming the command, if TensorRT is asked for by name."""
    from ..runtimes import Options
    from ..runtimes.base import NotBuilt
    from ..runtimes.ladder import forecast, opener
    from ..runtimes.source import from_model
    for kind, name in _models(settings):
        if settings.runtime == "auto":
            serving, target, _ = forecast(from_model(kind, name), "auto", Options())
            if target == "tensorrt":
                return serving
        elif settings.runtime == "tensorrt":
            try:
                opener("tensorrt")(from_model(kind, name), Options(live=True))
            except NotBuilt as error:
                raise ModelError(f"{error}: hand-pose build-engine --runtime tensorrt") from error
    return ""


def node_runtime(settings: Any, options: Any = None) -> Finding:
    """What a node that starts now runs its networks with: files may have another runtime, since a live camera takes 8
    bits on a CPU and does not wait for an engine to be built. options: runtimes.Options of the node."""
    from ..runtimes import Options
    from ..runtimes.ladder import forecast
    from ..runtimes.source import from_model
    plans = [(name, *forecast(from_model(kind, name), settings.runtime, options or Options()))
             for kind, name in _models(settings)]
    one_plan = len({plan[1:] for plan in plans}) == 1
    texts, to_build = [], False
    for name, serving, target, reason in plans[:1] if one_plan else plans:
        text = "" if one_plan else f"{name}: "
        if target:
            to_build = True
            text += f"{serving} at first; {target} is not in the cache yet: it is built in the background at the " \
                    "first start, and the node changes over to it while it serves"
        else:
            ready = ", ready in the cache" if serving in BUILT else ""
            text += f"{serving}{ready}"
        texts.append(text + (f" ({reason})" if reason else ""))
    return Finding(NOTE if to_build else OK, "runtime", f"a node: {'; '.join(texts)}",
                   "to have it ready: hand-pose build-engine" if to_build else "")


# ------------------------------------------------------------------------------------------------------------ ROS graph

@dataclass(eq=False)
class _Heard:
    """What arrived on one topic."""

    count: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    message: Any = None
    ages_s: list[float] = field(default_factory=list)

    def add(self, message: Any, now_ns: int) -> None:
        self.count += 1
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.message = message
        if hasattr(message, "header"):
            self.ages_s.append((now_ns - messages.stamp_ns(message.header)) * 1e-9)

    @property
    def rate_hz(self) -> float:
        return (self.count - 1) / (self.last_s - self.first_s) if self.count > 1 else 0.0


def ros_graph(wanted_image: str | None, seconds: float, info_topic: str = "", sim_time: bool = False,
              rectified: bool = False) -> Iterator[Finding]:
    """Cameras with their QoS and calibration, a running node, its latency and TF.

    wanted_image: the only image topic to check (None: all). info_topic: where its camera_info is; "": beside the image.
    sim_time: ages are told by /clock. rectified: lenses are judged by P, as the node does with image_is_rectified.
    """
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.clock import Clock, ClockType
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image
    from tf2_msgs.msg import TFMessage

    from hand_pose_ros.msg import HandPose21Array

    from . import process, qos
    from .parameters import check_topic

    try:
        for option, topic in (("--image", wanted_image), ("--camera-info", info_topic)):
            if topic:
                check_topic(option, topic)
    except ConfigError as error:
        yield Finding(FAULT, "camera", str(error), "give the topic as ros2 topic list shows it")
        return
    context = Context()
    try:
        rclpy.init(context=context)
        node = Node("hand_pose_doctor", context=context,
                    parameter_overrides=[Parameter("use_sim_time", value=True)] if sim_time else [])
    except process.ROS_ERRORS as error:
        yield Finding(FAULT, "ros", f"ROS does not start: {error}", process.ROS_REMEDY)
        return
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    punctuality = Punctuality(TICK_S)
    node.create_timer(TICK_S, punctuality.tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def listen(for_s: float) -> None:
        end_s = time.monotonic() + for_s
        while (left_s := end_s - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=left_s)

    heard: dict[str, _Heard] = {}

    def subscribe(kind: Any, topic: str, profile: Any) -> None:
        heard[topic] = _Heard()
        node.create_subscription(
            kind, topic, lambda message: heard[topic].add(message, node.get_clock().now().nanoseconds),
            profile)

    try:
        listen(DISCOVERY_S)
        if wanted_image:
            wanted_image = node.resolve_topic_name(wanted_image)
            end_s = time.monotonic() + SLOW_DISCOVERY_S
            compressed = f"{wanted_image}/compressed"
            while not node.count_publishers(wanted_image) and time.monotonic() < end_s:
                listen(0.1)
                if not node.count_publishers(wanted_image) and node.count_publishers(compressed):
                    wanted_image = compressed           # the node finds it, too
                    break
            listen(0.5)                                 # its camera_info is found about then
        types = {qos.IMAGE_TYPE: Image, qos.COMPRESSED_TYPE: CompressedImage}
        published = {topic: kinds[0] for topic, kinds in node.get_topic_names_and_types()
                     if node.count_publishers(topic)}
        cameras = {topic: kind for topic, kind in published.items() if kind in types
                   and (topic == wanted_image or not wanted_image and not topic.split("/")[-1].startswith("debug_image")
                        and "/debug_image/" not in topic)}
        infos = {topic: node.resolve_topic_name(info_topic) if info_topic else _info_topic(topic) for topic in cameras}
        results = [topic for topic, kind in published.items()
                   if kind == "hand_pose_ros/msg/HandPose21Array" and topic.endswith("/hands")]
        for topic, kind in cameras.items():
            subscribe(types[kind], topic, qos.matching(node.get_publishers_info_by_topic(topic)))
        for topic in sorted(set(infos.values())):
            subscribe(CameraInfo, topic, qos.matching(node.get_publishers_info_by_topic(topic)))
        for topic in results:
            subscribe(HandPose21Array, topic, qos.matching(node.get_publishers_info_by_topic(topic), depth=5))
        frames: dict[str, set[str]] = {}
        reported: dict[str, tuple[int, str]] = {}

        def on_tf(message: Any) -> None:
            for transform in message.transforms:
                frames.setdefault(transform.child_frame_id, set()).add(transform.header.frame_id)

        def on_diagnostics(message: Any) -> None:
            for status in message.status:
                level = int.from_bytes(status.level, "little")
                if ": " not in status.name or status.name.endswith(": summary"):
                    continue
                if level:
                    reported[status.name] = level, status.message
                else:                                   # solved meanwhile
                    reported.pop(status.name, None)

        node.create_subscription(TFMessage, "/tf", on_tf, 100)
        node.create_subscription(TFMessage, "/tf_static", on_tf,
                                 QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
        listen(seconds)
        if any(not topic.count for topic in heard.values()):
            listen(seconds)                             # a slow start is not a fault yet

        if not cameras:
            yield Finding(FAULT if wanted_image else NOTE, "camera", f"nobody publishes {wanted_image or 'images'} in "
                          f"domain {os.environ.get('ROS_DOMAIN_ID', '0')}",
                          "start the camera driver; check that ROS_DOMAIN_ID is the same there (try: hand-pose demo)")
        starved = punctuality.starved
        if starved:
            yield Finding(NOTE, "processor", f"a timer of this check came {punctuality.worst_s():.1f} s late (load "
                          f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores): rates, ages and what is missing below "
                          "may be for want of processor time", "stop other programs (top) and check again")
        for topic in sorted(cameras):
            if starved and not heard[topic].count:
                yield _too_busy("camera", topic)
                continue
            yield from _camera(node, topic, heard[topic], infos[topic], heard[infos[topic]], wanted_image,
                               rectified)
        if not results:
            yield Finding(NOTE, "node", "no hand_pose node is running", "hand-pose run --image <topic>")
        for topic in results:
            if starved and not heard[topic].count:
                yield _too_busy("node", topic)
                continue
            yield from _results(topic, heard[topic])
        for name, (level, text) in sorted(reported.items()):
            if "hand_pose" in name:
                yield Finding(WARN if level == DIAGNOSTIC_WARN else FAULT, "node", f"{name}: {text}", "as it says")
        yield from _transforms(frames)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def _too_busy(subject: str, topic: str) -> Finding:
    return Finding(FAULT, subject, f"{topic}: nothing arrives, but this check had too little processor time to be sure",
                   "stop other programs (top) and check again")


def _info_topic(image_topic: str) -> str:
    base = image_topic[: -len("/compressed")] if image_topic.endswith("/compressed") else image_topic
    return base.rpartition("/")[0] + "/camera_info"


def _camera(node: Any, topic: str, images: _Heard, info_topic: str, infos: _Heard, wanted: str | None,
            rectified: bool = False) -> Iterator[Finding]:
    from . import qos
    offered = "; ".join(f"{qos.endpoint_name(p)} offers {qos.describe(p.qos_profile)}"
                        for p in node.get_publishers_info_by_topic(topic))
    if not images.count:
        yield Finding(FAULT, "camera", f"{topic}: nothing arrives ({offered})",
                      f"check the driver; for large images set {environment.profile_variable()} for it; across "
                      "machines check the firewall and ROS_DOMAIN_ID")
        return
    yield Finding(OK, "camera", f"{topic}: {images.rate_hz:.1f} Hz ({offered})")
    kind = getattr(images.message, "encoding", "") or images.message.format
    if topic != wanted and (kind in ("16UC1", "32FC1") or "compressedDepth" in kind):
        yield Finding(OK, "camera", f"{topic}: depth, for depth_topic if it is registered to the colour image")
        return
    frame_id = images.message.header.frame_id
    try:
        height, width = imaging.decode(images.message).shape[:2]
        yield Finding(OK, "camera", f"{topic}: {width}x{height} "
                                    f"{getattr(images.message, 'encoding', '') or images.message.format}, frame "
                                    f"'{frame_id}'")
    except FrameError as error:
        yield Finding(FAULT, "camera", f"{topic}: {error}", "as it says; or set another encoding in the driver")
        return
    if not frame_id:
        yield Finding(WARN, "frame", f"{topic}: images carry no frame_id, so there is no TF",
                      "set the name of the camera's optical frame in its driver")
    age_s = float(np.median(images.ages_s))
    if messages.stamp_ns(images.message.header) == 0:
        yield Finding(FAULT, "stamps", f"{topic}: images carry no stamp", "make the driver fill header.stamp")
    elif not -OLD_STAMP_S < age_s < OLD_STAMP_S:
        yield Finding(FAULT, "stamps", f"{topic}: images are {age_s:.2f} s old on arrival",
                      "synchronise the clocks (chrony, PTP); for a recording play it with --clock, give the node "
                      "use_sim_time, and this check --sim-time")
    else:
        yield Finding(OK, "stamps", f"{topic}: images are {age_s * 1e3:.0f} ms old on arrival")
    if not infos.count:
        yield Finding(FAULT, "calibration", f"nothing on {info_topic}: no places in metres, no TF",
                      "calibrate (ros2 run camera_calibration cameracalibrator) and give the file to the driver, or "
                      "set camera_info_topic (here: --camera-info)")
        return
    try:
        lens = camera.from_camera_info(infos.message, width, height, rectified)
    except FrameError as error:
        yield Finding(FAULT, "calibration", f"{info_topic}: {error}", "calibrate the camera again at this image size")
        return
    info = infos.message
    if (lens.width, lens.height) != (info.width, info.height) and not camera.has_part(info):
        yield Finding(WARN, "calibration", f"{info_topic} is for {info.width}x{info.height}, the image is "
                      f"{width}x{height}: it is scaled, which is wrong if the driver cuts the image at this size",
                      "calibrate at the size that is used, or set the driver to the calibrated one")
    if info.header.frame_id and info.header.frame_id != frame_id:
        yield Finding(WARN, "calibration", f"{info_topic} names the frame '{info.header.frame_id}', the image "
                      f"'{frame_id}', which is used",
                      "check that this camera_info belongs to the image (camera_info_topic, here: --camera-info), and "
                      "set one frame for both in the driver")
    if camera.seems_rectified(topic, info) and not rectified:
        yield Finding(WARN, "calibration", f"{topic} is rectified by its name, but {info_topic} has a lens distortion, "
                      "which is taken out again", "set image_is_rectified:=true (here: --rectified)")
    fov_deg = 2 * math.degrees(math.atan(0.5 * width / lens.K[0, 0]))
    center_off = float(np.max(np.abs(lens.K[:2, 2] - ((width - 1) / 2, (height - 1) / 2)) / (width, height)))
    text = f"{info_topic}: {lens.distortion_model}, horizontal field of view {fov_deg:.0f} degrees"
    if not 20 < fov_deg < 160 or center_off > 0.2:
        yield Finding(FAULT, "calibration", f"{text}, optical centre {100 * center_off:.0f} % of the image off its "
                      "middle: not plausible",
                      "calibrate again; check that camera_info belongs to this camera and image size")
    else:
        yield Finding(OK, "calibration", text)


def _results(topic: str, hands: _Heard) -> Iterator[Finding]:
    if not hands.count:
        yield Finding(FAULT, "node", f"{topic}: nothing arrives", "does the node get images? See /diagnostics")
        return
    _, info = messages.read_array(hands.message)
    yield Finding(OK, "node", f"{topic}: {hands.rate_hz:.1f} Hz, {len(hands.message.hands)} hand(s) in the last image, "
                              f"runtime {info.runtime}")
    if info.latency_publish_ns >= 0:
        p50, p95 = np.percentile(np.array(hands.ages_s) * 1e3, (50, 95))
        if abs(p50) > PLAUSIBLE_AGE_S * 1e3:
            yield Finding(WARN, "latency", f"{topic}: by the clock of this check the results are {p50 / 1e3:.0f} s old",
                          "of a recording that is played with --clock: give this check --sim-time; else let the "
                          "clocks agree")
            return
        yield Finding(OK, "latency", f"{topic}: {p50:.0f} ms from capture to arrival here (95 %: {p95:.0f} ms)")


def _transforms(frames: dict[str, set[str]]) -> Iterator[Finding]:
    clashes = {child: parents for child, parents in frames.items() if len(parents) > 1}
    for child, parents in sorted(clashes.items()):
        yield Finding(FAULT, "tf", f"'{child}' has {len(parents)} parents ({', '.join(sorted(parents))})",
                      "two nodes send it; rename one of them (for this package: tf_prefix)")
    hands = sorted(child for child in frames if "hand_" in child and child.endswith("_wrist"))
    if hands:
        yield Finding(OK, "tf", f"wrists: {', '.join(hands)}")
        for parent in sorted({next(iter(frames[child])) for child in hands if child not in clashes}):
            if parent not in frames:
                yield Finding(NOTE, "tf", f"the camera frame '{parent}' has no parent, so hands cannot be placed in "
                                          "the robot",
                              f"ros2 run tf2_ros static_transform_publisher ... --child-frame-id {parent}")
