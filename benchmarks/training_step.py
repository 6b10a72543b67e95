"""Samples a second of a training step on one CPU core, with and without the folded start of ``training/frozen.py``.

    python3 benchmarks/training_step.py [--settings pose_light] [--size 128] [--steps 8] [--frozen PATTERN ...]

Random pictures and labels, no loading; both in one run, since the ratio is what counts.
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hand_pose_ros.one_blas_thread  # noqa: F401, E402
import torch  # noqa: E402

from hand_pose_ros import networks  # noqa: E402
from hand_pose_ros.training import frozen, settings  # noqa: E402
from hand_pose_ros.training.losses import pose_loss  # noqa: E402


def seconds(chosen: settings.Settings, size: int, steps: int, folded: bool) -> float:
    """Median duration of a step of a pose network."""
    torch.manual_seed(0)
    network = networks.build({"architecture": chosen.architecture, "options": chosen.options})
    network = network.to(memory_format=torch.channels_last)
    # Frozen only after quickening: then the strided layers are quick and nothing is folded.
    for step in (frozen.freeze, frozen.quicken) if folded else (frozen.quicken, frozen.freeze):
        step(network, *((chosen.frozen,) if step is frozen.freeze else (torch.bfloat16,)))
    frozen.train_mode(network)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 1e-4, fused=True)
    count = chosen.batch
    ones, joints = torch.ones(count), torch.ones(count, 21)
    batch = {"image": torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8), "xyz": torch.rand(count, 21, 3),
             "uv": 2 * torch.rand(count, 21, 2) - 1, "visible": joints, "known": joints, "presence": ones,
             "right": ones, "labelled": ones}
    took = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            raw = network.raw(batch["image"])
        loss, _ = pose_loss({name: value.float() for name, value in raw.items()}, batch, 1.0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        took.append(time.perf_counter() - start)
    return sorted(took[2:])[steps // 2]


def main() -> None:
    """Print both rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", default="pose_light")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--frozen", nargs="+", help="instead of what the settings freeze")
    args = parser.parse_args()
    torch.set_num_threads(1)
    chosen = settings.load(ROOT / "config" / "training" / f"{args.settings}.yaml")
    if args.frozen:
        chosen = settings.from_dict({**chosen.as_dict(), "frozen": args.frozen})
    plain, folded = (seconds(chosen, args.size, args.steps, way) for way in (False, True))
    print(f"{chosen.architecture} at {args.size} px, one core: {chosen.batch / plain:.0f} samples a second, with the "
          f"frozen start folded {chosen.batch / folded:.0f} ({plain / folded:.2f} x)")


if __name__ == "__main__":
    main()
