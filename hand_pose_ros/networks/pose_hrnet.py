"""HRNet (Sun et al., CVPR 2019): parallel branches at strides 4 to 32 that exchange features, and the common head."""
from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from hand_pose_ros.networks.blocks import BasicBlock, Bottleneck, conv_bn
from hand_pose_ros.networks.pose_head import PoseNetwork

MODULES = (1, 4, 3)
"""Exchange modules in stages 2, 3 and 4, which have 2, 3 and 4 branches (Wang et al., TPAMI 2020, section 3)."""


class PoseHRNet(PoseNetwork):
    """``width``: channels of the stride-4 branch, 18 for HRNet-W18; each coarser branch has twice as many.

    ``modules`` and ``blocks`` shorten it: exchange modules per stage, residual blocks per branch and module.
    """

    def __init__(self, width: int = 18, modules=MODULES, blocks: int = 4, **head):
        backbone = _Backbone(width, tuple(modules), blocks)
        super().__init__(backbone, width, 8 * width, **head)


class _Exchange(nn.Module):
    """Residual blocks on every branch, then each branch of ``outputs`` gets the sum of all, resampled; in the others
    nothing would be learnt."""

    def __init__(self, widths, blocks: int, outputs):
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*[BasicBlock(c, c) for _ in range(blocks)]) for c in widths)
        self.fuse = nn.ModuleDict({str(o): nn.ModuleList(_resample(widths, i, o) for i in range(len(widths)))
                                   for o in outputs})

    def _load_from_state_dict(self, state, prefix, *others):
        for name in [name for name in state if name.startswith(f"{prefix}fuse.")]:
            if name[len(prefix):].split(".")[1] not in self.fuse:       # of before these were left out
                del state[name]
        super()._load_from_state_dict(state, prefix, *others)

    def forward(self, maps):
        maps = [branch(x) for branch, x in zip(self.branches, maps)]
        fused = []
        for o, row in ((int(name), row) for name, row in self.fuse.items()):
            total = maps[o]
            for i, (layer, x) in enumerate(zip(row, maps)):
                if i != o:
                    x = layer(x)
                    total = total + (F.interpolate(x, scale_factor=float(2 ** (i - o)), mode="nearest") if i > o else x)
            fused.append(F.relu(total))
        return fused


class _Backbone(nn.Module):
    """planes -> (features at stride 4, features at stride 32)."""

    def __init__(self, width: int, modules, blocks: int):
        super().__init__()
        widths = [width * 2**k for k in range(4)]
        self.stem = nn.Sequential(conv_bn(3, 64, 3, 2), conv_bn(64, 64, 3, 2), Bottleneck(64, 256),
                                  *[Bottleneck(256, 256) for _ in range(3)])
        self.enter = nn.ModuleList([conv_bn(256, widths[0], 3), conv_bn(256, widths[1], 3, 2)])
        self.deeper = nn.ModuleList([conv_bn(widths[1], widths[2], 3, 2), conv_bn(widths[2], widths[3], 3, 2)])
        self.stages = nn.ModuleList()
        for n, count in zip((2, 3, 4), modules):
            ends = [range(n)] * (count - 1) + [(0, n - 1) if n == 4 else range(n)]
            self.stages.append(nn.Sequential(*[_Exchange(widths[:n], blocks, outputs) for outputs in ends]))

    def forward(self, planes):
        x = self.stem(planes)
        maps = self.stages[0]([layer(x) for layer in self.enter])
        for deeper, stage in zip(self.deeper, self.stages[1:]):
            maps = stage([*maps, deeper(maps[-1])])
        return maps[0], maps[-1]


def _resample(widths, i: int, o: int) -> nn.Module:
    """From branch i to branch o: strided convolutions down, one 1x1 convolution before upsampling."""
    if i == o:
        return nn.Identity()
    if i > o:
        return conv_bn(widths[i], widths[o], 1, relu=False)
    steps = [conv_bn(widths[i], widths[i], 3, 2) for _ in range(o - i - 1)]
    return nn.Sequential(*steps, conv_bn(widths[i], widths[o], 3, 2, relu=False))
