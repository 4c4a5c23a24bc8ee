"""What goes on inside a multi-task network, once an epoch: collapse, gates, conflicts; training does not notice.

Names: ``diagnostics/ia/<role>``, ``diagnostics/gate/<task>/<expert group>`` (with the layer behind ``gate`` where there
are several), ``diagnostics/conflict/<task>-<task>/<tables|experts>``.

Legend: B rows, V rows of a table, D width.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Literal

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.models.multitask.diagnostics import diagnose_batch

RowNorm = Literal["l2", "none"]
_BLOCK = 1 << 16
_EPSILON = 1e-8


class Diagnostics(Callback):
    """Log Information Abundance, gate shares and the gradient cosine of tasks to every logger.

    Gates and gradients are those of the first rows of the epoch's first batch, with the weights at its end, without
    dropout and with the running statistics of batch normalisation. Weights, their gradients, random numbers and the
    training's metrics are left alone. The first process alone does it; no other waits.

    Args:
        every_n_epochs: 1 is each epoch.
        rows: rows of the batch that are looked at.
        row_norm: whether a table's rows are divided by their length first, as ``analysis=collapse`` does.
    """

    def __init__(self, every_n_epochs: int, rows: int, row_norm: RowNorm) -> None:
        self.every_n_epochs, self.rows, self.row_norm = every_n_epochs, rows, row_norm
        self.values: dict[str, float] = {}
        self._batch: ImpressionBatch | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep rows of the first batch that comes."""
        if self._batch is None and trainer.is_global_zero and self._due(trainer):
            self._batch = first_rows(batch, self.rows)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure and log."""
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
    """Return a copy of the first rows of a batch."""
    present = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(batch, **{name: value[:rows].clone() for name, value in present.items() if value is not None})


def diagnose(module: MultiTaskModule, batch: ImpressionBatch, row_norm: RowNorm) -> dict[str, float]:
    """Return every number by its name without ``diagnostics/``; the module is left as it was.

    Args:
        module: network, tasks and loss.
        batch: rows with labels, on the module's device.
        row_norm: see ``Diagnostics``.
    """
    inside = diagnose_batch(module.net, batch, module.labels(batch), module.settings.loss_form)
    abundances = {f"ia/{role}": value for role, value in mean_abundance(module.net, row_norm).items()}
    return abundances | inside.by_name()


def mean_abundance(net: Any, row_norm: RowNorm) -> dict[str, float]:
    """Return role -> Information Abundance, the mean over fields, without the rows of padding and out-of-vocabulary.

    Fields without any other row, or of zeros only, do not count.
    """
    found: dict[str, list[float]] = {}
    for roles in net.embedding_tables().values():
        for role, weight_VD in roles.items():
            value = abundance(weight_VD.detach()[1 : max(len(weight_VD) - 1, 1)], row_norm)
            if value == value:
                found.setdefault(role, []).append(value)
    return {role: sum(values) / len(values) for role, values in found.items()}


def abundance(weight_VD: Tensor, row_norm: RowNorm) -> float:
    """Return the sum of a table's singular values over the largest, through its Gram matrix in double precision.

    nan for a table without rows or of zeros. On the table's own device; ``analysis.spectra`` has small singular values
    more exactly, which the sum does not show.
    """
    gram_DD = torch.zeros(2 * (weight_VD.shape[1],), dtype=torch.float64, device=weight_VD.device)
    for rows_BD in torch.split(weight_VD, _BLOCK):
        rows_BD = rows_BD.double()
        if row_norm == "l2":
            rows_BD = rows_BD / (rows_BD.norm(dim=1, keepdim=True) + _EPSILON)
        gram_DD += rows_BD.T @ rows_BD
    values_D = torch.linalg.eigvalsh(gram_DD.cpu()).clamp(min=0).sqrt()
    return float(values_D.sum() / values_D[-1]) if values_D[-1] > 0 else float("nan")
