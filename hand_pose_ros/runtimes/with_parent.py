"""``python3 -m hand_pose_ros.runtimes.with_parent COMMAND ...``: a command that does not outlive its parent.

Standard input is a pipe to which nobody writes. It ends when the parent closes it or is gone, killed or not; then this
process and all that it started end at once. What is half built is no harm: the cache keeps whole files only. Where
memory is short, this process is ended before others.
"""
from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading


def end_with_parent() -> None:
    """Returns at once; from then on the end of standard input is the end of this process group, or of this process
    alone if it does not lead a group of its own."""
    def wait() -> None:
        os.read(0, 1)                                        # sys.stdin would be locked when the interpreter ends
        if os.getpid() == os.getpgrp():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, name="end with parent", daemon=True).start()


def end_first() -> None:
    """Of this process and those that it starts the kernel frees memory before it looks at others: a build on a Jetson
    shares the memory of the node that serves."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("800")


if __name__ == "__main__":
    end_with_parent()
    end_first()
    from hand_pose_ros.cli import main

    sys.exit(main())
