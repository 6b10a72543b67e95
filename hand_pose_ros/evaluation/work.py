"""One unit of an evaluation: some images of a data set, or one bag or video, through the robot's own pipeline.

A unit is a plain dict, so that it can go to another process or machine; it leaves files and nothing else:
``<out>/parts/<unit>.jsonl`` (predictions) last, and before it ``.timing.jsonl``, ``.problems.json``, for labelled
pictures ``.seen.jsonl`` (how each labelled hand looks) and for recordings ``.thumbs/``. What a part holds depends on
the unit and the settings alone, not on who made it or when.
"""
from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from .. import annotate, runtimes
from .. import camera as cameras
from ..bags import IMAGE, BagReader, BagWriter
from ..config import Config
from ..detect import letterbox
from ..errors import DataError, FrameError
from ..imaging import write_picture
from ..messages import ArrayInfo, is_metric, read_array
from ..pipeline import PipelineState, Result
from ..predict import MOST_FRAMES
from ..skeleton import WRIST, mano_joints
from ..types import Camera, Frame, Hand
from . import attributes, datasets, lanes, predictions, result_bag

STILL_STAMP_NS = 1_000_000_000
"""Stamp given to a still picture; each has its own fresh tracker."""
PARTS = "parts"
"""Folder within the output for what each unit gave."""
JOINT_FIELDS = ("joints_px", "joints_m", "joints_rel_m")
NAMED_PICTURES = 3
"""So many that cannot be read are named by each part."""
THUMBNAILS = 24
THUMBNAIL_WIDTH = 240


class Part(NamedTuple):
    """What a unit gave."""

    lines: list[str]                                # of predictions.jsonl
    timing: list[dict[str, Any]]
    problems: Counter[str]
    seen: Sequence[dict[str, Any]] = ()             # how labelled hands look, see attributes.of_picture


@lru_cache(maxsize=2)
def pipeline(factory: str, settings: str) -> tuple[Any, Config]:
    """The pipeline and settings of this process. factory: "module:function" called with the Config."""
    config = Config.from_dict(json.loads(settings))
    module, _, function = factory.partition(":")
    return getattr(import_module(module), function)(config), config


@lru_cache(maxsize=1)
def data_set(name: str, folder: str, split: str | None) -> datasets.DataSet:
    """The data set, loaded once in each process."""
    return datasets.load(name, folder, split)


def fingerprint(unit: dict[str, Any], run: dict[str, Any]) -> str:
    """Changes when the unit or anything that can change its result does; a part with another one is made again.

    unit: its "state" tells what the sources were like when the run was planned, see file_state and picture_state.
    """
    text = json.dumps([unit, run["settings"], run["factory"], run["models"], run["commit"],
                       run["hand_calibration"], [path.name for path in outputs(unit, run)]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_done(unit: dict[str, Any], run: dict[str, Any]) -> bool:
    """True if an earlier, perhaps interrupted, run has finished this unit with the same sources, settings and models,
    and everything it made is there, its predictions as they were written."""
    part = part_path(unit, run)
    mark = part.with_suffix(".done")
    return part.is_file() and mark.is_file() and mark.read_text("utf8").split("\n")[0] == _mark(unit, run) \
        and all(path.is_file() for path in outputs(unit, run))


def _mark(unit: dict[str, Any], run: dict[str, Any]) -> str:
    """Changes when the unit, the run or the predictions that lie in its part do."""
    return f"{fingerprint(unit, run)} {hashlib.sha256(part_path(unit, run).read_bytes()).hexdigest()[:16]}"


def outputs(unit: dict[str, Any], run: dict[str, Any]) -> list[Path]:
    """Files that the unit leaves outside ``parts/``: the annotated video and the results bag of a recording."""
    out, made = Path(run["out"]), []
    if unit["kind"] != "images" and run["video"]:
        made.append(out / f"{unit['name']}.mp4")
    if unit["kind"] == "bag" and run["results_bag"] and not unit.get("recorded"):   # it would hold the same hands twice
        made.append(out / f"{unit['name']}.mcap")
    return made


def noted_outputs(out: Path) -> dict[Path, list[Path]]:
    """The ``outputs`` of every unit that runs with this output folder have finished so far, by the mark of its part."""
    return {mark: [out / name for name in mark.read_text("utf8").split("\n")[1:]]
            for mark in sorted((out / PARTS).glob("*.done"))}


def recording_name(path: Path) -> str:
    """Name of a recording in results, and group of its labels."""
    return path.name.replace(".zstd", "").rpartition(".")[0] or path.name if path.is_file() else path.name


def file_state(paths: Iterable[Path]) -> str:
    """Changes when one of the files does: of names, sizes and times of change, since bags are too big to be read for
    it. A file that is not there has a state, too."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_state_of(path))
    return digest.hexdigest()[:16]


def picture_state(items: Iterable[datasets.base.Item]) -> str:
    """Changes when a picture or what its label gives to the networks does: camera, boxes and joints."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(_state_of(item.path))
        if item.camera is not None:
            digest.update(repr((item.camera.width, item.camera.height)).encode())
        known = () if item.camera is None else (item.camera.K, item.camera.D)
        for values in (*known, *(part for hand in item.hands for part in (hand.box, hand.joints_px))):
            digest.update(np.asarray(values, float).tobytes())
    return digest.hexdigest()[:16]


def _state_of(path: Path) -> bytes:
    if not path.is_file():
        return f"{path.name}: none\n".encode()
    found = path.stat()
    return f"{path.name}: {found.st_size} {found.st_mtime_ns}\n".encode()


def forget(unit: dict[str, Any], run: dict[str, Any]) -> None:
    """Have the unit done again, whatever is there."""
    part_path(unit, run).with_suffix(".done").unlink(missing_ok=True)


def part_path(unit: dict[str, Any], run: dict[str, Any]) -> Path:
    """File of the unit's predictions."""
    return Path(run["out"]) / PARTS / f"{unit['name']}.jsonl"


def process(unit: dict[str, Any], run: dict[str, Any], judge: Any) -> None:
    """Do one unit and write its part. judge: see judging.py. Raises DataError for a source that cannot be read."""
    part = part_path(unit, run)
    part.parent.mkdir(parents=True, exist_ok=True)
    forget(unit, run)
    made = {"images": _images, "bag": _bag, "video": _video}[unit["kind"]](unit, run, judge)
    if made.seen:
        predictions.write(part.with_suffix(".seen.jsonl"), (json.dumps(row) + "\n" for row in made.seen))
    predictions.write(part.with_suffix(".timing.jsonl"), (json.dumps(row) + "\n" for row in made.timing))
    predictions.write(part.with_suffix(".problems.json"), [json.dumps(dict(sorted(made.problems.items())), indent=1)])
    predictions.write(part.with_suffix(".runtime.txt"), [runtime_of(unit, run)])
    predictions.write(part, made.lines)
    made = [path.name for path in outputs(unit, run)]
    predictions.write(part.with_suffix(".done"), ["\n".join([_mark(unit, run), *made])])


def read_looks(part: Path) -> dict[str, list[dict[str, str]]]:
    """How the labelled hands of each picture of a part look."""
    path = part.with_suffix(".seen.jsonl")
    rows = [json.loads(line) for line in path.read_text("utf8").splitlines()] if path.is_file() else []
    return {row["image"]: row["hands"] for row in rows}


def load_pipeline(run: dict[str, Any]) -> tuple[Any, Config]:
    """Pipeline and settings of a run, loaded once in each process."""
    return pipeline(run["factory"], json.dumps(run["settings"], sort_keys=True))


def runtime_of(unit: dict[str, Any], run: dict[str, Any]) -> str:
    """What runs the networks in this process and why nothing faster; "" where the hands come from elsewhere."""
    if unit.get("recorded"):
        return ""
    chain, _ = load_pipeline(run)
    networks = [getattr(step, "network", None) for step in (chain.detect, chain.estimate)]
    return runtimes.in_full([network for network in networks if hasattr(network, "reason")])     # stand-ins have none


def _times(start: float, result: Any, name: str, read_s: float) -> dict[str, Any]:
    """Durations of one frame's stages in ms."""
    marks = result.marks_s
    return {"image": name, "read_ms": 1e3 * read_s, "detect_ms": 1e3 * (marks["detect"] - start),
            "pose_ms": 1e3 * (marks["pose"] - marks["detect"]), "lift_ms": 1e3 * (marks["lift"] - marks["pose"]),
            "detector_ran": result.detector_ran, "hands": len(result.hands)}


# ---------------------------------------------------------------------------------------------------- stills

def _images(unit: dict[str, Any], run: dict[str, Any], judge: Any) -> Part:
    chain, config = load_pipeline(run)
    data = data_set(unit["dataset"], unit["folder"], unit["split"])
    lines, timing, problems, unread, seen = [], [], Counter(), Counter(), []

    def work(item: datasets.base.Item, frame: Frame, read_s: float) -> None:
        start = time.monotonic()
        try:
            if unit["protocol"] == "box":
                hands = [chain.estimate_in_box(frame, hand.box, config) for hand in item.hands]
                timing.append({"image": item.name, "read_ms": 1e3 * read_s, "pose_ms": 1e3 * (time.monotonic() - start),
                               "hands": len(hands)})
                output(keep, item, frame, hands, False)
            else:
                _, result = chain.step(PipelineState(), frame, config)
                timing.append(_times(start, result, item.name, read_s))
                output(keep, item, frame, result.hands, result.detector_ran)
        except FrameError as error:
            problems[f"{data.name}: {error}"] += 1

    def keep(item: datasets.base.Item, frame: Frame, hands: Sequence[Hand], detector_ran: bool) -> None:
        hands = [_as_mano(hand) for hand in hands] if data.mano else hands
        lines.append(predictions.line(item.name, hands, detector_ran=detector_ran))
        looks = [attributes.of_picture(frame.image, hand) for hand in item.hands]
        seen.append({"image": item.name, "hands": looks})
        judge.add(predictions.parse(json.loads(lines[-1])), item, looks)

    with lanes.Lane() as output, lanes.Lane() as networks:
        for index in unit["indices"]:
            item, begin = data[index], time.monotonic()
            try:
                frame = still_frame(item, config)
            except FrameError as error:
                name = f"{item.name}: " if len(unread) < NAMED_PICTURES and not item.problem else ""
                unread[f"{data.name}: {name}{error}"] += 1
                continue
            networks(work, item, frame, time.monotonic() - begin)
    return Part(lines, timing, problems + unread, seen)


def _as_mano(hand: Hand) -> Hand:
    hand = replace(hand, **{name: mano_joints(getattr(hand, name)) for name in JOINT_FIELDS})
    return replace(hand, joints_rel_m=hand.joints_rel_m - hand.joints_rel_m[WRIST])


def still_frame(item: datasets.base.Item, config: Config) -> Frame:
    """The item as a frame; without a calibration the field of view is assumed. Raises FrameError if image and labels do
    not belong together."""
    image = item.image()
    height, width = image.shape[:2]
    camera = item.camera or cameras.assumed(width, height, config.assumed_hfov_deg)
    if (camera.width, camera.height) != (width, height):
        raise FrameError(f"image of another size ({width} x {height}) than its label says ({camera.width} x "
                         f"{camera.height})")
    return Frame(image, camera, STILL_STAMP_NS)


# ------------------------------------------------------------------------------------------------ recordings

class _Recording:
    """What a recording's frames leave: predictions, times, a video, thumbnails and messages for the results bag."""

    def __init__(self, unit: dict[str, Any], run: dict[str, Any], count: int, judge: Any) -> None:
        self._judge = judge
        self._runtime = runtime_of(unit, run)
        self.lines: list[str] = []
        self.timing: list[dict[str, Any]] = []
        spooled = any(path.suffix == ".mcap" for path in outputs(unit, run))
        self.messages = result_bag.Spool(Path(run["out"])) if spooled else None
        self._unit, self._run = unit, run
        self._video: cv2.VideoWriter | None = None
        self._filmed = 0
        self._every = max(1, -(-count // THUMBNAILS))
        self._thumbs = part_path(unit, run).with_suffix(".thumbs")
        shutil.rmtree(self._thumbs, ignore_errors=True)
        self._thumbs.mkdir(parents=True)

    def add(self, frame: Frame, log_ns: int, result: Any, dropped: int) -> None:
        number = len(self.lines)
        self.lines.append(predictions.line(f"{self._unit['name']}/{frame.stamp_ns}", result.hands, frame.stamp_ns,
                                           result.detector_ran, **({"dropped": dropped} if dropped else {})))
        self._judge.add(predictions.parse(json.loads(self.lines[-1])))
        wanted = number % self._every == 0
        drawn = None
        if wanted or self._run["video"] or self.messages is not None:
            drawn = annotate.draw(frame.image, result.hands, self._run["settings"]["draw_labels"])
            drawn = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
        if self._run["video"]:
            self._write_video(drawn)
        if self.messages is not None:
            metric = is_metric(frame.camera, result.hands)
            info = ArrayInfo(model=self._run["model_names"], runtime=self._runtime, metric=metric,
                             detector_ran=result.detector_ran, dropped=dropped)
            self.messages.add(frame, log_ns, result, info, drawn)
        if wanted:
            height = max(1, round(drawn.shape[0] * THUMBNAIL_WIDTH / drawn.shape[1]))
            small = cv2.resize(drawn, (THUMBNAIL_WIDTH, height), interpolation=cv2.INTER_AREA)
            write_picture(self._thumbs / f"{frame.stamp_ns}.jpg", small[..., ::-1])

    def _write_video(self, drawn: np.ndarray) -> None:
        height, width = drawn.shape[:2]
        if self._video is None:
            path = self._video_path()
            rate = self._unit.get("fps") or 30.0
            self._size = width, height
            # MPEG-4 counts time in at most 65535 parts of a second: 89.987 Hz would need more.
            self._video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"),
                                          float(round(rate, 3 if rate < 65 else 0)), self._size)
            if not self._video.isOpened():
                raise DataError(f"{path}: this OpenCV cannot write MP4; run again with --no-video")
        self._video.write(drawn if (width, height) == self._size else letterbox(drawn, self._size[::-1])[0])
        self._filmed += 1

    def close(self) -> None:
        if self._video is not None:
            self._video.release()

    def check(self) -> None:
        """After ``close``. Raises DataError for a video that is not whole: OpenCV does not say when it cannot write."""
        if self._video is None:
            return
        path, readable = self._video_path(), 0
        film = cv2.VideoCapture(str(path))
        if film.isOpened():
            readable = int(film.get(cv2.CAP_PROP_FRAME_COUNT))
            film.release()
        if readable < self._filmed:
            raise DataError(f"{path}: {readable} of its {self._filmed} frames could be written: free some space, or "
                            "run again with --no-video")

    def _video_path(self) -> Path:
        return next(path for path in outputs(self._unit, self._run) if path.suffix == ".mp4")


def _run_frames(frames: Iterator[tuple[Frame, int]], unit: dict[str, Any], run: dict[str, Any], count: int,
                problems: Counter[str], judge: Any) -> _Recording:
    """Every frame in order through one pipeline with tracking, or with ``realtime`` those the node would take.

    Real time: a frame that arrives (by its stamp) while the one before is still being worked on waits, and a newer one
    takes its place; so the measured time of each frame decides which are dropped.
    """
    chain, config = (RecordedHands(unit), None) if unit.get("recorded") else load_pipeline(run)
    lane = lanes.Here if unit.get("realtime") else lanes.Lane
    out = _Recording(unit, run, count, judge)
    try:
        with lane() as output, lane() as networks:
            _feed(frames, unit, chain, config, out, output, networks, problems)
    finally:
        out.close()
    out.check()
    return out


def _feed(frames: Iterator[tuple[Frame, int]], unit: dict[str, Any], chain: Any, config: Config | None, out: _Recording,
          output: Callable[..., None], networks: Callable[..., None], problems: Counter[str]) -> None:
    state, free_ns, waiting, dropped = PipelineState(), None, None, 0

    def work(frame: Frame, log_ns: int, read_s: float, dropped: int) -> int:
        nonlocal state
        start = time.monotonic()
        try:
            state, result = chain.step(state, frame, config)
        except FrameError as error:
            problems[str(error)] += 1
            return 0
        spent_ns = int(1e9 * (read_s + time.monotonic() - start))       # the node decodes the images it takes, too
        out.timing.append(_times(start, result, str(frame.stamp_ns), read_s))
        output(out.add, frame, log_ns, result, dropped)
        return spent_ns

    begin = time.monotonic()
    for frame, log_ns in frames:
        read_s = time.monotonic() - begin
        if not unit.get("realtime"):
            networks(work, frame, log_ns, read_s, 0)
        else:
            if waiting is not None and free_ns <= frame.stamp_ns:
                free_ns = max(free_ns, waiting[0].stamp_ns) + work(*waiting, dropped)
                waiting, dropped = None, 0
            if free_ns is None or free_ns <= frame.stamp_ns:
                free_ns = frame.stamp_ns + work(frame, log_ns, read_s, dropped)
                dropped = 0
            else:
                if waiting is not None:
                    dropped += 1
                    problems["frame dropped because a newer one had arrived (real time)"] += 1
                waiting = (frame, log_ns, read_s)
        begin = time.monotonic()
    if waiting is not None:
        work(*waiting, dropped)


class RecordedHands:
    """In place of the pipeline: the hands that a node has said and the bag holds. Same ``step``."""

    def __init__(self, unit: dict[str, Any]) -> None:
        with open_bag(unit) as reader:
            messages = reader.hands(unit["recorded"])
        try:
            self._found = {stamp_ns: read_array(message) for stamp_ns, message in messages.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(f"{unit['recorded']} holds hands of another definition of HandPose21Array ({error}): let "
                            "today's node record them again") from error

    def step(self, state: PipelineState, frame: Frame, config: Any) -> tuple[PipelineState, Result]:
        """What the node said of this frame. Raises FrameError if it said nothing."""
        if frame.stamp_ns not in self._found:
            raise FrameError("frame without recorded hands: the node had dropped it")
        hands, info = self._found[frame.stamp_ns]
        now = time.monotonic()
        return state, Result(hands, hands, info.detector_ran, dict.fromkeys(("detect", "pose", "lift"), now))


def open_bag(unit: dict[str, Any]) -> BagReader:
    """The bag of a unit."""
    return BagReader(unit["paths"])


def bag_frames(reader: BagReader, unit: dict[str, Any], config: Config, only: Container[int] | None = None) \
        -> Iterator[tuple[Frame, int]]:
    """Frames of a unit's bag with their recording times; without calibration the field of view is assumed. only: stamps
    of the wanted frames, None: all."""
    def assume(width: int, height: int, frame_id: str) -> Camera:
        return cameras.assumed(width, height, config.assumed_hfov_deg, frame_id)

    found = reader.frames(unit.get("image_topic"), unit.get("info_topic"), unit.get("depth_topic"), assume, only,
                          config.image_is_rectified)
    return ((item.frame, item.log_ns) for item in found)


def _bag(unit: dict[str, Any], run: dict[str, Any], judge: Any) -> Part:
    problems: Counter[str] = Counter()
    config = Config.from_dict(run["settings"])
    results = next((path for path in outputs(unit, run) if path.suffix == ".mcap"), None)
    with open_bag(unit) as reader:
        topic = reader.image_topic(unit.get("image_topic"))
        out = _run_frames(bag_frames(reader, unit, config), unit, run, topic.count, problems, judge)
        if results is not None:
            with out.messages:
                _write_results(results, reader, out.messages, topic.type == IMAGE)
        problems.update(reader.problems)
    if not out.lines:
        raise DataError(f"{unit['name']}: no frame of {topic.name} could be used: {dict(problems)}")
    return Part(out.lines, out.timing, problems)


def _write_results(path: Path, reader: BagReader, results: result_bag.Spool, compressed: bool) -> None:
    """The original topics with hands, markers and drawn pictures beside them, in recording order: the topics of a node
    called hand_pose, so that its RViz and Foxglove layouts show the bag. compressed: for raw images; JPEGs would take
    half of the time of writing and get a tenth smaller."""
    path.unlink(missing_ok=True)
    seen = Counter(reader.problems)                 # copying reads everything a second time; count problems once
    for topic in sorted(reader.topics.keys() & set(result_bag.TOPICS)):
        seen[f"{topic}: message of the recording replaced by ours in the results bag"] += reader.topics[topic].count
    with BagWriter(path, compressed=compressed) as bag:
        put = results.writer(bag)
        for recorded in reader.messages():
            put(recorded.log_ns - 1)
            if recorded.topic not in result_bag.TOPICS:
                try:
                    bag.copy(recorded)
                except DataError as error:
                    seen[f"{recorded.topic}: not copied into the results bag: {error}"] += 1
        put(float("inf"))
    reader.problems.clear()
    reader.problems.update(seen)


def source_frames(unit: dict[str, Any], run: dict[str, Any], stamps_ns: Container[int]) -> Iterator[Frame]:
    """The frames of a recording with these stamps once more, for pictures in the report."""
    config = Config.from_dict(run["settings"])
    if unit["kind"] == "video":
        yield from (frame for frame, _ in video_frames(unit["path"], config) if frame.stamp_ns in stamps_ns)
        return
    with open_bag(unit) as reader:
        yield from (frame for frame, _ in bag_frames(reader, unit, config, stamps_ns))


def video_frames(path: str, config: Config) -> Iterator[tuple[Frame, int]]:
    """Frames of a video file, stamped by number and frame rate. Raises DataError if it cannot be opened."""
    video = cv2.VideoCapture(path)
    if not video.isOpened():
        raise DataError(f"{path} is not a video that OpenCV can read")
    rate = video.get(cv2.CAP_PROP_FPS) or 30.0
    number, camera = 0, None
    while True:
        ok, bgr = video.read()
        if not ok:
            break
        if camera is None:
            camera = cameras.assumed(bgr.shape[1], bgr.shape[0], config.assumed_hfov_deg)
        stamp_ns = STILL_STAMP_NS + round(1e9 * number / rate)
        yield Frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), camera, stamp_ns), stamp_ns
        number += 1
    video.release()


def _video(unit: dict[str, Any], run: dict[str, Any], judge: Any) -> Part:
    problems: Counter[str] = Counter()
    config = Config.from_dict(run["settings"])
    out = _run_frames(video_frames(unit["path"], config), unit, run, unit.get("frames", 0), problems, judge)
    if not out.lines:
        raise DataError(f"{unit['path']} holds no frame that can be read")
    if not unit.get("realtime") and len(out.lines) < MOST_FRAMES * unit.get("frames", 0):
        problems["frame that the video announces and that cannot be read: it is cut off or damaged"] += \
            unit["frames"] - len(out.lines)
    return Part(out.lines, out.timing, problems)
