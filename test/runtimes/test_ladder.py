"""The ladder always starts, says why higher rungs do not serve, and a forced runtime is a promise or a refusal."""
from __future__ import annotations

import builtins
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import standin

from hand_pose_ros import config, models, pipeline, runtimes
from hand_pose_ros.errors import ConfigError, ModelError
from hand_pose_ros.runtimes import Options, background, host, int8, ladder, ort
from hand_pose_ros.runtimes.base import HALF_REFUSED, NotBuilt, Runtime
from hand_pose_ros.runtimes.cache import EngineCache

ONNX_RUNTIME = ("onnxruntime", "onnxruntime-gpu")


@pytest.fixture
def options(tmp_path):
    return Options(cache=EngineCache(tmp_path), threads=1)


@pytest.fixture
def without(monkeypatch):
    """Makes packages look as if they were not installed, to importlib.metadata and to import."""
    def mask(*packages: str) -> None:
        real_version, real_import = host.version, builtins.__import__
        modules = {package.split("-gpu")[0].replace("-", "_") for package in packages}

        def masked_import(name, *args, **kwargs):
            if name.split(".")[0] in modules:
                raise ImportError(f"No module named {name!r}")
            return real_import(name, *args, **kwargs)

        monkeypatch.setattr(host, "version", lambda package: "" if package in packages else real_version(package))
        monkeypatch.setattr(builtins, "__import__", masked_import)
    return mask


@pytest.fixture
def no_gpu(monkeypatch):
    for problem in ("driver_problem", "cuda_problem"):
        monkeypatch.setattr(host, problem, lambda: "no NVIDIA driver (libcuda.so.1 not found)")


def test_without_a_gpu_onnxruntime_serves_and_says_why(options, no_gpu, without):
    without("torch-tensorrt", "torch-tensorrt-rtx")
    lines: list[str] = []
    runtime = ladder.climb(standin.source(), "auto", Options(cache=options.cache, report=lines.append))
    assert runtime.name == "onnxruntime"
    assert runtime.reason.startswith("tensorrt: no NVIDIA driver")               # not: install gigabytes in vain
    assert "; cuda: no NVIDIA driver" in runtime.reason
    assert any("serving through onnxruntime" in line for line in lines)


def test_without_onnxruntime_eager_serves(options, no_gpu, without):
    without(*ONNX_RUNTIME)
    runtime = ladder.climb(standin.source(), "auto", options)
    assert runtime.name == "cpu" and "onnxruntime: onnxruntime is not installed (pip install" in runtime.reason


SECOND_START = """
import sys
import numpy as np
from hand_pose_ros.runtimes import Options, background, int8, ladder
from hand_pose_ros.runtimes.cache import EngineCache
from hand_pose_ros.runtimes.source import NetworkSource
def module():
    raise SystemExit("exported again")
source = NetworkSource("pose", "standin_pose", (64, 64, 3), module, {"weights": "seed 0"})
runtime = ladder.climb(source, "auto", Options(cache=EngineCache(sys.argv[1]), threads=1))
runtime(np.zeros((2, 64, 64, 3), np.uint8))
print(runtime.name, sorted({"torch", "onnx", "onnxscript"} & set(sys.modules)))
"""


def test_second_start_imports_no_torch(options, tmp_path):
    ladder.climb(standin.source(), "onnxruntime", options)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", SECOND_START, str(tmp_path)], capture_output=True, text=True,
                          env=environment, timeout=200, check=False)
    assert done.stdout == "onnxruntime []\n", done.stderr


def test_without_anything_the_error_names_every_rung(options, no_gpu, without):
    without("torch", *ONNX_RUNTIME)
    with pytest.raises(ModelError) as caught:
        ladder.climb(standin.source(), "auto", dataclasses.replace(options, live=True))
    for rung in ladder.LADDER:
        assert f"{rung}: " in str(caught.value)


@pytest.mark.parametrize("runtime, remedy", [
    ("tensorrt", "no NVIDIA driver"),
    ("cuda", "no NVIDIA driver"),
    ("onnxruntime", "pip install onnxruntime"),
    ("onnxruntime-int8", "pip install onnxruntime"),
    ("onnxruntime-cuda", "pip install onnxruntime"),
    ("cpu", "pip install torch"),
])
def test_a_forced_runtime_that_cannot_run_is_refused_with_the_remedy(options, no_gpu, without, runtime, remedy):
    without("torch", "torch-tensorrt", "torch-tensorrt-rtx", *ONNX_RUNTIME)
    with pytest.raises(ModelError, match=f"^runtime {runtime}: .*{remedy}"):
        ladder.climb(standin.source(), runtime, options)


def test_with_a_gpu_tensorrt_asks_for_its_package(options, monkeypatch, without):
    monkeypatch.setattr(host, "driver_problem", lambda: "")
    without("torch-tensorrt", "torch-tensorrt-rtx")
    with pytest.raises(ModelError, match="torch_tensorrt is not installed .pip install torch-tensorrt"):
        ladder.climb(standin.source(), "tensorrt", options)


@pytest.mark.parametrize("runtime", ["auto", "cuda"])
def test_single_precision_where_half_was_wanted_is_said_with_the_reason(options, monkeypatch, no_gpu, runtime):
    def open_cuda(source, options):
        opened = Runtime(source, 4)
        opened.name, opened.info = "cuda", {HALF_REFUSED: "mean_px 0.9 > 0.5; choose another runtime"}
        return opened

    real = ladder.opener
    monkeypatch.setattr(ladder, "opener", lambda name: open_cuda if name == "cuda" else real(name))
    reason = ladder.climb(standin.source(), runtime, options).reason
    assert reason.endswith("cuda computes in single precision: mean_px 0.9 > 0.5")      # and not: choose another
    assert ("tensorrt: no NVIDIA driver" in reason) == (runtime == "auto")


def test_a_reason_of_many_lines_is_one_short_one_that_still_names_the_cause(options, monkeypatch, no_gpu):
    """It goes into the log, the diagnostics and every message; a graph of 100 kB stood there once."""
    def refused(source, options):
        graph = "graph line\n" * 5000
        raise ModelError(f"runtime tensorrt: x does not compile (\n{graph}no converter: bessel_j0)")

    real = ladder.opener
    monkeypatch.setattr(ladder, "opener", lambda name: refused if name == "tensorrt" else real(name))
    reason = ladder.climb(standin.source(), "auto", options).reason
    said = reason.partition("; cuda:")[0]
    assert "\n" not in said and len(said) < 800
    assert said.startswith("tensorrt: x does not compile") and said.endswith("no converter: bessel_j0)")


@pytest.mark.parametrize("runtime, said", [("cuda", "; runtime auto takes what works here"), ("auto", "")])
def test_who_named_a_runtime_is_told_of_auto(monkeypatch, no_gpu, without, runtime, said):
    without("torch", *ONNX_RUNTIME)
    monkeypatch.setattr("hand_pose_ros.runtimes.source.from_model", lambda kind, model: standin.source(kind))
    with pytest.raises(ModelError) as caught:
        runtimes.load("pose", "standin", runtime)
    assert str(caught.value).endswith(said) and ("runtime auto" in str(caught.value)) == bool(said)


def test_the_evidence_that_a_network_needs_is_what_its_card_says(tmp_path):
    shipped = models.path(runtimes.POSE_QUICK)
    own = shutil.copytree(shipped, tmp_path / "own")
    models.write_evidence(str(own), 0.95)
    silent = shutil.copytree(shipped, tmp_path / "silent")
    card = json.loads((silent / "card.json").read_text())
    card.pop("evidence_needed", None)
    (silent / "card.json").write_text(json.dumps(card))
    for model, needed in ((str(silent), pipeline.EVIDENCE_NEEDED), (str(own), 0.95)):
        settings = dataclasses.replace(config.Config(), pose_model=model, runtime="cpu")
        assert pipeline.load(settings).evidence_needed == needed


def test_who_loads_hears_what_is_being_built(options, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(runtimes, "load", lambda kind, model, runtime, options: options.report(model) or Runtime(
        SimpleNamespace(model=model, input_shape=(8, 8, 3)), 1))
    monkeypatch.setattr(runtimes, "load_pose", lambda model, runtime, options: runtimes.load("", "", "", options))
    with pytest.raises((ModelError, FileNotFoundError)):                                # no card of that name
        pipeline.load(config.Config(), live=True, report=lines.append)
    assert lines == [config.Config().detector_model, ""]


@pytest.mark.parametrize("runtime, live", [("auto", True), ("onnxruntime", True), ("onnxruntime", False),
                                           ("onnxruntime-int8", True)])
def test_memory_grows_before_a_camera_waits(monkeypatch, options, no_gpu, runtime, live):
    """With the largest call, once; later it would be the first frame of several hands that waits."""
    monkeypatch.setattr(host, "processor_flags", frozenset)
    if runtime == "onnxruntime-int8":
        int8.built(standin.source("pose"), options)
    ladder.climb(standin.source("pose"), runtime, options)
    seen, run = [], ort.OnnxRuntime.run
    monkeypatch.setattr(ort.OnnxRuntime, "run", lambda self, batch: seen.append(len(batch)) or run(self, batch))
    opened = ladder.climb(standin.source("pose"), runtime, dataclasses.replace(options, live=live))
    assert seen == [opened.max_batch] and opened.max_batch > 1


def test_a_forced_runtime_serves_without_a_word_about_others(options):
    runtime = ladder.climb(standin.source(), "cpu", options)
    assert runtime.name == "cpu" and runtime.reason == ""


def test_a_library_that_breaks_is_a_rung_passed_over(options, no_gpu, monkeypatch):
    import onnxruntime

    def broken(*args, **kwargs):
        raise RuntimeError("illegal instruction")
    monkeypatch.setattr(onnxruntime, "InferenceSession", broken)
    runtime = ladder.climb(standin.source(), "auto", options)
    assert runtime.name == "cpu" and "RuntimeError: illegal instruction" in runtime.reason


@pytest.mark.parametrize("module", ["tensorrt", "torch_tensorrt"])
def test_tensorrt_that_does_not_load_is_a_rung_passed_over(options, monkeypatch, module):
    real = host.version
    monkeypatch.setattr(host, "version", lambda package: "2.13.0" if package == "torch-tensorrt" else real(package))
    monkeypatch.setattr(host, "cuda_problem", lambda: "")
    monkeypatch.setattr(host, "driver_problem", lambda: "")
    monkeypatch.setattr(host, "gpu_ingredients", lambda: {"gpu": "stand-in"})
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace())
    monkeypatch.setitem(sys.modules, module, None)
    runtime = ladder.climb(standin.source(), "auto", dataclasses.replace(options, live=False))
    assert f"tensorrt: {module} " in runtime.reason and "does not load" in runtime.reason


def test_unknown_runtime_lists_the_choices(options):
    with pytest.raises(ConfigError, match="unknown runtime 'openvino': auto or one of tensorrt, cuda"):
        ladder.climb(standin.source(), "openvino", options)


def test_every_runtime_can_be_asked_for_by_parameter():
    choices = next(setting.choices for setting in config.SETTINGS if setting.name == "runtime")
    assert set(choices) == {"auto", *ladder.RUNTIMES}


def test_every_rung_of_the_ladder_is_in_the_table_and_every_entry_opens():
    assert set(ladder.LADDER) <= set(ladder.RUNTIMES)
    for name in ladder.RUNTIMES:
        assert callable(ladder.opener(name))


@pytest.fixture
def dot_products(monkeypatch):
    """A processor on which 8 bits are faster than 32."""
    monkeypatch.setattr(host, "processor_flags", lambda: frozenset({"avx512_vnni"}))


def test_a_live_camera_gets_8_bits_once_they_are_built(options, no_gpu, dot_products, monkeypatch):
    built: list[str] = []

    def build(kind, model, runtime, given):
        built.append(runtime)
        int8.build(standin.source(), given)

    monkeypatch.setattr(ladder, "build_in_another_process", build)
    live = dataclasses.replace(options, live=True)
    assert ladder.forecast(standin.source(), "auto", options)[:2] == ("onnxruntime", "onnxruntime-int8") and not built
    runtime = ladder.climb(standin.source(), "auto", live)
    assert isinstance(runtime, background.Swapping), runtime.reason
    runtime.wait(60)
    assert runtime.name == "onnxruntime-int8" and built == ["onnxruntime-int8"]
    assert ladder.climb(standin.source(), "auto", live).name == "onnxruntime-int8" and len(built) == 1
    assert ladder.forecast(standin.source(), "auto", options)[:2] == ("onnxruntime-int8", "")
    assert ladder.forecast(standin.source(), "cpu", options) == ("cpu", "", "")
    assert ladder.climb(standin.source(), "auto", options).name == "onnxruntime"    # files: always the same answer


@pytest.mark.parametrize("missing, said", [
    ("dot products", "has none of asimddp, avx512_vnni, avx_vnni"), ("onnx", "pip install onnx"),
    ("bag", "sample bag .* is not there")])
def test_where_8_bits_cannot_be_had_32_serve_and_the_reason_is_named(
        options, no_gpu, dot_products, monkeypatch, missing, said):
    if missing == "dot products":
        monkeypatch.setattr(host, "processor_flags", frozenset)
    elif missing == "bag":
        monkeypatch.setattr(int8, "sample_bag", lambda: "nowhere.mcap")
    real = host.version
    monkeypatch.setattr(host, "version", lambda name: "" if name == missing else real(name))
    runtime = ladder.climb(standin.source(), "auto", dataclasses.replace(options, live=True))
    assert runtime.name == "onnxruntime" and re.search(f"onnxruntime-int8: .*{said}", runtime.reason)
    assert ladder.forecast(standin.source(), "auto", options) == ("onnxruntime", "", runtime.reason)


def test_8_bits_that_are_asked_for_are_built_at_once(options):
    runtime = ladder.climb(standin.source(), "onnxruntime-int8", dataclasses.replace(options, live=True))
    assert runtime.name == "onnxruntime-int8" and runtime.info["calibration_pictures"] == 120


def test_forced_and_unbuilt_is_built_now_auto_is_served_meanwhile(options, monkeypatch):
    asked: list[bool] = []

    class Engine(Runtime):
        name = "tensorrt"

        def run(self, batch):
            return (np.full((len(batch), 1), 7.0, np.float32),)

    def open_engine(source, options):
        asked.append(options.live)
        if options.live and len(asked) == 2:
            raise NotBuilt("runtime tensorrt: not built yet")
        return Engine(source, options.max_batch)

    real = ladder.opener
    monkeypatch.setattr(ladder, "opener", lambda name: open_engine if name == "tensorrt" else real(name))
    monkeypatch.setattr(ladder, "build_in_another_process", lambda *args: None)
    monkeypatch.setattr(host, "cuda_problem", lambda: "no GPU")
    assert ladder.climb(standin.source(), "tensorrt", options).name == "tensorrt" and asked == [False]
    runtime = ladder.climb(standin.source(), "auto", dataclasses.replace(options, live=True))
    runtime.wait(10)
    assert runtime.name == "tensorrt" and runtime(np.zeros((3, 64, 64, 3), np.uint8))[0].tolist() == [[7.0]] * 3


def test_networks_that_differ_are_told_one_by_one():
    def network(model, name, reason=""):
        runtime = Runtime(SimpleNamespace(model=model, input_shape=(8, 8, 3)), 1)
        runtime.name, runtime.reason = name, reason
        return runtime
    assert runtimes.in_full([network("a", "cuda", "no"), network("b", "cuda", "no")]) == "cuda (no)"
    assert runtimes.in_full([network("a", "cuda"), network("b", "cuda", "no")]) == "a: cuda; b: cuda (no)"


@pytest.mark.parametrize("problem, runtime, chosen", [
    ("", "auto", runtimes.POSE_ACCURATE), ("", "onnxruntime", runtimes.POSE_QUICK),
    ("no NVIDIA driver", "auto", runtimes.POSE_QUICK), ("no NVIDIA driver", "tensorrt", runtimes.POSE_ACCURATE)])
def test_the_accurate_pose_network_is_for_what_a_gpu_runs(monkeypatch, problem, runtime, chosen):
    monkeypatch.setattr(host, "cuda_problem", lambda: problem)
    assert runtimes.pose_model("auto", runtime) == chosen
    assert runtimes.pose_model("mine", runtime) == "mine"


@pytest.mark.parametrize("rung, unbuilt, served", [
    ("cuda", "", runtimes.POSE_ACCURATE), ("cuda", "tensorrt", runtimes.POSE_ACCURATE),
    ("onnxruntime", "tensorrt", runtimes.POSE_ACCURATE), ("onnxruntime", "", runtimes.POSE_QUICK),
    ("onnxruntime", "onnxruntime-int8", runtimes.POSE_QUICK)])
def test_a_gpu_that_runs_nothing_leaves_the_quick_pose_network_to_the_cpu(monkeypatch, rung, unbuilt, served):
    built = []

    def first_that_opens(source, options):
        opened = Runtime(source, 4)
        opened.name, opened.device = rung, "cuda" if rung == "cuda" else "cpu"
        return opened, unbuilt

    def improving(serving, target, options):
        built.extend([(serving.source.model, target)] if target else [])
        return serving

    monkeypatch.setattr(host, "cuda_problem", lambda: "")
    monkeypatch.setattr(ladder, "first_that_opens", first_that_opens)
    monkeypatch.setattr(ladder, "improving", improving)
    assert runtimes.load_pose("auto").source.model == served
    assert built == ([(served, unbuilt)] if unbuilt else []), "an engine was built of a network that does not serve"
    assert runtimes.served_pose_model("auto", "auto") == served, "the doctor would speak of another network"
    assert runtimes.load_pose(runtimes.POSE_ACCURATE).source.model == runtimes.POSE_ACCURATE      # as it was asked for


def test_crops_of_a_runtime_that_is_asked_for_by_name_and_takes_them_from_the_cpu(monkeypatch):
    def climb(source, runtime, options):
        opened = Runtime(source, 4)
        opened.name, opened.device = runtime, "cpu"
        return opened
    monkeypatch.setattr(host, "cuda_problem", lambda: "")
    monkeypatch.setattr(ladder, "climb", climb)
    assert runtimes.load_pose("auto", "onnxruntime-cuda").source.model == runtimes.POSE_ACCURATE


def test_a_network_whose_engine_for_the_gpu_is_being_built_gets_its_crops_there_afterwards():
    def network(device, target=None):
        made = SimpleNamespace(device=device)
        if target:
            made.target = target
        return made
    cpu, building, quicker = network("cpu"), network("cpu", "tensorrt"), network("cpu", "onnxruntime-int8")
    assert runtimes.looks(cpu, quicker) == (None, None)
    for pair in ((building, cpu), (cpu, building), (network("cuda"), building)):
        assert [look is not None for look in runtimes.looks(*pair)] == [each is not cpu for each in pair]
