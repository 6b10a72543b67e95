"""Averaged weights of a training -> models/<name>/: half precision safetensors and the card that vouches for them."""
from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import statistics
import time
from pathlib import Path

import torch
from safetensors.torch import save as safetensors_bytes

from hand_pose_ros import models, networks, provenance
from hand_pose_ros.errors import ModelError
from hand_pose_ros.runtimes import host, ort
from hand_pose_ros.runtimes.agreement import drawn_hands
from hand_pose_ros.runtimes.base import Options
from hand_pose_ros.runtimes.source import NetworkSource
from hand_pose_ros.training import checkpoint
from hand_pose_ros.training.settings import Settings

LATENCY_RUNS = 60


def export(network: torch.nn.Module, settings: Settings, folder: str | Path, *, training: dict, accuracy: dict,
           curve: list = (), data: str = "virtual hands, rendered by hand_pose_ros.synthesis", name: str = "",
           pieces: bool = False, latency: dict | None = None, evidence_needed: float | None = None) -> Path:
    """Write weights.safetensors and card.json of ``network`` into ``folder``, each whole or not at all.

    accuracy: what was measured with these weights; curve: what was measured on the way to them (``curve.points``).
    name: of the model, by default the folder's. pieces: weights of more than ``checkpoint.PIECE_BYTES`` are cut into
    weights.safetensors.000 and so on, which ``cat weights.safetensors.* > weights.safetensors`` joins. latency: as
    ``latency_of`` gives it. evidence_needed: of a pose network that does not go by ``pipeline.EVIDENCE_NEEDED``.

    The weights are stored in half precision; batch statistics, whose range it may not hold, stay in single precision.
    Raises ModelError if a weight is not finite, or too large to be stored so.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: _stored(k, v) for k, v in network.state_dict().items()}
    for key, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(f"{key} of the weights is not finite, at least in half precision: nothing is exported; go "
                             "back to an earlier checkpoint, or train with a lower learning_rate")
    data_bytes = safetensors_bytes(state)
    card = {
        "name": name or folder.name, "kind": networks.kind(settings.architecture),
        "architecture": settings.architecture, "options": settings.options, "input": [*settings.size, 3],
        "version": models.VERSION,
        "sha256": hashlib.sha256(data_bytes).hexdigest(), "licence": "Apache-2.0", "data": data,
        "parameters": sum(p.numel() for p in network.parameters()),
        "training": {**training, "commit": provenance.commit()},
        "accuracy": accuracy, "curve": list(curve), **({"latency": latency} if latency else {}),
        **({} if evidence_needed is None else {"evidence_needed": evidence_needed}),
    }
    files = {models.WEIGHTS: data_bytes}
    if pieces and len(data_bytes) > checkpoint.PIECE_BYTES:
        files = {f"{models.WEIGHTS}.{k:03d}": part for k, part in enumerate(checkpoint.cut(data_bytes))}
    _write(folder, {**files, models.CARD: (json.dumps(_plain(card), indent=1) + "\n").encode()})
    for old in (folder / models.WEIGHTS, *folder.glob(models.WEIGHTS + ".[0-9][0-9][0-9]")):       # whole, or in pieces
        if old.name not in files:
            old.unlink(missing_ok=True)
    return folder


def latency_of(network: torch.nn.Module, settings: Settings) -> dict:
    """What one input takes this processor, for the card: "ms", the median through ONNX Runtime with one thread, and on
    what it was measured. Raises ModelError if ONNX Runtime is not installed or the network cannot be exported to it."""
    if problem := ort.onnx_problem():
        raise ModelError(f"latency is measured through ONNX Runtime: {problem}")
    still = copy.deepcopy(network).cpu().eval()
    source = NetworkSource(networks.kind(settings.architecture), settings.architecture, (*settings.size, 3),
                           lambda: still)
    runtime = ort.OnnxRuntime(source, ort.export(source), Options(threads=1), "CPUExecutionProvider", "onnxruntime")
    picture, times = drawn_hands(*settings.size, 1), []
    for _ in range(LATENCY_RUNS):
        began = time.perf_counter()
        runtime(picture)
        times.append(1e3 * (time.perf_counter() - began))
    return {"ms": round(statistics.median(times), 2), "batch": 1, "threads": 1, "processor": host.cpu_name(),
            "runtime": f"onnxruntime {host.version('onnxruntime')}"}


def _plain(value):
    """The same for JSON, which knows no NaN: what was measured on nothing is null."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _stored(name: str, value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if value.dtype == torch.float32 and "running_" not in name else value


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """All beside their places first, so that a cut leaves old ones or new ones that belong together."""
    try:
        for name, data in files.items():
            (folder / f"{name}.tmp").write_bytes(data)
        for name in files:
            os.replace(folder / f"{name}.tmp", folder / name)
    finally:
        for name in files:
            (folder / f"{name}.tmp").unlink(missing_ok=True)
