"""Encodes raw rows for prediction with the vocabularies, scaling and scenarios of a prepared dataset.

Legend: B rows, F categorical fields, N numerical fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from stemlab.array_types import Float32Array, Int32Array
from stemlab.data.batch import ImpressionBatch
from stemlab.data.io.arrow import as_numpy
from stemlab.data.prepare.encode_lists import TableListEncoder
from stemlab.data.prepare.manifest import read_manifest
from stemlab.data.prepare.scaling import Scaler, check_finite
from stemlab.data.prepare.vocabulary import Vocabulary, as_tokens
from stemlab.data.spec import DatasetSpec
from stemlab.data.target_columns import batch_columns
from stemlab.errors import StemlabError, nearest


class TableEncoder:
    """Encodes raw tables exactly as ``prepare`` did.

    Args:
        directory: prepared directory; its vocabularies and manifest are read once.
        spec: fields and tasks of the dataset.
    """

    def __init__(self, directory: Path, spec: DatasetSpec) -> None:
        manifest = read_manifest(directory)
        padding: Mapping[str, str] = manifest.get("padding", {})
        owners = {f.name: f.table or f.name for f in spec.fields if f.kind == "categorical"}
        loaded = {owner: Vocabulary.load(directory / "vocabulary", owner) for owner in dict.fromkeys(owners.values())}
        self._fields = [_CategoricalEncoder(replace(loaded[owners[f]], field=f), padding.get(f)) for f in owners]
        self._lists = TableListEncoder(directory / "vocabulary", spec.lists)
        self._scalers = {f.name: Scaler.from_dict(manifest["numericals"][f.name]) for f in spec.numericals}
        self._scenario: str | None = manifest.get("scenario_column")
        self._scenarios = spec.scenarios

    def __call__(self, table: Any) -> ImpressionBatch:
        """Encode an Arrow table that has one column per field (numerical fields and the scenario included).

        Fields that hold lists are columns of lists (``TableListEncoder``).
        Scenarios are given by name, or by id if no scenario name is a number. Other columns are ignored. The scenario
        column may be missing if the dataset has a single scenario.

        Returns:
            A batch with int32 ids and scenarios and float32 numerical values, without labels and group.

        Raises:
            StemlabError: a column is missing or has an invalid value.
        """
        ids_FB = [field.encode(_column(table, field.vocabulary.field)) for field in self._fields]
        dense_NB = [scaler(as_floats(name, _column(table, name))) for name, scaler in self._scalers.items()]
        scenario_B = self._encode_scenario(table)
        lists = {name: torch.from_numpy(column) for name, column in self._lists(table).items()}
        return ImpressionBatch(
            torch.from_numpy(np.stack(ids_FB, axis=1)),
            dense_BN=torch.from_numpy(np.stack(dense_NB, axis=1)) if dense_NB else None,
            scenario_B=None if scenario_B is None else torch.from_numpy(scenario_B),
            **batch_columns(lists),
        )

    def _encode_scenario(self, table: Any) -> Int32Array | None:
        if self._scenario is None:
            return None
        if len(self._scenarios) == 1 and self._scenario not in table.column_names:
            return np.zeros(table.num_rows, dtype=np.int32)
        return encode_scenarios(self._scenario, _column(table, self._scenario), self._scenarios)


@dataclass(frozen=True, slots=True)
class _CategoricalEncoder:
    """Vocabulary of a field (possibly shared with another field) and its padding token."""

    vocabulary: Vocabulary
    padding: str | None

    def encode(self, values: Any) -> Int32Array:
        tokens = as_tokens(self.vocabulary.field, values)
        ids_B = self.vocabulary.encode(tokens)
        if self.padding is None:
            return ids_B
        is_padding = pc.equal(pc.fill_null(tokens, "") if self.padding == "" else tokens, self.padding)
        return np.where(as_numpy(pc.cast(pc.fill_null(is_padding, False), pa.int8())) == 1, np.int32(0), ids_B)


def as_floats(name: str, values: Any) -> Float32Array:
    """Return a column as (B,) float32; nulls and empty cells become NaN (missing).

    Raises:
        StemlabError: a value is not a number, or infinite.
    """
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    try:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pc.utf8_trim_whitespace(column)
            column = pc.if_else(pc.equal(column, ""), None, column)
        numbers = pc.fill_null(pc.cast(column, pa.float32(), safe=False), float("nan"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StemlabError(
            f"numerical column {name!r} holds a value that is not a number ({error}): correct it."
        ) from error
    floats: Float32Array = as_numpy(numbers)
    check_finite(name, floats)
    return floats


def encode_scenarios(name: str, values: Any, scenarios: tuple[str, ...]) -> Int32Array:
    """Return the ids of a column of scenario names (or of ids, if no name is a number), (B,) int32.

    Raises:
        StemlabError: a value is not a scenario of the dataset.
    """
    tokens = as_tokens(name, values)
    known: list[str] = as_tokens(name, pa.array(scenarios, pa.string())).to_pylist()
    if not any(scenario.lstrip("-").isdigit() for scenario in scenarios):
        known += [str(number) for number in range(len(scenarios))]
    indices = pc.index_in(tokens, value_set=pa.array(known, pa.string()))
    if indices.null_count:
        wrong = tokens[pc.index(pc.is_null(indices), True).as_py()].as_py()
        raise StemlabError(
            f"column {name!r} holds {wrong!r}, which is not a scenario of the dataset ({', '.join(scenarios)})."
            + nearest(wrong or "", scenarios)
        )
    ids_B: Int32Array = (as_numpy(indices) % max(1, len(scenarios))).astype(np.int32)
    return ids_B


def _column(table: Any, name: str) -> Any:
    if name not in table.column_names:
        raise StemlabError(
            f"the input has no column {name!r} (it has: {', '.join(table.column_names)})."
            + nearest(name, table.column_names)
        )
    return table[name]


def check_columns(setting: str, chosen: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the chosen column names after checking that each is known and named once.

    Raises:
        StemlabError: an unknown or repeated name, with the nearest known one.
    """
    for name in chosen:
        if name not in known:
            raise StemlabError(f"{setting} has {name!r}, which is none of: {', '.join(known)}." + nearest(name, known))
        if chosen.count(name) > 1:
            raise StemlabError(f"{setting} names {name!r} twice: name every column once.")
    if not chosen:
        raise StemlabError(f"{setting} is empty: choose from {', '.join(known)}.")
    return tuple(chosen)


def check_group(group: str | None, fields: tuple[str, ...]) -> str | None:
    """Return ``group`` after checking that it is ``None`` or one of the fields.

    Args:
        group: column whose values group samples for gAUC.
        fields: input columns.

    Raises:
        StemlabError: the group is not one of the fields.
    """
    if group is not None and group not in fields:
        raise StemlabError(
            f"dataset.group={group} is none of dataset.fields ({', '.join(fields)}): add it there or set it to null."
            + nearest(group, fields)
        )
    return group
