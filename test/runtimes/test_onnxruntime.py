"""ONNX Runtime says what eager says, for every batch size, and is refused when it does not."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import standin
import torch

from hand_pose_ros.errors import ModelError
from hand_pose_ros.runtimes import Options, agreement, eager, host, ort
from hand_pose_ros.runtimes.agreement import drawn_hands, refuse_disagreement
from hand_pose_ros.runtimes.cache import EngineCache


@pytest.fixture
def options(tmp_path):
    return Options(cache=EngineCache(tmp_path), threads=1, max_batch=3)


@pytest.mark.parametrize("kind", ["pose", "detector"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_says_what_eager_says(options, kind, count):
    source = standin.source(kind)
    images = drawn_hands(64, 64, 5)[:count]
    outputs, expected = ort.open_cpu(source, options)(images), eager.open_cpu(source, options)(images)
    assert len(outputs) == len(source.outputs)
    for output, reference in zip(outputs, expected):
        assert output.dtype == np.float32 and output.shape == reference.shape and len(output) == count
        np.testing.assert_allclose(output, reference, rtol=1e-4, atol=1e-4)


def test_an_image_gives_the_same_alone_and_among_others(options):
    runtime = ort.open_cpu(standin.source(), options)
    images = drawn_hands(64, 64, 3)
    together = runtime(images)
    for index in range(3):
        for output, alone in zip(together, runtime(images[index:index + 1])):
            np.testing.assert_allclose(output[index], alone[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [np.zeros((1, 64, 64, 3), np.float32), np.zeros((64, 64, 3), np.uint8),
                                   np.zeros((1, 32, 64, 3), np.uint8), np.zeros((1, 3, 64, 64), np.uint8)])
def test_another_shape_or_type_is_refused(options, batch):
    with pytest.raises(ModelError, match=r"takes \(N, 64, 64, 3\) uint8, got"):
        eager.open_cpu(standin.source(), options)(batch)


def test_stores_the_export_and_what_was_measured(options):
    ort.open_cpu(standin.source(), options)
    entry = ort.built(standin.source(), options)
    assert not entry.built_now and 0 <= entry.info["agreement"]["mean_px"] < 0.01


def test_each_ingredient_of_the_network_changes_the_export(options):
    ort.built(standin.source(), options)
    assert ort.built(standin.source(weights="other"), options).built_now
    assert ort.built(standin.source(size=32), options).built_now


class Shifted(standin.StandInPose):
    """A stand-in whose pixels, depths or probabilities are off in the exported network only."""

    def __init__(self, pixels=0.0, lengths=0.0, probability=0.0, bad=False, scale=1.0, sigma=1.0):
        super().__init__(64)
        self.shift = pixels, lengths, probability, bad
        self.scale, self.sigma = scale, sigma

    def forward(self, crops):
        uv, xyz, uv_sigma, xyz_sigma, visibility, presence, right = super().forward(crops)
        pixels, lengths, probability, bad = self.shift
        if torch.onnx.is_in_onnx_export():
            uv = (uv - 31.5) * self.scale + 31.5 + pixels
            xyz_sigma = xyz_sigma * self.sigma
            xyz = xyz + lengths * torch.arange(21).reshape(1, 21, 1)
            visibility = (visibility + probability).clamp(0, 1)
            if bad:
                uv_sigma = uv_sigma / torch.zeros(1)
        return uv, xyz, uv_sigma, xyz_sigma, visibility, presence, right


@pytest.mark.parametrize("fault, said", [
    ({"pixels": 1.0}, "mean_px"), ({"lengths": 0.002}, "mean_mm"), ({"probability": 0.05}, "mean_probability"),
    ({"bad": True}, "not finite"), ({"scale": 1.008}, "mean_camera_mm"), ({"sigma": 1.5}, "mean_log_sigma"),
])
def test_a_network_that_differs_after_lifting_is_refused_and_not_stored(options, fault, said):
    source = standin.NetworkSource("pose", "shifted", (64, 64, 3), lambda: Shifted(**fault), {"weights": "x"})
    with pytest.raises(ModelError, match=said):
        ort.open_cpu(source, options)
    assert options.cache.entries() == []


def test_a_detector_that_turns_hands_round_is_refused(options):
    class UpsideDown(standin.StandInDetector):
        def forward(self, images):
            dense = super().forward(images)
            return torch.cat((dense[:, :6], -dense[:, 6:]), 1) if torch.onnx.is_in_onnx_export() else dense

    source = standin.NetworkSource("detector", "turned", (64, 64, 3), UpsideDown, {"weights": "x"})
    with pytest.raises(ModelError, match="mean_up_deg 180"):
        ort.open_cpu(source, options)


def test_a_small_difference_is_let_through(options):
    source = standin.NetworkSource("pose", "shifted", (64, 64, 3), lambda: Shifted(pixels=0.1), {"weights": "x"})
    difference = ort.built(source, options).info["agreement"]
    assert 0.05 < difference["mean_px"] < 0.5               # 0.1 crop pixels are 0.1 x 554 / focal length of the crop


def test_drawn_hands_are_the_same_everywhere_and_different_from_each_other():
    one, again = drawn_hands(64, 48), drawn_hands(64, 48)
    np.testing.assert_array_equal(one, again)
    assert one.shape == (agreement.CROPS, 64, 48, 3)
    assert all(np.abs(one[0].astype(int) - other).mean() > 5 for other in one[1:])


def test_outputs_of_another_number_or_shape_are_refused(options):
    class Fewer(eager.Eager):
        def run(self, batch):
            return super().run(batch)[:-1]

    source = standin.source()
    with pytest.raises(ModelError, match="gives outputs"):
        refuse_disagreement(Fewer(source, options), eager.open_cpu(source, options))


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_a_runtime_that_is_wrong_in_one_batch_size_is_refused(options, wrong):
    class Wrong(eager.Eager):
        def run(self, batch):
            uv, *rest = super().run(batch)
            return (uv + (len(batch) == wrong), *rest)

    source = standin.source()
    with pytest.raises(ModelError, match="mean_px"):
        refuse_disagreement(Wrong(source, options), eager.open_cpu(source, options))


@pytest.mark.parametrize("scale, unfit, refused", [
    (1.0, "both", None), (1.02, "both", r"mean_camera_mm \d"), (1.0, "candidate", "mean_camera_mm inf")])
def test_a_picture_without_a_fit_hides_no_wrong_distance(options, monkeypatch, scale, unfit, refused):
    class Scaled(eager.Eager):
        def run(self, batch):
            uv, xyz, *rest = super().run(batch)
            return (uv, xyz * scale, *rest)

    lifted, calls = agreement._lifted, []

    def without_one(outputs, input_shape):                  # each call for the candidate is followed by the reference's
        first, *rest = lifted(outputs, input_shape)
        calls.append(outputs)
        if unfit == "both" or len(calls) % 2:
            first = replace(first, joints_m=np.full((21, 3), np.nan))
        return [first, *rest]

    monkeypatch.setattr(agreement, "_lifted", without_one)
    source = standin.source()
    runtimes = Scaled(source, options), eager.open_cpu(source, options)
    if refused is None:
        assert refuse_disagreement(*runtimes)["mean_camera_mm"] < 1e-3
        return
    with pytest.raises(ModelError, match=refused):
        refuse_disagreement(*runtimes)


def test_a_runtime_for_no_hands_is_not_taken_for_one_that_agrees(options):
    with pytest.raises(ModelError, match="max_batch 0: it must be 1 or more"):
        ort.open_cpu(standin.source("pose"), replace(options, max_batch=0))


@pytest.mark.parametrize("shared, threads", [("1", 1), ("2", 2), ("64", 3), ("", 3), ("0", 3), ("2,1", 3)])
def test_processes_that_share_the_cores_do_not_fight_for_them(monkeypatch, shared, threads):
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setenv("OMP_NUM_THREADS", shared)
    assert host.default_threads() == threads


@pytest.mark.parametrize("asked, taken", [(0, 2), (3, 3)])
def test_torch_on_the_cpu_leaves_the_other_cores_to_the_robot_as_onnx_runtime_does(monkeypatch, options, asked, taken):
    set_to = []
    monkeypatch.setattr(host, "default_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    eager.open_cpu(standin.source("pose"), replace(options, threads=asked))
    assert set_to == [taken]
