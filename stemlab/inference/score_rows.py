"""Score the rows of a file with a multi-task model.

Legend: B samples, F fields, T tasks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from stemlab.array_types import BoolArray, Float32Array
from stemlab.data.batch import ImpressionBatch
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.output_file import write_text_file
from stemlab.data.list_layout import list_columns
from stemlab.data.spec import DatasetSpec
from stemlab.errors import StemlabError
from stemlab.inference.device import inference_device, progress_bar
from stemlab.inference.input_cells import InputCells, OnBadCell
from stemlab.inference.table_io import TableReader, table_writer
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.runs.restore import RebuiltRun

PREDICTION_PREFIX = "pred_"
DEFAULT_BATCH_SIZE = 16384


class Scorer:
    """Score the rows of a file.

    Args:
        config: config of the command ``predict``.
        run: the run of its checkpoint.

    Attributes:
        rows: rows scored so far.
        unknown: field -> number of out-of-vocabulary values.
        ids: field -> number of values; of fields that hold lists, without padding.

    Raises:
        StemlabError: ``input`` is not set or equals ``output``, or the device is not available.
    """

    def __init__(self, config: Mapping[str, Any], run: RebuiltRun) -> None:
        if config["input"] is None:
            raise StemlabError(
                "input is not set: give the file to score, input=rows.csv (.tsv, .parquet, .jsonl, ...)."
            )
        self.input, self.output = Path(config["input"]), Path(config["output"])
        if self.input.resolve() == self.output.resolve():
            raise StemlabError(f"output={self.output} is the input: give another file.")
        trainer = run.config["trainer"]
        self._device = inference_device(trainer)
        self._autocast = trainer["precision"] == "bf16-mixed"
        self._batch_size = config["batch_size"] or DEFAULT_BATCH_SIZE
        self._escape = bool(config["escape_csv"])
        assert isinstance(run.datamodule, ImpressionDataModule)
        assert isinstance(run.saved.spec, DatasetSpec)
        self._run, self._data, self._spec = run, run.datamodule, run.saved.spec
        self._on_bad_cell: OnBadCell = config["on_bad_cell"]
        self._unknown_scenario = config["unknown_scenario"]
        self._checkpoint = str(config["ckpt"])
        names = [*self._spec.field_sizes, *(field.name for field in self._spec.lists)]
        self.rows, self.unknown, self.ids = 0, dict.fromkeys(names, 0), dict.fromkeys(names, 0)

    def run(self) -> None:
        """Read the input in chunks and write each chunk with its scores."""
        skip = self._on_bad_cell != "error"
        self._reader = TableReader(self.input, self._data.raw_columns, self._data.separator, skip_malformed=skip)
        self._run.prepare()
        self._cells = InputCells(self._data, self._spec, self._on_bad_cell, self._unknown_scenario)
        module = self._run.module()
        assert isinstance(module, MultiTaskModule)
        self._module = module.to(self._device).eval()
        with progress_bar("rows") as bar, table_writer(self.output, escape=self._escape) as write:
            task = bar.add_task("scoring", total=self._reader.total, done=0)
            for chunk in self._reader.chunks():
                write(self.score_table(chunk))
                bar.update(task, completed=self._reader.read, done=self.rows)
        if self._cells.checks_first:
            path = counts_file(self.output)
            write_text_file(path, json.dumps(self._facts(), indent=2, ensure_ascii=False) + "\n")

    def score_table(self, table: Any) -> Any:
        """Return the Arrow table with one float32 column ``pred_<task>`` per task added: the probability.

        Raises:
            StemlabError: the table already has such a column, or a cell is bad and must not be.
        """
        try:
            batch, kept_B = self._encode(table)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise StemlabError(self._unreadable(table, error)) from None
        self._count_unknown(batch)
        prob_BT = self._probabilities(batch)
        whole = bool(kept_B.all())
        for column, task in enumerate(self._module.tasks):
            name = f"{PREDICTION_PREFIX}{task}"
            if name in table.column_names:
                raise StemlabError(f"{self.input} already has the column {name!r}: rename it.")
            scores = pa.array(np.ascontiguousarray(prob_BT[:, column]))
            table = table.append_column(name, scores if whole else _at_rows(scores, kept_B))
        self.rows += len(batch)
        return table

    def _encode(self, table: Any) -> tuple[ImpressionBatch, BoolArray]:
        """Return the rows that are scored as a batch, and their (B,) mask."""
        cells, place = self._cells, (str(self.input), self._reader.lines, self._reader.unit)
        if cells.checks_first:
            table, kept_B = cells.clean(table, *place)
            return self._data.encode(table), kept_B
        try:
            return self._data.encode(table), np.ones(table.num_rows, dtype=np.bool_)
        except StemlabError:
            cells.clean(table, *place)  # raises an error with the line, if a cell is the reason
            raise

    def _unreadable(self, table: Any, error: Exception) -> str:
        """Return the error for a column whose cells are no single values."""
        rules, fields, numericals = self._data.cell_rules(), self._spec.field_sizes, self._spec.numericals
        named = {*fields, *(one.name for one in numericals), rules.scenario if rules else None}
        for name, kind in zip(table.column_names, table.schema.types, strict=True):
            if name in named and (pa.types.is_nested(kind) or pa.types.is_binary(kind)):
                return f"{self.input}: column {name!r} has cells of type {kind}: give texts, numbers or dates."
        return f"{self.input} cannot be encoded ({' '.join(str(error).split())[:200]}): give texts, numbers or dates."

    def _facts(self) -> dict[str, Any]:
        """Return what was scored and counted, as plain values."""
        return {
            "checkpoint": self._checkpoint,
            "input": str(self.input),
            "rows_scored": self.rows,
            "malformed_lines": self._reader.malformed,
            **self._cells.facts(),
            "out_of_vocabulary": self.unknown,
        }

    def _count_unknown(self, batch: ImpressionBatch) -> None:
        for column, (field, size) in enumerate(self._spec.field_sizes.items()):
            self.unknown[field] += int((batch.ids_BF[:, column] == size - 1).sum())
            self.ids[field] += len(batch)
        for listed, own in zip(self._spec.lists, list_columns(self._spec.lists)[0], strict=True):
            assert batch.list_ids_BK is not None
            ids_BL = batch.list_ids_BK[:, own.ids]
            self.unknown[listed.name] += int((ids_BL == listed.size - 1).sum())
            self.ids[listed.name] += int((ids_BL != 0).sum())

    @torch.inference_mode()
    def _probabilities(self, batch: ImpressionBatch) -> Float32Array:
        out_BT = np.empty((len(batch), len(self._module.tasks)), dtype=np.float32)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            for start in range(0, len(batch), self._batch_size):
                rows = slice(start, start + self._batch_size)
                out_BT[rows] = self._module(_slice_inputs(batch, rows).to(self._device)).cpu().numpy()
        return out_BT

    def summary(self) -> str:
        """Return one sentence: rows scored, output file, number of out-of-vocabulary values per field."""
        total = sum(self.unknown.values())
        per_field = ", ".join(f"{field} {count:,}" for field, count in self.unknown.items() if count)
        unknown = f"{total:,} of {sum(self.ids.values()):,} ids are out-of-vocabulary (unseen or rare in training)"
        never = [field for field, count in self.unknown.items() if count == self.ids[field] > 1]
        hint = f"; no value of {', '.join(never)} was seen in training: check how it is written" if never else ""
        mark = "[SAMPLE model] " if self._spec.sample else ""
        details = f": {per_field}" if per_field else ""
        malformed = self._reader.malformed
        lines = f"{malformed:,} lines that cannot be parsed were left out" if malformed else ""
        counted = "".join(f"; {part}" for part in (self._cells.words(), lines) if part)
        return f"{mark}{self.rows:,} rows scored into {self.output}{counted}; {unknown}{details}{hint}."


def counts_file(output: Path) -> Path:
    """Return the file of the counts: ``scores.parquet`` -> ``scores.parquet.json``."""
    return output.with_name(f"{output.name}.json")


def refuse_impression_options(config: Mapping[str, Any]) -> None:
    """Raise StemlabError if an option of multi-task models is set for a sequential model."""
    for key, value in (("on_bad_cell", "error"), ("unknown_scenario", None)):
        if config[key] != value:
            raise StemlabError(
                f"{key}={config[key]} applies to multi-task models only, and {config['ckpt']} is a sequential model: "
                f"omit {key} (on_unknown=skip skips unknown users and items)."
            )


def _at_rows(scores: Any, kept_B: BoolArray) -> Any:
    """Return the scores of the kept rows at their places, null elsewhere."""
    index = np.cumsum(kept_B) - 1
    return scores.take(pa.array(index, mask=~kept_B))


def _slice_inputs(batch: ImpressionBatch, rows: slice) -> ImpressionBatch:
    """Return a slice of the inputs of a network: all columns but labels and groups."""
    return replace(batch, labels_BT=None, group_B=None).map(lambda column: column[rows])
