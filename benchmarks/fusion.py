"""What a second camera brings: error in metres of one camera alone and of the fusion, by the angle between the two.

    python3 benchmarks/fusion.py [--angles 20 45 90] [--motions reach wave rotate pinch] [--seconds 3] [--out FILE]
    python3 benchmarks/fusion.py --angles 45 --seconds 2.4 --from-hands          # where the second camera is: by hands
    python3 benchmarks/fusion.py --angles 45 --motions wave --raw                # not smoothed before they are fused

Virtual hands of different owners (so of different true sizes) are filmed by two cameras that look at one place from two
sides and are not synchronised: the second one's images come half a period later. Each has its own pipeline with the
networks that ship; `hand_pose_ros.fusion` gets what they say. Printed are mean errors over all joints of the hands that
both see: in the frame of the first camera, relative to the wrist, and of the hand length; whether the uncertainty is
right (squared error in units of its own covariance, 1 is right); and how often two views were taken for one hand.
"""
from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hand_pose_ros.one_blas_thread  # noqa: F401, E402
import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

from hand_pose_ros import extrinsics, fusion, models, pipeline  # noqa: E402
from hand_pose_ros.config import Config  # noqa: E402
from hand_pose_ros.frames import rotation_from_vector  # noqa: E402
from hand_pose_ros.synthesis import motions, sequence  # noqa: E402

RATE_HZ = 15.0
PLACE = np.array([0.0, 0.0, 0.65])
"""What both cameras look at, in the first one's frame [m]."""


@dataclass(frozen=True)
class SeenFrom:
    """A motion as a camera at R, t (from that camera to the first) sees it, ``late_s`` later."""

    motion: motions.Motion
    R: np.ndarray
    t: np.ndarray
    late_s: float

    @property
    def duration_s(self) -> float:
        return self.motion.duration_s

    def at(self, time_s: float) -> tuple[motions.MovingHand, ...]:
        """All hands at a time of this camera's images."""
        return tuple(replace(hand, R_camera_hand=self.R.T @ hand.R_camera_hand,
                             t_camera_hand=self.R.T @ (hand.t_camera_hand - self.t))
                     for hand in self.motion.at(time_s + self.late_s))


def film(chain, stage, moving, seconds: float, seed: int, start_ns: int, raw: bool):
    """[(stamp, hands of the pipeline, true hands)] of one camera. raw: hands as measured, not smoothed."""
    config, state, out = Config(runtime="onnxruntime"), pipeline.PipelineState(), []
    for frame, truth in sequence.render_sequence(moving, fps=RATE_HZ, duration_s=seconds, seed=seed, start_ns=start_ns,
                                                 stage=stage):
        state, result = chain.step(state, replace(frame, depth=None), config)
        out.append((frame.stamp_ns, result.raw if raw else result.hands, truth))
    return out


def compare(first, second, pose) -> list[tuple]:
    """One line for each hand that both cameras see: errors of the first camera alone and of the fusion."""
    state, lines = fusion.FusionState(), []
    events = sorted([(stamp, "first", hands, truth) for stamp, hands, truth in first]
                    + [(stamp, "second", hands, truth) for stamp, hands, truth in second], key=lambda event: event[0])
    for stamp, camera, hands, truth in events:
        state = fusion.observe(state, camera, stamp, hands)
        if camera != "first":
            continue
        state, fused = fusion.fuse(state, stamp, {"first": (np.eye(3), np.zeros(3)), "second": pose})
        for true in truth:
            alone = nearest(hands, true)
            if alone is None or "second" not in {name for one in fused for name in one.cameras}:
                continue
            together = next((one for one in fused if alone.joints_px is one.hand.joints_px), None)
            if together is None:
                continue
            error = together.hand.joints_m - true.joints_m
            covariance = together.combination.covariance
            lines.append((
                together.cameras == ("first", "second"), *errors(alone, true), *errors(together.hand, true),
                float(np.einsum("ja,jab,jb->j", error, np.linalg.inv(covariance), error).mean() / 3),
                1e3 * together.combination.disagreement_m))
    return lines


def by_hands(first: dict, second: dict, R, t) -> tuple[tuple, str]:
    """The transform that the hands of all films tell, and how far it is from the true one."""
    pairs = [pair for name in first for pair in extrinsics.pairs(
        *([(stamp, hands) for stamp, hands, _ in films[name]] for films in (first, second)))]
    found = extrinsics.solve(pairs)
    turned = np.degrees(np.arccos(np.clip((np.trace(R.T @ found.R) - 1) / 2, -1, 1)))
    apart = 1e3 * np.linalg.norm((found.R - R) @ R.T @ (PLACE - t) + found.t - t)
    return (found.R, found.t), (f"by hands in {found.pairs} images: off by {turned:.1f} degrees, distance "
                                f"{100 * (np.linalg.norm(found.t) / np.linalg.norm(t) - 1):+.0f} %, {apart:.0f} mm at "
                                "the place that both look at")


def nearest(hands, true):
    """The hand whose pixels fit the true one, None if none does."""
    size = np.ptp(true.joints_px, axis=0).max()
    near = [(np.linalg.norm(hand.joints_px - true.joints_px, axis=-1).mean(), k) for k, hand in enumerate(hands)]
    return hands[min(near)[1]] if near and min(near)[0] < 0.5 * size else None


def errors(hand, true) -> tuple[float, float, float]:
    """Mean error in the camera's frame and relative to the wrist [mm], error of the hand length [%]."""
    return (1e3 * float(np.linalg.norm(hand.joints_m - true.joints_m, axis=-1).mean()),
            1e3 * float(np.linalg.norm(hand.joints_rel_m - true.joints_rel_m, axis=-1).mean()),
            100 * abs(hand.hand_length_m / true.hand_length_m - 1))


def main() -> None:
    """Film, fuse and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--angles", type=float, nargs="+", default=[20.0, 45.0, 90.0], help="degrees")
    parser.add_argument("--motions", nargs="+", default=["reach", "wave", "rotate", "pinch"], choices=motions.MOTIONS)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--raw", action="store_true", help="fuse hands that are not smoothed")
    parser.add_argument("--from-hands", action="store_true",
                        help="fuse with the transform that the hands tell (hand-pose calibrate-cameras)")
    parser.add_argument("--out", help="file for the table as well")
    args = parser.parse_args()
    chain, stage = pipeline.load(Config(runtime="onnxruntime")), sequence.Stage(sequence.DEFAULT_CAMERA)
    rows = ["| angle | pairs | taken for one hand | camera frame, mm: one camera / fused | relative to the wrist, mm | "
            "hand length, % | squared error / own covariance, mean / median | views apart, mm |",
            "|---|---|---|---|---|---|---|---|"]
    work = tqdm(total=(len(args.angles) + 1) * len(args.motions), desc="films", disable=None)
    films = {}
    for number, name in enumerate(args.motions):
        films[name] = motions.make(name, np.random.default_rng([number, 76]))
    first, notes = {}, []
    for number, name in enumerate(args.motions):
        first[name] = film(chain, stage, films[name], args.seconds, number, 10**9, args.raw)
        work.update()
    for angle in args.angles:
        R = rotation_from_vector(np.array([0.0, np.deg2rad(angle), 0.0]))
        t, late_s, second = PLACE - R @ PLACE, 0.5 / RATE_HZ, {}
        for number, name in enumerate(args.motions):
            second[name] = film(chain, stage, SeenFrom(films[name], R, t, late_s), args.seconds, number,
                                10**9 + int(late_s * 1e9), args.raw)
            work.update()
        pose = R, t
        if args.from_hands:
            pose, said = by_hands(first, second, R, t)
            notes.append(f"{angle:g} degrees, {said}.")
        lines = [line for name in args.motions for line in compare(first[name], second[name], pose)]
        if not lines:
            rows.append(f"| {angle:g} deg | 0 | | | | | | |")
            continue
        joined = np.array([line[1:] for line in lines if line[0]])
        cells = [f"{a:.1f} / {b:.1f}" for a, b in zip(joined[:, :3].mean(0), joined[:, 3:6].mean(0))]
        rows.append(f"| {angle:g} deg | {len(lines)} | {100 * len(joined) / len(lines):.0f} % | {' | '.join(cells)} | "
                    f"{joined[:, 6].mean():.1f} / {np.median(joined[:, 6]):.1f} | {np.median(joined[:, 7]):.0f} |")
    work.close()
    weights = ", ".join(f"{name} {models.card(name)['sha256'][:8]}" for name in ("detector_light", "pose_light"))
    text = "\n".join([*rows, "", *notes, f"Weights: {weights}."])
    print(text)
    if args.out:
        Path(args.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
