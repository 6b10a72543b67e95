"""How many virtual pictures a second this machine renders, with every label, and where the time goes.

    python3 benchmarks/render_rate.py                      # crops of 256 px, one process per core
    python3 benchmarks/render_rate.py --kind frames --size 320 --workers 2

Prints wall-clock pictures per second of all workers together and, per picture, CPU and wall milliseconds of drawing the
scene, OpenGL, the sensor with its labels, and storing all of it. Start-up (assets, textures) is measured apart. On a
machine that does other things too, the CPU times say more than the wall clock.
"""
from __future__ import annotations

import argparse
import multiprocessing
import os
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
    for index in range(20):                                         # shape targets are read once per process
        render.picture(kind, renderer, 1, 10_000_000 + index)
    start_up = time.perf_counter() - begin
    barrier.wait()
    wall, cpu = np.zeros(4), np.zeros(4)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, shards.ShardWriter(Path(folder) / "rate.tar") as writer:
        for index in range(first, first + count):
            rng = np.random.default_rng([0, index])
            marks = [(time.perf_counter(), time.process_time())]
            drawn = (scene.sample_crop(rng, size) if kind == "crops"
                     else scene.sample_frame(rng, renderer.width, renderer.height))
            marks.append((time.perf_counter(), time.process_time()))
            drawn, raster = labels.take(drawn, renderer)
            marks.append((time.perf_counter(), time.process_time()))
            image = labels.develop(drawn, raster, rng)
            hands, _ = labels.hand_records(drawn, raster)
            marks.append((time.perf_counter(), time.process_time()))
            writer.add(index, image, {"hands": hands}, labels.crop_mask(raster) if kind == "crops" else raster.ids)
            marks.append((time.perf_counter(), time.process_time()))
            wall += np.diff([m[0] for m in marks])
            cpu += np.diff([m[1] for m in marks])
    results.put((renderer.device, start_up, time.perf_counter() - begin, wall / count * 1e3, cpu / count * 1e3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=("crops", "frames"), default="crops")
    parser.add_argument("--size", type=int, default=256, help="width in pixels")
    parser.add_argument("--count", type=int, default=100, help="pictures per worker")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(args.workers), context.Queue()
    jobs = [(args.kind, args.size, args.count, k * args.count, barrier, results) for k in range(args.workers)]
    processes = [context.Process(target=_work, args=job) for job in jobs]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    seconds = max(entry[2] for entry in found)
    print(f"{found[0][0]}: {args.workers} workers, {args.kind} {args.size} px: "
          f"{args.workers * args.count / seconds:.1f} pictures/s (start-up {max(entry[1] for entry in found):.1f} s)")
    for title, column in (("wall", 3), ("cpu", 4)):
        parts = sum(entry[column] for entry in found) / len(found)
        print(f"  {title} ms per picture: scene {parts[0]:.1f}, OpenGL {parts[1]:.1f}, "
              f"sensor and labels {parts[2]:.1f}, storing {parts[3]:.1f}; sum {parts.sum():.1f}")
    cpu = sum(entry[4].sum() for entry in found) / len(found)
    cores = os.cpu_count() or 1
    print(f"  with {cores} cores to itself this machine would make {1000 / cpu * cores:.0f} pictures/s")


if __name__ == "__main__":
    main()
