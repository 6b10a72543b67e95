"""Bags written and read back, damaged on purpose, and checked against an independent MCAP reader."""
from __future__ import annotations

import resource
import shutil
import sqlite3
import struct
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hand_pose_ros import bags
from hand_pose_ros import camera as cameras
from hand_pose_ros.errors import DataError
from hand_pose_ros.skeleton import NUM_JOINTS
from hand_pose_ros.types import Camera, Hand, JointState

START_NS = 1_700_000_000_000_000_000
STEP_NS = 33_333_333
IMAGE, INFO, DEPTH = "/camera/color/image_raw", "/camera/color/camera_info", "/camera/aligned_depth_to_color/image_raw"
OPTICAL = "camera_color_optical_frame"
CAMERA = Camera(64, 48, np.array([[50.0, 0, 31.5], [0, 52.0, 23.5], [0, 0, 1]]), "plumb_bob",
                np.array([0.1, -0.05, 0.001, 0.002, 0.01]), OPTICAL)


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def a_hand(seed: int = 0) -> Hand:
    rng = np.random.default_rng(seed)
    joints = rng.normal(0, 0.05, (NUM_JOINTS, 3)) + (0, 0, 0.5)
    return Hand(0.9, 0.8, np.array([1.0, 2, 30, 40]), rng.uniform(0, 48, (NUM_JOINTS, 2)), joints, joints - joints[0],
                np.full(NUM_JOINTS, 0.7), np.full(NUM_JOINTS, JointState.VISIBLE, np.uint8), np.full(NUM_JOINTS, 0.02),
                np.full(NUM_JOINTS, 0.004), 0.186, track_id=7)


def write(path: Path, count: int = 30, info: bool = True, depth: bool = True, stamps: list[int] | None = None,
          compressed_topic: bool = False, numbers: range | None = None, **options) -> Path:
    with bags.BagWriter(path, **options) as bag:
        bag.transform(START_NS, "base_link", OPTICAL, (1.0, 2.0, 3.0), (0.5, -0.5, 0.5, -0.5), static=True)
        for number in numbers or range(count):
            stamp = START_NS + number * STEP_NS if stamps is None else stamps[number]
            if compressed_topic:
                bag.compressed_image(IMAGE + "/compressed", stamp, OPTICAL, picture(number), "png")
            else:
                bag.image(IMAGE, stamp, OPTICAL, picture(number), ("rgb8", "bgr8", "rgba8")[number % 3])
            if info:
                bag.camera_info(INFO, stamp, CAMERA)
            if depth:
                bag.depth(DEPTH, stamp + 1_000_000, OPTICAL, np.full((48, 64), 0.5 + number / 1000))
            bag.hands("/ground_truth/hands", stamp, OPTICAL, (a_hand(number),))
    return path


def frames(path, **options):
    with bags.BagReader(path) as bag:
        return list(bag.frames(**options)), bag.problems


@pytest.mark.parametrize("name, options", [("a.mcap", {}), ("folder", {}), ("z.mcap", {"compressed": True}),
                                           ("sql", {"storage": "sqlite3"})])
def test_what_is_written_is_read(tmp_path, name, options):
    found, problems = frames(write(tmp_path / name, **options))
    assert not problems
    assert [f.frame.stamp_ns for f in found] == [START_NS + n * STEP_NS for n in range(30)]
    for number, item in enumerate(found):
        np.testing.assert_array_equal(item.frame.image, picture(number))
        np.testing.assert_allclose(item.frame.depth, 0.5 + number / 1000, atol=5e-4)
    camera = found[0].frame.camera
    np.testing.assert_array_equal(camera.K, CAMERA.K)
    np.testing.assert_array_equal(camera.D, CAMERA.D)
    assert camera.calibrated and camera.frame_id == OPTICAL and (camera.width, camera.height) == (64, 48)
    assert all(f.frame.camera is camera for f in found)


def test_depth_of_another_camera_is_not_taken_for_the_images(tmp_path):
    path = tmp_path / "a.mcap"
    with bags.BagWriter(path) as bag:
        for number in range(3):
            stamp = START_NS + number * STEP_NS
            bag.image(IMAGE, stamp, OPTICAL, picture(number), "rgb8")
            bag.camera_info(INFO, stamp, CAMERA)
            bag.depth(DEPTH, stamp, "camera_depth_optical_frame", np.full((48, 64), 0.5))
    found, problems = frames(path)
    assert len(found) == 3 and all(item.frame.depth is None for item in found)
    (text,) = problems
    assert "camera_depth_optical_frame" in text and "registered" in text and problems[text] == 3


@pytest.mark.parametrize("topic, said", [("/camera/color/image_rect", True), (IMAGE, False)])
def test_a_rectified_image_has_no_distortion_left(tmp_path, topic, said):
    path = tmp_path / "a.mcap"
    with bags.BagWriter(path) as bag:
        for number in range(3):
            bag.image(topic, START_NS + number * STEP_NS, OPTICAL, picture(number), "rgb8")
            bag.camera_info(INFO, START_NS + number * STEP_NS, CAMERA)
    found, problems = frames(path)
    assert found[0].frame.camera.D.any()
    assert [count for text, count in problems.items() if "image-is-rectified" in text] == ([3] if said else [])
    found, problems = frames(path, rectified=True)
    assert len(found) == 3 and not found[0].frame.camera.D.any() and not problems


def test_hands_and_transforms_come_back(tmp_path):
    with bags.BagReader(write(tmp_path / "a.mcap", 3)) as bag:
        truth = bag.hands()
        assert sorted(truth) == [START_NS + n * STEP_NS for n in range(3)]
        message = truth[START_NS]
        assert message.hands[0].track_id == 7 and message.header.frame_id == OPTICAL
        np.testing.assert_allclose(message.hands[0].joints_camera[3].z, a_hand(0).joints_m[3, 2])
        (transform,) = bag.transforms()
        assert (transform.header.frame_id, transform.child_frame_id) == ("base_link", OPTICAL)
        assert transform.transform.translation.z == 3.0 and transform.transform.rotation.y == -0.5


def test_the_mount_of_a_camera_goes_up_to_the_root(tmp_path):
    """base -> mast, 1 m up and turned 90 degrees about z; mast -> camera, 0.5 m along the mast's x: base's y."""
    half = 0.5 ** 0.5
    with bags.BagWriter(tmp_path / "x.mcap") as out:
        out.transform(1, "mast", "camera", (0.5, 0, 0), static=True)
        out.transform(1, "base", "mast", (0, 0, 1.0), (0, 0, half, half), static=True)
        out.transform(1, "base", "other", (9, 9, 9), static=True)
        out.transform(1, "loop", "loop", (1, 0, 0), static=True)
    with bags.BagReader(tmp_path / "x.mcap") as reader:
        mount = reader.mount("camera")
        assert mount["parent"] == "base"
        np.testing.assert_allclose(mount["translation"], (0, 0.5, 1.0), atol=1e-6)
        np.testing.assert_allclose(mount["rotation"], (0, 0, half, half), atol=1e-6)
        assert reader.mount("/camera") == mount and reader.mount("unknown") is None
        assert reader.mount("loop")["parent"] == "loop", "a frame that is its own parent ends the search"


def test_an_independent_mcap_reader_sees_the_same_messages(tmp_path):
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    path = write(tmp_path / "a.mcap", 4, compressed=True)
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        images = [message for *_, message in reader.iter_decoded_messages(topics=[IMAGE])]
    assert [m.header.stamp.nanosec for m in images] == [(START_NS + n * STEP_NS) % 10**9 for n in range(4)]
    assert images[0].encoding == "rgb8" and bytes(images[0].data) == picture(0).tobytes()
    assert images[1].encoding == "bgr8" and bytes(images[1].data) == picture(1)[..., ::-1].tobytes()


def test_two_writings_are_the_same_bytes(tmp_path):
    assert write(tmp_path / "a.mcap").read_bytes() == write(tmp_path / "b.mcap").read_bytes()


def test_compressed_images_are_found_and_decoded(tmp_path):
    found, problems = frames(write(tmp_path / "a.mcap", 5, compressed_topic=True))
    assert not problems and len(found) == 5
    np.testing.assert_array_equal(found[2].frame.image, picture(2))
    with bags.BagReader(tmp_path / "a.mcap") as bag:                          # named as in image_transport
        assert bag.image_topic(IMAGE).name == bag.image_topic(IMAGE + "/compressed").name == IMAGE + "/compressed"


def test_frames_come_in_the_order_of_their_stamps(tmp_path):
    order = [0, 2, 1, 3, 6, 5, 4, 7]
    path = tmp_path / "a.mcap"
    with bags.BagWriter(path) as bag:
        for place, number in enumerate(order):
            message = bags.new_message(bags.IMAGE)
            bags.stamp_header(message.header, START_NS + number * STEP_NS, OPTICAL)
            bags.imaging.encode(picture(number), message)
            bag.write(IMAGE, bags.IMAGE, message, START_NS + place * STEP_NS)
            bag.camera_info(INFO, START_NS + place * STEP_NS, CAMERA)
    found, problems = frames(path)
    assert [f.frame.stamp_ns for f in found] == [START_NS + n * STEP_NS for n in range(8)] and not problems


@pytest.mark.parametrize("stamps", ["constant", "since the computer's start"])
def test_a_topic_whose_stamps_lag_does_not_keep_the_bag_in_memory(stamps):
    """A camera_info whose stamp nobody updates: images must come while the bag is read, not after it."""
    class Recording(bags.BagReader):
        def __init__(self):
            self.problems, self.read = bags.Counter(), 0

        def messages(self, topics=None):
            for k in range(600):
                log_ns = 10**12 + k * 33_000_000
                for topic in ("info", "image"):
                    self.read += 1
                    lag_ns = 0 if topic == "image" else k * 33_000_000 if stamps == "constant" else 9 * 10**11
                    yield bags.Recorded(topic, "x", log_ns, log_ns - lag_ns, b"", self)

    bag = Recording()
    held = [bag.read - given for given, _ in enumerate(bag.in_stamp_order(["info", "image"]))]
    assert len(held) == 1200 and max(held) < 2.5 * bags.REORDER_NS / 33e6


def test_split_and_several_files_are_one_bag(tmp_path):
    parts = [write(tmp_path / f"part{k}.mcap", numbers=range(10 * k, 10 * k + 10)) for k in range(3)]
    whole, _ = frames(write(tmp_path / "whole.mcap"))
    several, problems = frames(parts[::-1])
    assert not problems and [f.frame.stamp_ns for f in several] == [f.frame.stamp_ns for f in whole]
    folder = tmp_path / "split"
    folder.mkdir()
    for number, part in enumerate(parts):
        shutil.copy(part, folder / f"split_{number}.mcap")
    names = ", ".join(f"split_{number}.mcap" for number in range(4))
    (folder / "metadata.yaml").write_text(f"rosbag2_bagfile_information: {{relative_file_paths: [{names}]}}")
    split, problems = frames(folder)
    assert [f.frame.stamp_ns for f in split] == [f.frame.stamp_ns for f in whole]
    assert list(problems) == ["split_3.mcap is named in metadata.yaml but missing"]


def test_zstd_by_file_and_by_message(tmp_path):
    from rosbags.rosbag2.enums import CompressionFormat, CompressionMode, StoragePlugin
    from rosbags.rosbag2.writer import Writer

    plain = write(tmp_path / "plain.mcap", 6)
    for mode in (CompressionMode.FILE, CompressionMode.MESSAGE):
        path = tmp_path / mode.name
        writer = Writer(path, version=8, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer, bags.BagReader(plain) as source:
            added = {}
            for recorded in source.messages():
                if recorded.topic not in added:
                    added[recorded.topic] = writer.add_connection(recorded.topic, recorded.type,
                                                                  typestore=bags.typestore())
                writer.write(added[recorded.topic], recorded.log_ns, recorded.raw)
        found, problems = frames(path)
        assert len(found) == 6 and not problems
        np.testing.assert_array_equal(found[4].frame.image, picture(4))


@pytest.mark.parametrize("name, options", [("a.mcap", {}), ("z.mcap", {"compressed": True}),
                                           ("sql", {"storage": "sqlite3"})])
def test_a_cut_off_bag_gives_what_it_holds_and_says_so(tmp_path, name, options):
    path = write(tmp_path / name, 60, **options)
    path = path if path.is_file() else next(path.glob("*.db3"))
    data = path.read_bytes()
    cut = tmp_path / f"cut{path.suffix}"
    cut.write_bytes(data[: 2 * len(data) // 3])
    found, problems = frames(cut)
    assert 30 <= len(found) < 50
    for number, item in enumerate(found):
        np.testing.assert_array_equal(item.frame.image, picture(number))
    (problem,) = problems
    assert "cut off" in problem and "messages" in problem


def test_a_damaged_chunk_does_not_raise(tmp_path):
    path = write(tmp_path / "z.mcap", 400, compressed=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 2: len(data) // 2 + 64] = bytes(64)
    path.write_bytes(data)
    found, problems = frames(path)
    assert found and any("z.mcap" in problem for problem in problems)


@pytest.mark.parametrize("compressed", [True, False])
def test_what_stands_behind_a_damaged_chunk_is_read_too(tmp_path, compressed):
    """The index is whole, so the reader opens it, and stops at the damage."""
    path, noise = tmp_path / "a.mcap", np.random.default_rng(0)
    with bags.BagWriter(path, compressed=compressed) as bag:
        for k in range(60):
            bag.image("/image", START_NS + k * 33_000_000, "c", noise.integers(0, 255, (120, 320, 3), dtype=np.uint8))
    data, chunks, at = bytearray(path.read_bytes()), [], 8
    while data[at] != 2:                                                      # data end
        length = int.from_bytes(data[at + 1: at + 9], "little")
        chunks += [(at + 9, length)] if data[at] == 6 else []
        at += 9 + length
    (begin, length), each = chunks[1], 60 / len(chunks)
    assert len(chunks) >= 5
    if compressed:
        data[begin + length // 2: begin + length // 2 + 40] = bytes(40)
    else:                                                                     # the length of its first message
        at = begin + 28 + 4 + int.from_bytes(data[begin + 28: begin + 32], "little") + 8
        while data[at] != 5:
            at += 9 + int.from_bytes(data[at + 1: at + 9], "little")
        data[at + 1: at + 9] = (2**40).to_bytes(8, "little")
    path.write_bytes(data)
    with bags.BagReader(path) as bag:
        stamps = [message.stamp_ns for message in bag.messages()]
    assert 60 - 2 * each <= len(stamps) <= 60 - 0.5 * each and len(set(stamps)) == len(stamps)
    assert stamps[0] == START_NS and stamps[-1] == START_NS + 59 * 33_000_000
    (problem,) = bag.problems
    assert f"{60 - len(stamps)} are lost" in problem and "recovered" in problem


@pytest.mark.parametrize("name, options", [("a.mcap", {}), ("folder", {}), ("q", {"storage": "sqlite3"})])
def test_a_full_disk_is_said_and_leaves_nothing_that_blocks_the_next_run(tmp_path, name, options):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(DataError, match=f"{name} cannot be written: .*free some space"):
            write(tmp_path / name, 100, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
    write(tmp_path / name, 2, **options)


@pytest.mark.parametrize("name", ["a.mcap", "folder"])
def test_a_bag_whose_making_fails_is_not_there(tmp_path, name):
    with pytest.raises(KeyError), bags.BagWriter(tmp_path / name) as bag:
        bag.image(IMAGE, START_NS, OPTICAL, picture(0))
        raise KeyError("of the caller")
    assert not list(tmp_path.iterdir())


def test_nothing_readable_is_refused(tmp_path):
    (tmp_path / "x.mcap").write_bytes(b"\x89MCAP0\r\n" + b"nonsense")
    (tmp_path / "x.bag").write_bytes(b"#ROSBAG V2.0")
    (tmp_path / "empty").mkdir()
    for name, words in (("x.mcap", "not a readable bag"), ("x.bag", "unknown storage"), ("empty", "no .mcap"),
                        ("none", "does not exist")):
        with pytest.raises(DataError, match=words), bags.BagReader(tmp_path / name):
            pass


def test_a_missing_or_ambiguous_topic_lists_what_is_there(tmp_path):
    path = write(tmp_path / "a.mcap", 2)
    with bags.BagReader(path) as bag:
        with pytest.raises(DataError, match="/front/image.*\n.*aligned_depth"):
            bag.image_topic("/front/image")
        with pytest.raises(DataError, match="CameraInfo"):
            bag.image_topic(INFO)
    with bags.BagWriter(tmp_path / "two.mcap") as bag:
        for topic in ("/left/image_raw", "/right/image_raw"):
            bag.image(topic, START_NS, OPTICAL, picture(0))
    with bags.BagReader(tmp_path / "two.mcap") as bag:
        with pytest.raises(DataError, match="2 image topics .*name one"):
            bag.image_topic()
        assert bag.image_topic("/left/image_raw").count == 1


def test_frames_without_calibration_are_left_out_or_assumed_and_counted(tmp_path):
    from hand_pose_ros import camera

    path = write(tmp_path / "a.mcap", 4, info=False)
    found, problems = frames(path)
    assert not found and problems[f"{IMAGE}: image without calibration, left out"] == 4
    found, problems = frames(path, assume=lambda w, h, frame_id: camera.assumed(w, h, 70.0, frame_id))
    assert len(found) == 4 and not found[0].frame.camera.calibrated
    assert sum(problems.values()) == 4


def test_other_message_definitions_are_read_and_said(tmp_path):
    from rosbags.rosbag2.enums import StoragePlugin
    from rosbags.rosbag2.writer import Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    other = get_typestore(Stores.ROS2_HUMBLE)
    other.register(get_types_from_msg("std_msgs/Header header\nuint32 extra\nfloat32 score\n",
                                      "hand_pose_ros/msg/HandPose21"))
    other.register(get_types_from_msg("std_msgs/Header header\nhand_pose_ros/HandPose21[] hands\n", bags.HANDS))
    message = bags.new_message(bags.HANDS, other)
    bags.stamp_header(message.header, START_NS, OPTICAL)
    message.hands = [bags.new_message("hand_pose_ros/msg/HandPose21", other)]
    message.hands[0].extra = 5
    with Writer(tmp_path / "old", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.write(writer.add_connection("/hands", bags.HANDS, typestore=other), START_NS,
                     other.serialize_cdr(message, bags.HANDS))
    with bags.BagReader(tmp_path / "old") as bag:
        assert bag.hands()[START_NS].hands[0].extra == 5
        assert any("differs from ours" in problem for problem in bag.problems)


def test_a_truncated_message_is_left_out_and_counted(tmp_path):
    path = tmp_path / "a.mcap"
    with bags.BagWriter(path) as bag:
        bag.camera_info(INFO, START_NS, CAMERA)
        for number in range(3):
            message = bags.new_message(bags.COMPRESSED_IMAGE)
            bags.stamp_header(message.header, START_NS + number * STEP_NS, OPTICAL)
            bags.imaging.encode_compressed(picture(number), message)
            if number == 1:
                message.data = message.data[: len(message.data) // 2]
            bag.write(IMAGE + "/compressed", bags.COMPRESSED_IMAGE, message, START_NS + number * STEP_NS)
    found, problems = frames(path)
    assert len(found) == 2 and "cut off" in next(iter(problems))


def test_messages_copied_to_another_bag_stay_the_same_bytes(tmp_path):
    path = write(tmp_path / "a.mcap", 5)
    with bags.BagReader(path) as source, bags.BagWriter(tmp_path / "b.mcap") as target:
        original = list(source.messages())
        for recorded in original:
            target.copy(recorded)
    with bags.BagReader(tmp_path / "b.mcap") as copied:
        assert [(r.topic, r.log_ns, r.raw) for r in copied.messages()] == [(r.topic, r.log_ns, r.raw) for r in original]
        latched = copied.qos_of("/tf_static")[0]
        assert latched.durability.name == "TRANSIENT_LOCAL"


def test_a_stamp_of_zero_falls_back_to_the_recording_time(tmp_path):
    with bags.BagWriter(tmp_path / "a.mcap") as bag:
        message = bags.new_message(bags.IMAGE)
        bags.imaging.encode(picture(0), message)
        bag.write(IMAGE, bags.IMAGE, message, START_NS)
        bag.camera_info(INFO, START_NS, CAMERA)
    found, problems = frames(tmp_path / "a.mcap")
    assert found[0].frame.stamp_ns == START_NS and "header.stamp is 0" in next(iter(problems))


def test_a_big_endian_header_is_read(tmp_path):
    raw = struct.pack(">BBHiI", 0, 0, 0, 5, 6)
    with bags.BagReader(write(tmp_path / "a.mcap", 1)) as bag:
        connection = next(c for c in bag._files[0].connections if c.topic == IMAGE)
        assert bag._stamp(connection, raw, 99) == 5_000_000_006


def test_a_damaged_message_of_a_compressed_bag_is_left_out_and_counted(tmp_path):
    with bags.BagWriter(tmp_path / "x.mcap") as bag:
        for k in range(3):
            bag.image(IMAGE, START_NS + k, OPTICAL, picture(k))
            bag.write_serialized("/other", bags.CAMERA_INFO, b"\x28\xb5\x2f\xfd" + bytes(40), START_NS + k)
    with bags.BagReader(tmp_path / "x.mcap") as bag:
        assert len(list(bag.messages())) == 3
        assert sum(bag.problems.values()) == 3 and "compressed message is damaged" in next(iter(bag.problems))


def test_what_was_unpacked_for_a_bag_that_is_refused_does_not_stay(tmp_path, monkeypatch):
    place = tmp_path / "temp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    (tmp_path / "x.mcap.zstd").write_bytes(bags.zstd().compress(b"nonsense" * 100))
    with pytest.raises(DataError), bags.BagReader(tmp_path / "x.mcap.zstd"):
        pass
    assert not list(place.iterdir())


DEPTH_OPTICAL, DEPTH_INFO = "camera_depth_optical_frame", "/camera/depth/camera_info"


@pytest.mark.parametrize("topic, frame_id, named, calibrated, said", [
    (DEPTH_INFO, DEPTH_OPTICAL, None, False, "not taken for their calibration"),     # the only one, of another camera
    (DEPTH_INFO, OPTICAL, None, True, ""),
    (DEPTH_INFO, DEPTH_OPTICAL, DEPTH_INFO, True, "which is used"),                  # who names it means it
    (INFO, "colour", None, True, "which is used"),                                   # as the node does
    (INFO, "", None, True, "")])
def test_a_calibration_of_another_frame_is_said_and_a_stray_one_not_used(tmp_path, topic, frame_id, named, calibrated,
                                                                         said):
    path = tmp_path / "a.mcap"
    with bags.BagWriter(path) as bag:
        for number in range(3):
            bag.image(IMAGE, START_NS + number * STEP_NS, OPTICAL, picture(number), "rgb8")
            bag.camera_info(topic, START_NS + number * STEP_NS, replace(CAMERA, frame_id=frame_id))
    found, problems = frames(path, info=named, assume=lambda w, h, f: cameras.assumed(w, h, 60.0, f))
    assert [item.frame.camera.calibrated for item in found] == [calibrated] * 3
    assert {item.frame.camera.frame_id for item in found} == {OPTICAL}
    assert any(said in text and topic in text for text in problems) if said else not problems


def test_a_calibration_of_another_size_is_scaled_and_said(tmp_path):
    path = tmp_path / "a.mcap"
    double = replace(CAMERA, width=128, height=96, K=CAMERA.K * [[2, 1, 2], [1, 2, 2], [1, 1, 1]])
    with bags.BagWriter(path) as bag:
        for number in range(3):
            bag.image(IMAGE, START_NS + number * STEP_NS, OPTICAL, picture(number), "rgb8")
            bag.camera_info(INFO, START_NS + number * STEP_NS, double)
    found, problems = frames(path)
    assert found[0].frame.camera.K[0, 0] == pytest.approx(CAMERA.K[0, 0])
    assert any("is for 128x96, the image is 64x48: it is scaled" in text for text in problems)


def test_a_storage_file_that_is_there_packed_and_unpacked_is_read_once(tmp_path):
    folder = write(tmp_path / "folder", 5).resolve()
    (file,) = folder.glob("*.mcap")
    with bags.zstd().open(f"{file}.zstd", "wb") as packed:
        packed.write(file.read_bytes())
    found, problems = frames(folder)
    assert len(found) == 5 and any("is there unpacked, too" in text for text in problems)


def test_a_damaged_chunk_of_a_file_without_a_summary_is_named(tmp_path):
    """As a recorder leaves that was killed; the reader looks for topics in the chunks themselves."""
    data = write(tmp_path / "a.mcap", 30, compressed=True).read_bytes()
    at, chunks, end = 8, [], 0
    while not end:
        op, length = struct.unpack_from("<BQ", data, at)
        chunks += [at] if op == 6 else []
        at += 9 + length
        end = at if op == 15 else 0
    plain = bytearray(data[:end] + b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0) + b"\x89MCAP0\r\n")
    for k in range(chunks[0] + 53, chunks[0] + 63):
        plain[k] ^= 0xff
    (tmp_path / "bad.mcap").write_bytes(plain)
    with pytest.raises(DataError, match="bad.mcap: not a readable bag .*no message could be recovered"):
        bags.BagReader(tmp_path / "bad.mcap").__enter__()


def test_messages_that_a_killed_recorder_left_in_sqlite_s_log_are_read(tmp_path):
    write(tmp_path / "sql", 1, storage="sqlite3", depth=False, info=False)
    (file,) = (tmp_path / "sql").glob("*.db3")
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    rows = database.execute("select topic_id, data from messages").fetchall()
    for k in range(1, 11):
        for topic, raw in rows:
            database.execute("insert into messages(topic_id, timestamp, data) values(?, ?, ?)",
                             (topic, START_NS + k * STEP_NS, raw))
    database.commit()
    shutil.copytree(tmp_path / "sql", tmp_path / "killed")              # before it is closed, as a kill leaves it
    database.close()
    with bags.BagReader(tmp_path / "killed") as bag:
        assert len(list(bag.messages([IMAGE]))) == 11
        assert any("-wal holds the last messages" in text and "a copy with them is read" in text
                   for text in bag.problems)
    assert (tmp_path / "killed" / f"{file.name}-wal").stat().st_size > 0                # the user's file stays
