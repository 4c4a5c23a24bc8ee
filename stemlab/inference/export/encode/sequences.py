"""Histories -> inputs of an exported model. Needs only NumPy.

Legend: B rows, L history width, N candidates.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .cells import EncodingError, id_text


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
        user = self._user.get(id_text(row.get("user")), 0)
        if not user and self.rules["user_required"]:
            raise EncodingError(f"user {row.get('user')!r} is unknown, and the model has a vector per user.")
        return user

    def _history(self, number: int, row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
        """Return the known items of a history and their times, oldest first."""
        items = [self._item.get(id_text(item), 0) for item in row["items"]]
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
            if id_text(item) not in self._item:
                raise EncodingError(f"candidate {item!r} is not an item of the model: leave it out.")
        return [self._item[id_text(item)] for item in candidates]
