"""bootstrap.py: what it decides, with the slow steps replaced by notes of what would have run."""
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    """The module, working on a small copy of the tree; ``commands`` lists what its steps were asked to run."""
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", ROOT / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in module.BUILD_INPUTS + ("requirements",):
        source, target = ROOT / name, tmp_path / name
        files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
        for path in files:
            copy = target / path.relative_to(source) if source.is_dir() else target
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    module.commands = []

    def run(step, command, environment=None):
        module.commands.append(command)
        if "venv" in command:
            (tmp_path / ".venv" / "bin").mkdir(parents=True)
            (tmp_path / ".venv" / "bin" / "python").touch()

    monkeypatch.setattr(module.Step, "run", run)
    monkeypatch.setattr(module, "runs", lambda: True)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "LOG", tmp_path / ".venv" / "bootstrap.log")
    return module


def test_second_start_runs_nothing(bootstrap):
    bootstrap.set_up(bootstrap.FULL_SETS)
    assert [("venv" in command, "-r" in command, "-e" in command) for command in bootstrap.commands] == [
        (True, False, False), (False, True, False), (False, False, True)]
    bootstrap.commands.clear()
    bootstrap.set_up(bootstrap.FULL_SETS)
    assert bootstrap.commands == []


@pytest.mark.parametrize("changed, packages, package", [
    ("msg/HandPose21.msg", False, True), ("CMakeLists.txt", False, True), ("setup.py", False, True),
    ("wheels_only/tf2_msgs/msg/TFMessage.msg", False, True), ("requirements/train.txt", True, True),
    ("requirements/colcon.txt", False, False),
])
def test_a_change_repeats_what_depends_on_it(bootstrap, changed, packages, package):
    bootstrap.set_up(bootstrap.FULL_SETS)
    bootstrap.commands.clear()
    path = bootstrap.ROOT / changed
    path.write_text(path.read_text() + "\n# changed\n")
    bootstrap.set_up(bootstrap.FULL_SETS)
    assert ["-r" in command for command in bootstrap.commands] == [True] * packages + [False] * package


def test_a_step_that_failed_is_repeated(bootstrap, monkeypatch):
    def fail(step, command, environment=None):
        raise bootstrap.Failure("no network")

    bootstrap.set_up(bootstrap.CORE_SETS)
    with monkeypatch.context() as broken:
        broken.setattr(bootstrap.Step, "run", fail)
        with pytest.raises(bootstrap.Failure):
            bootstrap.set_up(bootstrap.FULL_SETS)
    bootstrap.commands.clear()
    bootstrap.set_up(bootstrap.FULL_SETS)
    assert len(bootstrap.commands) == 2


def test_assets_are_fetched_once(bootstrap):
    (bootstrap.ROOT / "hand_pose_ros" / "synthesis").mkdir(parents=True)
    source = bootstrap.ROOT / "hand_pose_ros" / "synthesis" / "assets.py"
    source.write_text("PACKAGES = 1")
    bootstrap.set_up(bootstrap.FULL_SETS)
    bootstrap.commands.clear()
    bootstrap.fetch_assets()
    bootstrap.fetch_assets()
    assert [command[-1] for command in bootstrap.commands] == ["assets"]
    source.write_text("PACKAGES = 2")
    bootstrap.fetch_assets()
    assert len(bootstrap.commands) == 2


def test_networks_are_built_once_for_these_weights(bootstrap, monkeypatch, capsys):
    card = bootstrap.ROOT / "models" / "pose_light" / "card.json"
    card.parent.mkdir(parents=True)
    card.write_text("first")
    bootstrap.set_up(bootstrap.FULL_SETS)
    bootstrap.commands.clear()
    bootstrap.build_networks()
    bootstrap.build_networks()
    assert [command[-1] for command in bootstrap.commands] == ["build-engine"]
    card.write_text("second")

    def fail(step, command, environment=None):
        raise bootstrap.Failure("no TensorRT")

    with monkeypatch.context() as broken:                       # the node serves without, so the job goes on
        broken.setattr(bootstrap.Step, "run", fail)
        bootstrap.build_networks()
    assert "no TensorRT" in capsys.readouterr().out
    bootstrap.build_networks()
    assert len(bootstrap.commands) == 2


def test_missing_system_packages_are_named_with_the_command(bootstrap):
    needs = {"there": (lambda: True, "package-there"), "a thing": (lambda: False, "package-thing")}
    with pytest.raises(bootstrap.Failure, match="apt-get install -y --no-install-recommends package-thing'"):
        bootstrap.check_system(needs, install=False)
    assert bootstrap.commands == []
    bootstrap.check_system(needs, install=True)
    assert "package-thing" in bootstrap.commands[0][-1] and "package-there" not in bootstrap.commands[0][-1]


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 14, 0)])
def test_a_python_without_ros_wheels_is_refused(bootstrap, monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(bootstrap.Failure, match="3.10 to 3.13"):
        bootstrap.check_python()


def test_a_sourced_ros_install_stays_outside(bootstrap, monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/humble")
    monkeypatch.setenv("PYTHONPATH", "/opt/ros/humble/lib/python3.10/site-packages")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/ros/humble/lib")
    monkeypatch.setenv("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "1")
    environment = bootstrap.clean_environment()
    assert not any("/opt/ros" in value for name, value in environment.items() if name not in ("PATH", "OLDPWD"))
    assert "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in environment
    assert environment["PATH"].startswith(str(bootstrap.VENV / "bin") + os.pathsep)


def test_a_failing_step_shows_the_end_of_its_output(capsys):
    spec = importlib.util.spec_from_file_location("bootstrap_plain", ROOT / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.VENV = ROOT / "no-such-folder"
    with pytest.raises(module.Failure, match="status 3:\nlast words"):
        with module.Step("try") as step:
            step.run([sys.executable, "-c", "print('last words'); raise SystemExit(3)"])
    assert "try ..." in capsys.readouterr().out


def test_a_silent_step_says_that_it_is_alive(capsys, monkeypatch):
    spec = importlib.util.spec_from_file_location("bootstrap_plain", ROOT / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.Step, "QUIET_S", 0.01)
    with module.Step("wait"):
        deadline = time.monotonic() + 10
        while "  " not in capsys.readouterr().out and time.monotonic() < deadline:
            time.sleep(0.01)
    assert time.monotonic() < deadline


def test_usage(tmp_path):
    for arguments, status in ((["--help"], 0), ([], 2), (["--nonsense", "test"], 2)):
        result = subprocess.run([sys.executable, str(ROOT / "bootstrap.py"), *arguments], cwd=tmp_path,
                                capture_output=True, text=True)
        assert result.returncode == status
        assert "python3 bootstrap.py demo" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_is_none_is_refused_before_anything_is_set_up(bootstrap, capsys):
    assert bootstrap.main(["tets"]) == 1 and not bootstrap.commands
    said = capsys.readouterr().err
    assert "'tets'" in said and "test, run, demo" in said and "evaluate" in said


def test_an_environment_that_was_half_made_or_moved_is_made_again(bootstrap, monkeypatch, tmp_path):
    bootstrap.set_up(bootstrap.FULL_SETS)
    bootstrap.commands.clear()
    (tmp_path / ".venv" / "venv.stamp").unlink()            # ended by Ctrl-C: its python runs, but there is no pip
    bootstrap.set_up(bootstrap.FULL_SETS)
    assert ["venv" in command for command in bootstrap.commands] == [True, False, False]
    bootstrap.commands.clear()
    (tmp_path / ".venv" / "venv.stamp").write_text("another folder (3, 11)")
    bootstrap.set_up(bootstrap.FULL_SETS)
    assert len(bootstrap.commands) == 3


def test_an_error_of_the_system_is_said_without_a_traceback(bootstrap, monkeypatch, capsys):
    def full(sets):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(bootstrap, "set_up", full)
    monkeypatch.setattr(bootstrap, "check_system", lambda needs, install: None)
    assert bootstrap.main(["setup"]) == 1 and "No space left" in capsys.readouterr().err


@pytest.mark.parametrize("words, expected", [
    (["test"], []), (["test", "-x"], ["-x"]), (["--core", "test"], ["test/core"]),
    (["--core", "test", "-k", "crop"], ["-k", "crop", "test/core"]),
    (["--core", "test", "test/core/test_crop.py::test_a"], ["test/core/test_crop.py::test_a"])])
def test_tests_run_in_the_tree_wherever_one_stands(bootstrap, monkeypatch, tmp_path, words, expected):
    (tmp_path / "test" / "core").mkdir(parents=True)
    (tmp_path / "test" / "core" / "test_crop.py").touch()
    for name in ("check_system", "fetch_assets", "set_up"):
        monkeypatch.setattr(bootstrap, name, lambda *_, **__: None)
    ran = []
    monkeypatch.setattr(bootstrap.os, "execve", lambda program, command, _: ran.append((command, os.getcwd())))
    monkeypatch.chdir("/")
    bootstrap.main(words)
    ((command, where),) = ran
    assert command[1:] == ["-m", "pytest", *expected] and where == str(tmp_path)
