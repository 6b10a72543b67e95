"""``hand-pose evaluate``: data sets, bags and videos through the robot's own pipeline, then metrics and a report.

Every frame goes through pipeline.step in stamp order, none is dropped; two runs give the same bytes in every file but
latency.* and parts/*.timing.jsonl, where the clock is. An interrupted run goes on where it stopped.
"""
from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .. import config as configs
from .. import limits, provenance, runtimes
from ..bags import BagReader, storage_files
from ..errors import ConfigError, DataError
from ..sole import sole
from . import bag_truth, cases, datasets, fail_if, judging, latency, predictions, report, scale, scoring, work

PROTOCOLS = ("full", "box")
PIPELINE = "hand_pose_ros.pipeline:load"
"""Called with the settings alone: networks for offline use, which never change over to another runtime midway."""
IMAGES_PER_UNIT = 64
ALWAYS = ("results.json", "hands.jsonl", "report.md", "report.html")
"""Files that every run makes."""
OFFLINE_SETTINGS = tuple(setting.name for setting in configs.SETTINGS if setting.name != "max_image_age_s")
"""Settings of the core but the one that says how late images of a camera may arrive."""
OF_PICTURES = ("dataset", "split", "limit")
OF_RECORDINGS = ("labels", "realtime")
OF_BAGS = ("image_topic", "info_topic", "depth_topic", "truth_topic", "image_is_rectified")
"""Options that say something of one kind of source only."""
WITH_TRUTH, WITH_NETWORKS = ("weak_points.md",), ("predictions.jsonl", "latency.json", "latency.md")


OUT_FOLDER = "evaluation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    source = parser.add_argument_group("what to evaluate (one of)")
    source.add_argument("--data", metavar="FOLDER", help="a data set, in the layout of its makers' download")
    source.add_argument("--bag", metavar="BAG", nargs="+", help=".mcap, .db3 or rosbag2 folders; each is one recording")
    source.add_argument("--bags", metavar="FOLDER", help="every bag in a folder")
    source.add_argument("--video", metavar="FILE", nargs="+", help="video files")
    source.add_argument("--compare", metavar="RUN", nargs="+", help="earlier run(s) to compare with; two runs alone "
                        "are compared with each other")
    parser.add_argument("--out", type=limits.folder, metavar="FOLDER", default=OUT_FOLDER,
                        help="where everything goes (default: %(default)s); of two runs that are compared alone the "
                        "table, if it is given")
    data = parser.add_argument_group("data sets")
    data.add_argument("--dataset", metavar="NAME",
                      help=f"default: what the folder looks like; {', '.join(datasets.DATASETS)}")
    data.add_argument("--split", help="default: the test part if it is there")
    data.add_argument("--protocol", choices=PROTOCOLS, default="full",
                      help="full: detector, then joints; box: joints in the labelled box, as most papers do")
    data.add_argument("--limit", type=int, metavar="N", help="only N images, spread over the set")
    data.add_argument("--predictions", metavar="FILE", help="score this file of JSON lines, run no networks")
    data.add_argument("--min-iou", type=limits.number(0, 1), default=0.3,
                      help="least overlap of a truth hand and its prediction, 0 to 1 (default: 0.3); with --protocol "
                      "box every answer belongs to its box, however far off it is")
    bag = parser.add_argument_group("bags and videos")
    bag.add_argument("--image-topic", help="default: the only colour image topic")
    bag.add_argument("--info-topic", help="default: camera_info beside the image topic")
    bag.add_argument("--depth-topic", help="default: the only topic called aligned_depth or depth_registered")
    bag.add_argument("--truth-topic", help="HandPose21Array with the truth (default: the topic with truth in its name)")
    bag.add_argument("--recorded", metavar="TOPIC", help="score the HandPose21Array of this topic, run no networks")
    bag.add_argument("--labels", metavar="FILE", help="annotations.jsonl with stamp_ns, from hand-pose labels")
    bag.add_argument("--realtime", action="store_true", help="drop frames as the node would at this machine's speed")
    bag.add_argument("--no-video", action="store_true", help="write no annotated video")
    bag.add_argument("--no-results-bag", action="store_true", help="write no bag with the hands in it")
    speed = parser.add_argument_group("speed")
    speed.add_argument("--jobs", type=limits.whole(1), default=1, metavar="N", help="processes")
    speed.add_argument("--engine", choices=tuple(scale.ENGINES), default="local", help="what spreads the work")
    speed.add_argument("--ray-address", metavar="HOST:PORT", help="Ray cluster (default: this machine)")
    speed.add_argument("--restart", action="store_true", help="do finished parts of an interrupted run again")
    parser.add_argument("--fail-if", metavar="EXPRESSION", action="append", default=[],
                        help='exit with 1 if true, e.g. "pa_mpjpe_mm > 9 or recall < 0.9": names and units of '
                        "results.json, lengths in mm or px as the name says, shares as 0 to 1 where tables show %%; "
                        "true also if a metric has no value")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    configs.add_arguments(parser, OFFLINE_SETTINGS)


def main(args: argparse.Namespace) -> int:
    """Run the command. Returns 0, or 1 if a --fail-if expression is true, or a recording or all pictures could not be
    read."""
    conditions = [fail_if.parse(text) for text in args.fail_if]
    if args.compare and len(args.compare) == 2 and not (args.data or args.bag or args.bags or args.video):
        runs = [report.read_run(path) for path in args.compare]
        text = report.compare_text(runs)
        print(text)
        if args.out != OUT_FOLDER:
            Path(args.out).mkdir(parents=True, exist_ok=True)
            (Path(args.out) / "compare.md").write_text(text + "\n", "utf8")
        return 1 if _told(conditions, runs[1]["metrics"]) else 0
    settings = configs.from_arguments(args)
    run = {"out": str(Path(args.out)), "settings": dict(vars(settings)), "factory": PIPELINE,
           "video": not args.no_video, "results_bag": not args.no_results_bag, "labels": args.labels,
           "truth_topic": args.truth_topic}
    result = evaluate(args, run)
    print(report.summary_text(result))
    print(f"report: {Path(args.out) / 'report.html'}")
    if not result["frames"]:
        print(f"none of the pictures could be read: {'; '.join(result['problems'])}", file=sys.stderr)
    return 1 if _told(conditions, result["metrics"]) or result["failed_units"] or not result["frames"] else 0


def _told(conditions: Sequence[fail_if.Condition], metrics: Mapping[str, float]) -> bool:
    """Whether a condition holds; each that does is printed."""
    failed = [condition for condition in conditions if condition.holds(metrics)]
    for condition in failed:
        print(f"failed: {condition.text}{condition.note(metrics)}", file=sys.stderr)
    return bool(failed)


def evaluate(args: argparse.Namespace, run: dict[str, Any]) -> dict[str, Any]:
    """Plan, run, score and report. Returns the result that results.json holds. Raises ConfigError for options that do
    not fit together and DataError if nothing can be read."""
    if args.ray_address:
        args, run = _absolute(args, run)
    out = Path(run["out"])
    earlier = [report.read_run(path) for path in args.compare or []]
    # Chosen here, so that the machines of a cluster do not choose each for itself and the results name the network.
    pose = runtimes.pose_model(run["settings"]["pose_model"], run["settings"]["runtime"])
    run = {**run, "settings": {**run["settings"], "pose_model": pose}}
    run = {**run, **model_versions(run, bool(args.predictions or args.recorded)), "commit": provenance.commit(),
           "version": __version__, "hand_calibration": _hand_calibration(run["settings"]), "min_iou": args.min_iou}
    units, source = plan(args, run)
    run["recordings"] = source.get("recordings", [])
    if run["labels"] and run["recordings"]:
        bag_truth.check_labels(run)
    before, read = outputs_before(out), inputs(units, args)
    spare_others(units, run)
    with sole(out, "evaluation"):                           # only now: a run that is refused leaves no folder behind
        result, made = _run(args, run, units, source, earlier)
        _remove_stale(before, made, read, out)
    return result


def _run(args: argparse.Namespace, run: dict[str, Any], units: list[dict[str, Any]], source: dict[str, Any],
         earlier: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[Path]]:
    """The result and the files that were made."""
    out = Path(run["out"])
    with scale.workers(min(args.jobs, len(units)), args.engine, args.ray_address) as spread:
        failed: dict[str, str] = {}
        if args.predictions:
            scored, rows, problems = compare_predictions(units, run, args.predictions)
            runtime = ""
        else:
            scored, failed = carry_out(units, run, args, spread)
            if not scored:
                raise DataError("nothing could be evaluated: " + "; ".join(failed.values()))
            units = [unit for unit in units if unit["name"] in scored]
            rows, problems = _gather(units, run)
            runtime = _runtime(units, run)
        images = [image for unit in units for image in scored[unit["name"]].images]
        for unit in units:
            problems.update(scored[unit["name"]].problems)
        problems.update(_of_source(source, run, units))
        tracks = {unit["name"]: scored[unit["name"]].track for unit in units if unit["kind"] != "images"}
        result = {
            "source": source, "run": _stable(run), "runtime": runtime, "frames": len(rows), "failed_units": failed,
            "problems": dict(sorted(problems.items())), "metrics": {}, "intervals": {},
            "over": scoring.headline_words(images), "tables": {}, "tracks": tracks}
        if images:
            result["tables"] = scoring.tables(images)
            result["metrics"] = scoring.summary(scoring.headline(images))
            result["intervals"] = scoring.intervals(scoring.headline(images))
        result["metrics"].update(_over_recordings(tracks))
        report.write_numbers(out, result, images, earlier)
        networks = not args.recorded and source.get("protocol") in (None, "full")
        found = cases.collect({unit["name"]: scored[unit["name"]].images for unit in units}, rows, units, run, networks,
                              spread)
    report.write_pages(out, result, images, rows, units, run, earlier, found)
    if not args.predictions:
        latency.write(out, [work.part_path(unit, run).with_suffix(".timing.jsonl") for unit in units])
    return result, outputs(units, args, run, bool(images))


def outputs(units: Sequence[dict[str, Any]], args: argparse.Namespace, run: dict[str, Any],
            scored: bool = True) -> list[Path]:
    """Files that a run makes outside parts/ and sheets/. scored: there is truth."""
    names = [*ALWAYS, *(WITH_TRUTH if scored else ()), *(() if args.predictions else WITH_NETWORKS)]
    return [*(path for unit in units for path in work.outputs(unit, run)), *(Path(run["out"]) / name for name in names)]


def outputs_before(out: Path) -> list[Path]:
    """Files that earlier runs have made there: what their parts say, and names of ours beside a results.json. Never a
    file of somebody else."""
    names = (*WITH_TRUTH, *WITH_NETWORKS) if (out / ALWAYS[0]).is_file() else ()
    return [*(path for made in work.noted_outputs(out).values() for path in made), *(out / name for name in names)]


def _remove_stale(before: Sequence[Path], made: Sequence[Path], read: Sequence[Path], out: Path) -> None:
    """Remove what earlier runs have made and this one has not, so that nothing lies beside results of something else.
    A unit that has lost a file that way is not done any more: a file of that name is then somebody else's."""
    for path in set(before) - set(made):
        if not _is_any(path, _identities(read)):
            path.unlink(missing_ok=True)
    for mark, noted in work.noted_outputs(out).items():
        if set(noted) - set(made):
            mark.unlink()


def _absolute(args: argparse.Namespace, run: dict[str, Any]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The same with absolute paths: the machines of a cluster see the same files, but work in another folder."""
    def whole(given: Any) -> Any:
        return [str(Path(path).resolve()) for path in given] if isinstance(given, list) else \
            str(Path(given).resolve()) if given else given

    names = ("data", "bag", "bags", "video", "out", "labels", "predictions")
    args = argparse.Namespace(**{**vars(args), **{name: whole(getattr(args, name)) for name in names}})
    settings = dict(run["settings"])
    if settings.get("hand_calibration_file"):
        settings["hand_calibration_file"] = whole(str(Path(settings["hand_calibration_file"]).expanduser()))
    return args, {**run, "out": whole(run["out"]), "labels": whole(run["labels"]), "settings": settings}


def _hand_calibration(settings: Mapping[str, Any]) -> str:
    """Checksum of the file with the measured hand; "" without one. A file that cannot be read is told of when the
    pipeline is loaded."""
    try:
        file = settings.get("hand_calibration_file")
        return hashlib.sha256(Path(file).expanduser().read_bytes()).hexdigest()[:16] if file else ""
    except OSError:
        return ""


def _stable(run: dict[str, Any]) -> dict[str, Any]:
    """What of a run is told in the results: not where it lies on this machine."""
    return {key: value for key, value in run.items() if key not in ("out", "factory", "labels", "recordings")}


def model_versions(run: dict[str, Any], not_used: bool = False) -> dict[str, Any]:
    """The two models: names, checksums and what else of their cards the results depend on, for the record and for
    resuming."""
    from .. import models

    names = {} if not_used else {kind: run["settings"][f"{kind}_model"] for kind in ("detector", "pose")}
    if run["factory"] != PIPELINE:
        names = {}
    cards = {kind: models.card(name) for kind, name in names.items()}
    hashes = {kind: {"name": names[kind], **{key: card[key] for key in ("sha256", "input", "evidence_needed")
                                             if key in card}} for kind, card in cards.items()}
    return {"models": hashes, "model_names": ", ".join(f"{m['name']} {m['sha256'][:8]}" for m in hashes.values())}


# ------------------------------------------------------------------------------------------------------------ planning

def plan(args: argparse.Namespace, run: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Units of work in a fixed order, and the source in words. Raises ConfigError unless one source is given."""
    given = [name for name in ("data", "bag", "bags", "video") if getattr(args, name)]
    if len(given) != 1:
        alone = ", or two runs after --compare" if args.compare and not given else ""
        raise ConfigError(f"give one of --data, --bag, --bags, --video ({'none' if not given else ' and '.join(given)} "
                          f"given){alone}")
    if args.predictions and not args.data:
        raise ConfigError("--predictions needs --data: the truth to score against")
    if args.recorded and not (args.bag or args.bags):
        raise ConfigError("--recorded needs --bag or --bags: the recording that holds the hands")
    names = (*(OF_RECORDINGS if args.data else OF_PICTURES), *(OF_BAGS if args.data or args.video else ()))
    idle = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name, None)]
    if idle := idle + (["--protocol box"] if args.protocol == "box" and not args.data else []):
        raise ConfigError(f"{', '.join(idle)}: of no use with --{given[0]}, leave it out")
    if args.data:
        name = args.dataset or datasets.recognise(args.data)
        data = work.data_set(name, args.data, args.split)
        chosen = range(len(data))
        if args.limit is not None:
            if args.limit < 1:
                raise ConfigError(f"--limit {args.limit}: give at least 1")
            chosen = sorted({int(i) for i in np.linspace(0, len(data) - 1, min(args.limit, len(data))).round()})
        units = [{"name": f"{name}_{start:07d}", "kind": "images", "dataset": name, "folder": args.data,
                  "split": args.split, "protocol": args.protocol,
                  "indices": [int(i) for i in chosen[start:start + IMAGES_PER_UNIT]]}
                 for start in range(0, len(chosen), IMAGES_PER_UNIT)]
        spare_inputs(units, args, run)
        for unit in units if not args.predictions else ():
            unit["state"] = work.picture_state(map(data.__getitem__, unit["indices"]))
        protocol = "predictions of another program" if args.predictions else args.protocol
        return units, {"kind": "dataset", "name": name, "folder": Path(args.data).resolve().name,
                       "split": data.split, "images": len(chosen), "whole": len(chosen) == len(data),
                       "licence": data.licence, "protocol": protocol}
    if args.video:
        units = [{"name": work.recording_name(Path(path)), "kind": "video", "path": path, **_video_facts(path)}
                 for path in args.video]
        kind = "video"
    else:
        paths = [Path(path) for path in args.bag] if args.bag else bags_in(Path(args.bags))
        topics = {key: getattr(args, key) for key in ("image_topic", "info_topic", "depth_topic") if getattr(args, key)}
        same = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
        if same:
            raise ConfigError(f"{same[0]} is given twice; each bag counts as one recording")
        units = [{"name": work.recording_name(path), "kind": "bag", "paths": [str(path)], **topics} for path in paths]
        for unit in units:
            unit.update(_bag_facts(unit))
        kind = "bag"
    for unit in units:
        unit["realtime"], unit["recorded"] = bool(args.realtime), args.recorded
    named = Counter(unit["name"] for unit in units)
    for name in [name for name, count in named.items() if count > 1]:           # two bags may have one name
        free = (f"{name}_{k}" for k in itertools.count() if f"{name}_{k}" not in named)
        for unit in [unit for unit in units if unit["name"] == name]:
            unit["name"] = next(free)
            named[unit["name"]] += 1
    spare_inputs(units, args, run)
    for unit in units:
        unit["state"] = work.file_state(_files_of(unit))
    return units, {"kind": kind, "recordings": [unit["name"] for unit in units], "realtime": bool(args.realtime),
                   "recorded": args.recorded, "cameras": {unit["name"]: unit["camera"] for unit in units
                                                          if unit.get("camera")}}


def _files_of(unit: dict[str, Any]) -> list[Path]:
    """Files of a recording. A bag that cannot be opened is found out when its turn comes."""
    if unit["kind"] == "video":
        return [Path(unit["path"])]
    try:
        return [file for path in unit["paths"] for file in storage_files(path)]
    except (DataError, OSError):
        return [Path(path) for path in unit["paths"]]


def inputs(units: Sequence[dict[str, Any]], args: argparse.Namespace) -> list[Path]:
    """Every file that a run reads, but the pictures and labels of a data set."""
    recordings = [unit for unit in units if unit["kind"] != "images"]
    return [*(Path(path) for path in (args.labels, args.predictions) if path),
            *(file for unit in recordings for file in _files_of(unit))]


def _identities(paths: Sequence[Path]) -> set[tuple[int, int]]:
    """Device and number of those that are there: equal for one file, by whatever name."""
    return {(found.st_dev, found.st_ino) for found in (path.stat() for path in paths if path.exists())}


def _is_any(path: Path, identities: set[tuple[int, int]]) -> bool:
    return bool(_identities([path]) & identities)


def spare_inputs(units: Sequence[dict[str, Any]], args: argparse.Namespace, run: dict[str, Any]) -> None:
    """Raises ConfigError if an output of the run would replace what it reads, or become a part of it."""
    remedy = f"give another --out than {run['out']}"
    read, written = _identities(inputs(units, args)), outputs(units, args, run)
    for path in written:
        if _is_any(path, read):
            raise ConfigError(f"{path} is read by this run and would be replaced by its output: {remedy}")
    given = [Path(path) for path in [*(args.bag or ()), *([args.bags] if args.bags else [])]]
    folders = _identities([path for path in given if path.is_dir()])
    for path in written:
        if path.suffix == ".mcap" and _is_any(path.parent, folders):
            raise ConfigError(f"{path} would be taken for a part of the input, which is that folder: {remedy}, or "
                              f"--no-results-bag")
    pictures = Path(run["out"]) / report.SHEETS
    if args.data and pictures.is_dir() and _is_any(pictures, _identities([Path(args.data) / report.SHEETS])) \
            and not (Path(run["out"]) / "results.json").is_file():
        raise ConfigError(f"{pictures} is a folder of the data set and would be replaced: {remedy}")


def spare_others(units: Sequence[dict[str, Any]], run: dict[str, Any]) -> None:
    """Raises ConfigError if a folder in which no evaluation has run yet has what this one would replace."""
    out = Path(run["out"])
    if (out / work.PARTS).is_dir() or (out / ALWAYS[0]).is_file():
        return
    ours = [*(path for unit in units for path in work.outputs(unit, run)),
            *(out / name for name in (report.SHEETS, *ALWAYS, *WITH_TRUTH, *WITH_NETWORKS))]
    if there := [path for path in ours if path.exists()]:
        raise ConfigError(f"{there[0]} is not of an evaluation and would be replaced: give another --out than {out}, "
                          "or move it away")


def bags_in(folder: Path) -> list[Path]:
    """Every bag directly in a folder: single files, and rosbag2 folders, but not what an evaluation has left there.

    Raises DataError for none.
    """
    def is_bag(path: Path) -> bool:
        if path.is_file():
            return path.suffix in (".mcap", ".db3", ".zstd")
        return (any(path.glob("*.mcap*")) or any(path.glob("*.db3*"))) and not (path / work.PARTS).is_dir()

    found = [path for path in sorted(folder.iterdir() if folder.is_dir() else []) if is_bag(path)]
    if not found:
        raise DataError(f"{folder}: no bag in this folder (.mcap, .db3, or rosbag2 folders)")
    return found


def _bag_facts(unit: dict[str, Any]) -> dict[str, Any]:
    """Frame rate for the annotated video, and what is known of the camera. A bag that cannot be opened is found out
    when its turn comes."""
    try:
        with BagReader(unit["paths"]) as reader:
            topic = reader.image_topic(unit.get("image_topic"))
            first = [recorded for _, recorded in zip(range(60), reader.messages([topic.name]))]
            info = reader.info_topic(topic.name, unit.get("info_topic"))
            frame_id = first[0].message.header.frame_id if first else ""
            camera = {"image_topic": topic.name, "info_topic": info.name if info else None, "frame_id": frame_id,
                      "mount": reader.mount(frame_id)}
    except DataError:
        return {}
    stamps = [recorded.log_ns for recorded in first]
    step = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0
    return {"fps": round(1e9 / step, 3) if step > 0 else 30.0, "camera": camera}


def _video_facts(path: str) -> dict[str, Any]:
    import cv2

    video = cv2.VideoCapture(path)
    facts = {"fps": round(video.get(cv2.CAP_PROP_FPS) or 30.0, 3), "frames": int(video.get(cv2.CAP_PROP_FRAME_COUNT))}
    video.release()
    return facts


def carry_out(units: Sequence[dict[str, Any]], run: dict[str, Any], args: argparse.Namespace, spread: scale.Spread) \
        -> tuple[dict[str, judging.Scored], dict[str, str]]:
    """Do and score the units, only score those that are done. Returns the scores of each by name, and the reasons of
    those that failed; what is finished is kept."""
    if args.restart:
        for unit in units:
            work.forget(unit, run)
    done = sum(work.is_done(unit, run) for unit in units)
    if done and not args.quiet:
        print(f"{done} of {len(units)} parts are there already", file=sys.stderr)
    scored, failed = {}, {}
    for number, (unit, found, error) in enumerate(spread(judging.evaluate, units, run), 1):
        if error is None:
            scored[unit["name"]] = found
        else:
            failed[unit["name"]] = str(error)
            if len(units) > 1:                              # of one alone it is what the command ends with
                print(f"{unit['name']}: {error}", file=sys.stderr)
        if not args.quiet:
            end = "" if number < len(units) else "\n"
            print(f"\r{number}/{len(units)} parts", end=end, file=sys.stderr, flush=True)
    return scored, dict(sorted(failed.items()))


# ------------------------------------------------------------------------------------------------------------- scoring

def _gather(units: Sequence[dict[str, Any]], run: dict[str, Any]) -> tuple[dict[str, predictions.Row], Counter[str]]:
    """Rows and problems of all parts, in the order of the plan; also written as one predictions.jsonl."""
    rows: dict[str, predictions.Row] = {}
    problems: Counter[str] = Counter()
    out = Path(run["out"])
    with (out / "predictions.jsonl.part").open("w", encoding="utf8", newline="\n") as file:
        for unit in units:
            part = work.part_path(unit, run)
            rows.update(predictions.read(part))
            file.write(part.read_text("utf8"))
            problems.update(json.loads(part.with_suffix(".problems.json").read_text("utf8")))
    (out / "predictions.jsonl.part").replace(out / "predictions.jsonl")
    return rows, problems


def _runtime(units: Sequence[dict[str, Any]], run: dict[str, Any]) -> str:
    """What ran the networks; machines of a cluster may differ."""
    paths = [work.part_path(unit, run).with_suffix(".runtime.txt") for unit in units]
    return " | ".join(sorted({path.read_text("utf8") for path in paths if path.is_file()} - {""}))


def compare_predictions(units: Sequence[dict[str, Any]], run: dict[str, Any], path: str) \
        -> tuple[dict[str, judging.Scored], dict[str, predictions.Row], Counter[str]]:
    """Scores of another program's predictions, its rows, and what was wrong with them."""
    rows, scored = predictions.read(path, foreign=True), {}
    for unit in units:
        judge = judging.Pictures(unit, run)
        judge.compare(rows)
        scored[unit["name"]] = judge.scored()
    unknown = len(rows.keys() - {image.name for found in scored.values() for image in found.images})
    return scored, rows, Counter({"prediction for an image that has no label, not used": unknown} if unknown else {})


def _of_source(source: dict[str, Any], run: dict[str, Any], units: Sequence[dict[str, Any]]) -> Counter[str]:
    """Problems of the source as a whole: met while a data set or labels were loaded, or labels of no recording."""
    if source["kind"] == "dataset":
        return work.data_set(units[0]["dataset"], units[0]["folder"], units[0]["split"]).problems_at_load
    return bag_truth.label_problems(run) if run["labels"] else Counter()


def _over_recordings(tracks: dict[str, Any]) -> dict[str, float]:
    """Means over recordings, weighted by frames."""
    out = {}
    for name in ("jitter_px", "jitter_mm_s2", "acceleration_error_mm_s2"):
        pairs = [(facts[name], facts["frames"]) for facts in tracks.values() if facts.get(name) is not None]
        if pairs:
            out[name] = float(np.average([value for value, _ in pairs], weights=[count for _, count in pairs]))
    return out
