"""The script for a GPU host: what it starts, what it leaves, and what it says when rendering fails."""
import argparse
import os
import signal
import subprocess
import sys

import pytest
import torch

from hand_pose_ros.errors import ConfigError, DataError, HandPoseError
from hand_pose_ros.synthesis import render
from hand_pose_ros.training import gpu_host, train

SLEEP = "import os, time; os.write(1, b'%d\\n' % os.getpid()); time.sleep(60)"


def arguments(*words, of=gpu_host):
    parser = argparse.ArgumentParser()
    of.add_arguments(parser)
    return parser.parse_args([str(w) for w in words])


def played(monkeypatch, trainer):
    """Shards that seem to be there, a renderer that sleeps, a trainer that runs ``trainer``: what they were told and
    their processes, by the command of hand-pose."""
    started, real = {}, subprocess.Popen

    def start(command, **more):
        started[command[3]] = command[4:], real([sys.executable, "-c", SLEEP if command[3] == "render" else trainer])
        return started[command[3]][1]

    monkeypatch.setattr(gpu_host.subprocess, "Popen", start)
    monkeypatch.setattr(gpu_host.shards, "find", lambda folder, kind: (["a", "b", "c"], []))
    return started


def test_renderer_and_trainer_get_what_the_call_says(tmp_path, monkeypatch):
    started = played(monkeypatch, "raise SystemExit(3)")
    call = ["pose_light", "--state", tmp_path / "s", "--shards", tmp_path, "--limit", 300]
    assert gpu_host.main(arguments(*call)) == 3
    told = arguments(*started["train"][0], of=train)
    assert 200 < told.stop_after <= 240 and told.pieces and told.from_model is told.eval is None
    assert told.result == str(tmp_path / "s" / "models" / "pose_light") and told.out == str(tmp_path / "s")
    assert started["render"][1].returncode is not None
    (tmp_path / "annotations.jsonl").touch()
    more = ["--from-model", "detector_light", "--eval", tmp_path, "--eval-every", 90, "--seed", 8, "--start", 1000,
            "--result", tmp_path / "r"]
    assert gpu_host.main(arguments(*call, *more)) == 3
    told = arguments(*started["train"][0], of=train)
    assert (told.from_model, told.eval, told.eval_every) == ("detector_light", str(tmp_path), 90)
    assert told.result == str(tmp_path / "r")
    told = arguments(*started["render"][0], of=render)
    assert (told.kind, told.seed, told.start) == ("crops", 8, 1000)


@pytest.mark.parametrize("words, kind", [([], "frames"), (["--kind", "crops"], "crops")])
def test_a_detector_learns_from_whole_frames_unless_crops_are_wanted(tmp_path, monkeypatch, words, kind):
    started = played(monkeypatch, "pass")
    gpu_host.main(arguments("detector_light", "--from-model", "pose_light", "--state", tmp_path / "s", "--shards",
                            tmp_path, *words))
    assert arguments(*started["render"][0], of=render).kind == kind


def test_a_renderer_that_fails_is_told_of_though_the_training_went_well(tmp_path, monkeypatch, capsys):
    ends = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    ends.wait()
    played(monkeypatch, "pass")
    (tmp_path / "render.log").write_text("crops-0.tar was made with other settings\n")
    monkeypatch.setattr(gpu_host, "_render", lambda args, log: ends)
    assert gpu_host.main(arguments("pose_light", "--state", tmp_path, "--shards", tmp_path, "--limit", 300)) == 1
    assert "the renderer ended with 1: crops-0.tar was made with other settings" in capsys.readouterr().err


def test_a_training_over_the_limit_is_terminated(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_host, "END_S", 1.0)
    started = played(monkeypatch, SLEEP)
    with pytest.raises(ConfigError, match="--limit 2 s"):
        gpu_host.main(arguments("pose_light", "--state", tmp_path, "--shards", tmp_path, "--limit", 2))
    assert all(process.returncode is not None for _, process in started.values())


def test_a_terminated_call_leaves_no_process_behind(tmp_path):
    script = (f"import subprocess, sys; from hand_pose_ros.training import gpu_host as g; sleep = {SLEEP!r}\n"
              "g._render = lambda args, log: log.touch() or subprocess.Popen([sys.executable, '-c', sleep])\n"
              "g._launcher = lambda: [sys.executable, '-c', sleep]\n"
              "g.shards.find = lambda folder, kind: (['a', 'b', 'c'], [])\n"
              "from hand_pose_ros.cli import main; sys.exit(main(['gpu-train', *sys.argv[1:]]))")
    call = subprocess.Popen([sys.executable, "-c", script, "pose_light", "--state", str(tmp_path), "--shards",
                             str(tmp_path)], stdout=subprocess.PIPE, text=True)
    children = [int(call.stdout.readline()) for _ in range(2)]
    call.terminate()
    try:
        assert call.wait(30) == 143
    finally:
        left = [pid for pid in children if os.path.exists(f"/proc/{pid}")]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert not left


def test_rendering_on_the_cpu_beside_a_gpu_is_said(tmp_path, monkeypatch, capsys):
    for gpu, device in ((False, "llvmpipe (LLVM)"), (True, "NVIDIA H200/PCIe"), (True, "llvmpipe (LLVM)")):
        log = tmp_path / "render.log"
        log.write_text(f"\nrendered by {device}\n")
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        gpu_host._warn_of_software(log)
        assert ("egl_vendor.d" in capsys.readouterr().err) == (gpu and "llvmpipe" in device)


def test_the_log_of_the_renderer_names_its_device(tmp_path):
    args = arguments("pose_light", "--state", tmp_path, "--shards", tmp_path, "--count", 2, "--kind", "crops",
                     "--render-workers", 2)
    assert gpu_host._render(args, tmp_path / "render.log").wait(150) == 0
    said = [line for line in (tmp_path / "render.log").read_text().splitlines() if line.startswith("rendered by ")]
    assert len(said) == 1 and len(said[0]) > len("rendered by ")


def test_a_renderer_that_gives_nothing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_host, "_render", lambda args, log: subprocess.Popen([sys.executable, "-c", ""]))
    with pytest.raises(DataError, match="render.log"):
        gpu_host.main(arguments("pose_light", "--state", tmp_path / "s", "--shards", tmp_path / "none"))
    with pytest.raises(ConfigError, match="--limit 5"):
        gpu_host.main(arguments("pose_light", "--state", tmp_path / "s", "--shards", tmp_path, "--limit", 5))


@pytest.mark.parametrize("more, error", [(["nosuch"], "no training settings 'nosuch'"),
                                         (["pose_light", "--from-model", "nosuch"], "no model 'nosuch'"),
                                         (["pose_light", "--eval", "nosuch"], "nosuch has no annotations.jsonl"),
                                         (["pose_light_224"], "frozen keeps weights that are there"),
                                         (["detector_light", "--from-model", "pose_light_224", "--count", 60],
                                          "--count 60 makes one shard"),
                                         (["pose_light", "--count", 60], "--count 60 makes one shard")])
def test_what_is_wrong_is_said_before_anything_is_rendered(tmp_path, monkeypatch, more, error):
    monkeypatch.setattr(gpu_host, "_render", lambda args, log: pytest.fail("rendered"))
    with pytest.raises(HandPoseError, match=error):
        gpu_host.main(arguments(*more, "--state", tmp_path / "s", "--shards", tmp_path))


def test_a_state_of_another_optimizer_is_refused_before_anything_is_rendered(tmp_path, monkeypatch):
    chosen = gpu_host.settings.load(gpu_host.settings.find("pose_light"))
    state = {"settings": {**chosen.as_dict(), "optimizer": "muon"}}
    (tmp_path / "s").mkdir()
    torch.save(state, tmp_path / "s" / "last.pt")
    monkeypatch.setattr(gpu_host, "_render", lambda args, log: pytest.fail("rendered"))
    with pytest.raises(HandPoseError, match="is of optimizer muon, the settings say adamw: .*gpu-train: --state"):
        gpu_host.main(arguments("pose_light", "--state", tmp_path / "s", "--shards", tmp_path))
