"""Small networks with the interface of the real ones, so that runtimes are tested without trained weights."""
from __future__ import annotations

import torch
from torch import nn

from hand_pose_ros.runtimes.source import NetworkSource

REST = torch.tensor([
    [0.00, 0.45], [-0.17, 0.31], [-0.29, 0.14], [-0.36, 0.00], [-0.42, -0.11],
    [-0.15, 0.00], [-0.21, -0.20], [-0.24, -0.33], [-0.26, -0.43], [-0.02, -0.02], [-0.03, -0.27], [-0.03, -0.42],
    [-0.04, -0.55], [0.09, 0.01], [0.13, -0.22], [0.15, -0.36], [0.17, -0.47], [0.19, 0.07], [0.26, -0.09],
    [0.30, -0.18], [0.34, -0.27]])
"""A flat right hand's joints (21, 2) in hand lengths round the crop's centre, v down."""


class StandInPose(nn.Module):
    """A flat hand that shifts and bends a little with what the crop shows; interface of a pose network."""

    def __init__(self, size: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.size = size
        self.features = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.Conv2d(8, 16, 5, 4, 2), nn.ReLU())
        self.head = nn.Linear(16, 21 * 6 + 2)
        self.register_buffer("rest", REST)

    def forward(self, crops: torch.Tensor):
        planes = (crops.to(self.head.weight.dtype).permute(0, 3, 1, 2) - 118.0) / 60.0
        raw = self.head(self.features(planes).mean((2, 3))).float()
        joints = raw[:, :126].reshape(-1, 21, 6)
        uv = (self.rest + 0.05 * joints[..., :2]) * (0.7 * self.size) + (self.size - 1) / 2
        xyz = torch.cat((self.rest + 0.05 * joints[..., :2], 0.1 * joints[..., 2:3]), -1)
        xyz = xyz - xyz[:, :1]
        return (uv, xyz, torch.exp(joints[..., 3]), 0.02 * torch.exp(joints[..., 4]), torch.sigmoid(joints[..., 5]),
                torch.sigmoid(raw[:, 126]), torch.sigmoid(raw[:, 127]))


class StandInDetector(nn.Module):
    """A dense map with one clear hand near the middle; interface of a detector network."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.features = nn.Conv2d(3, 8, 9, 8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        planes = (images.to(self.features.weight.dtype).permute(0, 3, 1, 2) - 118.0) / 60.0
        raw = self.features(planes).float()
        score = torch.sigmoid(raw[:, :1] + 2.0)
        return torch.cat((score, 30 + 5 * torch.tanh(raw[:, 1:5]), torch.sigmoid(raw[:, 5:6]), raw[:, 6:8]), 1)


def source(kind: str = "pose", size: int = 64, seed: int = 0, **ingredients: str) -> NetworkSource:
    """A NetworkSource round a stand-in."""
    shape = (size, size, 3)
    module = (lambda: StandInPose(size, seed)) if kind == "pose" else StandInDetector
    return NetworkSource(kind, f"standin_{kind}", shape, module, {"weights": f"seed {seed}", **ingredients})
