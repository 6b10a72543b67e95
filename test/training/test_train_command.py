"""``hand-pose train``: what it needs to go on, and what it leaves for a host that gives back few and small files."""
import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import standin_hands
import torch

from hand_pose_ros import models, networks
from hand_pose_ros.errors import ConfigError, DataError, ModelError
from hand_pose_ros.sole import sole
from hand_pose_ros.training import checkpoint, imagenet, loop, train
from hand_pose_ros.training import export as exporting
from hand_pose_ros.training.export import export
from hand_pose_ros.training.settings import from_dict

SMALL = {"architecture": "pose_light", "options": {"width": 0.4, "neck": 16}, "size": [64, 64], "batch": 4, "steps": 4}
RESULT = {"card.json", "curve.png", "weights.safetensors"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    for k in range(2):
        standin_hands.write(root / f"crops-{k}.tar", 8, k)
    return root


@pytest.fixture
def run(folder, tmp_path):
    """Trains with settings and options; ``tmp_path``/out is its folder."""
    def start(*words, **settings):
        file = tmp_path / "small.yaml"
        file.write_text(json.dumps({**SMALL, **settings}))
        parser = argparse.ArgumentParser()
        train.add_arguments(parser)
        return train.main(parser.parse_args([str(w) for w in (
            file, "--shards", folder, "--out", tmp_path / "out", "--workers", 0, "--held-out", 4, *words)]))

    return start


def test_only_a_training_that_begins_needs_the_weights_to_begin_with(run, tmp_path, monkeypatch):
    def missing():
        raise ModelError("no such package")

    whole = networks.build(SMALL).state_dict()
    started = {"initial": "imagenet", "frozen": ["backbone.s8.0.*"]}
    monkeypatch.setattr(imagenet, "lite0_weights", missing)
    with pytest.raises(ConfigError, match="needs a checkpoint"):
        run("--export-only", **started)
    with pytest.raises(ModelError, match="no such package"):
        run(**started)
    monkeypatch.setattr(imagenet, "lite0_weights", lambda: whole)
    run("--stop-after", 0, "--pieces", **started)
    monkeypatch.setattr(imagenet, "lite0_weights", missing)
    run(**started)
    run("--export-only", "--export", str(tmp_path / "model"), **started)
    card = models.card(str(tmp_path / "model"))
    assert 0 < card["latency"]["ms"] < 1000 and {"processor", "runtime", "batch", "threads"} < set(card["latency"])
    assert card["training"]["steps"] == 4 and card["training"]["before"]["name"] == imagenet.CARD["name"]
    kept = checkpoint.load(tmp_path / "out" / loop.CHECKPOINT)["network"]
    assert all(torch.equal(kept[name], whole[name]) for name in whole if name.startswith("backbone.s8.0.0."))


@pytest.mark.parametrize("words", [("--held-out", 0), ("--held-out", -3), ("--minutes", 0), ("--minutes", "nan"),
                                   ("--steps", 0), ("--stop-after", -1), ("--workers", -1), ("--threads", 0),
                                   ("--eval-every", "nan"), ("--eval-images", -1), ("--out", __file__)])
def test_values_that_cannot_work_are_refused_before_anything_is_written(run, tmp_path, capsys, words):
    with pytest.raises(SystemExit):
        run(*words)
    assert f"argument {words[0]}: '{words[1]}' is not allowed: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_plans_are_refused(run, tmp_path):
    with pytest.raises(ConfigError, match="--steps 5 and --minutes 0.5 are two plans"):
        run("--steps", 5, "--minutes", 0.5)


def test_a_variable_of_torchrun_that_is_no_number_is_named(run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "x")
    with pytest.raises(ConfigError, match="environment variable WORLD_SIZE is 'x': give a whole number, or unset it"):
        run("--steps", 1)


def test_shards_that_are_nowhere_are_said_so(run, tmp_path):
    with pytest.raises(DataError, match="nosuch is no folder"):
        run("--shards", tmp_path / "nosuch")


def test_what_follows_a_model_keeps_its_rule_for_new_hands_and_another_backbone_is_refused(run, tmp_path):
    run("--export", tmp_path / "first", "--steps", 1)
    models.write_evidence(str(tmp_path / "first"), 0.95)
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    run("--export", tmp_path / "second", "--steps", 1, "--from-model", tmp_path / "first")
    assert models.card(str(tmp_path / "second"))["evidence_needed"] == 0.95
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    with pytest.raises(ModelError, match=r"\d+ of the \d+ kernels of the backbone fit"):
        run("--from-model", tmp_path / "first", options={"width": 0.8, "neck": 24})


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_weights_that_cannot_be_stored_are_not_exported(tmp_path, value):
    network = networks.build(SMALL)
    network.head.joint.weight.data[0, 0] = value                    # half precision ends at 65504
    with pytest.raises(ModelError, match="head.joint.weight .*not finite"):
        export(network, from_dict(SMALL), tmp_path, training={}, accuracy={})
    assert not list(tmp_path.iterdir())


def test_only_weights_of_before_are_removed_not_the_users_copies(tmp_path):
    for name in ("weights.safetensors.bak", "weights.safetensors.000", "weights.safetensors.001"):
        (tmp_path / name).write_bytes(b"mine")
    export(networks.build(SMALL), from_dict(SMALL), tmp_path, training={}, accuracy={})
    assert sorted(path.name for path in tmp_path.iterdir()) == [models.CARD, models.WEIGHTS, "weights.safetensors.bak"]


def test_an_export_to_nowhere_is_refused(run, tmp_path):
    run()
    with pytest.raises(ConfigError, match="--export NAME or --result FOLDER"):
        run("--export-only")


def test_a_model_is_exported_though_its_shards_have_moved_or_nothing_can_be_measured_or_drawn(
        folder, run, tmp_path, monkeypatch, caplog):
    run()
    state = checkpoint.load(tmp_path / "out" / "last.pt")
    for name in ("crops", "held_crops"):
        state["shelf"][name] = [path.replace(str(folder), "/gone") for path in state["shelf"][name]]
    torch.save(state, tmp_path / "out" / "last.pt")
    run("--export-only", "--export", tmp_path / "moved")
    assert models.card(str(tmp_path / "moved"))["accuracy"]["virtual"]["nme"] > 0
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "measure", lambda self: 1 / 0)
        patch.setitem(sys.modules, "matplotlib", None)
        run("--export-only", "--export", tmp_path / "blind", "--result", tmp_path / "result")
    assert models.card(str(tmp_path / "blind"))["accuracy"] == {} and (tmp_path / "result" / models.CARD).exists()
    assert "the card says no accuracy: division by zero" in caplog.text and "there is no curve.png" in caplog.text


def test_an_export_that_cannot_be_written_is_refused_before_the_training(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--export .*file is a file; give a new or another folder"):
        run("--export", tmp_path / "file" / "mine")
    assert not (tmp_path / "out" / "last.pt").exists()


def test_two_trainings_at_a_time_into_one_folder_are_refused(run, tmp_path):
    with sole(tmp_path / "out", "training"), pytest.raises(ConfigError, match="another training is writing into"):
        run()
    run()


def test_what_was_measured_on_nothing_is_null_in_the_card(tmp_path):
    export(networks.build(SMALL), from_dict(SMALL), tmp_path, training={}, accuracy={"a": [float("nan"), 1.0]})
    assert "NaN" not in (tmp_path / models.CARD).read_text()
    assert models.card(str(tmp_path))["accuracy"] == {"a": [None, 1.0]}


def test_a_model_is_exported_without_onnx_runtime_too(run, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(exporting.ort, "onnx_problem", lambda: "onnxruntime is not installed")
    run("--export", tmp_path / "model")
    assert "latency" not in models.card(str(tmp_path / "model")) and "onnxruntime is not installed" in caplog.text


def test_a_model_that_is_there_is_replaced_only_if_that_is_meant(run, tmp_path, monkeypatch):
    monkeypatch.setattr(train.resources, "folder", lambda name: tmp_path / name)
    for name in ("mine", str(tmp_path / "models" / "mine")):
        run("--export", name, *(["--overwrite"] if loop.is_begun(tmp_path / "out") else []))
        before = models.card(str(tmp_path / "models" / "mine"))
        with monkeypatch.context() as patch, \
                pytest.raises(ConfigError, match=f"--export {name}: .*mine holds a model already; .*--overwrite"):
            patch.setattr(train, "Trainer", None)                       # refused before it trains
            run("--export", name)
        assert models.card(str(tmp_path / "models" / "mine")) == before


def test_the_result_is_flat_small_and_whole(run, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 200_000)
    result = tmp_path / "result"
    result.mkdir()
    (result / "weights.safetensors.007").write_bytes(b"of a larger network before")
    run("--result", result)
    pieces = sorted(result.glob("weights.safetensors.*"))
    assert {path.name for path in result.iterdir()} == {"card.json", "curve.png", "log.jsonl",
                                                         *(path.name for path in pieces)}
    assert len(pieces) > 2 and max(path.stat().st_size for path in pieces) == 200_000
    (result / models.WEIGHTS).write_bytes(b"".join(path.read_bytes() for path in pieces))
    card, weights = models.card(str(result)), networks.load(str(result)).state_dict()
    average = checkpoint.load(tmp_path / "out" / loop.CHECKPOINT)["average"]
    assert all(torch.allclose(weights[name].float(), value.float(), rtol=1e-3, atol=1e-4)
               for name, value in average.items())
    assert card["name"] == "small" and card["accuracy"]["virtual"]["nme"] and card["curve"][-1]["images"] == 16
    monkeypatch.undo()
    run("--result", result, "--export-only")
    assert {path.name for path in result.iterdir()} == {*RESULT, "log.jsonl"} and networks.load(str(result))


def test_a_training_that_is_killed_has_left_the_weights_of_its_last_checkpoint(run, tmp_path, monkeypatch):
    real, steps = loop.LOSSES["pose"], []

    def killed(*args):
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(loop, "CHECKPOINT_S", -1.0)
    monkeypatch.setitem(loop.LOSSES, "pose", killed)
    with pytest.raises(KeyboardInterrupt):
        run("--result", tmp_path / "result")
    assert {path.name for path in (tmp_path / "result").iterdir()} == RESULT
    assert models.card(str(tmp_path / "result"))["training"]["steps"] == 2 and networks.load(str(tmp_path / "result"))


def ended_at(monkeypatch, *signals):
    """Sends the signals to this process in the middle of its third step."""
    real, steps = loop.LOSSES["pose"], []

    def loss(*args):
        steps.append(1)
        for number in signals if len(steps) == 3 else ():
            os.kill(os.getpid(), number)
        return real(*args)

    monkeypatch.setitem(loop.LOSSES, "pose", loss)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_told_to_end_writes_a_checkpoint_first(run, tmp_path, monkeypatch, number):
    def end(*_):
        raise KeyboardInterrupt

    ended_at(monkeypatch, number)
    before = signal.signal(number, end)
    try:
        with pytest.raises(KeyboardInterrupt):
            run("--result", tmp_path / "result")
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)
    assert checkpoint.load(tmp_path / "out" / loop.CHECKPOINT)["step"] == 3
    assert models.card(str(tmp_path / "result"))["training"]["steps"] == 3
    assert not (tmp_path / "out" / "log.jsonl").exists(), "nothing was measured"


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_what_ends_a_job_reaches_the_loaders_too_and_leaves_a_checkpoint(folder, tmp_path, number, status):
    (tmp_path / "small.yaml").write_text(json.dumps({**SMALL, "steps": 100000}))
    call = subprocess.Popen([sys.executable, "-m", "hand_pose_ros", "train", str(tmp_path / "small.yaml"), "--shards",
                             str(folder), "--out", str(tmp_path / "out"), "--held-out", "4"], start_new_session=True,
                            env={**os.environ, "PYTHONPATH": str(Path(loop.__file__).parents[2])},
                            stderr=subprocess.PIPE, text=True)
    try:
        next(line for line in call.stderr if '"kind": "train"' in line)
        os.killpg(call.pid, number)
        assert call.wait(60) == status, call.stderr.read()
    finally:
        call.kill()
    assert checkpoint.load(tmp_path / "out" / loop.CHECKPOINT)["step"] >= loop.LOG_BATCHES


BREAKS = """
import json
from hand_pose_ros.training import batches, settings
batches.LAST_BATCHES_S = 1
chosen, shelf = settings.from_dict(json.loads({settings!r})), batches.Shelf({folder!r})
shelf.rescan()
stream = batches.stream(chosen, shelf, 0, lambda n: (64, 64), 1, 0)
next(stream)
raise RuntimeError("CUDA out of memory")
"""


def test_a_training_that_breaks_ends(folder):
    """A process waits for its loaders at its end, having sent them SIGTERM, which is not to end them at once."""
    script = BREAKS.format(settings=json.dumps(SMALL), folder=str(folder))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200,
                          env={**os.environ, "PYTHONPATH": str(Path(loop.__file__).parents[2])})
    assert done.returncode == 1 and done.stderr.strip().endswith("CUDA out of memory")


THREADED = """
import json
import cv2, numpy
from hand_pose_ros.training import batches, settings
cv2.setNumThreads(4)
cv2.warpAffine(numpy.zeros((2000, 2000, 3), numpy.uint8), numpy.eye(2, 3), (2000, 2000))
chosen, shelf = settings.from_dict(json.loads({settings!r})), batches.Shelf({folder!r})
shelf.rescan()
print(next(batches.stream(chosen, shelf, 0, lambda n: (64, 64), 1, 0))["batch"])
"""


def test_workers_begin_though_opencv_has_run_on_several_threads_before(folder):
    """As it does where held out pictures are made for a detector of 416x320; its threads do not live on in a fork,
    where OpenCV waited for them for ever."""
    script = THREADED.format(settings=json.dumps(SMALL), folder=str(folder))
    call = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True,
                            env={**os.environ, "PYTHONPATH": str(Path(loop.__file__).parents[2])})
    try:
        assert call.communicate(timeout=200)[0].strip() == "0"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(call.pid, signal.SIGKILL)


def test_a_signal_that_comes_again_or_finds_nothing_new_ends_at_once(run, tmp_path, monkeypatch):
    ended_at(monkeypatch, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not loop.is_begun(tmp_path / "out")
    after = []
    monkeypatch.setattr(loop.Trainer, "measure", lambda self: after.append(os.kill(os.getpid(), signal.SIGINT)))
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not after, "the measurement went on"
    assert checkpoint.load(tmp_path / "out" / loop.CHECKPOINT)["step"] == 4


def test_a_signal_that_is_ignored_stays_so(run, tmp_path, monkeypatch):
    """As SIGINT is for what a script starts with ``&``."""
    ended_at(monkeypatch, signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run() == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert checkpoint.load(tmp_path / "out" / loop.CHECKPOINT)["step"] == 4


def test_weights_and_card_that_do_not_belong_together_are_never_left(tmp_path, monkeypatch):
    settings = from_dict(SMALL)

    def write(seed):
        torch.manual_seed(seed)
        export(networks.build(SMALL), settings, tmp_path, training={}, accuracy={})
        return models.card(str(tmp_path))["sha256"]

    first, real = write(1), Path.write_bytes

    def cut(path, data):
        if "card" in path.name:
            raise KeyboardInterrupt
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", cut)
    with pytest.raises(KeyboardInterrupt):
        write(2)
    monkeypatch.undo()
    assert networks.load(str(tmp_path)) and models.card(str(tmp_path))["sha256"] == first != write(2)


def test_an_unfinished_training_is_not_exported(run, tmp_path, capsys):
    model = tmp_path / "models" / "mine"
    run("--stop-after", 0.001, "--export", f"{model}")
    assert not model.exists() and "not exported" in capsys.readouterr().out
    run("--export", f"{model}")                         # the same line goes on
    assert models.card(f"{model}")["training"]["steps"] == SMALL["steps"]


def test_a_result_that_cannot_be_written_ends_no_training(run, tmp_path):
    (tmp_path / "result" / "log.jsonl").mkdir(parents=True)
    with pytest.raises(DataError, match="--result .* is not of the last weights"):
        run("--result", tmp_path / "result")
    assert checkpoint.load(tmp_path / "out" / loop.CHECKPOINT)["step"] == SMALL["steps"]


@pytest.mark.parametrize("workers", [0, 1])
def test_shards_that_turn_out_damaged_are_named_in_one_line_and_what_was_learnt_is_kept(tmp_path, run, workers):
    (tmp_path / "bad").mkdir()
    for number in range(2):
        standin_hands.write(tmp_path / "bad" / f"crops-{number}.tar", 8, number)
    path = tmp_path / "bad" / "crops-1.tar"
    data = bytearray(path.read_bytes())
    for start in [at for at in range(len(data)) if data[at:at + 2] == b"\xff\xd8"]:
        data[start:start + 40] = b"x" * 40              # the pictures, not the index
    path.write_bytes(bytes(data))
    with pytest.raises(DataError) as error:
        run("--shards", tmp_path / "bad", "--workers", workers)
    assert "crops-1.tar cannot be decoded" in str(error.value) and "Traceback" not in str(error.value)
