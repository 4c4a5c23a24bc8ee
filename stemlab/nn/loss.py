"""Losses of binary and regression tasks.

z is the output of the network for a sample and y its label. Every loss is one equation:

========== ================================================================= =====================
loss       loss of a sample                                                  prediction
========== ================================================================= =====================
bce        -(p y log s(z) + (1 - y) log(1 - s(z))), p: positive weight        s(z), s: sigmoid
focal      -a_y (1 - q)^gamma log q, q = s(z) if y = 1 else 1 - s(z)           s(z)
mse        (z - y)^2                                                         z
huber      (z - y)^2 / 2 if abs(z - y) < delta else delta abs(z - y) - delta^2 / 2   z
lognormal  (z - log(1 + y))^2                                                exp(z) - 1
========== ================================================================= =====================

The loss of a task is the weighted mean over the batch, sum(w l) / sum(w), in which w is the sample weight (1 without
weights), and 0 where the mask of a conditional label is 0. If sum(w) is 0, the loss and its gradient are 0.

Legend: B batch, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import logsigmoid

from stemlab.nn.global_batch import BatchShare, all_reduce_sum
from stemlab.nn.precision import at_least_float32
from stemlab.nn.task_loss import TaskLoss

LossForm = Literal["logits", "probability"]
LossReduction = Literal["sum", "mean"]
"""Sum of the task losses (STEM code) or their mean (MTReclib, MMFI)."""


def task_losses(logit_BT: Tensor, labels_BT: Tensor, form: LossForm = "logits") -> Tensor:
    """Return the mean binary cross-entropy of every task, (T,), float32 also under autocast (float64 for such logits).

    Args:
        logit_BT: logits.
        labels_BT: 0 or 1, any dtype.
        form: ``logits`` is exact for every logit. ``probability`` is the form of the released code: on sigmoids, with
            logarithms clamped at -100. Both are equal unless a sigmoid rounds to 0 or 1; a sample with the wrong one of
            these has loss 100 and zero gradient (docs/methods/stem.md#loss).
    """
    return _cross_entropy(logit_BT, labels_BT, form).mean(dim=0)


def _cross_entropy(logit_BT: Tensor, labels_BT: Tensor, form: LossForm) -> Tensor:
    logit_BT = at_least_float32(logit_BT)
    labels_BT = labels_BT.to(logit_BT.dtype)
    if form == "probability":
        return functional.binary_cross_entropy(logit_BT.sigmoid(), labels_BT, reduction="none")
    return functional.binary_cross_entropy_with_logits(logit_BT, labels_BT, reduction="none")


def focal_loss(logit_B: Tensor, label_B: Tensor, gamma: float, alpha: float | None) -> Tensor:
    """Return ``-a_y (1 - q)^gamma log q`` of each sample (Lin et al., "Focal Loss", ICCV 2017, equation 5).

    q is the predicted probability of the label; a_1 = alpha, a_0 = 1 - alpha, both 1 if alpha is ``None``.
    """
    signed_B = logit_B * (2 * label_B - 1)
    loss_B = -(gamma * logsigmoid(-signed_B)).exp() * logsigmoid(signed_B)
    return loss_B if alpha is None else loss_B * (alpha * label_B + (1 - alpha) * (1 - label_B))


def sample_losses(output_B: Tensor, label_B: Tensor, loss: TaskLoss, form: LossForm = "logits") -> Tensor:
    """Return the loss of one task for each sample, (B,), float32 (float64 for such outputs).

    Args:
        output_B: outputs of the network.
        label_B: labels, any dtype.
        loss: the loss.
        form: form of the cross-entropy (``task_losses``).
    """
    output_B = at_least_float32(output_B)
    label_B = label_B.to(output_B.dtype)
    if loss.name == "focal":
        return focal_loss(output_B, label_B, loss.gamma, loss.alpha)
    if loss.name == "mse":
        return (output_B - label_B).square()
    if loss.name == "huber":
        return functional.huber_loss(output_B, label_B, reduction="none", delta=loss.delta)
    if loss.name == "lognormal":
        return (output_B - label_B.log1p()).square()
    loss_B = _cross_entropy(output_B, label_B, form)
    return loss_B if loss.positive_weight == 1 else loss_B * (1 + (loss.positive_weight - 1) * label_B)


def weighted_means(loss_BT: Tensor, weight_BT: Tensor, share: BatchShare | None = None) -> Tensor:
    """Return sum(w l) / sum(w) of every task, (T,); 0 with zero gradient where sum(w) is 0.

    With several processes the sum of the weights is that of the global batch divided by the number of processes: the
    mean of the results over the processes, which DDP computes of the gradients, is then the weighted mean of the global
    batch (``stemlab.nn.global_batch``).

    Args:
        loss_BT: losses of the samples.
        weight_BT: weights, at least 0; (B, 1) if they are those of all tasks.
        share: the share of this process in the global batch; ``None``: the batch is the global batch.
    """
    weight_BT = weight_BT.to(loss_BT.dtype)
    total_T = weight_BT.sum(dim=0)
    if share is not None:
        total_T = all_reduce_sum(total_T) / share.processes
    return (weight_BT * loss_BT).sum(dim=0) / total_T.clamp_min(torch.finfo(loss_BT.dtype).tiny)


class TaskLosses:
    """Losses and predictions of the tasks of a network.

    Args:
        losses: loss of every task, in the order of the outputs.
        form: form of the cross-entropy (``task_losses``).
    """

    def __init__(self, losses: Sequence[TaskLoss], form: LossForm = "logits") -> None:
        self.losses, self.form = tuple(losses), form
        self._plain = all(loss == TaskLoss() for loss in self.losses)
        self._binary = not any(loss.regression for loss in self.losses)

    def __call__(
        self,
        output_BT: Tensor,
        labels_BT: Tensor,
        weight_BT: Tensor | None = None,
        share: BatchShare | None = None,
    ) -> Tensor:
        """Return the loss of every task, (T,).

        Args:
            output_BT: outputs of the network.
            labels_BT: labels.
            weight_BT: weights of the samples, 0 where a label does not count; (B, 1) if all tasks have the same;
                ``None``: all are 1.
            share: see ``weighted_means``; collective if given.
        """
        if self._plain and weight_BT is None:
            return task_losses(output_BT, labels_BT, self.form)
        if self._plain:
            loss_BT = _cross_entropy(output_BT, labels_BT, self.form)
        else:
            columns = zip(output_BT.unbind(dim=1), labels_BT.unbind(dim=1), self.losses, strict=True)
            loss_BT = torch.stack([sample_losses(*column, self.form) for column in columns], dim=1)
        return loss_BT.mean(dim=0) if weight_BT is None else weighted_means(loss_BT, weight_BT, share)

    def predictions(self, output_BT: Tensor) -> Tensor:
        """Return probabilities of binary tasks and values of regression tasks in the unit of the label, (B, T)."""
        if self._binary:
            return output_BT.sigmoid()
        columns = zip(output_BT.unbind(dim=1), self.losses, strict=True)
        return torch.stack([_prediction(output_B, loss) for output_B, loss in columns], dim=1)


def _prediction(output_B: Tensor, loss: TaskLoss) -> Tensor:
    if loss.name == "lognormal":
        return output_B.expm1()
    return output_B if loss.regression else output_B.sigmoid()
