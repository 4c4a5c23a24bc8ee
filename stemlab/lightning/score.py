"""Score raw rows with a checkpoint.

Legend: B rows, F fields, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stemlab.config.build import require_gpu
from stemlab.config.delegate import process_count
from stemlab.data.batch import ImpressionBatch
from stemlab.errors import StemlabError
from stemlab.lightning.rowfiles import RowFile, written
from stemlab.lightning.saved import RebuiltRun

PREFIX = "pred_"


class Scorer:
    """Rebuild a run from its checkpoint and score files with it.

    Args:
        config: of the command ``predict``.

    Attributes:
        rows: rows scored so far.
        unknown: field -> values that had no id of their own (rare in training, or unseen).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.input, self.output = Path(config["input"]), Path(config["output"])
        if self.input.resolve() == self.output.resolve():
            raise StemlabError(f"output={self.output} is the input: name another file.")
        self._run = RebuiltRun(config)
        trainer = self._run.config["trainer"]
        if process_count(trainer) > 1:
            raise StemlabError("predict runs in one process: use trainer=cpu or trainer=gpu, and trainer.devices=1.")
        require_gpu(trainer)
        if trainer["threads"]:
            torch.set_num_threads(trainer["threads"])
        self._device = torch.device("cuda" if trainer["accelerator"] == "gpu" else "cpu")
        self._autocast = trainer["precision"] == "bf16-mixed"
        self._batch_size = config["batch_size"]
        self.rows, self.unknown = 0, dict.fromkeys(self._run.saved.spec.field_sizes, 0)

    def run(self) -> None:
        """Read the input piece by piece and write each with its scores."""
        rows = RowFile(self.input, self._run.datamodule.raw_columns)
        self._run.prepare()
        self._module = self._run.module().to(self._device).eval()
        with _bar() as bar, written(self.output) as write:
            task = bar.add_task("scoring", total=rows.total, rows=0)
            for piece in rows.pieces():
                write(self.scored(piece))
                bar.update(task, completed=rows.read, rows=self.rows)

    def scored(self, table: Any) -> Any:
        """Return an Arrow table with one float32 column a task added: ``pred_<task>``, a probability."""
        batch = self._run.datamodule.encode(table)
        self._count_unknown(batch)
        prob_BT = self._probabilities(batch)
        for column, task in enumerate(self._module.tasks):
            name = f"{PREFIX}{task}"
            if name in table.column_names:
                raise StemlabError(f"{self.input} already has a column {name!r}: rename it.")
            table = table.append_column(name, pa.array(np.ascontiguousarray(prob_BT[:, column])))
        self.rows += len(batch)
        return table

    def _count_unknown(self, batch: ImpressionBatch) -> None:
        for column, (field, size) in enumerate(self._run.saved.spec.field_sizes.items()):
            self.unknown[field] += int((batch.ids_BF[:, column] == size - 1).sum())

    @torch.inference_mode()
    def _probabilities(self, batch: ImpressionBatch) -> NDArray[np.float32]:
        out_BT = np.empty((len(batch), len(self._module.tasks)), dtype=np.float32)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            for start in range(0, len(batch), self._batch_size):
                rows = slice(start, start + self._batch_size)
                out_BT[rows] = self._module(ImpressionBatch(batch.ids_BF[rows].to(self._device))).cpu().numpy()
        return out_BT

    def summary(self) -> str:
        """Return what was done, with the count of values that are out-of-vocabulary."""
        total = sum(self.unknown.values())
        told = ", ".join(f"{field} {count:,}" for field, count in self.unknown.items() if count)
        fields = len(self.unknown)
        unknown = f"{total:,} of {self.rows * fields:,} ids are out-of-vocabulary (unseen or rare in training)"
        mark = "[SAMPLE model] " if self._run.saved.spec.sample else ""
        return f"{mark}{self.rows:,} rows scored into {self.output}; {unknown}{f': {told}' if told else ''}."


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(30), TextColumn("{task.fields[rows]:,} rows"))
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True)
