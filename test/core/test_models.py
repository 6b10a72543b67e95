"""Model folders: the right file or a clear error, never wrong weights."""
import hashlib
import json
import sys

import numpy as np
import pytest
from safetensors.numpy import save

from hand_pose_ros import models
from hand_pose_ros.errors import ConfigError, ModelError


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "some_pose"
    folder.mkdir()
    data = save({"a": np.arange(6, dtype=np.float16).reshape(2, 3)})
    (folder / models.WEIGHTS).write_bytes(data)
    card = {"name": "some_pose", "kind": "pose", "architecture": "pose_light", "options": {}, "input": [128, 128, 3],
            "version": models.VERSION, "sha256": hashlib.sha256(data).hexdigest(), "licence": "Apache-2.0",
            "data": "none"}
    (folder / models.CARD).write_text(json.dumps(card))
    return tmp_path


@pytest.mark.parametrize("name", ["./res", "/nowhere/res", "~/res"])
def test_a_path_to_nowhere_is_called_by_its_name(name):
    with pytest.raises(ModelError, match="there is no model at /.*/res") as caught:
        models.path(name)
    assert "reinstall" not in str(caught.value)


def change(root, **values):
    file = root / "some_pose" / models.CARD
    card = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({k: v for k, v in card.items() if v is not None}))


def test_weights_come_back_as_written(root):
    assert np.array_equal(models.load_weights("some_pose", root)["a"], np.arange(6).reshape(2, 3))
    assert models.card(str(root / "some_pose"))["input"] == [128, 128, 3]


def test_an_absent_model_names_those_there_are(root):
    with pytest.raises(ModelError, match="no model 'other'.*some_pose"):
        models.card("other", root)


def test_a_model_is_found_by_name_or_by_path_and_a_name_is_no_path(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.chdir(root)
    for path in (root / "some_pose", "./some_pose", "~/some_pose"):
        assert models.source("pose", str(path)).input_shape == (128, 128, 3)
        assert models.path(str(path)) == root / "some_pose" and models.path(str(models.path(str(path))))
    with pytest.raises(ModelError, match="no model 'some_pose'.*the folder here: ./some_pose"):
        models.card("some_pose")
    with pytest.raises(ModelError, match="no model at .*/other: a folder with card.json and weights.safe"):
        models.card("./other")


def test_weights_in_pieces_are_told_how_to_be_joined(root):
    weights = root / "some_pose" / models.WEIGHTS
    weights.rename(f"{weights}.000")
    with pytest.raises(ModelError, match=f"join its pieces .cat {weights}.* > {weights}."):
        models.load_weights("some_pose", root)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:50], lambda b: b"", lambda b: b[:-1] + b"\x7f"])
def test_a_changed_weight_file_is_refused(root, damage):
    file = root / "some_pose" / models.WEIGHTS
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ModelError, match="not the file that its card describes"):
        models.load_weights("some_pose", root)


def test_weights_that_are_not_finite_are_refused(root):
    data = save({"a": np.array([[0.0, np.nan]], np.float16)})
    (root / "some_pose" / models.WEIGHTS).write_bytes(data)
    change(root, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ModelError, match=r"not finite \(a\)"):
        models.load_weights("some_pose", root)


def test_missing_weights_are_named(root):
    (root / "some_pose" / models.WEIGHTS).unlink()
    with pytest.raises(ModelError, match="weights.safetensors cannot be read"):
        models.load_weights("some_pose", root)


def test_a_missing_package_is_named_with_the_way_to_get_it(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ModelError, match="pip install safetensors"):
        models.load_weights("some_pose", root)


def test_right_checksum_of_something_else_is_refused(root):
    (root / "some_pose" / models.WEIGHTS).write_bytes(b"not weights")
    change(root, sha256=hashlib.sha256(b"not weights").hexdigest())
    with pytest.raises(ModelError, match="not a safetensors file"):
        models.load_weights("some_pose", root)


@pytest.mark.parametrize("values, words", [({"version": 99}, "version 99"), ({"sha256": None}, "lacks sha256"),
                                           ({"architecture": None, "kind": None}, "lacks kind, architecture")])
def test_cards_of_other_versions_are_refused(root, values, words):
    change(root, **values)
    with pytest.raises(ModelError, match=words):
        models.card("some_pose", root)


@pytest.mark.parametrize("values, words", [
    ({"input": "foo"}, "input 'foo', which is no list"), ({"input": [100, 100, 3]}, "input .100, 100, 3.; it must be"),
    ({"input": [128, 128]}, "it must be .height, width, 3."), ({"input": [128, 160, 3]}, "of a pose network the same"),
    ({"input": [0, 0, 3]}, "it must be"), ({"input": [128.0, 128.0, 3]}, "it must be"),
    ({"architecture": ["pose_light"]}, "architecture .'pose_light'., which is no str"),
    ({"options": 3}, "options 3, which is no dict"),
    ({"evidence_needed": "much"}, "evidence_needed 'much'; it must be"),
])
def test_cards_of_what_no_network_takes_are_refused(root, values, words):
    change(root, **values)
    with pytest.raises(ModelError, match=f"card.json has .*{words}"):
        models.card("some_pose", root)


def test_a_card_whose_architecture_is_of_another_kind_is_refused(root):
    change(root, architecture="detector_light")
    with pytest.raises(ModelError, match="'some_pose' says pose, its architecture detector_light is none"):
        models.source("pose", "some_pose", root)


def test_a_card_that_is_not_json_is_refused(root):
    (root / "some_pose" / models.CARD).write_text("{")
    with pytest.raises(ModelError, match="card.json cannot be read"):
        models.card("some_pose", root)


def test_a_pose_network_is_not_taken_for_a_detector(root):
    assert models.source("pose", "some_pose", root).input_shape == (128, 128, 3)
    with pytest.raises(ConfigError, match="pose network, not a detector"):
        models.source("detector", "some_pose", root)
