"""The command table: what reaches a command, and what does not."""
from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType

import pytest

from hand_pose_ros import cli
from hand_pose_ros.errors import ConfigError


@pytest.fixture
def command(monkeypatch):
    """A command 'try' that remembers its arguments; ros: whether it starts a node."""
    def make(ros):
        module, seen = ModuleType("tried_command"), []

        def add_arguments(parser):
            parser.add_argument("--image")
            if ros:
                parser.add_argument("--ros-args", nargs="*", default=[])
        module.add_arguments, module.main = add_arguments, lambda args: seen.append(args)
        monkeypatch.setitem(sys.modules, "tried_command", module)
        monkeypatch.setitem(cli.COMMANDS, "try", ("tried_command", "a test"))
        return seen
    return make


def test_a_node_gets_its_ros_arguments(command):
    seen = command(ros=True)
    assert cli.main(["try", "--image", "/x", "--ros-args", "-p", "image_topic:=/y", "-r", "__ns:=/cam"]) == 0
    assert seen[0].image == "/x" and seen[0].ros_args == ["-p", "image_topic:=/y", "-r", "__ns:=/cam"]


def test_other_commands_are_not_disturbed_by_them(command):
    seen = command(ros=False)
    assert cli.main(["try", "--image", "/x", "--ros-args", "-r", "__node:=evaluate"]) == 0
    assert vars(seen[0]) == {"image": "/x"}


def test_an_unknown_command_names_the_nearest(capsys):
    assert cli.main(["doktor"]) == 2
    assert "doctor" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="predict"):
        cli.run("predikt", [])


@pytest.mark.parametrize("entry", ["hand_pose_ros.cli", "hand_pose_ros.one_blas_thread"])
@pytest.mark.parametrize("user, expected", [(None, 1), ("2", 2)])
def test_numpy_starts_with_one_thread_unless_the_user_says_so(entry, user, expected):
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment.update({"OPENBLAS_NUM_THREADS": user} if user else {})
    program = (f"import sys, {entry}; assert 'numpy' not in sys.modules\n"
               "import os, numpy as np; a = np.ones((600, 600)); a @ a; print(len(os.listdir('/proc/self/task')))")
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == min(expected, len(os.sched_getaffinity(0)))
