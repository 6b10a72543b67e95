"""What ``hand-pose doctor`` says of the runtimes: one line per piece, with the remedy where something is missing."""
from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import host, ort, tensorrt
from .cache import EngineCache


TRY = ("from hand_pose_ros.runtimes import engine, tensorrt; engine.import_tensorrt(); "
       "tensorrt.import_torch_tensorrt()")
TRY_S = 120


@dataclass(frozen=True)
class Piece:
    """One thing that a rung of the ladder needs."""

    name: str
    there: bool
    said: str                                        # version or path if it is there, else what is wrong and the remedy


def pieces(cache: EngineCache | None = None) -> list[Piece]:
    """Every piece, from the driver up. Imports torch only on a machine with a GPU."""
    cache = cache or EngineCache()
    driver = host.driver_problem()
    found = [*_jetson(), Piece("NVIDIA driver", not driver, f"{driver}: install it if there is a GPU" if driver else
                                host.driver_version() or "there"),
             _package("torch", "pip install torch"),
             Piece("torch on the GPU", not host.cuda_problem(), host.cuda_problem() or _gpu()),
             _tensorrt(),
             _torch_tensorrt(),
             Piece("ONNX Runtime", not ort.onnx_problem(), ort.onnx_problem() or host.cpu_ingredients()["onnxruntime"])]
    return [*found, _folder(cache)]


def _jetson(release: Path = Path("/etc/nv_tegra_release")) -> list[Piece]:
    """What only a Jetson has: its release, and the library that torch needs and JetPack does not bring."""
    if not release.is_file():
        return []
    try:
        ctypes.CDLL("libcusparseLt.so.0")
        sparse = Piece("cuSPARSELt", True, "found")
    except OSError:
        sparse = Piece("cuSPARSELt", False, "libcusparseLt.so.0 not found: torch for Jetson does not load without it "
                                            "(docs/jetson.md has the lines)")
    return [Piece("L4T", True, " ".join(release.read_text().split())[:60]), sparse]


def _gpu() -> str:
    found = host.gpu_ingredients()
    return f"{found['gpu']}, compute capability {found['compute_capability']}, CUDA {found['cuda']}"


def _tensorrt() -> Piece:
    """TensorRT itself: what runs an engine."""
    there = host.version("tensorrt-rtx") if host.version("torch-tensorrt-rtx") else host.version("tensorrt")
    return Piece("TensorRT", bool(there), there or "not installed (comes with torch-tensorrt; on a Jetson with "
                                                   "nvidia-jetpack)")


def _torch_tensorrt() -> Piece:
    """What builds an engine. On a GPU it is tried, in a process of its own: versions that are there and do not fit are
    the usual trouble, and whoever serves frames meanwhile would build in vain at every start."""
    problem = tensorrt.engine_problem()
    if not problem:
        try:
            done = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, timeout=TRY_S,
                                  env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
            if done.returncode:
                problem = (done.stderr.strip().splitlines() or [f"its import ended with {done.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            problem = f"its import takes longer than {TRY_S} s"
    return Piece("Torch-TensorRT", not problem, problem or _tensorrt_versions())


def _package(name: str, remedy: str) -> Piece:
    version = host.version(name)
    return Piece(name, bool(version), version or f"not installed ({remedy})")


def _tensorrt_versions() -> str:
    return ", ".join(f"{name} {host.version(name)}" for name in host.TENSORRT_PACKAGES if host.version(name))


def _folder(cache: EngineCache) -> Piece:
    """The engine cache: whether this user can write there."""
    existing = next(path for path in (cache.folder, *cache.folder.parents) if path.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK)
    entries = cache.entries()
    held = f"{cache.folder}, {len(entries)} engines, {sum(size for _, size, _ in entries) / 1e6:.0f} MB"
    return Piece("engine cache", writable, held if writable else
                 f"{Path(cache.folder)} cannot be written: set ROS_HOME to a writable folder")
