"""The ranking loss against its formula and the golden vectors, with extreme scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional

from stemlab.nn.ranking_loss import ranking_loss
from tests.conftest import require

SCORES = st.integers(2, 6).flatmap(
    lambda columns: arrays(np.float64, (5, columns), elements=st.floats(-8, 8, width=32))
)


def formula(score_BN: torch.Tensor) -> torch.Tensor:
    weight_BM = score_BN[:, 1:].softmax(dim=1)
    return -(weight_BM * (score_BN[:, :1] - score_BN[:, 1:]).sigmoid()).sum(dim=1).log().mean()


@settings(deadline=None)
@given(SCORES)
def test_is_the_formula(scores: np.ndarray) -> None:
    ours, theirs = (torch.from_numpy(scores).requires_grad_() for _ in range(2))
    loss, expected = ranking_loss(ours), formula(theirs)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-7, atol=1e-12)


@settings(deadline=None)
@given(arrays(np.float64, (7, 2), elements=st.floats(-30, 30)))
def test_one_negative_is_bpr(scores: np.ndarray) -> None:
    score_BN = torch.from_numpy(scores)
    expected = functional.softplus(-(score_BN[:, 0] - score_BN[:, 1])).mean()
    torch.testing.assert_close(ranking_loss(score_BN), expected, rtol=1e-12, atol=0)


def test_extreme_scores_give_finite_losses_and_gradients() -> None:
    score_BN = torch.tensor([[-1e4, 1e4, 0.0], [1e4, -1e4, 0.0], [0.0, 0.0, -1e4]], requires_grad=True)
    loss = ranking_loss(score_BN)
    loss.backward()
    assert loss.item() == pytest.approx(((2e4 - np.log(2)) + 0.0 + np.log(2)) / 3, rel=1e-7)
    assert bool(score_BN.grad.isfinite().all())
    assert score_BN.grad[0].tolist() == pytest.approx([-1 / 3, 1 / 3, 0.0], abs=1e-3)


def test_half_precision_scores_are_computed_in_float32() -> None:
    score_BN = torch.tensor([[0.5, -0.25], [1.0, 3.0]], dtype=torch.bfloat16)
    assert ranking_loss(score_BN).dtype == torch.float32
    assert ranking_loss(score_BN).item() == pytest.approx(ranking_loss(score_BN.float()).item())


def test_golden_vectors(golden: Path) -> None:
    with np.load(require(golden / "rechorus" / "bpr_loss_vectors.npz"), allow_pickle=False) as stored:
        names = [key.removeprefix("input/") for key in stored.files if key.startswith("input/")]
        assert names
        for name in names:
            score_BN = torch.from_numpy(stored[f"input/{name}"]).requires_grad_()
            loss = ranking_loss(score_BN)
            loss.backward()
            assert loss.item() == pytest.approx(float(stored[f"loss/{name}"]), rel=1e-6), name
            np.testing.assert_allclose(score_BN.grad.numpy(), stored[f"grad/{name}"], atol=1e-6, err_msg=name)
