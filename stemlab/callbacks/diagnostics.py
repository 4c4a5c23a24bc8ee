"""Per-epoch diagnostics of a multi-task network: embedding collapse, gate shares, gradient conflicts.

Names: ``diagnostics/ia/<role>``, ``diagnostics/gate/<task>/<expert group>`` (``gate/<layer>`` if there are several
layers), ``diagnostics/conflict/<task>-<task>/<tables|experts>``. The training is not affected.

Legend: B rows of a block, V rows of an embedding table, D embedding width.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Literal

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.data.blocks import StepBlock
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.models.multitask.diagnostics import diagnose_batch
from stemlab.nn.fused_tables import plain_lookups
from stemlab.nn.sharded.exchange import ShardedTables
from stemlab.nn.sharded.network import exchange_of, finish_lookups, whole_shapes

RowNorm = Literal["l2", "none"]
_BLOCK = 1 << 16
_EPSILON = 1e-8


class Diagnostics(Callback):
    """Log Information Abundance, gate shares and gradient cosines between tasks to every logger.

    Gates and gradients are computed on the first samples of the first batch of the epoch, with the weights at the end
    of the epoch, in eval mode (no dropout, running statistics of batch normalisation). Weights, gradients, random
    number generators and metrics of the training do not change. Runs on rank 0; the other ranks wait only if they hold
    parts of the embedding tables.

    Args:
        every_n_epochs: interval in epochs; 1 for every epoch.
        rows: number of samples.
        row_norm: ``l2``: normalise the rows of an embedding table first, as ``analysis=collapse`` does; ``none``: do
            not.
    """

    def __init__(self, every_n_epochs: int, rows: int, row_norm: RowNorm) -> None:
        self.every_n_epochs, self.rows, self.row_norm = every_n_epochs, rows, row_norm
        self.values: dict[str, float] = {}
        self._batch: ImpressionBatch | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Copy samples of the first batch of the epoch."""
        if self._batch is None and trainer.is_global_zero and self._due(trainer):
            first = batch.batch(0) if isinstance(batch, StepBlock) else batch
            self._batch = first_rows(first, self.rows)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute and log the diagnostics."""
        batch, self._batch = self._batch, None
        assert isinstance(pl_module, MultiTaskModule)
        if not self._due(trainer) or (batch is None and exchange_of(pl_module.net) is None):
            return
        with trainer.precision_plugin.forward_context():
            found = diagnose(pl_module, batch, self.row_norm)
        if batch is None:
            return
        self.values = {f"diagnostics/{name}": x for name, x in found.items()}
        defined = {name: value for name, value in self.values.items() if value == value}
        for logger in trainer.loggers:
            logger.log_metrics({**defined, "epoch": trainer.current_epoch}, step=trainer.global_step - 1)

    def _due(self, trainer: Trainer) -> bool:
        return (trainer.current_epoch + 1) % self.every_n_epochs == 0


def first_rows(batch: ImpressionBatch, rows: int) -> ImpressionBatch:
    """Return a copy of the first samples of a batch."""
    present = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(batch, **{name: value[:rows].clone() for name, value in present.items() if value is not None})


def diagnose(module: MultiTaskModule, batch: ImpressionBatch | None, row_norm: RowNorm) -> dict[str, float]:
    """Compute the diagnostics of a batch: name (without ``diagnostics/``) -> value; the module does not change.

    Collective if the ranks hold parts of the embedding tables; all diagnostics are those of rank 0 then.

    Args:
        module: the module with network, tasks and loss.
        batch: samples with labels, on the device of the module; None on the other ranks.
        row_norm: see ``Diagnostics``.
    """
    named: dict[str, float] = {}
    if batch is not None:
        labels_BT, weight_BT = module.labels(batch), module.label_columns.weights(batch)
        with plain_lookups(module.net):
            named = diagnose_batch(module.net, batch, lambda x: module.task_losses(x, labels_BT, weight_BT)).by_name()
    finish_lookups(module.net)
    return {f"ia/{role}": value for role, value in mean_abundance(module.net, row_norm).items()} | named


def mean_abundance(net: Any, row_norm: RowNorm) -> dict[str, float]:
    """Return role -> mean Information Abundance over the fields, without padding and out-of-vocabulary rows.

    Embedding tables without other rows, or with zeros only, are skipped. Collective if the ranks hold parts of the
    tables.
    """
    found: dict[str, list[float]] = {}
    with whole_shapes(net) as divided:
        views = [(role, weight_VD) for roles in net.embedding_tables().values() for role, weight_VD in roles.items()]
    for role, weight_VD in views:
        if weight_VD.is_meta:
            value = _abundance_of_parts(weight_VD, *divided[id(_whole(weight_VD))], row_norm)
        else:
            value = abundance(weight_VD.detach()[1 : max(len(weight_VD) - 1, 1)], row_norm)
        if value == value:
            found.setdefault(role, []).append(value)
    return {role: sum(values) / len(values) for role, values in found.items()}


def _whole(view: Tensor) -> Tensor:
    """Return the weight of which a tensor is a view."""
    return view if view._base is None else view._base


def _abundance_of_parts(view_VD: Tensor, tables: ShardedTables, position: int, row_norm: RowNorm) -> float:
    """Return the Information Abundance of a view of a table that is divided among the ranks; NaN except on rank 0."""
    columns = slice(view_VD.storage_offset(), view_VD.storage_offset() + view_VD.shape[1])
    gram_DD = torch.zeros(2 * (view_VD.shape[1],), dtype=torch.float64)
    for number, rows in tables.row_blocks(position):
        inner = (number > 0) & (number < len(view_VD) - 1)
        gram_DD += _gram(rows[inner.to(rows.device), columns], row_norm).cpu()
    return _abundance(gram_DD)


def abundance(weight_VD: Tensor, row_norm: RowNorm) -> float:
    """Return the Information Abundance of an embedding table: sum of its singular values / the largest one.

    Computed from the Gram matrix (D, D) in float64, on the device of the table. Small singular values are less exact
    than in ``analysis=collapse``, which hardly changes the sum (docs/methods/recscope.md#information-abundance).

    Args:
        weight_VD: rows of the table.
        row_norm: see ``Diagnostics``.

    Returns:
        A value in [1, D]; NaN for a table without rows or with zeros only.
    """
    gram_DD = torch.zeros(2 * (weight_VD.shape[1],), dtype=torch.float64, device=weight_VD.device)
    for rows_BD in torch.split(weight_VD, _BLOCK):
        gram_DD += _gram(rows_BD, row_norm)
    return _abundance(gram_DD)


def _gram(rows_BD: Tensor, row_norm: RowNorm) -> Tensor:
    rows_BD = rows_BD.double()
    if row_norm == "l2":
        rows_BD = rows_BD / (rows_BD.norm(dim=1, keepdim=True) + _EPSILON)
    return rows_BD.T @ rows_BD


def _abundance(gram_DD: Tensor) -> float:
    values_D = torch.linalg.eigvalsh(gram_DD.cpu()).clamp(min=0).sqrt()
    return float(values_D.sum() / values_D[-1]) if values_D[-1] > 0 else float("nan")
