"""benchmarks/gpu_check.py without a GPU: nothing that one piece does costs the lines of another."""
from __future__ import annotations

import argparse
import importlib.util
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import standin

from hand_pose_ros.runtimes import Options, tensorrt
from hand_pose_ros.runtimes.eager import Eager

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_check.py"
PIECE = """
import json, os, signal, sys, time
def record(**fields):
    print("\\x1e" + json.dumps(fields), flush=True)
"""
PASSES = 'record(name="fine", passed=True, detail="it is")'


@pytest.fixture
def gpu_check():
    spec = importlib.util.spec_from_file_location("gpu_check", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(gpu_check, monkeypatch, tmp_path):
    """Runs small programs as the pieces, by name, and returns exit status, report and the seconds it took."""
    def run(programs: dict[str, str], *arguments: str, most: float = 60.0) -> tuple[int, dict, float]:
        monkeypatch.setattr(gpu_check, "PIECES",
                            {name: (None, 60.0 if name == "last" else most) for name in programs})
        monkeypatch.setattr(gpu_check, "command", lambda piece, args, seconds: [sys.executable, "-c",
                                                                                PIECE + programs[piece]])
        monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path / "report.json"), *arguments])
        monkeypatch.setattr(signal, "signal", lambda *args: None)
        started = time.monotonic()
        status = gpu_check.main()
        return status, json.loads((tmp_path / "report.json").read_text()), time.monotonic() - started
    return run


def lines(report: dict) -> dict[str, tuple]:
    return {one["name"]: (one["passed"], one["detail"]) for one in report["checks"]}


@pytest.mark.parametrize("program, said", [
    ('print("deserialising"); sys.stdout.flush(); os.kill(os.getpid(), signal.SIGSEGV)', "SIGSEGV.*deserialising"),
    ('sys.exit("no libnvinfer")', "exit 1.*no libnvinfer"),
    ('sys.stdout.write("\\x1e{half a rec"); sys.stdout.flush(); os.abort()', "SIGABRT"),
])
def test_a_piece_that_crashes_costs_one_line(run, program, said):
    status, report, _ = run({"first": PASSES, "crashes": "record(name='before', passed=True, detail='')\n" + program,
                             "last": PASSES.replace("fine", "fine too")})
    found = lines(report)
    assert status == 1 and found["fine"][0] and found["before"][0] and found["fine too"][0]
    failed, detail = found["crashes"]
    assert failed is False and re.search(said, detail)


def test_a_piece_that_hangs_is_ended_with_all_that_it_started(run, tmp_path):
    marker = tmp_path / "survived"
    child = f"import time; time.sleep(4); open({str(marker)!r}, 'w')"
    _, report, took = run({"hangs": f"import subprocess; subprocess.Popen([sys.executable, '-c', {child!r}]); "
                                    "time.sleep(300)", "last": PASSES}, most=1.5)
    found = lines(report)
    assert found["hangs"][0] is False and "did not end within 2 s" in found["hangs"][1] and found["fine"][0]
    time.sleep(max(0.0, 5 - took))
    assert not marker.exists()


def test_what_does_not_fit_into_the_limit_is_left_out_and_said(run):
    status, report, _ = run({"one": PASSES, "two": PASSES}, "--limit", "5")
    found = lines(report)
    assert status == 1 and "fine" not in found
    assert all("of --limit 5 are left" in found[name][1] for name in ("one", "two"))
    assert found["GOAL pose below 1.0 ms"][0] is False


def test_with_a_longer_limit_a_piece_may_take_longer(run):
    _, report, _ = run({"slow": "time.sleep(1.5)\n" + PASSES}, "--limit", "5600", most=0.8)
    assert "fine" in lines(report) and "slow" not in lines(report)


def test_the_report_is_whole_after_every_line(run, tmp_path):
    """The second piece reads what stands there while it runs."""
    read = (f"report = json.load(open({str(tmp_path / 'report.json')!r}))\n"
            "record(name='read', passed=True, detail=','.join(one['name'] for one in report['checks']))")
    _, report, _ = run({"first": PASSES, "reads": read})
    assert lines(report)["read"][1] == "fine" and list(tmp_path.glob(".*.partial")) == []


def test_without_a_gpu_every_line_says_so_and_the_goals_are_there(tmp_path):
    out = tmp_path / "report.json"
    done = subprocess.run([sys.executable, str(PROGRAM), "--random", "--out", str(out)], capture_output=True, text=True,
                          timeout=120)
    found = lines(json.loads(out.read_text()))
    assert done.returncode == 1, done.stderr
    assert found["torch sees a GPU"][0] is False and found["pose network loads"][0] is True
    assert found["pose cuda"] == (False, f"not run: {found['torch sees a GPU'][1]}")
    assert sum(name.startswith("GOAL") for name in found) == 3


def of_cuda(pose: float, detector: float | None, frame: float) -> list[dict]:
    given = {"pose": pose, "detector": detector, "frame to joints 640 x 480": frame}
    return [{"measured": what, "runtime": "cuda", "milliseconds": took} for what, took in given.items() if took]


def goals(gpu_check, records: list[dict]) -> dict[str, tuple]:
    report = gpu_check.Report(None)
    for one in records:
        report.take(one)
    gpu_check.check_goals(report)
    return lines({"checks": report.checks})


def test_goals_take_the_best_runtime_that_agrees(gpu_check):
    eager = [{"measured": "pose eager", "runtime": name, "milliseconds": took}
             for name, took in (("fp32", 2.0), ("fp16", 1.6))]
    unproven = [{"measured": "frame to joints 640 x 480", "runtime": "tensorrt", "milliseconds": 0.1}]
    found = goals(gpu_check, of_cuda(0.5, 0.4, 2.0) + eager + unproven)
    assert found["GOAL pose below 1.0 ms"] == (True, "0.500 ms through cuda")
    assert found["GOAL frame to joints 640 x 480 below 3.0 ms"] == (True, "2.000 ms through cuda")
    assert found["GOAL pose at least 3.0 x faster than eager"][1].startswith("3.2 x")       # 1.6 / 0.5
    assert goals(gpu_check, of_cuda(0.5, None, 2.0))["GOAL frame to joints 640 x 480 below 3.0 ms"][0] is False


class Answers(Eager):
    """Eager on the CPU, which a test makes disagree or fail at a batch size."""

    wrong, breaks_at = 0.0, 0

    def run(self, batch):
        if len(batch) == self.breaks_at:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        outputs = super().run(batch)
        return (outputs[0] + self.wrong, *outputs[1:])


@pytest.mark.parametrize("wrong, breaks_at, counted", [(0.0, 0, True), (3.0, 0, False), (0.0, 2, False)])
def test_only_a_runtime_that_agrees_is_counted(gpu_check, monkeypatch, capsys, wrong, breaks_at, counted):
    monkeypatch.setattr(gpu_check, "spin_up", lambda: None)
    monkeypatch.setattr(gpu_check, "median_ms", lambda function: function() and 1.0)
    runtime = Answers(standin.source(), Options(threads=1))
    runtime.wrong, runtime.breaks_at = wrong, breaks_at
    gpu_check.check_runtime("cuda", runtime)
    records = [json.loads(line) for line in capsys.readouterr().out.split(gpu_check.RECORD)[1:]]
    assert any("measured" in one for one in records) == counted
    agrees = [one for one in records if one.get("name") == "pose cuda agrees with eager"]
    assert [one["passed"] for one in agrees] == [counted]
    assert any(one.get("name") == "pose cuda latency" for one in records)


@pytest.mark.parametrize("entry, said", [(None, "was stored"), ("no kernel image", "no kernel image")])
def test_without_an_engine_the_later_pieces_build_none(gpu_check, monkeypatch, tmp_path, entry, said):
    monkeypatch.setattr(gpu_check, "source_of", lambda kind, random: standin.source(kind))
    monkeypatch.setattr(tensorrt, "engine_problem", lambda: "")
    monkeypatch.setattr(tensorrt, "key_ingredients", lambda source, options: {"model": source.model})
    monkeypatch.setattr(gpu_check.ladder, "climb", lambda *args: pytest.fail("built"))
    options = argparse.Namespace(random=False, cache=str(tmp_path), limit=10.0)
    if entry:
        gpu_check.EngineCache(tmp_path).replace({"model": "standin_pose"}, b"", {"refused": entry})
    for piece in ("pose tensorrt second start", "tensorrt frame to joints", "swap"):
        with pytest.raises(gpu_check.ModelError, match=said):
            gpu_check.PIECES[piece][0](options)
