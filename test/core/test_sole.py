"""One program at a time in a folder: another one is refused, and nothing but the program itself keeps the lock."""
import os
import signal
import subprocess
import sys

import pytest

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.sole import sole

HOLDER = """
import os, sys, time
from hand_pose_ros.sole import sole
with sole(sys.argv[1], "training"):
    if os.fork() == 0:
        time.sleep(60)
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_a_folder_has_one_program_until_that_ends(tmp_path):
    place = tmp_path / "new" / "out"
    for _ in range(2):                                                       # an error frees it, too
        with pytest.raises(ZeroDivisionError):
            with sole(place, "training"):
                with pytest.raises(ConfigError, match=f"another training is writing into {place}: wait"):
                    with sole(place, "training"):
                        pass
                with sole(tmp_path, "training"):
                    pass
                raise ZeroDivisionError
    assert not list(place.iterdir())


def test_a_program_that_is_killed_frees_its_folder_though_a_worker_outlives_it(tmp_path):
    program = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
    try:
        program.stdout.readline()
        with pytest.raises(ConfigError):
            with sole(tmp_path, "training"):
                pass
        program.kill()
        program.wait()
        with sole(tmp_path, "training"):
            pass
    finally:
        os.killpg(program.pid, signal.SIGKILL)
