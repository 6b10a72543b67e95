"""Every network, by name. A new one is one file and one line in ``NETWORKS``.

All pose networks share one interface, all detectors another, so that a runtime never needs to know which one it runs:

pose      (N, S, S, 3) uint8 RGB -> the tuple ``POSE_OUTPUTS``
detector  (N, H, W, 3) uint8 RGB, H and W multiples of 32 -> (N, 8, H/8, W/8), channels ``DETECTOR_CHANNELS``
"""
from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np

from hand_pose_ros import models
from hand_pose_ros.errors import ModelError

NETWORKS = {
    # name: (kind, module, class)
    "pose_light": ("pose", "hand_pose_ros.networks.pose_light", "PoseLight"),
    "pose_resnet": ("pose", "hand_pose_ros.networks.pose_resnet", "PoseResNet"),
    "pose_hrnet": ("pose", "hand_pose_ros.networks.pose_hrnet", "PoseHRNet"),
    "detector_light": ("detector", "hand_pose_ros.networks.detector_light", "DetectorLight"),
}

POSE_OUTPUTS = ("uv", "xyz", "uv_sigma", "xyz_sigma", "visibility", "presence", "right")
"""uv (N, 21, 2) crop pixels; xyz (N, 21, 3) hand lengths; uv_sigma (N, 21) pixels; xyz_sigma (N, 21) hand lengths;
visibility (N, 21), presence (N,) and right (N,) probabilities."""

DETECTOR_CHANNELS = ("score", "left", "top", "right", "bottom", "side", "up_u", "up_v")
"""score and side (right hand) are probabilities; left..bottom are distances in input pixels from the cell's centre
((column + 0.5) * 8 - 0.5, likewise rows) to the sides of the box; up is the direction wrist to middle MCP, of any
length."""

OUTPUTS = {"pose": POSE_OUTPUTS, "detector": ("dense",)}


def kind(architecture: str) -> str:
    """``pose`` or ``detector``. Raises ModelError for a name that is not in ``NETWORKS``."""
    return _entry(architecture)[0]


def build(card: dict):
    """An untrained ``torch.nn.Module`` in eval mode for ``card["architecture"]`` and ``card["options"]``.

    Raises ModelError, naming the choices, if either is unknown.
    """
    name, options = card.get("architecture"), card.get("options") or {}
    _, module, cls = _entry(name)
    try:
        network = getattr(importlib.import_module(module), cls)(**options)
        if not all(parameter.numel() for parameter in network.parameters()):
            raise ValueError("they leave it layers without any channel")
    except (TypeError, ValueError, RuntimeError) as error:      # RuntimeError: of torch, for sizes that cannot be
        raise ModelError(f"options {options} do not fit the network {name!r}: {error}; correct the card or settings"
                         ) from error
    return network.eval()


def load(name: str, root: str | Path | None = None):
    """The ``torch.nn.Module`` of the model ``name`` (models.py): CPU, float32, eval mode, weights loaded.

    Raises ModelError if the card does not match its weights.
    """
    import torch

    card = models.card(name, root)
    weights = {key: torch.from_numpy(np.array(value)) for key, value in models.load_weights(name, root).items()}
    try:
        module = build(card)
    except ModelError as error:
        raise ModelError(f"the card of model {name!r} cannot be followed: {error}") from error
    try:
        module.load_state_dict({k: v.float() if v.dtype.is_floating_point else v for k, v in weights.items()})
    except RuntimeError as error:
        raise ModelError(f"the weights of {name!r} do not fit its card ({card['architecture']} {card['options']}): "
                         f"{str(error).splitlines()[-1].strip()}; export the model again") from error
    return module.eval()


def _entry(name):
    if not isinstance(name, str) or name not in NETWORKS:
        raise ModelError(f"unknown network {name!r}; choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]
