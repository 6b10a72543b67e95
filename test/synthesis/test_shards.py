"""Shards: written whole or not at all, resumed, disjoint by index, read back as they were."""
import argparse
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes

from hand_pose_ros import cli
from hand_pose_ros.errors import ConfigError, DataError
from hand_pose_ros.synthesis import assets, render, scene, sheets, shards


def _picture(seed=0):
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8), (0, 0), 3)
    mask = np.zeros((48, 48), np.uint8)
    mask[10:30, 10:30] = 3
    depth = np.where(mask > 0, 0.71234, 0).astype(np.float32)
    joints = np.column_stack([rng.uniform(-0.1, 0.1, (21, 2)), rng.uniform(0.4, 0.6, 21)])
    meta = {"kind": "crops", "hands_version": shards.HANDS_VERSION, "index": seed, "seed": 0, "width": 48, "height": 48,
            "K": [[90.0, 0, 24], [0, 90.0, 24], [0, 0, 1]],
            "distortion_model": "plumb_bob", "D": [0.0] * 5, "melanin": 0.4, "background": "wall",
            "hands": [{"joints_m": joints.tolist(), "joints_px": (joints[:, :2] / joints[:, 2:] * 90 + 24).tolist(),
                       "state": [1] * 20 + [2], "is_right": False, "box": [10.0, 10.0, 30.0, 30.0],
                       "hand_length_m": 0.19}]}
    return image, meta, mask, depth


def _write(path, indices):
    with shards.ShardWriter(path) as writer:
        for index in indices:
            writer.add(index, *_picture(index))


@given(st.integers(0, 5000), st.integers(1, 5000), st.integers(1, 700))
def test_ranges_cover_every_index_once_whatever_the_start(start, count, size):
    ranges = shards.ranges(start, count, size)
    assert [i for a, b in ranges for i in range(a, b)] == list(range(start, start + count))
    assert all(0 < b - a <= size for a, b in ranges)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / shards.name("crops", 3)
    _write(path, [3, 4])
    one, two = shards.read(path)
    assert (one["index"], two["index"]) == (3, 4)
    sample = shards.decode(two)
    image, meta, mask, depth = _picture(4)
    assert np.abs(sample.image.astype(int) - image).mean() < 4
    assert np.array_equal(sample.parts, mask)
    assert np.nanmax(np.abs(sample.depth - depth)[mask > 0]) <= 0.51e-4 and np.isnan(sample.depth[0, 0])
    assert np.allclose(sample.joints_m, meta["hands"][0]["joints_m"]) and sample.is_right is False
    assert sample.state[20] == 2 and np.allclose(sample.camera.K, meta["K"])


def test_other_readers_can_read_it_too(tmp_path):
    path = tmp_path / "crops-0.tar"
    _write(path, [7])
    with tarfile.open(path) as tar:
        names = tar.getnames()
        assert names == ["000000007.jpg", "000000007.json", "000000007.mask.png", "000000007.depth.png"]
        assert json.load(tar.extractfile(names[1]))["index"] == 7


def test_a_failure_leaves_no_shard_behind(tmp_path):
    path = tmp_path / "crops-0.tar"
    with pytest.raises(RuntimeError), shards.ShardWriter(path) as writer:
        writer.add(0, *_picture())
        raise RuntimeError("power cut")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "crops-0.tar"

    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="No space left.*finished shards are kept"), shards.ShardWriter(path) as writer:
        monkeypatch.setattr(writer._tar, "addfile", full)
        writer.add(0, *_picture())
    assert list(tmp_path.iterdir()) == []


def test_cut_off_or_foreign_files_are_named(tmp_path):
    path = tmp_path / "crops-0.tar"
    _write(path, range(4))
    whole = path.read_bytes()
    for length in (len(whole) - 3000, len(whole) // 2, tarfile.RECORDSIZE):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="crops-0.tar"):
            list(shards.read(path))
    path.write_text("not a tar")
    with pytest.raises(DataError, match="crops-0.tar"):
        list(shards.read(path))


@pytest.mark.parametrize("wrong", [dict(count=0), dict(start=-1), dict(workers=0), dict(seed=-3), dict(kind="films"),
                                   dict(width=5)])
def test_impossible_settings_are_refused_before_any_work(tmp_path, wrong):
    settings = {"kind": "crops", "out": tmp_path / "new", "count": 10} | wrong
    with pytest.raises(ConfigError):
        render.write(**settings)
    assert wrong == dict(width=5) or not (tmp_path / "new").exists()


def test_finished_shards_are_not_rendered_again(tmp_path):
    path = tmp_path / shards.name("crops", 0)
    _write(path, range(3))
    before, said = path.read_bytes(), []
    assert render.write("crops", tmp_path, 3, width=48, report=said.append) == 0
    assert path.read_bytes() == before and "3 of 3" in said[0]


@pytest.mark.parametrize("changed, said", [
    (dict(seed=4), "seed 0 instead of 4"), (dict(width=64), "width 48 instead of 64"), (dict(depth=True), "no depth")])
def test_shards_of_other_settings_are_not_taken_for_those_asked_for(tmp_path, changed, said):
    with shards.ShardWriter(tmp_path / shards.name("crops", 0)) as writer:
        for index in range(3):
            writer.add(index, *_picture(index)[:3])
    with pytest.raises(ConfigError, match=f"{said}.*another --out"):
        render.write("crops", tmp_path, 3, **{"width": 48, **changed}, report=lambda _: None)


@pytest.mark.parametrize("held, start, count, refused", [
    ([(0, 750)], 0, 750, False), ([(0, 500), (500, 750)], 750, 750, False),
    ([(0, 500), (500, 750), (750, 1000)], 0, 1500, True), ([(500, 1000)], 750, 100, True),
    ([(500, 700)], 750, 100, False), ([(1000, 1500)], 0, 1000, False)])
def test_no_picture_is_stored_twice(tmp_path, monkeypatch, held, start, count, refused):
    image, meta, _, _ = _picture()
    for first, last in held:
        for a, b in shards.ranges(first, last - first):
            with shards.ShardWriter(tmp_path / shards.name("crops", a)) as writer:
                for index in range(a, b):
                    writer.add(index, image[:4, :4], meta)
    monkeypatch.setattr(render, "_is_done", lambda *_: True)
    if refused:
        with pytest.raises(ConfigError, match="a second time.*multiple of 500"):
            render.write("crops", tmp_path, count, start=start)
    else:
        assert render.write("crops", tmp_path, count, start=start, report=lambda text: None) == 0


def test_crops_that_are_not_square_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="64x48 are not square"):
        render.write("crops", tmp_path, 1, width=64, height=48)


def test_a_fault_in_a_render_process_is_named_and_not_taken_for_want_of_memory(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(render, "picture", lambda *_: {}["scene"])
    monkeypatch.setattr(render.scene, "make_renderer", lambda *_: types.SimpleNamespace(device="none"))
    monkeypatch.setattr(render.signal, "signal", lambda *_: None)
    monkeypatch.setattr(render, "_end_with_parent", lambda: None)
    errors = multiprocessing.get_context("spawn").SimpleQueue()
    settings = "crops", 48, 48, 0, tmp_path, False, (), False
    render._work(settings, [(0, 1)], multiprocessing.Value("q", 0), errors, False)
    assert "KeyError('scene')" in errors.get() and "Traceback" in capfd.readouterr().err


def test_pictures_of_two_sizes_make_one_sheet(tmp_path):
    _write(tmp_path / "crops-000000000.tar", [0, 1])
    image, meta, _, _ = _picture(2)
    with shards.ShardWriter(tmp_path / "crops-000000500.tar") as writer:
        writer.add(500, cv2.resize(image, (64, 64)), {**meta, "width": 64, "height": 64})
    assert sheets.contact_sheet(tmp_path, "crops", labels=False).shape == (48, 144, 3)


def test_sheets_and_statistics_of_a_folder(tmp_path):
    _write(tmp_path / shards.name("crops", 0), range(5))
    sheet = sheets.contact_sheet(tmp_path, "crops", 5, 4)
    assert sheet.shape == (2 * 96, 4 * 96, 3)
    summary = sheets.statistics(tmp_path, "crops", tmp_path / "page.png")
    assert summary["pictures"] == summary["hands"] == 5 and summary["right"] == 0.0
    assert cv2.imread(str(tmp_path / "page.png")) is not None
    with pytest.raises(DataError, match="hand-pose render"):
        sheets.contact_sheet(tmp_path, "frames")


def test_persons_without_a_known_skin_are_not_shown_as_pale(tmp_path, monkeypatch):
    image, meta, *rest = _picture()
    del meta["melanin"]
    with shards.ShardWriter(tmp_path / shards.name("frames", 0)) as writer:
        writer.add(0, image, meta, *rest)
    drawn = []
    monkeypatch.setattr(Axes, "set_title", lambda axes, title: drawn.append(title))
    sheets.statistics(tmp_path, "frames", tmp_path / "page.png")
    assert drawn and not [title for title in drawn if "skin" in title]


@pytest.mark.parametrize("damage, said", [
    ({"jpg": b"no picture"}, "cannot be decoded"), ({"jpg": b""}, "cannot be decoded"), ({"meta": None}, "no meta")])
def test_a_finished_shard_that_is_damaged_is_named(tmp_path, monkeypatch, damage, said):
    path = tmp_path / shards.name("crops", 0)
    _write(path, range(2))
    read = shards.read
    monkeypatch.setattr(shards, "read", lambda path: (
        {key: value for key, value in {**record, **damage}.items() if value is not None} for record in read(path)))
    for page in (lambda: sheets.contact_sheet(tmp_path, "crops"),
                 lambda: sheets.statistics(tmp_path, "crops", tmp_path / "page.png")):
        with pytest.raises(DataError, match=rf"shard {path}.*{said}.*render it again"):
            page()


def test_a_contact_sheet_that_the_disk_does_not_take_is_said(tmp_path):
    _write(tmp_path / shards.name("crops", 0), range(3))
    (tmp_path / "crops-sheet.jpg").symlink_to("/dev/full")
    with pytest.raises(DataError, match="crops-sheet.jpg cannot be written: No space left"):
        render.pages(tmp_path, "crops")


@pytest.mark.parametrize("words, variable, said", [
    (("--kind", "bag", "--width", "100", "--start", "0", "--depth", "--seconds", "0.04"), {},
     "--start --width --depth cannot be chosen"),
    (("--kind", "bag", "--seconds", "0.04"), {"WORLD_SIZE": "2"}, "a bag is made by one process"),
    (("--motion", "wave", "--seconds", "3", "--compressed-only"), {},
     "--motion --seconds --compressed-only cannot be chosen for crops, but for a bag: give --kind bag"),
    (("--kind", "bag", "--shown", "--seconds", "0.04"), {}, "--shown can be chosen for crops only, not for a bag"),
    (("--poses", "fist,,ok"), {}, "--poses 'fist,,ok' has an empty name"),
    (("--count", "3"), {"RANK": "abc"}, "RANK is 'abc'")])
def test_what_would_not_be_heeded_is_refused(tmp_path, monkeypatch, capsys, words, variable, said):
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["render", *words, "--out", str(tmp_path / "new")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_every_asset_is_looked_at_before_hours_are_spent(tmp_path, monkeypatch):
    """Also one that only one picture in hundreds needs."""
    shutil.copytree(assets.folder(), tmp_path / "assets")
    monkeypatch.setenv("HAND_POSE_ASSETS", str(tmp_path / "assets"))
    rare = tmp_path / "assets" / assets.names("skins/")[-1]
    rare.write_bytes(rare.read_bytes()[:-1] + b"!")
    with pytest.raises(DataError, match=f"{rare} was altered"):
        render.write("crops", tmp_path / "new", 1)
    assert not list((tmp_path / "new").iterdir())


def test_ranks_on_one_machine_share_its_cores(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(render.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(render.os, "sched_getaffinity", lambda _: set(range(16)))           # a container's share
    monkeypatch.setattr(render, "write", lambda *args, **more: asked.append(args[7]))
    for ranks in (None, "8", "32"):
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False) if ranks is None else \
            monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        assert cli.main(["render", "--out", str(tmp_path), "--no-sheet"]) == 0
    assert asked == [16, 2, 1]


def test_the_rank_that_finishes_last_makes_the_pages_of_all(tmp_path, monkeypatch, capsys):
    size, shown = shards.PER_SHARD, []

    def write(kind, out, *_, rank, **__):
        _write(tmp_path / shards.name("crops", rank * size), range(rank * size, rank * size + 1))
        return 1

    monkeypatch.setattr(render, "write", write)
    monkeypatch.setattr(render, "pages", lambda out, kind: shown.append(len(list(out.glob("*.tar")))) or ["page"])
    monkeypatch.setenv("WORLD_SIZE", "3")
    said = []
    for rank in ("0", "2", "1"):
        monkeypatch.setenv("RANK", rank)
        assert cli.main(["render", "--out", str(tmp_path), "--count", str(3 * size)]) == 0
        said.append(capsys.readouterr().out)
    assert shown == [1, 3]
    assert "1 of 3 shards" in said[0] and said[1] == "" and said[2] == "page\n"
    monkeypatch.setattr(render, "write", lambda *_, **__: 0)                 # called again: one of them is enough
    for rank in ("0", "1", "2"):
        monkeypatch.setenv("RANK", rank)
        assert cli.main(["render", "--out", str(tmp_path), "--count", str(3 * size)]) == 0
    assert shown == [1, 3, 3]


def test_pages_that_another_rank_has_outrun_are_made_again(tmp_path, monkeypatch, capsys):
    size, shown = shards.PER_SHARD, []

    def pages(out, kind):
        shown.append(len(list(out.glob("*.tar"))))
        _write(tmp_path / shards.name("crops", size), range(size, size + 1))               # meanwhile
        return ["page"]

    monkeypatch.setattr(render, "write", lambda *_, **__: _write(tmp_path / shards.name("crops", 0), range(1)))
    monkeypatch.setattr(render, "pages", pages)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["render", "--out", str(tmp_path), "--count", str(2 * size)]) == 0
    assert shown == [1, 2] and capsys.readouterr().out == "page\n"


def test_whole_frames_say_whose_skins_they_show(tmp_path):
    renderer = scene.make_renderer(64, 48)
    metas = [render.picture("frames", renderer, 4, index)[1] for index in range(6)]
    assert all(meta["skins"] or meta["mode"] == "none" for meta in metas) and any(meta["skins"] for meta in metas)
    assert all(0.0 <= skin <= 1.0 for meta in metas for skin in meta["skins"])


def test_hidden_joints_are_drawn_hollow():
    image, meta, _, _ = _picture()
    meta["hands"][0]["joints_px"] = [[12.0, 12.0]] * 20 + [[36.0, 36.0]]
    meta["hands"][0]["box"] = [0.0, 0.0, 200.0, 200.0]
    drawn = sheets.draw(np.zeros_like(image), meta, scale=4)
    assert tuple(drawn[50, 50]) == (60, 230, 60)                   # filled: its middle is coloured
    assert tuple(drawn[146 - 4:147, 146].reshape(-1, 3).max(0)) != (0, 0, 0)


def test_an_interrupted_run_says_that_it_can_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(render, "write", interrupted)
    parser = argparse.ArgumentParser()
    render.add_arguments(parser)
    assert render.main(parser.parse_args(["--out", str(tmp_path)])) == 130
    assert "finished shards are kept" in capsys.readouterr().out


def test_only_what_is_missing_is_rendered(tmp_path, monkeypatch):
    asked = []

    class Process:
        exitcode, pid = 0, None

        def __init__(self, target, args):
            asked.extend(args[1])

        def start(self):
            pass

        def is_alive(self):
            return False

    context = types.SimpleNamespace(Value=lambda *_: types.SimpleNamespace(value=0), Process=Process,
                                    SimpleQueue=multiprocessing.SimpleQueue)
    monkeypatch.setattr(render.multiprocessing, "get_context", lambda _: context)
    size, options = shards.PER_SHARD, dict(width=48, report=lambda _: None)
    _write(tmp_path / shards.name("crops", size), range(size, 2 * size))     # the second of three is there
    _write(tmp_path / shards.name("crops", 2 * size), range(2 * size, 2 * size + 3))     # and the start of the third
    render.write("crops", tmp_path, 3 * size, **options)
    assert asked == [(0, size), (2 * size, 3 * size)]
    asked.clear()
    for rank in range(3):                                                    # torchrun ranks: disjoint, complete
        render.write("crops", tmp_path / "new", 5 * size, rank=rank, world=3, **options)
    assert sorted(asked) == [(k * size, (k + 1) * size) for k in range(5)]
    with pytest.raises(ConfigError, match="world size 3"):
        render.write("crops", tmp_path, 5, rank=3, world=3)


def workers_of(process) -> list[int]:
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [int(pid) for task in tasks for pid in task.read_text().split()]
    return [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("victim, signal_sent", [("worker", signal.SIGKILL), ("parent", signal.SIGTERM),
                                                 ("parent", signal.SIGKILL)])
def test_a_killed_process_ends_the_rendering_and_leaves_nobody_behind(tmp_path, victim, signal_sent):
    command = [sys.executable, "-m", "hand_pose_ros", "render", "--count", "100000", "--workers", "2", "--width", "64",
               "--no-sheet", "--out", str(tmp_path)]
    package = str(Path(render.__file__).resolve().parents[2])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env={**os.environ, "PYTHONPATH": package})
    try:
        end_s = time.monotonic() + 90
        while len(found := workers_of(process)) < 2 or not list(tmp_path.glob("*.partial*")):
            assert process.poll() is None and time.monotonic() < end_s
            time.sleep(0.1)
        os.kill(found[0] if victim == "worker" else process.pid, signal_sent)
        said = process.communicate(timeout=60)[0]
        end_s = time.monotonic() + 10
        while any(map(alive, found)) and time.monotonic() < end_s:      # a killed parent does not wait for them
            time.sleep(0.1)
        assert process.returncode not in (0, None) and not any(map(alive, found))
        assert victim == "parent" or "killed for want of memory" in said and "fewer --workers" in said
    finally:
        process.kill()
        process.wait()


def test_what_a_killed_writer_left_is_removed_once_it_is_old(tmp_path):
    old, fresh = tmp_path / "crops-000000000.partial77", tmp_path / "crops-000000500.partial78"
    for path in (old, fresh):
        path.write_bytes(b"half a shard")
    os.utime(old, (1, 1))
    shards.remove_abandoned(tmp_path, "crops")
    assert fresh.exists() and not old.exists()
