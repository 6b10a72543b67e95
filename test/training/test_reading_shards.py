"""Shards: what was written comes back; what is damaged is named and passed over."""
import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import standin_hands

from hand_pose_ros import camera as cameras
from hand_pose_ros.errors import DataError
from hand_pose_ros.synthesis import shards as stored
from hand_pose_ros.training import shards
from hand_pose_ros.types import Camera


def packed(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return str(path)


def members(path):
    with tarfile.open(path) as tar:
        return [(entry.name, tar.extractfile(entry).read()) for entry in tar]


@pytest.fixture
def path(tmp_path):
    return standin_hands.write(tmp_path / "crops-0.tar", 4, seed=3)


def test_pictures_and_labels_come_back(path):
    shard = shards.Shard(path)
    assert len(shard) == 4
    rng = np.random.default_rng(3)
    for k in range(4):
        image, label = standin_hands.record(rng, 192, 192, 1, 0.5)
        hand = shard.label(k)["hands"][0]
        assert np.allclose(hand["joints_m"], label["hands"][0]["joints_m"])
        assert np.allclose(shard.label(k)["camera"].K, label["K"])
        assert shard.image(k).shape == (192, 192, 3)
        assert np.abs(shard.image(k).astype(int) - image).mean() < 12          # JPEG; swapped channels are far off
    assert shard.mask(0) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_shard_is_named(path, share):
    data = open(path, "rb").read()
    open(path, "wb").write(data[:int(share * len(data))])
    try:
        shard = shards.Shard(path)
    except DataError as error:
        assert path in str(error)
    else:                                                       # cut between members: the whole ones are good
        assert len(shard) < 4 and shard.image(len(shard) - 1).shape == (192, 192, 3)


@pytest.mark.parametrize("reads", [lambda path: len(shards.Shard(path)), lambda path: len(list(stored.read(path))),
                                   stored.describe])
def test_a_damaged_header_does_not_pass_for_the_end(path, reads):
    """tarfile stops there and says nothing: half the pictures would be gone unnoticed."""
    reads(path)
    with tarfile.open(path) as tar:
        at = tar.getmembers()[4].offset
    with open(path, "r+b") as file:
        file.seek(at + 10)
        file.write(b"\xff" * 300)
    with pytest.raises(DataError, match=f"{path} cannot be read .*byte {at}"):
        reads(path)


def test_what_is_not_a_shard_is_named(tmp_path):
    text = tmp_path / "crops-1.tar"
    text.write_text("no tar " * 200)
    for bad in (str(text), str(tmp_path / "absent.tar"), packed(tmp_path / "crops-2.tar", [("a.txt", b"x")])):
        with pytest.raises(DataError, match=bad):
            shards.Shard(bad)


def test_a_damaged_picture_and_a_missing_label_are_named(path, tmp_path):
    contents = members(path)
    broken = [(n, b"\xff\xd8 nothing" if n == "000001.jpg" else d) for n, d in contents]
    shard = shards.Shard(packed(tmp_path / "crops-1.tar", broken))
    with pytest.raises(DataError, match="picture 1 .*crops-1.tar"):
        shard.image(1)
    for key in ("K", "hands"):
        without = [(n, json.dumps({**json.loads(d), key: None}).encode() if "2.json" in n else d) for n, d in contents]
        with pytest.raises(DataError, match="label 2 .*crops-2.tar"):
            shards.Shard(packed(tmp_path / "crops-2.tar", without)).label(2)


def joints(change):
    """A change of joints_px (21, 2) and joints_m (21, 3) of the only hand, in place."""
    def changed(record):
        hand = record["hands"][0]
        px, m = np.array(hand["joints_px"]), np.array(hand["joints_m"])
        change(px, m)
        hand.update(joints_px=px.tolist(), joints_m=m.tolist())
    return changed


def far_out(px, m):
    m[:, 0] += 20.0
    px[:, 0] += 20.0 * 1.1 * 192 / m[:, 2]


def one_point(px, m):
    m[:], px[:] = m[0], px[0]


@pytest.mark.parametrize("change, says", [
    (joints(lambda px, m: m.__setitem__((4, 2), -0.1)), "in front of the camera"),
    (joints(lambda px, m: m.fill(np.nan)), "in front of the camera"),
    (joints(lambda px, m: px.__iadd__(3000)), "joints_px .* for joint 0, which its camera sees at"),
    (joints(lambda px, m: px.__setitem__((7, 1), px[7, 1] + 0.6)), "joints_px .* for joint 7, which its camera sees"),
    (joints(lambda px, m: px.__setitem__((7, 1), np.nan)), "joints_px that are not finite"),
    (joints(far_out), "a hand outside its picture"),
    (joints(one_point), "a hand without any length"),
    (lambda r: r["hands"][0]["state"].__setitem__(3, -1), "states from -1 to"),
    (lambda r: r["hands"][0]["state"].__setitem__(3, 9), "states from 1 to 9, known are 0 to 5"),
    (lambda r: r["hands"][0]["state"].__setitem__(3, 10**30), "is not complete"),
    (lambda r: r.update(K=np.zeros((3, 3)).tolist()), "no usable camera .*calibrat"),
    (lambda r: r["K"][0].__setitem__(0, np.nan), "no usable camera .*not finite"),
    (lambda r: r.update(distortion_model="fish"), "no usable camera .*'fish' is not known"),
    (lambda r: r.update(distortion_model=["plumb_bob"]), "no usable camera"),
    (lambda r: r.update(D=[0.1] * 5, distortion_model="equidistant"), "no usable camera .*5 coefficients"),
    (lambda r: r.update(width=0), "no usable camera .*0 x 192"),
    (lambda r: r.update(D=[0.1, np.inf, 0, 0, 0]), "no usable camera .*not finite"),
    (lambda r: r.update(D=[-2.0, 0, 0, 0, 0], K=[[90.0, 0, 300], [0, 90, 300], [0, 0, 1]]), "which its camera sees at"),
    (lambda r: r.update(unseen_boxes=[[1, 2, np.nan, 4]]), "unseen_boxes"),
])
def test_a_label_of_what_no_camera_has_seen_is_named(path, tmp_path, change, says):
    record = json.loads(dict(members(path))["000002.json"])
    change(record)
    new = [(n, json.dumps(record).encode() if n == "000002.json" else d) for n, d in members(path)]
    shard = shards.Shard(packed(tmp_path / "crops-1.tar", new))
    for _ in range(2):                                                  # also when it is drawn again
        with pytest.raises(DataError, match=f"label 2 of shard .*crops-1.tar.*{says}.*render it again"):
            shard.label(2)
    assert shard.label(1)["hands"]


def test_joints_that_a_lens_cannot_show_are_compared_in_the_picture_alone(path, tmp_path):
    """Of a hand partly out of view: beyond where the lens folds back joints_px are what a pinhole gives."""
    record = json.loads(dict(members(path))["000000.json"])
    camera = Camera(192, 192, np.array(record["K"]), "plumb_bob", np.array([-0.85, 0.0, 0.0, 0.0, 0.0]))
    m = np.array(record["hands"][0]["joints_m"])
    m[12, :2] = 0.66 * m[12, 2], 0.0
    lens = cameras.project(camera, m)
    assert np.isnan(lens[12]).all() and np.isfinite(np.delete(lens, 12, 0)).all()
    pinhole = cameras.project(replace(camera, D=np.zeros(5)), m[12])
    assert 192 < pinhole[0] < 192 * (1 + shards.NEAR)
    for at, fine in ((pinhole, True), (pinhole + 3000, True), ((180.0, 96.0), False)):
        record["hands"][0].update(joints_m=m.tolist(), joints_px=np.where(np.isnan(lens), at, lens).tolist())
        record.update(D=camera.D.tolist())
        new = [(n, json.dumps(record).encode() if n == "000000.json" else d) for n, d in members(path)]
        shard = shards.Shard(packed(tmp_path / "crops-1.tar", new))
        if fine:
            assert len(shard.label(0)["hands"]) == 1
        else:
            with pytest.raises(DataError, match="joint 12, which its camera sees at .nan, nan"):
                shard.label(0)


def test_a_picture_of_another_size_than_its_label_is_named(path, tmp_path):
    record = {**json.loads(dict(members(path))["000001.json"]), "width": 200}
    new = [(n, json.dumps(record).encode() if n == "000001.json" else d) for n, d in members(path)]
    shard = shards.Shard(packed(tmp_path / "crops-1.tar", new))
    assert shard.label(1)["camera"].width == 200
    with pytest.raises(DataError, match="picture 1 .*crops-1.tar has 192 x 192 pixels, its label says 200 x 192"):
        shard.image(1)
    assert shard.label(0) and shard.image(0).shape == (192, 192, 3)


def test_the_pool_passes_over_a_corrupt_shard_and_names_it_once(path, tmp_path, caplog):
    bad = tmp_path / "crops-9.tar"
    bad.write_bytes(b"")
    pool, rng = shards.Pool(), np.random.default_rng(0)
    assert {pool.draw([str(bad), path], rng)[0].path for _ in range(20)} == {path}
    assert sum("crops-9.tar" in r.message for r in caplog.records) == 1
    with pytest.raises(DataError, match="none of the 1 shards"):
        pool.draw([str(bad)], rng)


@pytest.mark.parametrize("version", [1, stored.HANDS_VERSION + 1, "two"])
def test_a_shard_of_hands_with_other_joints_is_refused(path, version):
    """Two rigs would teach two answers to one picture."""
    for name, said in ((path, None), (path.replace("crops-0", "crops-1"), stored.HANDS_VERSION),
                       (path.replace("crops-0", "crops-2"), version)):
        packed(name, [(member, data if said is None or not member.endswith(".json") else
                       json.dumps({**json.loads(data), "hands_version": said}).encode())
                      for member, data in members(path)])
        if said != version:
            assert len(shards.Shard(name)) == 4
        else:
            with pytest.raises(DataError, match=f"crops-2.tar shows virtual hands of version {version}.*render it"):
                shards.Shard(name)


def test_a_shard_of_before_versions_were_noted_is_refused(path):
    """The renderer has always noted its seed; shards that others made say neither."""
    packed(path, [(member, json.dumps({**json.loads(data), "seed": 0}).encode() if member.endswith(".json") else data)
                  for member, data in members(path)])
    with pytest.raises(DataError, match="virtual hands of version 1 or 2, whose joints"):
        shards.Shard(path)


def test_held_out_shards_are_told_by_folder_or_name(tmp_path):
    for name in ("crops/crops-0.tar", "crops/val-0.tar", "val/crops-0.tar", "val/frames-0.tar", "frames-1.tar",
                 "crops/crops-5.tar.partial7"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(paths):
        return [p[len(str(tmp_path)) + 1:] for p in paths]

    used, held = shards.find(tmp_path, "crops")
    assert names(used) == ["crops/crops-0.tar"] and names(held) == ["crops/val-0.tar", "val/crops-0.tar"]
    used, held = shards.find(tmp_path, "frames")
    assert names(used) == ["frames-1.tar"] and names(held) == ["val/frames-0.tar"]
