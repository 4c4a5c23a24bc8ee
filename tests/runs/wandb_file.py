"""Read an offline W&B run: a log of protobuf records in LevelDB's format.

The file has a 7-byte header (":W&B", magic number, version) and 32 KiB blocks counted from the start of the file. A
block contains records of [crc32 (4 bytes), length (2), type (1), data]; type 1 is a whole record, types 2, 3 and 4 are
the first, middle and last part of a record. Fewer than 7 bytes at the end of a block are zeros. The checksum covers
type and data.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

BLOCK, HEADER = 1 << 15, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class WandbRun:
    """Content of the file of a W&B run."""

    id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    artifacts: dict[str, tuple[str, list[str], dict[str, Any], list[str]]] = field(default_factory=dict)
    """Name of an artifact -> type, aliases, metadata, names of its files."""

    def curve(self, name: str) -> list[float]:
        return [row[name] for row in self.history if name in row]


def raw_records(content: bytes) -> Iterator[bytes]:
    assert content[:4] == b":W&B"
    magic, version = struct.unpack("<HB", content[4:HEADER])
    assert (magic, version) == (0xBEE1, 0)
    offset, parts = HEADER, b""
    while offset < len(content):
        left = BLOCK - offset % BLOCK
        if left < HEADER:
            assert not content[offset : offset + left].strip(b"\0")
            offset += left
            continue
        checksum, length, kind = struct.unpack("<IHB", content[offset : offset + HEADER])
        data = content[offset + HEADER : offset + HEADER + length]
        assert zlib.crc32(data, zlib.crc32(bytes([kind]))) == checksum
        offset += HEADER + length
        parts = data if kind in (WHOLE, FIRST) else parts + data
        if kind in (WHOLE, LAST):
            yield parts


def read_wandb(path: Path) -> WandbRun:
    run = WandbRun()
    for data in raw_records(path.read_bytes()):
        record = pb.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            _read_run(run, record.run)
        elif kind == "config":
            run.config.update(_items(record.config.update))
        elif kind == "history":
            run.history.append(_items(record.history.item))
        elif kind == "summary":
            run.summary.update(_items(record.summary.update))
        elif kind == "artifact":
            found, files = record.artifact, [entry.path for entry in record.artifact.manifest.contents]
            run.artifacts[found.name] = (found.type, list(found.aliases), json.loads(found.metadata or "{}"), files)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _read_run(run: WandbRun, record: Any) -> None:
    run.id, run.name, run.project = record.run_id, record.display_name, record.project
    run.group, run.job_type, run.tags = record.run_group, record.job_type, list(record.tags)
    run.config.update(_items(record.config.update))


def _items(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
