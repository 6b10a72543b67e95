"""MediaPipe Hands as a peer: the same video, the same number of processors, its own Python environment.

mediapipe 0.10.21 pins numpy < 2 and cannot live beside this package, so it gets an environment of its own and this
file, which imports nothing of hand_pose_ros, runs in it:

    python3 -m venv mediapipe-venv && mediapipe-venv/bin/pip install mediapipe==0.10.21
    mediapipe-venv/bin/python benchmarks/mediapipe_peer.py video hand.mp4 --threads 2
    mediapipe-venv/bin/python benchmarks/mediapipe_peer.py images FOLDER --out found.jsonl

``video`` prints one JSON object: milliseconds per frame while tracking (static_image_mode off: the landmark network
alone, once the hand is found) and per frame that is searched (static_image_mode on: palm detector and landmark
network). ``images`` prints one JSON line per picture with the hands that MediaPipe finds. Python 3.9 to 3.12.
"""
from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path


def frames_of(path: str, width: int, height: int, limit: int) -> list:
    """Frames of a video, RGB uint8, fitted into width x height on black (0 x 0: as they are)."""
    import cv2
    import numpy as np
    video = cv2.VideoCapture(path)
    frames = []
    while len(frames) < limit:
        read, image = video.read()
        if not read:
            break
        if width and height:
            scale = min(width / image.shape[1], height / image.shape[0])
            small = cv2.resize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)),
                               interpolation=cv2.INTER_AREA)
            top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
            image = np.zeros((height, width, 3), np.uint8)
            image[top:top + small.shape[0], left:left + small.shape[1]] = small
        frames.append(np.ascontiguousarray(image[..., ::-1]))
    if not frames:
        sys.exit(f"{path}: no frame can be read; give a video that OpenCV opens")
    return frames


def timed(hands, frames: list) -> tuple[list[float], list[float], int]:
    """Milliseconds of each process() call by the clock and of all its threads' processor time, and how many frames had
    a hand."""
    milliseconds, processor, found = [], [], 0
    for frame in frames:
        start, used = time.perf_counter(), time.process_time()
        result = hands.process(frame)
        milliseconds.append((time.perf_counter() - start) * 1e3)
        processor.append((time.process_time() - used) * 1e3)
        found += bool(result.multi_hand_landmarks)
    return milliseconds, processor, found


def run_video(args: argparse.Namespace) -> None:
    """Times both modes and prints the JSON object."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])
    import mediapipe
    width, height = (int(side) for side in args.size.split("x"))
    frames = frames_of(args.video, width, height, args.frames)
    result = {"mediapipe": mediapipe.__version__, "threads": args.threads, "frames": len(frames), "size": args.size,
              "complexity": args.complexity}
    for name, static in (("tracking", False), ("detection", True)):
        with mediapipe.solutions.hands.Hands(static_image_mode=static, max_num_hands=args.hands,
                                             model_complexity=args.complexity) as hands:
            timed(hands, frames[:args.warm_up])
            result[f"{name}_ms"], result[f"{name}_cpu_ms"], result[f"{name}_frames_with_hand"] = timed(hands, frames)
    result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result))


def run_images(args: argparse.Namespace) -> None:
    """Prints (or writes to ``--out``) one JSON line per picture."""
    import cv2
    import mediapipe
    endings = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
    paths = sorted(path for path in Path(args.folder).rglob("*") if path.suffix.lower() in endings)
    with mediapipe.solutions.hands.Hands(static_image_mode=True, max_num_hands=args.hands,
                                         model_complexity=args.complexity,
                                         min_detection_confidence=args.confidence) as hands, \
            (open(args.out, "w") if args.out else sys.stdout) as stream:
        pictures_with_hand = 0
        for path in paths:
            image = cv2.imread(str(path))
            if image is None:
                print(f"{path}: cannot be read", file=sys.stderr)
                continue
            height, width = image.shape[:2]
            found = hands.process(image[..., ::-1].copy())
            listed = [{
                # MediaPipe names sides as in a mirrored selfie; a photograph shows the other one
                "handedness": {"Left": "right", "Right": "left"}[side.classification[0].label],
                "score": side.classification[0].score,
                "joints_px": [[mark.x * width - 0.5, mark.y * height - 0.5] for mark in hand.landmark],
                "joints_m": [[mark.x, mark.y, mark.z] for mark in world.landmark],
            } for hand, world, side in zip(found.multi_hand_landmarks or (), found.multi_hand_world_landmarks or (),
                                           found.multi_handedness or ())]
            pictures_with_hand += bool(listed)
            record = {"image": str(path.relative_to(args.folder)), "width": width, "height": height, "hands": listed}
            stream.write(json.dumps(record) + "\n")
    print(f"a hand in {pictures_with_hand} of {len(paths)} pictures", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    video = commands.add_parser("video")
    video.add_argument("video")
    video.add_argument("--threads", type=int, default=2, help="processors this process may use")
    video.add_argument("--frames", type=int, default=300)
    video.add_argument("--warm-up", type=int, default=20)
    video.add_argument("--size", default="640x480", help="fit frames into this size, 0x0: as they are")
    video.set_defaults(run=run_video)
    images = commands.add_parser("images")
    images.add_argument("folder")
    images.add_argument("--out", help="file for the JSON lines (default: standard output)")
    images.add_argument("--confidence", type=float, default=0.5)
    images.set_defaults(run=run_images)
    for command, hands in ((video, 1), (images, 2)):
        command.add_argument("--complexity", type=int, default=1, choices=(0, 1), help="0 lite, 1 full")
        command.add_argument("--hands", type=int, default=hands,
                             help="most hands; while fewer are tracked MediaPipe searches every frame for more")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
