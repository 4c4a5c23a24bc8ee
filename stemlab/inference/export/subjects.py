"""What is exported: the network of a run, rows for the comparison, and the scores of ``stemlab.predict`` for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from stemlab.array_types import AnyArray
from stemlab.data.batch import ImpressionBatch, SequenceBatch
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.list_layout import values_of
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.spec import DatasetSpec
from stemlab.errors import StemlabError
from stemlab.inference.export.made_up_rows import ROWS, impression_rows, sequence_rows
from stemlab.inference.export.networks import IMPRESSION_INPUTS, SEQUENCE_INPUTS, ImpressionScores, SequenceScores
from stemlab.inference.export.rules import impression_rules, sequence_rules
from stemlab.inference.users_file import UsersFile
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.sequential import SequentialModule
from stemlab.models.sequential.base import SequenceNet
from stemlab.runs.restore import RebuiltRun


class Subject(Protocol):
    """The network of a run and made-up rows.

    Attributes:
        network: the network as a function of tensors.
        rules: content of ``encoder.json`` without the inputs.
        rows: raw rows that the encoder reads.
        available: inputs that the dataset has.
        history_max: longest history; 0 for impressions.
    """

    network: Any
    rules: dict[str, Any]
    rows: Any
    available: list[str]
    history_max: int

    def check_encoding(self, inputs: Mapping[str, AnyArray], names: Sequence[str], folder: Path) -> None:
        """Raise StemlabError if ``stemlab.predict`` reads other inputs from the same rows."""

    def scores(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the scores of ``stemlab.predict`` for the inputs, computed as in evaluation."""

    def described_outputs(self) -> list[dict[str, Any]]:
        """Return name, type and shape of the outputs for ``export.json``."""


def subject_of(run: RebuiltRun) -> Subject:
    """Return the subject of a prepared run."""
    module = run.module().eval().cpu()
    if isinstance(run.datamodule, SequenceDataModule):
        assert isinstance(module, SequentialModule)
        return _Sequences(run.datamodule, module)
    assert isinstance(module, MultiTaskModule)
    assert isinstance(run.saved.spec, DatasetSpec)
    return _Impressions(run.datamodule, module, run.saved.spec)


class _Impressions:
    history_max = 0

    def __init__(self, data: ImpressionDataModule, module: MultiTaskModule, spec: DatasetSpec) -> None:
        self._data, self._module = data, module
        self.network = ImpressionScores(module.net, module.task_losses)
        self.rules = impression_rules(data, spec)
        self.rows = impression_rows(self.rules, spec.scenarios)
        given = {"ids": True, "values": bool(spec.numericals), "scenario": self.rules["scenario"] is not None}
        given |= {"lists": bool(spec.lists), "list_weights": any(values_of(field).weighted for field in spec.lists)}
        self.available = [name for name, has in given.items() if has]

    def check_encoding(self, inputs: Mapping[str, AnyArray], names: Sequence[str], folder: Path) -> None:
        batch = self._data.encode(pa.table({name: pa.array(cells, pa.string()) for name, cells in self.rows.items()}))
        columns = {
            "ids": [field["name"] for field in self.rules["fields"]],
            "values": [column["name"] for column in self.rules["numericals"]],
        }
        for name in names:
            wanted = getattr(batch, IMPRESSION_INPUTS[name]).numpy()
            same = np.isclose(inputs[name], wanted, rtol=1e-6, atol=1e-6)
            if not same.all():
                column = columns[name][int(np.argmin(same.all(axis=0)))] if name in columns else name
                raise StemlabError(
                    f"column {column!r} of dataset {self._data.name!r} is encoded in a way that exported models cannot "
                    "follow: leave it out of the dataset's inputs."
                )

    def scores(self, tensors: Mapping[str, Tensor]) -> Tensor:
        batch = ImpressionBatch(**{IMPRESSION_INPUTS[name]: tensor for name, tensor in tensors.items()})
        probability_BT: Tensor = self._module(batch)
        return probability_BT

    def described_outputs(self) -> list[dict[str, Any]]:
        tasks = list(self._module.tasks)
        return [{"name": self.network.outputs[0], "type": "float32", "shape": ["batch", len(tasks)], "columns": tasks}]


class _Sequences:
    def __init__(self, data: SequenceDataModule, module: SequentialModule) -> None:
        net = module.net
        assert isinstance(net, SequenceNet)
        self._data, self._module, self.history_max = data, module, data.history_max
        self.network = SequenceScores(net)
        self._user_required = "user_id" in net.embedding_tables()
        self.rules = sequence_rules(data, self._user_required)
        self.rows = sequence_rows(self.rules, max(3, min(ROWS, len(data.user_tokens))))
        self.available = [name for name in SEQUENCE_INPUTS if data.times or name not in ("time", "unit")]

    def check_encoding(self, inputs: Mapping[str, AnyArray], names: Sequence[str], folder: Path) -> None:
        path = folder / "rows.parquet"
        columns = {
            "user": [row["user"] for row in self.rows for _ in row["items"]],
            "item": [item for row in self.rows for item in row["items"]],
            "time": [str(time) for row in self.rows for time in row["times"]],
        }
        pq.write_table(pa.table(columns), path)
        users = UsersFile(path, self._data, "error", self._user_required).read()
        path.unlink()
        batch = users.batch(slice(0, len(self.rows)))
        for name in names:
            wanted = getattr(batch, SEQUENCE_INPUTS[name])
            if name != "candidates" and not _equal(inputs[name], wanted.numpy()):
                raise StemlabError(f"input {name!r} is encoded differently outside of stemlab: please report it.")

    def scores(self, tensors: Mapping[str, Tensor]) -> Tensor:
        count = len(next(iter(tensors.values())))
        anything = {name: torch.ones(count, 1, dtype=torch.int64) for name in ("history", "time", "candidates")}
        anything |= {name: torch.ones(count, dtype=torch.int64) for name in ("user", "length", "unit")}
        every = {SEQUENCE_INPUTS[name]: tensor for name, tensor in {**anything, **tensors}.items()}
        score_BN: Tensor = self._module(SequenceBatch(**every))
        return score_BN

    def described_outputs(self) -> list[dict[str, Any]]:
        outputs: list[dict[str, Any]] = [{"name": "score", "type": "float32", "shape": ["batch", "candidates"]}]
        if "vectors" in self.network.outputs:
            outputs.append({"name": "vectors", "type": "float32", "shape": ["batch", "vectors", "width"]})
        return outputs


def _equal(values: AnyArray, wanted: AnyArray) -> bool:
    """Return whether inputs are equal apart from padding at the right."""
    width = min(values.shape[-1], wanted.shape[-1]) if values.ndim > 1 else None
    rest = 0 if width is None else int(np.abs(values[:, width:]).sum() + np.abs(wanted[:, width:]).sum())
    return rest == 0 and np.array_equal(values[..., :width], wanted[..., :width])
