"""Losses of binary tasks.

Legend: B rows, T tasks.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

LossForm = Literal["logits", "probability"]
LossReduction = Literal["sum", "mean"]
"""How the losses of the tasks become one: their sum (STEM's code) or their mean (MTReclib, MMFI)."""


def task_losses(logit_BT: Tensor, labels_BT: Tensor, form: LossForm = "logits") -> Tensor:
    """Return the mean binary cross-entropy of every task, (T,), float32 whatever the autocast dtype.

    Args:
        logit_BT: logits.
        labels_BT: 0 or 1, any dtype.
        form: ``logits`` is exact for every logit. ``probability`` is the published form, on sigmoids, with logarithms
            cut at -100: equal where no probability saturates, but a row whose sigmoid rounds to exactly 0 or 1 on the
            wrong side costs 100 and trains nothing.
    """
    logit_BT, labels_BT = logit_BT.float(), labels_BT.float()
    if form == "probability":
        return functional.binary_cross_entropy(logit_BT.sigmoid(), labels_BT, reduction="none").mean(dim=0)
    return functional.binary_cross_entropy_with_logits(logit_BT, labels_BT, reduction="none").mean(dim=0)
