"""Each loader reads its generated sample, in our joint order, metres and pixels, and refuses other folders."""
from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import samples

from hand_pose_ros.errors import ConfigError, DataError, FrameError
from hand_pose_ros.evaluation import datasets

NAMES = sorted(datasets.DATASETS)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name, tmp_path):
    """What holds for every data set: recognised, loaded, images readable, documented, finite where valid."""
    folder = samples.SAMPLES[name](tmp_path / "set")
    assert datasets.recognise(folder) == name
    found = datasets.load(name, folder)
    assert found.name == name and len(found) >= 1 and found.licence and not found.problems.total() * (name == "folder")
    seen = set()
    for index in range(len(found)):
        item = found[index]
        assert item.name not in seen and item.image().dtype == np.uint8 and item.image().shape[2] == 3
        seen.add(item.name)
        for hand in item.hands:
            assert np.isfinite(hand.joints_px[hand.valid_px]).all() and np.isnan(hand.joints_px[~hand.valid_px]).all()
            assert hand.box[0] <= hand.box[2] and hand.box[1] <= hand.box[3] and hand.size_px > 0
            assert hand.handedness in ("left", "right", None)
            if hand.joints_m is not None and item.camera is not None:
                uvw = hand.joints_m @ item.camera.K.T
                both = hand.valid_px & hand.valid_m
                np.testing.assert_allclose((uvw[:, :2] / uvw[:, 2:])[both], hand.joints_px[both], atol=0.01)
    loader = datasets.module(name)
    for word in ("Joint order", "Units", "Root", "Licence"):
        assert word in loader.__doc__, f"{name}: the docstring does not say {word}"
    assert loader.TITLE and loader.LAYOUT and loader.DOWNLOAD and loader.LICENCE and loader.SPLITS


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_folder_is_refused_with_the_layout(name, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        datasets.load(name, tmp_path)
    loader = datasets.module(name)
    for words in (loader.LAYOUT, "holiday.jpg", loader.DOWNLOAD):
        assert words in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_split_lists_the_choices(name, tmp_path):
    if datasets.module(name).SPLITS == ("all",):
        assert len(datasets.load(name, samples.SAMPLES[name](tmp_path), None))
        return
    with pytest.raises(DataError, match="choose one of"):
        datasets.load(name, samples.SAMPLES[name](tmp_path), "tomorrow")


def test_unknown_names_and_folders():
    with pytest.raises(ConfigError, match="did you mean 'freihand'"):
        datasets.module("freihnad")
    with pytest.raises(DataError, match="not a folder"):
        datasets.recognise("/nowhere/at/all")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("coco", "folder")])
def test_joint_order(name, tmp_path):
    """The sample writers place joint j by j, from the orders' own published lists, so a wrong table cannot pass."""
    hand = datasets.load(name, samples.SAMPLES[name](tmp_path))[0].hands[0]
    if hand.joints_m is not None:
        np.testing.assert_allclose(hand.joints_m, samples.hand_m(), atol=1e-9)
    else:
        valid = hand.valid_px
        np.testing.assert_allclose(hand.joints_px[valid], samples.hand_px()[valid])
        assert valid.sum() >= 20


def test_freihand_training_versions_share_their_label(tmp_path):
    found = datasets.load("freihand", samples.freihand(tmp_path, "training", 2, 4))
    assert found.split == "training" and len(found) == 8
    assert found[1].group == found[7].group and found[6].path.name == "00000006.jpg"
    evaluation = datasets.load("freihand", samples.freihand(tmp_path, "evaluation", 3))
    assert evaluation.split == "evaluation" and evaluation[0].hands[0].vertices_m.shape == (778, 3)


def test_interhand_sides_and_invalid_wrist(tmp_path):
    found = datasets.load("interhand26m", samples.interhand26m(tmp_path))
    (single,), pair = found[0].hands, found[1].hands
    assert single.handedness == "right" and [h.handedness for h in pair] == ["right", "left"]
    np.testing.assert_allclose(pair[1].joints_m, samples.hand_m(0.08), atol=1e-9)
    assert not pair[1].valid_m.any() and pair[1].valid_px.sum() == 20      # its wrist, the last joint, is not valid
    assert found[1].subset == "interhand26m interacting"


def test_interhand_old_folder_layout(tmp_path):
    samples.interhand26m(tmp_path)
    (tmp_path / "annotations" / "test").rename(tmp_path / "annotations" / "all")
    assert len(datasets.load("interhand26m", tmp_path)) == 2


def test_hiu_takes_the_labelled_half(tmp_path):
    found = datasets.load("hiu_dmtl", samples.hiu_dmtl(tmp_path))
    for index in range(2):
        np.testing.assert_allclose(found[index].hands[0].joints_px, samples.hand_px())


def test_onehand10k_both_forms_agree(tmp_path):
    a = datasets.load("onehand10k", samples.onehand10k(tmp_path / "a", "json"))[0].hands[0]
    b = datasets.load("onehand10k", samples.onehand10k(tmp_path / "b", "text"))[0].hands[0]
    np.testing.assert_array_equal(a.joints_px, b.joints_px)
    assert not a.valid_px[3] and a.valid_px.sum() == 20


def test_coco_regions(tmp_path):
    found = datasets.load("coco", samples.coco(tmp_path))
    assert found[0].ignore == ((5, 6, 205, 186),) and found[0].exhaustive and found[1].ignore == ()
    whole = datasets.load("coco_wholebody", samples.coco_wholebody(tmp_path / "w"))
    assert len(whole) == 1 and whole[0].hands[0].handedness == "left" and not whole[0].exhaustive
    assert whole[0].ignore == ((5, 6, 205, 186),)


def test_panoptic_parts(tmp_path):
    manual = datasets.load("panoptic", samples.panoptic_manual(tmp_path))
    assert [manual[n].hands[0].handedness for n in range(2)] == ["left", "right"]
    dome = datasets.load("panoptic", samples.panoptic_dome(tmp_path), "dome")
    assert dome[0].hands[0].handedness is None and dome.split == "dome"
    alone = tmp_path / "hand_labels"
    assert datasets.recognise(alone) == "panoptic"


def test_rhd_hidden_hand_is_ignored_and_code_is_refused(tmp_path):
    item = datasets.load("rhd", samples.rhd(tmp_path / "a"))[0]
    assert len(item.hands) == 1 and item.hands[0].handedness == "left" and len(item.ignore) == 1

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "b" / "evaluation").mkdir(parents=True)
    (tmp_path / "b" / "evaluation" / "anno_evaluation.pickle").write_bytes(pickle.dumps({0: Evil()}))
    with pytest.raises(DataError, match="not the published pickle"):
        datasets.load("rhd", tmp_path / "b")


def test_stb_wrist_and_colour_frame(tmp_path):
    for camera in ("BB", "SK"):
        hand = datasets.load("stb", samples.stb(tmp_path / camera, camera), f"test_{camera}")[0].hands[0]
        np.testing.assert_allclose(hand.joints_m, samples.hand_m(), atol=1e-9)
        assert hand.handedness == "left"


# ---- bad input

def test_nan_joints_are_invalid_and_counted(tmp_path):
    folder = samples.folder(tmp_path)
    lines = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    lines[0]["hands"][0]["joints_2d"][4] = [float("nan"), 3.0]
    lines[0]["hands"][0]["joints_3d"][5][2] = float("inf")
    (folder / "annotations.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    found = datasets.load("folder", folder)
    hand = found[0].hands[0]
    assert not hand.valid_px[4] and not hand.valid_m[5] and hand.valid_px.sum() == 20
    assert found.problems["annotations.jsonl: 2D joint that is not a number, taken as unlabelled"] == 1
    assert found.problems["annotations.jsonl: 3D joint that is not a number, taken as unlabelled"] == 1


def test_a_label_without_its_image_and_an_image_without_label(tmp_path):
    folder = samples.freihand(tmp_path, count=3)
    samples.picture(folder / "evaluation" / "rgb" / "00000099.jpg", 224, 224)
    (folder / "evaluation" / "rgb" / "00000001.jpg").unlink()
    found = datasets.load("freihand", folder)
    assert found.problems["rgb: image without label, not used"] == 1
    with pytest.raises(FrameError, match="label without image"):
        found[1].image()


def test_broken_files_name_themselves(tmp_path):
    folder = samples.freihand(tmp_path / "a")
    text = (folder / "evaluation_xyz.json").read_text()
    (folder / "evaluation_xyz.json").write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match="evaluation_xyz.json: not readable JSON"):
        datasets.load("freihand", folder)
    folder = samples.freihand(tmp_path / "b")
    (folder / "evaluation_K.json").write_text("[]")
    with pytest.raises(DataError, match="0 entries"):
        datasets.load("freihand", folder)
    folder = samples.folder(tmp_path / "c")
    with (folder / "annotations.jsonl").open("a") as file:
        file.write('{"image": "x.png"}\n')
    with pytest.raises(DataError, match="annotations.jsonl:5"):
        datasets.load("folder", folder)
    folder = samples.onehand10k(tmp_path / "d", "text")
    (folder / "Test" / "label_joint.txt").write_text("9.jpg,320,240,1,5,5\n")
    with pytest.raises(DataError, match="label_joint.txt:1"):
        datasets.load("onehand10k", folder)
