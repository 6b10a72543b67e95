"""``hand-pose render``: labelled virtual pictures in shards, with a contact sheet and a page of statistics."""
from __future__ import annotations

import argparse
import contextlib
import glob
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from hand_pose_ros import limits
from hand_pose_ros.errors import ConfigError, DataError
from hand_pose_ros.imaging import write_picture
from hand_pose_ros.progress import Progress
from hand_pose_ros.synthesis import assets, labels, scene, sheets, shards
from hand_pose_ros.synthesis.poses import sample_named

KINDS = {"crops": 192, "frames": 320}
"""What can be rendered, with its default width in pixels."""
COUNT = 1000
BAG = {"motion": "pinch", "seconds": 10.0, "fps": 30.0, "compressed_only": False}
"""Defaults of what only a bag has."""


def picture(kind: str, renderer, seed: int, index: int, poses: tuple[str, ...] = (), shown: bool = False) -> tuple:
    """Render picture ``index`` of ``seed``: depends on nothing else. poses, shown: see ``scene.sample_crop``.

    Returns (image (H, W, 3) uint8, meta dict as stored, mask (H, W) uint8, depth (H, W) float32 metres, 0 nothing).
    """
    rng = np.random.default_rng([seed, index, sorted(KINDS).index(kind)])
    for _ in range(8):
        if kind == "crops":
            drawn = scene.sample_crop(rng, renderer.width, poses or None, shown)
        else:
            drawn = scene.sample_frame(rng, renderer.width, renderer.height)
        drawn, raster = labels.take(drawn, renderer)
        hands, unseen = labels.hand_records(drawn, raster)
        if kind != "crops" or hands and labels.is_seen(hands[0]):
            break
    image = labels.develop(drawn, raster, rng)
    camera = labels.camera(drawn)
    meta = {"kind": kind, "hands_version": shards.HANDS_VERSION, "index": index, "seed": seed,
            "width": renderer.width, "height": renderer.height,
            "K": np.round(camera.K, 5).tolist(), "distortion_model": camera.distortion_model,
            "D": np.round(camera.D, 7).tolist(),
            "hands": hands, "unseen_boxes": unseen, "others_boxed": True, **({"poses": list(poses)} if poses else {}),
            **({"shown": True} if shown else {}), **drawn.attributes}
    mask = labels.crop_mask(raster) if kind == "crops" else raster.ids
    return image, meta, mask, raster.depth


def stream(kind: str, seed: int = 0, start: int = 0, step: int = 1, width: int = 0, height: int = 0, renderer=None):
    """Yield pictures start, start + step, start + 2 step, ... without end, as ``picture`` returns them.

    For a data loader without shards: worker w of n takes start=w, step=n, and nothing touches the disk. renderer: one
    of the wanted size; if not given, one is made, and released when the stream is closed. Raises ConfigError for an
    unknown kind or an impossible size.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind '{kind}'; choose one of: {', '.join(KINDS)}")
    with contextlib.ExitStack() as made:
        if renderer is None:
            width = width or KINDS[kind]
            height = height or (width if kind == "crops" else width * 3 // 4)
            _check_size(kind, width, height)
            renderer = scene.make_renderer(width, height)
            made.callback(renderer.release)
        for index in itertools.count(start, step):
            yield picture(kind, renderer, seed, index)


def _check_size(kind: str, width: int, height: int) -> None:
    """Raises ConfigError for a size that cannot be rendered."""
    scene.check_size(width, height)
    if kind == "crops" and width != height:
        raise ConfigError(f"crops of {width}x{height} are not square; give one of --width and --height")


def _work(settings: tuple, todo: list[tuple[int, int]], counter, errors, first: bool) -> None:
    """A process that renders shards; what goes wrong is put into ``errors`` in words. The first says on what it does.
    """
    kind, width, height, seed, out, depth, poses, shown = settings
    signal.signal(signal.SIGINT, signal.SIG_IGN)                   # the parent hears Ctrl-C and terminates its workers,
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))        # which leave no unfinished shard behind
    _end_with_parent()
    os.environ.setdefault("LP_NUM_THREADS", "1")                   # llvmpipe: one thread per process is fastest
    cv2.setNumThreads(1)
    try:
        renderer = scene.make_renderer(width, height)
        if first:                                                  # a GPU whose EGL is not installed is passed over
            print(f"\nrendered by {renderer.device}", flush=True)
            if "llvmpipe" in renderer.device and glob.glob("/dev/nvidia[0-9]*"):
                print("that is the CPU, though there is an NVIDIA GPU: EGL does not find it, or finds Mesa first. "
                      "Install the driver's EGL, or choose another device with GLCONTEXT_DEVICE_INDEX=1", flush=True)
        for bounds in todo:
            with shards.ShardWriter(out / shards.name(kind, bounds[0])) as writer:
                for index in range(*bounds):
                    image, meta, mask, depth_m = picture(kind, renderer, seed, index, poses, shown)
                    writer.add(index, image, meta, mask, depth_m if depth else None)
                    with counter.get_lock():
                        counter.value += 1
    except (ConfigError, DataError) as error:
        errors.put(str(error))
    except Exception as error:                                     # a fault of this package, or of its environment
        traceback.print_exc()
        errors.put(f"a render process broke down ({error!r}, see above); finished shards are kept")


def _end_with_parent() -> None:
    """Returns at once; a parent that is killed cannot terminate its workers, so then this process does it itself."""
    def wait() -> None:
        multiprocessing.parent_process().join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="end with parent", daemon=True).start()


def write(kind: str, out: Path, count: int, seed: int = 0, start: int = 0, width: int = 0, height: int = 0,
          workers: int = 1, depth: bool = False, report=print, rank: int = 0, world: int = 1,
          poses: tuple[str, ...] = (), shown: bool = False) -> int:
    """Render pictures start .. start + count into shards of ``out``; finished shards are kept and skipped.

    poses: crops of these poses only, by name or kind (see synthesis/poses.py). shown: crops of hands held up to the
    camera only.
    rank, world: this process makes every world-th shard, from the rank-th on (torchrun's RANK and WORLD_SIZE).
    Returns the number of pictures rendered now. Raises ConfigError for impossible settings, DataError for a full disk.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind '{kind}'; choose one of: {', '.join(KINDS)}")
    if not 0 <= rank < world:
        raise ConfigError(f"rank {rank} must be at least 0 and below the world size {world}")
    if count < 1 or start < 0 or workers < 1 or seed < 0:
        raise ConfigError(f"count {count} and workers {workers} must be at least 1, "
                          f"start {start} and seed {seed} at least 0")
    if kind != "crops" and (poses or shown):
        raise ConfigError(f"{'poses' if poses else 'shown hands'} can be chosen for crops only, not for {kind}")
    if poses:
        sample_named(np.random.default_rng(0), kinds=poses)                     # unknown names are said at once
    width = width or KINDS[kind]
    height = height or (width if kind == "crops" else width * 3 // 4)
    _check_size(kind, width, height)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make {out}: {error}; choose another --out") from None
    shards.remove_abandoned(out, kind)
    _refuse_twice(out, kind, start, count)
    mine = shards.ranges(start, count)[rank::world]
    count = sum(b - a for a, b in mine)
    wanted = {"hands_version": shards.HANDS_VERSION, "seed": seed, "width": width, "height": height,
              "poses": list(poses) or None, "shown": shown or None}
    todo = [bounds for bounds in mine if not _is_done(out / shards.name(kind, bounds[0]), bounds, wanted, depth)]
    total = sum(b - a for a, b in todo)
    if total < count:
        report(f"{count - total} of {count} pictures are in finished shards of {out}")
    if not todo:
        return 0
    assets.verify()
    context = multiprocessing.get_context("spawn")
    counter, errors = context.Value("q", 0), context.SimpleQueue()
    settings = kind, width, height, seed, Path(out), depth, poses, shown
    if workers > len(todo):
        workers = len(todo)
        report(f"{workers} process{'es' * (workers > 1)}: each makes shards of up to {shards.PER_SHARD} pictures")
    processes = [context.Process(target=_work, args=(settings, todo[k::workers], counter, errors, k == 0))
                 for k in range(workers)]
    progress = Progress(total)
    with _terminated_like_interrupted():
        try:
            for process in processes:
                process.start()
            while any(process.is_alive() for process in processes):
                progress(counter.value)
                _raise_first(processes, errors)
                time.sleep(0.5)
        finally:
            for process in processes:
                if process.is_alive():
                    process.terminate()
            for process in processes:
                if process.pid is not None:
                    process.join()
    _raise_first(processes, errors)
    progress(counter.value)
    return total


def _refuse_twice(out: Path, kind: str, start: int, count: int) -> None:
    """Raises ConfigError if ``out`` holds one of the pictures start .. start + count in a shard of another first
    picture: it would be stored, and learnt, twice."""
    wanted = {shards.name(kind, first) for first, _ in shards.ranges(start, count)}
    for path in sorted(out.glob(f"{kind}-*.tar")):
        first = shards.first_index(path)
        last = None if first is None else (first // shards.PER_SHARD + 1) * shards.PER_SHARD
        if first is None or path.name in wanted or first >= start + count or last <= start:
            continue
        with contextlib.suppress(DataError):                        # a shard that nobody can read holds nothing
            if first + shards.describe(path)[0] > start:
                raise ConfigError(f"{path} holds pictures from {first} on, which this run would store a second time: "
                                  f"begin at a multiple of {shards.PER_SHARD}, or give another --out")


def _is_done(path: Path, bounds: tuple[int, int], wanted: dict, depth: bool) -> bool:
    """Whether a finished shard holds the pictures asked for; a shorter one does not. Raises ConfigError for one of
    other settings."""
    if not path.exists():
        return False
    try:
        count, first, with_depth = shards.describe(path)
    except DataError:
        return False                                                # rendered again in its place
    differs = [f"{name} {first.get(name)} instead of {value}" for name, value in {**wanted, "index": bounds[0]}.items()
               if first.get(name) != value] + (["no depth"] if depth and not with_depth else [])
    if differs:
        raise ConfigError(f"{path} was made with other settings ({', '.join(differs)}): give another --out")
    return count >= bounds[1] - bounds[0]


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that no worker stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def pages(out: Path, kind: str) -> list[Path]:
    """Make ``<kind>-sheet.jpg``, ``<kind>-plain.jpg`` (no labels) and ``<kind>-statistics.png`` beside the shards."""
    made = []
    columns = 8 if kind == "crops" else 5
    for name, drawn in (("sheet", True), ("plain", False)):
        made.append(out / f"{kind}-{name}.jpg")
        sheet = sheets.contact_sheet(out, kind, 6 * columns, columns, labels=drawn)
        write_picture(made[-1], sheet)
    made.append(out / f"{kind}-statistics.png")
    sheets.statistics(out, kind, made[-1])
    return made


def _report_pages(out: Path, kind: str, firsts: list[int], rank: int) -> None:
    """Make the ``pages`` and print their names, if no other rank will: the first one does, and whichever ends last.

    firsts: what the wanted shards of all ranks begin with; those of other machines may never be in this folder.
    """
    def finished() -> int:
        return sum((out / shards.name(kind, first)).exists() for first in firsts)

    seen = finished()
    while rank == 0 or seen == len(firsts):
        made = pages(out, kind)
        before, seen = seen, finished()
        if seen > before:                                           # another rank's, after the pages were begun
            continue
        print(*made, sep="\n")
        if seen < len(firsts):
            print(f"these pages show {seen} of {len(firsts)} shards; the rank that finishes the last one here makes "
                  "them again")
        break


def _raise_first(processes, errors) -> None:
    """Raises DataError for what a worker said, or if one was killed."""
    if not errors.empty():
        raise DataError(errors.get())
    killed = next((process for process in processes if process.exitcode not in (None, 0)), None)
    if killed is not None:
        raise DataError(f"one of {len(processes)} render processes ended with {killed.exitcode}, most likely killed "
                        "for want of memory: run the same command with fewer --workers; finished shards are kept")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``hand-pose render``."""
    parser.add_argument("--kind", choices=(*KINDS, "bag"), default="crops",
                        help="one hand near the centre, whole frames, or a motion filmed into a bag")
    parser.add_argument("--count", type=limits.whole(1), help=f"number of pictures (default: {COUNT})")
    parser.add_argument("--out", type=Path, required=True,
                        help="folder for the shards, finished ones in it are kept; or the bag (x.mcap, or new folder)")
    parser.add_argument("--seed", type=limits.whole(0), default=0, help="pictures depend on seed and index alone")
    parser.add_argument("--start", type=limits.whole(0),
                        help="first index (default: 0); give each machine its own range")
    parser.add_argument("--workers", type=limits.whole(1), help="processes, each with its own renderer (default: one "
                        "per core that it may use, of torchrun's ranks on this machine together)")
    parser.add_argument("--width", type=limits.whole(32, 4096), help="pixels (default: crops 192, frames 320)")
    parser.add_argument("--height", type=limits.whole(32, 4096), help="pixels (default: crops square, frames 4:3)")
    parser.add_argument("--poses", default="", metavar="A,B", help="crops: only these poses, by name or kind "
                        "(count, grasp, rest, sign), nothing held, no person round them, seen from anywhere unless "
                        "--shown")
    parser.add_argument("--shown", action="store_true", help="crops: only hands held up to the camera, palm or back "
                        "before it and fingers up, or raised by their owner, mostly beside the face")
    parser.add_argument("--motion", help="bag: which motion, such as wave, grasp or cross (default: "
                        f"{BAG['motion']}; an unknown one is answered with the list)")
    parser.add_argument("--seconds", type=float, help=f"bag: how long (default: {BAG['seconds']:g})")
    parser.add_argument("--fps", type=float, help=f"bag: frames per second (default: {BAG['fps']:g})")
    parser.add_argument("--compressed-only", action="store_true", default=None,
                        help="bag: no raw images and no depth, so that it stays small")
    parser.add_argument("--no-sheet", action="store_true", help="do not make the contact sheet and the statistics page")
    parser.add_argument("--depth", action="store_true", help="store depth images too")
    parser.add_argument("--cleared-assets", action="store_true",
                        help="refuse assets that are not cleared for commercial use (today's all are)")


def main(args: argparse.Namespace) -> int:
    """``hand-pose render``. Raises ConfigError for options that do not fit together."""
    if args.cleared_assets:
        os.environ[assets.CLEARED_ONLY] = "1"
    if args.kind == "bag":
        from hand_pose_ros.synthesis import sequence
        if args.poses:
            raise ConfigError("poses can be chosen for crops only, not for a bag: it shows a --motion")
        if args.shown:
            raise ConfigError("--shown can be chosen for crops only, not for a bag: it shows a --motion")
        given = [f"--{name}" for name in ("count", "start", "width", "height") if getattr(args, name) is not None]
        if given or args.depth:
            raise ConfigError(f"{' '.join([*given, *['--depth'] * args.depth])} cannot be chosen for a bag: its length "
                              "is --seconds times --fps, its camera has 640x480 pixels, and it holds depth unless "
                              "--compressed-only is given")
        if limits.from_environment("WORLD_SIZE", 1) > 1:
            raise ConfigError("a bag is made by one process, and torchrun started several: call it without")
        chosen = {name: value if getattr(args, name) is None else getattr(args, name) for name, value in BAG.items()}
        total = chosen["seconds"] * chosen["fps"]
        progress = Progress(round(total) if np.isfinite(total) else 0)
        with _terminated_like_interrupted():                        # half a bag is removed
            sequence.write_bag(args.out, chosen["motion"], fps=chosen["fps"], duration_s=chosen["seconds"],
                               seed=args.seed, compressed_only=chosen["compressed_only"], report=progress)
        print(args.out)
        return 0
    if given := [f"--{name.replace('_', '-')}" for name in BAG if getattr(args, name) is not None]:
        raise ConfigError(f"{' '.join(given)} cannot be chosen for {args.kind}, but for a bag: give --kind bag")
    poses = tuple(name.strip() for name in args.poses.split(",")) if args.poses else ()
    if not all(poses):
        raise ConfigError(f"--poses {args.poses!r} has an empty name: give names with commas between them")
    try:
        rank, world = limits.from_environment("RANK", 0), limits.from_environment("WORLD_SIZE", 1)
        beside = max(1, limits.from_environment("LOCAL_WORLD_SIZE", 1))
        workers = args.workers or max(1, len(os.sched_getaffinity(0)) // beside)
        count, start = args.count or COUNT, args.start or 0
        made = write(args.kind, args.out, count, args.seed, start, args.width or 0, args.height or 0,
                     workers, args.depth, rank=rank, world=world, poses=poses, shown=args.shown)
        if not args.no_sheet and (made or rank == 0):
            _report_pages(args.out, args.kind, [first for first, _ in shards.ranges(start, count)], rank)
    except KeyboardInterrupt:
        print("\ninterrupted: finished shards are kept; run the same command again to go on")
        return 130
    return 0
