"""Package metadata, requirements, commands and share files agree with one another."""
import os
import re
import subprocess
import sys
from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path

import pytest

import hand_pose_ros
from hand_pose_ros import cli, resources
from hand_pose_ros.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


def text(name):
    return (ROOT / name).read_text("utf8")


def test_package_xml_is_accepted_by_the_ros_tools():
    """A package.xml that catkin_pkg rejects makes colcon treat the package as plain Python."""
    from catkin_pkg.package import parse_package
    warnings = []
    package = parse_package(str(ROOT / "package.xml"), warnings=warnings)
    package.validate(warnings=warnings)
    assert not warnings
    assert package.name == "hand_pose_ros" and package.get_build_type() == "ament_cmake"
    assert [group.name for group in package.member_of_groups] == ["rosidl_interface_packages"]


def test_one_version_everywhere():
    versions = {
        "package.xml": re.search(r"<version>(.+?)</version>", text("package.xml")).group(1),
        "pyproject.toml": re.search(r'^version = "(.+)"', text("pyproject.toml"), re.M).group(1),
        "CHANGELOG.rst": re.search(r"^(\d+\.\d+\.\d+)", text("CHANGELOG.rst"), re.M).group(1),
        "__init__.py": hand_pose_ros.__version__,
    }
    assert len(set(versions.values())) == 1, versions


def requirement_lines(name):
    for line in text(f"requirements/{name}").splitlines():
        requirement, _, reason = line.partition("#")
        if requirement.strip():
            yield requirement.strip(), reason.strip()


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "requirements").glob("*.txt")))
def test_every_requirement_is_pinned_and_has_a_reason(name):
    explained = ""
    for requirement, reason in requirement_lines(name):
        project = re.match(r"[A-Za-z0-9_.-]+", requirement).group(0)
        if name != "build.txt":
            assert "==" in requirement, requirement
        # A second line of the same project, or of the same family of generators, shares the reason above it.
        family = project.startswith(("ros-rosidl", "ros-ament"))
        assert reason or project == explained or family, f"{name}: say in one line why {project} was chosen"
        explained = project


def test_pip_builds_with_what_bootstrap_installs():
    """pyproject.toml (a build of its own) and requirements/build.txt (into .venv) name the same build tools."""
    listed = dict(re.findall(r'^    "([A-Za-z0-9_-]+)([^"]*)",', text("pyproject.toml"), re.M))
    for requirement, _ in requirement_lines("build.txt"):
        name, version = re.match(r"([A-Za-z0-9_-]+)(.*)", requirement).groups()
        if name not in ("wheel", "ros-ament-cmake-pytest"):
            assert listed[name] == version, name


def test_opencv_stays_below_5():
    """cv_bridge fails with OpenCV 5 (KeyError: 16)."""
    (version,) = re.findall(r"^opencv-python-headless==(\d+)\.", text("requirements/core.txt"), re.M)
    assert int(version) == 4


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_command(name):
    module = import_module(cli.COMMANDS[name][0])
    parser = ArgumentParser()
    module.add_arguments(parser)
    assert callable(module.main)
    help_text = parser.format_help()
    for action in parser._actions:
        assert action.help, f"{name}: {action.dest} has no help"
    assert help_text


def test_help_is_fast_because_it_imports_nothing():
    script = ("import sys; from hand_pose_ros.cli import main; status = main(['--help']);"
              "heavy = {'numpy', 'cv2', 'torch', 'rclpy'} & set(sys.modules); sys.exit(status or ' '.join(heavy) or 0)")
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in cli.COMMANDS)


def test_an_unknown_command_names_the_choices(capsys):
    assert cli.main(["asets"]) == 2
    assert "did you mean 'assets'" in capsys.readouterr().err


def test_a_missing_optional_module_is_a_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "needs_more.py").write_text("import module_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "more", ("needs_more", "help"))
    assert cli.main(["more"]) == 2
    assert "'module_that_nobody_has', which is not installed" in capsys.readouterr().err


def test_ros_arguments_of_a_launch_file_are_left_out(tmp_path, monkeypatch):
    (tmp_path / "echo_command.py").write_text(
        "def add_arguments(parser):\n    parser.add_argument('word')\n"
        "def main(args):\n    return len(args.word)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "echo", ("echo_command", "help"))
    monkeypatch.setattr(sys, "argv", ["echo", "four", "--ros-args", "-r", "__node:=x"])
    assert cli.run_for_ros("echo") == 4
    assert cli.main(["echo", "three", "--ros-args", "-p", "x:=1"]) == 5


def test_share_folders_are_found_in_source_and_in_any_prefix(tmp_path):
    assert resources.folder("msg") == ROOT / "msg"
    with pytest.raises(ConfigError, match="no_such_folder"):
        resources.folder("no_such_folder")
    for layout in ("lib/python3.12/site-packages", "local/lib/python3.10/dist-packages"):
        prefix = tmp_path / layout.partition("/")[0] / "prefix"
        code, share = prefix / layout / "hand_pose_ros", prefix / "share" / "hand_pose_ros"
        code.mkdir(parents=True)
        (share / "models").mkdir(parents=True)
        (share / "package.xml").touch()
        for name in ("__init__.py", "errors.py", "resources.py"):
            (code / name).write_text(text(f"hand_pose_ros/{name}"))
        script = "from hand_pose_ros import resources; print(resources.folder('models'))"
        result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True,
                                env=dict(os.environ, PYTHONPATH=str(code.parent)))
        assert result.stdout.strip() == str(share / "models"), result.stderr


def test_launchers_start_what_exists():
    """Each executable of CMakeLists.txt names a command of the table, or a module with a main()."""
    source = text("CMakeLists.txt")
    (commands,) = re.findall(r"foreach\(command IN ITEMS ([^)]*)\)", source)
    assert set(commands.split()) <= set(cli.COMMANDS)
    nodes = ["node", *(path.stem for path in (ROOT / "hand_pose_ros" / "ros").glob("*_node.py"))]
    for name in nodes:
        assert callable(import_module(f"hand_pose_ros.ros.{name}").main)


def test_installed_launchers_run():
    """Where `ros2 run` looks for them; executable also where colcon has only linked them."""
    loaded = Path(import_module("hand_pose_ros.msg").__file__).parents
    prefix = next(folder for folder in loaded if (folder / "share" / "hand_pose_ros" / "cmake").is_dir())
    launchers = sorted((prefix / "lib" / "hand_pose_ros").iterdir())
    assert {"hand_pose_node", "build_engine", "evaluate", "doctor"} <= {path.name for path in launchers}
    assert all(os.access(path, os.X_OK) for path in launchers)
    assert all("import hand_pose_ros.one_blas_thread\nfrom" in path.read_text() for path in launchers)
    result = subprocess.run([str(prefix / "lib" / "hand_pose_ros" / "build_engine"), "--help", "--ros-args"],
                            capture_output=True, text=True)
    assert result.returncode == 0 and "usage: hand-pose build-engine" in result.stdout, result.stderr


def test_names_of_test_files_are_unique():
    """pytest imports test files by their name alone."""
    names = [path.name for path in (ROOT / "test").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(set(names)) == sorted(names)


def test_no_line_is_longer_than_120_characters():
    """Tables of Markdown apart, which cannot be broken."""
    kinds = {".py", ".md", ".rst", ".msg", ".xml", ".yaml", ".toml", ".txt", ".cmake", ".cpp", ".in"}
    folders = ("hand_pose_ros", "benchmarks", "cmake", "config", "docs", "launch", "msg", "requirements", "test")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if file.suffix in kinds]
    files += [file for file in ROOT.iterdir() if file.is_file() and file.suffix in kinds]
    assert len(files) > 100
    assert [f"{file.relative_to(ROOT)}:{number}" for file in files
            for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1)
            if len(line) > 120 and not line.startswith("|")] == []
