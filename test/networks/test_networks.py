"""Every entry of the table keeps the interface that the runtimes, the pipeline and the messages rely on."""
import numpy as np
import pytest
import torch

from hand_pose_ros import networks
from hand_pose_ros.errors import ModelError

SMALL = {
    "pose_light": [{"width": 0.4, "neck": 16}, {"stages": "inverted", "width": 0.5, "neck": 16}],
    "pose_resnet": [{"depth": 18, "deconv": 16}],
    "pose_hrnet": [{"width": 8, "modules": (1, 1, 1), "blocks": 1}],
    "detector_light": [{"width": 0.5, "neck": 16}],
}
CASES = [(name, options) for name, several in SMALL.items() for options in several]
POSE = [case for case in CASES if networks.kind(case[0]) == "pose"]


def make(name, options):
    torch.manual_seed(0)
    network = networks.build({"architecture": name, "options": options})
    for buffer in network.buffers():                            # batch statistics as after some training
        if buffer.dtype.is_floating_point:
            buffer.add_(0.1 * torch.rand_like(buffer))
    return network


def pictures(count, height, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8))


def test_every_network_of_the_table_is_tested():
    assert set(SMALL) == set(networks.NETWORKS)


@pytest.mark.parametrize("name, options", POSE)
@torch.no_grad()
def test_pose_networks_keep_the_interface(name, options):
    network = make(name, options)
    for count, size in ((1, 96), (3, 128)):
        uv, xyz, uv_sigma, xyz_sigma, visibility, presence, right = network(pictures(count, size, size))
        assert uv.shape == (count, 21, 2) and xyz.shape == (count, 21, 3)
        assert uv_sigma.shape == xyz_sigma.shape == visibility.shape == (count, 21)
        assert presence.shape == right.shape == (count,)
        assert torch.equal(xyz[:, 0], torch.zeros(count, 3))
        assert (uv_sigma > 0).all() and (xyz_sigma > 0).all()
        for probability in (visibility, presence, right):
            assert ((probability >= 0) & (probability <= 1)).all()
        assert all(torch.isfinite(o).all() and o.dtype == torch.float32 for o in (uv, xyz, uv_sigma, xyz_sigma))


@torch.no_grad()
def test_detector_keeps_the_interface():
    network = make("detector_light", SMALL["detector_light"][0])
    for height, width in ((96, 128), (160, 96)):
        dense = network(pictures(2, height, width))
        assert dense.shape == (2, len(networks.DETECTOR_CHANNELS), height // 8, width // 8)
        assert ((dense[:, [0, 5]] >= 0) & (dense[:, [0, 5]] <= 1)).all() and (dense[:, 1:5] > 0).all()


@pytest.mark.parametrize("name, options", CASES)
@torch.no_grad()
def test_one_picture_does_not_depend_on_the_others_of_its_batch(name, options):
    network = make(name, options)
    batch = pictures(3, 96, 96)
    together, alone = network(batch), network(batch[1:2])
    together, alone = ((x,) if torch.is_tensor(x) else x for x in (together, alone))
    for a, b in zip(together, alone):
        assert torch.allclose(a[1:2], b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name, options", CASES)
@torch.no_grad()
def test_exported_program_answers_like_the_module_at_any_batch_size(name, options):
    network = make(name, options)
    shape = (96, 96) if networks.kind(name) == "pose" else (96, 128)
    count = torch.export.Dim("count", min=1, max=8)
    program = torch.export.export(network, (pictures(2, *shape),), dynamic_shapes=({0: count},)).module()
    for n in (1, 3):
        batch = pictures(n, *shape, seed=n)
        expected, answered = network(batch), program(batch)
        expected, answered = ((x,) if torch.is_tensor(x) else x for x in (expected, answered))
        for a, b in zip(expected, answered):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_heatmap_places_a_joint_where_its_peak_is():
    """The outside truth of the pixel convention: a peak in the cell of pixels 40..47 x 16..23 reads (43.5, 19.5)."""
    network = make("pose_light", SMALL["pose_light"][0])
    head = network.head
    fine = torch.zeros(1, head.heat.in_channels, 12, 12)
    fine[0, 0, 2, 5] = 1.0
    head.heat.weight.zero_()
    head.heat.weight[:, 0] = 200.0
    head.joint.weight.zero_()
    head.joint.bias.zero_()
    raw = head(fine, torch.zeros(1, head.whole.in_features, 3, 3))
    uv = (raw["uv"] + 1) * (0.5 * 96) - 0.5
    assert torch.allclose(uv[0], torch.tensor([43.5, 19.5]).expand(21, 2), atol=1e-3)


def test_half_precision_runs_with_the_same_uint8_input():
    """What a GPU runs: the input is cast to the type of the weights."""
    network = make("pose_light", SMALL["pose_light"][0])
    expected = network(pictures(1, 96, 96))[0]
    half = network.to(torch.bfloat16)(pictures(1, 96, 96))[0]
    assert half.dtype == torch.float32 and (half - expected).abs().max() < 3.0


@pytest.mark.parametrize("card, words", [
    ({"architecture": "pose_huge"}, "unknown network 'pose_huge'; choose one of pose_light"),
    ({"architecture": None}, "unknown network None"),
    ({"architecture": ["pose_light"]}, "unknown network .'pose_light'."),
    ({"architecture": "pose_light", "options": {"width": 0}}, "without any channel"),
    ({"architecture": "pose_light", "options": {"width": -1}}, "negative dimension"),
    ({"architecture": "pose_light", "options": {"heads": 3}}, "heads 3: it must .* divides the width, 128"),
    ({"architecture": "pose_light", "options": {"heads": 0}}, "heads 0: "),
    ({"architecture": "pose_light", "options": {"stages": "round"}}, "plain, inverted"),
    ({"architecture": "pose_light", "options": {"colour": 3}}, "colour"),
    ({"architecture": "pose_resnet", "options": {"depth": 19}}, "18, 34, 50"),
])
def test_cards_that_no_network_fits(card, words):
    with pytest.raises(ModelError, match=words):
        networks.build(card)


@pytest.mark.parametrize("name, options", CASES)
def test_everything_that_is_learnt_gets_a_gradient(name, options):
    """Else DistributedDataParallel, of several GPUs, ends at the second step."""
    network = make(name, options).train()
    raw = network.raw(pictures(2, 96, 96) if networks.kind(name) == "pose" else pictures(2, 96, 128))
    sum((value.float().sum() for value in (raw.values() if isinstance(raw, dict) else [raw]))).backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None]


def test_hrnet_takes_weights_of_before_what_learnt_nothing_was_left_out():
    network = make("pose_hrnet", SMALL["pose_hrnet"][0])
    old = network.state_dict()
    old["backbone.stages.2.0.fuse.1.0.0.0.weight"] = torch.zeros(16, 8, 3, 3)
    again = make("pose_hrnet", SMALL["pose_hrnet"][0])
    again.load_state_dict(old)
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values()))
    with pytest.raises(RuntimeError, match="Unexpected"):
        again.load_state_dict({**old, "backbone.stages.2.0.other": torch.zeros(1)})
