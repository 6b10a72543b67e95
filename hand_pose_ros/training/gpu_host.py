"""``hand-pose gpu-train``: one command for a GPU host without network, run again and again in pieces of some minutes.

Each call renders in the background, trains from where the last call stopped, and leaves in ``--state`` all that the
next call (perhaps on a fresh machine) and the world need, in files below 16 MB: checkpoint, log, curve, weights, card.
"""
from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from hand_pose_ros.errors import ConfigError, DataError
from hand_pose_ros.training import checkpoint, shards

FIRST_SHARDS = 3
END_S = 45.0
"""Kept free at the end of a call for measuring, checkpoint and export."""


def add_arguments(parser) -> None:
    """Options of ``hand-pose gpu-train``."""
    parser.add_argument("settings", help="YAML file, or the name of one in config/training/")
    parser.add_argument("--state", required=True, help="folder that is carried from call to call")
    parser.add_argument("--shards", required=True, help="folder for rendered shards on this machine; may start empty")
    parser.add_argument("--limit", type=float, default=540.0, metavar="S", help="seconds this call may take")
    parser.add_argument("--minutes", type=float, default=120.0, help="training minutes of the whole plan")
    parser.add_argument("--kind", choices=("crops", "frames"), default="crops", help="what to render")
    parser.add_argument("--count", type=int, default=200000, help="pictures to render at most in this call")
    parser.add_argument("--start", type=int, default=0, help="first picture; a new range gives new hands")
    parser.add_argument("--render-workers", type=int, default=max(1, (os.cpu_count() or 2) * 3 // 4),
                        help="processes that render (default: three quarters of the cores)")
    parser.add_argument("--loader-workers", type=int, default=max(1, (os.cpu_count() or 2) // 4),
                        help="processes that prepare batches (default: a quarter of the cores)")
    parser.add_argument("--eval", help="folder with annotations.jsonl and photographs")
    parser.add_argument("--held-out", type=int, default=512, help="virtual images held out for measuring")


def main(args) -> int:
    """One call. Raises DataError if rendering gives nothing to train on, ConfigError if the limit is too short."""
    began = time.monotonic()
    if args.limit < 2 * END_S / 3:
        raise ConfigError(f"--limit {args.limit:g} s leaves no time to train; give at least {2 * END_S / 3:g}")
    state, name = Path(args.state), Path(args.settings).stem
    state.mkdir(parents=True, exist_ok=True)
    renderer = _render(args, state / "render.log")
    try:
        _wait_for_shards(args, renderer, began)
        spare = min(END_S, args.limit / 3)
        command = [*_launcher(), "train", args.settings, "--shards", args.shards, "--out", str(state), "--pieces",
                   "--minutes", str(args.minutes), "--workers", str(args.loader_workers),
                   "--held-out", str(args.held_out), "--export", str(state / "models" / name),
                   "--stop-after", str(max(1.0, args.limit - spare - (time.monotonic() - began)))]
        if args.eval:
            command += ["--eval", args.eval]
        status = subprocess.run(command).returncode
    finally:
        renderer.terminate()
        renderer.wait()
    if status == 0:
        split(state / "models" / name / "weights.safetensors")
    return status


def split(path: Path) -> list[Path]:
    """Cut a file that is too large into ``path``.000 and so on (``cat path.* > path`` joins them); the pieces."""
    data = path.read_bytes()
    for old in path.parent.glob(path.name + ".[0-9]*"):
        old.unlink()
    if len(data) <= checkpoint.PIECE_BYTES:
        return [path]
    pieces = []
    for k, offset in enumerate(range(0, len(data), checkpoint.PIECE_BYTES)):
        pieces.append(path.with_name(f"{path.name}.{k:03d}"))
        pieces[-1].write_bytes(data[offset:offset + checkpoint.PIECE_BYTES])
    path.unlink()
    return pieces


def _render(args, log: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "hand_pose_ros", "render", "--kind", args.kind, "--count", str(args.count),
               "--start", str(args.start), "--out", str(Path(args.shards) / args.kind),
               "--workers", str(args.render_workers), "--no-sheet"]
    with open(log, "ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "LP_NUM_THREADS": "1"})


def _wait_for_shards(args, renderer: subprocess.Popen, began: float) -> None:
    while len(shards.find(args.shards, args.kind)[0]) < FIRST_SHARDS:
        ended = renderer.poll() is not None
        if ended and len(shards.find(args.shards, args.kind)[0]) >= 2:
            return
        if ended or time.monotonic() - began > 0.6 * args.limit:
            raise DataError(f"rendering gave fewer than {FIRST_SHARDS} shards in {time.monotonic() - began:.0f} s: "
                            f"read {Path(args.state) / 'render.log'}")
        time.sleep(0.5)


def _launcher() -> list[str]:
    """How to start the training: torchrun if there are several GPUs."""
    import torch
    gpus = torch.cuda.device_count()
    if gpus > 1:
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}", "-m",
                "hand_pose_ros"]
    return [sys.executable, "-m", "hand_pose_ros"]
