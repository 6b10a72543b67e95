"""SimpleBaseline (Xiao et al., ECCV 2018): a ResNet, three transposed convolutions, and the common head."""
from __future__ import annotations

from torch import nn

from hand_pose_ros.networks.blocks import BasicBlock, Bottleneck, conv_bn
from hand_pose_ros.networks.pose_head import PoseNetwork

DEPTHS = {18: (BasicBlock, (2, 2, 2, 2), (64, 128, 256, 512)),
          34: (BasicBlock, (3, 4, 6, 3), (64, 128, 256, 512)),
          50: (Bottleneck, (3, 4, 6, 3), (256, 512, 1024, 2048))}
"""ResNet depth: block, blocks per stage, channels per stage (He et al., CVPR 2016, table 1)."""


class PoseResNet(PoseNetwork):
    """``deconv``: channels of the three transposed convolutions, 256 in the paper."""

    def __init__(self, depth: int = 18, deconv: int = 256, **head):
        if depth not in DEPTHS:
            raise ValueError(f"depth {depth}; choose one of {', '.join(map(str, DEPTHS))}")
        channels = DEPTHS[depth][2]
        super().__init__(_Backbone(*DEPTHS[depth], deconv), deconv, channels[-1], **head)


class _Backbone(nn.Module):
    """planes -> (features at stride 4, features at stride 32)."""

    def __init__(self, block, counts, channels, deconv: int):
        super().__init__()
        layers, inputs = [conv_bn(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)], 64
        for stage, (count, outputs) in enumerate(zip(counts, channels)):
            for k in range(count):
                layers.append(block(inputs, outputs, 2 if stage and k == 0 else 1))
                inputs = outputs
        self.stages = nn.Sequential(*layers)
        up = []
        for k in range(3):
            up += [nn.ConvTranspose2d(inputs if k == 0 else deconv, deconv, 4, 2, 1, bias=False),
                   nn.BatchNorm2d(deconv), nn.ReLU(inplace=True)]
        self.up = nn.Sequential(*up)

    def forward(self, planes):
        coarse = self.stages(planes)
        return self.up(coarse), coarse
