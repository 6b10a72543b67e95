"""EfficientNet-Lite0, a backbone without squeeze-and-excitation or swish, so that every runtime and INT8 take it.

Tan and Le, EfficientNet, ICML 2019, table 1, in the "lite" form of its authors (2020): ReLU6, plain inverted residuals,
a stem of fixed width. Paddings are symmetric, as in torch.
"""
from __future__ import annotations

from torch import nn

EPSILON = 1e-3
"""Of the batch norms, as where the published weights were learnt."""

STEM = 32
BLOCKS = (
    # repeats, kernel, stride, expansion, outputs
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320))
LAST_AT_STRIDE = {8: 3, 16: 5, 32: 7}
"""Number of rows of ``BLOCKS`` after which features of that stride are complete."""


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection (Sandler et al., MobileNetV2, CVPR 2018, fig. 3)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int):
        super().__init__()
        wide = inputs * expand
        layers = [_conv(inputs, wide, 1)] if expand > 1 else []
        layers += [_conv(wide, wide, kernel, stride, wide), _conv(wide, outputs, 1, relu=False)]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


def stages():
    """(planes -> stride 8, -> stride 16, -> stride 32, their channels), as ``pose_light.STAGES`` wants them."""
    layers, inputs, parts, channels = [_conv(3, STEM, 3, 2)], STEM, [], []
    for row, (repeats, kernel, stride, expand, outputs) in enumerate(BLOCKS, 1):
        for k in range(repeats):
            layers.append(InvertedResidual(inputs, outputs, kernel, stride if k == 0 else 1, expand))
            inputs = outputs
        if row in LAST_AT_STRIDE.values():
            parts.append(nn.Sequential(*layers))
            channels.append(outputs)
            layers = []
    return *parts, tuple(channels)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True):
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
              nn.BatchNorm2d(outputs, eps=EPSILON)]
    return nn.Sequential(*layers, nn.ReLU6(inplace=True)) if relu else nn.Sequential(*layers)
