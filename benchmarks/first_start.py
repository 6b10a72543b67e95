"""How long a new user waits: the main job from a fresh clone with nothing downloaded yet, and from its second start.

    python3 benchmarks/first_start.py [--keep FOLDER]

Clones this repository's last commit into a folder of its own, with caches of its own for pip, npm, virtual hands and
built networks, and runs the README's first command twice. Prints each time against its limit, PASS or FAIL. Standard
library only; the network's speed is part of what it measures.
"""
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST_MINUTES, SECOND_S = 10.0, 10.0
FIRST_RESULT = re.compile(r"start to first result \[s\]\s+([\d.]+)")


def demo(clone: Path, environment: dict[str, str]) -> tuple[float, float]:
    """(seconds until the demo's node starts, until its first result) of the README's first command."""
    begin, ready_s, said = time.monotonic(), float("nan"), []
    call = subprocess.Popen([sys.executable, "bootstrap.py", "demo"], cwd=clone, env=environment, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in call.stdout:
        said.append(line)
        if line.startswith("bootstrap:"):
            print(f"  {line.rstrip()}", flush=True)
        if line.startswith("source: "):
            ready_s = time.monotonic() - begin
    found = FIRST_RESULT.search("".join(said))
    if call.wait() or not found:
        sys.exit("the demo failed:\n" + "".join(said[-30:]))
    return ready_s, ready_s + float(found[1])


def main() -> int:
    """Both starts; returns 1 if one took too long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder for clone and caches; must not exist (default: removed)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (args.keep or Path(scratch) / "start").absolute()
        folder.mkdir(parents=True)
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder / "clone")], check=True)
        environment = {**os.environ, "PIP_NO_CACHE_DIR": "1", "npm_config_cache": str(folder / "npm"),
                       "HAND_POSE_ASSETS": str(folder / "assets"), "ROS_HOME": str(folder / "ros")}
        failed = False
        for name, limit_s in (("fresh clone, everything downloaded", 60 * FIRST_MINUTES), ("second start", SECOND_S)):
            print(name, flush=True)
            ready_s, first_s = demo(folder / "clone", environment)
            failed |= first_s > limit_s
            verdict = "FAIL" if first_s > limit_s else "PASS"
            print(f"{verdict}  {name}: first hands after {first_s:.0f} s, of which the set-up {ready_s:.0f} s (limit "
                  f"{limit_s:.0f} s)", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
