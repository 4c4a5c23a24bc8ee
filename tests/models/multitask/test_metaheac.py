"""MetaHeac: a mixture of probabilities, as a logit."""

from __future__ import annotations

import pytest
import torch

from stemlab.data.batch import ImpressionBatch
from tests.models.nets import build


def test_mean_of_mtreclib_is_the_sum_divided_by_the_critics(batch: ImpressionBatch) -> None:
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


def test_gates_depend_on_the_task(batch: ImpressionBatch) -> None:
    net = build("MetaHeac", 2)
    assert (net(batch).logit_BT[:, 0] - net(batch).logit_BT[:, 1]).abs().max() > 1e-3
    with torch.no_grad():
        net.vector_TD[1] = net.vector_TD[0]
    assert torch.equal(*net(batch).logit_BT.unbind(dim=1))


def bce(logit_BT: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.binary_cross_entropy_with_logits(logit_BT, labels_BT.float())


def samples(count: int = 12) -> tuple[ImpressionBatch, torch.Tensor]:
    torch.manual_seed(3)
    ids_BF = torch.stack([torch.randint(0, size, (count,)) for size in (11, 7, 5)], dim=1)
    return ImpressionBatch(ids_BF), torch.randint(0, 2, (count, 2))


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("count", range(2, 16))
def test_any_number_of_samples_is_trained_on(count: int, batch_norm: bool) -> None:
    """Halves of a part with too few samples for a mean or for batch normalisation take no meta step."""
    net, (batch, labels_BT) = build("MetaHeac", meta_batches=6, batch_norm=batch_norm), samples(count)
    output, query_BT = net.train().meta_output(batch, labels_BT, bce)
    assert len(output.logit_BT) == len(query_BT) > 0
    assert bce(output.logit_BT, query_BT).isfinite()


def test_query_samples_are_scored_with_vectors_updated_on_support_samples() -> None:
    net, (batch, labels_BT) = build("MetaHeac", inner_rate=3.0, meta_batches=2), samples()
    output, query_BT = net.meta_output(batch, labels_BT, bce)
    expected = []
    for start in (0, 6):
        support = ImpressionBatch(batch.ids_BF[start : start + 3])
        (gradient_TD,) = torch.autograd.grad(bce(net(support).logit_BT, labels_BT[start : start + 3]), net.vector_TD)
        moved = build("MetaHeac")
        moved.load_state_dict(net.state_dict())
        with torch.no_grad():
            moved.vector_TD -= 3.0 * gradient_TD
            expected.append(moved(ImpressionBatch(batch.ids_BF[start + 3 : start + 6])).logit_BT)
    assert torch.allclose(output.logit_BT, torch.cat(expected), atol=1e-5)
    assert query_BT.tolist() == [*labels_BT[3:6].tolist(), *labels_BT[9:12].tolist()]


def test_the_gradient_includes_the_inner_step() -> None:
    net = build("MetaHeac", inner_rate=3.0, meta_batches=1, hidden_activations="tanh")  # smooth: differences are exact
    batch, labels_BT = samples()

    def outer() -> torch.Tensor:
        output, query_BT = net.meta_output(batch, labels_BT, bce)
        return bce(output.logit_BT, query_BT)

    for parameter in (net.vector_TD, net.expert_gate.bias, net.critic_gate.weight):
        (gradient,) = torch.autograd.grad(outer(), parameter)
        index, width = int(gradient.abs().argmax()), 1e-2
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.view(-1)[index] += sign * width
            values.append(outer().item())
            with torch.no_grad():
                parameter.view(-1)[index] -= sign * width
        assert float(gradient.view(-1)[index]) == pytest.approx((values[0] - values[1]) / (2 * width), rel=0.02)


def test_no_meta_step_without_a_rate_or_with_too_few_samples() -> None:
    batch, labels_BT = samples(3)
    for settings in ({"inner_rate": 0.0}, {"meta_batches": 2}):
        net = build("MetaHeac", **settings)
        output, returned_BT = net.meta_output(batch, labels_BT, bce)
        assert torch.equal(output.logit_BT, net(batch).logit_BT)
        assert torch.equal(returned_BT, labels_BT)
