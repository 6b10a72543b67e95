#!/usr/bin/env python3
"""Set up everything below .venv/ in this folder and run a job in it. Standard library only; Python 3.10 to 3.13.
Outside of .venv/ and build/ it writes only to the user's caches (pip's, 20 MB of assets for the virtual hands, and
networks built for this machine: in ROS_HOME if that is set).

    python3 bootstrap.py demo [...]      the main job: hands out of a bag, a webcam, a video or images, through the node
    python3 bootstrap.py test [...]      all tests; further arguments go to pytest
    python3 bootstrap.py setup           only the set-up
    python3 bootstrap.py COMMAND [...]   any command of `hand-pose` (render, train, evaluate, ...)

Options before the job:
    --core             leave out torch, the renderer and the plots; `test` then runs test/core alone
    --install-system   install missing system packages with apt-get (needs root) instead of only naming them

The package is installed in editable form: the source tree is used in place and only the generated message package,
which changes seldom and takes a compiler, is built, once. So there is never a stale copy of the code under .venv/, and
a second start costs one hash over a few small files. A robot with a ROS install uses colcon instead and does not need
this file.
"""
from __future__ import annotations

import contextlib
import ctypes.util
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
LOG = VENV / "bootstrap.log"
SUPPORTED = ((3, 10), (3, 13))
CORE_SETS = ("build", "core", "ros", "test")
FULL_SETS = CORE_SETS + ("train",)
BUILD_INPUTS = ("CMakeLists.txt", "setup.py", "pyproject.toml", "package.xml", "cmake", "msg", "wheels_only")

PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
APT_BASE = {
    "a C++ compiler": (lambda: shutil.which("c++") or shutil.which("g++"), "g++"),
    "Python's C headers": (lambda: (Path(sysconfig.get_path("include")) / "Python.h").exists(), f"{PYTHON}-dev"),
    "Python's venv module": (lambda: module_exists("ensurepip"), f"{PYTHON}-venv"),
}
APT_VIRTUAL_HANDS = {
    "EGL": (lambda: ctypes.util.find_library("EGL"), "libegl1"),
    "OpenGL": (lambda: ctypes.util.find_library("GL"), "libgl1"),
    "an OpenGL driver": (lambda: any_opengl_driver(), "libgl1-mesa-dri"),
    "npm": (lambda: shutil.which("npm"), "npm"),
}
"""What is needed: (how to see that it is there, its package on Debian and Ubuntu). npm fetches skins and meshes."""

OWN_JOBS = ("setup", "test")
VIRTUAL_HANDS_JOBS = ("setup", "test", "render", "train", "gpu-train", "assets")
"""Jobs that render virtual hands; the node, its demo and the evaluation do not."""
NODE_JOBS = ("demo", "run", "teleop-demo")
"""Jobs that start the node, which serves through a slower runtime until the networks are built for this machine."""


class Failure(Exception):
    """Ends the set-up with a sentence that says what is wrong and what to do."""


def main(arguments: list[str]) -> int:
    options = []
    while arguments and arguments[0].startswith("--"):
        options.append(arguments.pop(0))
    unknown = set(options) - {"--core", "--install-system", "--help"}
    if not arguments or unknown or "--help" in options:
        print(f"unknown option: {' '.join(sorted(unknown))}\n" if unknown else "", __doc__, sep="")
        return 0 if "--help" in options and not unknown else 2
    core = "--core" in options
    job, *rest = arguments
    try:
        started = time.monotonic()
        check_python()
        check_job(job)
        renders = job in VIRTUAL_HANDS_JOBS and not core
        check_system({**APT_BASE, **APT_VIRTUAL_HANDS} if renders else APT_BASE, install="--install-system" in options)
        set_up(CORE_SETS if core else FULL_SETS)
        if renders:
            fetch_assets()
        if job in NODE_JOBS and not core and not {"-h", "--help"} & set(rest):
            build_networks()
        say(f"ready after {time.monotonic() - started:.1f} s")
    except (Failure, OSError) as failure:
        print(f"bootstrap: {failure}", file=sys.stderr)
        return 1
    if job == "setup":
        return 0
    if job == "test":
        os.chdir(ROOT)                                      # pytest's settings and the tests' paths
        chosen = any((ROOT / argument.partition("::")[0]).exists() for argument in rest)
        command = [str(python()), "-m", "pytest", *rest, *(["test/core"] if core and not chosen else [])]
    else:
        command = [str(python()), "-m", "hand_pose_ros", job, *rest]
    say("run: " + " ".join(command))
    os.execve(command[0], command, clean_environment())


# ---- what must be there before -----------------------------------------------------------------------------------

def check_python() -> None:
    low, high = SUPPORTED
    if not low <= sys.version_info[:2] <= high:
        names = " to ".join(".".join(map(str, version)) for version in SUPPORTED)
        raise Failure(f"Python {platform.python_version()} has no ROS wheels; use one of {names}: "
                      f"python3.12 bootstrap.py ...")
    if sys.platform != "linux":
        raise Failure(f"the ROS wheels on PyPI are for Linux; this is {sys.platform}. Use a container or a Linux "
                      "machine.")


def check_job(job: str) -> None:
    """A misspelt job must not set everything up first. The table of hand-pose needs the standard library alone."""
    sys.path.insert(0, str(ROOT))
    sys.dont_write_bytecode = True                          # by another Python than that of .venv
    try:
        from hand_pose_ros.cli import COMMANDS
    finally:
        sys.path.remove(str(ROOT))
    if job not in OWN_JOBS + tuple(COMMANDS):
        raise Failure(f"there is no job '{job}'; choose one of: {', '.join((*OWN_JOBS, *COMMANDS))}")


def check_system(needs: dict, install: bool) -> None:
    """Name, or with ``install`` get, the system packages that are missing."""
    missing = {what: package for what, (present, package) in needs.items() if not present()}
    if not missing:
        return
    packages = sorted(set(missing.values()))
    command = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"
    if not install:
        raise Failure(f"missing on this machine: {', '.join(missing)}. On Debian or Ubuntu: sudo sh -c '{command}'\n"
                      f"(as root in a container: python3 bootstrap.py --install-system ...)")
    with Step(f"install {' '.join(packages)} with apt-get") as step:
        step.run(["sh", "-c", command], dict(os.environ, DEBIAN_FRONTEND="noninteractive"))


def module_exists(name: str) -> bool:
    import importlib.util
    return importlib.util.find_spec(name) is not None


def any_opengl_driver() -> bool:
    """True if Mesa's or NVIDIA's driver is in one of the usual folders."""
    folders = [Path("/usr/lib"), *Path("/usr/lib").glob("*-linux-gnu"), Path("/usr/lib64")]
    patterns = ("dri/swrast_dri.so", "libgallium*.so*", "libEGL_nvidia.so*", "libnvidia-egl*.so*", "tegra/libEGL*")
    return any(next(folder.glob(pattern), None) for folder in folders for pattern in patterns)


# ---- the environment ---------------------------------------------------------------------------------------------

def set_up(sets: tuple[str, ...]) -> None:
    """Make .venv, install what ``sets`` pin, build the message package. Each part is skipped if nothing it depends on
    has changed since it last succeeded."""
    files = [ROOT / "requirements" / f"{name}.txt" for name in sets]
    home = f"{ROOT} {sys.version_info[:2]}"                 # its scripts hold the path, and it may be half made
    if not python().exists() or not done("venv", home) or not runs():
        with Step("make .venv") as step:
            shutil.rmtree(VENV, ignore_errors=True)
            step.run([sys.executable, "-m", "venv", str(VENV)])
        mark("venv", home)
    pip = [str(python()), "-m", "pip", "--disable-pip-version-check"]
    packages = fingerprint(files)
    if not done("packages", packages):
        with Step(f"install the pinned packages of {', '.join(path.name for path in files)}") as step:
            requirements = [argument for path in files for argument in ("-r", str(path))]
            step.run([*pip, "install", "--progress-bar", "off", *requirements], clean_environment())
        mark("packages", packages)
    # A change of the packages can change the message generators, so their fingerprint is part of this one.
    build = fingerprint([ROOT / name for name in BUILD_INPUTS]) + packages
    if not done("package", build):
        with Step("build the message package and install hand_pose_ros") as step:
            step.run([*pip, "install", "--no-build-isolation", "--no-deps", "-v", "-e", str(ROOT)], clean_environment())
        mark("package", build)


def fetch_assets() -> None:
    """Meshes, skins and light probes, 20 MB into the user's cache; `hand-pose assets` checks them by their
    checksums."""
    pinned = fingerprint([ROOT / "hand_pose_ros" / "synthesis" / "assets.py"])
    if not done("assets", pinned):
        with Step("fetch the assets of the virtual hands") as step:
            step.run([str(python()), "-m", "hand_pose_ros", "assets"], clean_environment())
        mark("assets", pinned)


def build_networks() -> None:
    """The networks as this machine runs them fastest, in the user's engine cache. A failure is said, not fatal: the
    node serves without."""
    pinned = fingerprint(sorted((ROOT / "models").glob("*/card.json")))
    if not done("networks", pinned):
        try:
            with Step("build the networks for this machine") as step:
                step.run([str(python()), "-m", "hand_pose_ros", "build-engine"], clean_environment())
            mark("networks", pinned)
        except Failure as failure:
            say(f"{failure}\nbootstrap: going on; the node takes a slower runtime and says which")


def python() -> Path:
    return VENV / "bin" / "python"


def runs() -> bool:
    """True if .venv belongs to the Python that runs this file, and works."""
    query = [str(python()), "-S", "-c", "import sys; print(sys.version_info[:2])"]
    answer = subprocess.run(query, capture_output=True, text=True, env=clean_environment())
    return answer.stdout.strip() == str(sys.version_info[:2])


def clean_environment() -> dict[str, str]:
    """The environment for .venv, without what a sourced ROS install or another environment of ROS wheels left there:
    two ROS distributions in one process do not work."""
    environment = dict(os.environ)
    ros = environment.get("AMENT_PREFIX_PATH") or environment.get("_ROS_WHEELS_BOOTSTRAP_COMPLETE")
    for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "ROS_DISTRO", "RMW_IMPLEMENTATION",
                 "_ROS_WHEELS_BOOTSTRAP_COMPLETE", "PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__"):
        environment.pop(name, None)
    if ros:
        environment.pop("LD_LIBRARY_PATH", None)
    environment["VIRTUAL_ENV"] = str(VENV)
    environment["PATH"] = os.pathsep.join([str(VENV / "bin"), environment.get("PATH", os.defpath)])
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def fingerprint(paths: list[Path]) -> str:
    """SHA-256 over names and contents of files and folders, and over where this tree is."""
    digest = hashlib.sha256(f"{ROOT} {platform.python_version()}".encode())
    for path in paths:
        files = sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]
        for file in files:
            digest.update(f"{file.relative_to(ROOT)} {file.stat().st_size} ".encode() + file.read_bytes())
    return digest.hexdigest()


def done(part: str, value: str) -> bool:
    stamp = VENV / f"{part}.stamp"
    return stamp.exists() and stamp.read_text() == value


def mark(part: str, value: str) -> None:
    (VENV / f"{part}.stamp").write_text(value)


# ---- saying what goes on -----------------------------------------------------------------------------------------

def say(text: str) -> None:
    print(f"bootstrap: {text}", flush=True)


class Step:
    """One slow step: says what it does, that it is alive, and how long it took; the whole output is in the log."""

    QUIET_S = 10.0

    def __init__(self, title: str) -> None:
        self.title = title
        self.lines: list[str] = []
        self.finished = threading.Event()

    def __enter__(self) -> Step:
        self.started = time.monotonic()
        say(f"{self.title} ...")
        threading.Thread(target=self.report, daemon=True).start()
        return self

    def __exit__(self, kind, *_) -> None:
        self.finished.set()
        if kind is None:
            say(f"{self.title}: {time.monotonic() - self.started:.1f} s")

    def report(self) -> None:
        while not self.finished.wait(self.QUIET_S):
            found = sum(line.startswith("Collecting ") for line in self.lines)
            last = self.lines[-1].strip()[:90] if self.lines else ""
            say(f"  {time.monotonic() - self.started:4.0f} s  {f'{found} packages found; ' if found else ''}{last}")

    def run(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        """Run the command; raises Failure with the end of its output if it fails."""
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors="replace")
        for line in process.stdout:
            self.lines.append(line)
        status = process.wait()
        if VENV.exists():
            with contextlib.suppress(OSError), LOG.open("a") as log:        # a full disk is what the command says
                log.writelines([f"$ {' '.join(command)}\n", *self.lines])
        if status:
            raise Failure(f"{self.title} failed with status {status}:\n{''.join(self.lines[-25:])}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
