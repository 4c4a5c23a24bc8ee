"""MetaHeac: a mixture of probabilities, as a logit."""

from __future__ import annotations

import pytest
import torch

from models.nets import build
from stemlab.data.batch import ImpressionBatch


def test_published_mean_is_the_sum_divided_by_the_critics(batch: ImpressionBatch) -> None:
    p_sum, p_mean = (build("MetaHeac", 3, critics=kind)(batch).logit_BT.sigmoid() for kind in ("sum", "mean"))
    torch.testing.assert_close(p_mean, p_sum / 2)
    assert p_mean.max() < 0.5


def test_one_critic_is_its_own_mean(batch: ImpressionBatch) -> None:
    logits = [build("MetaHeac", critics=kind, num_critics=1)(batch).logit_BT for kind in ("sum", "mean")]
    assert torch.equal(*logits)


@pytest.mark.parametrize("kind", ["sum", "mean"])
@pytest.mark.parametrize("size", [-200.0, 200.0])
def test_finite_for_any_scores(batch: ImpressionBatch, kind: str, size: float) -> None:
    net = build("MetaHeac", critics=kind)
    with torch.no_grad():
        for critic in net.critics:
            critic[-1].bias.fill_(size)
    logit_BT = net(batch).logit_BT
    logit_BT.sum().backward()
    assert logit_BT.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    if kind == "sum":
        assert (logit_BT.sign() == torch.sign(torch.tensor(size))).all()


def test_gates_know_the_task(batch: ImpressionBatch) -> None:
    net = build("MetaHeac", 2)
    assert (net(batch).logit_BT[:, 0] - net(batch).logit_BT[:, 1]).abs().max() > 1e-3
    with torch.no_grad():
        net.vector_TD[1] = net.vector_TD[0]
    assert torch.equal(*net(batch).logit_BT.unbind(dim=1))
