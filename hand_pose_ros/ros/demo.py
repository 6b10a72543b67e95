"""``hand-pose demo``: the main job on this machine. Three processes over real DDS: a camera, the node, this receiver.

Prints what arrived (hands per second, latency, error against the truth where the source has it, the TF tree) and leaves
an annotated video, a contact sheet and the numbers in the output folder.
"""
from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .. import annotate, imaging, messages
from ..errors import ConfigError, DataError, HandPoseError
from ..resources import folder
from ..types import Hand
from . import environment

SAMPLE_BAG = ("test", "data/virtual_hands.mcap")
START_TIMEOUT_S, DISCOVERY_S = 180.0, 90.0
"""No image by then is an error; a node that has not been heard by then is played to all the same."""
GRACE_S = 2.5
"""After the last image: for its result, and two of the node's reports on /diagnostics."""
QUIET_S = 1.5
"""The node's reports count from so long after the first hands until so long after the last image: before and after it
says, rightly, that no images come."""
STOP_TIMEOUT_S = 8.0
SAME_HAND = 0.5
"""A hand belongs to a true hand if its joints are off by less than this many true box sides on average."""
SHEET_COLUMNS, SHEET_ROWS, SHEET_TILE_AREA = 4, 6, 320 * 240
FOLDER_RATE_HZ = 1.0
"""Pictures that do not belong together are shown one by one."""
JPEG_QUALITY = 90


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``hand-pose demo``."""
    parser.add_argument("--source", default=None, metavar="SOURCE",
                        help="webcam[:N], a video, a folder of pictures, a .mcap file or rosbag2 folder (default: the "
                             "bag of virtual hands that comes with the package)")
    parser.add_argument("--image-topic", metavar="TOPIC", help="camera of a bag that holds several")
    parser.add_argument("--seconds", type=float, default=None,
                        help="stop after this much of the source (default: 20 for a webcam, else all of it)")
    parser.add_argument("--hfov", type=float, default=None, metavar="DEGREES",
                        help="horizontal field of view of a camera without calibration: gives metres and TF, as good "
                             "as it is")
    parser.add_argument("--every-image", action="store_true",
                        help="wait for the result of each image, however slow this machine is (a folder always does)")
    parser.add_argument("--out", default="out/demo",
                        help="folder for video, contact sheet and numbers (default: %(default)s)")
    parser.add_argument("--domain", type=int, default=None, help="ROS_DOMAIN_ID to use (default: one of its own)")
    parser.add_argument("--ros-args", nargs=argparse.REMAINDER, default=[],
                        help="everything after this goes to the node")


def main(args: argparse.Namespace) -> int:
    """Run the demo. Returns 0 if hands arrived, else 1."""
    return demonstrate(args, [sys.executable, "-m", "hand_pose_ros", "run"])


def demonstrate(args: argparse.Namespace, node_command: Sequence[str]) -> int:
    """The demo with any command that starts the node. Returns 0 if hands arrived, else 1."""
    if args.seconds is not None and not args.seconds >= 0:
        raise ConfigError(f"--seconds is {args.seconds:g}; it must not be below 0, which stands for all of the source")
    environment.keep_to_this_machine(os.environ, args.domain if args.domain is not None else 1 + os.getpid() % 100)
    environment.use_large_image_profile()
    from . import sources
    location = args.source or str(folder(SAMPLE_BAG[0]) / SAMPLE_BAG[1])
    source = sources.find(location, args.image_topic)
    seconds = args.seconds if args.seconds is not None else 20.0 if source.kind == "webcam" else 0.0
    out = Path(args.out)
    make_folder(out)

    parameters = {"image_topic": source.image_topic.removesuffix("/compressed"),
                  "silence_warning_s": "10.0"}              # the pictures wait until the node is there
    if source.kind != "bag":
        parameters["camera_info_wait_s"] = "0.0"        # there is none to wait for
    if source.kind == "folder":
        parameters["track_timeout_s"] = "0.0"           # every picture is another scene
    if args.hfov is not None:
        parameters |= {"assumed_hfov_deg": f"{args.hfov:.1f}", "metric_without_calibration": "true"}
    settings = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    print(f"source: {source.kind} {location}, images on {source.image_topic}", flush=True)
    started_s = time.monotonic()
    node = subprocess.Popen([*node_command, "--ros-args", *settings, *args.ros_args])
    camera = ["--image-topic", source.image_topic] if source.kind == "bag" else []
    waits = ["--every-image"] if args.every_image or source.kind == "folder" else []
    players: list[subprocess.Popen] = []

    def play() -> subprocess.Popen:
        players.append(subprocess.Popen([sys.executable, "-m", "hand_pose_ros.ros.player", location,
                                         "--seconds", str(seconds), "--listeners", "2", *camera, *waits]))
        return players[0]

    try:
        record = receive(source, node, play)
    finally:
        for process in (*players, node):
            stop(process)
    record.started_s = started_s
    numbers = summary(record, source)
    if args.every_image and source.kind in ("bag", "video"):     # the pictures waited, their stamps did not
        numbers = {name: value for name, value in numbers.items() if not name.startswith("age ")}
    print(report(numbers, record))
    plain = {name: None if value != value else value for name, value in numbers.items()}     # JSON knows no NaN
    (out / "numbers.json").write_text(json.dumps(plain, indent=1) + "\n")
    for line in write_pictures(record, out, FOLDER_RATE_HZ if source.kind == "folder" else None):
        print(line)
    return 0 if numbers["images with a hand"] else 1


def make_folder(out: Path) -> None:
    """Make the folder of the results. Raises HandPoseError if that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HandPoseError(f"--out {out} cannot be made a folder: {error}") from error


def stop(process: subprocess.Popen | None) -> None:
    """End a child as Ctrl-C would; kill it if it does not listen."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(eq=False)
class Record:
    """What this process received. Times of arrival are seconds of time.monotonic()."""

    started_s: float = 0.0
    images: dict[int, Any] = field(default_factory=dict)            # stamp -> compressed bytes (JPEG or PNG)
    hands: dict[int, tuple[Hand, ...]] = field(default_factory=dict)
    infos: dict[int, messages.ArrayInfo] = field(default_factory=dict)
    truth: dict[int, tuple[Hand, ...]] = field(default_factory=dict)
    arrived_s: list[float] = field(default_factory=list)
    age_ms: list[float] = field(default_factory=list)               # stamp -> this process has the hands
    parents: dict[str, str] = field(default_factory=dict)           # TF child -> parent
    transforms: dict[str, int] = field(default_factory=dict)        # TF child -> count
    problems: dict[str, str] = field(default_factory=dict)          # from /diagnostics


def receive(source: Any, node_process: subprocess.Popen, play: Callable[[], subprocess.Popen]) -> Record:
    """Listen, start the player once the node is heard, and go on until it has ended. Raises HandPoseError if the node
    or the player fails."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import ExternalShutdownException
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from tf2_msgs.msg import TFMessage

    from hand_pose_ros.msg import HandPose21Array

    from . import compat

    record, ended_s = Record(), None
    player: subprocess.Popen | None = None
    node_heard = False
    rclpy.init(args=[])
    node = rclpy.create_node("demo_receiver")

    silence: dict[str, str] = {}                               # a fault only if images come again after it

    def on_image(message: Any) -> None:
        record.problems.update(silence)
        silence.clear()
        record.images[messages.stamp_ns(message.header)] = _kept(message)

    def on_hands(message: Any) -> None:
        stamp_ns = messages.stamp_ns(message.header)
        record.hands[stamp_ns], record.infos[stamp_ns] = messages.read_array(message)
        record.arrived_s.append(time.monotonic())
        record.age_ms.append((node.get_clock().now().nanoseconds - stamp_ns) / 1e6)

    def on_truth(message: Any) -> None:
        record.truth[messages.stamp_ns(message.header)] = messages.read_array(message)[0]

    def on_tf(message: Any) -> None:
        for transform in message.transforms:
            child = transform.child_frame_id
            record.parents[child] = transform.header.frame_id
            record.transforms[child] = record.transforms.get(child, 0) + 1

    def on_diagnostics(message: Any) -> None:
        nonlocal node_heard
        node_heard = True                                      # so it will be heard when it speaks of hands, too
        now_s = time.monotonic()
        if not record.hands or ended_s is not None and now_s - ended_s > QUIET_S:
            return                                             # before and after, there are no images, of course
        begun = now_s - record.arrived_s[0] > QUIET_S
        for status in message.status:
            if not begun and status.name.endswith(": image source"):
                continue
            if int.from_bytes(status.level, "little") and not status.name.endswith(": summary"):
                problems = silence if status.name.endswith(": image source") else record.problems
                problems[status.name] = status.message

    latched = QoSProfile(depth=50, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(source.image_type, source.image_topic, on_image, 20)
    node.create_subscription(HandPose21Array, "/hand_pose/hands", on_hands, 20)
    node.create_subscription(TFMessage, "/tf", on_tf, 100)
    node.create_subscription(TFMessage, "/tf_static", on_tf, latched)
    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
    if source.truth_topic:
        node.create_subscription(HandPose21Array, source.truth_topic, on_truth, 20)
    executor = compat.executor()
    executor.add_node(node)
    begun_s = time.monotonic()
    try:
        while ended_s is None or time.monotonic() - ended_s < GRACE_S:
            executor.spin_once(timeout_sec=0.1)
            if node_process.poll() is not None:
                raise HandPoseError(f"the node ended with exit code {node_process.returncode}; it says why above")
            if player is None and (node_heard or time.monotonic() - begun_s > DISCOVERY_S):
                player, begun_s = play(), time.monotonic()
            if ended_s is None and player is not None and player.poll() is not None:
                ended_s = time.monotonic()
            if not record.images and time.monotonic() - begun_s > START_TIMEOUT_S:
                raise HandPoseError(f"no image after {START_TIMEOUT_S:.0f} s; see the lines above")
    except (KeyboardInterrupt, ExternalShutdownException):
        print("stopped; this is what arrived until then")
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    if player is not None and player.returncode:
        raise HandPoseError("the player failed; it says why above")
    return record


def _kept(message: Any) -> bytes:
    """An image as it is best kept in memory: compressed."""
    if hasattr(message, "format"):
        return bytes(message.data)
    bgr = cv2.cvtColor(np.ascontiguousarray(imaging.decode(message)), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def matched(hands: Sequence[Hand], truth: Sequence[Hand]) -> list[tuple[Hand, Hand]]:
    """(received, true) pairs, nearest first, each hand in one pair at most, not further apart than SAME_HAND."""
    pairs = []
    for hand in hands:
        for true in truth:
            side = float(np.max(true.box[2:] - true.box[:2]))
            distance = float(np.nanmean(np.linalg.norm(hand.joints_px - true.joints_px, axis=1)))
            pairs.append((distance / side, hand, true))
    out: list[tuple[Hand, Hand]] = []
    for distance, hand, true in sorted(pairs, key=lambda pair: pair[0]):
        taken = any(hand is other or true is another for other, another in out)
        if distance < SAME_HAND and not taken:
            out.append((hand, true))
    return out


def summary(record: Record, source: Any) -> dict[str, Any]:
    """Numbers of a record: counts, rates, latencies and, with truth, errors."""
    span_s = max(record.arrived_s[-1] - record.arrived_s[0], 1e-3) if len(record.arrived_s) > 1 else float("nan")
    rate_hz = (len(record.arrived_s) - 1) / span_s
    infos = list(record.infos.values())
    numbers: dict[str, Any] = {
        "images received": len(record.images), "results received": len(record.hands),
        "images dropped for newer ones": sum(info.dropped for info in infos),
        "images with a hand": sum(bool(hands) for hands in record.hands.values()),
        "hands received": sum(map(len, record.hands.values())),
        "results per second": rate_hz,
        "hands per second": rate_hz * sum(map(len, record.hands.values())) / max(len(record.hands), 1),
        "start to first result [s]": record.arrived_s[0] - record.started_s if record.arrived_s else float("nan"),
        "model": infos[-1].model if infos else "", "runtime": infos[-1].runtime if infos else "",
        "detector ran [share]": float(np.mean([info.detector_ran for info in infos])) if infos else float("nan"),
        "age on arrival p50 / p95 / p99 [ms]": _percentiles(record.age_ms),
        "age at publication p50 / p95 / p99 [ms]": _percentiles([info.latency_publish_ns / 1e6 for info in infos
                                                                 if info.latency_publish_ns >= 0]),
    }
    if source.truth_topic:
        numbers |= errors(record)
    return numbers


def errors(record: Record) -> dict[str, Any]:
    """Received hands against the true ones of the same image."""
    stamps = [stamp for stamp in record.hands if stamp in record.truth]
    pairs = [pair for stamp in stamps for pair in matched(record.hands[stamp], record.truth[stamp])]
    true_hands = sum(len(record.truth[stamp]) for stamp in stamps)
    received = sum(len(record.hands[stamp]) for stamp in stamps)

    def mean(values: list[float]) -> float:
        return float(np.nanmean(values)) if values else float("nan")

    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a - b, axis=-1)

    return {
        "true hands in processed images": true_hands, "of these found": len(pairs),
        "hands that are none": received - len(pairs),
        "side right [share]": mean([float(hand.is_right == true.is_right) for hand, true in pairs]),
        "2D error mean [px]": mean([float(np.nanmean(distance(h.joints_px, t.joints_px))) for h, t in pairs]),
        "2D error mean [share of the box]": mean([float(np.nanmean(distance(h.joints_px, t.joints_px))
                                                        / np.max(t.box[2:] - t.box[:2])) for h, t in pairs]),
        "3D error relative to the wrist, mean [mm]": mean([
            1e3 * float(np.nanmean(distance(h.joints_rel_m, t.joints_rel_m))) for h, t in pairs]),
        "3D error in the camera frame, mean [mm]": mean([1e3 * float(np.nanmean(distance(h.joints_m, t.joints_m)))
                                                         for h, t in pairs if np.isfinite(h.joints_m).any()]),
    }


def _percentiles(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.1f}" for value in np.percentile(values, (50, 95, 99))) if len(values) else "unknown"


def report(numbers: dict[str, Any], record: Record) -> str:
    """The numbers, the problems the node reported and the TF tree as text."""
    width = max(map(len, numbers))
    lines = ["", "What another process received:"]
    lines += [f"  {name:<{width}}  {value:.3g}" if isinstance(value, float) else f"  {name:<{width}}  {value}"
              for name, value in numbers.items()]
    lines += ["", "What the node reported:"] + [f"  {name}: {text}" for name, text in sorted(record.problems.items())]
    if not record.problems:
        lines.append("  no problems")
    lines += ["", "TF tree (frames received):", *_tree(record)]
    return "\n".join(lines)


def _tree(record: Record) -> list[str]:
    children: dict[str, list[str]] = {}
    for child, parent in sorted(record.parents.items()):
        children.setdefault(parent, []).append(child)
    if not children:
        return ["  none: no hand was known in metres"]

    def lines(frame: str, depth: int) -> list[str]:
        count = f"  ({record.transforms[frame]})" if frame in record.transforms else ""
        below = [line for child in children.get(frame, ()) for line in lines(child, depth + 1)]
        return [f"{'  ' * (depth + 1)}{frame}{count}", *below]
    return [line for root in sorted(set(children) - set(record.parents)) for line in lines(root, 0)]


def write_pictures(record: Record, out: Path, rate_hz: float | None = None) -> list[str]:
    """Annotated video and contact sheet of the images that have a result. Returns what was written, as lines.

    rate_hz: pictures per second in the video; None: as they were stamped.
    """
    stamps = sorted(stamp for stamp in record.hands if stamp in record.images)
    if not stamps:
        return ["no image with a result: no video"]
    seconds = (stamps[-1] - stamps[0]) / 1e9
    rate_hz = rate_hz or float(np.clip((len(stamps) - 1) / seconds if seconds else 1.0, 1.0, 60.0))
    video = write_video(out / "hands.mp4", [partial(_drawn, record, stamp) for stamp in stamps], rate_hz)
    chosen = [stamps[int(k)] for k in np.linspace(0, len(stamps) - 1, min(len(stamps), SHEET_COLUMNS * SHEET_ROWS))]
    sheet = out / "contact_sheet.png"
    drawn = cv2.cvtColor(contact_sheet([_drawn(record, stamp) for stamp in chosen]), cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(sheet), drawn):
        raise DataError(f"{sheet} cannot be written; is the disk full?")
    return [video, f"contact sheet: {sheet}", f"numbers: {out / 'numbers.json'}"]


def _drawn(record: Record, stamp: int) -> np.ndarray:
    bgr = cv2.imdecode(np.frombuffer(record.images[stamp], np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return annotate.draw(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), record.hands[stamp])


def write_video(path: Path, pictures: Sequence[Callable[[], np.ndarray]], rate_hz: float) -> str:
    """Write RGB pictures with the first codec that this OpenCV can write and read back. Returns a line about it.

    pictures: functions that make one each, so that a long video never is in memory; all are fitted into the size of the
    first. Raises DataError if no codec works.
    """
    height, width = pictures[0]().shape[:2]
    for codec in ("mp4v", "avc1"):
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate_hz, (width, height))
        if not writer.isOpened():
            continue
        for picture in pictures:
            writer.write(cv2.cvtColor(fitted(picture(), width, height), cv2.COLOR_RGB2BGR))
        writer.release()
        if decodable(path) == len(pictures):
            return f"video: {path} ({len(pictures)} pictures, {rate_hz:.1f} Hz, {codec})"
    raise DataError(f"this OpenCV can write neither mp4v nor avc1 to {path}; install opencv-python-headless")


def fitted(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """The RGB picture as large as it goes into (height, width, 3), with its proportions, the rest black."""
    if picture.shape[:2] == (height, width):
        return picture
    scale = min(width / picture.shape[1], height / picture.shape[0])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:height, :width]
    out = np.zeros((height, width, 3), np.uint8)
    y, x = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    out[y:y + small.shape[0], x:x + small.shape[1]] = small
    return out


def decodable(path: Path) -> int:
    """Number of pictures that come out of a video."""
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    return count


def contact_sheet(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """RGB pictures of any size as tiles of one picture; the tiles have the proportions of most of the pictures."""
    aspect = float(np.median([picture.shape[1] / picture.shape[0] for picture in pictures]))
    width, height = (round((SHEET_TILE_AREA * factor)**0.5) for factor in (aspect, 1 / aspect))
    tiles = [fitted(picture, width, height) for picture in pictures]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % SHEET_COLUMNS)
    return np.vstack([np.hstack(tiles[k:k + SHEET_COLUMNS]) for k in range(0, len(tiles), SHEET_COLUMNS)])
