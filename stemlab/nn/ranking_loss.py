"""Ranking loss of the sequential models: BPR over softmax-weighted negatives.

Wang et al., CIKM 2022 (released code; docs/methods/timirec.md#ranking-loss).

Legend: B batch, N candidates (column 0 the positive), M = N - 1 negatives.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stemlab.nn.precision import at_least_float32


def ranking_loss(score_BN: Tensor) -> Tensor:
    """Return the mean over samples of ``-log sum_j w_j sigmoid(s+ - s-_j)`` with ``w = softmax(s-)``, a scalar.

    Gradients flow through the weights. One negative makes it BPR. Computed in logarithms, so it is finite for
    all scores; float32 also under autocast.

    Args:
        score_BN: scores, at least two columns.
    """
    score_BN = at_least_float32(score_BN)
    positive_B1, negatives_BM = score_BN[:, :1], score_BN[:, 1:]
    if negatives_BM.shape[1] == 1:
        return functional.softplus(negatives_BM - positive_B1).mean()
    won_BM = functional.logsigmoid(positive_B1 - negatives_BM)
    return -torch.logsumexp(negatives_BM.log_softmax(dim=1) + won_BM, dim=1).mean()
