"""Datasets from a user's own csv or parquet table, described by a config file.

Source: docs/methods/datasets.md#own-tables.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from stemlab.array_types import BoolArray
from stemlab.data.batch import ImpressionBatch
from stemlab.data.cell_rules import CellRules
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.arrow import inexact_integers
from stemlab.data.io.csv_integers import OnBadRow
from stemlab.data.prepare.pipeline import prepare_impressions
from stemlab.data.prepare.preparation_settings import NumericalColumn, PreparationSettings
from stemlab.data.prepare.split import SplitRule
from stemlab.data.prepare.vocabulary import as_tokens
from stemlab.data.reading import Reading
from stemlab.data.resident import Residence
from stemlab.data.table import cells
from stemlab.data.table.column_report import ColumnLine
from stemlab.data.table.columns import (
    ColumnRoles,
    check_bucket_roles,
    check_listed_scenarios,
    check_names,
    check_roles,
    columns_of_split,
)
from stemlab.data.table.derived import DerivedTable, code_of
from stemlab.data.table.derived_columns import DerivedColumn, DerivedColumns
from stemlab.data.table.draft import write_draft
from stemlab.data.table.file import TableFile, open_table
from stemlab.data.table.label_checks import stored_labels
from stemlab.data.table.label_rule import LabelRule
from stemlab.data.table.list_input import bad_list_rows, refuse_lists, with_parsed_lists
from stemlab.data.table.list_settings import MultivaluedField, SequenceField, check_lists, list_fields, list_roles
from stemlab.data.table.raw import SHOWN_CHARACTERS, RawTable, scenario_of, split_of, time_of
from stemlab.data.target_columns import weight_of
from stemlab.data.window_order import WINDOW_ROWS
from stemlab.errors import StemlabError, nearest
from stemlab.types import NonNegativeInt, PositiveInt

_log = logging.getLogger(__name__)


class TableDataModule(ImpressionDataModule):
    """Impressions of a user's own table.

    Args:
        name: dataset name.
        path: the csv or parquet file.
        config: path of the table description, for messages; ``stemlab.config.table_description`` has read it already.
        raw_dir: folder of the file, replacing the folder of ``path``; ``None`` uses ``path`` as it is.
        data_dir: root folder of prepared datasets.
        separator: separator of the cells of a text file: one character or ``tab``; ``None`` detects it.
        columns: column names of a text file without a header.
        missing: cells of a text file that encode a missing value.
        fields: categorical input columns; ``None`` if the table is not described yet. The scenario column is left
            out: ``model.scenario_feature`` makes it an input.
        numericals: numerical input columns.
        scaling: scaling of the numerical columns, fitted on the training split.
        tasks: label columns; ``None`` if the table is not described yet.
        labels: task -> kind of its label; tasks without an entry have values 0 and 1 in all rows.
        weight: column of sample weights, at least 0; ``None``: all samples have the weight 1.
        scenario: column of the scenario.
        scenarios: values of that column, in the order of their scenario ids.
        group: column that defines the groups of gAUC.
        time: column of integers or ISO dates; ``dates`` compares dates as yyyymmddhhmmss (UTC), ``time`` orders them
            to the nanosecond.
        split_column: column with the values train, valid and test.
        split: rule of the validation and test split.
        min_count: minimum number of training samples for a value to get its own id.
        shared: field -> field whose vocabulary and embedding table it shares.
        derived: name of a further column -> how it is computed from others; it may be a field or a numerical column.
        multivalued: column -> how it is read and pooled as a set of categories per row.
        sequences: name -> columns of the items that a user interacted with before the row, and their pooling.
        on_bad_row: ``error`` stops at the first invalid row, ``skip`` skips and counts invalid rows.
        batch_size: training samples per step and process.
        eval_batch_size: maximum number of samples per evaluation batch.
        residence: see ``ImpressionDataModule``.
        reading: see ``ImpressionDataModule``.
        window_rows: see ``ImpressionDataModule``.
        seed: seed of the shuffling.
    """

    def __init__(
        self,
        *,
        name: str,
        path: str | None,
        config: str | None,
        raw_dir: Path | None,
        data_dir: Path,
        separator: str | None,
        columns: list[str] | None,
        missing: list[str],
        fields: list[str] | None,
        numericals: list[str],
        scaling: Literal["none", "standard", "minmax"],
        tasks: list[str] | None,
        scenario: str | None,
        scenarios: list[str | int],
        group: str | None,
        time: str | None,
        split_column: str | None,
        split: SplitRule,
        min_count: PositiveInt,
        shared: dict[str, str],
        on_bad_row: OnBadRow,
        batch_size: PositiveInt,
        eval_batch_size: PositiveInt,
        seed: NonNegativeInt,
        residence: Residence = "auto",
        reading: Reading = "auto",
        window_rows: PositiveInt = WINDOW_ROWS,
        multivalued: dict[str, MultivaluedField] | None = None,
        sequences: dict[str, SequenceField] | None = None,
        labels: dict[str, LabelRule] | None = None,
        weight: str | None = None,
        derived: dict[str, DerivedColumn] | None = None,
    ) -> None:
        where: dict[str, Any] = {"residence": residence, "reading": reading, "window_rows": window_rows}
        super().__init__(name=name, batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, **where)
        self._path, self._data_dir = path, Path(data_dir)
        self._raw_dir, self.separator = raw_dir and Path(raw_dir), _character(separator)
        self._names, self._on_bad_row, self._named_fields = columns, on_bad_row, tuple(fields or ())
        self.raw_columns = tuple(columns or ())
        self.described = fields is not None or tasks is not None or config is not None
        self._rule, self._scaling, self._min_count = split, scaling, min_count
        self._lists = (multivalued or {}, sequences or {})
        self._derived = DerivedColumns(derived or {}, missing)
        named = tuple(field for field in fields or () if field != scenario)
        inputs: dict[str, Any] = {"fields": named, "numericals": tuple(numericals), "shared": shared}
        targets: dict[str, Any] = {"tasks": tuple(tasks or ()), "labels": labels or {}, "weight": weight}
        values: dict[str, Any] = {"scenarios": tuple(map(str, scenarios)), "missing": tuple(missing)}
        order = columns_of_split(split, time, split_column)
        others: dict[str, Any] = {"lists": list_roles(*self._lists), "scenario": scenario, "group": group}
        self._columns = ColumnRoles(**inputs, **targets, **values, **order, **others)
        if self.described:
            self._derived.used = None if self.has_own_columns else self._columns.needed
            self._check(f" ({config})" if config else "")

    def _check(self, source: str) -> None:
        """Check the table description; ``source`` names its file in messages."""
        columns, rule = self._columns, self._rule.rule
        for setting, named in (("tasks", columns.tasks), ("fields", columns.fields)):
            if not named:
                raise StemlabError(f"dataset.{setting} is not set{source}: name at least one column of the table.")
        check_lists(*self._lists, columns.fields, columns.shared)
        check_roles(columns)
        check_bucket_roles(columns, self._derived.quantiles)
        if rule in ("time", "dates") and columns.time is None:
            raise StemlabError(f"dataset.split.rule={rule} needs dataset.time: name the time column.")
        if rule == "given" and columns.split is None:
            raise StemlabError("dataset.split.rule=given needs dataset.split_column: the column of train, valid, test.")

    def _preparation(self) -> PreparationSettings:
        columns = self._columns
        return PreparationSettings(
            name=self.name,
            fields=columns.fields,
            numericals=tuple(NumericalColumn(name=name, scaling=self._scaling) for name in columns.numericals),
            tasks=columns.tasks,
            scenario=None if columns.scenario is None else scenario_of(columns.scenario),
            scenarios=columns.scenarios,
            group=columns.group,
            shared=columns.shared,
            lists=list_fields(*self._lists),
            min_count=self._min_count,
            split=self._rule,
            time="" if columns.time is None else time_of(columns.time),
            split_column="" if columns.split is None else split_of(columns.split),
            labels=stored_labels(columns.tasks, columns.labels),
            weight=None if columns.weight is None else weight_of(columns.weight),
            quantiles=self._derived.quantiles,
        )

    def build(self) -> Path:
        """Return the prepared directory of the table."""
        if not self.described:
            raise StemlabError(
                "dataset=table needs a description of the columns: python -m stemlab.prepare dataset=table "
                f"dataset.path={self._path or 'rows.csv'} drafts one; then set dataset.config=<that file>."
            )
        if self._columns.scenario in self._named_fields:
            _log.info(
                f"{self._columns.scenario!r} is dataset.scenario, so it is left out of dataset.fields; "
                "model.scenario_feature=true makes the scenario an input."
            )
        table = self._open()
        check_names(self._columns, (*table.names, *self._derived.unused), table.path)
        refuse_lists(self._columns, table.lists)
        check_listed_scenarios(self._columns, table)
        reading: dict[str, Any] = {"exact_times": self._rule.rule == "time", "numbers": self._derived.quantiles}
        raw = RawTable(table, self._columns, on_bad_row=self._on_bad_row, **reading)
        return prepare_impressions(raw, self._preparation(), self._data_dir / "prepared", self._on_bad_row)

    def draft(self) -> tuple[Path, list[ColumnLine], list[str]]:
        """Inspect the table and write a draft of its description; return its path, lines of columns, and notes."""
        return write_draft(self._open())

    def encode(self, table: Any) -> ImpressionBatch:
        """Return rows with the same columns as a batch; labels are not needed."""
        self._read_edges()
        return self.table_encoder(self._parse_inputs(self.derive(table)))

    def _read_edges(self) -> None:
        """Use the limits of quantile buckets of the prepared dataset."""
        if self._derived.quantiles:
            self.prepare()
            self._derived.edges = self.manifest["quantile_edges"]

    def derive(self, table: Any) -> Any:
        """Return rows with the columns of ``dataset.derived``; a class of your own may add others."""
        return self._derived(table)

    @property
    def has_own_columns(self) -> bool:
        """Whether a class of the user derives columns."""
        return type(self).derive is not TableDataModule.derive

    def cell_rules(self) -> CellRules:
        """Return how ``encode`` reads cells."""
        self._read_edges()
        columns = self._columns
        lists = tuple({**asdict(role), "category_field": role.category_field} for role in columns.lists)
        rules: dict[str, Any] = {"missing": columns.missing, "scenario": columns.scenario, "lists": lists}
        return CellRules(fractions=True, numbers="strict", derived=self._derived.rules(), **rules)

    def bad_lists(self, table: Any) -> Iterator[tuple[tuple[str, ...], BoolArray]]:
        """Yield the columns of each list field of raw rows with the mask of rows that ``encode`` cannot read."""
        return bad_list_rows(table, self._columns.lists, self._columns.missing)

    def bad_sources(self, table: Any) -> Iterator[tuple[str, BoolArray, str]]:
        """Yield source column, mask and problem of cells from which no numerical column can be derived."""
        return self._derived.bad_cells(table, self._columns.numericals)

    def _parse_inputs(self, table: Any) -> Any:
        """Return the table with input cells parsed as in training."""
        columns = self._columns
        table = with_parsed_lists(table, columns.lists, columns.missing)
        for name in (*columns.fields, *columns.numericals):
            if name in table.column_names:
                column = cells.without_missing(table[name], columns.missing)
                parsed = self._numbers(name, column) if name in columns.numericals else _tokens(name, column)
                table = table.set_column(table.column_names.index(name), name, parsed)
        if columns.scenario is None:
            return table
        if columns.scenario not in table.column_names:
            raise StemlabError(
                f"the input lacks the scenario column {columns.scenario!r} (it has: {', '.join(table.column_names)})."
                + nearest(columns.scenario, tuple(table.column_names))
            )
        scenarios = cells.without_missing(table[columns.scenario], columns.missing)
        return table.append_column(scenario_of(columns.scenario), _tokens(columns.scenario, scenarios))

    def _numbers(self, name: str, column: Any) -> Any:
        values, bad = cells.read_numbers(column)
        if bad.any():
            cell = column[int(np.argmax(bad))].as_py()
            raise StemlabError(f"column {name!r} of the input has {str(cell)[:SHOWN_CHARACTERS]!r}, not a number.")
        return pa.array(values)

    def _open(self) -> TableFile:
        if self._path is None:
            raise StemlabError("dataset.path is not set: name the table, dataset.path=rows.csv.")
        path = Path(self._path)
        if self._raw_dir is not None:
            path = self._raw_dir / path.name
        table = open_table(path, separator=self.separator, names=self._names)
        self._derived.check_names(table.names, table.path)
        self._derived.edges = {}  # not known before the rows are read
        own = code_of(type(self)) if self.has_own_columns else ""
        return DerivedTable(table, self.derive, own + self._derived.code) if own or self._derived else table


def _tokens(name: str, column: Any) -> Any:
    """Return the tokens of a column; a column of floats must hold its ids exactly."""
    if pa.types.is_floating(column.type) and inexact_integers(column).any():
        return as_tokens(name, column)  # raises
    coded = column.dictionary_encode()
    return cells.tokens_of(coded.dictionary).take(coded.indices)


def _character(separator: str | None) -> str | None:
    if separator is not None and separator != "tab" and len(separator.encode()) != 1:
        raise StemlabError(f"dataset.separator={separator!r} must be one character, such as ';', or the word tab.")
    return "\t" if separator == "tab" else separator
