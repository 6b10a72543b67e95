"""The command table: what reaches a command, and what does not."""
from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
from types import ModuleType

import pytest

from hand_pose_ros import cli, limits
from hand_pose_ros.errors import ConfigError


@pytest.fixture
def command(monkeypatch):
    """A command 'try' that remembers its arguments; ros: whether it starts a node."""
    def make(ros):
        module, seen = ModuleType("tried_command"), []

        def add_arguments(parser):
            parser.add_argument("--image")
            if ros:
                parser.add_argument("--ros-args", nargs="*", default=[])
        module.add_arguments, module.main = add_arguments, lambda args: seen.append(args)
        monkeypatch.setitem(sys.modules, "tried_command", module)
        monkeypatch.setitem(cli.COMMANDS, "try", ("tried_command", "a test"))
        return seen
    return make


def test_a_node_gets_its_ros_arguments(command):
    seen = command(ros=True)
    assert cli.main(["try", "--image", "/x", "--ros-args", "-p", "image_topic:=/y", "-r", "__ns:=/cam"]) == 0
    assert seen[0].image == "/x" and seen[0].ros_args == ["-p", "image_topic:=/y", "-r", "__ns:=/cam"]


def test_other_commands_are_not_disturbed_by_them(command):
    seen = command(ros=False)
    assert cli.main(["try", "--image", "/x", "--ros-args", "-r", "__node:=evaluate"]) == 0
    assert vars(seen[0]) == {"image": "/x"}


def test_an_unknown_command_names_the_nearest(capsys):
    assert cli.main(["doktor"]) == 2
    assert "doctor" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="predict"):
        cli.run("predikt", [])


@pytest.mark.parametrize("error, said", [
    (ModuleNotFoundError("No module named 'scipy'", name="scipy"), "needs the Python module 'scipy', which is not"),
    (ImportError("libGL.so.1: cannot open shared object file"), "does not load (libGL.so.1: cannot open shared object"),
    (ImportError("cannot import name 'x' from 'torch'", name="torch.y"), "torch is installed but does not load")])
def test_a_library_that_does_not_load_is_said_with_a_remedy(command, monkeypatch, capsys, error, said):
    def fail(args):
        raise error

    command(ros=False)
    monkeypatch.setattr(sys.modules["tried_command"], "main", fail)
    assert cli.main(["try"]) == 2
    assert said in (told := capsys.readouterr().err) and told.startswith("hand-pose try: ")
    error.name = "hand_pose_ros.predict"                                # a fault of this package is no missing library
    with pytest.raises(ImportError):
        cli.main(["try"])


@pytest.mark.parametrize("number, path, said", [
    (errno.EEXIST, "/out", "hand-pose try: /out: File exists: give another name"),
    (errno.ENOSPC, None, "hand-pose try: No space left on device: free some space"),
    (errno.EIO, "/disk", "hand-pose try: /disk: Input/output error: check that")])
def test_an_error_of_files_is_said_with_path_and_remedy(command, monkeypatch, capsys, number, path, said):
    def fail(args):
        raise OSError(number, os.strerror(number), path)

    command(ros=False)
    monkeypatch.setattr(sys.modules["tried_command"], "main", fail)
    assert cli.main(["try"]) == 1
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("kind, taken, refused, said", [
    (limits.number(0, 1), {"0": 0.0, "1": 1.0, "1e-3": 0.001}, ("nan", "5", "-0.1", "x", ""), "a number from 0 to 1"),
    (limits.number(0), {"7": 7.0}, ("inf", "nan", "-1"), "a number from 0 on"),
    (limits.whole(1), {"1": 1, "12": 12}, ("0", "-3", "1.5", "nan"), "a whole number from 1 on"),
    (limits.whole(0, 9), {"0": 0, "9": 9}, ("10",), "a whole number from 0 to 9")])
def test_values_beyond_the_limits_are_refused_with_option_value_and_limits(capsys, kind, taken, refused, said):
    parser = argparse.ArgumentParser()
    parser.add_argument("--value", type=kind)
    assert {text: parser.parse_args(["--value", text]).value for text in taken} == taken
    for text in refused:
        with pytest.raises(SystemExit, match="2"):
            parser.parse_args([f"--value={text}"])
        assert f"argument --value: {text!r} is not allowed: give {said}" in capsys.readouterr().err


def test_a_folder_to_write_into_is_checked_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "loose").symlink_to(tmp_path / "nowhere")
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=limits.folder)
    for fine in (tmp_path, tmp_path / "new" / "er"):
        assert parser.parse_args(["--out", str(fine)]).out == str(fine) and not (tmp_path / "new").exists()
    for wrong, name in (("file", "file"), ("file/below", "file"), ("loose", "loose")):
        with pytest.raises(SystemExit, match="2"):
            parser.parse_args(["--out", str(tmp_path / wrong)])
        assert f"{tmp_path / name} is a file; give a new or another folder" in capsys.readouterr().err


@pytest.mark.parametrize("words, said", [
    ("predict x --out y --min-score nan", "--min-score: 'nan'"), ("score x --out y --min-score 5", "--min-score: '5'"),
    ("evaluate --data x --min-iou 7", "--min-iou: '7'"), ("evaluate --data x --jobs 0", "--jobs: '0'"),
    ("render --out x --width 0", "--width: '0'"), ("labels x --out y --every 0", "--every: '0'"),
    ("bag x --out y --limit -3", "--limit: '-3'"), ("bag x --out y --fps 0", "--fps: '0'"),
    ("bag x --out y --topic /a//b", "--topic: '/a//b'"), ("bag x --out y --start-ns -5", "--start-ns: '-5'"),
    ("bag x --out y --hfov-deg 200", "--hfov-deg: '200'"), ("benchmark --size 640", "--size: '640'"),
    ("benchmark --frames 0", "--frames: '0'"), ("benchmark --threads 0", "--threads: '0'")])
def test_the_commands_refuse_what_they_cannot_do(capsys, words, said):
    with pytest.raises(SystemExit, match="2"):
        cli.main(words.split())
    assert f"argument {said} is not allowed: give " in capsys.readouterr().err


def test_a_folder_without_its_own_scorer_is_told_what_measures_without_one(tmp_path, capsys):
    labels = tmp_path / "annotations.jsonl"
    assert cli.main(["score", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert f"{labels} is not there" in capsys.readouterr().err
    labels.write_text("")
    assert cli.main(["score", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "score.py, a program that prints the tables" in said and f"hand-pose evaluate --data {tmp_path}" in said


def test_the_fit_of_the_rule_for_new_hands_says_without_a_traceback_what_is_missing(tmp_path):
    done = subprocess.run([sys.executable, "-m", "hand_pose_ros.training.new_hand_rule", str(tmp_path / "none")],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{tmp_path / 'none'} holds no readable frames" in done.stderr


@pytest.mark.parametrize("entry", ["hand_pose_ros.cli", "hand_pose_ros.one_blas_thread"])
@pytest.mark.parametrize("user, expected", [(None, 1), ("2", 2)])
def test_numpy_starts_with_one_thread_unless_the_user_says_so(entry, user, expected):
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment.update({"OPENBLAS_NUM_THREADS": user} if user else {})
    program = (f"import sys, {entry}; assert 'numpy' not in sys.modules\n"
               "import os, numpy as np; a = np.ones((600, 600)); a @ a; print(len(os.listdir('/proc/self/task')))")
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == min(expected, len(os.sched_getaffinity(0)))


def test_a_name_that_opencv_cannot_open_is_refused(command, capsys):
    seen = command(ros=False)
    assert cli.main(["try", "--image", os.fsdecode(b"caf\xe9.mp4")]) == 2 and not seen
    assert "'caf\\udce9.mp4' is not UTF-8" in capsys.readouterr().err
    assert cli.main(["try", "--image", "caf\u00e9.mp4"]) == 0 and seen[0].image == "caf\u00e9.mp4"
