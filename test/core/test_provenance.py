"""What code made a result, as results say it: of a source tree its commit, else the code itself."""
from __future__ import annotations

import re
import subprocess

import pytest

from hand_pose_ros import __version__, provenance


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in a folder of its own that says where it is, and a function that commits all of a folder."""
    folder = tmp_path / "site" / "hand_pose_ros"
    folder.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(folder / "provenance.py"))
    (folder / "provenance.py").write_text("one")

    def into_git(top):
        for words in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm a"):
            subprocess.run(["git", "-C", str(top), *words.split()], check=True)

    return folder, into_git


def test_a_changed_source_tree_names_the_change(package):
    folder, into_git = package
    into_git(folder.parent)
    said = []
    for text in ("one", "two", "three", "two", "one"):
        (folder / "provenance.py").write_text(text)
        said.append(provenance.commit())
    assert said[0] == said[4] and len(said[0]) == 12 and said[1] == said[3] != said[2]
    assert all(re.fullmatch(said[0] + r"\+[0-9a-f]{8}", changed) for changed in said[1:4])


@pytest.mark.parametrize("in_a_workspace", [False, True])
def test_an_installed_package_says_its_code_and_no_commit_of_the_repository_round_it(package, in_a_workspace):
    folder, into_git = package
    if in_a_workspace:
        into_git(folder.parents[1])
    before = provenance.commit()
    (folder / "part").mkdir()
    (folder / "part" / "more.py").write_text("two")
    after = provenance.commit()
    assert before != after and all(re.fullmatch(re.escape(__version__) + r"\+[0-9a-f]{8}", text)
                                   for text in (before, after))
    (folder / "part" / "more.py").rename(folder / "part" / "other.py")
    assert provenance.commit() not in (before, after)
