"""The optimizers of a training, against what their papers say of a step."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.training import optimizers

RATE = 0.01


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3)
        self.wide = nn.Conv2d(64, 48, 3)
        self.depthwise = nn.Conv2d(48, 48, 7, groups=48)
        self.flat = nn.Linear(48, 96)
        self.out = nn.Linear(96, 2)


@pytest.fixture
def network():
    torch.manual_seed(0)
    net = Net().to(memory_format=torch.channels_last)
    for p in net.parameters():
        size = torch.logspace(-2, 0, len(p)).reshape(-1, *[1] * (p.ndim - 1))
        p.grad = torch.empty_like(p).copy_(torch.randn(p.shape).sign() * size)      # in memory as p, as torch's are
    return net


def steps(network, optimizer):
    """By how much one step changes each parameter."""
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    optimizer.step()
    return {n: p.detach() - before[n] for n, p in network.named_parameters()}


@pytest.mark.parametrize("name", ["wide.weight", "flat.weight"])
def test_muon_goes_as_far_along_every_direction_of_a_matrix(network, name):
    change = steps(network, optimizers.build(network, "muon", RATE, 0.0))[name]
    gradient = dict(network.named_parameters())[name].grad
    change, gradient = change.permute(0, 2, 3, 1).flatten(1) if change.ndim == 4 else change, \
        gradient.permute(0, 2, 3, 1).flatten(1) if gradient.ndim == 4 else gradient
    most = 0.2 * RATE * max(change.shape) ** 0.5                    # arXiv 2502.16982, equation 4
    spread = torch.linalg.svdvals(gradient)
    along = torch.linalg.svdvals(change) / most
    assert spread[0] / spread[-1] > 6                               # as AdamW would not change
    assert 0.3 < along[-1] and along[0] < 1.3                       # what five Newton-Schulz iterations leave
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    cosine = -(change * (u @ v)).sum() / change.norm() / (u @ v).norm()
    assert cosine > 0.97


def test_muon_steps_are_as_large_as_those_of_adamw(network):
    by_muon = steps(network, optimizers.build(network, "muon", RATE, 0.0))["flat.weight"]
    assert 0.1 < by_muon.square().mean().sqrt() / RATE < 0.3        # AdamW: 0.2 to 0.4 (same paper, section 2.2)


@pytest.mark.parametrize("name", ["stem.weight", "depthwise.weight", "out.weight", "flat.bias", "wide.bias"])
def test_what_is_no_inner_matrix_takes_adamw_s_steps(network, name):
    change = steps(network, optimizers.build(network, "muon", RATE, 0.0))[name]
    gradient = dict(network.named_parameters())[name].grad
    assert torch.allclose(change, -RATE * gradient.sign(), atol=1e-5)            # the first step of Adam, |m| / sqrt(v)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_weight_decay_shrinks_kernels_and_no_biases(network, name):
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    optimizers.build(network, name, RATE, 0.5).step()
    for n, p in network.named_parameters():
        assert torch.allclose(p, before[n] * (1.0 if n.endswith("bias") else 1.0 - RATE * 0.5), atol=1e-7), n


def test_gradients_are_taken_back_and_frozen_parameters_left_alone(network):
    network.wide.weight.requires_grad_(False)
    optimizer = optimizers.build(network, "muon", RATE, 0.1)
    assert not steps(network, optimizer)["wide.weight"].any()
    optimizer.zero_grad()
    assert all(p.grad is None for p in network.parameters() if p.requires_grad)
    assert not any(change.any() for change in steps(network, optimizer).values())


def test_states_of_other_optimizers_are_refused(network):
    state = optimizers.build(network, "adamw", RATE, 0.1).state_dict()
    with pytest.raises(ValueError, match="1 optimizers, not 2"):
        optimizers.build(network, "muon", RATE, 0.1).load_state_dict(state)


def test_an_old_torch_without_muon_is_named(network, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError, match="muon needs torch 2.9 or later"):
        optimizers.build(network, "muon", RATE, 0.1)
    optimizers.build(network, "adamw", RATE, 0.1)
