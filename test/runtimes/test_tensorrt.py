"""TensorRT engines through the cache: what is refused, what is built again and what is kept.

TensorRT itself is stood in for: its compiler writes the precision, its engine answers as torch eager does, or wrongly
where a test says so.
"""
from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import standin

from hand_pose_ros.errors import ModelError
from hand_pose_ros.runtimes import Options, host, ladder, tensorrt
from hand_pose_ros.runtimes.base import HALF_REFUSED, NotBuilt, Refused
from hand_pose_ros.runtimes.cache import EngineCache
from hand_pose_ros.runtimes.eager import Eager


class Workshop:
    """What stands for Torch-TensorRT and the GPU."""

    def __init__(self, monkeypatch):
        self.compiled, self.wrong, self.fails_to_run, self.kept = [], set(), None, []
        self.load_error = self.compile_error = None
        self.real = tensorrt.EngineRuntime
        monkeypatch.setattr(tensorrt, "engine_problem", lambda: "")
        monkeypatch.setattr(tensorrt, "import_tensorrt", lambda: None)
        monkeypatch.setattr(host, "gpu_ingredients", lambda: {"gpu": "stand-in"})
        monkeypatch.setattr(tensorrt, "compile_engine", self.compile)
        monkeypatch.setattr(tensorrt, "EngineRuntime", self.open)

    def compile(self, source, options, device="cuda"):
        self.compiled.append(options.precision)
        if self.compile_error:
            raise self.compile_error
        return options.precision.encode()

    def open(self, source, options, payload):
        if self.load_error:
            raise self.load_error
        engine = Eager(source, options)
        engine.name, engine.info, plain, workshop = "tensorrt", {"cuda_graphs": True}, engine.run, self

        def run(batch):
            outputs = plain(batch)
            return (outputs[0] + 3.0, *outputs[1:]) if payload.decode() in workshop.wrong else outputs

        def warm_up():
            if workshop.fails_to_run:
                raise workshop.fails_to_run
        engine.run, engine.warm_up = run, warm_up
        engine.keep_kernels = lambda: workshop.kept.append(len(workshop.compiled))
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
    assert tensorrt.open_tensorrt(standin.source(), options).info["precision"] == "fp16"
    assert workshop.kept == [1, 1], "the kernels of the candidate are there for the runtime that is opened then"
    assert tensorrt.open_tensorrt(standin.source(), options).info["precision"] == "fp16"
    assert tensorrt.open_tensorrt(standin.source(), live(options)).name == "tensorrt"
    assert workshop.compiled == ["fp16"]


def test_where_half_precision_disagrees_single_precision_serves(workshop, options):
    workshop.wrong = {"fp16"}
    runtime = tensorrt.open_tensorrt(standin.source(), options)
    assert runtime.info["precision"] == "fp32" and workshop.compiled == ["fp16", "fp32"]
    assert "does not agree" in runtime.info[HALF_REFUSED]
    assert tensorrt.open_tensorrt(standin.source(), live(options)).info["precision"] == "fp32"
    assert workshop.compiled == ["fp16", "fp32"]
    with pytest.raises(Refused):
        tensorrt.open_tensorrt(standin.source(), Options(precision="fp16", cache=options.cache, threads=1))


def test_an_engine_that_is_refused_is_not_built_at_every_start(workshop, options):
    workshop.wrong = {"fp16", "fp32"}
    for choice in (options, options, live(options)):
        with pytest.raises(ModelError, match="does not agree.*--kind pose --model standin_pose builds it again"):
            tensorrt.open_tensorrt(standin.source(), choice)
    assert workshop.compiled == ["fp16", "fp32"]
    workshop.wrong = set()
    tensorrt.forget_refusal(standin.source(), options)
    assert tensorrt.open_tensorrt(standin.source(), options).info["precision"] == "fp16"
    tensorrt.forget_refusal(standin.source(), options)
    assert tensorrt.open_tensorrt(standin.source(), live(options)).name == "tensorrt", "a good one stays"


def test_an_engine_that_tensorrt_does_not_load_is_removed_and_built_again(workshop, options):
    tensorrt.open_tensorrt(standin.source(), options)
    workshop.load_error = Refused("TensorRT refuses the engine: it was built for another GPU or version")
    with pytest.raises(NotBuilt, match="does not load.*its file is removed"):
        tensorrt.open_tensorrt(standin.source(), live(options))
    workshop.load_error = None
    with pytest.raises(NotBuilt):
        tensorrt.open_tensorrt(standin.source(), live(options))
    assert tensorrt.open_tensorrt(standin.source(), options).name == "tensorrt" and len(workshop.compiled) == 2


@pytest.mark.parametrize("where", ["compile_error", "load_error"])
def test_what_tensorrt_refuses_here_is_not_built_at_every_start(workshop, options, where):
    setattr(workshop, where, Refused("no kernel image for sm_90"))
    for choice in (options, options, live(options)):
        with pytest.raises(Refused, match="for sm_90 .*--kind pose --model standin_pose builds it again"):
            tensorrt.open_tensorrt(standin.source(), choice)
    assert workshop.compiled == ["fp16"]
    setattr(workshop, where, None)
    tensorrt.forget_refusal(standin.source(), options)
    assert tensorrt.open_tensorrt(standin.source(), options).name == "tensorrt"


@pytest.mark.parametrize("where", ["compile_error", "load_error"])
def test_what_may_go_well_another_time_is_built_again(workshop, options, where):
    setattr(workshop, where, ModelError("out of memory"))
    with pytest.raises(ModelError, match="out of memory"):
        tensorrt.open_tensorrt(standin.source(), options)
    setattr(workshop, where, None)
    assert tensorrt.open_tensorrt(standin.source(), options).name == "tensorrt" and len(workshop.compiled) == 2


def test_kernels_that_were_compiled_at_run_time_serve_the_next_start(workshop, options, monkeypatch):
    given = []

    class Engine:
        """Compiles at its first run what it was not given."""

        def __init__(self, payload, trt, kernels=b""):
            given.append((payload, kernels))
            self.made = b"" if kernels else b"kernels of " + payload

        def kernels(self):
            return self.made

    monkeypatch.setattr(tensorrt, "Engine", Engine)
    monkeypatch.setattr(tensorrt.GraphedCuda, "__init__", lambda self, *args: None)
    for payload in (b"one", b"one", b"another"):
        workshop.real(standin.source(), options, payload).keep_kernels()
    assert given == [(b"one", b""), (b"one", b"kernels of one"), (b"another", b"")]
    for path, _, _ in options.cache.entries():
        path.write_bytes(path.read_bytes()[:-1])
    workshop.real(standin.source(), options, b"one")
    assert given[-1] == (b"one", b""), "a damaged file is not handed on"


@pytest.mark.parametrize("fails", ["fails_to_run", "load_error"])
def test_want_of_memory_does_not_cost_the_engine(workshop, options, fails):
    tensorrt.open_tensorrt(standin.source(), options)
    setattr(workshop, fails, ModelError("CUDA out of memory"))
    with pytest.raises(ModelError, match="does not run .CUDA out of memory.; free memory") as caught:
        tensorrt.open_tensorrt(standin.source(), options)
    assert not isinstance(caught.value, NotBuilt)
    setattr(workshop, fails, None)
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


def test_single_precision_is_not_tf32(compiler, options, monkeypatch):
    """That has FP16's mantissa, so what FP16 makes disagree would disagree again."""
    asked: dict = {}
    monkeypatch.setattr(tensorrt, "supported_arguments", lambda function, given: asked.update(given) or {
        "timing_cache_path": given["timing_cache_path"]})
    tensorrt.compile_engine(standin.source(), options)
    assert asked["disable_tf32"] is True


def test_timings_of_kernels_are_kept_whole_or_not_at_all(compiler, options):
    options.cache.folder.mkdir()
    kept = tensorrt._timings_file(options.cache.folder)
    for times in (1, 2):
        assert tensorrt.compile_engine(standin.source(), options) == b"engine"
        assert kept.read_bytes() == b"timing " * times

    def cut():
        raise KeyboardInterrupt

    compiler.act = cut
    with pytest.raises(KeyboardInterrupt):
        tensorrt.compile_engine(standin.source(), options)
    assert kept.read_bytes() == b"timing timing " and list(options.cache.folder.iterdir()) == [kept]


def test_timings_that_tensorrt_does_not_take_cost_a_second_build_and_no_refusal(compiler, options):
    """Torch-TensorRT then fails with what reads like a fault of the network: None has no attribute serialize."""
    options.cache.folder.mkdir()
    kept = tensorrt._timings_file(options.cache.folder)
    kept.write_bytes(b"of another driver")

    builds = []

    def trip():
        builds.append(compiler.timings)
        if Path(compiler.timings).read_bytes().startswith(b"of another"):
            raise AttributeError("'NoneType' object has no attribute 'serialize'")

    compiler.act = trip
    assert tensorrt.compile_engine(standin.source(), options) == b"engine"
    assert kept.read_bytes() == b"timing " and len(builds) == 2


def test_what_tensorrt_refuses_is_built_once_and_costs_no_timings(compiler, options):
    options.cache.folder.mkdir()
    kept, builds = tensorrt._timings_file(options.cache.folder), []
    kept.write_bytes(b"earned by the other network ")

    def refuse():
        builds.append(1)
        logging.getLogger("torch_tensorrt").error("no converter for aten.foo")
        raise RuntimeError("the graph cannot be converted")

    compiler.act = refuse
    with pytest.raises(Refused):
        tensorrt.compile_engine(standin.source(), options)
    assert len(builds) == 1 and kept.read_bytes() == b"earned by the other network "


def test_timings_belong_to_versions_and_gpu(monkeypatch, tmp_path):
    files = set()
    for version in ("10.3", "10.7"):
        monkeypatch.setattr(tensorrt.host, "version", lambda package, version=version: version)
        files.add(tensorrt._timings_file(tmp_path))
    assert len(files) == 2


@pytest.mark.parametrize("cause", [OSError(24, "Too many open files"), MemoryError(), ImportError("libnvinfer")])
def test_what_the_machine_failed_at_is_no_refusal_however_it_is_wrapped(compiler, options, cause):
    def wrapped():
        try:
            raise cause
        except BaseException as error:
            raise RuntimeError("While interpreting the module got an error: ...") from error

    compiler.act = wrapped
    with pytest.raises(ModelError) as caught:
        tensorrt.compile_engine(standin.source(), options)
    assert not isinstance(caught.value, Refused)


def test_a_folder_that_cannot_be_written_does_not_fail_the_build(compiler, tmp_path):
    (tmp_path / "engines").write_text("a file where the folder should be")
    options = Options(cache=EngineCache(tmp_path / "engines"), threads=1)
    assert tensorrt.compile_engine(standin.source(), options) == b"engine"


@pytest.mark.parametrize("logger, cause, kind", [
    ("torch_tensorrt.dynamo._compiler", "no converter for aten.foo", Refused),
    ("torch_tensorrt [TensorRT Conversion Context]", "sm_90 is not supported", Refused),
    ("torch_tensorrt [TensorRT Conversion Context]", "Error Code 2: OutOfMemory", ModelError),
])
def test_the_cause_that_torch_tensorrt_only_logs_is_named(compiler, options, logger, cause, kind):
    def fail():
        logging.getLogger(logger).error(cause)
        logging.getLogger("torch_tensorrt.dynamo._compiler").error("While interpreting the module: \nTraceback ...")
        raise UnboundLocalError("interpreter_result")

    compiler.act = fail
    with pytest.raises(ModelError, match=f"UnboundLocalError.*{cause}.*use runtime cuda") as caught:
        tensorrt.compile_engine(standin.source(), options)
    assert type(caught.value) is kind and "Traceback" not in str(caught.value)
    assert not any(logging.getLogger(name).handlers for name in tensorrt.LOGGERS)


def test_an_operator_is_named_that_stands_at_the_end_of_a_graph_or_only_in_what_was_logged_with_the_error(
        compiler, options):
    def in_the_text():
        logging.getLogger("torch_tensorrt.dynamo").error("conversion failed")
        raise RuntimeError("graph():\n" + "    %x : call_function\n" * 4000 + "no converter: aten.bessel_j0")

    def logged():
        try:
            raise ValueError("no converter: aten.bessel_j0")
        except ValueError:
            logging.getLogger("torch_tensorrt.dynamo").exception("while interpreting")
        raise UnboundLocalError("interpreter_result")

    def led_to():
        try:
            raise ValueError("no converter: aten.bessel_j0")
        except ValueError as error:
            raise RuntimeError("conversion failed") from error

    for compiler.act in (in_the_text, logged, led_to):
        with pytest.raises(Refused, match="does not compile .*aten.bessel_j0") as caught:
            tensorrt.compile_engine(standin.source(), options)
        assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device"), ImportError("no dllist")])
def test_what_only_this_machine_lacks_is_not_the_networks_fault(compiler, options, error):
    def fail():
        raise error

    compiler.act = fail
    with pytest.raises(ModelError, match="does not compile") as caught:
        tensorrt.compile_engine(standin.source(), options)
    assert not isinstance(caught.value, Refused)


def test_what_passed_over_rungs_said_is_kept_while_an_engine_is_built_and_after(options, monkeypatch):
    for problem in ("driver_problem", "cuda_problem"):
        monkeypatch.setattr(host, problem, lambda: "no NVIDIA driver")
    monkeypatch.setattr(host, "processor_flags", lambda: frozenset({"avx_vnni"}))
    done = []

    def build(kind, model, runtime, options):
        done.append(ladder.climb(standin.source(), runtime, Options(cache=options.cache, threads=1)))

    monkeypatch.setattr(ladder, "build_in_another_process", build)
    runtime = ladder.climb(standin.source(), "auto", live(options))
    assert "onnxruntime-int8: engine is being built" in runtime.reason or not runtime.building
    assert "tensorrt: no NVIDIA driver" in runtime.reason and "cuda: no NVIDIA driver" in runtime.reason
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
