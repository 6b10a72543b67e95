"""The loop: learns, resumes exactly, survives damage, and what it exports is what it measured."""
import json
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import standin_hands
import torch
import yaml

from hand_pose_ros import models, networks
from hand_pose_ros.errors import ConfigError, DataError, FrameError, ModelError
from hand_pose_ros.training import batches, checkpoint, curve, loop, losses, measure, pose_samples, settings, shards
from hand_pose_ros.training.export import export

POSE = {"architecture": "pose_light", "options": {"width": 0.4, "neck": 16}, "size": [64, 64], "batch": 8,
        "learning_rate": 0.002, "warm_up_steps": 2, "steps": 4}
DETECTOR = {"architecture": "detector_light", "options": {"width": 0.5, "neck": 16}, "size": [96, 128], "batch": 4,
            "warm_up_steps": 2, "steps": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    (root / "val").mkdir()
    for name, count, kind in (("crops-0", 24, "crops"), ("val/crops-0", 16, "crops"), ("frames-0", 8, "frames"),
                              ("val/frames-0", 4, "frames")):
        standin_hands.write(root / f"{name}.tar", count, len(name), kind)
    return str(root)


def trainer(folder, out, values=POSE, **more):
    return loop.Trainer(settings.from_dict(values), folder, out, workers=0, held_out=8, **more)


def same(a, b):
    return all(torch.equal(x, y) for one, other in ((a.network, b.network), (a.average, b.average))
               for x, y in zip(one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_that_was_cut_off_ends_where_an_uncut_one_does(folder, tmp_path, monkeypatch, optimizer):
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 200_000)
    values = {**POSE, "optimizer": optimizer}
    whole = trainer(folder, tmp_path / "whole", values)
    whole.run()
    for _ in range(2):
        part = trainer(folder, tmp_path / "parts", values, pieces=True)
        part.resume()
        part.run(stop_after_s=0.0)                      # one step each
    last = trainer(folder, tmp_path / "parts", values, pieces=True)
    assert last.resume() and last.step == 2
    last.run()
    assert last.step == whole.step == 4 and last.images == 32 and same(whole, last)
    assert len(last.optimizer.parts) == (2 if optimizer == "muon" else 1)
    for part, other in zip(last.optimizer.state_dict(), whole.optimizer.state_dict()):
        assert all(value.equal(other["state"][number][name]) for number, values in part["state"].items()
                   for name, value in values.items())


def test_losses_looked_at_seldom_teach_the_same_and_stop_no_gpu(folder, tmp_path, monkeypatch):
    """As on a GPU: several steps a look, no value fetched between. The log agrees, and none is looked at twice."""
    looks, lines = [], []
    monkeypatch.setattr(loop, "LOG_BATCHES", 4)
    monkeypatch.setattr(loop.Trainer, "measure", lambda self: {})
    every = trainer(folder, tmp_path / "every", {**POSE, "steps": 5})
    every.run()
    for name in ("item", "tolist", "__float__", "__bool__", "numpy"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, *args, real=real, name=name:
                            (self.is_floating_point() and looks.append(name)) or real(self, *args))
    monkeypatch.setattr(loop, "CHECK_STEPS", {"cpu": 4})
    seldom = trainer(folder, tmp_path / "seldom", {**POSE, "steps": 5})
    monkeypatch.setattr(seldom, "save", lambda: None)
    seldom.run()
    monkeypatch.undo()
    assert looks == ["tolist"] * 2, "4 steps and the last one"
    assert seldom.step == 5 and seldom.images == 40 and same(every, seldom)
    for run in (every, seldom):
        lines.append(json.loads((run.folder / "log.jsonl").read_text().splitlines()[0]))
    assert lines[0]["step"] == lines[1]["step"] == 4 and "norm" not in lines[0]
    assert all(lines[0][name] == pytest.approx(lines[1][name], abs=2e-4) for name in ("loss", "uv", "right", "rate"))


def test_pictures_are_copied_to_a_gpu_while_it_computes(folder, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(batches, "DataLoader", lambda *args, pin_memory, **more: asked.append(pin_memory) or ())
    run = trainer(folder, tmp_path)
    for run.device in (torch.device("cpu"), torch.device("cuda", 0)):
        run._stream()
    assert asked == [False, True]


def test_batches_are_the_same_in_worker_processes(folder):
    chosen = settings.from_dict(POSE)
    for first in (0, 3):
        found = []
        for workers in (0, 1):
            shelf = batches.Shelf(folder)
            shelf.rescan()
            stream = batches.stream(chosen, shelf, first, lambda n: (64 + 32 * (n > 1),) * 2, workers)
            found.append([next(stream) for _ in range(2)])
        for a, b in zip(*found):
            assert a["batch"] == b["batch"] >= first and all(torch.equal(a[k], b[k]) for k in a if k != "batch")


def test_new_shards_join_a_running_training(folder, tmp_path):
    shelf = batches.Shelf(str(tmp_path))
    standin_hands.write(tmp_path / "crops-0.tar", 2)
    standin_hands.write(tmp_path / "crops-1.tar", 2)
    shelf.rescan()
    assert shelf.state["held_crops"] == [str(tmp_path / "crops-0.tar")]
    standin_hands.write(tmp_path / "crops-00.tar", 2)
    shelf.rescan()
    assert shelf.state["crops"] == [str(tmp_path / "crops-1.tar"), str(tmp_path / "crops-00.tar")]
    assert shelf.state["held_crops"] == [str(tmp_path / "crops-0.tar")]


def test_what_was_learnt_before_the_shards_disappear_is_kept(folder, tmp_path, monkeypatch):
    run = trainer(folder, tmp_path, {**POSE, "steps": 50})
    looks, rescan = iter([0, 0]), run.shelf.rescan

    def gone():
        if next(looks, None) is None:
            raise DataError("the folder is gone")
        rescan()

    monkeypatch.setattr(batches, "RESCAN_BATCHES", 5)
    monkeypatch.setattr(run.shelf, "rescan", gone)
    with pytest.raises(DataError, match="the folder is gone"):
        run.run()
    assert checkpoint.load(tmp_path / loop.CHECKPOINT)["step"] == 5


def test_the_only_shard_of_frames_gives_backgrounds_and_is_not_held_out(tmp_path):
    for name in ("crops-0", "crops-1", "frames-0"):
        standin_hands.write(tmp_path / f"{name}.tar", 2)
    shelf = batches.Shelf(str(tmp_path))
    for _ in range(2):
        shelf.rescan()
        assert shelf.state["frames"] == [str(tmp_path / "frames-0.tar")] and not shelf.state["held_frames"]
    standin_hands.write(tmp_path / "frames-1.tar", 2)
    shelf.rescan()
    assert shelf.state["held_frames"] == [str(tmp_path / "frames-1.tar")]
    assert shelf.state["frames"] == [str(tmp_path / "frames-0.tar")]


def test_a_few_pictures_are_learnt_by_heart(folder):
    """Sanity of network, samples and loss together: the error on one fixed batch falls several fold."""
    torch.manual_seed(0)
    chosen = settings.from_dict({**POSE, "options": {"width": 0.4, "neck": 32}, "augmentation": {"strength": 0.0}})
    _, held = shards.find(folder, "crops")
    batch = measure.held_out("pose", held, chosen.size, 8)
    network = networks.build({"architecture": chosen.architecture, "options": chosen.options}).train()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    history = []
    for _ in range(45):
        total, parts = losses.pose_loss(network.raw(batch["image"]), batch, 0.0)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append((float(parts["uv"].detach()), float(parts["xyz"].detach())))
    assert history[-1][0] < 0.45 * history[0][0] and history[-1][1] < 0.6 * history[0][1]


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_loss_that_is_not_finite_goes_back_to_the_last_checkpoint(folder, tmp_path, monkeypatch, caplog, at_once):
    monkeypatch.setattr(loop, "CHECK_STEPS", {"cpu": at_once})
    monkeypatch.setattr(loop, "CHECKPOINT_S", -1.0)                     # at each look, but never of spoilt weights
    planned = {**POSE, "steps": 8}
    run = trainer(folder, tmp_path, planned)
    run.run(stop_after_s=0.0)
    real, calls = losses.LOSSES["pose"], []

    def poisoned(*args):
        calls.append(1)
        total, parts = real(*args)
        return (total * float("nan") if len(calls) == 2 else total), parts

    monkeypatch.setitem(loop.LOSSES, "pose", poisoned)
    run = trainer(folder, tmp_path, planned)
    run.resume()
    with caplog.at_level(logging.WARNING):
        run.run()
    assert run.step == 8 and run.images == 8 * (8 - at_once)
    assert f"the loss is not finite in batch {at_once + 1}: going back" in caplog.text
    assert all(torch.isfinite(p).all() for p in run.network.parameters())
    monkeypatch.setitem(loop.LOSSES, "pose", lambda *a: (real(*a)[0] * float("nan"), real(*a)[1]))
    again = trainer(folder, tmp_path, {**POSE, "steps": 60})
    again.resume()
    with pytest.raises(ModelError, match="returns to the last checkpoint"):
        again.run()


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(folder, tmp_path, caplog):
    run = trainer(folder, tmp_path)
    for _ in range(2):
        run.run(stop_after_s=0.0)
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:5000])
    other = trainer(folder, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert other.resume() and other.step == 1
    assert "last.pt is damaged" in caplog.text
    (tmp_path / "last.pt.old").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="last.pt is damaged.*to begin anew remove it"):
        trainer(folder, tmp_path).resume()


def test_a_checkpoint_with_a_changed_byte_is_never_taken(folder, tmp_path):
    """torch.load takes it without a word, and a weight of 1e37 with it."""
    trainer(folder, tmp_path).run(stop_after_s=0.0)
    sound = (tmp_path / "last.pt").read_bytes()
    rng = np.random.default_rng(0)
    state = {k: v for k, v in checkpoint.load(tmp_path / "last.pt")["network"].items()}
    refused = 0
    for at in rng.integers(0, len(sound), 30):
        data = bytearray(sound)
        data[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "last.pt").write_bytes(data)
        try:
            found = checkpoint.load(tmp_path / "last.pt")["network"]
        except ModelError:
            refused += 1
        else:                                               # in the padding between two tensors
            assert all(torch.equal(found[k], v) for k, v in state.items())
    assert refused >= 25


@pytest.mark.parametrize("part", ["network", "average", "optimizer"])
def test_a_checkpoint_that_is_not_finite_is_named_and_the_one_before_it_is_used(folder, tmp_path, caplog, part):
    run = trainer(folder, tmp_path)
    for _ in range(2):
        run.run(stop_after_s=0.0)
    state = checkpoint.load(tmp_path / "last.pt")
    tensors = state[part] if part != "optimizer" else state["optimizers"][0]["state"][3]
    name = next(k for k, v in tensors.items() if torch.is_tensor(v) and v.ndim)
    tensors[name][(-1,) * tensors[name].ndim] = float("nan")
    torch.save(state, tmp_path / "last.pt")
    other = trainer(folder, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert other.resume() and other.step == 1
    assert f"of its {part} is not finite" in caplog.text and name in caplog.text


def test_a_short_run_leaves_its_rate_and_loss_too(folder, tmp_path):
    trainer(folder, tmp_path, {**POSE, "steps": 3}).run()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["train", "measure"]
    assert lines[0]["step"] == 3 and lines[0]["loss"] > 0 and lines[0]["images_per_s"] > 0


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_checkpoint_in_pieces_that_is_cut_off_while_written_leaves_the_one_before(tmp_path, monkeypatch, written):
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 1000)
    before, after = ({"step": step, "w": torch.full((900,), float(step))} for step in (1, 2))
    checkpoint.save(tmp_path / "last.pt", before, pieces=True)
    assert len(list(tmp_path.iterdir())) > 4
    write = checkpoint._write

    def cut(path, fill):
        nonlocal written
        if not written:
            raise KeyboardInterrupt
        written -= 1
        write(path, fill)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "_write", cut)
        checkpoint.save(tmp_path / "last.pt", after, pieces=True)
    found = checkpoint.load(tmp_path / "last.pt")
    assert found["step"] == 1 and torch.equal(found["w"], before["w"])
    for state in (after, before, after):
        checkpoint.save(tmp_path / "last.pt", state, pieces=True)
        assert torch.equal(checkpoint.load(tmp_path / "last.pt")["w"], state["w"])
    assert torch.equal(checkpoint.load(tmp_path / "last.pt", before=True)["w"], before["w"])
    turn = (tmp_path / "last.pt.count").read_text()[0]
    pieces = sorted(tmp_path.glob(f"last.pt.{turn}.*"))
    pieces[1].write_bytes(pieces[0].read_bytes())
    with pytest.raises(ModelError, match="pieces are not those"):
        checkpoint.load(tmp_path / "last.pt")
    assert checkpoint.load(tmp_path / "last.pt", before=True)["step"] == 1
    checkpoint.save(tmp_path / "last.pt", {"step": 9}, pieces=True, sound=False)
    assert [checkpoint.load(tmp_path / "last.pt", old)["step"] for old in (False, True)] == [9, 1]


@pytest.mark.parametrize("first", [False, True])
def test_the_newest_checkpoint_is_read_whether_whole_or_in_pieces(tmp_path, first):
    """A training that was begun whole goes on in pieces on another host, and back."""
    for step, pieces in enumerate((first, not first, not first, first)):
        checkpoint.save(tmp_path / "last.pt", {"step": step}, pieces)
        assert checkpoint.load(tmp_path / "last.pt")["step"] == step
        assert step == 0 or checkpoint.load(tmp_path / "last.pt", before=True)["step"] == step - 1


@pytest.mark.parametrize("pieces", [False, True])
def test_a_damaged_checkpoint_does_not_take_the_place_of_a_good_one(folder, tmp_path, pieces, monkeypatch):
    """A full disk when the first checkpoint after the damage is written: the one before must still be there."""
    run = trainer(folder, tmp_path, pieces=pieces)
    for _ in range(2):
        run.run(stop_after_s=0.0)
    for path in tmp_path.glob("last.pt.1.*" if pieces else "last.pt"):
        path.write_bytes(b"nothing")
    other = trainer(folder, tmp_path, pieces=pieces)
    assert other.resume() and other.step == 1
    write = checkpoint._write
    with monkeypatch.context() as patch, pytest.raises(DataError, match="cannot be written"):
        patch.setattr(checkpoint, "_write", lambda path, fill: write(path, lambda file: _full()))
        other.save()
    again = trainer(folder, tmp_path, pieces=pieces)
    assert again.resume() and again.step == 1
    other.save()
    assert trainer(folder, tmp_path, pieces=pieces).resume()
    assert checkpoint.load(tmp_path / "last.pt", before=True)["step"] == 1


def _full():
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("pieces, limit, error", [(True, 100_000, OSError), (False, 100_000, OSError),
                                                  (False, 300, RuntimeError)])
def test_a_full_disk_is_said_and_the_checkpoint_before_stays(folder, tmp_path, monkeypatch, pieces, limit, error):
    """Played by a limit for the size of files: writes fall short as on a full disk; torch tells of it in two ways."""
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 200_000)
    run = trainer(folder, tmp_path, pieces=pieces)
    run.run(stop_after_s=0.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(DataError, match="last.pt.* cannot be written .*no space left.*free some and start the same"
                           ) as caught:
            run.run(stop_after_s=0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(caught.value.__cause__, error)
    assert not list(tmp_path.glob("*.tmp"))
    again = trainer(folder, tmp_path, pieces=pieces)
    assert again.resume() and again.step == 1


def test_a_damaged_picture_is_left_out_and_named_once(tmp_path, caplog):
    path = standin_hands.write(tmp_path / "crops-0.tar", 6)
    whole = shards.Shard(path)
    offset, length = whole._members[2]["jpg"]
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(bytes(length))
    chosen = settings.from_dict(POSE)
    batch = batches.make_batch(shards.Pool(), chosen, 0, 0, (64, 64), (path,), ())
    again = batches.make_batch(shards.Pool(), chosen, 0, 0, (64, 64), (path,), ())
    assert all(torch.equal(batch[name], again[name]) for name in batch if name != "batch")
    assert sum("picture 2 (jpg)" in record.message for record in caplog.records) == 1


def test_a_picture_of_which_no_crop_can_be_made_is_left_out_and_named(folder, monkeypatch, caplog):
    real, calls, wrong = pose_samples.crops.plan, [], range(2, 3)

    def plan(*args):
        calls.append(1)
        if len(calls) in wrong:
            raise FrameError("box off the lens")
        return real(*args)

    monkeypatch.setattr(pose_samples.crops, "plan", plan)
    found, held = shards.find(folder, "crops")
    batch = batches.make_batch(shards.Pool(), settings.from_dict(POSE), 0, 0, (64, 64), found, ())
    assert len(batch["image"]) == 8 and f"shard {found[0]}: box off the lens" in caplog.text
    calls.clear()
    assert len(measure.held_out("pose", held, (64, 64), 8)["image"]) == 8
    assert f"shard {held[0]}: box off the lens" in caplog.text
    wrong = range(1000)
    with pytest.raises(DataError, match="picture .* of shard .*crops-0.tar: box off the lens"):
        batches.make_batch(shards.Pool(), settings.from_dict(POSE), 0, 0, (64, 64), found, ())


def test_many_shards_keep_no_file_open(tmp_path):
    pool = shards.Pool()
    paths = [standin_hands.write(tmp_path / f"crops-{k}.tar", 1) for k in range(30)]
    before = len(os.listdir("/proc/self/fd"))
    for path in paths:
        assert pool.get(path).image(0).shape == (192, 192, 3) and pool.get(path).label(0)["hands"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_held_out_shards_that_are_gone_are_replaced_and_named(tmp_path, caplog):
    first, second = (standin_hands.write(tmp_path / f"crops-{k}.tar", 2) for k in range(2))
    shelf = batches.Shelf(str(tmp_path))
    shelf.rescan()
    os.rename(first, tmp_path / "elsewhere")
    third = standin_hands.write(tmp_path / "crops-3.tar", 2)
    shelf.rescan()
    assert shelf.state["held_crops"] == [third] and shelf.state["crops"] == [second], "not one that was trained on"
    assert f"held-out shard {first} is not there or damaged" in caplog.text


def test_a_detectors_curve_holds_the_photographs_with_hands(tmp_path):
    sets = {"ge_real": {"images": 259, "recall": 98.4, "side": 40.0}, "negative": {"images": 17, "false": 1.0},
            "freihand": {"images": 4, "recall": 25.0}}
    line = {"kind": "measure", "images": 32, "virtual": {"recall": 63.0, "false": 2.0}, "photographs": sets}
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    assert curve.points(tmp_path) == [{"images": 32, "virtual": 63.0, "photographs": {"ge_real": 98.4}}]


def test_a_line_of_the_log_that_was_cut_off_costs_itself_alone(folder, tmp_path, caplog):
    run = trainer(folder, tmp_path)
    run.run(stop_after_s=0.0)
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(b'7\n\n{"step": 1, "images": 8, "\xc3')
    run.run(stop_after_s=0.0)
    assert [point["images"] for point in curve.points(tmp_path)] == [8, 16]
    assert sum("is not whole" in record.message for record in caplog.records) == 2
    assert "line 5 of" in caplog.text and curve.plot(tmp_path).is_file()


def test_two_processes_end_together_and_learn_the_same(folder, tmp_path):
    """By the clock and cut off, as ``gpu-train`` starts them; their clocks differ, since one measures and saves."""
    chosen = tmp_path / "small.yaml"
    chosen.write_text(json.dumps({**POSE, "batch": 4}))
    package = str(Path(loop.__file__).resolve().parents[2])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m",
               "hand_pose_ros", "train", str(chosen), "--shards", folder, "--out", str(tmp_path / "run"), "--workers",
               "0", "--held-out", "4", "--threads", "1", "--minutes", "0.08"]
    for more in (["--stop-after", "2"], []):
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=300,
                              env={**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["progress"] == 1.0 and lines[-1]["kind"] == "measure"


def test_a_checkpoint_of_another_network_is_refused(folder, tmp_path):
    trainer(folder, tmp_path).run(stop_after_s=0.0)
    with pytest.raises(ModelError, match="another --out folder"):
        trainer(folder, tmp_path, {**POSE, "options": {"width": 0.5}}).resume()


def test_a_file_of_something_else_is_no_checkpoint(folder, tmp_path, caplog):
    for _ in range(2):
        run = trainer(folder, tmp_path)
        run.resume()
        run.run(stop_after_s=0.0)
    for other in ({"weights": torch.zeros(3)}, torch.zeros(3), [1]):
        torch.save(other, tmp_path / "last.pt")
        run = trainer(folder, tmp_path)
        assert run.resume() and run.step == 1, "the one before it"
    assert "last.pt is no checkpoint of a training: remove it to begin anew" in caplog.text
    torch.save([1], tmp_path / "last.pt.old")
    with pytest.raises(ModelError, match="last.pt is no checkpoint"):
        trainer(folder, tmp_path).resume()


def test_settings_that_differ_from_the_checkpoints_are_told(folder, tmp_path, caplog):
    weights = networks.build(POSE).state_dict()
    trainer(folder, tmp_path, initial=weights).run(stop_after_s=0.0)
    with caplog.at_level(logging.WARNING):
        assert trainer(folder, tmp_path).resume() and not caplog.text
        run = trainer(folder, tmp_path, {**POSE, "weight_decay": 0.3, "batch": 4, "augmentation": {"strength": 0.5}})
        assert run.resume() and run.optimizer.param_groups[0]["weight_decay"] == 0.3
    assert "weight_decay was 0.02 before, from here on it is 0.3" in caplog.text
    assert len(caplog.records) == 3 and "batch was 8 before" in caplog.text
    assert "strength was 1.0 before, from here on it is 0.5" in caplog.text
    with pytest.raises(ModelError, match=r"is of frozen \(\), the settings say \('backbone.*another --out folder"):
        trainer(folder, tmp_path, {**POSE, "frozen": ["backbone.s8.*"]}).resume()
    state = torch.load(tmp_path / "last.pt", weights_only=False)
    state["network"].popitem()
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(ModelError, match="does not fit this network .*Missing key.* another --out folder"):
        trainer(folder, tmp_path).resume()


def test_a_corrupt_shard_does_not_stop_the_training(tmp_path, caplog):
    for k in range(3):
        standin_hands.write(tmp_path / f"crops-{k}.tar", 8, k)
    (tmp_path / "crops-1.tar").write_bytes(b"rubbish" * 300)
    run = trainer(str(tmp_path), tmp_path / "out", {**POSE, "steps": 2})
    run.run()
    assert run.step == 2 and "crops-1.tar" in caplog.text


def test_what_is_exported_answers_as_what_was_measured(folder, tmp_path):
    run = trainer(folder, tmp_path / "run")
    result = run.run()
    export(run.average, run.settings, tmp_path / "models" / "tiny", training={"steps": run.step}, accuracy=result)
    card = models.card("tiny", tmp_path / "models")
    assert card["kind"] == "pose" and card["input"] == [64, 64, 3] and card["training"]["steps"] == 4
    assert card["licence"] == "Apache-2.0" and "nme" in card["accuracy"]["virtual"]
    loaded = networks.load("tiny", tmp_path / "models")
    run.average.eval()
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8))
    for a, b in zip(run.average(pictures), loaded(pictures)):
        assert torch.allclose(a, b, rtol=0.02, atol=0.05)
    card["options"] = {"width": 0.6}
    (tmp_path / "models" / "tiny" / models.CARD).write_text(json.dumps(card))
    with pytest.raises(ModelError, match="do not fit its card"):
        networks.load("tiny", tmp_path / "models")


def test_the_detector_trains_with_the_same_loop_and_both_leave_a_curve(folder, tmp_path):
    run = trainer(folder, tmp_path, DETECTOR)
    result = run.run()
    assert run.step == 3 and set(result["virtual"]) == {"recall", "false", "side", "up_deg", "by_size"}
    assert curve.plot(tmp_path).stat().st_size > 5000


def test_the_schedule_warms_up_and_ends_low(folder, tmp_path):
    run = trainer(folder, tmp_path, {**POSE, "steps": 100, "warm_up_steps": 10})
    rates = []
    for run.step in range(101):
        rates.append(run.rate())
    assert rates[0] == pytest.approx(0.0002, rel=0.05) and max(rates) == pytest.approx(0.002, rel=0.05)
    assert rates[-1] == pytest.approx(0.002 * 0.01, rel=0.01) and np.argmax(rates) in range(8, 12)


@pytest.mark.parametrize("change, words", [
    ({"sise": 3}, "sise"), ({"architecture": "x"}, "unknown network 'x'"), ({"architecture": ["x"]}, "unknown network"),
    ({"size": [100, 100]}, "multiples of 32"), ({"size": 64}, "multiples of 32"), ({"size": [64, 96]}, "square"),
    ({"sizes": [[0, 50, 50]]}, "multiples of 32"), ({"sizes": [[0, 64, 96]]}, "square"),
    ({"sizes": [[0.0]]}, "must be .progress, height, width."), ({"sizes": [64, 64]}, "must be .progress, height"),
    ({"sizes": [[0.5, 64, 64], [0.0, 96, 96]]}, "must rise"), ({"sizes": [[1.5, 64, 64]]}, "progress in sizes is 1.5"),
    ({"batch": 0}, "batch is 0; it must be 1 to"), ({"batch": -1}, "batch is -1"), ({"batch": 2.5}, "batch is 2.5"),
    ({"steps": 0}, "steps is 0; it must be 1 to"), ({"seed": -3}, "seed is -3"), ({"clip": 0}, "clip is 0"),
    ({"learning_rate": -1}, "learning_rate is -1"), ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
    ({"learning_rate": float("nan")}, "learning_rate is nan"), ({"ema": 2.0}, "ema is 2.0"), ({"ema": 1}, "ema is 1"),
    ({"bf16": 1}, "bf16 is 1; it must be true or false"), ({"initial": ["x"]}, "initial"),
    ({"frozen": "backbone.*"}, "frozen is 'backbone.*'; it must be a list"), ({"frozen": [3]}, "list of patterns"),
    ({"options": [3]}, "options is .3.; it must be names"), ({"augmentation": 3}, "augmentation is 3"),
    ({"augmentation": {"rol": 1}}, "rol"), ({"augmentation": {"negatives": 7}}, "negatives is 7.0; it must be 0 to 1"),
    ({"augmentation": {"strength": -1}}, "strength is -1.0"), ({"augmentation": {"roll_deg": 270}}, "roll_deg is 270"),
    ({"augmentation": {"scale": [1.3, 0.8]}}, "scale is .1.3, 0.8.; it must be two numbers .*the smaller one first"),
    ({"augmentation": {"scale": [-1, 1]}}, "scale is .-1.0, 1.0.; it must be two numbers from 0.1 to 10"),
    ({"augmentation": {"scale": 1}}, "scale is 1; it must be 2 numbers"),
])
def test_settings_with_a_mistake_are_refused(change, words, tmp_path):
    with pytest.raises((ConfigError, ModelError), match=words):
        settings.from_dict({**POSE, **change})
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump({**POSE, **change}))
    with pytest.raises(ConfigError, match=f"wrong.yaml: .*{words}"):
        settings.load(tmp_path / "wrong.yaml")


def test_settings_come_back_from_their_plain_values():
    chosen = settings.from_dict({**POSE, "sizes": [[0, 32, 32], [0.5, 64, 64]], "frozen": ["a.*"], "clip": "1e-3",
                                 "augmentation": {"scale": [1, 2], "negatives": 0}})
    for plain in (chosen.as_dict(), json.loads(json.dumps(chosen.as_dict()))):
        assert settings.from_dict(plain) == chosen
    assert chosen.size_at(0.2) == (32, 32) and chosen.size_at(0.5) == (64, 64) and chosen.augmentation.scale == (1, 2)
    assert chosen.clip == 1e-3, "YAML takes a number without a point for text"


def test_settings_that_are_not_there_name_those_that_are(tmp_path):
    assert settings.find("pose_light").name == "pose_light.yaml"
    with pytest.raises(ConfigError, match="no training settings 'pose_lite': .*detector_light, .*pose_light, "):
        settings.find("pose_lite")


def test_a_lonely_shard_is_named_with_what_is_missing(tmp_path):
    path = standin_hands.write(tmp_path / "crops-0.tar", 2)
    with pytest.raises(DataError, match=f"beside those held out .{path}.: render more. At least two"):
        trainer(str(tmp_path), tmp_path / "out").run()


def test_all_settings_that_ship_can_be_read():
    from hand_pose_ros.resources import folder as resources
    files = sorted((resources("config") / "training").glob("*.yaml"))
    assert {f.stem for f in files} >= {"pose_light", "detector_light", "pose_resnet18", "pose_hrnet_w18"}
    for file in files:
        networks.build({"architecture": settings.load(file).architecture, "options": settings.load(file).options})


def test_the_curve_of_a_card_goes_on_where_the_one_before_ended(tmp_path):
    def line(images, nme, kind="measure"):
        return json.dumps({"kind": kind, "images": images, "virtual": {"nme": nme, "right": 99.0},
                           "photographs": {"many": {"hands": 40, "nme": nme + 1}, "few": {"hands": 3, "nme": 1.0}}})

    lines = [line(100, 9.0), line(150, 0.0, "train"), line(300, 8.0), line(200, 7.004), line(400, 6.0), line(400, 6.5)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    before = [{"images": 1000, "virtual": 20.0}]
    assert curve.points(tmp_path, before) == [
        before[0], *({"images": 1000 + images, "virtual": nme, "photographs": {"many": nme + 1}}
                     for images, nme in ((100, 9.0), (200, 7.0), (400, 6.5)))]


def test_a_damaged_held_out_shard_is_replaced_by_a_sound_one(tmp_path, caplog):
    for name in ("crops-0", "crops-1", "crops-2"):
        standin_hands.write(tmp_path / f"{name}.tar", 12, int(name[-1]))
    whole = (tmp_path / "crops-0.tar").read_bytes()
    (tmp_path / "crops-0.tar").write_bytes(whole[:len(whole) // 2])
    shelf = batches.Shelf(str(tmp_path))
    shelf.rescan()
    assert shelf.state["held_crops"] == [str(tmp_path / "crops-1.tar")] and "crops-0.tar cannot be read" in caplog.text
    assert str(tmp_path / "crops-1.tar") not in shelf.state["crops"]
    later = batches.Shelf(str(tmp_path))                # a training that is resumed
    later.state = {**shelf.state, "crops": list(shelf.state["crops"]), "held_crops": [str(tmp_path / "crops-0.tar")]}
    later.rescan()
    assert later.state["held_crops"] and str(tmp_path / "crops-0.tar") not in later.state["held_crops"]


def test_a_held_out_shard_is_not_learnt_by_another_way_to_its_folder(tmp_path, monkeypatch):
    (tmp_path / "shards").mkdir()
    for k in range(3):
        standin_hands.write(tmp_path / "shards" / f"crops-{k}.tar", 12, k)
    (tmp_path / "link").symlink_to(tmp_path / "shards")
    monkeypatch.chdir(tmp_path)
    first = batches.Shelf("shards")
    first.state["held_crops"] = ["shards/crops-1.tar"]                  # as a checkpoint of before may have it
    first.rescan()
    for folder in (str(tmp_path / "shards"), "link"):
        later = batches.Shelf(folder)
        later.state = json.loads(json.dumps(first.state))
        later.rescan()
        assert later.state == first.state and len(later.state["crops"]) == 2
        assert [os.path.basename(path) for path in later.state["held_crops"]] == ["crops-1.tar"]


def test_a_checkpoint_of_before_there_was_a_choice_of_optimizers_goes_on(folder, tmp_path):
    run = trainer(folder, tmp_path)
    run.run(stop_after_s=0.0)
    state = checkpoint.load(tmp_path / "last.pt")
    (state["optimizer"],) = state.pop("optimizers")
    state["settings"].pop("optimizer")
    torch.save(state, tmp_path / "last.pt")
    other = trainer(folder, tmp_path)
    assert other.resume() and other.step == 1 and same(other, run)
    with pytest.raises(ModelError, match="of optimizer adamw, the settings say muon"):
        trainer(folder, tmp_path, {**POSE, "optimizer": "muon"}).resume()


def test_frozen_parts_that_the_given_weights_lack_are_refused(folder, tmp_path):
    """They would stay random: a backbone of other stages has none of their names."""
    plan = {**POSE, "options": {"stages": "lite0", "neck": 16}, "frozen": ["backbone.s8.[0-3].*"]}
    other = networks.build(POSE).state_dict()
    with pytest.raises(ModelError, match=r"\d of the \d+ kernels of the backbone fit.*give a model with the same"):
        trainer(folder, tmp_path, plan, initial=other)
    own = networks.build({"architecture": "pose_light", "options": plan["options"]}).state_dict()
    trainer(folder, tmp_path, plan, initial=own)
    lacking = {name: value for name, value in own.items() if not name.startswith("backbone.s8.1.")}
    with pytest.raises(ConfigError, match="have no backbone.s8.1.*, which frozen keeps as it is.*would stay random"):
        trainer(folder, tmp_path, plan, initial=lacking)
    with pytest.raises(ConfigError, match="running_mean|running_var"):
        trainer(folder, tmp_path, plan, initial={name: value for name, value in own.items() if "running" not in name})
