"""Averaged weights of a training -> models/<name>/: half precision safetensors and the card that vouches for them."""
from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import torch
from safetensors.torch import save as safetensors_bytes

from hand_pose_ros import models, networks
from hand_pose_ros.training import checkpoint
from hand_pose_ros.training.settings import Settings


def export(network: torch.nn.Module, settings: Settings, folder: str | Path, *, training: dict, accuracy: dict,
           curve: list = (), data: str = "virtual hands, rendered by hand_pose_ros.synthesis", name: str = "",
           pieces: bool = False) -> Path:
    """Write weights.safetensors and card.json of ``network`` into ``folder``, each whole or not at all.

    accuracy: what was measured with these weights; curve: what was measured on the way to them (``curve.points``).
    name: of the model, by default the folder's. pieces: weights of more than ``checkpoint.PIECE_BYTES`` are cut into
    weights.safetensors.000 and so on, which ``cat weights.safetensors.* > weights.safetensors`` joins.

    The weights are stored in half precision; batch statistics, whose range it may not hold, stay in single precision.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: _stored(k, v) for k, v in network.state_dict().items()}
    data_bytes = safetensors_bytes(state)
    card = {
        "name": name or folder.name, "kind": networks.kind(settings.architecture),
        "architecture": settings.architecture, "options": settings.options, "input": [*settings.size, 3],
        "version": models.VERSION,
        "sha256": hashlib.sha256(data_bytes).hexdigest(), "licence": "Apache-2.0", "data": data,
        "parameters": sum(p.numel() for p in network.parameters()), "training": {**training, "commit": _commit()},
        "accuracy": accuracy, "curve": list(curve),
    }
    files = {models.WEIGHTS: data_bytes}
    if pieces and len(data_bytes) > checkpoint.PIECE_BYTES:
        files = {f"{models.WEIGHTS}.{k:03d}": part for k, part in enumerate(checkpoint.cut(data_bytes))}
    _write(folder, {**files, models.CARD: (json.dumps(card, indent=1) + "\n").encode()})
    for old in folder.glob(models.WEIGHTS + "*"):
        if old.name not in files:
            old.unlink()
    return folder


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


def _commit() -> str:
    """The commit of the code, or "unknown" outside a git checkout."""
    try:
        return subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True,
                              check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
