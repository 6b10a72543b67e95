"""The script for a GPU host: what it starts, what it leaves, and what it says when rendering fails."""
import argparse
import subprocess
import sys

import pytest
import standin_hands

from hand_pose_ros.errors import ConfigError, DataError
from hand_pose_ros.training import checkpoint, gpu_host


def arguments(*words):
    parser = argparse.ArgumentParser()
    gpu_host.add_arguments(parser)
    return parser.parse_args([str(w) for w in words])


def test_large_weights_are_cut_and_join_again(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 1000)
    path, data = tmp_path / "weights.safetensors", bytes(range(256)) * 10
    path.write_bytes(data)
    pieces = gpu_host.split(path)
    assert [p.stat().st_size for p in pieces] == [1000, 1000, 560] and not path.exists()
    assert b"".join(p.read_bytes() for p in sorted(tmp_path.glob("weights.safetensors.*"))) == data
    path.write_bytes(b"small")
    assert gpu_host.split(path) == [path] and list(tmp_path.iterdir()) == [path]


def test_the_training_gets_the_time_that_is_left_and_the_renderer_ends(tmp_path, monkeypatch):
    for k in range(3):
        standin_hands.write(tmp_path / f"crops-{k}.tar", 1)
    started, trained = [], []
    real = subprocess.Popen

    def renderer(command, **more):
        started.append((command, real([sys.executable, "-c", "import time; time.sleep(60)"])))
        return started[-1][1]

    monkeypatch.setattr(gpu_host.subprocess, "Popen", renderer)
    monkeypatch.setattr(gpu_host.shards, "find", lambda folder, kind: (["a", "b", "c"], []))
    monkeypatch.setattr(gpu_host.subprocess, "run",
                        lambda command: trained.append(command) or argparse.Namespace(returncode=3))
    assert gpu_host.main(arguments("pose_light", "--state", tmp_path / "s", "--shards", tmp_path, "--limit", 300)) == 3
    (command,) = trained
    assert 200 < float(command[command.index("--stop-after") + 1]) <= 255 and "--pieces" in command
    assert started[0][0][3] == "render" and started[0][1].returncode is not None


def test_a_renderer_that_gives_nothing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_host, "_render", lambda args, log: subprocess.Popen([sys.executable, "-c", ""]))
    with pytest.raises(DataError, match="render.log"):
        gpu_host.main(arguments("pose_light", "--state", tmp_path / "s", "--shards", tmp_path / "none"))
    with pytest.raises(ConfigError, match="--limit 5"):
        gpu_host.main(arguments("pose_light", "--state", tmp_path / "s", "--shards", tmp_path, "--limit", 5))
