"""Each loader reads its generated sample, in our joint order, metres and pixels, and refuses other folders."""
from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import samples

from hand_pose_ros.errors import ConfigError, DataError, FrameError
from hand_pose_ros.evaluation import datasets, metrics, scoring
from hand_pose_ros.evaluation.datasets.base import NAMED_LABELS
from hand_pose_ros.evaluation.predictions import Predicted

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


def test_freihand_keeps_a_version_of_which_a_picture_is_missing(tmp_path):
    folder = samples.freihand(tmp_path, "training", 2, 4)
    (folder / "training" / "rgb" / "00000005.jpg").unlink()
    found = datasets.load("freihand", folder)
    assert len(found) == 8 and not found.problems   # pictures 6 and 7 are read, and are no images without label
    with pytest.raises(FrameError, match="label without image"):
        found[5].image()
    for number in (6, 7):
        (folder / "training" / "rgb" / f"{number:08d}.jpg").unlink()
    samples.picture(folder / "training" / "rgb" / "00000099.jpg", 224, 224)
    found = datasets.load("freihand", folder)
    assert len(found) == 6 and found.problems == {"rgb: image without label, not used": 1}


def test_interhand_sides_and_invalid_wrist(tmp_path):
    found = datasets.load("interhand26m", samples.interhand26m(tmp_path))
    (single,), pair = found[0].hands, found[1].hands
    assert single.handedness == "right" and [h.handedness for h in pair] == ["right", "left"]
    np.testing.assert_allclose(pair[1].joints_m, samples.hand_m(0.08), atol=1e-9)
    assert not pair[1].valid_m.any() and pair[1].valid_px.sum() == 20      # its wrist, the last joint, is not valid
    assert found[1].subset == "interhand26m interacting"
    assert not any(item.exhaustive for item in found)       # unlabelled hands occur: their issues 99 and 113


def test_interhand_old_folder_layout(tmp_path):
    samples.interhand26m(tmp_path)
    (tmp_path / "annotations" / "test").rename(tmp_path / "annotations" / "all")
    assert len(datasets.load("interhand26m", tmp_path)) == 2


def test_hiu_takes_the_labelled_halves_at_any_depth(tmp_path):
    found = datasets.load("hiu_dmtl", samples.hiu_dmtl(tmp_path))
    assert [item.name for item in found] == ["abcd.jpg", "part/efgh.jpg", "part/session/ijkl.jpg"]
    assert [len(item.hands) for item in found] == [1, 1, 2] and not found.problems
    for hand, hidden in zip((h for item in found for h in item.hands), (None, 9, None, 9)):
        valid = np.arange(21) != hidden             # joint 30 of the file, of the second half, is (0, 0)
        np.testing.assert_array_equal(hand.valid_px, valid)
        np.testing.assert_allclose(hand.joints_px[valid], samples.hand_px()[valid])
        assert hand.handedness is None              # its sides contradict each other, see the loader


def test_hiu_joints_with_the_filler_are_unlabelled(tmp_path):
    folder = samples.hiu_dmtl(tmp_path)
    label = json.loads((folder / "abcd.json").read_text())
    label["pts2d_2hand"][4] = [2.0, -0.67]
    label["pts2d_2hand"][7] = [2.5, 60.0]           # near the border, and labelled
    samples.write_json(folder / "abcd.json", label)
    hand = datasets.load("hiu_dmtl", folder)[0].hands[0]
    np.testing.assert_array_equal(np.flatnonzero(~hand.valid_px), [4])
    np.testing.assert_allclose(hand.box, [2.5, 20, 160, 120])


def test_hiu_without_a_hand_and_pictures_without_label(tmp_path):
    folder = samples.hiu_dmtl(tmp_path)
    label = json.loads((folder / "abcd.json").read_text())
    samples.write_json(folder / "abcd.json", {**label, "hand_type": [0, 0]})
    samples.picture(folder / "part" / "session" / "alone.jpg", 64, 64)
    found = datasets.load("hiu_dmtl", folder)
    assert len(found) == 2 and found.problems == {"HIU-DMTL: hand_type names no hand, picture not used": 1,
                                                  "HIU-DMTL: image without label, not used": 1}


def test_onehand10k_both_forms_agree(tmp_path):
    a = datasets.load("onehand10k", samples.onehand10k(tmp_path / "a", "json"))[0].hands[0]
    b = datasets.load("onehand10k", samples.onehand10k(tmp_path / "b", "text"))[0].hands[0]
    np.testing.assert_array_equal(a.joints_px, b.joints_px)
    assert not a.valid_px[3] and a.valid_px.sum() == 20


def test_labelled_boxes_are_given_and_sizes_are_of_the_joints(tmp_path):
    """As mmpose gives them to the networks whose figures stand beside ours: bbox, lefthand_box and righthand_box."""
    hand = datasets.load("onehand10k", samples.onehand10k(tmp_path / "o", "json"))[0].hands[0]
    np.testing.assert_array_equal(hand.box, [10, 12, 175, 132])
    whole = datasets.load("coco_wholebody", samples.coco_wholebody(tmp_path / "w"))[0].hands[0]
    np.testing.assert_array_equal(whole.box, [10, 12, 175, 132])
    for found in (hand, whole):
        assert found.size_px == np.ptp(found.joints_px[found.valid_px], axis=0).max() < 165


def test_onehand10k_counts_hands_by_the_numbers_of_a_line(tmp_path):
    """As public readers do; the field hands only tells whether all of them are labelled."""
    file = samples.onehand10k(tmp_path, "text") / "Test" / "label_joint.txt"
    numbers = file.read_text().strip().split(",")[4:]
    file.write_text("".join(",".join([name, "320", "240", stated, *numbers * hands]) + "\n" for name, stated, hands in
                            (("1.jpg", "1", 1), ("2.jpg", "2", 1), ("3.jpg", "1", 2), ("4.jpg", "2", 2))))
    found = datasets.load("onehand10k", tmp_path)
    assert [len(item.hands) for item in found] == [1, 1, 2, 2]
    assert [item.exhaustive for item in found] == [True, False, False, True]
    assert found.problems["OneHand10K: line that names another number of hands than it labels"] == 2


def test_coco_regions(tmp_path):
    found = datasets.load("coco", samples.coco(tmp_path))
    assert found[0].ignore == ((5, 6, 205, 186),) and found[0].exhaustive and found[1].ignore == ()
    assert not found[0].hands and [item.subset for item in found] == ["coco persons", "coco without persons"]
    whole = datasets.load("coco_wholebody", samples.coco_wholebody(tmp_path / "w"))
    assert len(whole) == 1 and whole[0].hands[0].handedness == "left" and whole[0].exhaustive
    assert whole[0].ignore == ((5, 6, 205, 186),)


def _wholebody(folder, **changes):
    """The sample, whose first person (left hand labelled) is changed; a path of the label file and what it holds."""
    path = samples.coco_wholebody(folder) / "annotations" / "coco_wholebody_val_v1.0.json"
    label = json.loads(path.read_text())
    label["annotations"][0].update(changes)
    samples.write_json(path, label)
    return path, label


BOTH = {key: value for key, value in samples._person(0, 0, False, True).items() if key.startswith("righthand_")}


@pytest.mark.parametrize(("changes", "hands", "regions"), [
    ({}, 1, 1), (BOTH, 2, 0), ({**BOTH, "iscrowd": 1}, 2, 1), ({"lefthand_box": [0, 0, 0, 0]}, 0, 1)])
def test_persons_who_may_show_an_unlabelled_hand_are_regions(tmp_path, changes, hands, regions):
    path, label = _wholebody(tmp_path, **changes)
    label["annotations"].append(samples._person(9, 285, True, False))
    samples.write_json(path, label)
    for name in ("coco_wholebody", "coco"):
        found = {item.group: item for item in datasets.load(name, tmp_path)}
        assert ("139" in found) == (hands > 0 or name == "coco")
        if "139" in found:
            assert len(found["139"].hands) == hands and len(found["139"].ignore) == regions


def test_coco_wholebody_gets_an_average_precision(tmp_path):
    """A detection of the labelled hand is right, one outside the person false, another on the person neither."""
    _wholebody(tmp_path)
    item = datasets.load("coco_wholebody", tmp_path)[0]
    truth = item.hands[0].box
    places = (truth, truth + (205, 100, 205, 100), truth + (30, 60, 30, 60))
    score = scoring.score_image(item, [Predicted(score=1 - 0.1 * k, box=box) for k, box in enumerate(places)])
    assert (score.counted, score.right, score.false) == (2, 1, 1)
    assert metrics.coco_ap([score.boxes])["ap"] == pytest.approx(1.0)      # the false one has the lower score


def test_coco_takes_hand_boxes_from_the_whole_body_labels_beside_it(tmp_path):
    """Person 7 of both files is one person; picture 285 shows persons without a labelled hand; picture 1 shows none."""
    path, label = _wholebody(tmp_path)
    images = [*label["images"], {"id": 1, "file_name": f"{1:012d}.jpg", "height": 240, "width": 320}]
    person = {"id": 7, "image_id": 139, "category_id": 1, "iscrowd": 0, "bbox": [5, 6, 200, 180], "area": 100}
    samples.write_json(tmp_path / "annotations" / "instances_val2017.json", {"images": images, "annotations": [person]})
    assert datasets.recognise(tmp_path) == "coco_wholebody"
    found = {item.group: item for item in datasets.load("coco", tmp_path)}
    assert sorted(found) == ["1", "139", "285"] and all(item.exhaustive for item in found.values())
    (hand,) = found["139"].hands
    np.testing.assert_allclose(hand.box, [10, 12, 175, 132])
    assert hand.handedness == "left" and not hand.valid_px.any() and hand.size_px == 165
    assert [len(found[group].ignore) for group in ("1", "139", "285")] == [0, 1, 1]
    assert "non-commercial" in datasets.load("coco", tmp_path).licence
    path.unlink()
    alone = datasets.load("coco", tmp_path)
    assert not any(item.hands for item in alone) and "non-commercial" not in alone.licence


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


def test_what_is_null_is_left_out(tmp_path):
    folder = samples.folder(tmp_path)
    path = folder / "annotations.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    bare = [{name: value for name, value in line.items() if name in ("image", "hands", "width", "height")}
            for line in lines]

    def read(rows):
        path.write_text("\n".join(json.dumps(row) for row in rows))
        found = datasets.load("folder", folder)
        return [(item.name, item.kind, item.subset, item.group, item.ignore) for item in found]
    plain = read(bare)
    empty = dict.fromkeys(("truth", "dataset", "group", "ignore", "exhaustive", "synthetic"))
    assert read([{**line, **empty} for line in bare]) == plain and len(plain) == len(lines)


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
    found = datasets.load("folder", folder)
    assert len(found) == 4 and any("annotations.jsonl:5" in problem for problem in found.problems)
    folder = samples.onehand10k(tmp_path / "d", "text")
    (folder / "Test" / "label_joint.txt").write_text("9.jpg,320,240,1,5,5\n")
    with pytest.raises(DataError, match="label_joint.txt:1"):
        datasets.load("onehand10k", folder)


def edit(path, change):
    """Write a JSON file again after ``change`` of what it holds."""
    content = json.loads(path.read_text())
    change(content)
    samples.write_json(path, content)


def _damage_freihand(folder):
    samples.freihand(folder)
    edit(folder / "evaluation_K.json", lambda content: content.__setitem__(1, None))


def _damage_interhand_frame(folder):
    samples.interhand26m(folder)
    edit(folder / "annotations" / "test" / "InterHand2.6M_test_joint_3d.json", lambda content: content["0"].pop("1"))


def _damage_interhand_validity(folder):
    samples.interhand26m(folder)
    edit(folder / "annotations" / "test" / "InterHand2.6M_test_data.json",
         lambda content: content["annotations"][1].pop("joint_valid"))


def _damage_interhand_number(folder):
    samples.interhand26m(folder)
    edit(folder / "annotations" / "test" / "InterHand2.6M_test_data.json",
         lambda content: content["annotations"][1].update(joint_valid=[1, 1]))


def _damage_hiu(folder):
    path = samples.hiu_dmtl(folder) / "part" / "efgh.json"
    path.write_text(path.read_text()[:40])


def _damage_hiu_first(folder):
    samples.hiu_dmtl(folder)
    edit(folder / "abcd.json", lambda content: content.pop("hand_type"))


def _damage_onehand10k(folder):
    samples.onehand10k(folder)
    edit(folder / "annotations" / "onehand10k_test.json",
         lambda content: content["annotations"].append({"id": 10, "image_id": 9}))


def _damage_onehand10k_text(folder):
    path = samples.onehand10k(folder, "text") / "Test" / "label_joint.txt"
    path.write_text(path.read_text() + "10.jpg,320,240,1,5,5\n" + path.read_text().replace("9.jpg", "11.jpg"))


def _damage_coco_wholebody(folder):
    path, label = _wholebody(folder)
    label["annotations"].append(samples._person(9, 285, True, False))
    del label["annotations"][-1]["lefthand_kpts"]
    samples.write_json(path, label)


def _damage_coco(folder):
    samples.coco(folder)
    edit(folder / "annotations" / "instances_val2017.json", lambda content: content["annotations"][0].pop("bbox"))


def _damage_panoptic(folder):
    samples.panoptic_manual(folder)
    samples.write_json(folder / "hand_labels" / "manual_test" / "000015774_01_l.json", {})


def _damage_dome(folder):
    samples.panoptic_dome(folder)
    edit(folder / "hand143_panopticdb" / "hands_v143_14817.json", lambda content: content["root"].append({}))


def _damage_rhd(folder):
    path = samples.rhd(folder) / "evaluation" / "anno_evaluation.pickle"
    labels = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({**labels, 1: {"K": samples.RHD_K}}, protocol=2))


def _damage_stb(folder):
    whole = (samples.stb(folder) / "labels" / "B1Counting_BB.mat").read_bytes()
    (folder / "labels" / "B1Random_BB.mat").write_bytes(whole[:700])


def _damage_stb_early(folder):
    samples.stb(folder)
    (folder / "labels" / "B1Random_BB.mat").write_bytes(b"cut off")


@pytest.mark.parametrize(("name", "damage", "named", "left"), [
    ("freihand", _damage_freihand, "label 1 (K of shape ()", 2),
    ("interhand26m", _damage_interhand_frame, "annotation 1 (no 3D joints of capture 0, frame 1", 1),
    ("interhand26m", _damage_interhand_validity, "annotation 1 (without joint_valid)", 1),
    ("interhand26m", _damage_interhand_number, "label 1 cannot be read (ValueError", 1),
    ("hiu_dmtl", _damage_hiu, "part/efgh.json", 2),
    ("hiu_dmtl", _damage_hiu_first, "abcd.json (KeyError: 'hand_type')", 2),
    ("onehand10k", _damage_onehand10k, "annotation 1 (KeyError: 'keypoints')", 1),
    ("onehand10k", _damage_onehand10k_text, "label_joint.txt:2 (2 numbers", 2),
    ("coco_wholebody", _damage_coco_wholebody, "000000000285.jpg (KeyError: 'lefthand_kpts')", 1),
    ("coco", _damage_coco, "000000000001.jpg (KeyError: 'bbox')", 1),
    ("panoptic", _damage_panoptic, "000015774_01_l.json (KeyError: 'hand_pts')", 1),
    ("panoptic", _damage_dome, "entry 1 (KeyError: 'joint_self')", 1),
    ("rhd", _damage_rhd, "picture 1 (KeyError: 'uv_vis')", 1),
    ("stb", _damage_stb, "B1Random_BB.mat", 2), ("stb", _damage_stb_early, "B1Random_BB.mat", 2),
], ids=lambda value: value.__name__ if callable(value) else "")
def test_a_damaged_label_is_named_and_counted_and_the_others_are_read(name, damage, named, left, tmp_path):
    """Also where it only shows when the item is made: then its image cannot be read, which a run counts."""
    damage(tmp_path)
    assert datasets.recognise(tmp_path) == name
    found = datasets.load(name, tmp_path)
    items = [found[index] for index in range(len(found))]
    broken = [item for item in items if item.problem]
    assert len(broken) == (damage is _damage_interhand_number)
    for item in broken:
        with pytest.raises(FrameError, match="label 1 cannot be read"):
            item.image()
    told = [f"{item.name}: {item.problem}" for item in broken] + [text for text in found.problems if "cannot" in text]
    assert len(told) == 1 and named in told[0] and found.problems.total() <= 1 + (name == "coco_wholebody")
    assert len(items) - len(broken) == left and not any(item.hands for item in broken)


def test_freihand_pictures_keep_their_labels_beside_a_damaged_one(tmp_path):
    samples.freihand(tmp_path, "training", 3, 2)
    edit(tmp_path / "training_K.json", lambda content: content.__setitem__(1, None))
    found = datasets.load("freihand", tmp_path)
    assert [(item.group, item.path.name[6:8]) for item in found] == [("0", "00"), ("2", "02"), ("0", "03"), ("2", "05")]
    assert found.problems.total() == 1              # the picture of a damaged label is not one without a label


def test_of_many_damaged_labels_only_the_first_are_named(tmp_path):
    folder = samples.panoptic_manual(tmp_path)
    for number in range(NAMED_LABELS + 5):
        samples.write_json(folder / "hand_labels" / "manual_test" / f"{number:09d}_01_l.json", {})
    problems = datasets.load("panoptic", folder).problems
    assert sum("left out: 0000000" in text for text in problems) == NAMED_LABELS
    assert problems["CMU Panoptic HandDB: further labels that cannot be read, left out"] == 5


@pytest.mark.parametrize(("name", "file"), [
    ("coco_wholebody", "annotations/coco_wholebody_val_v1.0.json"), ("coco", "annotations/instances_val2017.json"),
    ("onehand10k", "annotations/onehand10k_test.json"), ("freihand", "evaluation_xyz.json"),
    ("interhand26m", "annotations/test/InterHand2.6M_test_data.json")])
def test_a_label_file_of_another_kind_is_refused(name, file, tmp_path):
    folder = samples.SAMPLES[name](tmp_path)
    samples.write_json(folder / file, {"version": 7})
    with pytest.raises(DataError, match="not laid out as|entries but"):
        datasets.load(name, folder)


def test_damaged_lines_of_our_own_format_are_named_by_number_and_left_out(tmp_path):
    path = samples.folder(tmp_path) / "annotations.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    path.write_text(path.read_text() + json.dumps({**row, "image": "b.png", "hands": ["left"]}) + "\n")
    found = datasets.load("folder", tmp_path)
    assert len(found) == 4 and any("annotations.jsonl:5 (" in problem for problem in found.problems)
