"""The logit of a product of probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.batch import ImpressionBatch
from stemlab.models.multitask.esmm import product_logit
from tests.models.nets import build

LOGITS = st.floats(-60, 60)


@settings(max_examples=200, deadline=None)
@given(LOGITS, LOGITS)
def test_product_logit_is_exact(left: float, right: float) -> None:
    a, b = (torch.tensor(float(np.float32(x)), requires_grad=True) for x in (left, right))
    ours = product_logit(a, b)
    # In extended precision: log(p) - log(1 - p), with 1 - p = (1 - a) + a (1 - b).
    x, y = np.longdouble(a.item()), np.longdouble(b.item())
    pa, pb, qa, qb = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(-y)), 1 / (1 + np.exp(x)), 1 / (1 + np.exp(y))
    expected = float(np.log(pa * pb) - np.log(qa + pa * qb))
    assert ours.item() == pytest.approx(expected, abs=1e-5, rel=1e-5)
    ours.backward()
    both = pa * pb
    assert a.grad.item() == pytest.approx(float(both * qa / (both * (qa + pa * qb))), abs=1e-5, rel=1e-4)


@pytest.mark.parametrize(("left", "right"), [(500.0, 500.0), (-500.0, 500.0), (-500.0, -500.0), (0.0, 500.0)])
def test_product_logit_stays_finite(left: float, right: float) -> None:
    a, b = torch.tensor(left, requires_grad=True), torch.tensor(right, requires_grad=True)
    value = product_logit(a, b)
    value.backward()
    expected = {(500.0, 500.0): 500 - np.log(2), (-500.0, 500.0): -500, (-500.0, -500.0): -1000, (0.0, 500.0): 0}
    assert value.item() == pytest.approx(expected[left, right], abs=1e-3)
    assert torch.isfinite(a.grad)
    assert torch.isfinite(b.grad)


def test_second_task_is_click_times_conversion(batch: ImpressionBatch) -> None:
    net = build("ESMM")
    (inputs,) = net.embedding(batch.ids_BF)
    prob_BT = net(batch).logit_BT.sigmoid()
    click, conversion = net.click(inputs).sigmoid(), net.conversion(inputs).sigmoid()
    torch.testing.assert_close(prob_BT, torch.cat([click, click * conversion], dim=1))
    assert bool((prob_BT[:, 1] < prob_BT[:, 0]).all())
