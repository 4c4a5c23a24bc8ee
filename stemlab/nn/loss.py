"""Losses of binary tasks.

Legend: B batch, T tasks.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from stemlab.nn.precision import at_least_float32

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
    logit_BT = at_least_float32(logit_BT)
    labels_BT = labels_BT.to(logit_BT.dtype)
    if form == "probability":
        return functional.binary_cross_entropy(logit_BT.sigmoid(), labels_BT, reduction="none").mean(dim=0)
    return functional.binary_cross_entropy_with_logits(logit_BT, labels_BT, reduction="none").mean(dim=0)
