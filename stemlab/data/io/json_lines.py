"""Reads files with one JSON object per line (``.jsonl``) in blocks of Arrow columns."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from stemlab.array_types import Int64Array
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import TextBlock, read_blocks
from stemlab.errors import StemlabError

_BLOCK_BYTES = 1 << 24
JsonBlock = tuple[Any, Int64Array, list[tuple[int, str]]]
"""Arrow table, (R,) line numbers from 1, and (line, problem) of the lines that could not be parsed."""


class JsonLines:
    """Reader of a file; the keys of all objects are its columns, and a key that an object lacks is null.

    The file is read twice: types of columns are known after the first pass.

    Args:
        path: the file, plain or gzip.

    Raises:
        StemlabError: a key has values of different types, such as numbers and texts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._schema: Any = None

    def blocks(self, advance: Advance) -> Iterator[JsonBlock]:
        """Yield the objects in blocks with one schema; ``advance`` is called with the number of bytes read."""
        if self._schema is None:
            self._schema = self._unified()
        for block in read_blocks(self.path, self.path.name, advance, _BLOCK_BYTES):
            yield self._parse(block, self._schema)

    def _unified(self) -> Any:
        found = pa.schema([])
        for block in read_blocks(self.path, self.path.name, block_bytes=_BLOCK_BYTES):
            schema = self._parse(block, None)[0].schema
            try:
                found = pa.unify_schemas([found, schema], promote_options="permissive")
            except pa.ArrowException as error:
                raise self._different_types(error) from None
        return found

    def _parse(self, block: TextBlock, schema: Any) -> JsonBlock:
        lines = block.data.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
        numbers = np.array([number for number, line in enumerate(lines) if line.strip()], dtype=np.int64)
        kept = [lines[number] for number in numbers]
        problems: list[tuple[int, str]] = []
        try:
            table = _read(kept, schema)
        except pa.ArrowInvalid:
            wrong = {int(number): _problem(line) for number, line in zip(numbers, kept, strict=True)}
            problems = [(block.first_line + number, problem) for number, problem in wrong.items() if problem]
            numbers = np.array([number for number in numbers if not wrong[int(number)]], dtype=np.int64)
            table = self._read_valid([lines[number] for number in numbers], schema, block.first_line)
        return table, block.first_line + numbers, problems

    def _read_valid(self, lines: list[bytes], schema: Any, first_line: int) -> Any:
        try:
            return _read(lines, schema)
        except pa.ArrowInvalid as error:
            raise self._different_types(error, f", after line {first_line - 1}") from None

    def _different_types(self, error: pa.ArrowException, where: str = "") -> StemlabError:
        reason = " ".join(str(error).split())[:200]
        return StemlabError(
            f"{self.path}{where}: a key has values of different types ({reason}); write all of them alike."
        )


def _read(lines: list[bytes], schema: Any) -> Any:
    if not lines:
        return (schema or pa.schema([])).empty_table()
    data = b"\n".join(lines)
    return pa.json.read_json(
        io.BytesIO(data),
        read_options=pa.json.ReadOptions(block_size=len(data) + 1, use_threads=False),
        parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer"),
    )


def _problem(line: bytes) -> str:
    """Return what is wrong with a line, or an empty text."""
    try:
        return "" if isinstance(json.loads(line), dict) else "not a JSON object"
    except (ValueError, RecursionError):
        return "not a JSON object"
