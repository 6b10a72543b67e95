"""Convolution blocks that several networks share: nothing that TensorRT or ONNX Runtime would not fuse."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, relu: bool = True):
    """Convolution, batch norm and, if ``relu``, ReLU; padded so that only ``stride`` changes the size."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
              nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., Deep Residual Learning, CVPR 2016, fig. 5 left)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(conv_bn(inputs, outputs, 3, stride), conv_bn(outputs, outputs, 3, relu=False))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride, relu=False)

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut (He et al., CVPR 2016, fig. 5 right); the stride sits in the 3x3."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        middle = outputs // 4
        self.body = nn.Sequential(conv_bn(inputs, middle, 1), conv_bn(middle, middle, 3, stride),
                                  conv_bn(middle, outputs, 1, relu=False))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride, relu=False)

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


class InvertedBottleneck(nn.Module):
    """Universal inverted bottleneck (Qin et al., MobileNetV4, ECCV 2024, fig. 4): optional depthwise convolutions of
    size ``first`` before the expansion and ``middle`` after it; 0 leaves one out."""

    def __init__(self, inputs: int, outputs: int, first: int, middle: int, expand: int, stride: int = 1):
        super().__init__()
        wide = inputs * expand
        layers = []
        if first:
            layers.append(conv_bn(inputs, inputs, first, 1 if middle else stride, groups=inputs, relu=False))
        layers.append(conv_bn(inputs, wide, 1))
        if middle:
            layers.append(conv_bn(wide, wide, middle, stride, groups=wide))
        layers.append(conv_bn(wide, outputs, 1, relu=False))
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


class TopDown(nn.Module):
    """Feature pyramid (Lin et al., CVPR 2017): coarse maps are brought to one width, upsampled and added to finer ones.

    Called with maps fine to coarse, each half the size of the one before; returns the finest, ``width`` channels.
    """

    def __init__(self, channels, width: int):
        super().__init__()
        self.lateral = nn.ModuleList(conv_bn(c, width, 1, relu=False) for c in channels)
        self.smooth = nn.ModuleList(conv_bn(width, width, 3) for _ in channels[1:])

    def forward(self, maps):
        x = self.lateral[-1](maps[-1])
        for k in range(len(maps) - 2, -1, -1):
            x = F.interpolate(F.relu(x), scale_factor=2.0, mode="nearest")
            x = self.smooth[k](x + self.lateral[k](maps[k]))
        return x


def to_planes(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(N, H, W, 3) uint8 RGB -> (N, 3, H, W) of ``dtype``, about zero mean and unit variance.

    The cast is the first operation, as TensorRT wants; the result stays channels-last in memory.
    """
    return (images.to(dtype).permute(0, 3, 1, 2) - 118.0) * (1.0 / 60.0)


def initialise(module: nn.Module) -> None:
    """He initialisation for every convolution; the last batch norm of a residual branch starts at its default."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out" if isinstance(layer, nn.Conv2d) else "fan_in",
                                    nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
