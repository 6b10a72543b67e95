"""Error against pictures seen, from the cards of the models that ship: fills docs/training.md and draws its plot.
Beside it the curve of the network that shipped before, which started from scratch (curve_from_scratch.json).

    python3 benchmarks/training_curve.py [--architectures RUNS/architectures.md]
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from readme_tables import between  # noqa: E402

from hand_pose_ros import models  # noqa: E402
from hand_pose_ros.runtimes import POSE_ACCURATE  # noqa: E402
from hand_pose_ros.runtimes.build import DETECTOR  # noqa: E402

PAGE = ROOT / "docs" / "training.md"
PLOT = ROOT / "docs" / "images" / "training_curve.png"
SETS = ("virtual", "ge_real", "hagrid", "sign_digits")
SCRATCH = Path(__file__).with_name("curve_from_scratch.json")


def series(curve: list[dict], name: str) -> tuple[np.ndarray, np.ndarray]:
    """(images, value) of the points at which ``name`` was measured."""
    value = [(p["images"], p["virtual"] if name == "virtual" else p.get("photographs", {}).get(name)) for p in curve]
    return tuple(np.array(column, float) for column in zip(*[v for v in value if v[1] is not None]))


def from_scratch() -> list[dict]:
    """The curve of the light network without ImageNet, as in a card."""
    return json.loads(SCRATCH.read_text())["curve"]


def plot(pose: list[dict], detector: list[dict]) -> None:
    """Both networks' curves into PLOT."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for name in SETS:
        axes[0].loglog(*series(pose, name), marker=".", label=name)
        if name == "virtual" or any(name in p.get("photographs", {}) for p in detector):
            axes[1].semilogx(*series(detector, name), marker=".", label=name)
    axes[0].loglog(*series(from_scratch(), "ge_real"), linestyle=":", color="grey", label="ge_real, from scratch")
    axes[0].set(title="pose network: NME (%), box given", xlabel="pictures seen")
    axes[0].set_yticks([4, 6, 8, 10, 15, 20], labels=["4", "6", "8", "10", "15", "20"])
    axes[0].minorticks_off()
    axes[1].set(title="detector alone: recall (%) at score 0.5", xlabel="pictures seen")
    axes[1].set_xticks([3e4, 1e5, 3e5, 6e5], labels=["30,000", "100,000", "300,000", "600,000"])
    axes[1].minorticks_off()
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(PLOT, dpi=80)


def table(curve: list[dict], rows: int = 8) -> str:
    """Markdown of the pose network's curve at about ``rows`` points, spaced by ratio."""
    images, _ = series(curve, "ge_real")
    wanted = np.geomspace(images[0], images[-1], rows)
    chosen = sorted({int(np.abs(np.log(images / w)).argmin()) for w in wanted})
    points = [p for p in curve if "ge_real" in p.get("photographs", {})]
    seen, error = series(from_scratch(), "ge_real")
    lines = ["| pictures seen | virtual | ge_real | hagrid | sign_digits | ge_real, from scratch |",
             "|---|---|---|---|---|---|"]
    for k in chosen:
        real = points[k]["photographs"]
        lines.append(f"| {points[k]['images']:,} | {points[k]['virtual']} | " +
                     " | ".join(str(real.get(name, "–")) for name in SETS[1:]) +
                     f" | {np.exp(np.interp(np.log(points[k]['images']), np.log(seen), np.log(error))):.1f} |")
    return "\n".join(lines) + "\n"


def by_size(detector: dict) -> str:
    """Markdown of the detector's own errors by hand size, from its card."""
    size = "{1}x{0}".format(*detector["input"])
    lines = [f"| longer side of the hand, pixels of the {size} input | hands | found, % | mean IoU of those, % |",
             "|---|---|---|---|"]
    for name, row in detector["accuracy"]["virtual"]["by_size"].items():
        limits = name.replace("0 to", "below", 1) if name.startswith("0 to") else name.replace(" to inf", " and more")
        lines.append(f"| {limits} | {row['hands']} | {row['recall']:.0f} | {row.get('iou', float('nan')):.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", type=Path)
    args = parser.parse_args()
    pose, detector = (models.card(name) for name in (POSE_ACCURATE, DETECTOR))
    plot(pose["curve"], detector["curve"])
    text = between(PAGE.read_text(), "curve", table(pose["curve"]))
    text = between(text, "detector", by_size(detector))
    if args.architectures:
        text = between(text, "architectures", args.architectures.read_text())
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
