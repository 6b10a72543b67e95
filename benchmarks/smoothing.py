"""Lag against jitter of the One-Euro filter of tracks (``filter_min_cutoff_hz``, ``filter_beta``), by the sample bags.

    python3 benchmarks/smoothing.py [--pose-model pose_light] [--min-cutoff 1] [--derivative-cutoff 1] [--beta 2 5 10]

The networks see each bag once; its raw hands then go through the tracker with each setting. Error: filtered joints
against the bag's truth, mean px over hands that were found; aperture: of thumb and index of the teleoperation's bag, as
a gripper of 80 mm has it. Jitter: metrics.jitter_px, which slow motion does not count in. Lag: of the two hands.
"""
from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hand_pose_ros import bags, messages, pipeline, tracking  # noqa: E402
from hand_pose_ros.config import Config  # noqa: E402
from hand_pose_ros.evaluation import metrics  # noqa: E402
from hand_pose_ros.gripper import TeleopConfig, opening_of  # noqa: E402

BAGS = {name: ROOT / "test" / "data" / f"{name}.mcap" for name in ("virtual_hands", "teleop_hand")}
SAME_HAND_PX = 40.0
GRIPPER_MM = 80.0


def look(path: Path, config: Config) -> list:
    """(stamp in ns, raw hands, true hands) of each image that has truth."""
    networks, state, seen = pipeline.load(config), pipeline.PipelineState(), []
    with bags.BagReader(path) as reader:
        truth = {stamp_ns: messages.read_array(message)[0] for stamp_ns, message in reader.hands().items()}
        for item in reader.frames():
            state, result = networks.step(state, item.frame, config)
            seen.append((item.frame.stamp_ns, result.raw, truth.get(item.frame.stamp_ns, ())))
    return seen


def smoothed(seen: list, config: Config) -> list:
    """The same with the hands as a tracker of these settings sends them."""
    state, out = tracking.TrackerState(), []
    for stamp_ns, raw, true in seen:
        state, hands, _ = tracking.step(state, tuple(replace(hand, track_id=0) for hand in raw), stamp_ns, config)
        out.append((stamp_ns, hands, true))
    return out


def error_px(frames: list) -> float:
    """Mean distance of the joints of hands that are one by their distance."""
    off = [min(np.linalg.norm(hand.joints_px - other.joints_px, axis=-1).mean() for other in true)
           for _, hands, true in frames if true for hand in hands]
    return float(np.mean([value for value in off if value < SAME_HAND_PX]))


def jitter_px(frames: list) -> float:
    """Mean over tracks, by their length."""
    tracks = defaultdict(list)
    for stamp_ns, hands, _ in frames:
        for hand in hands:
            tracks[hand.track_id].append((stamp_ns, hand.joints_px))
    found = [(metrics.jitter_px(np.array([px for _, px in track]), np.array([at for at, _ in track])), len(track))
             for track in tracks.values() if len(track) > 2]
    return float(np.average([value for value, _ in found], weights=[count for _, count in found]))


def aperture_mm(frames: list) -> np.ndarray:
    """Errors of the opening in images with one hand."""
    config = TeleopConfig()
    return np.array([GRIPPER_MM * abs(opening_of(hands[0], config) - opening_of(true[0], config))
                     for _, hands, true in frames if len(hands) == len(true) == 1])


def lag_ms(frames: list) -> float:
    """By how much a hand is behind its true self: the share of the true speed [px/s] that its error holds."""
    behind = speed = 0.0
    for (before_ns, _, before), (_, hands, true), (after_ns, _, after) in zip(frames, frames[1:], frames[2:]):
        for hand in hands if len(before) == len(true) == len(after) else ():
            which = int(np.argmin([np.linalg.norm(hand.joints_px - one.joints_px, axis=-1).mean() for one in true]))
            v = (after[which].joints_px - before[which].joints_px) / (1e-9 * (after_ns - before_ns))
            behind += ((true[which].joints_px - hand.joints_px) * v).sum()
            speed += (v * v).sum()
    return 1e3 * behind / speed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pose-model", default="pose_light")
    parser.add_argument("--min-cutoff", type=float, nargs="+", default=[Config().filter_min_cutoff_hz])
    parser.add_argument("--beta", type=float, nargs="+", default=[1.0, 2.0, 5.0, 10.0, 20.0])
    parser.add_argument("--derivative-cutoff", type=float, default=Config().filter_derivative_cutoff_hz)
    args = parser.parse_args()
    base = Config(pose_model=args.pose_model, runtime="onnxruntime")
    seen = {name: look(path, base) for name, path in BAGS.items()}
    print("| min cutoff | beta | error px, two hands | lag ms | jitter px | aperture mm (p95) | jitter px |\n"
          "|---|---|---|---|---|---|---|")
    for cutoff in args.min_cutoff:
        for beta in args.beta:
            config = replace(base, filter_min_cutoff_hz=cutoff, filter_beta=beta,
                             filter_derivative_cutoff_hz=args.derivative_cutoff)
            two, one = (smoothed(seen[name], config) for name in BAGS)
            off = aperture_mm(one)
            print(f"| {cutoff:g} | {beta:g} | {error_px(two):.2f} | {lag_ms(two):.0f} | {jitter_px(two):.2f} | "
                  f"{off.mean():.1f} ({np.percentile(off, 95):.0f}) | {jitter_px(one):.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
