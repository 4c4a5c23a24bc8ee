"""Raw rows -> inputs of an exported model. Needs only NumPy; this file is copied beside the model.

    encoder = load("exported/encoder.json")
    inputs = encoder([{"user_id": 7, "item_id": "a1", "price": 3.5}])  # dicts, a dict of columns, or a DataFrame
    scores = onnxruntime.InferenceSession("exported/model.onnx").run(None, inputs)[0]

Legend: B rows, F categorical fields, N numerical fields (impressions) or candidates (sequences), L history width.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_WHOLE_FLOAT = re.compile(r"(-?[0-9]+)\.0+")
_NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_EXACT = {np.dtype(np.float16): 1 << 11, np.dtype(np.float32): 1 << 24}  # largest integers of float columns


class EncodingError(ValueError):
    """A row that the model cannot read."""


def load(path: str | Path, on_unknown: str = "error") -> ImpressionEncoder | SequenceEncoder:
    """Return the encoder of an exported model.

    Args:
        path: its ``encoder.json``.
        on_unknown: for sequences, ``error`` or ``skip`` items of a history that the model does not know.
    """
    return encoder_of(json.loads(Path(path).read_text(encoding="utf-8")), on_unknown)


def encoder_of(rules: Mapping[str, Any], on_unknown: str = "error") -> ImpressionEncoder | SequenceEncoder:
    """Return the encoder for the content of an ``encoder.json``."""
    return SequenceEncoder(rules, on_unknown) if rules["kind"] == "sequences" else ImpressionEncoder(rules)


class ImpressionEncoder:
    """Rows of impressions -> ``ids`` (B, F) int32, ``values`` (B, N) float32, ``scenario`` (B,) int32.

    Args:
        rules: content of ``encoder.json``.
    """

    def __init__(self, rules: Mapping[str, Any]) -> None:
        self.rules, self._cells = rules, rules["cells"]
        self._ids = {
            name: {token: index for index, token in enumerate(tokens, start=1)}
            for name, tokens in rules["vocabularies"].items()
        }
        self._missing = frozenset(self._cells["missing"])

    def __call__(self, rows: Any) -> dict[str, Any]:
        """Return input name -> array. Columns that the model does not read are ignored.

        Raises:
            EncodingError: a column is missing or has a value that ``stemlab.predict`` refuses.
        """
        inputs: dict[str, Any] = {}
        for name in self.rules["inputs"]:
            if name == "ids":
                inputs[name] = np.stack([self._encode(rows, field) for field in self.rules["fields"]], axis=1)
            elif name == "values":
                inputs[name] = np.stack([self._scale(rows, column) for column in self.rules["numericals"]], axis=1)
            else:
                inputs[name] = self._scenarios(rows)
        return inputs

    def _encode(self, rows: Any, field: Mapping[str, Any]) -> Any:
        """Return the ids of a categorical field, (B,) int32."""
        ids, padding, oov = self._ids[field["vocabulary"]], field["padding"], field["out_of_vocabulary"]
        result = []
        for token in self._tokens(field["name"], _cells_of(rows, field["name"])):
            if padding is not None and token == padding:
                result.append(0)
            else:
                result.append(ids.get(token, oov))
        return np.array(result, dtype=np.int32)

    def _tokens(self, name: str, cells: tuple[list[Any], int]) -> list[str]:
        """Return the token of each cell; the empty text is a missing value."""
        values, exact = cells
        missing = self._cells["missing_token"] or ""
        tokens = (self._token(name, value, exact) for value in values)
        return [token or missing for token in tokens]

    def _token(self, name: str, value: Any, exact: int) -> str:
        if _is_null(value):
            return ""
        if isinstance(value, str):
            text = value.strip() if self._cells["strip"] else value
            whole = _WHOLE_FLOAT.fullmatch(text)
            return "" if text in self._missing else whole[1] if whole else text
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int):
            return str(value)
        if isinstance(value, float) and abs(value) <= exact:
            if value.is_integer():
                return str(int(value))
            if self._cells["fractions"]:
                return repr(value)
        raise EncodingError(f"column {name!r} has {value!r}, which cannot be an id: give an integer or text.")

    def _scale(self, rows: Any, column: Mapping[str, Any]) -> Any:
        """Return a numerical field, (B,) float32: (value - shift) / scale; missing values are the mean."""
        values, _ = _cells_of(rows, column["name"])
        with np.errstate(over="ignore"):
            numbers = np.array([self._number(column["name"], value) for value in values], dtype=np.float32)
        if np.isinf(numbers).any():
            raise EncodingError(f"column {column['name']!r} has an infinite value: correct it or leave it out (null).")
        known = np.where(np.isnan(numbers), column["mean"], numbers.astype(np.float64))
        return ((known - column["shift"]) / column["scale"]).astype(np.float32)

    def _number(self, name: str, value: Any) -> float:
        rule = self._cells["numbers"]
        if _is_null(value):
            return math.nan
        if isinstance(value, str):
            text = value.strip()
            if text == "" or value in self._missing or text in self._missing:
                return math.nan
            if _NUMBER.fullmatch(text):
                return float(text)
        elif isinstance(value, int | float) and not (isinstance(value, bool) and rule == "strict"):
            return float(value)
        if rule == "lenient":
            return math.nan
        raise EncodingError(f"column {name!r} has {value!r}, which is not a number.")

    def _scenarios(self, rows: Any) -> Any:
        """Return the scenario ids, (B,) int32."""
        rule = self.rules["scenario"]
        column, made = rule["column"], rule["from"]
        prefix = ""
        if made and column not in _names(rows):
            column, prefix = made
        if rule["optional"] and column not in _names(rows):
            return np.zeros(_length(rows), dtype=np.int32)
        result = []
        for token in self._tokens(column, _cells_of(rows, column)):
            scenario = rule["ids"].get(f"{prefix}{token}")
            if scenario is None:
                raise EncodingError(f"column {column!r} has {token!r}, which is none of {', '.join(rule['ids'])}.")
            result.append(scenario)
        return np.array(result, dtype=np.int32)


class SequenceEncoder:
    """Histories -> ``history`` (B, L), ``length`` (B,), ``candidates`` (B, N) and what else the model reads; int64.

    A row has ``items`` (the history), ``times`` (seconds; without them the items are oldest first), ``user`` if the
    model reads it, and ``candidates`` (the same number in each row). Without candidates, all items are scored, in the
    order of the attribute ``items``.

    Args:
        rules: content of ``encoder.json``.
        on_unknown: ``error`` or ``skip`` items of a history that the model does not know.

    Attributes:
        items: original ids of items 1, 2, ...
    """

    def __init__(self, rules: Mapping[str, Any], on_unknown: str = "error") -> None:
        if on_unknown not in ("error", "skip"):
            raise EncodingError(f"on_unknown={on_unknown!r} must be error or skip.")
        self.rules, self.items, self._skip = rules, list(rules["items"]), on_unknown == "skip"
        self._item = {token: index for index, token in enumerate(self.items, start=1)}
        self._user = {token: index for index, token in enumerate(rules["users"], start=1)}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return input name -> array.

        Raises:
            EncodingError: an item, user or candidate is unknown, or a history is empty.
        """
        reads = self.rules["inputs"]
        encoded: dict[str, Any] = {}
        if "user" in reads:
            encoded["user"] = np.array([self._user_id(row) for row in rows], dtype=np.int64)
        if {"history", "length", "time", "unit"} & set(reads):
            histories = [self._history(number, row) for number, row in enumerate(rows, start=1)]
            encoded |= self._padded(histories)
        if "candidates" in reads:
            encoded["candidates"] = self._candidates(rows)
        return {name: encoded[name] for name in reads}

    def _user_id(self, row: Mapping[str, Any]) -> int:
        user = self._user.get(_id_text(row.get("user")), 0)
        if not user and self.rules["user_required"]:
            raise EncodingError(f"user {row.get('user')!r} is unknown, and the model has a vector per user.")
        return user

    def _history(self, number: int, row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
        """Return the known items of a history and their times, oldest first."""
        items = [self._item.get(_id_text(item), 0) for item in row["items"]]
        given = row.get("times")
        times = [int(time) for time in (range(len(items)) if given is None else given)]
        if given is None and "time" in self.rules["inputs"]:
            raise EncodingError(f"row {number} has no times, which this model reads: give one per item, in seconds.")
        if len(times) != len(items):
            raise EncodingError(f"row {number} has {len(items)} items and {len(times)} times: give one per item.")
        unknown = [raw for raw, item in zip(row["items"], items, strict=True) if not item]
        if unknown and not self._skip:
            raise EncodingError(
                f"row {number}: item {unknown[0]!r} is unknown: leave it out, or use on_unknown='skip'."
            )
        known = sorted((pair for pair in zip(times, items, strict=True) if pair[1]), key=lambda pair: pair[0])
        if not known:
            raise EncodingError(f"row {number} has no known item in its history.")
        return [item for _, item in known], [time for time, _ in known]

    def _padded(self, histories: list[tuple[list[int], list[int]]]) -> dict[str, Any]:
        """Return the last items of each history, right-padded with 0."""
        most, fixed = self.rules["history_max"], self.rules["history_width"]
        length = np.array([min(len(items), most) for items, _ in histories], dtype=np.int64)
        history = np.zeros((len(histories), fixed or int(length.max(initial=1))), dtype=np.int64)
        time, unit = np.zeros_like(history), np.full(len(histories), self.rules["largest_gap"], dtype=np.int64)
        for row, (items, times) in enumerate(histories):
            history[row, : length[row]] = items[-most:]
            time[row, : length[row]] = times[-most:]
            gaps = [after - before for before, after in itertools.pairwise(times) if after > before]
            unit[row] = min([*gaps, self.rules["largest_gap"]])
        return {"history": history, "length": length, "time": time, "unit": unit}

    def _candidates(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        every = list(range(1, len(self.items) + 1))
        wanted = [self._known(row["candidates"]) if "candidates" in row else every for row in rows]
        if len({len(items) for items in wanted}) > 1:
            raise EncodingError("all rows need the same number of candidates.")
        return np.array(wanted, dtype=np.int64)

    def _known(self, candidates: Sequence[Any]) -> list[int]:
        for item in candidates:
            if _id_text(item) not in self._item:
                raise EncodingError(f"candidate {item!r} is not an item of the model: leave it out.")
        return [self._item[_id_text(item)] for item in candidates]


def _names(rows: Any) -> list[str]:
    """Return the columns of rows: of a DataFrame, a dict of columns, or of the first of a list of dicts."""
    if isinstance(rows, Mapping):
        return list(rows)
    if hasattr(rows, "columns"):
        return [str(name) for name in rows.columns]
    return list(rows[0]) if len(rows) else []


def _length(rows: Any) -> int:
    return len(next(iter(rows.values()))) if isinstance(rows, Mapping) else len(rows)


def _cells_of(rows: Any, name: str) -> tuple[list[Any], int]:
    """Return the cells of a column as Python values, and the largest integer that its floats hold exactly."""
    if not isinstance(rows, Mapping) and not hasattr(rows, "columns"):
        lacking = next((number for number, row in enumerate(rows, start=1) if name not in row), None)
        if lacking is not None:
            raise EncodingError(f"row {lacking} has no {name!r}; a missing value is None.")
        column: Any = [row[name] for row in rows]
    elif name not in _names(rows):
        raise EncodingError(f"there is no column {name!r} (columns: {', '.join(_names(rows))}).")
    else:
        column = rows[name]
    array = column if isinstance(column, np.ndarray) else column.to_numpy() if hasattr(column, "to_numpy") else None
    if array is None:
        return [cell.item() if isinstance(cell, np.generic) else cell for cell in column], 1 << 53
    cells = [cell.item() if isinstance(cell, np.generic) else cell for cell in array.tolist()]
    return cells, _EXACT.get(array.dtype, 1 << 53)


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"


def _id_text(value: Any) -> str:
    """Return an id of a user or item as its token."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    whole = _WHOLE_FLOAT.fullmatch(value) if isinstance(value, str) else None
    return whole[1] if whole else str(value)
