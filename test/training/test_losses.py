"""Losses: least at the truth, and scales learn the error they should stand for."""
import numpy as np
import pytest
import torch

from hand_pose_ros.training import losses


def sample(count=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    xyz = 0.3 * torch.randn(count, 21, 3, generator=g)
    return {"uv": 1.4 * torch.rand(count, 21, 2, generator=g) - 0.7, "xyz": xyz - xyz[:, :1],
            "visible": torch.ones(count, 21), "known": torch.ones(count, 21), "presence": torch.ones(count),
            "right": torch.ones(count), "labelled": torch.ones(count)}


def perfect(truth):
    """Raw outputs of a network that is right about everything."""
    count = len(truth["uv"])
    axis = (torch.arange(16) + 0.5) / 8 - 1
    distance = (axis[None, None, None] - truth["uv"][..., :1, None])**2 + \
        (axis[None, None, :, None] - truth["uv"][..., 1:, None])**2
    sure = torch.full((count,), 12.0)
    return {"heat": -0.5 * distance / losses.HEAT_SIGMA**2, "uv0": truth["uv"], "uv": truth["uv"], "xyz": truth["xyz"],
            "uv_log": torch.zeros(count, 21), "z_log": torch.zeros(count, 21), 
            "visibility": sure[:, None].expand(-1, 21),
            "presence": sure, "right": sure}


def test_truth_has_no_loss():
    truth = sample()
    _, parts = losses.pose_loss(perfect(truth), truth, 0.0)
    assert all(abs(float(part)) < 1e-3 for part in parts.values())


@pytest.mark.parametrize("name", ["uv", "uv0", "xyz", "heat", "visibility", "presence", "right"])
def test_any_mistake_costs(name):
    truth = sample()
    raw = perfect(truth)
    raw[name] = -raw[name] if raw[name].ndim < 3 else raw[name].roll(1, 1)
    total, parts = losses.pose_loss(raw, truth, 0.0)
    assert float(parts[name]) > 0.05 and float(total) > float(losses.pose_loss(perfect(truth), truth, 0.0)[0])


def test_a_crop_without_a_hand_teaches_presence_only():
    truth = {**sample(), "labelled": torch.zeros(3), "known": torch.zeros(3, 21), "presence": torch.zeros(3)}
    raw = {k: v.clone().requires_grad_() for k, v in perfect(sample(seed=1)).items()}
    losses.pose_loss(raw, truth, 1.0)[0].backward()
    assert float(raw["presence"].grad.abs().sum()) > 0
    assert all(raw[k].grad is None or not raw[k].grad.any() for k in raw if k != "presence")


@pytest.mark.parametrize("likelihood", [0.0, 1.0])
def test_the_best_scale_is_the_mean_error(likelihood):
    """Outside truth: the maximum-likelihood scale of a Laplace distribution is the mean absolute error."""
    truth = sample(40)
    raw = perfect(truth)
    noise = torch.distributions.Laplace(0.0, 0.2).sample(truth["uv"].shape)
    raw["uv"] = truth["uv"] + noise
    log = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([log], 0.05)
    for _ in range(150):
        raw["uv_log"] = log.expand(40, 21)
        optimizer.zero_grad()
        losses.pose_loss(raw, truth, likelihood)[1]["uv_scale"].backward()
        optimizer.step()
    assert float(log.detach().exp()) == pytest.approx(float(noise.abs().mean()), rel=0.02)


def test_scales_steer_positions_only_when_asked():
    truth = sample()
    for likelihood in (0.0, 1.0):
        raw = perfect(truth)
        raw["uv"] = (truth["uv"] + 0.1).requires_grad_()
        part = losses.pose_loss(raw, truth, likelihood)[1]["uv_scale"]
        steered = part.requires_grad and bool(torch.autograd.grad(part, raw["uv"])[0].any())
        assert steered == (likelihood > 0)


def test_detector_loss_is_least_at_the_truth_and_blind_where_it_does_not_care():
    from hand_pose_ros.training.detector_samples import labels, rectangle
    joints = torch.rand(21, 2, generator=torch.Generator().manual_seed(0)).numpy() * 50 + 20
    window = rectangle((-0.5, -0.5), (95.5, 95.5))
    truth = {k: torch.from_numpy(v)[None] for k, v in labels([(joints, True, window)], (96, 96)).items()}
    raw = torch.zeros(1, 8, 12, 12)
    raw[:, 0] = torch.logit(truth["heat"].clamp(1e-4, 1 - 1e-4))
    raw[:, 1:5], raw[:, 5], raw[:, 6:8] = truth["box"], 12.0, truth["up"]
    best, parts = losses.detector_loss(raw, truth)
    assert float(parts["box"]) < 1e-5 and float(parts["side"]) < 1e-3 and float(parts["up"]) < 1e-3
    for change in (slice(0, 1), slice(1, 5), slice(5, 6), slice(6, 8)):
        worse = raw.clone()
        worse[:, change] = -worse[:, change] - 0.5
        assert float(losses.detector_loss(worse, truth)[0]) > float(best) + 0.05
    false = raw.clone()
    false[0, 0, 0, 0] = 8.0
    assert float(losses.detector_loss(false, truth)[0]) > float(best) + 0.1
    truth["care"][0, 0, 0] = 0
    assert float(losses.detector_loss(false, truth)[0]) == pytest.approx(float(best), abs=1e-4)


def test_the_detectors_focal_loss_by_hand():
    """Zhou et al. 2019, eq. 1, alpha 2 and beta 4, of two cells: a middle at p = 0.5, beside it 0.8 is asked for."""
    raw = torch.zeros(1, 8, 1, 2)
    one = torch.zeros(1, 1, 2)
    sample = {"heat": torch.tensor([[[1.0, 0.8]]]), "positive": torch.tensor([[[1.0, 0.0]]]), "care": one + 1,
              "middle": torch.tensor([[[1.0, 0.0]]]), "weight": one, "box": torch.zeros(1, 4, 1, 2), "side": one,
              "up": torch.zeros(1, 2, 1, 2)}
    _, parts = losses.detector_loss(raw, sample)
    expected = -(0.5**2 * np.log(0.5) + 0.2**4 * 0.5**2 * np.log(0.5))
    assert parts["heat"].item() == pytest.approx(expected, rel=1e-5)
