"""Durations of the stages of every frame -> latency.json and latency.md. The only outputs that differ between runs."""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .predictions import write as write_whole

STAGES = ("read_ms", "detect_ms", "pose_ms", "lift_ms", "total_ms")
"""read: file or bag to RGB; total: detect + pose + lift, what a robot waits for."""


def summarise(rows: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Mean, median, 95th and 99th percentile and worst of each stage, ms; without the first frame (warm-up) if there
    are others."""
    rows = list(rows)[1:] or list(rows)
    for row in rows:
        row["total_ms"] = sum(row.get(stage, 0.0) for stage in STAGES[1:4])
    out = {}
    for stage in STAGES:
        values = np.array([row[stage] for row in rows if stage in row])
        if values.size:
            p50, p95, p99 = np.percentile(values, [50, 95, 99])
            out[stage] = {"mean": float(values.mean()), "p50": float(p50), "p95": float(p95), "p99": float(p99),
                          "max": float(values.max()), "frames": int(values.size)}
    return out


def write(out: Path, files: Sequence[Path]) -> None:
    """latency.json and latency.md from the timing files of the parts; parts that were resumed keep their own times."""
    rows = [json.loads(line) for path in files if path.is_file() for line in path.read_text("utf8").splitlines()]
    if not rows:
        return
    stages = summarise(rows)
    write_whole(out / "latency.json", [json.dumps(stages, indent=1)])
    lines = ["# Latency per stage, ms", "", "| stage | mean | median | 95 % | 99 % | worst | frames |",
             "|---|---|---|---|---|---|---|"]
    for stage, v in stages.items():
        cells = " | ".join(f"{v[key]:.2f}" for key in ("mean", "p50", "p95", "p99", "max"))
        lines.append(f"| {stage[:-3]} | {cells} | {v['frames']} |")
    write_whole(out / "latency.md", ["\n".join(lines) + "\n"])
