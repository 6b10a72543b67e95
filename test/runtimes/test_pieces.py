"""doctor's lines about runtimes: every piece is named, and what is missing comes with its remedy."""
from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from hand_pose_ros import runtimes
from hand_pose_ros.runtimes import host
from hand_pose_ros.runtimes import pieces as runtime_pieces
from hand_pose_ros.runtimes.cache import EngineCache
from hand_pose_ros.runtimes.pieces import pieces


def test_every_piece_is_named_and_what_is_missing_has_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "version", lambda package: "")
    monkeypatch.setattr(host, "driver_problem", lambda: "no NVIDIA driver (libcuda.so.1 not found)")
    host.cuda_problem.cache_clear()
    (tmp_path / "file").write_text("")
    found = {piece.name: piece for piece in pieces(EngineCache(tmp_path / "file" / "engines"))}
    host.cuda_problem.cache_clear()
    assert not any(piece.there for piece in found.values())
    for name, remedy in {"NVIDIA driver": "libcuda", "torch": "pip install torch", "Torch-TensorRT": "libcuda",
                         "torch on the GPU": "pip install torch", "TensorRT": "torch-tensorrt",
                         "ONNX Runtime": "pip install onnxruntime",
                         "engine cache": "set ROS_HOME"}.items():
        assert remedy in found[name].said


def test_what_is_there_says_its_version(tmp_path):
    found = {piece.name: piece for piece in pieces(EngineCache(tmp_path / "new" / "engines"))}
    assert found["torch"].there and found["torch"].said == host.version("torch")
    assert found["ONNX Runtime"].there and found["engine cache"].there and "0 engines" in found["engine cache"].said


def test_versions_that_do_not_load_together_are_not_there(tmp_path, monkeypatch):
    """Their packages are all installed, so only an import tells; here that of TensorRT, which is not."""
    monkeypatch.setattr(runtime_pieces.tensorrt, "engine_problem", lambda: "")
    found = {piece.name: piece for piece in pieces(EngineCache(tmp_path))}["Torch-TensorRT"]
    assert not found.there and "tensorrt does not load" in found.said and "docs/jetson.md" in found.said
    monkeypatch.setattr(runtime_pieces, "TRY", "import hand_pose_ros.runtimes.tensorrt")
    assert {piece.name: piece for piece in pieces(EngineCache(tmp_path))}["Torch-TensorRT"].there
    monkeypatch.setattr(runtime_pieces, "TRY", "import time; time.sleep(60)")
    monkeypatch.setattr(runtime_pieces, "TRY_S", 1)
    assert "longer than 1 s" in {piece.name: piece for piece in pieces(EngineCache(tmp_path))}["Torch-TensorRT"].said


def test_a_jetson_names_its_release_and_what_torch_lacks_there(tmp_path, monkeypatch):
    assert not any(piece.name in ("L4T", "cuSPARSELt") for piece in pieces(EngineCache(tmp_path)))
    (tmp_path / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic\n")

    def absent(name):
        raise OSError(name)
    monkeypatch.setattr(runtime_pieces.ctypes, "CDLL", absent)                  # torch's CUDA wheel brings one
    release, sparse = runtime_pieces._jetson(tmp_path / "nv_tegra_release")
    assert "R36 (release), REVISION: 4.0" in release.said and not sparse.there and "docs/jetson.md" in sparse.said
    monkeypatch.setattr(runtime_pieces.ctypes, "CDLL", lambda name: name)
    assert runtime_pieces._jetson(tmp_path / "nv_tegra_release")[1].there


@pytest.mark.parametrize("fails", [True, False])
def test_a_torch_without_kernels_for_this_gpu_leaves_the_machine_to_onnx_runtime(monkeypatch, fails):
    """As PyTorch's CUDA 13 wheels on an Orin: it says that a GPU is available."""
    def ones(count, device):
        if fails:
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
        return torch.ones(count)
    monkeypatch.setattr(host, "version", lambda package: "2.12.0" if package == "torch" else "")
    monkeypatch.setattr(host, "driver_problem", lambda: "")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: True), version=SimpleNamespace(cuda="13.0"), __version__="2.12.0",
        ones=ones))
    host.cuda_problem.cache_clear()
    try:
        assert ("no kernel image" in host.cuda_problem()) == fails and bool(host.cuda_problem()) == fails
        assert runtimes.pose_model("auto", "auto") == (runtimes.POSE_QUICK if fails else runtimes.POSE_ACCURATE)
    finally:
        host.cuda_problem.cache_clear()


def test_a_torch_that_does_not_load_leaves_the_machine_to_onnx_runtime(monkeypatch):
    """As on a Jetson without cuSPARSELt: installed, of a build for CUDA, beside a driver."""
    monkeypatch.setattr(host, "version", lambda package: "2.8.0" if package == "torch" else "")
    monkeypatch.setattr(host, "driver_problem", lambda: "")
    monkeypatch.setitem(sys.modules, "torch", None)                     # its import raises ImportError
    host.cuda_problem.cache_clear()
    try:
        assert "torch 2.8.0 does not load (ModuleNotFoundError" in host.cuda_problem()
        assert runtimes.pose_model("auto", "auto") == runtimes.POSE_QUICK
        found = {piece.name: piece for piece in pieces()}
        assert not found["torch on the GPU"].there and "docs/jetson.md" in found["torch on the GPU"].said
    finally:
        host.cuda_problem.cache_clear()
