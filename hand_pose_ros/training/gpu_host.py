"""``hand-pose gpu-train``: one command for a GPU host without network, run again and again in pieces of some minutes.

Each call renders in the background and trains from where the last call stopped. It leaves in ``--state`` what the next
call on this machine needs (checkpoint, log, curve) and in ``--result``, at each checkpoint too, the little that the
world needs (weights, card, log, curve), all in files below 16 MB. A fresh machine goes on from that with
``--from-model``.
"""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hand_pose_ros import limits
from hand_pose_ros.errors import ConfigError, DataError
from hand_pose_ros.synthesis import shards as rendered
from hand_pose_ros.training import settings, shards

FIRST_SHARDS = 3
START_S, END_S = 20.0, 60.0
"""Of a call, for what is not training: the start of the trainer, with torch and CUDA, whose clock begins after it; and
in the end checkpoint, measuring and export."""


def add_arguments(parser) -> None:
    """Options of ``hand-pose gpu-train``."""
    parser.add_argument("settings", help="YAML file, or the name of one in config/training/")
    parser.add_argument("--state", type=limits.folder, required=True,
                        help="folder that stays from call to call; an old run is resumed")
    parser.add_argument("--result", type=limits.folder, metavar="FOLDER", help="folder for weights, card, log and "
                        "curve, at each checkpoint and at the end (default: models/NAME in --state)")
    parser.add_argument("--from-model", metavar="NAME", help="begin with the weights of this model or folder with a "
                        "card, such as an earlier --result, instead of what the settings say")
    parser.add_argument("--shards", type=limits.folder, required=True,
                        help="folder for rendered shards on this machine; may start empty")
    parser.add_argument("--limit", type=limits.number(0.0), default=540.0, metavar="S",
                        help="seconds this call may take")
    parser.add_argument("--minutes", type=limits.number(0.001), default=120.0,
                        help="training minutes of the whole plan")
    parser.add_argument("--kind", choices=("crops", "frames"),
                        help="what to render (default: crops for a pose network, frames for a detector)")
    parser.add_argument("--count", type=limits.whole(1), default=200000,
                        help="pictures to render at most in this call")
    parser.add_argument("--seed", type=limits.whole(0), default=0, help="pictures depend on seed and index alone")
    parser.add_argument("--start", type=limits.whole(0), default=0, help="first picture; a new range gives new hands")
    parser.add_argument("--render-workers", type=limits.whole(1), default=max(1, len(os.sched_getaffinity(0)) * 3 // 4),
                        help="processes that render (default: three quarters of the cores)")
    parser.add_argument("--loader-workers", type=limits.whole(0), default=max(1, len(os.sched_getaffinity(0)) // 4),
                        help="processes that prepare batches (default: a quarter of the cores)")
    parser.add_argument("--eval", help="folder with annotations.jsonl and photographs")
    parser.add_argument("--eval-every", type=limits.number(0.0), default=300.0, metavar="S",
                        help="seconds between measurements")
    parser.add_argument("--held-out", type=limits.whole(1), default=512, help="virtual images held out for measuring")


def main(args) -> int:
    """One call. Raises DataError if rendering gives nothing to train on, ConfigError if the limit is too short.

    Terminated or over its limit, it takes renderer and trainer with it: they would keep the GPU from the next call.
    """
    began = time.monotonic()
    if args.limit < 2 * END_S / 3:
        raise ConfigError(f"--limit {args.limit:g} s leaves no time to train; give at least {2 * END_S / 3:g}")
    learns_from = _check(args)
    args.kind = args.kind or learns_from
    if args.eval and not (Path(args.eval) / "annotations.jsonl").is_file():
        raise DataError(f"--eval {args.eval} has no annotations.jsonl")
    there = len(shards.find(args.shards, args.kind)[0])
    if there + len(rendered.ranges(args.start, args.count)) < 2:
        raise ConfigError(f"--count {args.count} makes one shard, and two are needed, as the first is held out: give "
                          f"more than {rendered.PER_SHARD}")
    state = Path(args.state)
    state.mkdir(parents=True, exist_ok=True)
    children = []
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        children.append(_render(args, state / "render.log"))
        _wait_for_shards(args, children[0], began)
        _warn_of_software(state / "render.log")
        children.append(subprocess.Popen([*_launcher(), *_train(args, args.limit - (time.monotonic() - began))]))
        status = children[1].wait(max(1.0, args.limit - (time.monotonic() - began)))
        if children[0].poll():                          # trained all the same, on what was there
            said = (state / "render.log").read_text(errors="replace").strip().rpartition("\n")[2]
            print(f"the renderer ended with {children[0].poll()}: {said} ({state / 'render.log'}); nothing new was "
                  "rendered after that", file=sys.stderr)
        return status or bool(children[0].poll())
    except subprocess.TimeoutExpired:
        raise ConfigError(f"the training did not end within --limit {args.limit:g} s and was terminated; its last "
                          "checkpoint and --result stay. Call again with a longer --limit") from None
    finally:
        for child in children:
            child.terminate()
        for child in children:
            try:
                child.wait(END_S)                       # the trainer writes a checkpoint first
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        signal.signal(signal.SIGTERM, before)


def _check(args) -> str:
    """What the network of the settings learns from, "crops" or "frames". What is wrong with settings or weights is
    raised here, before minutes of rendering are spent."""
    from hand_pose_ros.training import loop
    from hand_pose_ros.training.train import initial_weights
    chosen = settings.load(settings.find(args.settings))
    loop.check_begun(args.state, chosen)
    begun = loop.is_begun(args.state)
    loop.prepare(chosen, None if begun else initial_weights(args.from_model, chosen)[0], begun)
    return "crops" if chosen.kind == "pose" else "frames"


def _train(args, left_s: float) -> list[str]:
    """Arguments of ``hand-pose`` for a training that ends in ``left_s`` seconds."""
    result = args.result or Path(args.state) / "models" / Path(args.settings).stem
    stop = max(1.0, left_s - min(START_S + END_S, args.limit / 3))
    return ["train", args.settings, "--shards", args.shards, "--out", args.state, "--pieces", "--result", str(result),
            "--minutes", str(args.minutes), "--stop-after", str(stop), "--workers", str(args.loader_workers),
            "--held-out", str(args.held_out), "--eval-every", str(args.eval_every),
            *(["--eval", args.eval] if args.eval else []),
            *(["--from-model", args.from_model] if args.from_model else [])]


def _render(args, log: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "hand_pose_ros", "render", "--kind", args.kind, "--count", str(args.count),
               "--seed", str(args.seed), "--start", str(args.start), "--out", str(Path(args.shards) / args.kind),
               "--workers", str(args.render_workers), "--no-sheet"]
    with open(log, "wb") as file:
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


def _warn_of_software(log: Path) -> None:
    """Say it if the renderer, whose device is in its log, has not found the GPU that torch has."""
    import torch
    if torch.cuda.is_available() and b"llvmpipe" in log.read_bytes():
        print("gpu-train: pictures are rendered on the CPU (llvmpipe), since EGL does not find the GPU: install the "
              "driver's EGL and its file in /usr/share/glvnd/egl_vendor.d (in a container: "
              "NVIDIA_DRIVER_CAPABILITIES=all). It goes on, slower", file=sys.stderr, flush=True)


def _launcher() -> list[str]:
    """How to start the training: torchrun if there are several GPUs."""
    import torch
    gpus = torch.cuda.device_count()
    if gpus > 1:
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}", "-m",
                "hand_pose_ros"]
    return [sys.executable, "-m", "hand_pose_ros"]
