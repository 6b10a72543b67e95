"""The cache of built networks: whole or not there, built once, bounded."""
from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies

from hand_pose_ros.errors import ModelError
from hand_pose_ros.runtimes import cache as caches
from hand_pose_ros.runtimes.cache import EngineCache, default_folder, key_of

INGREDIENTS = {"weights": "a" * 64, "torch": "2.13.0", "gpu": "NVIDIA H200"}
PAYLOAD = bytes(range(256)) * 64
names = strategies.dictionaries(strategies.text(max_size=8), strategies.text(max_size=8), max_size=5)


def builder(payload=PAYLOAD, calls=None):
    def build():
        if calls is not None:
            calls.append(1)
        return payload, {"agreement": {"mean_px": 0.1}}
    return build


def refuse_to_build():
    pytest.fail("built although a whole entry is stored")


@given(names, names)
def test_key_is_the_same_exactly_for_the_same_ingredients(one, other):
    assert (key_of(one) == key_of(other)) == (one == other)
    assert key_of(dict(reversed(list(one.items())))) == key_of(one)


def test_stored_once_and_read_back(tmp_path):
    calls: list[int] = []
    first = EngineCache(tmp_path).get_or_build(INGREDIENTS, builder(calls=calls))
    second = EngineCache(tmp_path).get_or_build(INGREDIENTS, refuse_to_build)
    assert first.built_now and not second.built_now and calls == [1]
    assert second.payload == PAYLOAD and second.info == {"agreement": {"mean_px": 0.1}}
    assert [path.name for path in tmp_path.iterdir()] == [key_of(INGREDIENTS) + ".engine"]
    assert caches.read_header(tmp_path / (key_of(INGREDIENTS) + ".engine"))["ingredients"] == INGREDIENTS


def test_cut_off_anywhere_is_built_anew(tmp_path):
    cache = EngineCache(tmp_path)
    path = cache.path(key_of(INGREDIENTS))
    cache.get_or_build(INGREDIENTS, builder())
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - len(PAYLOAD) + 2, 7), len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert cache.get(INGREDIENTS) is None, length
    path.write_bytes(whole + b"more")
    assert cache.get(INGREDIENTS) is None
    assert cache.get_or_build(INGREDIENTS, builder()).built_now
    assert path.read_bytes() == whole


@pytest.mark.parametrize("position", [0, 17, 40, 200, -1, -5000])
def test_one_flipped_bit_is_built_anew(tmp_path, position):
    cache = EngineCache(tmp_path)
    cache.get_or_build(INGREDIENTS, builder())
    path = cache.path(key_of(INGREDIENTS))
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 0x10
    path.write_bytes(bytes(damaged))
    entry = cache.get(INGREDIENTS)
    assert entry is None or entry.payload == PAYLOAD        # a flipped bit in "ingredients" only changes what is listed


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04" + bytes(100), caches.MAGIC + b"\xff" * 8 + b"{}",
                                     caches.MAGIC + (2).to_bytes(8, "little") + b"{}",
                                     caches.MAGIC + (2).to_bytes(8, "little") + b"[]"])
def test_foreign_file_is_never_loaded(tmp_path, content):
    cache = EngineCache(tmp_path)
    cache.path(key_of(INGREDIENTS)).write_bytes(content)
    assert cache.get(INGREDIENTS) is None
    assert cache.get_or_build(INGREDIENTS, builder()).built_now


def test_entry_renamed_to_another_key_is_never_loaded(tmp_path):
    cache = EngineCache(tmp_path)
    cache.get_or_build(INGREDIENTS, builder())
    other = {**INGREDIENTS, "gpu": "Orin"}
    os.rename(cache.path(key_of(INGREDIENTS)), cache.path(key_of(other)))
    assert cache.get(other) is None


def test_least_recently_used_goes_first_and_the_newest_stays(tmp_path):
    cache = EngineCache(tmp_path, limit_bytes=4 * len(PAYLOAD))
    entries = [{"n": str(n)} for n in range(3)]
    for age, ingredients in enumerate(entries):
        cache.get_or_build(ingredients, builder())
        old = time.time() - 1000 + age
        os.utime(cache.path(key_of(ingredients)), (old, old))
    cache.get(entries[0])                                   # used: now the youngest
    cache.get_or_build({"n": "new"}, builder())
    assert cache.get(entries[0]) and cache.get({"n": "new"})
    assert cache.get(entries[1]) is None
    EngineCache(tmp_path, limit_bytes=1).get_or_build({"n": "newer"}, builder())
    assert [path for path, _, _ in cache.entries()] == [cache.path(key_of({"n": "newer"}))]


def test_the_limit_takes_timings_too_and_leaves_other_programs_engines_alone(tmp_path):
    foreign, timings = tmp_path / "yolo.engine", tmp_path / "timing_cache.0123456789ab.bin"
    for path in (foreign, timings):
        path.write_bytes(b"x" * 10 * len(PAYLOAD))
        os.utime(path, (1.0, 1.0))
    cache = EngineCache(tmp_path, limit_bytes=4 * len(PAYLOAD))
    cache.get_or_build(INGREDIENTS, builder())
    assert foreign.exists() and not timings.exists()
    assert [path for path, _, _ in cache.entries()] == [cache.path(key_of(INGREDIENTS))]


def test_leftovers_of_dead_builders_are_removed_after_a_day(tmp_path):
    old, young = tmp_path / ".old.1.partial", tmp_path / ".young.2.partial"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * caches.ABANDONED_AFTER_S,) * 2)
    EngineCache(tmp_path).get_or_build(INGREDIENTS, builder())
    assert not old.exists() and young.exists()


def _build_slowly(folder, log):
    def build():
        with open(log, "a") as stream:
            stream.write(f"{os.getpid()}\n")
        time.sleep(0.3)
        return PAYLOAD, {}
    assert EngineCache(folder).get_or_build(INGREDIENTS, build).payload == PAYLOAD


def test_several_processes_build_once(tmp_path):
    log = tmp_path / "builds.txt"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_build_slowly, args=(tmp_path / "cache", log)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(log.read_text().split()) == 1


HOLDER = """
    import sys, time
    from hand_pose_ros.runtimes.cache import EngineCache
    def build():
        print("building", flush=True)
        time.sleep(60)
    EngineCache(sys.argv[1]).get_or_build({ingredients!r}, build)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of INGREDIENTS and builds for ever."""
    program = textwrap.dedent(HOLDER).format(ingredients=INGREDIENTS)
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "building\n"
        yield process
        process.kill()


def test_lock_of_a_killed_builder_is_free(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    assert EngineCache(tmp_path, lock_timeout_s=10).get_or_build(INGREDIENTS, builder()).built_now


def test_lock_of_a_living_builder_is_waited_for_and_named(tmp_path, holder):
    with pytest.raises(ModelError, match=f"process {holder.pid} "):
        EngineCache(tmp_path, lock_timeout_s=0.2).get_or_build(INGREDIENTS, refuse_to_build)


def test_failed_build_leaves_nothing_and_frees_the_lock(tmp_path):
    def fail():
        raise ModelError("no converter for aten.foo")
    cache = EngineCache(tmp_path)
    with pytest.raises(ModelError, match="aten.foo"):
        cache.get_or_build(INGREDIENTS, fail)
    assert list(tmp_path.iterdir()) == []
    assert cache.get_or_build(INGREDIENTS, builder()).built_now


def test_folder_that_cannot_be_made_still_serves_and_says_so(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    entry = EngineCache(blocked / "engines").get_or_build(INGREDIENTS, builder())
    assert entry.payload == PAYLOAD and "ROS_HOME" in entry.info["not_stored"]


def test_folder_is_below_ros_home_else_the_users_cache_never_temp():
    assert default_folder({"ROS_HOME": "/data/ros"}) == Path("/data/ros/hand_pose_ros/engines")
    assert default_folder({"XDG_CACHE_HOME": "/data/cache"}) == Path("/data/cache/hand_pose_ros/engines")
    assert default_folder({}) == Path.home() / ".cache/hand_pose_ros/engines"
    assert not str(default_folder({"TMPDIR": "/data/tmp"})).startswith(("/data/tmp", tempfile.gettempdir()))
