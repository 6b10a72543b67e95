"""Fetching assets: nothing unverified is installed, and every failure names the remedy. No network: fake packages."""
import argparse
import dataclasses
import hashlib
import io
import json
import tarfile
import zipfile

import pytest

from hand_pose_ros.errors import DataError
from hand_pose_ros.synthesis import assets


def _wheel(path):
    with zipfile.ZipFile(path, "w") as whole:
        whole.writestr("pkg/data/mesh.obj", "v 0 0 0\n")
        whole.writestr("pkg/data/unwanted.bin", "x" * 100)
    return path


def _tarball(path):
    with tarfile.open(path, "w:gz") as whole:
        for name, text in (("package/hdri/lab.exr.js", "export default 'data:application/exr;base64,di8xAQ=='"),
                           ("package/LICENSE.md", "CC0")):
            data = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            whole.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Two fake packages, pinned to what they are, and an empty asset folder."""
    archives = {"mesh": _wheel(tmp_path / "mesh.whl"), "light": _tarball(tmp_path / "light.tgz")}
    packages = tuple(
        assets.Package(name, "1.0", kind, hashlib.sha256(archives[name].read_bytes()).hexdigest(), name, keep,
                       "CC0-1.0",
                       "somebody")
        for name, kind, keep in (("mesh", "pypi", (r"pkg/data/(.*\.obj)",)),
                                 ("light", "npm", (r"package/hdri/(.*\.exr)\.js", r"package/(LICENSE\.md)"))))
    monkeypatch.setenv("HAND_POSE_ASSETS", str(tmp_path / "cache"))
    monkeypatch.setattr(assets, "PACKAGES", packages)

    def download(package, folder):
        copy = folder / archives[package.name].name
        copy.write_bytes(archives[package.name].read_bytes())
        return copy

    yield packages, download
    assets._verified.cache_clear()
    assets._manifest.cache_clear()


def test_fetched_assets_are_the_wanted_members_only(fake):
    packages, download = fake
    assets.fetch(packages, download, report=lambda line: None)
    assert assets.names() == ("light/LICENSE.md", "light/lab.exr", "mesh/mesh.obj")
    assert assets.path("mesh/mesh.obj").read_text() == "v 0 0 0\n"
    assert assets.path("light/lab.exr").read_bytes() == b"v/1\x01"          # the data URL is decoded: an EXR's magic


def test_the_manifest_names_licence_and_source_of_every_file(fake):
    packages, download = fake
    folder = assets.fetch(packages, download, report=lambda line: None)
    manifest = json.loads((folder / assets.MANIFEST).read_text())
    assert {entry["licence"] for entry in manifest["files"].values()} == {"CC0-1.0"}
    assert {package["name"]: package["version"] for package in manifest["packages"]} == {"mesh": "1.0", "light": "1.0"}


def test_a_package_that_was_tampered_with_installs_nothing(fake):
    packages, download = fake
    wrong = (packages[0], dataclasses.replace(packages[1], sha256="0" * 64))
    with pytest.raises(DataError, match="checksum.*expected 0000.*hand-pose assets"):
        assets.fetch(wrong, download, report=lambda line: None)
    assert [path for path in assets.folder().rglob("*") if path.is_file()] == []


def test_a_package_that_lost_a_member_is_refused(fake):
    packages, download = fake
    wrong = (dataclasses.replace(packages[0], keep=(r"pkg/data/(.*\.ply)",)),)
    with pytest.raises(DataError, match="no member like"):
        assets.fetch(wrong, download, report=lambda line: None)


def test_missing_assets_name_the_command(fake):
    with pytest.raises(DataError, match="hand-pose assets"):
        assets.path("mesh/mesh.obj")


def test_a_missing_file_names_itself_and_the_command(fake):
    packages, download = fake
    (assets.fetch(packages, download, report=lambda line: None) / "mesh/mesh.obj").unlink()
    with pytest.raises(DataError, match="mesh/mesh.obj.*hand-pose assets"):
        assets.path("mesh/mesh.obj")


def test_an_altered_file_is_noticed(fake):
    packages, download = fake
    folder = assets.fetch(packages, download, report=lambda line: None)
    (folder / "mesh/mesh.obj").write_text("v 1 0 0\n")
    with pytest.raises(DataError, match="altered.*hand-pose assets"):
        assets.path("mesh/mesh.obj")


def test_assets_of_another_version_are_refused(fake, monkeypatch):
    packages, download = fake
    assets.fetch(packages, download, report=lambda line: None)
    monkeypatch.setattr(assets, "PACKAGES", (dataclasses.replace(packages[0], sha256="1" * 64),))
    assets._manifest.cache_clear()
    with pytest.raises(DataError, match="not made from mesh 1.0"):
        assets.path("mesh/mesh.obj")


def test_assets_of_an_earlier_version_that_kept_less_are_not_complete(fake, monkeypatch, capsys):
    """The same package, of which this version wants one more file."""
    packages, download = fake
    assets.fetch(packages, download, report=lambda line: None)
    more = dataclasses.replace(packages[0], keep=(*packages[0].keep, r"pkg/data/(un(?:want|lov)ed\.bin)"))
    fetched = []
    monkeypatch.setattr(assets, "PACKAGES", (more, packages[1]))
    monkeypatch.setattr(assets, "fetch", lambda: fetched.append(assets.PACKAGES))
    with pytest.raises(DataError, match="un.*lov.*hand-pose assets"):
        assets.verify()
    assert assets.main(argparse.Namespace(list=False, force=False)) == 0 and fetched
    assert "complete" not in capsys.readouterr().out
    monkeypatch.setattr(assets, "PACKAGES", packages)
    assets.verify()
    assert assets.main(argparse.Namespace(list=False, force=False)) == 0 and len(fetched) == 1
    assert "complete" in capsys.readouterr().out


def test_a_broken_manifest_names_the_command(fake):
    packages, download = fake
    folder = assets.fetch(packages, download, report=lambda line: None)
    (folder / assets.MANIFEST).write_text("{")
    assets._manifest.cache_clear()
    with pytest.raises(DataError, match="manifest.*hand-pose assets"):
        assets.names()


def test_a_folder_that_cannot_be_written_says_how_to_choose_another(fake, tmp_path, monkeypatch):
    packages, download = fake
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("HAND_POSE_ASSETS", str(tmp_path / "file"))
    with pytest.raises(DataError, match="HAND_POSE_ASSETS"):
        assets.fetch(packages, download, report=lambda line: None)


def test_without_npm_the_remedy_is_to_install_it(fake, monkeypatch, tmp_path):
    packages, _ = fake
    monkeypatch.setattr(assets.shutil, "which", lambda name: None)
    with pytest.raises(DataError, match="npm is needed.*install it"):
        assets.fetch(packages[1:], report=lambda line: None)


def test_a_download_that_fails_shows_the_command_that_failed(fake, monkeypatch):
    packages, _ = fake
    failed = type("Done", (), {"returncode": 1, "stderr": "no such package", "stdout": ""})()
    monkeypatch.setattr(assets.subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(DataError, match="no such package(?s:.*)mesh==1.0"):
        assets.fetch(packages[:1], report=lambda line: None)


def test_only_licences_that_allow_commercial_use_are_fetched():
    assert {package.licence for package in assets.PACKAGES} <= set(assets.CLEARED)


def test_an_asset_that_is_not_cleared_is_used_only_where_that_was_not_excluded(fake, monkeypatch):
    packages, download = fake
    packages = (packages[0], dataclasses.replace(packages[1], licence="CC-BY-NC-4.0"))
    monkeypatch.setattr(assets, "PACKAGES", packages)
    assets.fetch(packages, download, report=lambda line: None)
    assert assets.path("light/lab.exr").read_bytes() and assets.names("light/")
    monkeypatch.setenv(assets.CLEARED_ONLY, "1")
    assert assets.names() == ("mesh/mesh.obj",) and assets.path("mesh/mesh.obj").is_file()
    with pytest.raises(DataError, match="light/lab.exr.*CC-BY-NC-4.0.*commercial"):
        assets.path("light/lab.exr")
    with pytest.raises(DataError, match="no asset starts with 'light/'"):
        assets.names("light/")
    monkeypatch.setenv(assets.CLEARED_ONLY, "0")
    assert assets.names("light/")
