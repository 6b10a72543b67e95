"""TensorRT engines through the cache: what is refused, what is built again and what is kept.

TensorRT itself is stood in for: its compiler writes the precision, its engine answers as torch eager does, or wrongly
where a test says so.
"""
from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import standin

from hand_pose_ros.errors import ModelError
from hand_pose_ros.runtimes import Options, host, ladder, tensorrt
from hand_pose_ros.runtimes.base import Disagreement, NotBuilt
from hand_pose_ros.runtimes.cache import EngineCache
from hand_pose_ros.runtimes.eager import Eager


class Workshop:
    """What stands for Torch-TensorRT and the GPU."""

    def __init__(self, monkeypatch):
        self.compiled, self.wrong, self.fails_to_run, self.refuses = [], set(), None, False
        monkeypatch.setattr(tensorrt, "engine_problem", lambda: "")
        monkeypatch.setattr(tensorrt, "import_tensorrt", lambda: None)
        monkeypatch.setattr(host, "gpu_ingredients", lambda: {"gpu": "stand-in"})
        monkeypatch.setattr(tensorrt, "compile_engine", self.compile)
        monkeypatch.setattr(tensorrt, "opened", self.open)

    def compile(self, source, options, device="cuda"):
        self.compiled.append(options.precision)
        return options.precision.encode()

    def open(self, source, options, payload):
        if self.refuses:
            raise ModelError("TensorRT refuses the engine: it was built for another GPU or version")
        engine = Eager(source, options)
        engine.name, engine.info, plain, workshop = "tensorrt", {"cuda_graphs": True}, engine.run, self

        def run(batch):
            outputs = plain(batch)
            return (outputs[0] + 3.0, *outputs[1:]) if payload.decode() in workshop.wrong else outputs

        def warm_up():
            if workshop.fails_to_run:
                raise workshop.fails_to_run
        engine.run, engine.warm_up = run, warm_up
        return engine


@pytest.fixture
def workshop(monkeypatch):
    return Workshop(monkeypatch)


@pytest.fixture
def options(tmp_path):
    return Options(cache=EngineCache(tmp_path / "engines"), threads=1)


def live(options):
    return Options(cache=options.cache, threads=1, live=True)


def test_an_engine_is_built_once_and_then_served(workshop, options):
    with pytest.raises(NotBuilt):
        tensorrt.open_tensorrt(standin.source(), live(options))
    for _ in range(2):
        assert tensorrt.open_tensorrt(standin.source(), options).info["precision"] == "fp16"
    assert tensorrt.open_tensorrt(standin.source(), live(options)).name == "tensorrt"
    assert workshop.compiled == ["fp16"]


def test_where_half_precision_disagrees_single_precision_serves(workshop, options):
    workshop.wrong = {"fp16"}
    runtime = tensorrt.open_tensorrt(standin.source(), options)
    assert runtime.info["precision"] == "fp32" and workshop.compiled == ["fp16", "fp32"]
    assert tensorrt.open_tensorrt(standin.source(), live(options)).info["precision"] == "fp32"
    assert workshop.compiled == ["fp16", "fp32"]
    with pytest.raises(Disagreement):
        tensorrt.open_tensorrt(standin.source(), Options(precision="fp16", cache=options.cache, threads=1))


def test_an_engine_that_is_refused_is_not_built_at_every_start(workshop, options):
    workshop.wrong = {"fp16", "fp32"}
    for choice in (options, options, live(options)):
        with pytest.raises(ModelError, match="does not agree with eager.*build-engine builds it again"):
            tensorrt.open_tensorrt(standin.source(), choice)
    assert workshop.compiled == ["fp16", "fp32"]
    workshop.wrong = set()
    tensorrt.forget_refusal(standin.source(), options)
    assert tensorrt.open_tensorrt(standin.source(), options).info["precision"] == "fp16"
    tensorrt.forget_refusal(standin.source(), options)
    assert tensorrt.open_tensorrt(standin.source(), live(options)).name == "tensorrt", "a good one stays"


def test_an_engine_that_tensorrt_does_not_load_is_removed_and_built_again(workshop, options):
    tensorrt.open_tensorrt(standin.source(), options)
    workshop.refuses = True
    with pytest.raises(NotBuilt, match="does not load.*its file is removed"):
        tensorrt.open_tensorrt(standin.source(), live(options))
    workshop.refuses = False
    with pytest.raises(NotBuilt):
        tensorrt.open_tensorrt(standin.source(), live(options))
    assert tensorrt.open_tensorrt(standin.source(), options).name == "tensorrt" and len(workshop.compiled) == 2


def test_want_of_memory_does_not_cost_the_engine(workshop, options):
    tensorrt.open_tensorrt(standin.source(), options)
    workshop.fails_to_run = RuntimeError("CUDA out of memory")
    with pytest.raises(ModelError, match="does not run .CUDA out of memory.; free memory") as caught:
        tensorrt.open_tensorrt(standin.source(), options)
    assert not isinstance(caught.value, NotBuilt)
    workshop.fails_to_run = None
    assert tensorrt.open_tensorrt(standin.source(), live(options)).name == "tensorrt" and len(workshop.compiled) == 1


@pytest.fixture
def compiler(monkeypatch):
    """Torch-TensorRT's function, whose behaviour a test sets."""
    given = SimpleNamespace(timings=None, act=lambda: None)

    def convert(program, arg_inputs, timing_cache_path=""):
        given.timings = timing_cache_path
        with open(timing_cache_path, "ab") as file:
            file.write(b"timing ")
        given.act()
        return b"engine"

    module = SimpleNamespace(dynamo=SimpleNamespace(convert_exported_program_to_serialized_trt_engine=convert))
    monkeypatch.setattr(tensorrt, "import_torch_tensorrt", lambda: module)
    monkeypatch.setattr(tensorrt, "exported_program", lambda *args: None)
    monkeypatch.setattr(tensorrt, "described_input", lambda *args: None)
    return given


def test_timings_of_kernels_are_kept_whole_or_not_at_all(compiler, options):
    options.cache.folder.mkdir()
    kept = options.cache.folder / "timing_cache.bin"
    for times in (1, 2):
        assert tensorrt.compile_engine(standin.source(), options) == b"engine"
        assert kept.read_bytes() == b"timing " * times

    def cut():
        raise KeyboardInterrupt

    compiler.act = cut
    with pytest.raises(KeyboardInterrupt):
        tensorrt.compile_engine(standin.source(), options)
    assert kept.read_bytes() == b"timing timing " and list(options.cache.folder.iterdir()) == [kept]


def test_a_folder_that_cannot_be_written_does_not_fail_the_build(compiler, tmp_path):
    (tmp_path / "engines").write_text("a file where the folder should be")
    options = Options(cache=EngineCache(tmp_path / "engines"), threads=1)
    assert tensorrt.compile_engine(standin.source(), options) == b"engine"


def test_the_cause_that_torch_tensorrt_only_logs_is_named(compiler, options):
    def fail():
        logging.getLogger("torch_tensorrt.dynamo._compiler").error("no converter for aten.foo")
        raise UnboundLocalError("interpreter_result")

    compiler.act = fail
    with pytest.raises(ModelError, match="UnboundLocalError.*no converter for aten.foo.*use runtime cuda"):
        tensorrt.compile_engine(standin.source(), options)


def test_what_passed_over_rungs_said_is_kept_while_an_engine_is_built_and_after(options, monkeypatch):
    monkeypatch.setattr(host, "cuda_problem", lambda: "no NVIDIA driver")
    monkeypatch.setattr(host, "processor_flags", lambda: frozenset({"avx_vnni"}))
    done = []

    def build(kind, model, runtime, options):
        done.append(ladder.climb(standin.source(), runtime, Options(cache=options.cache, threads=1)))

    monkeypatch.setattr(ladder, "build_in_another_process", build)
    runtime = ladder.climb(standin.source(), "auto", live(options))
    assert "onnxruntime-int8: engine is being built" in runtime.reason or not runtime.building
    assert "tensorrt: torch_tensorrt is not installed" in runtime.reason and "cuda: no NVIDIA driver" in runtime.reason
    runtime.wait(60)
    assert runtime.name == "onnxruntime-int8" and "cuda: no NVIDIA driver" in runtime.reason


def test_what_was_built_and_not_stored_is_said_with_the_folder(options, monkeypatch):
    monkeypatch.setattr(host, "processor_flags", lambda: frozenset({"avx_vnni"}))
    monkeypatch.setattr(ladder, "build_in_another_process", lambda *args: None)
    runtime = ladder.climb(standin.source(), "auto", live(options))
    runtime.wait(60)
    assert runtime.name == "onnxruntime" and "is not in" in runtime.reason and "ROS_HOME" in runtime.reason


def test_a_cache_that_cannot_be_written_stands_in_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "processor_flags", frozenset)
    (tmp_path / "engines").write_text("a file where the folder should be")
    runtime = ladder.climb(standin.source(), "auto", Options(cache=EngineCache(tmp_path / "engines"), threads=1))
    assert runtime.name == "onnxruntime" and "made anew at every start" in runtime.reason
    assert runtime(np.zeros((1, 64, 64, 3), np.uint8))[0].shape == (1, 21, 2)
