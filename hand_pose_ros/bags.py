"""Bags: rosbag2 recordings read and written without a ROS installation, through ``rosbags``.

Read   MCAP and sqlite3, plain or zstd-compressed (by file, by message or by chunk), one file, a rosbag2 folder with its
       split files, or several files at once. What a cut-off file still holds is read, and ``problems`` says so.
       Messages come in the order of their header stamps, frames with the calibration and depth that belong to them.
Write  MCAP (one file, or a rosbag2 folder) and sqlite3 folders: images, camera_info, depth, transforms, hands.

Messages are made and read by attribute access. A bag's own message definitions are used where it holds them, so a bag
recorded with another version of our messages can still be opened.
"""
from __future__ import annotations

import heapq
import re
import shutil
import sqlite3
import struct
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from . import camera as cameras
from . import imaging, messages, resources
from .bag_salvage import DAMAGE, records, salvage, zstd
from .errors import DataError, FrameError, HandPoseError
from .frames import quaternion, rotation_of_quaternion
from .types import Camera, Frame, Hand

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"
TRANSFORM = "geometry_msgs/msg/TransformStamped"
HANDS = "hand_pose_ros/msg/HandPose21Array"
HAND = "hand_pose_ros/msg/HandPose21"
OWN_MESSAGES = ("HandPose21", "HandPose21Array")

REORDER_NS = 500_000_000
"""Messages are put in stamp order over this much recording time; one that is later than this keeps its late place."""
DEPTH_SLOP_NS = 15_000_000
"""A depth image belongs to the colour image whose stamp is nearest, at most this far away."""


# ------------------------------------------------------------------------------------------------ message definitions

@lru_cache(maxsize=1)
def typestore() -> Any:
    """The ``rosbags`` store with the standard messages and our own. Raises ConfigError if our .msg files are missing.
    """
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    folder, own = resources.folder("msg"), {}
    for name in OWN_MESSAGES:
        own.update(get_types_from_msg((folder / f"{name}.msg").read_text("utf8"), f"hand_pose_ros/msg/{name}"))
    store.register(own)
    return store


def new_message(type_name: str, store: Any = None) -> Any:
    """A message with every field zero or empty, as rclpy would make it. type_name: e.g. "sensor_msgs/msg/Image"."""
    return _maker(type_name, store or typestore())()


@lru_cache(maxsize=None)
def _maker(type_name: str, store: Any) -> Callable[[], Any]:
    """A function that makes such a message; kept, since a frame's markers alone are hundreds of messages."""
    from rosbags.interfaces import Nodetype

    def field(kind: int, detail: Any) -> Callable[[], Any]:
        if kind == Nodetype.NAME:
            return _maker(detail, store)
        if kind == Nodetype.BASE:
            zero = "" if detail[0] == "string" else False if detail[0] == "bool" else \
                0.0 if detail[0].startswith("float") else 0
            return lambda: zero
        (inner_kind, inner), length = detail
        length = length if kind == Nodetype.ARRAY else 0
        if inner_kind == Nodetype.BASE and inner[0] != "string":
            return partial(np.zeros, length, "uint8" if inner[0] in ("byte", "char") else inner[0])
        one = field(inner_kind, inner)
        return lambda: [one() for _ in range(length)]

    make, fields = store.types[type_name], [field(*description) for _, description in store.fielddefs[type_name][1]]
    return lambda: make(*[value() for value in fields])


def stamp_header(header: Any, stamp_ns: int, frame_id: str) -> None:
    """Fill a std_msgs/Header in place."""
    header.stamp.sec, header.stamp.nanosec = divmod(int(stamp_ns), 1_000_000_000)
    header.frame_id = frame_id


def hands_message(stamp_ns: int, frame_id: str, hands: Sequence[Hand], info: messages.ArrayInfo) -> Any:
    """A HandPose21Array. Raises DataError for a hand without track id or with arrays of a wrong shape."""
    message = new_message(HANDS)
    stamp_header(message.header, stamp_ns, frame_id)
    messages.fill_array(message, hands, message.header, lambda: new_message(HAND), info)
    return message


# ------------------------------------------------------------------------------------------------------------ writing

class BagWriter:
    """Writes a bag; use it as a context manager. The same messages give the same bytes, whenever they are written.

    path: "x.mcap" makes one MCAP file, any other name a rosbag2 folder with metadata.yaml.
    storage: "mcap" or "sqlite3" (folders only). compressed: zstd chunks (MCAP only).
    Raises DataError if the path exists or cannot be written. The bag gets its name when it is whole; with any error
    inside the block what was written so far is removed.
    """

    def __init__(self, path: str | Path, storage: str = "mcap", compressed: bool = False) -> None:
        self.path = Path(path)
        if storage not in ("mcap", "sqlite3"):
            raise DataError(f"storage {storage!r} is not known: use mcap or sqlite3")
        if self.path.exists():
            raise DataError(f"{self.path} exists already: remove it or choose another name")
        self._single_file = self.path.suffix == ".mcap"
        if storage == "sqlite3" and (self._single_file or compressed):
            raise DataError(f"{self.path}: sqlite3 makes an uncompressed folder; drop the .mcap suffix and compression")
        self._storage, self._compressed = storage, compressed
        self._connections: dict[tuple[str, str], Any] = {}
        self._writer: Any = None
        self._scratch: Path | None = None

    def __enter__(self) -> BagWriter:
        from rosbags.rosbag2.enums import CompressionFormat, CompressionMode, StoragePlugin
        from rosbags.rosbag2.writer import Writer

        plugin = StoragePlugin.MCAP if self._storage == "mcap" else StoragePlugin.SQLITE3
        try:
            with self._writing():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._scratch = Path(tempfile.mkdtemp(prefix=".bag-", dir=self.path.parent))
                # a file holds the name of its folder, so that of a single one must not depend on the path
                target = self._scratch / ("bag" if self._single_file else self.path.name)
                self._writer = Writer(target, version=8, storage_plugin=plugin)     # Humble and newer read version 8
                if self._compressed:
                    self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
                self._writer.open()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                with self._writing():
                    self._writer.close()
                    made = self._writer.path
                    (next(made.glob("*.mcap")) if self._single_file else made).rename(self.path)
        finally:
            self._remove()

    def _remove(self) -> None:
        """Remove what is not a whole bag under its own name."""
        if self._writer is not None:
            with suppress(Exception):                   # closing writes what is buffered, and the disk may be full
                self._writer.abort()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"{self.path} cannot be written: {error}; free some space or choose another place. What "
                            "was written of it is removed") from error

    def write(self, topic: str, type_name: str, message: Any, stamp_ns: int) -> None:
        """Write any message of the typestore. stamp_ns: recording time, nanoseconds."""
        self.write_serialized(topic, type_name, typestore().serialize_cdr(message, type_name), stamp_ns)

    def write_serialized(self, topic: str, type_name: str, raw: Any, stamp_ns: int) -> None:
        """Write a message of the typestore from its CDR bytes. stamp_ns: recording time, nanoseconds."""
        with self._writing():
            self._writer.write(self._connection(topic, type_name, typestore()), int(stamp_ns), raw)

    def copy(self, recorded: Recorded) -> None:
        """Write a message of another bag unchanged, with its own definition and quality of service."""
        store, qos = recorded.source.store_of(recorded.type), recorded.source.qos_of(recorded.topic)
        with self._writing():
            self._writer.write(self._connection(recorded.topic, recorded.type, store, qos), recorded.log_ns,
                               recorded.raw)

    def image(self, topic: str, stamp_ns: int, frame_id: str, rgb: np.ndarray, encoding: str = "rgb8") -> None:
        """Write a sensor_msgs/Image. rgb: (H, W, 3) uint8. encoding: any colour encoding imaging.encode knows."""
        message = new_message(IMAGE)
        stamp_header(message.header, stamp_ns, frame_id)
        imaging.encode(rgb, message, encoding)
        self.write(topic, IMAGE, message, stamp_ns)

    def compressed_image(self, topic: str, stamp_ns: int, frame_id: str, rgb: np.ndarray,
                         format: str = "jpeg", quality: int = 95) -> None:
        """Write a sensor_msgs/CompressedImage. rgb: (H, W, 3) uint8. format: "jpeg" or "png"."""
        message = new_message(COMPRESSED_IMAGE)
        stamp_header(message.header, stamp_ns, frame_id)
        imaging.encode_compressed(rgb, message, format, quality)
        self.write(topic, COMPRESSED_IMAGE, message, stamp_ns)

    def depth(self, topic: str, stamp_ns: int, frame_id: str, depth_m: np.ndarray, encoding: str = "16UC1") -> None:
        """Write a depth image. depth_m: (H, W) metres, NaN unknown. encoding: "16UC1" (millimetres) or "32FC1"."""
        message = new_message(IMAGE)
        stamp_header(message.header, stamp_ns, frame_id)
        imaging.encode_depth(depth_m, message, encoding)
        self.write(topic, IMAGE, message, stamp_ns)

    def camera_info(self, topic: str, stamp_ns: int, camera: Camera) -> None:
        """Write a sensor_msgs/CameraInfo of a calibrated camera."""
        message = new_message(CAMERA_INFO)
        stamp_header(message.header, stamp_ns, camera.frame_id)
        imaging.fill_camera_info(message, camera)
        self.write(topic, CAMERA_INFO, message, stamp_ns)

    def transform(self, stamp_ns: int, parent: str, child: str, translation: Sequence[float],
                  quaternion: Sequence[float] = (0.0, 0.0, 0.0, 1.0), static: bool = False) -> None:
        """Write T_parent_child to /tf or /tf_static. translation: metres; quaternion: xyzw."""
        stamped = new_message(TRANSFORM)
        stamp_header(stamped.header, stamp_ns, parent)
        stamped.child_frame_id = child
        vector, rotation = stamped.transform.translation, stamped.transform.rotation
        vector.x, vector.y, vector.z = (float(value) for value in translation)
        rotation.x, rotation.y, rotation.z, rotation.w = (float(value) for value in quaternion)
        message = new_message(TF_MESSAGE)
        message.transforms = [stamped]
        self.write("/tf_static" if static else "/tf", TF_MESSAGE, message, stamp_ns)

    def hands(self, topic: str, stamp_ns: int, frame_id: str, hands: Sequence[Hand],
              info: messages.ArrayInfo = messages.ArrayInfo(), log_ns: int | None = None) -> None:
        """Write a HandPose21Array. log_ns: recording time, the stamp if None. Raises DataError for a hand without track
        id or with arrays of a wrong shape."""
        message = hands_message(stamp_ns, frame_id, hands, info)
        self.write(topic, HANDS, message, stamp_ns if log_ns is None else log_ns)

    def _connection(self, topic: str, type_name: str, store: Any, qos: Sequence[Any] = ()) -> Any:
        key = (topic, type_name)
        if key not in self._connections:
            if topic == "/tf_static" and not qos:
                qos = (_latched(),)
            self._connections[key] = self._writer.add_connection(topic, type_name, typestore=store,
                                                                 offered_qos_profiles=qos)
        return self._connections[key]


def _latched() -> Any:
    """Quality of service of /tf_static: a late subscriber still gets it."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    forever = QosTime(9223372036, 854775807)
    return Qos(QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, forever, forever,
               QosLiveliness.AUTOMATIC, forever, False)


# ------------------------------------------------------------------------------------------------------------ reading

@dataclass(frozen=True)
class Topic:
    """One topic of a bag."""

    name: str
    type: str
    count: int


@dataclass(frozen=True, eq=False)
class Recorded:
    """One message of a bag, not yet decoded."""

    topic: str
    type: str
    log_ns: int                                     # when it was recorded
    stamp_ns: int                                   # its own header.stamp; log_ns where it has none
    raw: bytes                                      # CDR
    source: BagReader

    @property
    def message(self) -> Any:
        """The message object. Raises DataError if the bytes do not fit the definition."""
        try:
            return self.source.store_of(self.type).deserialize_cdr(self.raw, self.type)
        except HandPoseError:
            raise
        except Exception as error:       # rosbags raises many kinds here, depending on where the bytes stop to fit
            raise DataError(f"{self.topic} at {self.stamp_ns} ns: {self.type} cannot be decoded: {error}") from error


@dataclass(frozen=True, eq=False)
class BagFrame:
    """One camera image of a bag with what belongs to it."""

    frame: Frame
    recorded: Recorded
    log_ns: int


class BagReader:
    """Reads a bag; use it as a context manager.

    paths: one file or folder, or several that belong together. ``problems`` counts what was wrong, in words.
    Raises DataError if there is nothing to read.
    """

    def __init__(self, paths: str | Path | Iterable[str | Path]) -> None:
        self.paths = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
        self.problems: Counter[str] = Counter()
        self.topics: dict[str, Topic] = {}
        self._stack = ExitStack()
        self._files: list[Any] = []
        self._stores: dict[str, Any] = {}
        self._definitions: dict[str, Any] = {}
        self._qos: dict[str, Sequence[Any]] = {}
        self._cameras: dict[tuple[bytes, int, int, bool], Camera | None] = {}

    def __enter__(self) -> BagReader:
        try:
            self._open()
        except BaseException:
            self._stack.close()                         # an unpacked bag may fill the temp folder
            raise
        return self

    def _open(self) -> None:
        from rosbags.rosbag2.errors import ReaderError
        from rosbags.rosbag2.reader import Reader

        damaged = (*DAMAGE, zstd().ZstdError, ReaderError, LookupError, TypeError, MemoryError, OverflowError)
        for path in [file for given in self.paths for file in storage_files(given, self.problems)]:
            plain = self._whole(self._decompressed(path))
            try:
                reader = Reader(plain)
                reader.open()
                self._stack.callback(reader.close)
            except damaged as error:
                reader = salvage(plain, path.name, str(error), self.problems)
            self._files.append(reader)
            for connection in reader.connections:
                known = self.topics.get(connection.topic)
                if known and known.type != connection.msgtype:
                    self.problems[f"{connection.topic} has two types, {known.type} and {connection.msgtype}: "
                                  f"only the first is read"] += 1
                    continue
                count = connection.msgcount + (known.count if known else 0)
                self.topics[connection.topic] = Topic(connection.topic, connection.msgtype, count)
                self._definitions.setdefault(connection.msgtype, connection.msgdef)
                self._qos.setdefault(connection.topic, getattr(connection.ext, "offered_qos_profiles", ()))

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    # -- what is there

    def describe(self) -> str:
        """The topics, one per line, for error messages."""
        return "\n".join(f"  {topic.name}  {topic.type}  {topic.count}" for topic in sorted(
            self.topics.values(), key=lambda topic: topic.name)) or "  (no topics)"

    def require(self, name: str, *types: str) -> Topic:
        """The topic of that name. Raises DataError, listing what is there, if it is missing or of another type."""
        topic = self.topics.get(name)
        if topic is None:
            raise DataError(f"no topic {name} in {self._name()}; it holds:\n{self.describe()}")
        if types and topic.type not in types:
            raise DataError(f"{name} is a {topic.type}, not one of {', '.join(types)}; {self._name()} holds:\n"
                            f"{self.describe()}")
        return topic

    def image_topic(self, named: str | None = None) -> Topic:
        """The colour image topic: the one named, or its compressed one where only that is there, as in image_transport;
        else the only one that can be meant.

        Depth, mask and debug images are left out by name, empty topics by count, and ``x/compressed`` where ``x`` is
        there too. Raises DataError, listing the topics, if none or several are left.
        """
        if named:
            compressed = f"{named}/compressed"
            return self.require(compressed if named not in self.topics and compressed in self.topics else named, IMAGE,
                                COMPRESSED_IMAGE)
        found = [topic for topic in self.topics.values() if topic.type in (IMAGE, COMPRESSED_IMAGE) and topic.count
                 and not re.search(r"depth|disparity|mask|debug|annotated|infra|confidence", topic.name, re.I)]
        names = {topic.name for topic in found}
        found = [topic for topic in found if topic.name.rpartition("/")[0] not in names]
        if len(found) != 1:
            what = "no colour image topic" if not found else \
                f"{len(found)} image topics ({', '.join(sorted(topic.name for topic in found))}), name one of them,"
            raise DataError(f"{what} in {self._name()}; it holds:\n{self.describe()}")
        return found[0]

    def info_topic(self, image: str, named: str | None = None) -> Topic | None:
        """The camera_info topic of an image topic: the one named, its neighbour, the only one, or None."""
        if named:
            return self.require(named, CAMERA_INFO)
        if neighbour := self._beside(image):
            return neighbour
        infos = [topic for topic in self.topics.values() if topic.type == CAMERA_INFO and topic.count]
        return infos[0] if len(infos) == 1 else None

    def _beside(self, image: str) -> Topic | None:
        """The camera_info topic where image_transport has that of an image topic."""
        base = image[: -len("/compressed")] if image.endswith("/compressed") else image
        found = self.topics.get(base.rpartition("/")[0] + "/camera_info")
        return found if found and found.type == CAMERA_INFO else None

    def depth_topic(self, named: str | None = None) -> Topic | None:
        """The depth topic registered to the colour image: the one named, else the only aligned one."""
        if named:
            return self.require(named, IMAGE, COMPRESSED_IMAGE)
        found = [topic for topic in self.topics.values() if topic.type == IMAGE and topic.count
                 and re.search(r"aligned_depth|depth_registered|depth_to_(color|rgb)", topic.name)]
        return found[0] if len(found) == 1 else None

    def store_of(self, type_name: str) -> Any:
        """Typestore that decodes a type as this bag recorded it. Raises DataError for a type nobody defines."""
        if type_name not in self._stores:
            self._stores[type_name] = self._store(type_name)
        return self._stores[type_name]

    def qos_of(self, topic: str) -> Sequence[Any]:
        """Offered quality of service profiles recorded for a topic."""
        return self._qos.get(topic, ())

    # -- messages

    def messages(self, topics: Iterable[str] | None = None) -> Iterator[Recorded]:
        """Messages of some or all topics in recording order."""
        wanted = set(self.topics if topics is None else topics)
        streams = [self._stream(file, wanted) for file in self._files]
        yield from heapq.merge(*streams, key=lambda recorded: recorded.log_ns)

    def in_stamp_order(self, topics: Sequence[str]) -> Iterator[Recorded]:
        """Messages with headers in the order of their stamps, equal stamps in the order of ``topics``.

        Every message is given, none is dropped; one that comes more than REORDER_NS of recording time after its place
        is given late and counted in ``problems``. No message is kept for longer, whatever the stamps of others say.
        """
        rank = {topic: place for place, topic in enumerate(topics)}
        heap: list[tuple[int, int, int, Recorded]] = []
        came: deque[tuple[int, int]] = deque()                      # in order of recording: number and time
        given: set[int] = set()                                     # of them
        last = -(2 ** 63)
        for number, recorded in enumerate(self.messages(topics)):
            heapq.heappush(heap, (recorded.stamp_ns, rank[recorded.topic], number, recorded))
            came.append((number, recorded.log_ns))
            while came and recorded.log_ns - came[0][1] > REORDER_NS:
                if came[0][0] in given:
                    given.remove(came.popleft()[0])
                    continue
                last = self._count_late(heap[0], last)
                given.add(heap[0][2])
                yield heapq.heappop(heap)[3]
        while heap:
            last = self._count_late(heap[0], last)
            yield heapq.heappop(heap)[3]

    def _count_late(self, entry: tuple[int, int, int, Recorded], last: int) -> int:
        if entry[0] < last:
            self.problems[f"{entry[3].topic}: message with a stamp before one already given"] += 1
        return max(last, entry[0])

    def frames(self, image: str | None = None, info: str | None = None, depth: str | None = None,
               assume: Callable[[int, int, str], Camera] | None = None,
               only: Container[int] | None = None, rectified: bool = False) -> Iterator[BagFrame]:
        """Camera images as frames, in stamp order; only those that cannot be used are left out (see ``problems``), and
        those whose stamps are not in ``only``, if it is given.

        The calibration is the latest camera_info not after the image; images before the first camera_info use that
        first one. Without any, ``assume(width, height, frame_id)`` makes an uncalibrated camera; without ``assume`` the
        image is left out. Depth is the image nearest in time within DEPTH_SLOP_NS. rectified: see
        ``camera.from_camera_info``. Raises DataError for a wrong topic.
        """
        image_topic = self.image_topic(image)
        info_topic = self.info_topic(image_topic.name, info)
        stray = info_topic is not None and not info and info_topic is not self._beside(image_topic.name)
        depth_topic = self.depth_topic(depth)
        topics = [topic.name for topic in (info_topic, depth_topic, image_topic) if topic]
        slop = DEPTH_SLOP_NS if depth_topic else 0
        info_now = next(self.messages([info_topic.name]), None) if info_topic else None
        waiting: deque[tuple[Recorded, Recorded | None]] = deque()
        depths: deque[Recorded] = deque()
        for recorded in self.in_stamp_order(topics):
            while waiting and recorded.stamp_ns > waiting[0][0].stamp_ns + slop:
                yield from self._frame(*waiting.popleft(), depths, assume, rectified, stray)
            if recorded.topic == image_topic.name:
                if only is None or recorded.stamp_ns in only:
                    waiting.append((recorded, info_now))
            elif info_topic and recorded.topic == info_topic.name:
                info_now = recorded
            else:
                depths.append(recorded)
                while len(depths) > 1 and depths[0].stamp_ns < recorded.stamp_ns - 4 * REORDER_NS:
                    depths.popleft()
        while waiting:
            yield from self._frame(*waiting.popleft(), depths, assume, rectified, stray)

    def hands(self, topic: str | None = None) -> dict[int, Any]:
        """Ground truth or earlier results: HandPose21Array messages by stamp. {} if the bag holds none.

        topic: name; else the only HandPose21Array topic whose name holds "truth", else the only one at all.
        """
        found = [t.name for t in self.topics.values() if t.type == HANDS]
        chosen = [self.require(topic, HANDS).name] if topic else [n for n in found if "truth" in n] or found
        if len(chosen) > 1:
            raise DataError(f"several HandPose21Array topics ({', '.join(sorted(chosen))}): name the ground truth")
        return {recorded.stamp_ns: recorded.message for recorded in self.messages(chosen)} if chosen else {}

    def transforms(self, static: bool = True) -> list[Any]:
        """geometry_msgs/TransformStamped messages of /tf_static (or /tf), in recording order; with a namespace too."""
        ending = "/tf_static" if static else "/tf"
        topics = [t.name for t in self.topics.values() if t.type == TF_MESSAGE and t.name.endswith(ending)]
        return [transform for recorded in self.messages(topics) for transform in recorded.message.transforms]

    def mount(self, frame_id: str) -> dict[str, Any] | None:
        """Where /tf_static puts a frame: {"parent": root of its tree, "translation": [x, y, z] m, "rotation": xyzw},
        T_parent_frame; None if nothing is said of the frame, or what is said is not finite."""
        links = {transform.child_frame_id.lstrip("/"): transform for transform in self.transforms()}
        frame, R, t = frame_id.lstrip("/"), np.eye(3), np.zeros(3)
        passed = set()
        while frame in links and frame not in passed:
            passed.add(frame)
            link = links[frame].transform
            turn = rotation_of_quaternion(np.array([getattr(link.rotation, axis) for axis in "xyzw"]))
            R, t = turn @ R, turn @ t + [getattr(link.translation, axis) for axis in "xyz"]
            frame = links[frame].header.frame_id.lstrip("/")
        if not passed or not np.isfinite(R).all() or not np.isfinite(t).all():
            return None
        return {"parent": frame, "translation": np.round(t, 6).tolist(),
                "rotation": np.round(quaternion(R), 6).tolist()}

    # -- inside

    def _name(self) -> str:
        return ", ".join(str(path) for path in self.paths)

    def _decompressed(self, path: Path) -> Path:
        if path.suffix != ".zstd":
            return path
        folder = Path(tempfile.mkdtemp(prefix="bag-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        target = folder / path.stem
        try:
            with zstd().open(path, "rb") as packed, target.open("wb") as plain:
                while block := packed.read(1 << 20):
                    plain.write(block)
        except (EOFError, OSError, ValueError, zstd().ZstdError) as error:
            self.problems[f"{path.name}: compressed data ends early ({error}); what came before is read"] += 1
        return target

    def _whole(self, path: Path) -> Path:
        """The file, or a copy with what a recorder that was killed has left in sqlite's write-ahead log beside it."""
        log = path.with_name(f"{path.name}-wal")
        if path.suffix != ".db3" or not log.is_file() or not log.stat().st_size:
            return path
        folder = Path(tempfile.mkdtemp(prefix="bag-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            for file in (path, log):
                shutil.copyfile(file, folder / file.name)
            with closing(sqlite3.connect(folder / path.name)) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                database.execute("PRAGMA journal_mode=DELETE").fetchall()
        except (OSError, sqlite3.Error) as error:
            self.problems[f"{log.name} holds the last messages and cannot be taken up ({error}): they are missing"] += 1
            return path
        self.problems[f"{log.name} holds the last messages, as of a recorder that was killed: a copy with them is "
                      "read"] += 1
        return folder / path.name

    def _stream(self, file: Any, wanted: set[str]) -> Iterator[Recorded]:
        connections = [connection for connection in file.connections
                       if connection.topic in wanted and self.topics[connection.topic].type == connection.msgtype]
        if not connections:
            return
        for connection, log_ns, raw in self._undamaged(file, connections):
            if raw[:4] == b"\x28\xb5\x2f\xfd":                               # a zstd frame: compressed by message
                try:
                    raw = zstd().decompress(raw)
                except (EOFError, ValueError, zstd().ZstdError) as error:
                    self.problems[f"{connection.topic}: a compressed message is damaged ({error}), left out"] += 1
                    continue
            stamp_ns = self._stamp(connection, raw, log_ns)
            yield Recorded(connection.topic, connection.msgtype, log_ns, stamp_ns, raw, self)

    def _undamaged(self, file: Any, connections: list[Any]) -> Iterator[tuple[Any, int, bytes]]:
        """Connection, recording time and bytes of all messages that can be read: of MCAP files those behind a damaged
        part too."""
        last: dict[str, tuple[int, int]] = {}           # of each topic, the latest time and how many messages had it
        before, messages = 0, file.messages(connections)
        while True:
            try:
                connection, log_ns, raw = next(messages)
            except StopIteration:
                return
            except Exception as error:      # a damaged chunk or page: rosbags, zstd, lz4 and sqlite each have their own
                why = error
                break
            before += 1
            at, count = last.get(connection.topic, (log_ns, 0))
            last[connection.topic] = log_ns, count + 1 if at == log_ns else 1
            yield connection, log_ns, raw
        by_name = {(connection.topic, connection.msgtype): connection for connection in connections}
        recovered = 0
        try:                                            # an MCAP file's chunks each begin with their own length
            for channel, log_ns, raw in records(Path(file.path)) if file.path.suffix == ".mcap" else ():
                at, count = last.get(channel.topic, (-1, 0))
                if (channel.topic, channel.msgtype) not in by_name or log_ns < at:
                    continue
                if log_ns == at and count:
                    last[channel.topic] = at, count - 1
                    continue
                recovered += 1
                yield by_name[channel.topic, channel.msgtype], log_ns, raw
        except OSError as error:
            why = f"{why}; then {error}"
        lost = sum(connection.msgcount for connection in connections) - before - recovered
        self.problems[f"{file.path.name}: damaged after {before} messages ({why}); {recovered} behind that were "
                      f"recovered, {lost} are lost"] += 1

    def _stamp(self, connection: Any, raw: bytes, log_ns: int) -> int:
        """header.stamp without decoding the message: a Header, where there is one, comes first in the CDR bytes."""
        fields = self._fields(connection.msgtype)
        if not fields or fields[0][1][1] != "std_msgs/msg/Header" or len(raw) < 12:
            return log_ns
        seconds, nanoseconds = struct.unpack_from("<iI" if raw[1] else ">iI", raw, 4)
        if not seconds and not nanoseconds:
            self.problems[f"{connection.topic}: header.stamp is 0, the recording time is used"] += 1
            return log_ns
        return seconds * 1_000_000_000 + nanoseconds

    def _fields(self, type_name: str) -> list[Any]:
        try:
            return self.store_of(type_name).fielddefs[type_name][1]
        except DataError:
            return []

    def _store(self, type_name: str) -> Any:
        from rosbags.interfaces import MessageDefinitionFormat

        definition = self._definitions.get(type_name)
        if definition is None or definition.format == MessageDefinitionFormat.NONE:
            if type_name not in typestore().fielddefs:
                raise DataError(f"{type_name} is not a standard message and {self._name()} holds no definition of it")
            return typestore()
        store, complaint = _store_of_definition(type_name, definition)
        if store is None:
            raise DataError(f"{self._name()}: {complaint}")
        if complaint:
            self.problems[complaint] += 1
        return store

    def _camera(self, info: Recorded, image: Recorded, width: int, height: int, rectified: bool,
                stray: bool) -> Camera | None:
        """Camera of a camera_info message, with the image's frame; the same bytes give the same object. None (and a
        word) if it is unusable. stray: it is neither named nor beside the image, so it may be another camera's."""
        frame_id = image.message.header.frame_id
        key = (info.raw[12:], frame_id, width, height, rectified, stray)
        if key not in self._cameras:
            self._cameras[key] = None
            try:
                own = info.message.header.frame_id
                if own and frame_id and own != frame_id:
                    differ = f"it is of the frame '{own}', the images of {image.topic} of '{frame_id}'"
                    if stray:
                        raise DataError(f"{differ}: not taken for their calibration; name it if it is")
                    self.problems[f"{info.topic}: {differ}, which is used"] += 1
                lens = cameras.from_camera_info(info.message, width, height, rectified)
                said = int(info.message.width), int(info.message.height)
                if (lens.width, lens.height) != said and not cameras.has_part(info.message):
                    self.problems[f"{info.topic} is for {said[0]}x{said[1]}, the image is {width}x{height}: it is "
                                  "scaled"] += 1
                self._cameras[key] = replace(lens, frame_id=frame_id or lens.frame_id)
            except (FrameError, DataError) as error:
                self.problems[f"{info.topic}: {error}"] += 1
        return self._cameras[key]

    def _frame(self, recorded: Recorded, info: Recorded | None, depths: deque[Recorded],
               assume: Callable[[int, int, str], Camera] | None, rectified: bool, stray: bool) -> Iterator[BagFrame]:
        try:
            message = recorded.message
            rgb = imaging.decode(message)
        except (FrameError, DataError) as error:
            self.problems[f"{recorded.topic}: image left out: {_without_stamp(str(error))}"] += 1
            return
        height, width = rgb.shape[:2]
        camera = self._camera(info, recorded, width, height, rectified, stray) if info else None
        if camera and not rectified and cameras.seems_rectified(recorded.topic, info.message):
            self.problems[f"{recorded.topic} is rectified by its name, but {info.topic} has a lens distortion, which "
                          "is taken out again: give --image-is-rectified"] += 1
        if camera is None:
            rule = "left out" if assume is None else "a field of view is assumed"
            self.problems[f"{recorded.topic}: image without calibration, {rule}"] += 1
            if assume is None:
                return
            camera = assume(width, height, message.header.frame_id)
        depth_m = self._depth(recorded, depths, (height, width))
        yield BagFrame(Frame(rgb, camera, recorded.stamp_ns, depth_m), recorded, recorded.log_ns)

    def _depth(self, recorded: Recorded, depths: deque[Recorded], shape: tuple[int, int]) -> np.ndarray | None:
        near = min(depths, key=lambda depth: abs(depth.stamp_ns - recorded.stamp_ns), default=None)
        if near is None or abs(near.stamp_ns - recorded.stamp_ns) > DEPTH_SLOP_NS:
            return None
        try:
            depth_m = imaging.decode_depth(near.message)
            frames = [one.message.header.frame_id for one in (near, recorded)]
            if all(frames) and frames[0] != frames[1]:
                raise FrameError(f"depth is in the frame '{frames[0]}', the image in '{frames[1]}': give the topic "
                                 "that is registered to the colour image")
            if depth_m.shape != shape:
                raise FrameError(f"depth is {depth_m.shape[1]} x {depth_m.shape[0]} pixels, the image {shape[1]} x "
                                 f"{shape[0]}: give the topic that is registered to the colour image")
            return depth_m
        except (FrameError, DataError) as error:
            self.problems[f"{near.topic}: depth not used: {_without_stamp(str(error))}"] += 1
            return None


def storage_files(path: str | Path, problems: Counter[str] | None = None) -> list[Path]:
    """The storage files of a bag: the file itself, or those of a rosbag2 folder in the order of their split numbers.

    Raises DataError if there is nothing at path or no .mcap or .db3 file (plain or .zstd) in it.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist: give a .mcap or .db3 file or a rosbag2 folder")
    known = re.compile(r"\.(mcap|db3)(\.zstd)?$")
    if path.is_file():
        if not known.search(path.name):
            raise DataError(f"{path.name}: unknown storage; a bag is a .mcap or .db3 file (or .zstd of one) or a "
                            f"rosbag2 folder of such files. A ROS 1 .bag must be converted with rosbags-convert; a "
                            f"video ({' '.join(imaging.VIDEOS)}) goes to `hand-pose evaluate --video`, or `hand-pose "
                            f"bag` makes a bag of it")
        return [path]
    files = [file for file in path.iterdir() if file.is_file() and known.search(file.name)]
    for packed in [file for file in files if file.suffix == ".zstd" and file.with_suffix("") in files]:
        files.remove(packed)                            # zstd -d keeps what it unpacks
        if problems is not None:
            problems[f"{packed.name} is there unpacked, too: read once"] += 1
    if not files:
        inside = ", ".join(sorted(file.name for file in path.iterdir())[:10]) or "nothing"
        deeper = next((file.parent for file in resources.files_below(path)
                       if file.suffix.lower() in imaging.PICTURES), None)
        hint = f"; if the pictures in {deeper} are meant, give that folder" if deeper else ""
        raise DataError(f"{path}: no .mcap or .db3 file in this folder, nor pictures right in it; it holds "
                        f"{inside}{hint}")
    if problems is not None and (path / "metadata.yaml").is_file():
        for name in sorted(_named_files(path / "metadata.yaml") - {file.name for file in files}):
            problems[f"{name} is named in metadata.yaml but missing"] += 1
    return sorted(files, key=lambda file: [int(part) if part.isdigit() else part
                                           for part in re.split(r"(\d+)", file.name)])


def _named_files(metadata: Path) -> set[str]:
    """Names of the storage files that metadata.yaml lists; none if it cannot be read."""
    import yaml

    try:
        listed = yaml.safe_load(metadata.read_text("utf8"))["rosbag2_bagfile_information"]["relative_file_paths"]
        return {Path(name).name for name in listed}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return set()


@lru_cache(maxsize=256)
def _store_of_definition(type_name: str, definition: Any) -> tuple[Any, str]:
    """Typestore for a type as a bag defines it, None if there is none, and what is to be complained of, "" nothing.

    definition: rosbags.interfaces.MessageDefinition. Ours serves where the two do not differ. Kept, since the store
    makes code for each type, and bags of one robot have the same definitions.
    """
    from rosbags.interfaces import MessageDefinitionFormat
    from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

    ours = typestore()
    try:
        types = get_types_from_msg(definition.data, type_name) \
            if definition.format == MessageDefinitionFormat.MSG else get_types_from_idl(definition.data)
        own = get_typestore(Stores.EMPTY)
        own.register(types)
        own.register({name: ours.fielddefs[name] for name in _missing(own, ours)})
        own.get_msgdef(type_name)
    except (TypesysError, KeyError, SyntaxError) as error:
        if type_name not in ours.fielddefs:
            return None, f"the definition of {type_name} cannot be read: {error}"
        return ours, f"{type_name}: the bag's definition cannot be read ({error}), ours is used"
    differing = [name for name in own.fielddefs if name in ours.fielddefs
                 and _plain(own.fielddefs[name][1]) != _plain(ours.fielddefs[name][1])]
    if not differing:
        return (ours if type_name in ours.fielddefs else own), ""
    return own, (f"{type_name}: the bag's definition differs from ours in {', '.join(sorted(differing))}; the bag's "
                 f"is used")


def _missing(store: Any, ours: Any) -> list[str]:
    """Types that a bag's definition refers to without giving them, taken from ours."""
    from rosbags.interfaces import Nodetype

    todo, missing = list(store.fielddefs), []
    while todo:
        for _, (kind, detail) in (store if todo[-1] in store.fielddefs else ours).fielddefs[todo.pop()][1]:
            if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
                kind, detail = detail[0]
            if kind == Nodetype.NAME and detail not in store.fielddefs and detail not in missing:
                missing.append(detail)
                todo.append(detail)
    return missing


def _plain(fields: Iterable[Any]) -> list[Any]:
    return [(name.lower(), repr(description)) for name, description in fields]


def _without_stamp(text: str) -> str:
    """The text without the one part that differs from image to image, so that equal problems are counted together."""
    return re.sub(r" at \d+ ns", "", text)
