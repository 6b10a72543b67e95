"""The light hand detector: anchor-free, one dense map at stride 8 (after Zhou et al., Objects as Points, 2019)."""
from __future__ import annotations

import torch
from torch import nn

from hand_pose_ros.networks.blocks import conv_bn, initialise, to_planes
from hand_pose_ros.networks.pose_light import STAGES, Pyramid

STRIDE = 8


class DetectorLight(nn.Module):
    """Channels of the output: ``networks.DETECTOR_CHANNELS``. A hand is told by the cell nearest its box's centre.

    The backbone is the one of ``PoseLight``, so that training can start from what a pose network knows of hands:
    from scratch the score needs several times the pictures to tell a hand from an arm or a face.
    """

    def __init__(self, stages: str = "plain", width: float = 1.0, neck: int = 96):
        super().__init__()
        if stages not in STAGES:
            raise ValueError(f"stages {stages!r}; choose one of {', '.join(STAGES)}")
        self.backbone = Pyramid(*STAGES[stages](width), neck)
        # The coarsest maps let one cell see the whole image: a hand may fill it. Not below stride 32, so that any
        # multiple of 32 is a valid size; dilation widens the view instead.
        self.context = nn.Sequential(*[Dilated(self.backbone.coarse, 128, rate) for rate in (2, 3)])
        self.head = nn.Sequential(conv_bn(neck, neck, 3), nn.Conv2d(neck, 8, 1))
        initialise(self)
        for layer in self.context:
            nn.init.zeros_(layer.body[-1][1].weight)                                    # at first it changes nothing
        nn.init.normal_(self.head[1].weight, std=0.01)
        self.head[1].bias.data[:] = 0.0
        self.head[1].bias.data[0] = -4.0                                                # hands are rare
        self.head[1].bias.data[1:5] = 1.2                                               # boxes of about 50 px

    def raw(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 8, H/8, W/8) before the activations: score and side logits, logarithms of the distances in strides."""
        c8 = self.backbone.s8(to_planes(images, self.head[1].weight.dtype))
        c16 = self.backbone.s16(c8)
        c32 = self.context(self.backbone.s32(c16))
        return self.head(self.backbone.neck((c8, c16, c32)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images (N, H, W, 3) uint8 RGB -> (N, 8, H/8, W/8)."""
        raw = self.raw(images).float()
        box = torch.exp(raw[:, 1:5].clamp(-4.0, 5.0)) * STRIDE
        return torch.cat((torch.sigmoid(raw[:, 0:1]), box, torch.sigmoid(raw[:, 5:6]), raw[:, 6:8]), dim=1)


class Dilated(nn.Module):
    """A residual 3x3 convolution that looks ``rate`` cells away."""

    def __init__(self, channels: int, middle: int, rate: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, middle, 3, 1, rate, dilation=rate, bias=False), nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True), conv_bn(middle, channels, 1, relu=False))

    def forward(self, x):
        return torch.relu(x + self.body(x))
