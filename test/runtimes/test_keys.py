"""Every ingredient of a built network changes its key, so that nothing stale is ever loaded."""
from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import standin

from hand_pose_ros.runtimes import Options, host, ort, source, tensorrt
from hand_pose_ros.runtimes.cache import key_of


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that tests can change piece by piece."""
    import torch
    properties = SimpleNamespace(name="NVIDIA H200", major=9, minor=0)
    versions = {"torch": "2.13.0", "torch-tensorrt": "2.13.0", "tensorrt": "11.0.0"}
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(host, "version", lambda package: versions.get(package, ""))
    monkeypatch.setattr(host, "driver_version", lambda: versions.get("driver", "580.1"))
    return SimpleNamespace(properties=properties, versions=versions, torch=torch, monkeypatch=monkeypatch)


def tensorrt_key(network=None, **options) -> str:
    return key_of(tensorrt.key_ingredients(network or standin.source(), Options(**options)))


CHANGES = {
    "gpu name": lambda gpu: setattr(gpu.properties, "name", "NVIDIA H100"),
    "compute capability": lambda gpu: setattr(gpu.properties, "minor", 1),
    "CUDA": lambda gpu: gpu.monkeypatch.setattr(gpu.torch.version, "cuda", "12.6"),
    "driver": lambda gpu: gpu.versions.update(driver="580.2"),
    "torch": lambda gpu: gpu.versions.update({"torch": "2.13.1"}),
    "Torch-TensorRT": lambda gpu: gpu.versions.update({"torch-tensorrt": "2.13.1"}),
    "TensorRT": lambda gpu: gpu.versions.update({"tensorrt": "11.0.1"}),
    "TensorRT flavour": lambda gpu: gpu.versions.update({"torch-tensorrt": "", "torch-tensorrt-rtx": "2.13.0"}),
    "TensorRT-RTX": lambda gpu: gpu.versions.update({"tensorrt-rtx": "1.5"}),
    "compile options": lambda gpu: gpu.monkeypatch.setitem(tensorrt.COMPILE_OPTIONS, "optimization_level", 5),
    "program": lambda gpu: gpu.monkeypatch.setattr(source, "program_sha256", lambda: "other"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_part_of_the_machine_and_the_tools_changes_the_engine(gpu, change):
    before = tensorrt_key()
    assert tensorrt_key() == before
    CHANGES[change](gpu)
    assert tensorrt_key() != before


def test_each_part_of_the_network_and_the_request_changes_the_engine(gpu):
    base = standin.source()
    keys = [tensorrt_key(), tensorrt_key(precision="fp32"), tensorrt_key(max_batch=2),
            tensorrt_key(standin.source(size=96)), tensorrt_key(standin.source(seed=1)),
            tensorrt_key(standin.source(card="other options")), tensorrt_key(standin.source("detector")),
            tensorrt_key(dataclasses.replace(base, model="another")), key_of(ort._ingredients(base, "fp32")),
            key_of(ort.int8_ingredients(base))]
    assert len(set(keys)) == len(keys)


def test_the_source_of_the_networks_is_part_of_the_key(tmp_path, monkeypatch):
    package = tmp_path / "hand_pose_ros"
    for folder, name in (("networks", "a.py"), ("runtimes", "ort.py"), ("runtimes", "int8.py"),
                         ("runtimes", "tensorrt.py"), ("runtimes", "source.py"), ("runtimes", "agreement.py"),
                         (".", "lift.py"), (".", "crop.py"), (".", "detect.py")):
        (package / folder).mkdir(parents=True, exist_ok=True)
        (package / folder / name).write_text("one")
    monkeypatch.setattr(source, "__file__", str(package / "runtimes" / "source.py"))
    shas = []
    for path in (package / "networks" / "a.py", package / "runtimes" / "ort.py", package / "runtimes" / "int8.py",
                 package / "networks" / "b.py", package / "runtimes" / "agreement.py", package / "lift.py"):
        source.program_sha256.cache_clear()
        shas.append(source.program_sha256())
        path.write_text("two")
    source.program_sha256.cache_clear()
    shas.append(source.program_sha256())
    assert len(set(shas)) == 7
    crops = []
    for path in (package / "crop.py", package / "detect.py", package / "lift.py"):
        source.crops_sha256.cache_clear()
        crops.append(source.crops_sha256())
        path.write_text("three")
    assert len(set(crops)) == 3                                         # of crops, not of what does not make them
    source.crops_sha256.cache_clear()
    assert source.crops_sha256() == crops[-1]
    monkeypatch.undo()
    for sha256 in (source.program_sha256, source.crops_sha256):
        sha256.cache_clear()


@pytest.mark.parametrize("text, expected", [
    ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.03  Release Build", "580.159.03"),
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19", "535.104.05"),
    ("# R36 (release), REVISION: 4.3, GCID: 38968081", "# R36 (release), REVISION: 4.3, GCID: 38968081"),
])
def test_driver_version_is_read_from_the_kernel_or_l4t(monkeypatch, text, expected):
    monkeypatch.setattr(host.Path, "read_text", lambda self: text)
    assert host.driver_version() == expected


class Nvml:
    """libnvidia-ml.so.1 and libcuda.so.1 as ctypes shows them; ``version`` b"" is an NVML that does not start."""

    def __init__(self, version: bytes):
        self.version = version

    def nvmlInit_v2(self):
        return 0 if self.version else 9

    def nvmlShutdown(self):
        return 0

    def nvmlSystemGetDriverVersion(self, text, length):
        text.value = self.version[:length - 1]
        return 0

    def cuDriverGetVersion(self, number):
        number._obj.value = 13000
        return 0


@pytest.mark.parametrize("version, expected", [(b"580.95.05", "580.95.05"), (b"", "CUDA 13000")])
def test_driver_version_comes_from_the_driver_where_the_kernel_does_not_tell(monkeypatch, version, expected):
    """In gVisor and WSL2: without it an update of the driver would leave the keys of engines as they are."""
    def missing(self):
        raise FileNotFoundError

    monkeypatch.setattr(host.Path, "read_text", missing)
    monkeypatch.setattr(host.ctypes, "CDLL", lambda name: Nvml(version))
    assert host.driver_version() == expected
