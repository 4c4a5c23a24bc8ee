"""LightningModule of multi-task models: network, loss, weight penalties, metrics, optimiser.

Legend: B samples, F fields, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, cast

from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import DatasetSpec
from stemlab.lightning.balancing import build_balancing
from stemlab.lightning.label_columns import LabelColumns
from stemlab.lightning.metric_values import metric_value
from stemlab.lightning.module import METRIC_SPLITS, NetModule
from stemlab.lightning.settings import ModuleSettings
from stemlab.metrics import MultiTaskMetrics
from stemlab.models.api import MetaTrained, MultiTaskOutput
from stemlab.nn.global_batch import BatchShare
from stemlab.nn.loss import TaskLosses
from stemlab.nn.row_embedding import use_row_gradients
from stemlab.nn.task_loss import chosen_losses
from stemlab.optim import PlateauScheduler, build_optimizer, build_plateau, clip_gradients, limit_gradients


class MultiTaskModule(NetModule):
    """Train and evaluate a multi-task network (docs/methods/stem.md#loss).

    The loss is the sum (or the mean) over tasks of the mean loss of a task (``stemlab.nn.loss``), by default the binary
    cross-entropy. The optimiser adds the gradients of the weight penalties. Metrics are exact for every world size: the
    predictions of all processes are merged at the end of an epoch, not averaged. If the dataset has scenarios, every
    task is also measured per scenario.

    Args:
        net: the network; column t of its logits (B, T) belongs to ``tasks[t]``.
        spec: fields and tasks of the dataset.
        tasks: labels to train and measure, in the order of the network's outputs.
        settings: optimiser, penalties, monitor, seed.
        hyper_parameters: plain values saved in every checkpoint: ``config``, ``spec``, ``fingerprint``.
    """

    def __init__(
        self,
        net: nn.Module,
        spec: DatasetSpec,
        tasks: Sequence[str],
        settings: ModuleSettings,
        hyper_parameters: dict[str, Any] | None = None,
    ) -> None:
        columns = LabelColumns(spec, tasks)
        metrics = {
            split: MultiTaskMetrics(tasks, spec.scenarios, regression=columns.regression, own=settings.own_metrics)
            for split in METRIC_SPLITS
        }
        super().__init__(net, settings, metrics, hyper_parameters)
        if settings.optim.tables in ("sparse_adam", "rowwise_adagrad"):
            use_row_gradients(net)
        self._split_metrics = metrics
        self.tasks, self.sizes, self.settings = tuple(tasks), spec.sizes, settings
        self.headlines = columns.headlines
        self.label_columns = columns
        losses = chosen_losses(tasks, columns.kinds, settings.losses, settings.positive_weights)
        self.task_losses = TaskLosses(losses, settings.loss_form)
        self.batch_share: BatchShare | None = None
        self.balancing = build_balancing(settings.balancing, tasks, settings.seed)
        self._meta_trained = isinstance(net, MetaTrained)  # slow for a protocol: not at every step
        names = list(spec.field_sizes)
        self._group_field = names.index(spec.group) if spec.group in names else None
        self.plateau: PlateauScheduler | None = None
        self._plateau_state: dict[str, Any] | None = None

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Scenario names of the dataset; empty if it has none."""
        return self.sizes.scenarios

    def forward(self, batch: ImpressionBatch) -> Tensor:
        """Return the predictions of the tasks, (B, T) float32 for every precision of the network.

        They are probabilities of binary tasks, and values of regression tasks in the unit of the label.
        """
        # net.forward skips torch.compile: a compiled network rounds differently, so metrics would not be reproducible
        return self.task_losses.predictions(self.net.forward(batch).logit_BT.float())

    def labels(self, batch: ImpressionBatch) -> Tensor:
        """Return the labels of the trained tasks, (B, T).

        Raises:
            StemlabError: the batch has no labels.
        """
        return self.label_columns.labels(batch)

    # ------------------------------------------------------------------------------------------------- training

    def losses(self, batch: ImpressionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, a scalar, and its parts: the tasks and the penalty of the network, if any.

        Raises:
            StemlabError: the batch has no labels.
        """
        balancing = self.balancing
        with nullcontext() if balancing is None else balancing.watch(self.net, batch):
            output, labels_BT = self._learn(batch)
        weight_BT = self.label_columns.weights(batch)
        losses_T = self.task_losses(output.logit_BT, labels_BT, weight_BT, self.batch_share)
        if balancing is None:
            loss = self._reduce_tasks(losses_T)
        else:
            loss = balancing.loss(losses_T, output, self.net)
        parts = dict(zip(self.tasks, losses_T.detach().unbind(), strict=True))
        if output.penalty is not None:
            loss, parts["penalty"] = loss + output.penalty, output.penalty
        return loss, parts

    def _learn(self, batch: ImpressionBatch) -> tuple[MultiTaskOutput, Tensor]:
        """Return the network output from which the loss is computed, and the labels of its samples, (B, T)."""
        labels_BT = self.labels(batch)
        if self._meta_trained:
            return cast(MetaTrained, self.net).meta_output(
                batch, labels_BT, lambda x, y: self._reduce_tasks(self.task_losses(x, y))
            )
        return self.run_net(batch), labels_BT

    def _reduce_tasks(self, losses_T: Tensor) -> Tensor:
        return losses_T.mean() if self.settings.loss_reduction == "mean" else losses_T.sum()

    def on_train_start(self) -> None:
        """Log the monitor if it is not the usual one."""
        super().on_train_start()
        if len(self.label_columns.regression) == len(self.tasks):
            rank_zero_info(f"all tasks are regression tasks: {self.settings.monitor} selects the best epoch.")

    @property
    def uncapturable(self) -> str | None:
        """Why training steps cannot be captured as CUDA graphs, or None."""
        own = None if self.balancing is None else self.balancing.uncapturable
        return own or getattr(self.net, "uncapturable", None)

    def on_train_epoch_start(self) -> None:
        """Prepare the balancing of the tasks, besides what the base class does."""
        super().on_train_epoch_start()
        if self.balancing is not None:
            self.balancing.start_epoch(self.current_epoch)

    def on_train_epoch_end(self) -> None:
        """Log the mean weights of the tasks, besides the values of the base class."""
        super().on_train_epoch_end()
        if self.balancing is not None:
            self.log_dict({f"train/{name}": value for name, value in self.balancing.end_epoch().items()}, batch_size=1)

    def _remedy(self) -> str:
        return "lower optim.lr, set optim.clip_norm, or use trainer.precision=32-true"

    def configure_optimizers(self) -> Optimizer:
        """Build Adam with the weight penalties and the scheduler that reduces its learning rate on a plateau."""
        s = self.settings
        further = [] if self.balancing is None else self.balancing.parameter_groups()
        optimizer = build_optimizer(self.net, s.optim, s.embedding_penalty, s.net_penalty, s.penalty_mode, further)
        self.plateau = build_plateau(optimizer, s.optim.plateau)
        if self.plateau is not None and self._plateau_state:
            self.plateau.load_state_dict(self._plateau_state)
        return optimizer

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the global norm of gradient plus penalty, as if the penalty were part of the loss."""
        if self.settings.optim.clip_norm is None:
            return
        logs = self.may_log and self._is_logging_step(self.trainer.fit_loop.batch_idx)
        norm = self.clip(optimizer, logs)
        if norm is not None:
            if self.step_values is not None:
                self.step_values["train/grad_norm"] = norm
            else:
                self.log("train/grad_norm", norm, batch_size=1)

    def clip(self, optimizer: Optimizer, needs_norm: bool = True) -> Tensor | None:
        """Clip the global norm of gradient plus penalty and return it.

        Returns:
            The norm; None if it is not needed or ``optim.clip_norm`` is null.
        """
        max_norm = self.settings.optim.clip_norm
        if max_norm is None:
            return None
        if needs_norm:
            return clip_gradients(optimizer, max_norm)
        limit_gradients(optimizer, max_norm)
        return None

    # ----------------------------------------------------------------------------------------------- evaluation

    def validation_step(self, batch: ImpressionBatch, batch_idx: int) -> None:
        """Add a validation batch to the metrics."""
        self._measure("val", batch)

    def test_step(self, batch: ImpressionBatch, batch_idx: int) -> None:
        """Add a test batch to the metrics."""
        self._measure(self.test_split_name, batch)

    def _measure(self, split: str, batch: ImpressionBatch) -> None:
        self.update_metrics(self._split_metrics[split], batch)

    def update_metrics(self, metrics: MultiTaskMetrics, batch: ImpressionBatch) -> None:
        """Compute the probabilities of a batch and add them to ``metrics``."""
        encoded_B = None if self._group_field is None else batch.ids_BF[:, self._group_field]
        mask_BT, weight_B = self.label_columns.mask(batch), batch.weight_B
        columns = encoded_B, batch.group_B, batch.scenario_B, mask_BT, weight_B
        metrics.update(self(batch), self.labels(batch), *columns)

    def on_validation_epoch_end(self) -> None:
        """Report the validation metrics; after a training epoch, step the plateau scheduler."""
        super().on_validation_epoch_end()
        value = metric_value(self, self.settings.monitor)
        fitting = self.trainer.state.fn == "fit" and not self.trainer.sanity_checking
        if self.plateau is not None and fitting and value == value:
            rates = nullcontext() if self.schedule is None else self.schedule.base_rates(self.plateau.optimizer)
            with rates:
                self.plateau.step(value if self.settings.monitor_mode == "max" else -value)

    # ---------------------------------------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the state of the plateau scheduler, besides that of the base class."""
        super().on_save_checkpoint(checkpoint)
        if self.plateau is not None:
            checkpoint["plateau"] = self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the plateau scheduler until the optimiser is built."""
        super().on_load_checkpoint(checkpoint)
        self._plateau_state = checkpoint.get("plateau")
