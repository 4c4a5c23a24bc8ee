"""Binary cross-entropy, one value per task."""

from __future__ import annotations

import math

import pytest
import torch

from stemlab.nn.loss import LossForm, task_losses

LABELS = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.int8)


@pytest.mark.parametrize("form", ["logits", "probability"])
def test_mean_of_every_task(form: LossForm) -> None:
    logit_BT = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-3.0, 0.5]])

    def cost(logit: float, label: int) -> float:
        return math.log1p(math.exp(-logit if label else logit))

    expected = [(cost(0, 1) + cost(2, 0) + cost(-3, 1)) / 3, (cost(1, 0) + cost(-1, 1) + cost(0.5, 1)) / 3]
    losses_T = task_losses(logit_BT, LABELS, form)
    assert losses_T.tolist() == pytest.approx(expected, abs=1e-6)


def test_saturated_samples() -> None:
    logit_BT = torch.tensor([[200.0], [-200.0]], requires_grad=True)
    labels_BT = torch.tensor([[0], [1]])
    assert task_losses(logit_BT, labels_BT).item() == pytest.approx(200.0)
    released = task_losses(logit_BT, labels_BT, "probability")
    assert released.item() == pytest.approx(100.0)
    released.sum().backward()
    assert logit_BT.grad.tolist() == [[0.0], [0.0]]


def test_float32_under_autocast() -> None:
    logit_BT = torch.randn(8, 2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        losses_T = task_losses(logit_BT, torch.ones(8, 2))
    assert losses_T.dtype == torch.float32
    torch.testing.assert_close(losses_T, torch.nn.functional.softplus(-logit_BT.float()).mean(0))
