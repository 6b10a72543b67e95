"""pip's way to the same installation as colcon's: build_ext runs CMakeLists.txt and hands its result to setuptools.

Libraries, headers and CMake files go to <prefix>/lib, include and share, so that the virtual environment is an ament
prefix like the ones the ROS wheels from PyPI make. The wheels' start-up hook looks for libraries in <prefix>/lib only.
Names, versions and dependencies are in pyproject.toml.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BUILD = ROOT / "build" / f"pip-{sys.implementation.cache_tag}"
PYTHON_DIR = Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
SOURCE_FOLDERS = ("launch", "config", "models", "test")


class CMakeBuild(build_ext):
    """Build and install with CMake into a private prefix, then hand every file of it to setuptools."""

    def run(self) -> None:
        # CMake remembers the paths of pip's temporary build environment, which is gone at the next build.
        shutil.rmtree(BUILD, ignore_errors=True)
        prefix = BUILD / "prefix"
        run_cmake(ROOT, BUILD / "hand_pose_ros", prefix)
        if not owned_by_another("tf2_msgs"):
            run_cmake(ROOT / "wheels_only" / "tf2_msgs", BUILD / "tf2_msgs", prefix)
        for path in sorted(prefix.rglob("*")):
            if path.is_file():
                self.add(path, path.relative_to(prefix))

    def add(self, path: Path, relative: Path) -> None:
        """Put one installed file into the wheel, or leave it out where pip or the source tree already has it."""
        if relative.parts[0] == "bin" or "__pycache__" in relative.parts:
            return                              # pip writes its own launcher, from [project.scripts], and its own cache
        is_python = PYTHON_DIR in relative.parents
        if is_python and relative.relative_to(PYTHON_DIR).parts[0].endswith(".egg-info"):
            return                              # the wheel has its own metadata
        if self.editable_mode and in_source_tree(relative):
            return                              # the source tree is used in place; only generated files are installed
        if is_python and not self.editable_mode:
            target = Path(self.build_lib) / relative.relative_to(PYTHON_DIR)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        else:
            self.distribution.data_files.append((str(relative.parent), [str(path.relative_to(ROOT))]))

    def get_outputs(self) -> list[str]:
        return []

    def get_source_files(self) -> list[str]:
        return []


class CMakeDistribution(Distribution):
    """Tell setuptools before the build what it would see only afterwards: compiled files and data files."""

    def has_ext_modules(self) -> bool:
        return True

    def has_data_files(self) -> bool:           # asked for a normal install
        return True

    def has_data(self) -> bool:                 # asked for an editable one
        return True


def run_cmake(source: Path, build: Path, prefix: Path) -> None:
    """Configure, build and install one CMake project; raises CalledProcessError with CMake's output on the terminal."""
    prefixes = os.pathsep.join(ament_prefixes())
    environment = dict(os.environ, AMENT_PREFIX_PATH=prefixes, CMAKE_PREFIX_PATH=prefixes)
    configure = [
        "cmake", "-S", str(source), "-B", str(build), "-G", "Ninja", f"-DCMAKE_INSTALL_PREFIX={prefix}",
        "-DCMAKE_BUILD_TYPE=Release", f"-DPython3_EXECUTABLE={sys.executable}", f"-DPYTHON_INSTALL_DIR={PYTHON_DIR}",
        "-DBUILD_TESTING=OFF",
    ]
    for command in (configure, ["cmake", "--build", str(build)], ["cmake", "--install", str(build)]):
        subprocess.run(command, check=True, env=environment)


def ament_prefixes() -> list[str]:
    """Prefixes with ament packages: pip's temporary build environment (if any) first, then the environment itself."""
    prefixes = []
    for entry in sys.path:
        for prefix in Path(entry).parents:
            if (prefix / "share" / "ament_index").is_dir() and str(prefix) not in prefixes:
                prefixes.append(str(prefix))
    return prefixes


def owned_by_another(package: str) -> bool:
    """True if a ROS install or another distribution in this environment brings the message package."""
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix and Path(prefix) != Path(sys.prefix) and (Path(prefix) / "share" / package / "package.xml").exists():
            return True
    names = {package.replace("_", "-"), "ros-" + package.replace("_", "-")}
    installed = metadata.distributions(path=[sysconfig.get_path("purelib")])
    return any((found.metadata["Name"] or "").lower().replace("_", "-") in names for found in installed)


def in_source_tree(relative: Path) -> bool:
    """True if the installed file is a copy of a file of this source tree that is found in place."""
    if PYTHON_DIR in relative.parents:
        return (ROOT / relative.relative_to(PYTHON_DIR)).exists()
    return relative.parts[:2] == ("share", "hand_pose_ros") and relative.parts[2] in SOURCE_FOLDERS


setup(
    ext_modules=[Extension("hand_pose_ros.messages_built_by_cmake", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
    distclass=CMakeDistribution,
    package_dir={"": "."},
    data_files=[],
    zip_safe=False,
)
