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

RowNorm = Literal["l2", "none"]
_BLOCK = 1 << 16
_EPSILON = 1e-8


class Diagnostics(Callback):
    """Log Information Abundance, gate shares and gradient cosines between tasks to every logger.

    Gates and gradients are computed on the first samples of the first batch of the epoch, with the weights at the end
    of the epoch, in eval mode (no dropout, running statistics of batch normalisation). Weights, gradients, random
    number generators and metrics of the training do not change. Runs on rank 0 only; the other ranks do not wait.

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
        if batch is None or not self._due(trainer):
            return
        assert isinstance(pl_module, MultiTaskModule)
        with trainer.precision_plugin.forward_context():
            self.values = {f"diagnostics/{name}": x for name, x in diagnose(pl_module, batch, self.row_norm).items()}
        defined = {name: value for name, value in self.values.items() if value == value}
        for logger in trainer.loggers:
            logger.log_metrics({**defined, "epoch": trainer.current_epoch}, step=trainer.global_step - 1)

    def _due(self, trainer: Trainer) -> bool:
        return (trainer.current_epoch + 1) % self.every_n_epochs == 0


def first_rows(batch: ImpressionBatch, rows: int) -> ImpressionBatch:
    """Return a copy of the first samples of a batch."""
    present = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(batch, **{name: value[:rows].clone() for name, value in present.items() if value is not None})


def diagnose(module: MultiTaskModule, batch: ImpressionBatch, row_norm: RowNorm) -> dict[str, float]:
    """Compute the diagnostics of a batch: name (without ``diagnostics/``) -> value; the module does not change.

    Args:
        module: the module with network, tasks and loss.
        batch: samples with labels, on the device of the module.
        row_norm: see ``Diagnostics``.
    """
    gates_and_conflicts = diagnose_batch(module.net, batch, module.labels(batch), module.settings.loss_form)
    abundances = {f"ia/{role}": value for role, value in mean_abundance(module.net, row_norm).items()}
    return abundances | gates_and_conflicts.by_name()


def mean_abundance(net: Any, row_norm: RowNorm) -> dict[str, float]:
    """Return role -> mean Information Abundance over the fields, without padding and out-of-vocabulary rows.

    Embedding tables without other rows, or with zeros only, are skipped.
    """
    found: dict[str, list[float]] = {}
    for roles in net.embedding_tables().values():
        for role, weight_VD in roles.items():
            value = abundance(weight_VD.detach()[1 : max(len(weight_VD) - 1, 1)], row_norm)
            if value == value:
                found.setdefault(role, []).append(value)
    return {role: sum(values) / len(values) for role, values in found.items()}


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
        rows_BD = rows_BD.double()
        if row_norm == "l2":
            rows_BD = rows_BD / (rows_BD.norm(dim=1, keepdim=True) + _EPSILON)
        gram_DD += rows_BD.T @ rows_BD
    values_D = torch.linalg.eigvalsh(gram_DD.cpu()).clamp(min=0).sqrt()
    return float(values_D.sum() / values_D[-1]) if values_D[-1] > 0 else float("nan")
