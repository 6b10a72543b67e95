"""Are the sigmas that a pose network and lift.py claim the real ones? On held-out virtual hands whose truth is exact.

    python3 benchmarks/lift_uncertainty.py SHARD... [--model pose_light] [--hands 1000]

Prints, for 2D, the network's shape, and metres along and across the viewing ray: the real error, the claimed sigma, and
their mean squared ratio (1 is honest, above 1 is too sure). The hand length is given, so its own uncertainty is left
out. The last row gives the constant of lift.py that describes a network, ACROSS_SHARE, and whether the errors of the
joints of one hand are as independent as lift.py takes them to be.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from hand_pose_ros import crop as crops  # noqa: E402
from hand_pose_ros import lift as lifting  # noqa: E402
from hand_pose_ros import runtimes  # noqa: E402
from hand_pose_ros.estimate import Estimator  # noqa: E402
from hand_pose_ros.skeleton import joint_centres, hand_length  # noqa: E402
from hand_pose_ros.training.shards import Shard  # noqa: E402
from hand_pose_ros.types import Detection, Frame, ScaleSource  # noqa: E402

JITTER = 0.05
"""Shift of the true box, in its longer sides: what tracking leaves."""


def measure(estimator, size: int, shards: list[str], count: int) -> dict[str, np.ndarray]:
    """Errors and claimed sigmas of the first hand of each picture, stacked over hands."""
    rng, rows = np.random.default_rng(0), []
    for shard in map(Shard, shards):
        for k in range(len(shard)):
            if len(rows) == count:
                break
            hand, camera = shard.label(k)["hands"][0], shard.label(k)["camera"]
            exact = crops.from_joints(hand["joints_px"])
            shift = np.tile(rng.uniform(-1, 1, 2) * JITTER * (exact.box[2:] - exact.box[:2]).max(), 2)
            frame = Frame(shard.image(k), camera, 0)
            crop = crops.take(frame, Detection(exact.box + shift, 1.0, np.nan, exact.up), size, not hand["is_right"])
            pose = estimator([crop])[0]
            length = float(hand_length(hand["joints_m"]))
            truth = joint_centres(hand["joints_m"])
            uv, xyz = map(joint_centres, lifting.label(hand["joints_m"], crop))
            lifted = lifting.lift(crop, pose, camera, length, ScaleSource.CALIBRATED_HAND)
            ray = truth / np.linalg.norm(truth, axis=-1, keepdims=True)
            error = lifted.joints_m - truth
            along = (error * ray).sum(-1)
            from_length = lifting.CALIBRATED_LENGTH_SIGMA * np.linalg.norm(lifted.joints_m, axis=-1)
            rows.append({
                "uv": pose.uv - uv, "uv sigma": pose.uv_sigma, "xyz": pose.xyz - xyz, "xyz sigma": pose.xyz_sigma,
                "along": along, "along sigma": np.sqrt(np.maximum(lifted.sigma_ray_m**2 - from_length**2, 1e-12)),
                "across": np.linalg.norm(error - along[:, None] * ray, axis=-1) / np.sqrt(2),
                "across sigma": lifted.sigma_across_m, "confidence": lifted.confidence,
                "hit": np.linalg.norm(pose.uv - uv, axis=-1) < 0.1 * np.ptp(uv, axis=0).max(),
                "distance": along.mean() / np.linalg.norm(truth[9])})
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def report(r: dict[str, np.ndarray]) -> str:
    """The table as text."""
    metric = np.isfinite(r["along"]).all(-1)
    lines = [f"{len(metric)} hands, {metric.sum()} lifted", f"{'':<16}{'rms error':>10}{'rms sigma':>10}{'ratio^2':>9}"]

    def row(name, error, sigma, scale=1.0):
        ratio = (error**2 / sigma**2)[np.isfinite(error)].mean()
        rms = [scale * np.sqrt(np.nanmean(x**2)) for x in (error, sigma)]
        lines.append(f"{name:<16}{rms[0]:>10.3f}{rms[1]:>10.3f}{ratio:>9.2f}")
    row("uv [px]", r["uv"], np.repeat(r["uv sigma"][..., None], 2, -1))
    joints = np.arange(21) != 0                         # the wrist is the origin
    for axis, name in enumerate("xyz"):
        row(f"{name} [lengths]", r["xyz"][:, joints, axis], r["xyz sigma"][:, joints])
    row("along [mm]", r["along"][metric], r["along sigma"][metric], 1e3)
    row("across [mm]", r["across"][metric], r["across sigma"][metric], 1e3)
    lines.append(f"distance: bias {100 * np.nanmean(r['distance']):.1f} %, standard deviation "
                 f"{100 * np.nanstd(r['distance']):.1f} %, median {100 * np.nanmedian(np.abs(r['distance'])):.1f} %")
    said, hit = r["confidence"].ravel(), r["hit"].ravel()
    for low, high in zip((0, 0.5, 0.8, 0.95, 0.99), (0.5, 0.8, 0.95, 0.99, 1.01)):
        chosen = (said >= low) & (said < high)
        if chosen.any():
            lines.append(f"confidence {low:.2f} to {min(high, 1):.2f}: {chosen.sum()} joints, said "
                         f"{said[chosen].mean():.3f}, true {hit[chosen].mean():.3f}")
    share = np.sqrt((r["xyz"][:, joints, :2]**2).mean() / (r["xyz"][:, joints, 2]**2).mean())
    together = np.nanmean(r["along"][metric], -1)       # what all joints of a hand share
    claimed = r["along sigma"][metric]**2
    lines.append(f"ACROSS_SHARE {share:.2f} (lift.py has {lifting.ACROSS_SHARE}); shared error along the ray "
                 f"{1e3 * together.std():.1f} mm, claimed {1e3 * np.sqrt(claimed.min(-1).mean()):.1f} mm")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--model", default="pose_light")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--hands", type=int, default=1000)
    args = parser.parse_args()
    network = runtimes.load("pose", args.model, args.runtime)
    print(report(measure(Estimator(network), network.source.input_shape[0], args.shards, args.hands)))


if __name__ == "__main__":
    main()
