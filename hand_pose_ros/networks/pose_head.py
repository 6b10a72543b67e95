"""The head that every pose network shares, so that families differ in the backbone only.

Heatmaps find the joints that can be seen (soft-argmax); features read at those places become 21 tokens which, with one
token of the whole crop, exchange what they know in a small transformer and give refined pixels, 3D and uncertainty.
"""
from __future__ import annotations

import torch
from torch import nn

from hand_pose_ros.networks.blocks import initialise, to_planes
from hand_pose_ros.skeleton import NUM_JOINTS

SIGMA_PER_SCALE = 2.0 ** 0.5
"""Standard deviation of a Laplace distribution of scale 1."""


class Mixer(nn.Module):
    """One pre-norm transformer layer (Vaswani et al., 2017) written with plain matrix products."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads {heads}: it must be a whole number that divides the width, {width}")
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, tokens):
        n, t, c = tokens.shape
        qkv = self.query_key_value(self.norm_attention(tokens)).reshape(-1, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)                                  # (N, heads, T, c)
        weights = torch.softmax(q @ k.transpose(-1, -2) * (c // self.heads) ** -0.5, dim=-1)
        tokens = tokens + self.merge((weights @ v).transpose(1, 2).reshape(-1, t, c))
        return tokens + self.mlp(self.norm_mlp(tokens))


class PoseHead(nn.Module):
    """fine (N, C, h, w) and coarse (N, D, h', w') features -> a dict of raw predictions in normalised coordinates.

    Normalised: -1 and 1 are the outer edges of the crop. Keys: heat (N, 21, h, w) logits, uv0 and uv (N, 21, 2),
    xyz (N, 21, 3) hand lengths, uv_log and z_log (N, 21) logarithms of Laplace scales (normalised units; hand
    lengths), visibility (N, 21), presence (N,), right (N,) logits.
    """

    def __init__(self, fine: int, coarse: int, width: int = 128, layers: int = 2, heads: int = 4):
        super().__init__()
        self.heat = nn.Conv2d(fine, NUM_JOINTS, 1)
        self.read, self.place, self.whole = nn.Linear(fine, width), nn.Linear(2, width), nn.Linear(coarse, width)
        self.names = nn.Parameter(torch.randn(NUM_JOINTS, width) * 0.5)
        self.mixers = nn.Sequential(*[Mixer(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.joint, self.hand = nn.Linear(width, 8), nn.Linear(width, 2)
        nn.init.normal_(self.heat.weight, std=0.01)
        nn.init.normal_(self.joint.weight, std=0.01)
        nn.init.zeros_(self.joint.bias)
        self.joint.bias.data[5:7] = -2.0                                                # scales start near exp(-2)

    def forward(self, fine, coarse):
        n, _, h, w = fine.shape
        heat = self.heat(fine)
        weights = torch.softmax(heat.flatten(2), dim=-1)                                # (N, 21, h*w)
        grid = _grid(h, w, fine)
        uv0 = weights @ grid                                                            # (N, 21, 2)
        seen = self.read(weights @ fine.flatten(2).transpose(1, 2))
        tokens = seen + self.names + self.place(uv0)
        whole = self.whole(coarse.mean(dim=(2, 3)))[:, None]                            # (N, 1, width)
        tokens = self.norm(self.mixers(torch.cat((tokens + whole, whole), dim=1)))
        joint, hand = self.joint(tokens[:, :NUM_JOINTS]), self.hand(tokens[:, NUM_JOINTS])
        xyz = joint[..., 2:5]
        return {"heat": heat, "uv0": uv0, "uv": uv0 + joint[..., 0:2], "xyz": xyz - xyz[:, :1],
                "uv_log": joint[..., 5].clamp(-7.0, 2.0), "z_log": joint[..., 6].clamp(-7.0, 2.0),
                "visibility": joint[..., 7], "presence": hand[:, 0], "right": hand[:, 1]}


class PoseNetwork(nn.Module):
    """Backbone (planes -> fine, coarse) and head with the interface of ``networks.POSE_OUTPUTS``."""

    def __init__(self, backbone: nn.Module, fine: int, coarse: int, **head):
        super().__init__()
        initialise(backbone)
        self.backbone, self.head = backbone, PoseHead(fine, coarse, **head)

    def raw(self, images: torch.Tensor) -> dict:
        """What the losses need: see ``PoseHead``. images: (N, S, S, 3) uint8 RGB."""
        return self.head(*self.backbone(to_planes(images, self.head.heat.weight.dtype)))

    def forward(self, images: torch.Tensor):
        """images (N, S, S, 3) uint8 RGB -> the tuple ``networks.POSE_OUTPUTS``."""
        size = images.shape[1]
        raw = self.raw(images)
        uv = (raw["uv"].float() + 1.0) * (0.5 * size) - 0.5
        uv_sigma = torch.exp(raw["uv_log"].float()) * (0.5 * size * SIGMA_PER_SCALE)
        xyz_sigma = torch.exp(raw["z_log"].float()) * SIGMA_PER_SCALE
        probabilities = [torch.sigmoid(raw[k].float()) for k in ("visibility", "presence", "right")]
        return uv, raw["xyz"].float(), uv_sigma, xyz_sigma, *probabilities


def _grid(h: int, w: int, like: torch.Tensor) -> torch.Tensor:
    """(h*w, 2) centres of the cells in normalised coordinates, columns first."""
    u = (torch.arange(w, device=like.device, dtype=like.dtype) + 0.5) * (2.0 / w) - 1.0
    v = (torch.arange(h, device=like.device, dtype=like.dtype) + 0.5) * (2.0 / h) - 1.0
    return torch.stack((u.repeat(h), v.repeat_interleave(w)), dim=-1)
