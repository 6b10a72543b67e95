"""How many virtual pictures a second this machine renders, with every label, and where the time goes.

    python3 benchmarks/render_rate.py                      # crops of 256 px, one process per core
    python3 benchmarks/render_rate.py --kind frames --size 320 --workers 2

Prints wall-clock pictures per second of all workers together and, per picture, CPU and wall milliseconds of drawing the
scene, OpenGL, the sensor with its labels, and storing all of it, depth too; scenes that are drawn again because the
hand is not seen count. Start-up (assets, textures) is measured apart. On a
machine that does other things too, the CPU times say more than the wall clock.
"""
from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import queue
import sys
import tempfile
import time
from pathlib import Path


def _work(kind: str, size: int, count: int, first: int, barrier, results) -> None:
    os.environ["LP_NUM_THREADS"] = "1"
    import hand_pose_ros.one_blas_thread  # noqa: F401

    import cv2
    import numpy as np

    from hand_pose_ros.synthesis import labels, render, scene, shards

    cv2.setNumThreads(1)
    begin = time.perf_counter()
    renderer = scene.make_renderer(size, size if kind == "crops" else size * 3 // 4)
    for index in range(60):                                         # shapes and skins are read once per process
        render.picture(kind, renderer, 1, 10_000_000 + index)
    start_up = time.perf_counter() - begin
    spent = {}                                                      # wall and CPU seconds, by part

    def timed(part, function):
        def call(*args, **more):
            begin = np.array([time.perf_counter(), time.process_time()])
            try:
                return function(*args, **more)
            finally:
                took = np.array([time.perf_counter(), time.process_time()]) - begin
                spent[part] = spent.get(part, 0.0) + took
        return call

    scene.sample_crop, scene.sample_frame = timed("scene", scene.sample_crop), timed("scene", scene.sample_frame)
    labels.take = timed("OpenGL", labels.take)
    picture = timed("picture", render.picture)
    barrier.wait()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, shards.ShardWriter(Path(folder) / "rate.tar") as writer:
        add = timed("storing", writer.add)
        for index in range(first, first + count):
            add(index, *picture(kind, renderer, 0, index))
    seconds = time.perf_counter() - begin
    spent["sensor and labels"] = spent.pop("picture") - spent["scene"] - spent["OpenGL"]
    results.put((renderer.device, start_up, seconds, {part: value / count * 1e3 for part, value in spent.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=("crops", "frames"), default="crops")
    parser.add_argument("--size", type=int, default=256, help="width in pixels")
    parser.add_argument("--count", type=int, default=300, help="pictures per worker")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    from hand_pose_ros.runtimes import host
    load = os.getloadavg()[0]
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(args.workers), context.Queue()
    jobs = [(args.kind, args.size, args.count, k * args.count, barrier, results) for k in range(args.workers)]
    processes = [context.Process(target=_work, args=job) for job in jobs]
    for process in processes:
        process.start()
    found = []
    while len(found) < len(processes):
        with contextlib.suppress(queue.Empty):
            found.append(results.get(timeout=1.0))
        if any(process.exitcode for process in processes):
            for process in processes:
                process.terminate()
            sys.exit("a process broke down, see above")
    for process in processes:
        process.join()
    seconds = max(entry[2] for entry in found)
    print(f"{found[0][0]}: {args.workers} workers, {args.kind} {args.size} px: "
          f"{args.workers * args.count / seconds:.1f} pictures/s (start-up {max(entry[1] for entry in found):.1f} s)")
    for column, title in enumerate(("wall", "cpu")):
        parts = {part: sum(entry[3][part][column] for entry in found) / len(found) for part in found[0][3]}
        print(f"  {title} ms per picture: {', '.join(f'{part} {ms:.1f}' for part, ms in parts.items())}; "
              f"sum {sum(parts.values()):.1f}")
    cores = os.cpu_count() or 1
    print(f"  with {cores} cores to itself this machine would make {1000 / sum(parts.values()) * cores:.0f} pictures/s")
    print(f"  {host.cpu_name()}, {cores} cores, load before {load:.1f}; moderngl {host.version('moderngl')}, numpy "
          f"{host.version('numpy')}; {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
