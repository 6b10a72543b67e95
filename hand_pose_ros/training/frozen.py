"""Parts of a network that keep the weights they started with, and gradients a CPU can afford."""
from __future__ import annotations

import copy
import itertools
from fnmatch import fnmatch

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

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


def statistics_of(network: nn.Module, patterns) -> set[str]:
    """Names of all that ``freeze`` keeps: parameters, and statistics of batch norms whose weights it keeps."""
    kept = {name for name, _ in network.named_parameters() if any(fnmatch(name, pattern) for pattern in patterns)}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.BatchNorm2d) and f"{name}.weight" in kept:
            kept |= {f"{name}.running_mean", f"{name}.running_var"}
    return kept


def train_mode(network: nn.Module) -> None:
    """``network.train()``, but batch norms that are frozen go on using the statistics they came with."""
    network.train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and not layer.weight.requires_grad:
            layer.eval()


def quicken(network: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Make a training step on a CPU cheaper, without another result. Weights keep their names: they stay exchangeable.

    Depthwise convolutions compute in fp32 where their bf16 gradient has no quick kernel (oneDNN 3.x): strided ones, 30
    times as long, and those of more than 3x3 whose weights are learnt, 2 to 3 times. The blocks at the network's
    beginning that are frozen altogether run as convolutions with folded batch norms in ``dtype``
    (benchmarks/training_step.py measures what that gains). Call it again after loading other weights.
    """
    for layer in network.modules():
        if type(layer) is nn.Conv2d and layer.groups > 1:
            if layer.stride[0] > 1 or layer.kernel_size[0] > 3 and layer.weight.requires_grad:
                layer.__class__ = _Fp32Conv2d
    first = next((m for m in network.modules() if isinstance(m, nn.Sequential)), None)
    known = list(itertools.takewhile(_is_frozen, first or ()))
    if known:
        first.__class__ = _FrozenStart
        # In a tuple, so that torch does not take it for a part of the network.
        first.start = (_folded(nn.Sequential(*known)).to(dtype, memory_format=torch.channels_last), len(known))


class _Fp32Conv2d(nn.Conv2d):
    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class _FrozenStart(nn.Sequential):
    def forward(self, x):
        start, count = self.start
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            x = start(x.to(next(start.parameters()).dtype))
        for layer in self[count:]:
            x = layer(x)
        return x


def _is_frozen(layer: nn.Module) -> bool:
    parameters = list(layer.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def _folded(network: nn.Sequential) -> nn.Sequential:
    """A copy for inference whose batch norms are part of the convolutions before them."""
    network = copy.deepcopy(network).eval()
    for layer in list(network.modules()):
        if type(layer) is _Fp32Conv2d:                                                  # no gradient is wanted here
            layer.__class__ = nn.Conv2d
    for layer in list(network.modules()):
        if isinstance(layer, nn.Sequential):
            for k in range(len(layer) - 1):
                if isinstance(layer[k], nn.Conv2d) and isinstance(layer[k + 1], nn.BatchNorm2d):
                    layer[k], layer[k + 1] = fuse_conv_bn_eval(layer[k], layer[k + 1]), nn.Identity()
    return network
