"""The light pose network that ships: a thin residual backbone, a small feature pyramid, the common head."""
from __future__ import annotations

from torch import nn

from hand_pose_ros.networks import efficientnet_lite
from hand_pose_ros.networks.blocks import BasicBlock, InvertedBottleneck, TopDown, conv_bn
from hand_pose_ros.networks.pose_head import PoseNetwork


class PoseLight(PoseNetwork):
    """``stages``: a name in ``STAGES``; ``width`` scales all channels (1.0 only for "lite0")."""

    def __init__(self, stages: str = "plain", width: float = 1.0, neck: int = 96, **head):
        if stages not in STAGES:
            raise ValueError(f"stages {stages!r}; choose one of {', '.join(STAGES)}")
        backbone = Pyramid(*STAGES[stages](width), neck)
        super().__init__(backbone, neck, backbone.coarse, **head)


class Pyramid(nn.Module):
    """planes -> (features at stride 8, features at stride 32)."""

    def __init__(self, s8, s16, s32, channels, neck: int):
        super().__init__()
        self.s8, self.s16, self.s32 = s8, s16, s32
        self.neck = TopDown(channels, neck)
        self.coarse = channels[-1]

    def forward(self, planes):
        c8 = self.s8(planes)
        c16 = self.s16(c8)
        c32 = self.s32(c16)
        return self.neck((c8, c16, c32)), c32


def plain(width: float):
    """Residual stages of 3x3 convolutions: on CPUs more arithmetic a second than depthwise ones, and quick to learn."""
    a, b, c, d, e = (8 * round(v * width / 8) for v in (24, 40, 80, 144, 224))
    s8 = nn.Sequential(conv_bn(3, a, 3, 2), BasicBlock(a, b, 2), BasicBlock(b, c, 2), BasicBlock(c, c))
    s16 = nn.Sequential(BasicBlock(c, d, 2), BasicBlock(d, d))
    s32 = nn.Sequential(BasicBlock(d, e, 2), BasicBlock(e, e))
    return s8, s16, s32, (c, d, e)


def inverted(width: float):
    """Stages of MobileNetV4-Conv-S (Qin et al., ECCV 2024, table 11) without its classifier."""
    a, b, c, d, e = (8 * round(v * width / 8) for v in (32, 64, 96, 96, 128))
    u = InvertedBottleneck
    s8 = nn.Sequential(conv_bn(3, a, 3, 2), conv_bn(a, a, 3, 2), conv_bn(a, a, 1), conv_bn(a, c, 3, 2),
                       conv_bn(c, b, 1))
    s16 = nn.Sequential(u(b, d, 5, 5, 3, 2), *[u(d, d, 0, 3, 2) for _ in range(4)], u(d, d, 3, 0, 4))
    s32 = nn.Sequential(u(d, e, 3, 3, 6, 2), u(e, e, 5, 5, 4), u(e, e, 0, 5, 4), u(e, e, 0, 5, 3), u(e, e, 0, 3, 4),
                        u(e, e, 0, 3, 4))
    return s8, s16, s32, (b, d, e)


def lite0(width: float):
    """EfficientNet-Lite0, for which weights learnt on ImageNet are published. Raises ValueError for another width."""
    if width != 1.0:
        raise ValueError(f"width {width}: lite0 has one width, 1.0")
    return efficientnet_lite.stages()


STAGES = {"plain": plain, "inverted": inverted, "lite0": lite0}
