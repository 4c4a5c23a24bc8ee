"""Scores of candidates by the interest nearest to the target."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stemlab.nn.interest import target_scores


def scores_by_sample(interest_BKD: Tensor, item_BND: Tensor) -> Tensor:
    """Return what ``target_scores`` returns, computed sample by sample."""
    rows = []
    for interest_KD, item_ND in zip(interest_BKD, item_BND, strict=True):
        nearest = int((interest_KD.detach() @ item_ND[0].detach()).argmax())
        rows.append(item_ND @ interest_KD[nearest])
    return torch.stack(rows)


@pytest.mark.parametrize("candidates", [1, 2, 8, 9, 12])
def test_target_scores_equal_scores_sample_by_sample(candidates: int) -> None:
    """Few and many candidates use different products; values and gradients are the same."""
    generator = torch.Generator().manual_seed(candidates)
    interest_BKD = torch.randn(20, 3, 5, dtype=torch.float64, generator=generator).requires_grad_()
    item_BND = torch.randn(20, candidates, 5, dtype=torch.float64, generator=generator).requires_grad_()
    weight_BN = torch.randn(20, candidates, dtype=torch.float64, generator=generator)
    found, expected = (score(interest_BKD, item_BND) for score in (target_scores, scores_by_sample))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    leaves = [interest_BKD, item_BND]
    gradients = [torch.autograd.grad((score * weight_BN).sum(), leaves) for score in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-12)
