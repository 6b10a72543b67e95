"""Speed of `hand-pose evaluate`: the share of time that is not the pipeline's, and what a second core brings.

    python3 benchmarks/evaluation_speed.py [--data FOLDER] [--bag test/data/virtual_hands.mcap] [--bags 10]

Share   of the wall time in which pipeline.step does not run, since reading, scoring and writing happen beside it: for a
        labelled folder, for the bag --repeat times in a row (20 s of recording) without results bag and video, and
        with them. Loading networks and modules is left out. "for more images" leaves out what does not grow with them:
        opening the source, the pictures of the cases, whose number is bounded, and the page. CPU seconds are of all
        threads together.
Scale   the same bag several times under other names: the command of a user, with one process on one core and with two
        processes on two.

Wall times need a quiet machine; CPU seconds hardly depend on what else runs.
"""
from __future__ import annotations

import argparse
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hand_pose_ros.one_blas_thread  # noqa: F401, E402
from hand_pose_ros import bags, pipeline  # noqa: E402
from hand_pose_ros.config import Config  # noqa: E402
from hand_pose_ros.evaluation import cases, evaluate, judging, report, scoring, work  # noqa: E402

PAUSE_NS = 2_000_000_000
"""Between two runs of a repeated bag: a moment without hands."""
FIXED = ("plan", "pictures of cases", "pages")
STAGES = {
    "pipeline": (None, "step"), "plan": (evaluate, "plan"), "units": (evaluate, "carry_out"),
    "scoring, beside the pipeline": (scoring, "score_image"), "truth": (judging.bag_truth, "items_of"),
    "results bag": (work, "_write_results"), "tables": (scoring, "tables"), "intervals": (scoring, "intervals"),
    "pictures of cases": (cases, "collect"), "pages": (report, "write_pages")}


def evaluated(out: Path, *options: str) -> dict:
    """One run with a fresh output folder."""
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    args = parser.parse_args(["--out", str(out), "--quiet", *map(str, options)])
    return evaluate.evaluate(args, {
        "out": str(out), "settings": dict(vars(Config())), "factory": evaluate.PIPELINE,
        "video": not args.no_video, "results_bag": not args.no_results_bag, "labels": None, "truth_topic": None})


def share(out: Path, *options: str) -> None:
    """Print wall and CPU time by stage."""
    chain, _ = work.load_pipeline({"factory": evaluate.PIPELINE, "settings": dict(vars(Config()))})
    spent: dict[str, float] = defaultdict(float)

    def timed(name, function):
        def call(*args, **rest):
            start = time.perf_counter()
            try:
                return function(*args, **rest)
            finally:
                spent[name] += time.perf_counter() - start
        return call

    before = {}
    for name, (owner, attribute) in STAGES.items():
        owner = owner or type(chain)
        before[owner, attribute] = getattr(owner, attribute)
        setattr(owner, attribute, timed(name, getattr(owner, attribute)))
    start, cpu = time.perf_counter(), time.process_time()
    try:
        frames = evaluated(out, *options)["frames"]
    finally:
        whole, cpu = time.perf_counter() - start, time.process_time() - cpu
        for (owner, attribute), function in before.items():
            setattr(owner, attribute, function)
    outside = whole - spent["pipeline"]
    growing = outside - sum(spent[name] for name in FIXED)
    print(f"{options[0]} {options[1]}: {frames} frames, {whole:.2f} s, CPU {cpu:.2f} s; pipeline not running: "
          f"{100 * outside / whole:.1f} %, for more images: {100 * growing / (spent['pipeline'] + growing):.1f} %")
    for name, seconds in sorted(spent.items(), key=lambda entry: -entry[1]):
        print(f"  {name:30s} {seconds:7.2f} s {1000 * seconds / frames:8.2f} ms per frame")


def repeated(bag: str, times: int, path: Path) -> Path:
    """The bag ``times`` times in a row as one longer recording at ``path``."""
    with bags.BagReader(bag) as reader, bags.BagWriter(path) as writer:
        messages = list(reader.messages())
        span_ns = messages[-1].log_ns - messages[0].log_ns + PAUSE_NS
        for number in range(times):
            for one in messages:
                raw, shift_ns = bytearray(one.raw), number * span_ns
                if not one.type.startswith("tf2_msgs"):                 # all others begin with a header
                    struct.pack_into("<iI", raw, 4, *divmod(one.stamp_ns + shift_ns, 10**9))
                writer.write_serialized(one.topic, one.type, bytes(raw), one.log_ns + shift_ns)
    return path


def scale(folder: Path, bag: str, count: int) -> None:
    """Print wall and CPU time of many bags on one core and on two. Raises CalledProcessError if the command fails."""
    pipeline.load(Config())                         # a first use exports the networks, which is none of this
    for number in range(count):
        (folder / f"bag_{number:02d}.mcap").symlink_to(Path(bag).resolve())
    cores, took, cpu = sorted(os.sched_getaffinity(0)), {}, {}
    for jobs in (1, 2):
        command = [sys.executable, "-m", "hand_pose_ros", "evaluate", "--bags", folder, "--jobs", str(jobs), "--quiet",
                   "--out", folder.with_name(f"out{jobs}")]
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
                       preexec_fn=lambda used=cores[:jobs]: os.sched_setaffinity(0, used))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took[jobs] = time.monotonic() - start
        cpu[jobs] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{count} bags: {took[1]:.1f} s on one core (CPU {cpu[1]:.1f} s), {took[2]:.1f} s on two "
          f"(CPU {cpu[2]:.1f} s): {took[2] / took[1]:.2f} of it")


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="labelled folder; left out if there is none")
    parser.add_argument("--bag", default=str(ROOT / "test" / "data" / "virtual_hands.mcap"))
    parser.add_argument("--repeat", type=int, default=5, help="how often the bag is played for the shares")
    parser.add_argument("--bags", type=int, default=10, help="how many for the scale; 0 to leave out")
    parser.add_argument("--scale-only", action="store_true", help="leave out the shares")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.data and not args.scale_only:
            share(folder / "data", "--data", args.data)
        if not args.scale_only:
            bag = repeated(args.bag, args.repeat, folder / "repeated.mcap")
            share(folder / "lean", "--bag", bag, "--no-video", "--no-results-bag")
            share(folder / "bag", "--bag", bag)
        if args.bags:
            (folder / "many").mkdir()
            scale(folder / "many", args.bag, args.bags)


if __name__ == "__main__":
    main()
