"""What ``hand-pose doctor`` says of the runtimes: one line per piece, with the remedy where something is missing."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from . import host, ort, tensorrt
from .cache import EngineCache


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
    found = [Piece("NVIDIA driver", not driver, driver or host.driver_version() or "there"),
             _package("torch", "pip install torch"),
             Piece("torch on the GPU", not host.cuda_problem(), host.cuda_problem() or "works"),
             Piece("Torch-TensorRT", not tensorrt.engine_problem(), tensorrt.engine_problem() or _tensorrt_versions()),
             Piece("ONNX Runtime", not ort.onnx_problem(), ort.onnx_problem() or host.cpu_ingredients()["onnxruntime"])]
    return [*found, _folder(cache)]


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
