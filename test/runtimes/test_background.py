"""An engine that is built in the background is swapped in without losing, repeating or mixing a frame."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import standin

import hand_pose_ros
from hand_pose_ros.errors import ModelError
from hand_pose_ros.runtimes import background
from hand_pose_ros.runtimes.background import Swapping
from hand_pose_ros.runtimes.base import Options, Runtime
from hand_pose_ros.runtimes.cache import EngineCache


class Echo(Runtime):
    """Answers with the first pixel of each image and its own number."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(standin.source(size=8), max_batch=4)
        self.number, self.name, self.calls = number, name, 0

    def run(self, batch):
        self.calls += 1
        return batch[:, 0, 0, 0].astype(np.float32), np.full(len(batch), self.number, np.float32)


def frame(value: int) -> np.ndarray:
    return np.full((1, 8, 8, 3), value, np.uint8)


def test_no_frame_is_lost_while_the_engine_is_built_and_swapped_in():
    release, lines = threading.Event(), []
    eager, engine = Echo(1, "cuda"), Echo(2, "tensorrt")

    def compile_stand_in():
        assert release.wait(20)
        return engine

    runtime = Swapping(eager, compile_stand_in, lines.append, "tensorrt")
    answers = []
    for index in range(200):
        if index == 100:
            assert runtime.building and runtime.name == "cuda" and "being built" in runtime.reason
            release.set()
        if index == 150:
            runtime.wait(20)
        value, number = runtime(frame(index))
        answers.append((int(value[0]), int(number[0])))
    assert [value for value, _ in answers] == list(range(200))
    numbers = [number for _, number in answers]
    assert numbers == sorted(numbers) and set(numbers[:100]) == {1} and set(numbers[150:]) == {2}
    assert runtime.name == "tensorrt" and runtime.reason == "" and not runtime.building
    assert lines == ["standin_pose: now serving through tensorrt"]


def test_what_is_said_of_the_rung_that_serves_meanwhile_ends_with_it():
    eager, engine = Echo(1, "cuda"), Echo(2, "tensorrt")
    eager.passed_over, eager.reason = "x: none", "x: none; cuda computes in single precision"
    engine.reason = "tensorrt is made anew at every start"
    runtime = Swapping(eager, lambda: engine, lambda line: None, "tensorrt")
    runtime.wait(20)
    assert runtime.name == "tensorrt" and runtime.reason == "x: none; tensorrt is made anew at every start"


def test_a_long_refusal_in_the_background_is_cut():
    def refuse():
        raise ModelError("graph line\n" * 5000 + "no converter: bessel_j0")

    eager, lines = Echo(1, "cuda"), []
    eager.reason = "cuda computes in single precision"
    runtime = Swapping(eager, refuse, lines.append, "tensorrt")
    runtime.wait(20)
    for said in (runtime.reason, *lines):
        assert len(said) < 900 and "\n" not in said and said.endswith("no converter: bessel_j0")
    assert runtime.reason.startswith("cuda computes in single precision; tensorrt: graph line")


def test_a_call_under_way_finishes_in_the_runtime_it_began_in():
    inside, go_on, release = threading.Event(), threading.Event(), threading.Event()

    class Slow(Echo):
        def run(self, batch):
            inside.set()
            assert go_on.wait(20)
            return super().run(batch)

    runtime = Swapping(Slow(1, "cuda"), lambda: release.wait(20) and Echo(2, "tensorrt"), lambda line: None, "tensorrt")
    answers = []
    caller = threading.Thread(target=lambda: answers.append(runtime(frame(9))))
    caller.start()
    assert inside.wait(20)
    release.set()
    runtime.wait(20)
    assert runtime.name == "tensorrt"
    go_on.set()
    caller.join(20)
    assert answers[0][0][0] == 9 and answers[0][1][0] == 1


def test_the_new_runtime_is_warm_before_the_first_frame_reaches_it():
    engine = Echo(2, "tensorrt")
    runtime = Swapping(Echo(1, "cuda"), lambda: engine, lambda line: None, "tensorrt")
    runtime.wait(20)
    assert engine.calls == 1


@pytest.mark.parametrize("broken", ["build", "first run"])
def test_a_build_that_fails_changes_nothing_but_the_reason(broken):
    class Refuses(Echo):
        def run(self, batch):
            raise RuntimeError("no kernel image for sm_87")

    def prepare():
        if broken == "build":
            raise ModelError("no converter for aten.foo")
        return Refuses(2, "tensorrt")

    lines: list[str] = []
    runtime = Swapping(Echo(1, "cuda"), prepare, lines.append, "tensorrt")
    runtime.wait(20)
    assert runtime(frame(3))[1][0] == 1 and runtime.name == "cuda"
    cause = "no converter for aten.foo" if broken == "build" else "no kernel image for sm_87"
    assert runtime.reason == f"tensorrt: {cause}" and lines == [f"standin_pose: stays on cuda: {cause}"]


def test_building_in_another_process_names_the_last_lines_of_a_failure(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho first >&2\necho 'error: no converter for aten.foo' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ModelError, match=r"failed \(3\): first / error: no converter for aten.foo"):
        background.build_in_another_process("pose", "pose_light", "tensorrt", Options(cache=EngineCache(tmp_path)))


def test_the_building_process_finds_this_package_and_is_alone(tmp_path, monkeypatch):
    program, log = tmp_path / "python", tmp_path / "log"
    program.write_text(f"""#!/bin/sh
echo begin >> {log}
echo "${{PYTHONPATH%%:*}}" >> {log}
sleep 0.2
echo end >> {log}
""")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.chdir(tmp_path)
    options = Options(cache=EngineCache(tmp_path))
    builds = [threading.Thread(target=background.build_in_another_process, args=(kind, f"{kind}_light", "x", options))
              for kind in ("detector", "pose")]
    for build in builds:
        build.start()
    for build in builds:
        build.join(30)
    lines = log.read_text().split()
    assert lines[0::3] == ["begin"] * 2 and lines[2::3] == ["end"] * 2       # one after the other
    assert set(lines[1::3]) == {str(Path(hand_pose_ros.__file__).parents[1])}


BUILDER = """
import signal, sys, threading
from hand_pose_ros.runtimes import background
from hand_pose_ros.runtimes.base import Options
from hand_pose_ros.runtimes.cache import EngineCache
signal.signal(signal.SIGINT, signal.default_int_handler)        # background jobs of a shell begin with it ignored
args = ("pose", "pose_light", "onnxruntime-int8", Options(cache=EngineCache(sys.argv[1])))
threading.Thread(target=background.build_in_another_process, args=args, daemon=True).start()
sys.stdin.read()
"""


def command_of(pid: int) -> str:
    """Command line of a process that lives, "" of any other."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return "" if state == "Z" else Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def wait_for(condition, seconds=60.0):
    end_s = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end_s:
        time.sleep(0.05)
    return value


@pytest.mark.parametrize("ending", ["returns", signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_build_ends_with_the_process_that_wanted_it(tmp_path, ending):
    package = str(Path(hand_pose_ros.__file__).parents[1])
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, str(tmp_path)], stdin=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": package})

    def building() -> list[int]:
        children = [int(pid) for task in Path(f"/proc/{builder.pid}/task").glob("*/children")
                    for pid in task.read_text().split()]
        return [pid for pid in children if "with_parent build-engine" in command_of(pid)]

    try:
        found = wait_for(building)
        assert found, "no build has begun"
        if ending == "returns":
            builder.stdin.close()
        else:
            builder.send_signal(ending)
        builder.wait(60)
        assert wait_for(lambda: not any(command_of(pid) for pid in found), 30), "the build goes on"
        assert not list(tmp_path.glob("*.engine"))
    finally:
        builder.kill()
        builder.wait()


def test_a_command_beside_its_parent_ends_at_once_when_the_parents_pipe_does():
    """A command that would go on for an hour, and whose output still goes somewhere."""
    package = str(Path(hand_pose_ros.__file__).parents[1])
    command = ["hand_pose_ros.runtimes.with_parent", "doctor", "--no-networks", "--seconds", "3600"]
    process = subprocess.Popen([sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               start_new_session=True, env={**os.environ, "PYTHONPATH": package})
    try:
        assert b"python" in process.stdout.readline()
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(30) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
