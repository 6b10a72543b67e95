"""hand-pose build-engine and hand-pose benchmark, on stand-in networks."""
from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import standin

from hand_pose_ros import bags, cli, crop, messages
from hand_pose_ros.errors import DataError, ModelError
from hand_pose_ros.runtimes import Options, agreement, benchmark, build, host, int8, operations, ort
from hand_pose_ros.runtimes.cache import EngineCache
from hand_pose_ros.skeleton import ADULT_HAND_LENGTH_M, mano_joints


@pytest.fixture
def standins(monkeypatch):
    """Stand-ins under every model name."""
    for module in (build, benchmark):
        monkeypatch.setattr(module, "from_model", lambda kind, model: standin.source(kind))


@pytest.fixture
def hand_pose(standins, capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(list(arguments))
        printed = capsys.readouterr()
        return status, printed.out, printed.err
    return run


def shard(path, count: int = 6) -> str:
    """A tar file of drawn hands with labels, as hand-pose render writes them."""
    with tarfile.open(path, "w") as tar:
        for index, picture in enumerate(agreement.drawn_hands(120, 160, count)):
            joints = standin.REST.numpy() * 70 + (80, 60)
            label = {"K": [[150, 0, 80], [0, 150, 60], [0, 0, 1]], "D": [], "width": 160, "height": 120,
                     "hands": [{"joints_px": joints.tolist(), "is_right": index % 2 == 0,
                                "hand_length_m": ADULT_HAND_LENGTH_M}]}
            for name, data in ((f"{index:06d}.jpg", cv2.imencode(".jpg", picture)[1].tobytes()),
                               (f"{index:06d}.json", json.dumps(label).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return str(path)


@pytest.mark.parametrize("flags, chosen, engines", [
    ({"sse2"}, "onnxruntime", 2), ({"avx_vnni"}, "onnxruntime-int8", 4)])
def test_build_engine_builds_what_a_node_takes_and_lists_it(hand_pose, tmp_path, monkeypatch, flags, chosen, engines):
    monkeypatch.setattr(host, "processor_flags", lambda: frozenset(flags))
    monkeypatch.setattr(host, "driver_problem", lambda: "no NVIDIA driver")
    status, out, _ = hand_pose("build-engine", "--cache", str(tmp_path))
    assert status == 0 and out.count(f"{chosen} is ready, difference to eager {{'m") == 2
    assert "tensorrt: no NVIDIA driver" in out
    assert ("onnxruntime-int8: this processor has none of" in out) == (chosen == "onnxruntime")
    status, out, _ = hand_pose("build-engine", "--cache", str(tmp_path), "--list")
    assert status == 0 and "standin_pose" in out and "standin_detector" in out and f"{engines} engines" in out


@pytest.mark.parametrize("arguments, said", [
    (("--model", "x"), "--model needs --kind"),
    (("--calibration", "x.tar"), "--calibration needs --precision int8"),
    (("--runtime", "onnxruntime", "--precision", "fp16"), "--precision fp16 is for TensorRT"),
])
def test_build_engine_refuses_what_does_not_go_together(hand_pose, arguments, said):
    status, _, err = hand_pose("build-engine", *arguments)
    assert status == 2 and said in err


@pytest.mark.parametrize("words, said", [
    (("--precision", "fp32"), "--precision fp32 is for TensorRT: onnxruntime"),
    (("--precision", "int8", "--runtime", "tensorrt"), "--precision int8 is that of --runtime onnxruntime-int8"),
    (("--precision", "int8", "--runtime", "onnxruntime"), "not of onnxruntime: leave --runtime out")])
def test_build_engine_builds_what_was_asked_for_or_nothing(hand_pose, tmp_path, words, said):
    status, _, err = hand_pose("build-engine", "--cache", str(tmp_path), "--kind", "pose", *words)
    assert status == 2 and said in err and not list(tmp_path.glob("*.engine"))


def test_build_engine_refuses_a_batch_of_no_hands(hand_pose, capsys):
    """Nothing of it would be compared with eager."""
    with pytest.raises(SystemExit):
        hand_pose("build-engine", "--max-batch", "0")
    assert "--max-batch: '0' is not allowed: give a whole number from 1 on" in capsys.readouterr().err


def test_build_engine_lists_a_cache_with_damaged_files(hand_pose, tmp_path):
    hand_pose("build-engine", "--cache", str(tmp_path), "--kind", "pose", "--runtime", "onnxruntime")
    (tmp_path / f"{'f0' * 32}.engine").write_text("hello")
    (tmp_path / "foreign.engine").write_text("of another program")
    status, out, _ = hand_pose("build-engine", "--cache", str(tmp_path), "--list")
    assert status == 0 and "standin_pose" in out and "2 engines" in out
    assert [line for line in out.splitlines() if "damaged, or none of ours" in line][0].startswith("f0f0")


def test_build_engine_that_cannot_store_what_it_built_fails(hand_pose, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hand_pose_ros.runtimes.cache.os.replace", full)
    for precision in ("auto", "int8"):
        status, _, err = hand_pose("build-engine", "--cache", str(tmp_path), "--kind", "pose", "--precision", precision,
                                   *(("--runtime", "onnxruntime") if precision == "auto" else ()))
        assert status == 1 and "is not stored" in err and "No space left" in err


def test_build_engine_builds_nothing_where_torch_serves_on_the_gpu(hand_pose, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "cuda_problem", lambda: "")
    monkeypatch.setattr(host, "driver_problem", lambda: "")
    status, out, _ = hand_pose("build-engine", "--cache", str(tmp_path))
    assert status == 0 and "nothing has to be built" in out and not list(tmp_path.glob("*.engine"))


def test_the_background_does_not_quantise_what_another_process_has(hand_pose, tmp_path, monkeypatch):
    hand_pose("build-engine", "--cache", str(tmp_path), "--kind", "pose", "--precision", "int8")
    monkeypatch.setattr(int8, "_made", lambda *args: pytest.fail("made again"))
    assert hand_pose("build-engine", "--cache", str(tmp_path), "--kind", "pose", "--runtime", "onnxruntime-int8",
                     "--if-missing")[0] == 0


def test_8_bits_that_are_refused_are_not_made_at_every_start(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(int8, "LIMITS", {"mean_px": 0.0})
    real = int8.quantised
    monkeypatch.setattr(int8, "quantised", lambda *args: made.append(1) or real(*args))
    options = Options(cache=EngineCache(tmp_path), threads=1)
    for live in (False, False, True):
        with pytest.raises(ModelError, match="--kind pose --model standin_pose --precision int8 builds it again"):
            ort.open_int8(standin.source(), replace(options, live=live))
    assert len(made) == 1


def test_build_engine_for_tensorrt_without_a_gpu_asks_for_no_package(hand_pose, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "driver_problem", lambda: "no NVIDIA driver")
    status, _, err = hand_pose("build-engine", "--runtime", "tensorrt", "--cache", str(tmp_path))
    assert status == 1 and "no NVIDIA driver" in err and "pip install" not in err


@pytest.mark.parametrize("kind", ["pose", "detector"])
def test_int8_is_calibrated_on_shards_stored_and_served(tmp_path, kind):
    options, source = Options(cache=EngineCache(tmp_path / "cache"), threads=1), standin.source(kind)
    int8.build(source, options, [shard(tmp_path / "a.tar"), shard(tmp_path / "b.tar")])
    runtime = ort.open_int8(source, options)
    assert runtime.name == "onnxruntime-int8" and runtime.info["calibration_pictures"] == 6
    assert 0 < runtime.info["agreement"]["mean_px"] < 2       # it differs, so it is not the float32 network


def test_clipping_counts_to_the_convolution_before_it(tmp_path):
    import onnx
    source = standin.source()                               # convolution, ReLU, convolution, ReLU
    pictures = np.stack(list(int8.calibration_pictures(source, [shard(tmp_path / "a.tar")], count=2)))
    nodes = onnx.load_from_string(int8.quantised(ort.export(source), pictures)).graph.node
    made_by = {output: node for node in nodes for output in node.output}
    rounded = [made_by[node.input[0]].op_type for node in nodes
               if node.op_type == "QuantizeLinear" and node.input[0] in made_by]
    assert rounded.count("Conv") == 2 and not [node for node in nodes if node.op_type == "Relu"]


def test_calibration_pictures_of_a_pose_network_are_upright_right_hands(tmp_path):
    pictures = list(int8.calibration_pictures(standin.source(), [shard(tmp_path / "a.tar")], count=4))
    assert len(pictures) == 4 and all(picture.shape == (64, 64, 3) for picture in pictures)


def test_without_shards_int8_is_calibrated_on_both_hands_of_the_sample_bag():
    source = standin.source()
    pictures = list(int8.calibration_pictures(source, [int8.sample_bag()], count=6))
    with bags.BagReader(int8.sample_bag()) as reader:
        truth = reader.hands()
        frame = next(iter(reader.frames())).frame
    hands, _ = messages.read_array(truth[frame.stamp_ns])
    assert len(hands) == 2 and {hand.is_right for hand in hands} == {True, False}
    for hand, picture in zip(hands, pictures):              # each upright, and mirrored if it is a left one
        expected = crop.take(frame, crop.from_joints(mano_joints(hand.joints_px)), 64, not hand.is_right).image
        assert np.array_equal(picture, expected)


def test_what_is_no_shard_is_refused(tmp_path):
    (tmp_path / "no.tar").write_text("no")
    with pytest.raises(DataError, match="no.tar cannot be read as a shard"):
        list(int8.calibration_pictures(standin.source(), [str(tmp_path / "no.tar")]))


def test_operations_are_counted_as_torch_counts_them():
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    source = standin.source()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        source.module()(torch.zeros((1, *source.input_shape), dtype=torch.uint8))
    counted = operations.operations(source)
    assert 2 * sum(one.macs for one in counted) == counter.get_total_flops()
    assert counted[0].macs == 8 * 16 * 16 * 3 * 5 * 5          # by hand: first convolution, 64 / 4 = 16
    assert counted[0].activations == 64 * 64 * 3 + 16 * 16 * 8 and counted[0].weights == 8 * 3 * 5 * 5


def test_implied_time_is_the_longer_of_arithmetic_and_traffic():
    one = operations.Operation("convolution", macs=10**9, activations=10**6, weights=10**6)
    assert operations.implied_milliseconds([one], 10.0, 1000.0) == pytest.approx(0.2)              # 2 GFLOP at 10 T
    assert operations.implied_milliseconds([one], 1000.0, 10.0) == pytest.approx(0.4)              # 4 MB at 10 GB/s
    assert operations.implied_milliseconds([one], 1000.0, 10.0, batch=4) == pytest.approx(1.0)     # weights once


def test_estimate_says_that_it_is_one(hand_pose):
    status, out, _ = hand_pose("benchmark", "--estimate")
    assert status == 0 and "Estimates, not measurements" in out and "AGX Orin" in out and "standin_pose" in out


def test_benchmark_measures_stages_and_networks(hand_pose, monkeypatch):
    monkeypatch.setattr(benchmark.os, "sched_setaffinity", lambda *args: None)      # not of the test process
    status, out, _ = hand_pose("benchmark", "--measure", "cpu", "--frames", "4", "--threads", "1", "--size", "160x120")
    result = json.loads(out.splitlines()[-1])
    assert status == 0 and set(result["network_ms"]) == {"detector 64 x 64", "pose 64 x 64 x 1", "pose 64 x 64 x 2",
                                                         "pose 64 x 64 x 4"}
    assert all(len(times) == 4 for times in result["network_ms"].values())
    assert {name.split(": ")[1] for name in result["stage_ms"]} == {"detect", "pose", "lift"}
    assert len(result["detection_ms"]) == 4 and result["peak_memory_mb"] > 50


def test_report_compares_with_mediapipe_and_writes_table_and_plot(tmp_path):
    own = {"runtime": "onnxruntime", "start_s": 0.5, "frames": 3, "tracking_ms": [4.0, 4.0, 5.0],
           "detection_ms": [8.0, 9.0, 9.0], "tracking_frames_with_hand": 3, "detection_frames_with_hand": 3,
           "peak_memory_mb": 100.0, "tracking_cpu_ms": [6.0], "detection_cpu_ms": [10.0],
           "stage_ms": {"tracking: pose": [3.0]}, "network_ms": {"pose": [2.0]}}
    peer = {key: own[key] for key in own if key not in ("stage_ms", "network_ms", "start_s")}
    peer["tracking_ms"], peer["detection_ms"] = [8.0], [10.0]
    peer["tracking_cpu_ms"], peer["detection_cpu_ms"] = [20.0], [40.0]
    report = {"machine": {"processor": "a", "processors": "1 of 2"},
              "results": {"onnxruntime": own, "MediaPipe full": peer}}
    text = "\n".join(benchmark.table_lines(report))
    assert "| onnxruntime / MediaPipe full | 0.50 x | 0.90 x | 0.30 x and 0.25 x |" in text
    assert "| 4.00 / 4.90 / 4.98 |" in text
    benchmark.plot(report, tmp_path / "plot.png")
    assert cv2.imread(str(tmp_path / "plot.png")).shape[1] > 600


def test_a_precision_is_for_runtimes_that_have_a_choice(hand_pose):
    status, _, err = hand_pose("benchmark", "--runtime", "onnxruntime", "--precision", "fp16")
    assert status == 2 and "--precision fp16 is for tensorrt and cuda" in err


def test_a_runtime_that_cannot_be_measured_does_not_cost_the_others(hand_pose, tmp_path, monkeypatch):
    own = {"runtime": "cpu", "start_s": 30.0, "tracking_ms": [4.0], "detection_ms": [8.0],
           "tracking_frames_with_hand": 1, "detection_frames_with_hand": 1, "frames": 1, "peak_memory_mb": 460.0,
           "tracking_cpu_ms": [6.0], "detection_cpu_ms": [9.0], "stage_ms": {}, "network_ms": {}}
    calls = []

    real = subprocess.run

    def run(command, **options):
        if "--measure" not in command:                  # what describes the machine
            return real(command, **options)
        name = command[command.index("--measure") + 1]
        calls.append(name)
        start = {"start_s": 30.0, "peak_memory_mb": 460.0} if calls.count(name) == 1 and name == "onnxruntime" else \
            {"start_s": 0.3, "peak_memory_mb": 190.0}
        failed = name == "tensorrt"
        return SimpleNamespace(returncode=int(failed), stderr="no GPU\n" * failed, stdout=json.dumps({**own, **start}))

    monkeypatch.setattr(benchmark.subprocess, "run", run)
    status, out, err = hand_pose("benchmark", "--runtime", "tensorrt", "cpu", "onnxruntime", "--rounds", "2", "--out",
                                 str(tmp_path))
    assert status == 1 and "tensorrt cannot be measured: no GPU" in err
    found = json.loads((tmp_path / "benchmark.json").read_text())["results"]
    assert set(found) == {"cpu", "onnxruntime"} and len(found["cpu"]["tracking_ms"]) == 2
    assert found["onnxruntime"]["start_s"] == 0.3 and found["onnxruntime"]["peak_memory_mb"] == 190.0


@pytest.mark.parametrize("words, said", [
    (("--size", "640"), "--size: '640'"), (("--size", "640x0"), "--size: '640x0'"),
    (("--frames", "0"), "--frames: '0'"), (("--rounds", "0"), "--rounds: '0'"),
    (("--threads", "0"), "--threads: '0'"), (("--out", "{file}"), "is a file"),
    (("--video", "/nope"), "no frame of /nope can be read"), (("--video", "{file}"), "can be read: give a video")])
def test_benchmark_checks_its_options_before_any_process_starts(hand_pose, tmp_path, monkeypatch, capsys, words, said):
    (tmp_path / "file").write_text("no video")
    monkeypatch.setattr(benchmark.subprocess, "run", lambda *_, **__: pytest.fail("a process has been started"))
    try:
        status, _, err = hand_pose("benchmark", *(word.format(file=tmp_path / "file") for word in words))
    except SystemExit as ended:
        status, err = ended.code, capsys.readouterr().err
    assert status == 2 and said in err


def test_benchmark_needs_a_video_for_mediapipe(hand_pose):
    status, _, err = hand_pose("benchmark", "--mediapipe", "python3")
    assert status == 2 and "--mediapipe needs --video" in err
