"""The node under a steady camera: is every result the newest image, how old is it, does memory grow, what costs time.

    python benchmarks/node_latency.py --networks --minutes 10     # the models, the bag of virtual hands, 30 Hz, 640x480
    python benchmarks/node_latency.py                             # an oracle in their place, half a minute
    python benchmarks/node_latency.py --overhead                  # processor time per image of all but the networks

The camera and the receiver are this process, the node is another one; images travel over DDS. After the numbers come
the requirements, each PASS or FAIL; the exit code is 1 if one fails. Only --overhead, which counts processor time, says
something on a busy machine.
"""
from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "ros")]

import rclpy  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from hand_pose_ros import bags, messages, models, runtimes  # noqa: E402
from hand_pose_ros.msg import HandPose21Array  # noqa: E402
from hand_pose_ros.resources import folder  # noqa: E402
from hand_pose_ros.ros import compat, demo, environment, images, sources  # noqa: E402

CHECKS = "requirements"
STAGES = ("receive", "decode", "detect", "pose", "lift", "publish")
MEMORY_PERIOD_S = 5.0
SETTLE_S, WARM_UP = 5.0, 30
MEMORY_MIN_MINUTES = 3.0
"""A shorter run says nothing about memory: caches and the allocator's pools still fill."""
GROWTH_MB_PER_MIN = 0.5
"""At 30 Hz this is 0.3 kB per image, a tenth of one published hand: more is a leak."""
OVERHEAD_MS = 5.0
BOUND = 0.999
"""Share of the results that must keep a bound: now and then any process waits for the processor."""
TRANSPORT_S = 0.005
"""An image sent less than this before the node took its next one may still have been on its way."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", action="store_true", help="run the models instead of the oracle")
    parser.add_argument("--overhead", action="store_true",
                        help="time one image after the other inside this process, in processor time of the working "
                             "thread")
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--rate", type=float, default=30.0, help="images per second")
    parser.add_argument("--size", default="640x480", help="of the drawn images (oracle only)")
    parser.add_argument("--compressed", action="store_true", help="send JPEG instead of raw images (oracle only)")
    parser.add_argument("--delay", type=float, default=0.0,
                        help="seconds that the oracle sleeps as if it were a network")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    return parser.parse_args()


def drawn_stream(args: argparse.Namespace) -> list:
    """Two moving hands as the oracle sees them, with their camera_info."""
    import standin_node
    width, height = (int(side) for side in args.size.split("x"))
    info = CameraInfo(width=width, height=height, distortion_model="plumb_bob",
                      k=[0.9 * width, 0.0, width / 2, 0.0, 0.9 * width, height / 2, 0.0, 0.0, 1.0])
    out = []
    for k in range(30):
        swing = int(0.1 * width * np.sin(2 * np.pi * k / 30))
        hands = [((width // 3 + swing, height // 2), True), ((2 * width // 3, height // 2 + swing // 2), False)]
        rgb = standin_node.picture(hands, width, height)
        if args.compressed:
            message = images.compressed_message(CompressedImage, Image().header, rgb)
        else:
            message = images.raw_message(Image, Image().header, rgb)
        message.header.frame_id = "camera"
        out.append((info, message))
    return out


def recorded_stream() -> list:
    """The images of the bag of virtual hands, with their camera_info."""
    source = sources.find(str(folder(demo.SAMPLE_BAG[0]) / demo.SAMPLE_BAG[1]))
    out, info = [], None
    for item in sources.items(source):
        if isinstance(item.message, CameraInfo):
            info = item.message
        elif item.is_image:
            out.append((info, item.message))
    return out


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def processor_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(args: argparse.Namespace) -> dict:
    stream = recorded_stream() if args.networks else drawn_stream(args)
    environment.use_large_image_profile()
    environment.keep_to_this_machine(os.environ, 1 + os.getpid() % 100)
    command = [sys.executable, "-m", "hand_pose_ros", "run"] if args.networks else \
        [sys.executable, str(ROOT / "test" / "ros" / "standin_node.py"), str(args.delay)]
    process = subprocess.Popen([*command, "--ros-args", "-p", "image_topic:=/camera/image"], cwd=ROOT)
    rclpy.init()
    node = rclpy.create_node("benchmark_camera")
    topic = "/camera/image/compressed" if isinstance(stream[0][1], CompressedImage) else "/camera/image"
    camera = node.create_publisher(type(stream[0][1]), topic, 5)
    calibration = node.create_publisher(CameraInfo, "/camera/camera_info", 5)
    results, memory, sent = {}, [], []
    node.create_subscription(HandPose21Array, "/hand_pose/hands",
                             lambda m: results.__setitem__(messages.stamp_ns(m.header), messages.read_array(m)), 50)
    executor = compat.executor()
    executor.add_node(node)

    def spin_until(instant_s: float) -> None:
        while (left_s := instant_s - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=left_s)

    def send(number: int) -> int:
        info, image = stream[number % len(stream)]
        now_ns = node.get_clock().now().nanoseconds
        for message in (info, image):
            bags.stamp_header(message.header, now_ns, image.header.frame_id)
        calibration.publish(info)
        camera.publish(image)
        return now_ns

    try:
        number = 0
        while not results:                               # the networks load
            if process.poll() is not None:
                raise SystemExit("the node ended; it says why above")
            send(number)
            number += 1
            spin_until(time.monotonic() + 1 / args.rate)
        spin_until(time.monotonic() + SETTLE_S)
        results.clear()
        started_s, used_s = time.monotonic(), processor_s(process.pid)
        while time.monotonic() - started_s < args.minutes * 60:
            sent.append(send(number))
            number += 1
            spin_until(started_s + len(sent) / args.rate)
            if time.monotonic() - started_s > len(memory) * MEMORY_PERIOD_S:
                memory.append((time.monotonic() - started_s, resident_mb(process.pid)))
        used_s = processor_s(process.pid) - used_s
        spin_until(time.monotonic() + 1.0)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        node.destroy_node()
        rclpy.try_shutdown()
    return numbers(args, sent, results, memory, used_s)


def overhead(args: argparse.Namespace, images_timed: int = 300) -> dict:
    """Processor time per image from the message to the published results, without the oracle's own time.

    Everything that can be sent is listened to, markers and debug images apart; crops are of the shipped network's size.
    """
    import standin_node
    from hand_pose_ros.ros.camera_input import Arrival
    from hand_pose_ros.ros.node import HandPoseNode

    environment.keep_to_this_machine(os.environ, 1 + os.getpid() % 100)
    rclpy.init(args=["--ros-args", "-p", "autostart:=false"])
    engine = standin_node.SquareEngine(size=models.card(runtimes.pose_model(runtimes.AUTO, runtimes.AUTO))["input"][0])
    node, listener = HandPoseNode(lambda values: engine), rclpy.create_node("benchmark_listener")
    for kind, topic in ((HandPose21Array, "/hand_pose/hands"), (HandPose21Array, "/hand_pose/hands_raw"),
                        (TFMessage, "/tf")):
        listener.create_subscription(kind, topic, lambda message: None, 5)
    node.trigger_configure()
    node.trigger_activate()
    times_ms, hands, stream = [], [], drawn_stream(args)
    publish = node._outputs.publish

    def counted(header, rgb, result, *rest):
        hands.append(len(result.hands))
        publish(header, rgb, result, *rest)
    node._outputs.publish = counted
    for number in range(WARM_UP + images_timed):
        info, image = stream[number % len(stream)]
        now_ns = node.get_clock().now().nanoseconds
        for message in (info, image):
            bags.stamp_header(message.header, now_ns, image.header.frame_id)
        node._input._on_camera_info(info)
        engine.oracle_s, started_s = 0.0, time.thread_time()
        node._process(node._input, Arrival(image, None, now_ns, time.monotonic()), 0)
        times_ms.append((time.thread_time() - started_s - engine.oracle_s) * 1e3)
        time.sleep(0.002)
    node.stop()
    node.destroy_node()
    listener.destroy_node()
    rclpy.try_shutdown()
    times = np.array(times_ms[WARM_UP:])
    return {
        "images": f"{args.size} {'JPEG' if args.compressed else 'rgb8'}, {np.mean(hands[WARM_UP:]):.2f} hands",
        "processor time per image without networks, p50 / p95 / p99 / max [ms]": percentiles(times),
        CHECKS: {f"median below {OVERHEAD_MS:g} ms": bool(np.median(times) < OVERHEAD_MS),
                 "two hands in every image": set(hands[WARM_UP:]) == {2}}}


def numbers(args: argparse.Namespace, sent: list, results: dict, memory: list, used_s: float) -> dict:
    stamps = sorted(stamp for stamp in results if stamp in set(sent))
    infos = [results[stamp][1] for stamp in stamps]
    ms = {stage: np.array([getattr(info, f"latency_{stage}_ns") for info in infos]) / 1e6 for stage in STAGES}
    stage_ms = {f"{a} -> {b}": ms[b] - ms[a] for a, b in zip(STAGES, STAGES[1:])}
    sent_ns = np.array(sent)
    not_newest = 0
    for before, after in zip(stamps, stamps[1:]):
        # From here on it could take the next image.
        free_ns = before + results[before][1].latency_publish_ns - TRANSPORT_S * 1e9
        not_newest += bool(((sent_ns > after) & (sent_ns <= free_ns)).any())
    work_ms = float(np.median(ms["publish"] - ms["receive"]))
    frame_ms = max(1e3 / args.rate, work_ms)
    young = float(np.mean(ms["publish"] <= 2 * frame_ms))
    out = {
        "images sent": len(sent), "results": len(stamps),
        "dropped for newer ones": int(sum(info.dropped for info in infos)),
        "hands per result": float(np.mean([len(results[stamp][0]) for stamp in stamps])),
        "results that were not the newest image": not_newest,
        "age at publication p50 / p95 / p99 / max [ms]": percentiles(ms["publish"]),
        "frame time [ms]": frame_ms,
        "share of results younger than two frame times": young,
        **{f"{name} p50 / p95 / p99 / max [ms]": percentiles(values) for name, values in stage_ms.items()},
        "overhead without detector and pose stage, p50 [ms]": float(np.median(
            stage_ms["receive -> decode"] + stage_ms["pose -> lift"] + stage_ms["lift -> publish"])),
        "processor time of the node per image sent, networks or oracle included [ms]": used_s / len(sent) * 1e3,
    }
    checks = {f"{100 * BOUND:g} % of the results are younger than two frame times": young >= BOUND,
              f"{100 * BOUND:g} % of the results are of the newest image": not_newest <= (1 - BOUND) * len(stamps),
              "nine in ten images give a result or are counted as dropped":
                  len(stamps) + out["dropped for newer ones"] >= 0.9 * len(sent)}
    if args.minutes >= MEMORY_MIN_MINUTES:
        times_min, resident = np.array([t for t, _ in memory]) / 60, np.array([mb for _, mb in memory])
        later = times_min >= times_min[-1] / 4
        growth = float(np.polyfit(times_min[later], resident[later], 1)[0])
        out["resident memory first / last / max [MB]"] = \
            f"{resident[0]:.1f} / {resident[-1]:.1f} / {resident.max():.1f}"
        out["memory growth after the first quarter [MB per minute]"] = growth
        checks[f"memory grows by less than {GROWTH_MB_PER_MIN:g} MB per minute"] = growth < GROWTH_MB_PER_MIN
    else:
        checks[f"memory (needs --minutes {MEMORY_MIN_MINUTES:g} or more)"] = None
    return {**out, CHECKS: checks}


def percentiles(values: np.ndarray) -> str:
    return " / ".join(f"{value:.1f}" for value in (*np.percentile(values, (50, 95, 99)), values.max()))


def main() -> int:
    options = arguments()
    measured = overhead(options) if options.overhead else measure(options)
    width = max(map(len, measured))
    for name, value in measured.items():
        if name != CHECKS:
            print(f"{name:<{width}}  {value:.3f}" if isinstance(value, float) else f"{name:<{width}}  {value}")
    print()
    for name, passed in measured[CHECKS].items():
        print(f"{'not judged' if passed is None else 'PASS' if passed else 'FAIL':<10}  {name}")
    if options.out:
        options.out.write_text(json.dumps(measured, indent=1) + "\n")
    return int(any(passed is False for passed in measured[CHECKS].values()))


if __name__ == "__main__":
    sys.exit(main())
