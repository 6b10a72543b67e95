"""Parts of a network that keep the weights they started with, and gradients a CPU can afford."""
from __future__ import annotations

from fnmatch import fnmatch

import torch
from torch import nn

from hand_pose_ros.errors import ConfigError


def freeze(network: nn.Module, patterns) -> None:
    """Take parameters whose name fits one of ``patterns`` (as in fnmatch) out of the training.

    Raises ConfigError for a pattern that fits nothing.
    """
    names = dict(network.named_parameters())
    for pattern in patterns:
        fitting = [name for name in names if fnmatch(name, pattern)]
        if not fitting:
            raise ConfigError(f"frozen: no parameter is named like {pattern!r}; names look like {next(iter(names))!r}")
        for name in fitting:
            names[name].requires_grad_(False)


def train_mode(network: nn.Module) -> None:
    """``network.train()``, but batch norms that are frozen go on using the statistics they came with."""
    network.train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and not layer.weight.requires_grad:
            layer.eval()


def quicken(network: nn.Module) -> None:
    """Let strided depthwise convolutions compute in fp32 on a CPU: their bf16 gradient takes 30 times as long (oneDNN
    3.x). The type of a layer changes, not its name, so that weights stay exchangeable."""
    for layer in network.modules():
        if type(layer) is nn.Conv2d and layer.groups > 1 and layer.stride[0] > 1:
            layer.__class__ = _Fp32Conv2d


class _Fp32Conv2d(nn.Conv2d):
    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())
