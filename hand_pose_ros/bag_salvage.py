"""What a damaged or cut-off bag file still holds, read record by record without its index.

Gives the part of a ``rosbags`` reader that bags.py uses. Records: mcap.dev/spec and rosbag2's sqlite3 storage.
"""
from __future__ import annotations

import shutil
import sqlite3
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import DataError

DAMAGE = (struct.error, ValueError, EOFError, RuntimeError, OSError)
"""What a damaged record raises, beside zstd's own."""


def zstd() -> Any:
    """The zstd module that rosbags brings along, under either of its names."""
    try:
        from compression import zstd            # Python 3.14 and newer
    except ImportError:
        from backports import zstd
    return zstd


@dataclass(frozen=True)
class Channel:
    """One topic of the file, with the names of a rosbags connection."""

    topic: str
    msgtype: str
    msgdef: Any
    msgcount: int = 0
    ext: Any = None
    id: int = 0


class Salvaged:
    """What one damaged file still holds; the part of a rosbags reader that BagReader uses."""

    def __init__(self, path: Path, records: Callable[[], Iterator[tuple[Channel, int, bytes]]]) -> None:
        self.path = path
        self._records = records
        counts: Counter[Channel] = Counter()
        self.last_ns = 0
        for channel, log_ns, _ in records():
            counts[channel] += 1
            self.last_ns = max(self.last_ns, log_ns)
        self.count = sum(counts.values())
        self.connections = [Channel(c.topic, c.msgtype, c.msgdef, count, c.ext, c.id) for c, count in counts.items()]

    def messages(self, connections: Iterable[Channel]) -> Iterator[tuple[Channel, int, bytes]]:
        """Channel, recording time [ns] and CDR bytes of the messages of these topics, in the order of the file."""
        wanted = {connection.topic for connection in connections}
        for channel, log_ns, raw in self._records():
            if channel.topic in wanted:
                yield channel, log_ns, raw


def salvage(path: Path, name: str, reason: str, problems: Counter[str]) -> Salvaged:
    """Read a file that the normal reader refuses, record by record. Raises DataError if nothing comes out of it."""
    salvaged = Salvaged(path, lambda: records(path))
    if not salvaged.count:
        raise DataError(f"{name}: not a readable bag ({reason}), and no message could be recovered from it")
    problems[f"{name}: cut off or damaged ({reason}); {salvaged.count} messages up to "
             f"{salvaged.last_ns / 1e9:.3f} s were recovered"] += 1
    return salvaged


def records(path: Path) -> Iterator[tuple[Channel, int, bytes]]:
    """Channel, recording time [ns] and CDR bytes of every message that can be read, without the file's index."""
    return _mcap_records(path) if path.suffix == ".mcap" else _sqlite_records(path)


def _mcap_records(path: Path) -> Iterator[tuple[Channel, int, bytes]]:
    """Messages of an MCAP file from its start to where it ends or stops to make sense, without using its index.

    Record layout: mcap.dev/spec: opcode (1 byte), length (8), content; 3 schema, 4 channel, 5 message, 6 chunk.
    """
    from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

    damage = (*DAMAGE, zstd().ZstdError)
    formats = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
    schemas: dict[int, tuple[str, Any]] = {}
    channels: dict[int, Channel] = {}

    def text(data: bytes, at: int) -> tuple[str, int]:
        (length,) = struct.unpack_from("<I", data, at)
        if at + 4 + length > len(data):
            raise ValueError("string beyond the end")
        return data[at + 4: at + 4 + length].decode("utf8"), at + 4 + length

    def handle(opcode: int, data: bytes) -> Iterator[tuple[Channel, int, bytes]]:
        if opcode == 3:
            (number,) = struct.unpack_from("<H", data)
            type_name, at = text(data, 2)
            encoding, at = text(data, at)
            definition, _ = text(data, at)
            schemas[number] = type_name, MessageDefinition(formats.get(encoding, MessageDefinitionFormat.NONE),
                                                           definition)
        elif opcode == 4:
            number, schema = struct.unpack_from("<HH", data)
            topic, _ = text(data, 4)
            if schema in schemas:
                channels[number] = Channel(topic, *schemas[schema], id=number)
        elif opcode == 5:
            number, _, log_ns = struct.unpack_from("<HIQ", data)
            if number in channels:
                yield channels[number], log_ns, data[22:]
        elif opcode == 6:
            compression, at = text(data, 28)
            content = _unpacked(data[at + 8:], compression)
            found = []
            position = 0
            while position + 9 <= len(content):
                inner, length = struct.unpack_from("<BQ", content, position)
                if position + 9 + length > len(content):
                    break
                with suppress(*damage):                 # what stands before and behind a damaged record is whole
                    found.extend(handle(inner, content[position + 9: position + 9 + length]))
                position += 9 + length
            yield from sorted(found, key=lambda record: record[1])

    with path.open("rb") as file:
        if file.read(8) != b"\x89MCAP0\r\n":
            return
        while len(head := file.read(9)) == 9:
            opcode, length = struct.unpack("<BQ", head)
            if not 1 <= opcode <= 0x0F or opcode == 0x0F:
                return
            data = file.read(min(length, 1 << 31))
            if len(data) < length and opcode != 6:                  # of a cut-off chunk the first messages are whole
                return
            with suppress(*damage):                             # the next one has its own length
                yield from handle(opcode, data)


def _unpacked(data: bytes, compression: str) -> bytes:
    """Content of a chunk, as far as it can be unpacked."""
    if compression == "zstd":
        return zstd().ZstdDecompressor().decompress(data)
    if compression == "lz4":
        import lz4.frame

        return lz4.frame.LZ4FrameDecompressor().decompress(data)
    return data


def _sqlite_records(path: Path) -> Iterator[tuple[Channel, int, bytes]]:
    """Messages of a damaged sqlite3 storage in the order they were written, up to the first unreadable page.

    sqlite refuses a file that is shorter than its header says, so the header of a copy is told the number of whole
    pages there are (page size at byte 16, page count at byte 28: sqlite.org/fileformat.html). Messages that reach
    into missing pages then end the reading instead of coming out half empty.
    """
    from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

    none = MessageDefinition(MessageDefinitionFormat.NONE, "")
    with tempfile.TemporaryDirectory(prefix="bag-") as folder:
        copy = Path(folder, "copy.db3")
        shutil.copyfile(path, copy)
        with copy.open("r+b") as file:
            head = file.read(32)
            if len(head) < 32 or not head.startswith(b"SQLite format 3"):
                return
            (page_size,) = struct.unpack_from(">H", head, 16)
            page_size = 65536 if page_size == 1 else page_size
            pages = path.stat().st_size // page_size
            file.truncate(pages * page_size)
            file.seek(28)
            file.write(struct.pack(">I", pages))
        try:
            database = sqlite3.connect(f"file:{copy}?immutable=1", uri=True)
            try:
                channels = {number: Channel(topic, type_name, none, id=number)
                            for number, topic, type_name in database.execute("SELECT id, name, type FROM topics")}
                rows = database.execute("SELECT topic_id, timestamp, data FROM messages ORDER BY id")
                for number, log_ns, raw in rows:
                    if number in channels:
                        yield channels[number], log_ns, bytes(raw)
            finally:
                database.close()
        except (sqlite3.Error, UnicodeDecodeError):
            return
