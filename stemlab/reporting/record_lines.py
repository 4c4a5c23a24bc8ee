"""Many run records in one file of JSON lines: the first line holds one record, each further line its differences.

A line is self-contained together with the first one; lines are only appended, by one process at a time. Use it for
studies with hundreds of runs whose configs differ in a few keys.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from stemlab.errors import StemlabError
from stemlab.reporting.record import SCHEMA, defined

SUFFIX = ".jsonl"


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append a record; an incomplete last line, left by a killed process, is removed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = defined(record)
    with path.open("a+b") as file:
        _lock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        complete = text.rpartition(b"\n")[0]
        first = json.loads(complete.splitlines()[0])["common"] if complete else None
        lines = [{"schema": SCHEMA, "common": record}] if first is None else []
        lines.append(_difference(record if first is None else first, record))
        file.truncate(len(complete) + 1 if complete else 0)
        file.write("".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines).encode())
        file.flush()
        os.fsync(file.fileno())


def read_record_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file, in the order of its lines.

    Raises:
        StemlabError: the file does not exist, a line is not JSON, or the first line is none of this schema.
    """
    try:
        with path.open(encoding="utf-8") as file:
            _lock(file, fcntl.LOCK_SH)
            lines = file.read().splitlines()
    except FileNotFoundError:
        raise StemlabError(f"there is no file of run records {path}.") from None
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(json.loads(line))
        except ValueError as error:
            raise StemlabError(f"{path}, line {number} is not JSON ({error}).") from None
    if not values:
        return []
    head, *rest = values
    if not isinstance(head, dict) or head.get("schema") != SCHEMA or not isinstance(head.get("common"), dict):
        raise StemlabError(f"{path} has no run records of schema {SCHEMA}: its first line has no key 'common'.")
    try:
        return [_applied(head["common"], line) for line in rest]
    except (KeyError, TypeError, AttributeError) as error:
        raise StemlabError(f"{path}: a line does not fit the first one ({error!r}).") from None


def _lock(file: IO[Any], kind: int) -> None:
    """Wait for the lock of a file, which ends when the file is closed."""
    with suppress(OSError):  # a file system without locks
        fcntl.flock(file, kind)


def _difference(common: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what changes ``common`` to ``record``: changed values, absent keys, and the same for inner mappings."""
    found: dict[str, Any] = {"set": {}, "absent": [key for key in common if key not in record], "inside": {}}
    for key, value in record.items():
        if key in common and value == common[key] and type(value) is type(common[key]):
            continue
        if isinstance(value, Mapping) and isinstance(common.get(key), Mapping):
            found["inside"][key] = _difference(common[key], value)
        else:
            found["set"][key] = value
    return {key: value for key, value in found.items() if value}


def _applied(common: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
    absent = set(line.get("absent", ()))
    changed = {key: _applied(common[key], inner) for key, inner in line.get("inside", {}).items()}
    kept = {key: value for key, value in common.items() if key not in absent}
    return {**kept, **changed, **line.get("set", {})}
