"""Rows of impressions -> inputs of an exported model. Needs only NumPy.

Legend: B rows, F categorical fields, N numerical fields, K ids of all lists, W weights of all lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .cells import EXACT_INTEGERS, CellReader, EncodingError, cells_of, length_of, names_of
from .derived import DerivedCells
from .lists import ListEncoder


class ImpressionEncoder:
    """Rows of impressions -> ``ids`` (B, F) int32, ``values`` (B, N) float32, ``scenario`` (B,) int32.

    Args:
        rules: content of ``encoder.json``.
    """

    def __init__(self, rules: Mapping[str, Any]) -> None:
        self.rules, self._cells = rules, CellReader(rules["cells"])
        self._ids = {
            name: {token: index for index, token in enumerate(tokens, start=1)}
            for name, tokens in rules["vocabularies"].items()
        }
        self._derived = DerivedCells(rules.get("derived") or (), self._cells)
        self._lists = None if rules["lists"] is None else ListEncoder(rules["lists"], self._cells, self._ids)

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
            elif name == "scenario":
                inputs[name] = self._scenarios(rows)
            else:
                inputs |= {} if self._lists is None or name in inputs else self._lists(rows)
        return {name: inputs[name] for name in self.rules["inputs"]}

    def _read(self, rows: Any, name: str) -> tuple[list[Any], int]:
        """Return the cells of a column or of a derived one, and the largest integer that its floats hold exactly."""
        return (self._derived(rows, name), EXACT_INTEGERS) if name in self._derived else cells_of(rows, name)

    def _encode(self, rows: Any, field: Mapping[str, Any]) -> Any:
        """Return the ids of a categorical field, (B,) int32."""
        ids, padding, oov = self._ids[field["vocabulary"]], field["padding"], field["out_of_vocabulary"]
        result = []
        for token in self._cells.tokens(field["name"], self._read(rows, field["name"])):
            if padding is not None and token == padding:
                result.append(0)
            else:
                result.append(ids.get(token, oov))
        return np.array(result, dtype=np.int32)

    def _scale(self, rows: Any, column: Mapping[str, Any]) -> Any:
        """Return a numerical field, (B,) float32: (value - shift) / scale; missing values are the mean."""
        values, _ = self._read(rows, column["name"])
        with np.errstate(over="ignore"):
            numbers = np.array([self._cells.number(column["name"], value) for value in values], dtype=np.float32)
        if np.isinf(numbers).any():
            raise EncodingError(f"column {column['name']!r} has an infinite value: correct it or leave it out (null).")
        known = np.where(np.isnan(numbers), column["mean"], numbers.astype(np.float64))
        return ((known - column["shift"]) / column["scale"]).astype(np.float32)

    def _scenarios(self, rows: Any) -> Any:
        """Return the scenario ids, (B,) int32."""
        rule = self.rules["scenario"]
        column, made = rule["column"], rule["from"]
        prefix = ""
        if made and column not in names_of(rows):
            column, prefix = made
        if rule["optional"] and column not in names_of(rows):
            return np.zeros(length_of(rows), dtype=np.int32)
        result = []
        for token in self._cells.tokens(column, cells_of(rows, column)):
            scenario = rule["ids"].get(f"{prefix}{token}")
            if scenario is None:
                raise EncodingError(f"column {column!r} has {token!r}, which is none of {', '.join(rule['ids'])}.")
            result.append(scenario)
        return np.array(result, dtype=np.int32)
