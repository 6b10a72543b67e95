"""hand-pose predict: names, order and format of its lines, and files that are not what they seem."""
import argparse
import dataclasses
import errno
import json
import os
import re
import threading

import cv2
import numpy as np
import pytest

from hand_pose_ros import models, predict, progress
from hand_pose_ros import pipeline as pipelines
from hand_pose_ros.errors import ConfigError, DataError, FrameError
from hand_pose_ros.runtimes import POSE_QUICK
from hand_pose_ros.types import CropPose, Detection

SHAPE = np.random.default_rng(0).normal(0, 0.2, (21, 3))


def detect(image, threshold):
    """Sees one hand in every picture that is not black."""
    height, width = image.shape[:2]
    box = np.array([0.3 * width, 0.3 * height, 0.7 * width, 0.7 * height])
    return [Detection(box, 0.9, 1.0, np.array([0.0, -1.0]))] if image.mean() > 100 else []


def estimate(crops):
    size = crops[0].image.shape[0]
    xyz = SHAPE - SHAPE[0]
    uv = (SHAPE[:, :2] - SHAPE[:, :2].mean(0)) / np.ptp(SHAPE[:, :2]) * size / 2 + size / 2
    return [CropPose(uv, xyz, np.ones(21), np.full(21, 0.05), np.ones(21), 1.0, 0.1 if crop.mirrored else 0.9)
            for crop in crops]


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    monkeypatch.setattr(pipelines, "load", lambda config: pipelines.Pipeline(detect, estimate, 64))


def run(*words):
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    return predict.main(parser.parse_args([str(w) for w in words]))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    (root / "images" / "set").mkdir(parents=True)
    cv2.imwrite(str(root / "images" / "set" / "b.png"), np.full((60, 80, 3), 200, np.uint8))
    cv2.imwrite(str(root / "images" / "set" / "a.jpg"), np.zeros((60, 80, 3), np.uint8))
    (root / "annotations.jsonl").write_text(json.dumps(
        {"image": "images/set/b.png", "width": 80, "height": 60,
         "hands": [{"bbox": [10, 10, 20, 30], "K": [[50, 0, 40], [0, 50, 30], [0, 0, 1]]},
                   {"bbox": [40, 20, 20, 20]}]}))
    return root


def test_files_are_read_by_the_larger_of_the_two_pose_networks():
    """The table of the README is made by it; what a node takes on a CPU is asked for by name."""
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    chosen = parser.parse_args(["x", "--out", "y"]).pose_model
    assert models.card(chosen)["input"] > models.card(POSE_QUICK)["input"]
    assert f"(default: {chosen})" in " ".join(parser.format_help().split())


def test_a_folder_is_searched_and_named_from_its_root(folder, tmp_path):
    assert run(folder, "--out", tmp_path / "out.jsonl") == 0
    black, grey = lines(tmp_path / "out.jsonl")
    assert black == {"image": "images/set/a.jpg", "hands": []} and grey["image"] == "images/set/b.png"
    hand = grey["hands"][0]
    assert np.shape(hand["joints_2d"]) == (21, 2) and np.shape(hand["joints_3d"]) == (21, 3) and len(hand["bbox"]) == 4
    assert hand["handedness"] == "right" and 0 < hand["score"] <= 1
    x, y, w, h = hand["bbox"]
    joints = np.array(hand["joints_2d"])
    assert np.allclose([x, y, x + w, y + h], [*joints.min(0), *joints.max(0)], atol=0.02)
    assert np.abs(joints.mean(0) - (40, 30)).max() < 8


def test_videos_among_pictures_are_said_to_be_left_out(folder, tmp_path, capsys):
    (folder / "images" / "film.mp4").write_bytes(b"")
    assert run(folder, "--out", tmp_path / "out.jsonl") == 0 and len(lines(tmp_path / "out.jsonl")) == 2
    assert f"left out: 1 of the files in {folder} are videos, film.mp4 for one" in capsys.readouterr().err


def test_how_far_it_is_is_said_on_the_way(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LOG_S", 0.0)
    run(folder, "--out", tmp_path / "out.jsonl")
    lines = [line for line in capsys.readouterr().err.splitlines() if "/s" in line]
    count = len((tmp_path / "out.jsonl").read_text().splitlines())
    assert len(lines) == count and lines[-1].startswith(f"{count}/{count} ")


def test_given_boxes_replace_the_detector(folder, tmp_path):
    assert run(folder, "--out", tmp_path / "out.jsonl", "--boxes", folder / "annotations.jsonl", "--cameras",
               folder / "annotations.jsonl") == 0
    (line,) = lines(tmp_path / "out.jsonl")
    assert line["image"] == "images/set/b.png" and len(line["hands"]) == 2
    for hand, middle in zip(line["hands"], ((20, 25), (50, 30))):
        assert np.abs(np.array(hand["joints_2d"]).mean(0) - middle).max() < 6


def test_the_cameras_of_the_labels_are_used(folder):
    record = predict.annotations(folder / "annotations.jsonl")["images/set/b.png"]
    image = np.zeros((60, 80, 3), np.uint8)
    assert predict.camera_of(record, image, 60.0).K[0, 0] == 50 and predict.camera_of(record, image, 60.0).calibrated
    assert not predict.camera_of(None, image, 60.0).calibrated


@pytest.mark.parametrize("damage, said", [
    ({"bbox": [0, 0, 0, 0]}, r"\[0, 0, 0, 0\].*above 0"), ({"bbox": [1, 2, float("nan"), 4]}, "above 0"),
    ({"K": [1, 2]}, 'no usable "K"'), ({"K": [[0, 0, 0]] * 3}, 'no usable "K"'), (5, 'no usable "K"')])
def test_a_box_or_camera_that_is_none_is_named_and_the_others_are_done(folder, tmp_path, capsys, damage, said):
    good = json.loads((folder / "annotations.jsonl").read_text())
    bad = {"image": "images/set/a.jpg", "hands": [{**good["hands"][0], **damage}] if damage != 5 else damage}
    (folder / "annotations.jsonl").write_text("\n".join(json.dumps(row) for row in (good, bad)))
    option = "--boxes" if "above 0" in said else "--cameras"
    assert run(folder, option, folder / "annotations.jsonl", "--out", tmp_path / "out.jsonl") == 1
    assert re.search(f"a.jpg: its record has .*{said}", capsys.readouterr().err)
    assert [len(line["hands"]) > 0 for line in lines(tmp_path / "out.jsonl")] == [False, True]


@pytest.mark.parametrize("source, option, out", [
    ("pictures/images/set/b.png", None, "pictures/images/set/b.png"), ("pictures", None, "pictures/images/set/a.jpg"),
    ("pictures", "--boxes", "pictures/annotations.jsonl"), ("pictures", "--cameras", "link.jsonl")])
def test_what_is_read_is_not_written_over(folder, tmp_path, source, option, out):
    (tmp_path / "link.jsonl").symlink_to(folder / "annotations.jsonl")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    given = (option, folder / "annotations.jsonl") if option else ()
    with pytest.raises(ConfigError, match=f"{out} would replace .*give another file"):
        run(tmp_path / source, *given, "--out", tmp_path / out)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_result_that_cannot_be_written_is_said(folder, tmp_path):
    with pytest.raises(ConfigError, match="is a folder"):
        run(folder, "--out", tmp_path)
    with pytest.raises(DataError, match="/dev/full cannot be written: No space left.*free some space"):
        run(folder, "--out", "/dev/full")


def test_a_result_may_lie_at_home(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(folder, "--out=~/found.jsonl") == 0 and lines(tmp_path / "found.jsonl")


def test_one_picture_is_named_without_its_folder(folder, tmp_path):
    assert run(folder / "images" / "set" / "b.png", "--out", tmp_path / "out.jsonl") == 0
    assert lines(tmp_path / "out.jsonl")[0]["image"] == "b.png"


def test_a_damaged_picture_is_named_and_the_others_are_done(folder, tmp_path, capsys):
    (folder / "c.jpg").write_bytes(b"\xff\xd8 no picture")
    assert run(folder, "--out", tmp_path / "out.jsonl") == 1
    found = {line["image"]: line for line in lines(tmp_path / "out.jsonl")}
    assert found["c.jpg"]["hands"] == [] and "decoded" in found["c.jpg"]["error"] and len(found) == 3
    assert "c.jpg" in capsys.readouterr().err


def test_a_cut_off_picture_is_no_picture_without_hands(folder, tmp_path):
    whole = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))[1].tobytes()
    (folder / "images" / "set" / "a.jpg").write_bytes(whole[: len(whole) // 2])
    assert run(folder, "--out", tmp_path / "out.jsonl") == 1
    assert "cut off" in lines(tmp_path / "out.jsonl")[0]["error"]


def test_two_lines_for_one_picture_are_refused(folder, tmp_path):
    line = (folder / "annotations.jsonl").read_text().strip()
    (tmp_path / "boxes.jsonl").write_text(f"{line}\n{line}\n")
    with pytest.raises(DataError, match="line 2 .*the second of images/set/b.png"):
        run(folder, "--out", tmp_path / "out.jsonl", "--boxes", tmp_path / "boxes.jsonl")


@pytest.mark.parametrize("box, said", [
    (["48", "28", "10", "10"], "must be"), ([100, 10, 20, 20], "outside the picture"), ([-30, 10, 20, 20], "outside"),
    ([10, 10, 1_000_000, 10], "")])
def test_a_box_that_is_none_ends_no_run(folder, tmp_path, capsys, box, said):
    """A box of a million pixels is one: what it is averaged to must not depend on it."""
    record = json.loads((folder / "annotations.jsonl").read_text())
    (tmp_path / "boxes.jsonl").write_text(json.dumps({**record, "hands": [{"bbox": box}]}) + "\n")
    assert run(folder, "--out", tmp_path / "out.jsonl", "--boxes", tmp_path / "boxes.jsonl") == bool(said)
    assert said in capsys.readouterr().err and len(lines(tmp_path / "out.jsonl")) == 1


def test_a_video_is_followed_over_time(tmp_path, monkeypatch):
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 20, (80, 60))
    for _ in range(5):
        writer.write(np.full((60, 80, 3), (90, 150, 240), np.uint8))                     # BGR: orange, as skin is
    writer.release()
    frames, step = [], pipelines.Pipeline.step
    monkeypatch.setattr(pipelines.Pipeline, "step", lambda self, state, frame, settings: (
        frames.append(frame), step(self, state, frame, settings))[1])
    assert run(tmp_path / "v.avi", "--out", tmp_path / "out.jsonl") == 0
    found = lines(tmp_path / "out.jsonl")
    assert [line["frame"] for line in found] == [0, 1, 2, 3, 4]
    for frame in frames:
        np.testing.assert_allclose(frame.image.mean((0, 1)), (240, 150, 90), atol=6)    # RGB, as the networks learnt
    np.testing.assert_allclose(np.diff([frame.stamp_ns for frame in frames]), 50_000_000)       # at the file's rate
    assert len({hand["track_id"] for line in found for hand in line["hands"]}) == 1


@pytest.mark.parametrize("presence, words, hands", [
    (0.55, (), 5), (0.55, ("--min-score", "0.9"), 1), (0.3, (), 0), (0.3, ("--min-score", "0.2"), 5),
    (0.3, ("--min-score", "0.2", "--presence-threshold", "0.4"), 0),
    (0.45, ("--min-score", "0.2", "--presence-threshold", "0.5"), 0)])
def test_the_least_score_is_that_of_followed_hands_too(tmp_path, monkeypatch, presence, words, hands):
    """A new hand's score is what both networks say together; a followed one's its presence."""
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 20, (80, 60))
    for _ in range(5):
        writer.write(np.full((60, 80, 3), (90, 150, 240), np.uint8))
    writer.release()
    monkeypatch.setattr(pipelines, "load", lambda config: pipelines.Pipeline(
        detect, lambda crops: [dataclasses.replace(pose, presence=presence) for pose in estimate(crops)], 64))
    run(tmp_path / "v.avi", "--out", tmp_path / "out.jsonl", *words)
    assert sum(len(line["hands"]) for line in lines(tmp_path / "out.jsonl")) == hands


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"nothing")
    (tmp_path / "v.mpg").write_bytes(b"nothing")
    (tmp_path / "bad.jsonl").write_text('{"image": "a"}\n{"imag')
    for words, text in (((tmp_path / "v.mp4",), "v.mp4"), ((tmp_path / "absent",), "absent"),
                        ((tmp_path / "v.mpg",), r"v.mpg is neither .*\.jpg .*\.mp4"), ((tmp_path,), r"\.jpg .*\.mp4"),
                        ((tmp_path, "--boxes", tmp_path / "bad.jsonl"), "bad.jsonl: line 2")):
        with pytest.raises(DataError, match=text):
            run(*words, "--out", tmp_path / "out.jsonl")


def test_an_earlier_result_stays_until_the_new_one_is_whole(folder, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("kept")
    (tmp_path / "other.jsonl").write_text(json.dumps({"image": "elsewhere.png", "hands": []}))
    for error, words in ((DataError, ("nosuch",)), (DataError, (folder, "--boxes", tmp_path / "other.jsonl"))):
        with pytest.raises(error):
            run(*words, "--out", out)
    with pytest.raises(ConfigError, match="no folder"):
        run(folder, "--out", tmp_path / "absent" / "out.jsonl")
    assert out.read_text() == "kept" and sorted(p.name for p in tmp_path.iterdir()) == [
        "other.jsonl", "out.jsonl", "pictures"]


def test_a_record_without_boxes_is_named_and_the_others_are_done(folder, tmp_path, capsys):
    good = json.loads((folder / "annotations.jsonl").read_text())
    (folder / "annotations.jsonl").write_text("\n".join(json.dumps(row) for row in (
        good, {"image": "images/set/a.jpg", "hands": [{"box": [1, 2]}]})))
    assert run(folder, "--boxes", folder / "annotations.jsonl", "--out", tmp_path / "out.jsonl") == 1
    assert "a.jpg: its record" in capsys.readouterr().err
    assert [len(line["hands"]) for line in lines(tmp_path / "out.jsonl")] == [0, 2]


def test_boxes_of_pictures_are_not_taken_for_those_of_a_video(folder, tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"something")
    with pytest.raises(ConfigError, match="not to a video"):
        run(tmp_path / "v.mp4", "--boxes", folder / "annotations.jsonl", "--out", tmp_path / "out.jsonl")


def test_pipes_are_written_to_and_unfinished_results_do_not_stay(folder, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
    reader.start()
    assert run(folder, "--out", tmp_path / "pipe") == 0
    reader.join(10)
    assert len(got[0].splitlines()) == 2 and (tmp_path / "pipe").is_fifo()
    read, write = os.pipe()
    assert run(folder, "--out", f"/dev/fd/{write}") == 0            # as /dev/stdout is, where it is piped
    os.close(write)
    with os.fdopen(read) as file:
        assert len(file.read().splitlines()) == 2
    (tmp_path / "v.mp4").write_bytes(b"nothing")
    with pytest.raises(DataError, match="video"):
        run(tmp_path / "v.mp4", "--out", tmp_path / "out.jsonl")
    assert not list(tmp_path.glob("out*"))


def test_pictures_behind_a_linked_folder_are_found(folder, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "more").symlink_to(folder / "images", target_is_directory=True)
    (tmp_path / "linked" / "round").symlink_to(tmp_path / "linked", target_is_directory=True)      # once is enough
    assert run(tmp_path / "linked", "--out", tmp_path / "out.jsonl") == 0
    assert [row["image"] for row in lines(tmp_path / "out.jsonl")] == ["more/set/a.jpg", "more/set/b.png"]


def test_boxes_of_a_picture_that_is_not_there_are_said(folder, tmp_path, capsys):
    boxes = tmp_path / "boxes.jsonl"
    record = json.loads((folder / "annotations.jsonl").read_text())
    boxes.write_text("".join(json.dumps({**record, "image": name}) + "\n" for name in (record["image"], "lost.png")))
    assert run(folder, "--out", tmp_path / "out.jsonl", "--boxes", boxes) == 1
    assert "1 of the 2 pictures" in capsys.readouterr().err and len(lines(tmp_path / "out.jsonl")) == 1


def test_labels_without_boxes_are_boxed_by_their_joints(folder, tmp_path):
    record = json.loads((folder / "annotations.jsonl").read_text())
    joints = np.stack([np.linspace(10, 30, 21), np.linspace(10, 40, 21)], 1)
    boxes = tmp_path / "boxes.jsonl"
    boxes.write_text(json.dumps({**record, "hands": [{"joints_2d": joints.tolist(), "valid_2d": [1] * 21}]}) + "\n")
    np.testing.assert_allclose(predict.boxes_of(json.loads(boxes.read_text())), [[10, 10, 30, 40]])
    part = {"hands": [{"joints_2d": joints.tolist(), "valid_2d": [0] * 10 + [1] * 11}]}
    np.testing.assert_allclose(predict.boxes_of({**record, **part}), [[20, 25, 30, 40]])
    assert run(folder, "--out", tmp_path / "out.jsonl", "--boxes", boxes) == 0


@pytest.mark.parametrize("change, error", [
    ({"image": "another.png"}, "cameras for none of the pictures"),
    ({"width": 160}, "of a picture of 160 x 60 pixels, this one has 80 x 60"),
    ({"hands": [{"K": [[50, 0, 0], [0, 50, 0], [40, 30, 1]]}]}, "no usable .K.")])
def test_cameras_that_do_not_belong_to_the_pictures_are_refused(folder, tmp_path, change, error):
    record = json.loads((folder / "annotations.jsonl").read_text())
    file = tmp_path / "cameras.jsonl"
    file.write_text(json.dumps({**record, **change}) + "\n")
    if "image" in change:
        with pytest.raises(DataError, match=error):
            run(folder, "--out", tmp_path / "out.jsonl", "--cameras", file)
        return
    assert run(folder, "--out", tmp_path / "out.jsonl", "--cameras", file) == 1
    assert re.search(error, " ".join(row.get("error", "") for row in lines(tmp_path / "out.jsonl")))


def test_an_image_too_long_to_be_sampled_is_said():
    from hand_pose_ros import camera as cameras
    from hand_pose_ros.types import Frame
    image = np.zeros((3, 40_000, 3), np.uint8)
    with pytest.raises(FrameError, match="40000 x 3 pixels; OpenCV samples"):
        pipelines.check_frame(Frame(image, cameras.assumed(40_000, 3, 60.0), 1))


def test_a_binary_file_is_no_annotations_and_is_not_printed(tmp_path):
    file = tmp_path / "labels.zip"
    file.write_bytes(bytes(range(256)) * 4000)
    with pytest.raises(DataError, match="cannot be read as annotations") as error:
        predict.annotations(file)
    assert len(str(error.value)) < 400


def test_a_video_that_is_cut_off_is_said(tmp_path, capsys):
    path = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (80, 60))
    noise = np.random.default_rng(0).integers(0, 90, (20, 60, 80, 3), np.uint8)
    for image in noise:
        writer.write(image)
    writer.release()
    assert run(path, "--out", tmp_path / "whole.jsonl") == 0 and not capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    assert run(path, "--out", tmp_path / "cut.jsonl") == 0
    assert "of 20 frames could be read: it is cut off or damaged" in capsys.readouterr().err


def test_joints_in_3d_are_relative_to_the_wrist(folder, tmp_path):
    assert run(folder, "--out", tmp_path / "out.jsonl") == 0
    (one,) = lines(tmp_path / "out.jsonl")[1]["hands"]
    assert one["joints_3d"][0] == [0.0, 0.0, 0.0] and 0.05 < np.abs(one["joints_3d"]).max() < 0.5


def test_what_was_read_before_ctrl_c_stays(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "out.jsonl").write_text("earlier\n")
    asked = []

    def interrupted(crops):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipelines, "load", lambda config: pipelines.Pipeline(
        lambda image, threshold: asked.append(1) or detect(image, threshold), interrupted, 64))
    with pytest.raises(KeyboardInterrupt):
        run(folder, "--out", tmp_path / "out.jsonl")
    assert lines(tmp_path / "out.jsonl.partial") == [{"image": "images/set/a.jpg", "hands": []}] and len(asked) == 2
    assert (tmp_path / "out.jsonl").read_text() == "earlier\n"
    assert f"1 images are in {tmp_path / 'out.jsonl.partial'}" in capsys.readouterr().err


def test_what_was_read_before_the_disk_was_full_stays(folder, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(predict.os, "replace", full)
    with pytest.raises(DataError, match="out.jsonl cannot be written: No space left.*free some space"):
        run(folder, "--out", tmp_path / "out.jsonl")
    kept = lines(tmp_path / "out.jsonl.partial")
    assert len(kept) > 1 and f"the lines of {len(kept)} images are in" in capsys.readouterr().err
