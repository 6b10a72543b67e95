"""Error against latency of the pose network families, all trained by one recipe on equally many pictures; from scratch,
but for the one that ships, whose backbone begins with ImageNet.

    python3 benchmarks/architectures.py --shards SHARDS --out RUNS [--eval FOLDER] [--steps 800]

An interrupted run goes on where it was. Prints a Markdown table and leaves it in RUNS/architectures.md. The latency is
that of one crop in ONNX Runtime on one thread, in milliseconds of this machine and in units of the light network's; the
time to train is this machine's.
"""
from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hand_pose_ros.runtimes import ort  # noqa: E402
from hand_pose_ros.runtimes.base import Options  # noqa: E402
from hand_pose_ros.runtimes.operations import operations  # noqa: E402
from hand_pose_ros.runtimes.source import NetworkSource  # noqa: E402
from hand_pose_ros.training import measure  # noqa: E402
from hand_pose_ros.training.loop import Trainer  # noqa: E402
from hand_pose_ros.training.settings import from_dict, load  # noqa: E402
from hand_pose_ros.training.train import initial_weights  # noqa: E402

FAMILIES = {"pose_light": "light: EfficientNet-Lite0 from ImageNet (ships)",
            "pose_light_scratch": "light: 3x3 blocks", "pose_resnet18": "SimpleBaseline, ResNet-18",
            "pose_resnet50": "SimpleBaseline, ResNet-50", "pose_hrnet_w18": "HRNet-W18"}
RECIPE = {"size": [96, 96], "sizes": [], "batch": 32, "learning_rate": 1.5e-3, "warm_up_steps": 100, "ema": 0.995,
          "likelihood_from": 0.3,
          "augmentation": {"any_roll": 0.1, "roll_deg": 22.0, "wrong_side": 0.2, "strength": 0.75}}


def train(name: str, args) -> Trainer:
    """The family trained to the end of the plan in its own folder below ``--out``."""
    plan = {**load(ROOT / "config" / "training" / f"{name}.yaml").as_dict(), **RECIPE, "steps": args.steps}
    settings = from_dict(plan)
    trainer = Trainer(settings, args.shards, args.out / name, measure_s=1e9, workers=0,
                      photographs=measure.Photographs(args.eval) if args.eval else None,
                      initial=initial_weights(None, settings)[0])
    trainer.resume()
    trainer.run()
    return trainer


def latencies(sources: dict[str, NetworkSource], calls: int = 60) -> dict[str, float]:
    """Median milliseconds of one crop; the networks take turns, so that a busy moment hits all of them."""
    options = Options(threads=1)
    sessions = {name: ort.OnnxRuntime(source, ort.export(source), options, "CPUExecutionProvider", name)
                for name, source in sources.items()}
    times = {name: [] for name in sessions}
    crop = np.random.default_rng(0).integers(0, 256, (1, *RECIPE["size"], 3), np.uint8)
    for k in range(calls + 5):
        for name, session in sessions.items():
            start = time.perf_counter()
            session(crop)
            if k >= 5:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--eval", help="folder with annotations.jsonl, measured but never trained on")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    trained = {name: train(name, args) for name in FAMILIES}
    sources = {name: NetworkSource("pose", name, (*RECIPE["size"], 3), lambda t=t: t.average.eval(), {"weights": name})
               for name, t in trained.items()}
    took = latencies(sources)
    unit = took["pose_light"]
    lines = ["| network | parameters (M) | MACs a crop (M) | pictures | virtual NME % | ge_real NME % | latency, ms | "
             "of the light one's | training |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, t in trained.items():
        result = t.measure()
        real = (result.get("photographs") or {}).get("ge_real", {}).get("nme", float("nan"))
        macs = sum(operation.macs for operation in operations(sources[name]))
        lines.append(f"| {FAMILIES[name]} | {sum(p.numel() for p in t.network.parameters()) / 1e6:.1f} | "
                     f"{macs / 1e6:.0f} | {t.images:,} | {result['virtual']['nme']:.1f} | {real:.1f} | "
                     f"{took[name]:.1f} | {took[name] / unit:.2f} x | {t.seconds / 60:.0f} min |")
    (args.out / "architectures.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
