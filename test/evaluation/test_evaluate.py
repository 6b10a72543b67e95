"""The whole command on small data with pipelines that know the truth: same bytes, resuming, bags, bad input."""
from __future__ import annotations

import argparse
import ast
import html.parser
import json
import os
import re
import resource
import secrets
import socket
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import painted
import pytest
import samples

from hand_pose_ros import bags, cli, messages, models, provenance, sole
from hand_pose_ros.config import Config
from hand_pose_ros.errors import ConfigError, DataError
from hand_pose_ros.evaluation import (bag_truth, evaluate, fail_if, judging, label_exchange, labels, report,
                                      result_bag, scale, video_bag, work)
from hand_pose_ros.evaluation.datasets import folder as label_folder
from hand_pose_ros.types import Hand, JointState

START_NS = 1_700_000_000_000_000_000
STEP_NS = 33_333_333
IMAGE, OPTICAL = "/camera/color/image_raw", "camera_color_optical_frame"


@pytest.fixture(autouse=True)
def one_commit(monkeypatch):
    """The source tree may get a commit between two runs of a test."""
    monkeypatch.setattr(provenance, "commit", lambda: "0123456789ab")


def run(out: Path, *options: str, factory: str = "painted:exact", **changes) -> dict:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    args = parser.parse_args(["--out", str(out), "--quiet", *map(str, options)])
    settings = {**vars(Config()), "hand_length_m": 0.186, **changes}
    return evaluate.evaluate(args, {"out": str(out), "settings": settings, "factory": factory,
                                    "video": not args.no_video, "results_bag": not args.no_results_bag,
                                    "labels": args.labels, "truth_topic": args.truth_topic})


def data(folder: Path, count: int = 6, hands_at=lambda n: [((0.02 * n - 0.05, 0.03, 0.55), n % 2 == 0)]) -> Path:
    """A folder set whose pictures hold their truth."""
    lines = []
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        hands = [(one(shift, right), right) for shift, right in hands_at(number)]
        image = painted.paint(np.full((240, 320, 3), 90, np.uint8), hands)
        name = f"images/{number:03d}.png"
        cv2.imwrite(str(folder / name), image[..., ::-1])
        lines.append({"image": name, "width": 320, "height": 240, "dataset": "made", "group": f"g{number // 2}",
                      "truth": "independent", "exhaustive": True, "ignore": [],
                      "hands": [label(joints, right) for joints, right in hands]})
    (folder / "annotations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def one(shift, right: bool) -> np.ndarray:
    joints = painted.hand((0, 0, 0))
    return (joints if right else joints * (-1, 1, 1)) + shift


def label(joints: np.ndarray, right: bool) -> dict:
    px = painted.project(joints)
    low, high = px.min(0), px.max(0)
    return {"bbox": [*low.tolist(), *(high - low).tolist()], "joints_2d": px.tolist(), "valid_2d": [1] * 21,
            "joints_3d": joints.tolist(), "valid_3d": [1] * 21, "handedness": "right" if right else "left",
            "K": painted.K.tolist()}


def bag(path: Path, count: int = 24, truth: bool = True, info: bool = True, start_ns: int = START_NS) -> Path:
    """A bag of a hand that crosses the picture."""
    with bags.BagWriter(path) as out:
        out.transform(start_ns, "base_link", OPTICAL, (0, 0, 1), static=True)
        for number in range(count):
            stamp = start_ns + number * STEP_NS
            joints = one((0.006 * number - 0.07, 0.03, 0.55), True)
            out.image(IMAGE, stamp, OPTICAL, painted.paint(np.full((240, 320, 3), 90, np.uint8), [(joints, True)]))
            if info:
                out.camera_info("/camera/color/camera_info", stamp, painted.CAMERA)
            if truth:
                px = painted.project(joints)
                hand = Hand(1.0, 1.0, np.concatenate([px.min(0), px.max(0)]), px, joints, joints - joints[0],
                            np.ones(21), np.full(21, JointState.VISIBLE, np.uint8), np.zeros(21), np.zeros(21), 0.186,
                            track_id=1)
                out.hands("/truth/hands", stamp, OPTICAL, (hand,))
    return path


def same_bytes(a: Path, b: Path) -> None:
    def stable(folder: Path) -> dict:
        return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")
                if path.is_file() and "latency" not in path.name and "timing" not in path.name}

    left, right = stable(a), stable(b)
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].read_bytes() == right[name].read_bytes(), name


# ---- data sets

def test_an_oracle_scores_perfectly_and_noise_shows(tmp_path):
    folder = data(tmp_path / "set")
    perfect = run(tmp_path / "a", "--data", folder)["metrics"]
    assert perfect["recall"] == perfect["precision"] == perfect["handedness"] == 1.0 and perfect["ap"] == 1.0
    assert perfect["nme"] < 1e-4 and perfect["pa_mpjpe_mm"] < 0.01 and perfect["camera_mpjpe_mm"] < 60
    rough = run(tmp_path / "b", "--data", folder, factory="painted:noisy")["metrics"]
    assert 0.002 < rough["nme"] < 0.1 and 1 < rough["pa_mpjpe_mm"] < 15
    nothing = run(tmp_path / "c", "--data", folder, factory="painted:blind")["metrics"]
    assert nothing["recall"] == 0 and np.isnan(nothing["nme"]) and nothing["pck_0.2_all"] == 0


def test_box_protocol_needs_no_detector(tmp_path):
    found = run(tmp_path / "a", "--data", data(tmp_path / "set"), "--protocol", "box")
    assert found["metrics"]["recall"] == 1.0 and found["metrics"]["nme"] < 1e-4
    assert found["source"]["protocol"] == "box" and "labelled box" in (tmp_path / "a" / "report.md").read_text()


def test_the_worst_answers_in_given_boxes_count(tmp_path):
    """An answer far from its box pairs with nothing by overlap; left out, the mean of the others would look better."""
    found = run(tmp_path / "a", "--data", data(tmp_path / "set"), "--protocol", "box", factory="painted:astray")
    assert found["metrics"]["recall"] == 1.0 and found["metrics"]["nme"] > 1.0


def test_two_runs_and_two_processes_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "IMAGES_PER_UNIT", 2)
    folder = data(tmp_path / "set", 6)
    for name, options in (("a", ()), ("b", ()), ("c", ("--jobs", "2"))):
        run(tmp_path / name, "--data", folder, *options, factory="painted:noisy")
    same_bytes(tmp_path / "a", tmp_path / "b")
    same_bytes(tmp_path / "a", tmp_path / "c")


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "IMAGES_PER_UNIT", 2)
    folder = data(tmp_path / "set", 6)
    run(tmp_path / "whole", "--data", folder)
    seen = []
    original = work.process

    def interrupted(unit, job, judge):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(unit["name"])
        original(unit, job, judge)

    monkeypatch.setattr(work, "process", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", "--data", folder)
    done = []
    monkeypatch.setattr(work, "process", lambda unit, *rest: done.append(unit["name"]) or original(unit, *rest))
    run(tmp_path / "a", "--data", folder)
    assert len(seen) == 2 and len(done) == 1
    same_bytes(tmp_path / "a", tmp_path / "whole")
    run(tmp_path / "a", "--data", folder, detection_threshold=0.6)
    assert len(done) == 4, "other settings: nothing may be reused"


def done_units(monkeypatch) -> list[str]:
    """Names of the units that are done from here on, not taken from their parts."""
    done, original = [], work.process
    monkeypatch.setattr(work, "process", lambda unit, *rest: done.append(unit["name"]) or original(unit, *rest))
    return done


def test_a_part_that_somebody_has_changed_is_done_again(tmp_path, monkeypatch):
    folder, part = data(tmp_path / "set", 2), tmp_path / "a" / "parts" / "folder_0000000.jsonl"
    run(tmp_path / "a", "--data", folder)
    written, done = part.read_bytes(), done_units(monkeypatch)
    run(tmp_path / "a", "--data", folder)
    assert not done
    part.write_bytes(written.splitlines(True)[0])
    assert run(tmp_path / "a", "--data", folder)["frames"] == 2 and part.read_bytes() == written and len(done) == 1


def test_two_evaluations_at_a_time_into_one_folder_are_refused(tmp_path):
    folder = data(tmp_path / "set", 2)
    with sole.sole(tmp_path / "a", "evaluation"), pytest.raises(ConfigError, match="another evaluation is writing"):
        run(tmp_path / "a", "--data", folder)


def test_a_video_that_the_disk_has_not_taken_is_no_result(tmp_path, monkeypatch):
    """OpenCV says nothing when it cannot write: here, frames that it drops."""
    class Full:
        def __init__(self, *args):
            self.writer, self.left = writer(*args), 5

        def isOpened(self):
            return True

        def write(self, image):
            if self.left:
                self.left -= 1
                self.writer.write(image)

        def release(self):
            self.writer.release()

    writer = cv2.VideoWriter
    monkeypatch.setattr(work.cv2, "VideoWriter", Full)
    with pytest.raises(DataError, match=r"hand.mp4: 5 of its 12 frames could be written: free some space, or .*--no-v"):
        run(tmp_path / "a", "--bag", bag(tmp_path / "hand.mcap", 12))
    monkeypatch.setattr(work.cv2, "VideoWriter", writer)
    assert run(tmp_path / "a", "--bag", tmp_path / "hand.mcap")["frames"] == 12


@pytest.mark.parametrize("rate", [89.987, 120.005, 59.94])
def test_a_quick_camera_has_its_annotated_video_too(tmp_path, rate):
    """MPEG-4 counts time in 16 bits."""
    made = types.SimpleNamespace(_video=None, _unit={"fps": rate}, _filmed=0, _video_path=lambda: tmp_path / "a.mp4")
    for _ in range(3):
        work._Recording._write_video(made, np.zeros((48, 64, 3), np.uint8))
    work._Recording.close(made)
    work._Recording.check(made)
    assert cv2.VideoCapture(str(tmp_path / "a.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(rate, abs=0.5)


def test_a_camera_that_changes_its_mode_has_one_video(tmp_path):
    made = types.SimpleNamespace(_video=None, _unit={"fps": 20.0}, _filmed=0, _video_path=lambda: tmp_path / "a.mp4")
    for height, width in ((48, 64), (96, 128), (96, 64)):
        work._Recording._write_video(made, np.full((height, width, 3), 200, np.uint8))
    work._Recording.close(made)
    work._Recording.check(made)
    film = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    pictures = [film.read()[1] for _ in range(3)]
    assert all(one.shape == (48, 64, 3) and one[24, 32].min() > 180 for one in pictures)
    assert pictures[1].min() > 180 and pictures[2][:, :10].max() < 40               # beside a narrower one: black


def test_recorded_hands_of_another_definition_are_named(tmp_path, monkeypatch):
    def lacking(message):
        raise AttributeError("'HandPose21Array' object has no attribute 'dropped'")

    monkeypatch.setattr(work, "read_array", lacking)
    unit = {"paths": [str(bag(tmp_path / "hand.mcap", 3))], "recorded": "/truth/hands"}
    with pytest.raises(DataError, match="/truth/hands holds hands of another definition.*'dropped'.*again"):
        work.RecordedHands(unit)


def test_changed_pictures_and_labels_are_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "IMAGES_PER_UNIT", 2)
    folder, done = data(tmp_path / "set", 4), done_units(monkeypatch)
    run(tmp_path / "a", "--data", folder)
    run(tmp_path / "a", "--data", folder)
    assert len(done) == 2, "nothing has changed"
    picture = folder / "images" / "003.png"
    cv2.imwrite(str(picture), np.full((240, 320, 3), 90, np.uint8))
    assert run(tmp_path / "a", "--data", folder)["metrics"]["recall"] == 0.75 and done[2:] == ["folder_0000002"]
    os.utime(picture, ns=(1, 1))
    run(tmp_path / "a", "--data", folder)
    assert done[3:] == ["folder_0000002"], "the same size, written at another time"
    lines = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    lines[0]["hands"][0]["bbox"][0] += 1.0          # what --protocol box gives to the networks
    (folder / "annotations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    work.data_set.cache_clear()                     # as in another process
    run(tmp_path / "a", "--data", folder)
    assert done[4:] == ["folder_0000000"]


def test_another_rule_or_input_of_a_models_card_is_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "PIPELINE", "painted:exact")
    monkeypatch.setattr(evaluate.runtimes, "pose_model", lambda model, runtime: "mine")
    folder, done, rule = data(tmp_path / "set", 2), done_units(monkeypatch), {"evidence_needed": 1.2}
    monkeypatch.setattr(models, "card", lambda name: {"sha256": "abc", "input": [160, 160, 3], "curve": [1], **rule})
    found = run(tmp_path / "a", "--data", folder)
    run(tmp_path / "a", "--data", folder)
    assert len(done) == 1 and found["run"]["models"]["pose"] == {
        "name": "mine", "sha256": "abc", "input": [160, 160, 3], "evidence_needed": 1.2}
    for rule in ({"evidence_needed": 2.0}, {}, {"input": [224, 224, 3]}):
        run(tmp_path / "a", "--data", folder)
        done[1:] = [] if len(done) == 2 else pytest.fail(f"{rule}: the earlier answers were taken")


def test_a_changed_recording_measured_hand_or_release_is_done_again(tmp_path, monkeypatch):
    path, done = bag(tmp_path / "hand.mcap", 4), done_units(monkeypatch)
    measured = tmp_path / "hand.json"
    measured.write_text("one")

    def again(**changes):
        run(tmp_path / "a", "--bag", path, hand_calibration_file=str(measured), **changes)
        return len(done)

    assert again() == again() == 1
    path.unlink()
    bag(path, 6)
    assert again() == 2
    measured.write_text("two")
    assert again() == 3
    monkeypatch.setattr(provenance, "commit", lambda: "99.0+0123abcd")
    assert again() == again() == 4
    video = tmp_path / "v.mp4"
    for count in (3, 5):
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), 20.0, (320, 240))
        for _ in range(count):
            writer.write(np.zeros((240, 320, 3), np.uint8))
        writer.release()
        assert run(tmp_path / "b", "--video", video)["frames"] == count


def test_files_that_an_earlier_run_did_not_make_are_made(tmp_path, monkeypatch):
    path, done = bag(tmp_path / "hand.mcap", 4), done_units(monkeypatch)
    made = [tmp_path / "a" / "hand.mp4", tmp_path / "a" / "hand.mcap"]
    run(tmp_path / "a", "--bag", path, "--no-video", "--no-results-bag")
    for file in made:
        file.write_bytes(b"left by a run that was stopped")
    run(tmp_path / "a", "--bag", path)
    assert len(done) == 2 and all(file.stat().st_size > 1000 for file in made)
    for file in made:
        file.unlink()
        run(tmp_path / "a", "--bag", path)
        assert file.is_file(), "lost since"
    assert len(done) == 4
    run(tmp_path / "a", "--bag", path)
    assert len(done) == 4


def test_files_of_earlier_runs_do_not_stay_beside_other_results(tmp_path):
    folder, path, out = data(tmp_path / "set", 3), bag(tmp_path / "hand.mcap", 4), tmp_path / "a"
    run(out, "--bag", path)
    (out / "mine.mp4").write_bytes(b"of the user")
    (out / "notes.md").write_text("of the user")
    assert {"hand.mp4", "hand.mcap", "weak_points.md"} <= {file.name for file in out.iterdir()}
    bare = bag(tmp_path / "bare.mcap", 4, truth=False)
    run(out, "--bag", bare, "--no-video")
    names = {file.name for file in out.iterdir() if file.is_file()}
    assert names == {*evaluate.ALWAYS, *evaluate.WITH_NETWORKS, "bare.mcap", "mine.mp4", "notes.md"}
    (tmp_path / "p.jsonl").write_text(json.dumps({"image": "images/000.png", "hands": []}) + "\n")
    run(out, "--data", folder, "--predictions", tmp_path / "p.jsonl")
    names = {file.name for file in out.iterdir() if file.is_file()}
    assert names == {*evaluate.ALWAYS, *evaluate.WITH_TRUTH, "mine.mp4", "notes.md"}
    (out / "hand.mcap").write_bytes(b"of the user, since ours is gone")
    run(out, "--data", folder)
    assert (out / "hand.mcap").is_file()
    run(tmp_path / "b", "--data", folder)
    run(tmp_path / "b", "--data", folder, "--predictions", tmp_path / "b" / "predictions.jsonl")
    assert (tmp_path / "b" / "predictions.jsonl").is_file(), "it was the input"


def test_nothing_that_is_read_is_written_over(tmp_path):
    (tmp_path / "rec").mkdir()
    path = bag(tmp_path / "rec" / "hand.mcap", 4)
    before = path.read_bytes()
    for options in (("--bag", path), ("--bags", tmp_path / "rec"), ("--bag", path, "--no-video")):
        with pytest.raises(ConfigError, match="hand.mcap is read by this run.*another --out"):
            run(tmp_path / "rec", *options)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "rec")
    with pytest.raises(ConfigError, match="is read by this run"):
        run(link, "--bag", path)
    assert path.read_bytes() == before and [file.name for file in path.parent.iterdir()] == ["hand.mcap"]
    run(tmp_path / "rec", "--bag", path, "--no-results-bag")
    assert path.read_bytes() == before
    run(tmp_path / "rec", "--bag", bag(tmp_path / "other.mcap", 4), "--no-results-bag")
    assert path.read_bytes() == before, "a run that did not make it does not remove it"
    video = tmp_path / "vid" / "hand.mp4"
    video.parent.mkdir()
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), 20.0, (320, 240))
    for _ in range(3):
        writer.write(np.zeros((240, 320, 3), np.uint8))
    writer.release()
    before = video.read_bytes()
    with pytest.raises(ConfigError, match="hand.mp4 is read by this run.*another --out"):
        run(video.parent, "--video", video)
    assert video.read_bytes() == before


def test_a_results_bag_does_not_get_among_the_files_of_its_source(tmp_path):
    """Every .mcap in the folder of a split bag is taken for a part of it."""
    folder = tmp_path / "split"
    folder.mkdir()
    bag(folder / "split_0.mcap", 4)
    with pytest.raises(ConfigError, match="taken for a part of the input"):
        run(folder, "--bag", folder)
    run(folder, "--bag", folder, "--no-results-bag")


def test_pictures_of_the_data_set_are_not_replaced_by_sheets(tmp_path):
    folder = data(tmp_path / "set", 3)
    (folder / "images").rename(folder / "sheets")
    lines = (folder / "annotations.jsonl").read_text()
    (folder / "annotations.jsonl").write_text(lines.replace("images/", "sheets/"))
    with pytest.raises(ConfigError, match="sheets is a folder of the data set"):
        run(folder, "--data", folder)
    assert len(list((folder / "sheets").iterdir())) == 3


@pytest.mark.parametrize("name", ["hand.mp4", "hand.mcap", "sheets", "predictions.jsonl"])
def test_files_of_somebody_else_are_not_replaced_by_the_first_run(tmp_path, name):
    (tmp_path / "day").mkdir()
    (out := tmp_path / "out").mkdir()
    source = bag(tmp_path / "day" / "hand.mcap", 3)
    mine = out / name / "mine" if name == "sheets" else out / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("{}")
    with pytest.raises(ConfigError, match=f"{name} is not of an evaluation and would be replaced"):
        run(out, "--bag", source)
    assert mine.read_text() == "{}" and sorted(path.name for path in out.iterdir()) == [name]


def test_a_box_that_is_none_is_a_problem_and_no_truth(tmp_path):
    folder = data(tmp_path / "set", 4)
    rows = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    for row, box in zip(rows, ([5, 5, 0, 0], [1, 1, -20, -20], ["48", "28", "10", "10"])):
        row["hands"][0]["bbox"] = box
    (folder / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run(tmp_path / "out", "--data", folder, "--protocol", "box")
    assert found["metrics"]["hands"] == 1 and sum("annotations.jsonl" in name for name in found["problems"]) >= 1


def test_pictures_that_cannot_be_used_are_counted(tmp_path):
    folder = data(tmp_path / "set", 5)
    (folder / "images" / "001.png").unlink()
    (folder / "images" / "002.png").write_bytes(b"no picture")
    cv2.imwrite(str(folder / "images" / "003.png"), np.zeros((100, 100, 3), np.uint8))
    found = run(tmp_path / "a", "--data", folder)
    assert found["metrics"]["images"] == 2
    words = " ".join(found["problems"])
    assert "label without image" in words and "cannot be decoded" in words and "another size" in words
    assert all(f"{number}.png" in words for number in ("001", "002", "003")), "or nobody finds them among thousands"
    assert "label without image" in (tmp_path / "a" / "report.html").read_text()


def test_bad_labels_are_counted_once_however_often_they_are_read(tmp_path):
    """FreiHAND's items are made each time they are asked for: by the networks' turn, by the report, after a stop."""
    folder = samples.freihand(tmp_path / "set", count=3)
    joints = json.loads((folder / "evaluation_xyz.json").read_text())
    joints[1][8][2] = float("nan")
    (folder / "evaluation_xyz.json").write_text(json.dumps(joints))
    for _ in range(2):                              # the second time from the parts that are there
        found = run(tmp_path / "a", "--data", folder, "--protocol", "box")
        assert [count for words, count in found["problems"].items() if "3D joint that is not a number" in words] == [1]


def test_predictions_of_another_program(tmp_path):
    folder = data(tmp_path / "set", 4)
    truth = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    lines = [{"image": row["image"], "hands": [{"joints_2d": row["hands"][0]["joints_2d"], "score": 0.9}]}
             for row in truth[:3]]
    lines.append({"image": "unknown.png", "hands": []})
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = run(tmp_path / "a", "--data", folder, "--predictions", tmp_path / "p.jsonl")
    assert found["metrics"]["recall"] == 0.75 and found["metrics"]["nme"] == 0.0
    assert found["problems"] == {"image without a prediction line, counted as no hands": 1,
                                 "prediction for an image that has no label, not used": 1}
    (tmp_path / "p.jsonl").write_text('{"hands": []}\n')
    with pytest.raises(DataError, match="p.jsonl:1"):
        run(tmp_path / "b", "--data", folder, "--predictions", tmp_path / "p.jsonl")


def test_predictions_of_which_some_have_a_stamp(tmp_path):
    folder = data(tmp_path / "set", 4)
    run(tmp_path / "a", "--data", folder)
    rows = [json.loads(line) for line in (tmp_path / "a" / "predictions.jsonl").read_text().splitlines()]
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({**row, "stamp_ns": 10**9} if k % 2 else row)
                                                for k, row in enumerate(rows)))
    assert run(tmp_path / "b", "--data", folder, "--predictions", tmp_path / "p.jsonl")["metrics"]["recall"] == 1


def test_predictions_with_two_lines_for_an_image_are_refused(tmp_path):
    folder = data(tmp_path / "set", 2)
    run(tmp_path / "a", "--data", folder)
    lines = (tmp_path / "a" / "predictions.jsonl").read_text().splitlines()
    (tmp_path / "theirs.jsonl").write_text("\n".join([*lines, lines[0]]))
    with pytest.raises(DataError, match="theirs.jsonl:3: images/000.png has a line already"):
        run(tmp_path / "b", "--data", folder, "--predictions", tmp_path / "theirs.jsonl")


def test_a_side_that_is_no_side_is_not_scored(tmp_path):
    folder = data(tmp_path / "set", 2)
    rows = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    rows[0]["hands"][0]["handedness"] = "unknown"
    (folder / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run(tmp_path / "a", "--data", folder)
    assert found["metrics"]["handedness"] == 1.0
    assert [count for text, count in found["problems"].items() if "'unknown'" in text] == [1]


@pytest.mark.parametrize("truth, precision", [("draft", 1.0), ("some_model", 1.0), ("no_hand_seen_by_eye", 2 / 3),
                                              ("independent", 2 / 3)])
def test_a_draft_without_hands_is_no_picture_without_hands(tmp_path, truth, precision):
    """Its network may have missed one: what another finds there is not false."""
    folder = data(tmp_path / "set", 3)
    rows = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    rows[0].update(truth=truth, hands=[])
    (folder / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(tmp_path / "a", "--data", folder)["metrics"]["precision"] == pytest.approx(precision)


@pytest.mark.parametrize("place", [0, -1])
def test_a_picture_without_hands_changes_no_set_into_another_kind(tmp_path, place):
    folder = data(tmp_path / "set", 6)
    rows = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["dataset"] = "ab"[number % 2]
    empty = {**rows[0], "image": "images/none.png", "hands": []}
    cv2.imwrite(str(folder / "images" / "none.png"), np.full((240, 320, 3), 90, np.uint8))
    rows.insert(place if place == 0 else len(rows), empty)
    (folder / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(tmp_path / "a", "--data", folder)["tables"]["mean_of_real_subsets"]["subsets"] == 2


def test_a_damaged_label_is_left_out_of_another_programs_predictions_too(tmp_path, monkeypatch):
    folder, load = data(tmp_path / "set", 4), work.data_set

    def damaged(*names):
        found = load(*names)
        return replace(found, build=lambda index: found.build(index) if index != 1 else [][index])

    monkeypatch.setattr(work, "data_set", damaged)
    ours = run(tmp_path / "a", "--data", folder)
    theirs = run(tmp_path / "b", "--data", folder, "--predictions", tmp_path / "a" / "predictions.jsonl")
    np.testing.assert_equal([theirs["metrics"], theirs["problems"]], [ours["metrics"], ours["problems"]])
    assert ours["metrics"]["images"] == 3 and list(ours["problems"].values()) == [1]


# ---- bags

def test_a_bag_with_truth(tmp_path):
    path = bag(tmp_path / "hand.mcap")
    found = run(tmp_path / "a", "--bag", path)
    assert found["frames"] == 24 and found["metrics"]["recall"] == 1.0
    assert found["metrics"]["nme"] < 0.06           # not 0: the hand moves, and the filter lags a little
    assert found["source"]["cameras"]["hand"] == {
        "image_topic": IMAGE, "info_topic": "/camera/color/camera_info", "frame_id": OPTICAL,
        "mount": {"parent": "base_link", "translation": [0.0, 0.0, 1.0], "rotation": [0.0, 0.0, 0.0, 1.0]}}
    assert "in base_link at (0.000, 0.000, 1.000) m" in (tmp_path / "a" / "report.md").read_text()
    facts = found["tracks"]["hand"]
    assert facts["tracks"] == 1 and facts["frames_with_hand"] == 24 and facts["detector_ran"] < 24
    assert facts["jitter_px"] < 0.5 and facts["acceleration_error_mm_s2"] is not None
    rows = [json.loads(line) for line in (tmp_path / "a" / "predictions.jsonl").read_text().splitlines()]
    assert [row["stamp_ns"] for row in rows] == [START_NS + n * STEP_NS for n in range(24)]
    with bags.BagReader(tmp_path / "a" / "hand.mcap") as results, bags.BagReader(path) as original:
        assert {*original.topics, *result_bag.TOPICS} == {*results.topics}
        markers = [recorded.message for recorded in results.messages(["/hand_pose/markers"])]
        assert len(markers) == 24 and len(markers[0].markers) == 3
        assert markers[0].markers[1].header.frame_id == OPTICAL and len(markers[0].markers[1].points) == 21
        topics = "/hand_pose/debug_image/compressed", "/camera/color/camera_info"
        drawn = [item.frame.image for item in results.frames(*topics)]
        assert len(drawn) == 24 and (np.abs(drawn[5][40:].astype(int) - 90) > 40).any(), "the hand is drawn"
        assert [r.raw for r in results.messages([IMAGE])] == [r.raw for r in original.messages([IMAGE])]
        hands = results.hands(result_bag.HANDS_TOPIC)
        assert sorted(hands) == [START_NS + n * STEP_NS for n in range(24)] and hands[START_NS].filtered
        order = [r.log_ns for r in results.messages()]
        assert order == sorted(order)
    video = cv2.VideoCapture(str(tmp_path / "a" / "hand.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 24


def test_two_runs_of_a_bag_give_the_same_bytes(tmp_path):
    path = bag(tmp_path / "hand.mcap")
    for name in "ab":
        run(tmp_path / name, "--bag", path, factory="painted:noisy")
    same_bytes(tmp_path / "a", tmp_path / "b")
    run(tmp_path / "b", "--bag", path, factory="painted:noisy")         # scored from the part that is there
    same_bytes(tmp_path / "a", tmp_path / "b")


def test_a_bag_without_truth_says_so(tmp_path):
    found = run(tmp_path / "a", "--bag", bag(tmp_path / "hand.mcap", 8, truth=False), "--no-video", "--no-results-bag")
    assert found["tables"] == {}
    assert not [path for path in (tmp_path / "a").iterdir() if path.suffix in (".mcap", ".mp4")]
    assert "No truth" in (tmp_path / "a" / "report.html").read_text()


def test_realtime_drops_what_the_node_would_drop(tmp_path, monkeypatch):
    """25 frames arrive every 20 ms (by their stamps), each takes 50 ms of a clock that only the pipeline moves."""
    now = [0.0]
    monkeypatch.setattr(work.time, "monotonic", lambda: now[0])
    taken = []

    class Slow(painted.pipeline.Pipeline):
        def step(self, state, frame, config):
            taken.append(frame.stamp_ns)
            now[0] += 0.05
            return state, painted.pipeline.Result((), (), True, {"detect": now[0], "pose": now[0], "lift": now[0]})

    monkeypatch.setattr(painted, "slow", lambda config: Slow(None, None, 128), raising=False)
    black = np.zeros((240, 320, 3), np.uint8)
    frames = [painted.Frame(black, painted.CAMERA, START_NS + n * 20_000_000) for n in range(25)]
    unit = {"name": "x", "kind": "video", "realtime": True}
    job = {"out": str(tmp_path), "settings": vars(Config()), "factory": "painted:slow", "video": False,
           "results_bag": False, "model_names": ""}
    (tmp_path / "parts").mkdir()
    problems, judge = work.Counter(), types.SimpleNamespace(add=lambda row: None)
    work._run_frames(((frame, frame.stamp_ns) for frame in frames), unit, job, 25, problems, judge)
    # starts at 0, 50, 100, 150, ... ms with the newest frame that arrived before: those of 0, 40, 80, 140, 180, 240 ms
    numbers = [(stamp - START_NS) // 20_000_000 for stamp in taken]
    assert numbers[:6] == [0, 2, 4, 7, 9, 12] and numbers[-1] == 24
    assert problems["frame dropped because a newer one had arrived (real time)"] == 25 - len(numbers)
    taken.clear()
    every = {**unit, "realtime": False}
    work._run_frames(((frame, frame.stamp_ns) for frame in frames), every, job, 25, problems, judge)
    assert len(taken) == 25
    taken.clear()

    def read():
        for frame in frames:
            now[0] += 0.03
            yield frame, frame.stamp_ns

    # 80 ms each: starts at 0, 80, 160, 240 ms with the newest frame that arrived before
    work._run_frames(read(), unit, job, 25, problems, judge)
    assert [(stamp - START_NS) // 20_000_000 for stamp in taken][:4] == [0, 3, 7, 11], "the node decodes images, too"


def test_a_cut_off_bag_keeps_what_it_holds_and_an_unreadable_one_keeps_the_others(tmp_path):
    whole = bag(tmp_path / "good.mcap", 12).read_bytes()
    (tmp_path / "cut.mcap").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "bad.mcap").write_bytes(b"\x89MCAP0\r\nnonsense")
    found = run(tmp_path / "a", "--bag", tmp_path / "good.mcap", tmp_path / "cut.mcap", tmp_path / "bad.mcap")
    assert list(found["failed_units"]) == ["bad"] and "not a readable bag" in found["failed_units"]["bad"]
    assert 5 <= found["tracks"]["cut"]["frames"] < 12 and found["tracks"]["good"]["frames"] == 12
    assert any("cut off" in problem for problem in found["problems"])
    text = (tmp_path / "a" / "report.md").read_text()
    assert "cut off" in text and "not evaluated: bad" in text
    with pytest.raises(DataError, match="nothing could be evaluated"):
        run(tmp_path / "b", "--bag", tmp_path / "bad.mcap")


def test_a_bag_without_the_named_truth_is_left_out_and_the_others_are_kept(tmp_path):
    paths = bag(tmp_path / "good.mcap", 4), bag(tmp_path / "bare.mcap", 4, truth=False)
    found = run(tmp_path / "a", "--bag", *paths, "--truth-topic", "/truth/hands", "--no-video", "--no-results-bag")
    assert list(found["failed_units"]) == ["bare"] and "no topic /truth/hands" in found["failed_units"]["bare"]
    assert found["metrics"]["recall"] == 1.0


def test_a_missing_topic_lists_what_is_there(tmp_path):
    with pytest.raises(DataError, match=f"no topic /front.*{IMAGE}"):
        path = bag(tmp_path / "hand.mcap", 3)
        parser = argparse.ArgumentParser()
        evaluate.add_arguments(parser)
        try:
            run(tmp_path / "a", "--bag", path, "--image-topic", "/front")
        except DataError as error:
            raise DataError(str(error).replace("\n", " ")) from error


def test_frames_without_calibration_run_with_an_assumed_camera_and_are_counted(tmp_path):
    found = run(tmp_path / "a", "--bag", bag(tmp_path / "hand.mcap", 6, info=False))
    assert found["problems"][f"{IMAGE}: image without calibration, a field of view is assumed"] == 6
    rows = [json.loads(line) for line in (tmp_path / "a" / "predictions.jsonl").read_text().splitlines()]
    assert all(hand["joints_camera"] is None for row in rows for hand in row["hands"])


def test_many_bags_of_one_name_and_a_folder_of_bags(tmp_path):
    for number in range(2):
        (tmp_path / f"day{number}").mkdir()
        bag(tmp_path / f"day{number}" / "hand.mcap", 4, start_ns=START_NS + number * 10**12)
    found = run(tmp_path / "a", "--bag", tmp_path / "day0" / "hand.mcap", tmp_path / "day1" / "hand.mcap")
    assert sorted(found["tracks"]) == ["hand_0", "hand_1"] and found["metrics"]["hands"] == 8
    (tmp_path / "day2").mkdir()
    taken = bag(tmp_path / "day2" / "hand_0.mcap", 3)       # a name that was to be given to another
    found = run(tmp_path / "b", "--bag", *(tmp_path / f"day{k}" / "hand.mcap" for k in range(2)), taken)
    assert sorted(found["tracks"]) == ["hand_0", "hand_1", "hand_2"] and found["metrics"]["hands"] == 11
    assert [path.name for path in evaluate.bags_in(tmp_path / "day0")] == ["hand.mcap"]
    with pytest.raises(DataError, match="no bag"):
        evaluate.bags_in(tmp_path / "a" / "parts")
    before = evaluate.bags_in(tmp_path)                     # the two days, each a folder with one bag
    run(tmp_path / "results", "--bags", tmp_path / "day0")
    assert any((tmp_path / "results").glob("*.mcap")) and evaluate.bags_in(tmp_path) == before


def test_hands_that_a_node_has_published_are_scored_from_the_bag(tmp_path):
    run(tmp_path / "a", "--bag", bag(tmp_path / "hand.mcap"))
    found = run(tmp_path / "b", "--bag", tmp_path / "a" / "hand.mcap", "--recorded", result_bag.HANDS_TOPIC,
                "--truth-topic",
                "/truth/hands", factory="nowhere:to_be_found")
    first = report.read_run(tmp_path / "a")["metrics"]
    assert found["metrics"]["nme"] == pytest.approx(first["nme"], rel=1e-3) and found["metrics"]["recall"] == 1.0
    assert not list((tmp_path / "b").glob("*.mcap"))
    with pytest.raises(ConfigError, match="--recorded needs --bag"):
        run(tmp_path / "c", "--video", "x.mp4", "--recorded", "/hands")


@pytest.mark.parametrize("dropped", [(2, 3), (4, 5)])
def test_labels_where_the_recorded_node_dropped_a_frame_are_not_without_an_image(tmp_path, dropped):
    path = bag(tmp_path / "hand.mcap", 6)
    found = tmp_path / "recorded.mcap"
    with bags.BagReader(path) as reader, bags.BagWriter(found) as out:
        truth = reader.hands()
        for number, item in enumerate(reader.frames()):
            stamp = item.frame.stamp_ns
            out.image(IMAGE, stamp, OPTICAL, item.frame.image)
            out.camera_info("/camera/color/camera_info", stamp, item.frame.camera)
            hands, _ = messages.read_array(truth[stamp])
            out.hands("/truth/hands", stamp, OPTICAL, hands)
            if number not in dropped:
                out.hands("/hand_pose/hands", stamp, OPTICAL, hands)
    for _ in range(2):                                                  # again, from the parts
        problems = run(tmp_path / "a", "--bag", found, "--recorded", "/hand_pose/hands")["problems"]
        assert list(problems.values()) == [2] and "the node had dropped it" in next(iter(problems))


def test_the_launch_file_plays_records_and_reports():
    """launch is not on PyPI, so its file is read; what it runs is made by a function that needs nothing of it."""
    source = (Path(__file__).parents[2] / "launch" / "evaluate.launch.py").read_text()
    tree = ast.parse(source)
    scope = {"Path": Path, "HANDS": result_bag.HANDS_TOPIC}
    chosen = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "commands"
              or isinstance(node, ast.Assign) and node.targets[0].id in ("RECORDED", "TAKEN")]
    exec(compile(ast.Module(chosen, []), "evaluate.launch.py", "exec"), scope)
    given = {"bag": "/x.mcap", "out": "/o", "rate": "0.5", "options": "--fail-if 'recall < 0.9'", "image": ""}
    play, record, evaluation = scope["commands"](given)
    assert play[:4] == ["ros2", "bag", "play", "/x.mcap"] and record[-1] == str(Path("/o/recorded"))
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    args = parser.parse_args(evaluation[4:])
    assert args.bag == [record[-1]] and args.recorded == result_bag.HANDS_TOPIC and args.fail_if == ["recall < 0.9"]
    assert f'HANDS = "{result_bag.HANDS_TOPIC}"' in source
    assert "signal_number=signal.SIGINT" in source, \
        "launch passes it to os.kill: a name like 'SIGINT' is an error there"
    with pytest.raises(ValueError, match="bag:= is empty"):
        scope["commands"]({**given, "bag": ""})


def test_truth_from_the_wrist_says_nothing_in_the_camera_s_frame(tmp_path):
    """A perfect hand half a metre away: without a place in the camera's frame its truth must not make an error of it.
    """
    path, camera = tmp_path / "hand.mcap", "/camera/color/camera_info"
    joints = one((0.0, 0.03, 0.55), True)
    px = painted.project(joints)
    hand = Hand(1.0, 1.0, np.concatenate([px.min(0), px.max(0)]), px, np.full((21, 3), np.nan), joints - joints[0],
                np.ones(21), np.full(21, JointState.VISIBLE, np.uint8), np.zeros(21), np.zeros(21), 0.186, track_id=1)
    with bags.BagWriter(path) as out:
        for number in range(4):
            stamp = START_NS + number * STEP_NS
            out.image(IMAGE, stamp, OPTICAL, painted.paint(np.full((240, 320, 3), 90, np.uint8), [(joints, True)]))
            out.camera_info(camera, stamp, painted.CAMERA)
            out.hands("/truth/hands", stamp, OPTICAL, (hand,))
    metrics = run(tmp_path / "a", "--bag", path)["metrics"]
    assert metrics["pa_mpjpe_mm"] < 0.01 and metrics["mpjpe_mm"] < 10
    for name in ("camera_mpjpe_mm", "mrrpe_mm", "nees_ray", "nees_across", "coverage_1sigma_ray"):
        assert np.isnan(metrics[name]), name


def test_hands_already_in_the_recording_are_replaced_and_counted(tmp_path):
    first = bag(tmp_path / "hand.mcap", 6)
    run(tmp_path / "a", "--bag", first)
    found = run(tmp_path / "b", "--bag", tmp_path / "a" / "hand.mcap", "--truth-topic", "/truth/hands",
                "--image-topic", IMAGE)
    for topic in result_bag.TOPICS:
        assert found["problems"][f"{topic}: message of the recording replaced by ours in the results bag"] == 6
    with bags.BagReader(tmp_path / "b" / "hand.mcap") as results:
        assert len(results.hands(result_bag.HANDS_TOPIC)) == 6


def test_frames_that_real_time_drops_are_no_labels_without_image(tmp_path, monkeypatch):
    """Each frame takes three steps of the recording: of 12 frames 0, 2, 5, 8 and 11 are taken."""
    now = [0.0]
    monkeypatch.setattr(work.time, "monotonic", lambda: now[0])
    plain = painted.pipeline.Pipeline.step

    def step(self, state, frame, config):
        now[0] += 3 * STEP_NS / 1e9
        return plain(self, state, frame, config)

    monkeypatch.setattr(painted.pipeline.Pipeline, "step", step)
    path = bag(tmp_path / "hand.mcap", 12)
    for _ in range(2):                              # the second time from the part that is there
        found = run(tmp_path / "a", "--bag", path, "--realtime")
        dropped = found["problems"]["frame dropped because a newer one had arrived (real time)"]
        assert dropped == 12 - found["frames"] > 5
        assert not any("label without image" in problem for problem in found["problems"])


# ---- labels there and back

def test_labels_go_to_the_recording_whose_name_they_have(tmp_path):
    """Two recordings with the same stamps; the labels of one must not be taken for the other's."""
    paths = [bag(tmp_path / f"{name}.mcap", 4, truth=False) for name in ("one", "two")]
    right = one((-0.07, 0.03, 0.55), True)
    off = {**label(right, True), "joints_2d": (painted.project(right) + (4.0, 0)).tolist()}
    rows = [{"image": f"{group}.png", "width": 320, "height": 240, "group": group, "stamp_ns": START_NS,
             "truth": "independent", "hands": [hand]} for group, hand in (("one", label(right, True)), ("two", off))]
    file = tmp_path / "annotations.jsonl"

    def score(*recordings, lines=rows):
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = run(tmp_path / "a", "--bag", *recordings, "--labels", file, "--no-video", "--no-results-bag")
        return {name: row["epe_px"] for name, row in found["tables"]["subsets"].items()}, found["problems"]

    both, problems = score(*paths)
    assert both == {"one": pytest.approx(0, abs=0.1), "two": pytest.approx(4, abs=0.1)}
    assert problems == {"image without label, not scored": 6}
    only, problems = score(paths[1])
    assert only == {"two": pytest.approx(4, abs=0.1)} and problems["label of another recording, not used"] == 1
    only, problems = score(*paths, lines=rows[:1])
    assert only == {"one": pytest.approx(0, abs=0.1)} and "label without image" not in " ".join(problems)
    elsewhere = [{**row, "group": f"person {row['group']}"} for row in rows]
    assert score(paths[0], lines=elsewhere[:1])[0] == {"one": pytest.approx(0, abs=0.1)}, "there is only one recording"
    for given, lines in ((paths, elsewhere), (paths[:1], elsewhere), (paths, [{**rows[0], "group": "hand"}])):
        with pytest.raises(DataError, match='write the name of its recording into the field "group"'):
            score(*given, lines=lines)


def test_corrected_labels_are_scored_without_running_the_networks_again(tmp_path, monkeypatch):
    path, file, done = bag(tmp_path / "hand.mcap", 4, truth=False), tmp_path / "l.jsonl", done_units(monkeypatch)
    hand = label(one((-0.07, 0.03, 0.55), True), True)
    for shift in (0.0, 4.0):
        hand["joints_2d"] = (painted.project(one((-0.07, 0.03, 0.55), True)) + (shift, 0)).tolist()
        file.write_text(json.dumps({"image": "a.png", "width": 320, "height": 240, "stamp_ns": START_NS,
                                    "hands": [hand]}))
        found = run(tmp_path / "a", "--bag", path, "--labels", file)
        assert found["metrics"]["epe_px"] == pytest.approx(shift, abs=0.1)
    assert done == ["hand"]


def test_joints_that_are_not_numbers_are_counted_in_a_labels_file_too(tmp_path):
    hand = label(one((-0.07, 0.03, 0.55), True), True)
    hand["joints_2d"][8][0] = float("nan")
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(
        {"image": "a.png", "width": 320, "height": 240, "stamp_ns": START_NS, "hands": [hand]}) + "\n"
        for _ in range(2)))
    found = run(tmp_path / "a", "--bag", bag(tmp_path / "hand.mcap", 3, truth=False), "--labels", tmp_path / "l.jsonl")
    words = [count for problem, count in found["problems"].items() if "2D joint that is not a number" in problem]
    assert words == [2] and found["problems"]["a.png: labelled twice, only the first is used"] == 1


def test_a_joint_off_the_lens_has_no_place_in_a_draft(tmp_path, monkeypatch):
    path, pipeline = bag(tmp_path / "hand.mcap", 2), painted.exact(Config())

    class OffTheLens:
        def step(self, state, frame, config):
            state, result = pipeline.step(state, frame, config)
            hands = tuple(replace(hand, joints_px=np.where(np.arange(21)[:, None] == 8, np.nan, hand.joints_px),
                                  state=np.where(np.arange(21) == 8, JointState.UNKNOWN, hand.state).astype(np.uint8))
                          for hand in result.hands)
            return state, replace(result, hands=hands)

    monkeypatch.setattr(work, "load_pipeline", lambda run: (OffTheLens(), Config()))
    args = argparse.Namespace(source=str(path), out=str(tmp_path / "draft"), every=1, image_topic=None, name=None)
    assert labels.draft(args, {"settings": vars(Config()), "factory": ""})[:2] == (2, 2)
    (row, _), *_ = label_folder.rows(tmp_path / "draft" / "annotations.jsonl")
    assert row["hands"][0]["valid_2d"] == [int(joint != 8) for joint in range(21)]
    coco = json.loads((tmp_path / "draft" / label_exchange.FILE).read_text())
    assert coco["annotations"][0]["keypoints"][24:27] == [0, 0, 0] and coco["annotations"][0]["num_keypoints"] == 20


def test_draft_labels_are_corrected_and_fed_back(tmp_path):
    path = bag(tmp_path / "hand.mcap", 20, truth=False)
    parser = argparse.ArgumentParser()
    labels.add_arguments(parser)
    args = parser.parse_args([str(path), "--out", str(tmp_path / "labels"), "--every", "5"])
    job = {"settings": vars(Config()), "factory": "painted:exact"}
    count, hands, problems = labels.draft(args, job)
    assert (count, hands) == (4, 4) and not problems
    rows = [json.loads(line) for line in (tmp_path / "labels" / "annotations.jsonl").read_text().splitlines()]
    assert {row["truth"] for row in rows} == {"draft"}
    by_folder = run(tmp_path / "a", "--data", tmp_path / "labels")
    assert by_folder["tables"]["kinds"].keys() == {"all labels made with a model"}
    assert sum(count for said, count in by_folder["problems"].items() if "nobody has corrected" in said) == 4
    assert by_folder["metrics"]["nme"] < 0.05
    rows[0]["hands"][0]["joints_2d"][8][0] += 21.0                     # a person moves one fingertip
    for row in rows:
        row["truth"] = "independent"
    rows.append({**rows[0], "image": "images/none.png", "stamp_ns": 5})
    (tmp_path / "labels" / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    by_bag = run(tmp_path / "b", "--bag", path, "--labels", tmp_path / "labels")
    assert by_bag["metrics"]["hands"] == 4 and by_bag["metrics"]["epe_px"] == pytest.approx(21 / 21 / 4, abs=0.3)
    assert by_bag["problems"]["label without image: no frame has its stamp"] == 1
    assert by_bag["problems"]["image without label, not scored"] == 16
    with pytest.raises(DataError, match="not empty"):
        labels.draft(args, job)
    labels.draft(parser.parse_args([str(path), "--out", str(tmp_path / "named"), "--name", "mine"]), job)
    row = json.loads((tmp_path / "named" / "annotations.jsonl").read_text().splitlines()[0])
    assert (row["dataset"], row["group"]) == ("mine", "hand"), "the group says which recording"


def draft(source: Path, out: Path) -> tuple[int, int, dict]:
    parser = argparse.ArgumentParser()
    labels.add_arguments(parser)
    return labels.draft(parser.parse_args([str(source), "--out", str(out)]),
                        {"settings": vars(Config()), "factory": "painted:exact"})


def test_pictures_of_one_name_and_two_endings_are_two_drafts(tmp_path):
    folder = data(tmp_path / "set", 2) / "images"
    (folder / "001.png").rename(folder / "000.bmp")
    assert draft(folder, tmp_path / "labels")[0] == 2
    rows = [json.loads(line) for line in (tmp_path / "labels" / "annotations.jsonl").read_text().splitlines()]
    assert len({(tmp_path / "labels" / row["image"]).read_bytes() for row in rows}) == 2


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("damage, error, said", [
    (lambda folder: [path.write_bytes(b"none") for path in folder.iterdir()], "no frame could be used", "cut off"),
    (lambda folder: [path.unlink() for path in folder.iterdir()], "it holds nothing", ""),
    (lambda folder: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY)), "images/000.png cannot",
     "free some space")])
def test_a_failed_draft_does_not_stop_the_next_one(tmp_path, there, damage, error, said):
    folder, out = data(tmp_path / "set", 2) / "images", tmp_path / "labels"
    if there:
        out.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        damage(folder)
        with pytest.raises(DataError, match=f"{error}.*{said}"):
            draft(folder, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert out.exists() == there and not list(out.glob("*"))
    assert draft(data(tmp_path / "good", 2) / "images", out)[0] == 2


def drafted(tmp_path: Path) -> tuple[Path, dict]:
    """Draft labels of a bag with one hand: their folder, and their COCO keypoints."""
    path = bag(tmp_path / "hand.mcap", 20, truth=False)
    parser = argparse.ArgumentParser()
    labels.add_arguments(parser)
    labels.draft(parser.parse_args([str(path), "--out", str(tmp_path / "labels"), "--every", "5"]),
                 {"settings": vars(Config()), "factory": "painted:exact"})
    return tmp_path / "labels", json.loads((tmp_path / "labels" / "coco_keypoints.json").read_text())


def test_drafts_are_coco_keypoints_for_a_label_editor(tmp_path):
    folder, coco = drafted(tmp_path)
    rows = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    assert [image["file_name"] for image in coco["images"]] == [row["image"] for row in rows]
    categories = {entry["id"]: entry for entry in coco["categories"]}
    assert len(coco["annotations"]) == 4
    for annotation, row in zip(coco["annotations"], rows):
        hand, category = row["hands"][0], categories[annotation["category_id"]]
        assert category["name"] == hand["handedness"] + "_hand" and len(category["keypoints"]) == 21
        assert [category["keypoints"][k - 1] for k in category["skeleton"][3]] == ["thumb_ip", "thumb_tip"]
        triples = np.reshape(annotation["keypoints"], (21, 3))
        np.testing.assert_array_equal(triples[triples[:, 2] > 0, :2],
                                      np.array(hand["joints_2d"])[np.array(hand["valid_2d"]) > 0])
        assert annotation["num_keypoints"] == (triples[:, 2] > 0).sum() == sum(hand["valid_2d"])
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    read = COCO(str(folder / "coco_keypoints.json"))
    assert len(read.getAnnIds(catIds=read.getCatIds(supNms=["hand"]))) == 4


@pytest.mark.parametrize("kept", [[8], [5, 6]])
def test_a_corrected_hand_of_one_keypoint_or_of_a_line_can_be_read_back(tmp_path, kept):
    folder, coco = drafted(tmp_path)
    triples = np.reshape(coco["annotations"][0]["keypoints"], (21, 3))
    triples[[k for k in range(21) if k not in kept]] = 0
    triples[kept, 0], triples[kept, 2] = 100, 2
    coco["annotations"][0]["keypoints"] = triples.ravel().tolist()
    (tmp_path / "corrected.json").write_text(json.dumps(coco))
    parser = argparse.ArgumentParser()
    labels.add_arguments(parser)
    for _ in range(2):
        assert labels.main(parser.parse_args([str(tmp_path / "corrected.json"), "--out", str(folder)])) == 0
    found = work.datasets.load("folder", folder)
    assert len(found) == 4 and not found.problems and found[0].hands[0].valid_px.sum() == len(kept)


def test_what_an_editor_exported_replaces_the_draft(tmp_path, capsys):
    """As CVAT exports: other ids, keypoints in another order, no folder before the pictures' names."""
    folder, coco = drafted(tmp_path)
    draft = (folder / "annotations.jsonl").read_text()
    turned = list(reversed(range(21)))
    for image in coco["images"]:
        image.update(id=image["id"] + 50, file_name=Path(image["file_name"]).name)
    for annotation in coco["annotations"]:
        triples = np.reshape(annotation["keypoints"], (21, 3))
        triples[8] += (21, 0, 0)
        triples[3] = 0                                                  # taken away by the person
        annotation.update(image_id=annotation["image_id"] + 50, category_id=7, id=annotation["id"] + 9,
                          keypoints=triples[turned].ravel().tolist())
    names = coco["categories"][0]["keypoints"]
    coco["categories"] = [{"id": 7, "name": "left_hand", "keypoints": [names[k] for k in turned]},
                          {"id": 9, "name": "face", "keypoints": []}]
    coco["annotations"][0]["category_id"] = 9
    del coco["images"][3], coco["annotations"][3]
    (tmp_path / "corrected.json").write_text(json.dumps(coco))
    parser = argparse.ArgumentParser()
    labels.add_arguments(parser)
    assert labels.main(parser.parse_args([str(tmp_path / "corrected.json"), "--out", str(folder)])) == 0
    said = capsys.readouterr().out
    assert "3 pictures with 2 hands corrected" in said and "1 x picture that the corrected file does not name" in said
    assert "1 x images/" in said and "annotation without keypoints of a hand, left out" in said
    assert "looked at, or forgotten" not in said
    before = [json.loads(line) for line in draft.splitlines()]
    rows = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    assert (folder / "annotations.before.jsonl").read_text() == draft and rows[3] == before[3]
    first = (folder / "annotations.jsonl").read_text()
    assert labels.main(parser.parse_args([str(tmp_path / "corrected.json"), "--out", str(folder)])) == 0
    assert "2 x hand whose joints are where the labels had them before" in capsys.readouterr().out
    assert (folder / "annotations.before.jsonl").read_text() == draft                       # once more: it stays
    assert (folder / "annotations.before.1.jsonl").read_text() == first
    assert [row["truth"] for row in rows[:3]] == ["independent"] * 3 and rows[0]["hands"] == []
    for row, old in zip(rows[1:3], before[1:3]):
        hand, was = row["hands"][0], old["hands"][0]
        moved = np.subtract(hand["joints_2d"], was["joints_2d"]).round(6)
        assert moved[8].tolist() == [21, 0] and not np.delete(moved, (3, 8), 0).any() and hand["handedness"] == "left"
        assert hand["valid_2d"][3] == 0 and sum(hand["valid_2d"]) == sum(was["valid_2d"]) - 1
        assert row["stamp_ns"] == old["stamp_ns"] and hand["K"] == was["K"]
    found = run(tmp_path / "a", "--bag", tmp_path / "hand.mcap", "--labels", folder)
    assert found["metrics"]["hands"] == 2, "the headline is over what a person has corrected"


@pytest.mark.parametrize("damage, said", [
    (lambda coco: coco["annotations"][0]["keypoints"].pop(), "62 numbers in keypoints instead of 63"),
    (lambda coco: coco["annotations"][0]["keypoints"].__setitem__(4, float("nan")), "a keypoint is not a number"),
    (lambda coco: coco["images"][1].update(file_name="other.png"), "no line for the picture other.png"),
    (lambda coco: coco["images"][1].update(file_name=coco["images"][0]["file_name"]), "is named twice"),
    (lambda coco: coco["images"][1].update(width=160), "160 x 240 pixels there and 320 x 240 here"),
    (lambda coco: coco["categories"][0]["keypoints"].remove("ring_pip"), "left_hand lacks the keypoints ring_pip"),
    (lambda coco: coco.pop("categories"), "KeyError: 'categories'"),
])
def test_an_export_that_does_not_fit_changes_nothing(tmp_path, damage, said):
    folder, coco = drafted(tmp_path)
    damage(coco)
    draft = (folder / "annotations.jsonl").read_text()
    (tmp_path / "corrected.json").write_text(json.dumps(coco))
    with pytest.raises(DataError, match=f"corrected.json: no COCO keypoints of the pictures in .*{said}"):
        label_exchange.take_over(tmp_path / "corrected.json", folder)
    assert (folder / "annotations.jsonl").read_text() == draft
    assert not (folder / "annotations.before.jsonl").exists()


def test_a_video_becomes_a_bag_and_is_evaluated(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(5):
        joints = one((0.01 * number, 0.02, 0.5), True)
        image = painted.paint(np.full((240, 320, 3), 90, np.uint8), [(joints, True)])
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), image[..., ::-1])
    parser = argparse.ArgumentParser()
    video_bag.add_arguments(parser)
    args = parser.parse_args([str(tmp_path / "pictures"), "--out", str(tmp_path / "x.mcap"), "--hfov-deg", "56.1",
                              "--raw", "--fps", "25"])
    assert video_bag.convert(args) == (5, (320, 240))
    found = run(tmp_path / "a", "--bag", tmp_path / "x.mcap")
    assert found["frames"] == 5 and found["tracks"]["x"]["frames_with_hand"] == 5
    with bags.BagReader(tmp_path / "x.mcap") as reader:
        frames = list(reader.frames())
        assert np.diff([f.frame.stamp_ns for f in frames]).tolist() == [40_000_000] * 4
        assert frames[0].frame.camera.calibrated and frames[0].frame.camera.K[0, 0] == pytest.approx(300, rel=0.01)
    with pytest.raises(DataError, match="exists already"):
        video_bag.convert(args)
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 20.0, (320, 240))
    for number in range(6):
        writer.write(np.full((240, 320, 3), 40 * number, np.uint8))
    writer.release()
    args = parser.parse_args([str(tmp_path / "v.mp4"), "--out", str(tmp_path / "folder")])
    assert video_bag.convert(args)[0] == 6 and (tmp_path / "folder" / "metadata.yaml").is_file()
    found = run(tmp_path / "b", "--video", tmp_path / "v.mp4")
    assert found["frames"] == 6
    whole = (tmp_path / "pictures" / "3.png").read_bytes()
    (tmp_path / "pictures" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="3.png: .*cut off"):
        video_bag.convert(parser.parse_args([str(tmp_path / "pictures"), "--out", str(tmp_path / "z")]))
    assert not (tmp_path / "z").exists()
    with pytest.raises(DataError, match="not a video"):
        video_bag.convert(parser.parse_args([str(tmp_path / "none.mp4"), "--out", str(tmp_path / "y.mcap")]))


@pytest.mark.parametrize("change, said", [
    ({}, ""), ({"fx": 0.0}, "K"), ({"fx": -300.0}, "K"), ({"fx": float("nan")}, "K"),
    ({"image_width": -320}, "-320 x 240"),
    ({"image_width": 0}, "0 x 240"), ({"image_width": 480}, "480 x 240")])
def test_a_calibration_that_is_none_or_of_another_picture_makes_no_bag(tmp_path, change, said):
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "0.png"), np.zeros((240, 320, 3), np.uint8))
    values = {"image_width": 320, "image_height": 240, "fx": 300.0, **change}
    fx = values.pop("fx")
    (tmp_path / "camera.yaml").write_text(json.dumps({
        **values, "camera_matrix": {"data": [fx, 0, 160, 0, 300, 120, 0, 0, 1]}, "distortion_model": "plumb_bob",
        "distortion_coefficients": {"data": [0.0] * 5}}))
    parser = argparse.ArgumentParser()
    video_bag.add_arguments(parser)
    args = parser.parse_args([str(tmp_path / "pictures"), "--out", str(tmp_path / "x.mcap"), "--calibration",
                              str(tmp_path / "camera.yaml")])
    if not said:
        assert video_bag.convert(args) == (1, (320, 240))
        return
    with pytest.raises(DataError, match=f"camera.yaml: .*{said}"):
        video_bag.convert(args)
    assert not (tmp_path / "x.mcap").exists()


# ---- report, comparison, conditions

class _Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.links, self.images, self.headings = [], [], 0, ""

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href") and not value.startswith("data:")]
        self.images += tag == "img"
        if tag not in ("img", "meta", "br", "line", "rect", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open[-1] in ("li", "p") and tag not in ("li", "p"):
            self.open.pop()
        if tag not in ("line", "rect", "circle", "polyline"):
            assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings += text + "\n"


def test_the_page_is_self_contained_and_complete(tmp_path):
    folder = data(tmp_path / "set", 6)
    run(tmp_path / "a", "--data", folder)
    run(tmp_path / "b", "--data", folder, "--compare", tmp_path / "a", factory="painted:noisy")
    text = (tmp_path / "b" / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert all((tmp_path / "b" / link).is_file() and link.startswith("sheets/") for link in page.links)
    assert page.links and page.images >= 8 and "http" not in re.sub(r'xmlns="[^"]*"', "", text)
    for heading in ("Result", "Compared with a", "PCK curves", "Error by joint", "Where accuracy is lost", "Worst",
                    "Typical", "All metrics", "Problems", "Run"):
        assert heading in page.headings, heading
    assert "worse" in text and "detection_threshold=0.5" in text
    markdown = (tmp_path / "b" / "report.md").read_text()
    assert "| PA-MPJPE mm |" in markdown and "Compared with a" in markdown
    result = json.loads((tmp_path / "b" / "results.json").read_text())
    assert result["metrics"]["pa_mpjpe_mm"] > 1 and len(result["intervals"]["pa_mpjpe_mm"]) == 2


def test_a_bag_page_has_a_timeline_with_thumbnails(tmp_path):
    run(tmp_path / "a", "--bag", bag(tmp_path / "hand.mcap", 24))
    page = _Page()
    page.feed((tmp_path / "a" / "report.html").read_text())
    assert "Recordings" in page.headings and page.images >= 8
    assert "hand 1" in (tmp_path / "a" / "report.html").read_text()


def test_page_and_results_bag_name_what_ran_the_networks(tmp_path, monkeypatch):
    plain = painted.exact

    def exact(config):
        chain = plain(config)
        for step, name, reason in ((chain.detect, "tensorrt", ""), (chain.estimate, "cuda", "tensorrt: no memory")):
            source = types.SimpleNamespace(model=f"of {name}")
            step.network = types.SimpleNamespace(name=name, reason=reason, source=source)
        return chain

    monkeypatch.setattr(painted, "running", exact, raising=False)
    result = run(tmp_path / "a", "--bag", bag(tmp_path / "hand.mcap", 3), factory="painted:running")
    expected = "of tensorrt: tensorrt; of cuda: cuda (tensorrt: no memory)"
    assert result["runtime"] == expected and expected in (tmp_path / "a" / "report.html").read_text()
    with bags.BagReader(tmp_path / "a" / "hand.mcap") as results:
        assert {item.message.runtime for item in results.messages([result_bag.HANDS_TOPIC])} == {expected}


def test_published_figures_stand_beside_ours_with_their_protocol(tmp_path):
    folder = samples.freihand(tmp_path / "set", count=2)
    run(tmp_path / "a", "--data", folder, "--protocol", "box")
    text = (tmp_path / "a" / "report.md").read_text()
    assert "WiLoR" in text and "labelled crop, Procrustes-aligned" in text and "arXiv 2409.12259" in text


def test_predictions_for_freihand_have_its_knuckles(tmp_path):
    folder = samples.freihand(tmp_path / "set", count=2)
    found = run(tmp_path / "a", "--data", folder, "--protocol", "box", factory="painted:published")
    truth = project_freihand(samples.hand_m())
    for row in (json.loads(line) for line in (tmp_path / "a" / "predictions.jsonl").read_text().splitlines()):
        np.testing.assert_allclose(row["hands"][0]["joints_2d"], truth, atol=2e-3)
        np.testing.assert_allclose(row["hands"][0]["joints_3d"], samples.hand_m() - samples.hand_m()[0], atol=2e-6)
    assert found["metrics"]["nme"] < 1e-4


def project_freihand(joints: np.ndarray) -> np.ndarray:
    uvw = joints @ np.array(samples.FREIHAND_K).T
    return uvw[:, :2] / uvw[:, 2:]


def test_ours_stands_beside_a_published_figure_only_under_its_protocol():
    def cells(name, protocol, split, whole=True):
        source = {"kind": "dataset", "name": name, "protocol": protocol, "split": split, "whole": whole}
        values = {"pa_mpjpe_mm": 8.25, "epe_joints_px": 3.5, "pck_0.2": 0.9, "auc_scale_20_50": 0.5, "ap50": 0.25}
        rows = report._anchor_rows({"source": source, "metrics": values})
        assert rows[0][:4] == ["method", "metric", "value", "ours"]
        return {(row[0], row[1]): row[3] for row in rows[1:]}

    wilor = "WiLoR", "PA-MPJPE mm"
    assert cells("freihand", "box", "evaluation")[wilor] == "8.2"
    for other in (("full", "evaluation"), ("box", "training"), ("predictions of another program", "evaluation"),
                  ("box", "evaluation", False)):
        assert cells("freihand", *other)[wilor] == "not comparable", other
    for name, *other in (("rhd", "box", "evaluation"), ("interhand26m", "box", "test")):
        assert set(cells(name, *other).values()) == {"not comparable"}, "one hand a picture; the wrist's depth given"
    assert cells("coco_wholebody", "full", "val")["MediaPipe", "AP50 %"] == "not comparable", "of labelled boxes"
    zoo = cells("onehand10k", "box", "test")
    assert zoo["MobileNetV2", "EPE px over joints"] == "3.50"
    assert zoo["HRNetv2-w18 + DarkPose", "PCK@0.2 %"] == "not comparable", "relative to another box"


def mixed(folder: Path) -> Path:
    """Pictures of three kinds of label: the real ones are labelled 6 px off, the others right."""
    data(folder, 6)
    lines = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line["truth"] = "made with a model" if number >= 4 else "independent"
        line["synthetic"], line["dataset"] = number in (2, 3), f"set{number // 2}"
        for hand in line["hands"] if number < 2 else ():
            hand["joints_2d"] = (np.array(hand["joints_2d"]) + (6, 0)).tolist()
            hand["joints_3d"] = hand["valid_3d"] = None
    (folder / "annotations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_figures_and_tables_of_all_sets_do_not_mix_labels_of_different_worth(tmp_path):
    found = run(tmp_path / "a", "--data", mixed(tmp_path / "set"))
    text = (tmp_path / "a" / "report.html").read_text()
    over = "Over real pictures with independent labels and pictures without a hand."
    for heading in ("PCK curves", "Error by joint"):
        assert f"<h2>{heading}</h2><p class=faint>{over}" in text, heading
    assert "3D: joints within a distance" not in text, "the real pictures have no 3D labels"
    assert "Calibration of" not in text
    assert text.count(over) == 4, "cards, curves, joints, and where accuracy is lost"
    assert list(found["tables"]["by"]["size"]) == ["64-128 px"] and "size 64-128 px, every label" in text
    weak = (tmp_path / "a" / "weak_points.md").read_text()
    mean = next(line for line in weak.splitlines() if line.startswith("| mean |"))
    assert float(mean.split("|")[2]) == pytest.approx(100 * found["metrics"]["nme"], abs=0.1)
    assert found["metrics"]["nme"] > 0.02
    start = weak.index("## All sets (over real pictures")
    sides = re.findall(r"\| (left|right) \| (\d+) \|", weak[start:weak.index("##", start + 2)])
    assert sorted(sides) == [("left", "1"), ("right", "1")]
    assert "## Error by joint, NME %, all (over real pictures" in weak
    run(tmp_path / "b", "--data", data(tmp_path / "alike", 4))
    assert "Over real" not in (tmp_path / "b" / "report.html").read_text()


def test_size_rows_count_no_images(tmp_path):
    run(tmp_path / "a", "--data", data(tmp_path / "set", 4))
    lines = (tmp_path / "a" / "report.md").read_text().splitlines()
    header = next(line for line in lines if line.startswith("| set |")).split("|")
    row = next(line for line in lines if line.startswith("| size ")).split("|")
    assert row[header.index(" images ")].strip() == "" and row[header.index(" hands ")].strip() == "4"


def test_comparing_two_runs(tmp_path):
    folder = data(tmp_path / "set", 6)
    run(tmp_path / "a", "--data", folder, factory="painted:noisy")
    run(tmp_path / "b", "--data", folder)
    run(tmp_path / "c", "--data", folder, "--protocol", "box")
    text = report.compare_text([report.read_run(tmp_path / "a"), report.read_run(tmp_path / "b" / "results.json")])
    line = next(line for line in text.splitlines() if "| PA-MPJPE mm" in line)
    assert "better" in line and "worse" not in text and "differ" not in text
    run(tmp_path / "d", "--data", data(tmp_path / "another", 6))
    assert "The two runs differ in folder (set before, another now)" in report.compare_text(
        [report.read_run(tmp_path / "a"), report.read_run(tmp_path / "d")])
    recording = {"kind": "bag", "recordings": ["hand"], "realtime": False}
    assert "differ in recorded (None before, /hands now)" in report._comparable(
        *({"source": {**recording, "recorded": topic}, "run": {}} for topic in ("/hands", None)))
    run(tmp_path / "e", "--data", folder, "--min-iou", "0.5")
    assert "The two runs differ in min_iou (0.3 before, 0.5 now)" in report.compare_text(
        [report.read_run(tmp_path / "a"), report.read_run(tmp_path / "e")])
    assert "The two runs differ in protocol" in report.compare_text(
        [report.read_run(tmp_path / "a"), report.read_run(tmp_path / "c")])
    with pytest.raises(DataError, match="not the results.json of a run"):
        report.read_run(tmp_path / "set")


def test_every_metric_has_a_title_and_a_direction():
    up = {"recall", "precision", "handedness", "ap", "ap50", "ap75", "f_5mm", "f_15mm"}
    for name in report.TITLES:
        expected = 0 if name in ("images", "hands", "hands_3d") or name.startswith(("coverage", "nees")) else \
            1 if name in up or name.startswith(("pck", "auc")) else -1
        assert report.direction(name) == expected, name
    assert report.direction("images_with_false") == -1


@pytest.mark.parametrize("text, expected", [
    ("pa_mpjpe_mm > 9", True), ("pa_mpjpe_mm > 11", False), ("recall < 0.9 or pa_mpjpe_mm >= 10", True),
    ("recall < 0.9 and pa_mpjpe_mm > 9", False), ("pck_0.2 == 1", True), ("nees_ray > 3", True), ("mrrpe_mm > 3", True),
    ("mrrpe_mm > 3 and recall < 0.9", False)])
def test_conditions(text, expected):
    values = {"pa_mpjpe_mm": 10.0, "recall": 0.95, "pck_0.2": 1.0, "nees_ray": float("nan")}
    assert fail_if.parse(text).holds(values) is expected


def test_bad_conditions_are_refused():
    for text in ("pa_mpjpe_mm", "pa_mpjpe_mm > nine", "__import__('os') > 1", ""):
        with pytest.raises(ConfigError, match="is not METRIC"):
            fail_if.parse(text)
    with pytest.raises(ConfigError, match="there is no metric pa_mpjp;.*pa_mpjpe_mm"):
        fail_if.parse("recall < 0.9 or pa_mpjp > 9")
    for text in ("recall < 90", "nme > 9", "auc_3d_20_50 < 1.5", "recall > 1", "precision < 0", "ap50 < -0.1"):
        with pytest.raises(ConfigError, match="is a share from 0 to 1"):
            fail_if.parse(text)
    for text in ("recall < 1", "nees_ray > 2", "pa_mpjpe_mm > 9", "images_with_false > 3", "jitter_px > 1.5"):
        fail_if.parse(text)


def test_the_command_fails_when_the_condition_holds(tmp_path, monkeypatch, capsys):
    folder = data(tmp_path / "set", 3)
    result = {"metrics": {"recall": 0.5}, "failed_units": {}, "tracks": {}, "frames": 3, "tables": {}, "problems": {}}
    monkeypatch.setattr(evaluate, "evaluate", lambda args, job: result)
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    options = ["--data", str(folder), "--out", str(tmp_path / "a"), "--fail-if"]
    assert evaluate.main(parser.parse_args([*options, "recall < 0.4"])) == 0
    assert evaluate.main(parser.parse_args([*options, "recall < 0.6"])) == 1
    assert "failed: recall < 0.6\n" in capsys.readouterr().err
    assert evaluate.main(parser.parse_args([*options, "pa_mpjpe_mm > 9"])) == 1
    assert "failed: pa_mpjpe_mm > 9 (no value in this run, so counted as failed: pa_mpjpe_mm)" in \
        capsys.readouterr().err
    monkeypatch.setattr(evaluate, "evaluate", lambda args, job: pytest.fail("a name is checked before the work"))
    with pytest.raises(ConfigError, match="no metric recal;"):
        evaluate.main(parser.parse_args([*options, "recal < 0.4"]))
    parser.format_help()                            # argparse fills in %, so each must be written twice


def test_the_command_fails_when_no_picture_can_be_read(tmp_path, monkeypatch, capsys):
    folder = data(tmp_path / "set", 2)
    for path in (folder / "images").iterdir():
        path.write_bytes(b"no picture")
    monkeypatch.setattr(evaluate, "PIPELINE", "painted:exact")
    assert cli.main(["evaluate", "--data", str(folder), "--out", str(tmp_path / "a"), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "none of the pictures could be read: folder: images/000.png: the file cannot be decoded" in said


def test_a_video_given_as_a_bag_is_told_where_it_goes(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"nothing")
    with pytest.raises(DataError, match="v.mp4: unknown storage.*evaluate --video"):
        run(tmp_path / "a", "--bag", tmp_path / "v.mp4")


def test_conditions_hold_for_the_second_of_two_compared_runs(tmp_path, capsys):
    folder = data(tmp_path / "set", 3)
    run(tmp_path / "a", "--data", folder)
    run(tmp_path / "b", "--data", folder, factory="painted:blind")
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    for second, status in (("a", 0), ("b", 1)):
        options = ["--compare", str(tmp_path / "a"), str(tmp_path / second), "--fail-if", "recall < 0.9"]
        assert evaluate.main(parser.parse_args(options)) == status
    assert "failed: recall < 0.9" in capsys.readouterr().err
    two = ["--compare", str(tmp_path / "a"), str(tmp_path / "b")]
    evaluate.main(parser.parse_args([*two, "--out", str(tmp_path / "c")]))
    assert (tmp_path / "c" / "compare.md").read_text().strip() == capsys.readouterr().out.strip()


def test_options_that_do_not_fit_together(tmp_path):
    folder = data(tmp_path / "set", 2)
    for options, words in (((), "give one of"), (("--data", folder, "--video", "x.mp4"), "give one of"),
                           (("--bag", "x.mcap", "./x.mcap"), "x.mcap is given twice"),
                           (("--video", "x.mp4", "--predictions", "p"), "needs --data"),
                           (("--data", folder, "--limit", "0"), "at least 1"),
                           (("--data", folder, "--dataset", "freihnd"), "did you mean"),
                           (("--data", folder, "--split", "foo"), "split 'foo' does not exist.*all"),
                           (("--data", folder, "--realtime"), "--realtime: of no use with --data"),
                           (("--data", folder, "--truth-topic", "t", "--labels", "l"), "--labels, --truth-topic: of"),
                           (("--video", "x.mp4", "--image-topic", "/a"), "--image-topic: of no use with --video"),
                           (("--video", "x.mp4", "--limit", "3"), "--limit: of no use with --video"),
                           (("--bag", "x.mcap", "--protocol", "box"), "--protocol box: of no use with --bag"),
                           (("--data", folder, "--compare", tmp_path / "none"), "none is not the results.json")):
        with pytest.raises((ConfigError, DataError), match=words):
            run(tmp_path / "a", *options, factory="painted:none_may_be_loaded")
        assert not (tmp_path / "a").exists(), "a run that is refused leaves nothing behind"
    assert run(tmp_path / "b", "--data", folder, "--limit", "1")["metrics"]["images"] == 1


# ---- networks

def test_networks_are_those_of_offline_use_which_never_change_midway(monkeypatch):
    asked = []

    def load(kind, model, runtime, options):
        asked.append(options)
        raise ConfigError("enough seen")

    monkeypatch.setattr("hand_pose_ros.runtimes.load", load)
    with pytest.raises(ConfigError, match="enough seen"):
        work.load_pipeline({"factory": evaluate.PIPELINE, "settings": dict(vars(Config()))})
    assert [options.live for options in asked] == [False]


# ---- engines

def test_a_cluster_gets_absolute_paths(tmp_path, monkeypatch):
    """Its machines see the same files but work in another folder."""
    given = {}
    monkeypatch.setitem(sys.modules, "ray", fake_ray([]))
    monkeypatch.setattr(scale, "_reach", lambda address: None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    data(Path("set"), 2)
    bag(Path("hand.mcap"), 3)
    Path("l.jsonl").write_text("")
    measured = Path("hand.json")
    measured.write_text("{}")
    original = judging.evaluate

    def elsewhere(unit, job):
        given.update(unit=unit, run=job)
        monkeypatch.chdir(tmp_path)
        try:
            return original(unit, job)
        finally:
            monkeypatch.chdir(tmp_path / "here")

    monkeypatch.setattr(judging, "evaluate", elsewhere)
    for number, options in enumerate((("--data", "set"), ("--bag", "hand.mcap", "--labels", "l.jsonl"),
                                      ("--bags", "."))):
        found = run(Path(f"out{number}"), *options, "--engine", "ray", "--ray-address", "head:1",
                    "--no-results-bag", hand_calibration_file="hand.json")
        assert found["frames"] == (2 if "--data" in options else 3), found["problems"]
        assert (tmp_path / "here" / f"out{number}" / "report.html").is_file() and given["run"]["out"].startswith("/")
        assert given["run"]["settings"]["hand_calibration_file"] == str(measured.resolve())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"]


def _square(unit, job):
    if unit["name"] == "3":
        raise DataError("three")
    Path(job["out"], unit["name"]).write_text(str(int(unit["name"]) ** 2))
    return unit["name"]


def fake_ray(calls: list) -> types.ModuleType:
    """The part of Ray that the adapter uses, with results that arrive in reverse."""
    module = types.ModuleType("ray")

    class RayTaskError(Exception):
        def __init__(self, cause):
            super().__init__(str(cause))
            self.cause = cause

    class Task:
        def __init__(self, function, options):
            self.function = function

        def remote(self, *arguments):
            return lambda: self.function(*arguments)

    def get(reference):
        try:
            return reference()
        except Exception as error:
            raise RayTaskError(error) from error

    module.exceptions = types.SimpleNamespace(RayTaskError=RayTaskError)
    module.is_initialized = lambda: False
    module.init = lambda **options: calls.append(options)
    module.remote = lambda **options: lambda function: Task(function, options)
    module.wait = lambda references, num_returns: ([references[-1]], references[:-1])
    module.get = get
    return module


@pytest.mark.parametrize("engine, jobs", [("local", 1), ("local", 2), ("ray", 1)])
def test_engines_do_every_unit_and_keep_what_is_done(engine, jobs, tmp_path, monkeypatch):
    calls: list = []
    monkeypatch.setitem(sys.modules, "ray", fake_ray(calls))
    monkeypatch.setattr(scale, "_reach", lambda address: None)
    units = [{"name": str(number)} for number in range(5)]
    with scale.workers(jobs, engine) as spread:
        for _ in range(2):                          # the same workers are asked twice
            found = {unit["name"]: rest for unit, *rest in spread(_square, units, {"out": str(tmp_path)})}
            assert found.keys() == set("01234") and found["2"] == ["2", None] and isinstance(found["3"][1], DataError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "4"]
    if engine == "ray":
        assert calls[0]["address"] is None and calls[0]["_node_ip_address"] == "127.0.0.1"
        with scale.workers(1, "ray", "head:6379"):
            pass
        assert calls[1]["address"] == "head:6379" and "num_cpus" not in calls[1]


@pytest.mark.parametrize("address, said", [
    ("here", "not HOST:PORT"), ("127.0.0.1:here", "not HOST:PORT"), ("127.0.0.1:9", "refused|timed out"),
    ("127.0.0.1:PORT", "Failed to connect")])
def test_a_cluster_that_does_not_answer_is_named_with_the_remedy(address, said, monkeypatch):
    module = fake_ray([])

    def init(**_):
        raise ConnectionError("Failed to connect to Ray cluster")

    module.init = init
    monkeypatch.setitem(sys.modules, "ray", module)
    with socket.create_server(("127.0.0.1", 0)) as listening:           # something that is no cluster, or wants a token
        address = address.replace("PORT", str(listening.getsockname()[1]))
        with pytest.raises(ConfigError, match=f"answers at {address}: .*({said}).*RAY_AUTH_TOKEN"), \
                scale.workers(1, "ray", address):
            pass


def test_a_real_cluster_of_two_nodes_gives_the_same_results(tmp_path):
    """Needs the extra `ray`: a head and a second node on this machine, as two machines would be joined."""
    pytest.importorskip("ray")
    from ray.util import get_node_ip_address
    with socket.create_server(("", 0)) as free:
        head = f"{get_node_ip_address()}:{free.getsockname()[1]}"
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
                   "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}

    def start(*options):
        subprocess.run([sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", *options], check=True,
                       env=environment, capture_output=True, timeout=120)

    (tmp_path / "many").mkdir()
    for number in range(3):
        bag(tmp_path / "many" / f"bag_{number}.mcap", 3 + number)
    try:
        start("--head", f"--port={head.rpartition(':')[2]}", "--include-dashboard=false",
              f"--node-ip-address={head.rpartition(':')[0]}")
        start(f"--address={head}")
        command = [sys.executable, "-m", "hand_pose_ros", "evaluate", "--bags", str(tmp_path / "many"), "--quiet"]
        for out, options in (("one", ()), ("two", ("--engine", "ray", "--ray-address", head))):
            subprocess.run([*command, "--out", str(tmp_path / out), *options], check=True, env=environment, timeout=200)
    finally:
        stop = [sys.executable, "-m", "ray.scripts.scripts", "stop", "--force"]
        subprocess.run(stop, check=False, capture_output=True)
    for name in ("results.json", "predictions.jsonl", "bag_0.mcap", "bag_2.mp4"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def _killed(unit, job):
    os._exit(1)


def test_a_killed_process_is_said_in_words(tmp_path):
    with pytest.raises(ConfigError, match="one of 2 processes was killed.*fewer --jobs"), scale.workers(2) as spread:
        list(spread(_killed, [{"name": "1"}], {}))


def test_unknown_and_missing_engines(monkeypatch):
    with pytest.raises(ConfigError, match="choose one of local, ray"):
        scale.workers(1, "slurm")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="pip install -r requirements/ray.txt"), scale.workers(1, "ray"):
        pass


def test_track_metrics_start_again_after_a_gap():
    from hand_pose_ros.evaluation.predictions import Predicted, Row

    def row(number, stamp, place):
        joints = np.full((21, 2), float(place))
        return Row(str(number), (Predicted(joints_px=joints, joints_m=np.zeros((21, 3)), track_id=1),), stamp)

    rows = {n * STEP_NS: row(n, n * STEP_NS, 5.0) for n in range(5)}
    rows.update({10**10 + n * STEP_NS: row(n, 10**10 + n * STEP_NS, 90.0) for n in range(5)})
    facts = bag_truth.track_metrics(rows, {})
    assert facts["jitter_px"] == 0.0 and facts["jitter_mm_s2"] == 0.0 and facts["longest_track_frames"] == 10
