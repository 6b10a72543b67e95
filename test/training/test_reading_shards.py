"""Shards: what was written comes back; what is damaged is named and passed over."""
import io
import json
import tarfile

import numpy as np
import pytest
import standin_hands

from hand_pose_ros.errors import DataError
from hand_pose_ros.training import shards


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


def test_a_label_behind_the_camera_is_refused(path, tmp_path):
    def behind(data):
        record = json.loads(data)
        record["hands"][0]["joints_m"][4][2] = -0.1
        return json.dumps(record).encode()

    changed = [(n, behind(d) if "0.json" in n else d) for n, d in members(path)]
    with pytest.raises(DataError, match="in front of the camera"):
        shards.Shard(packed(tmp_path / "crops-1.tar", changed)).label(0)


def test_the_pool_passes_over_a_corrupt_shard_and_names_it_once(path, tmp_path, caplog):
    bad = tmp_path / "crops-9.tar"
    bad.write_bytes(b"")
    pool, rng = shards.Pool(), np.random.default_rng(0)
    assert {pool.draw([str(bad), path], rng)[0].path for _ in range(20)} == {path}
    assert sum("crops-9.tar" in r.message for r in caplog.records) == 1
    with pytest.raises(DataError, match="none of the 1 shards"):
        pool.draw([str(bad)], rng)


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
