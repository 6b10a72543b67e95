"""What the networks are taught. Every loss is a mean over the batch and comes with its parts, for the log."""
from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from hand_pose_ros.skeleton import BONES, NUM_JOINTS

HEAT_SIGMA = 0.09
"""Standard deviation of the heatmap that is asked for, in half crops: about 6 of 128 pixels."""

POSE_WEIGHTS = {"heat": 0.4, "uv0": 4.0, "uv": 3.0, "xyz": 6.0, "bones": 1.0, "uv_scale": 0.4, "z_scale": 0.05,
                "visibility": 0.2, "presence": 0.3, "right": 1.0}
"""The likelihood weighs a joint by 1 / scale: it teaches those that can be seen well to the pixel, L1 those that cannot
be seen at all."""
DETECTOR_WEIGHTS = {"heat": 1.0, "box": 1.0, "side": 0.4, "up": 0.5}


def pose_loss(raw: dict, sample: dict, likelihood: float) -> tuple[torch.Tensor, dict]:
    """Loss of ``PoseNetwork.raw`` against a batch of ``pose_samples``; (scalar, parts).

    likelihood in 0..1: 0 teaches positions by their L1 error and scales by the likelihood of fixed positions; towards
    1 the Laplace likelihood (Kendall and Gal, NeurIPS 2017, section 2.2) teaches both.
    """
    hand = sample["labelled"][:, None]                                                  # (N, 1)
    count = (hand.sum() * NUM_JOINTS).clamp(min=1.0)
    reach = (sample["uv"].abs().amax(-1) < 1.6).float() * hand                          # far outside: nothing to see
    inside = (sample["uv"].abs().amax(-1) < 1.0).float() * hand
    uv0 = (raw["uv0"] - sample["uv"]).abs().sum(-1)
    uv = (raw["uv"] - sample["uv"]).abs().sum(-1)
    xyz = (raw["xyz"] - sample["xyz"]).abs().sum(-1)
    z = (raw["xyz"] - sample["xyz"])[..., 2].abs()
    bce = F.binary_cross_entropy_with_logits
    parts = {
        "heat": (_heat_divergence(raw["heat"], sample["uv"]) * inside).sum() / count,
        "uv0": (uv0 * inside).sum() / count,
        "uv": (uv * reach).sum() / count,
        "xyz": (xyz * hand).sum() / count,
        "bones": (_bone_error(raw["xyz"], sample["xyz"]) * hand).sum() / hand.sum().clamp(min=1.0) / len(BONES),
        "uv_scale": (_laplace(_mixed(0.5 * uv, likelihood), raw["uv_log"]) * reach).sum() / count,
        "z_scale": (_laplace(_mixed(z, likelihood), raw["z_log"]) * hand).sum() / count,
        "visibility": (bce(raw["visibility"], sample["visible"], reduction="none") * sample["known"]).sum() / count,
        "presence": bce(raw["presence"], sample["presence"]),
        "right": (bce(raw["right"], sample["right"], reduction="none") * hand[:, 0]).mean(),
    }
    return sum(POSE_WEIGHTS[name] * part for name, part in parts.items()), parts


def detector_loss(raw: torch.Tensor, sample: dict, likelihood: float = 0.0) -> tuple[torch.Tensor, dict]:
    """Loss of ``DetectorLight.raw`` against a batch of ``detector_samples``; (scalar, parts).

    Penalty-reduced focal loss (Zhou et al., Objects as Points, 2019, eq. 1) and L1 on log distances and direction.
    """
    target, p = sample["heat"], torch.sigmoid(raw[:, 0])
    log_p, log_not = F.logsigmoid(raw[:, 0]), F.logsigmoid(-raw[:, 0])
    negative = (target < 0.999).float() * (1 - target)**4
    focal = sample["positive"] * (1 - p)**2 * log_p + negative * p**2 * log_not
    hands = sample["middle"].sum().clamp(min=1.0)
    weight = sample["weight"]
    total = weight.sum().clamp(min=1.0)
    up = F.normalize(raw[:, 6:8], dim=1, eps=1e-3)
    side = F.binary_cross_entropy_with_logits(raw[:, 5], sample["side"], reduction="none")
    parts = {
        "heat": -(focal * sample["care"]).sum() / hands,
        "box": ((raw[:, 1:5] - sample["box"]).abs().sum(1) * weight).sum() / total,
        "side": (side * weight).sum() / total,
        "up": ((up - sample["up"]).abs().sum(1) * weight).sum() / total,
    }
    return sum(DETECTOR_WEIGHTS[name] * part for name, part in parts.items()), parts


LOSSES = {"pose": pose_loss, "detector": detector_loss}


def _mixed(error: torch.Tensor, likelihood: float) -> torch.Tensor:
    """``error`` whose gradient reaches the position with weight ``likelihood``."""
    return likelihood * error + (1.0 - likelihood) * error.detach()


def _laplace(error: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood of a Laplace distribution, without its constant."""
    return error * torch.exp(-log_scale) + log_scale


def _bone_error(xyz: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(N, 1) sum over bones of the errors of bone vectors (Sun et al., compositional pose regression, ICCV 2017)."""
    parents, children = _bones(xyz.device)
    error = (xyz - truth)[:, children] - (xyz - truth)[:, parents]
    return error.abs().sum((1, 2))[:, None]


@functools.lru_cache(maxsize=None)
def _bones(device: torch.device) -> torch.Tensor:
    """(2, 20) parents and children, there once: lists as indices go up anew with every step, and stop the GPU."""
    return torch.tensor(BONES, device=device).T


def _heat_divergence(heat: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """(N, 21) cross entropy of the heatmap with a Gaussian round the truth, less that Gaussian's entropy (Nibali et
    al., numerical coordinate regression, 2018, section 3.3 with Kullback-Leibler in place of Jensen-Shannon)."""
    n, k, h, w = heat.shape
    u = (torch.arange(w, device=heat.device) + 0.5) * (2.0 / w) - 1.0
    v = (torch.arange(h, device=heat.device) + 0.5) * (2.0 / h) - 1.0
    log_u = -0.5 * ((u - uv[..., :1]) / HEAT_SIGMA)**2                                   # (N, 21, w)
    log_v = -0.5 * ((v - uv[..., 1:]) / HEAT_SIGMA)**2
    target = (F.softmax(log_v, -1)[..., :, None] * F.softmax(log_u, -1)[..., None, :]).flatten(2)
    log_p = F.log_softmax(heat.flatten(2).float(), dim=-1)
    return (target * (torch.log(target.clamp(min=1e-12)) - log_p)).sum(-1)
