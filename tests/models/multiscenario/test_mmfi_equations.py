"""Equations, sizes and sparsity of MMFI (docs/methods/mmfi.md#tests-of-the-equations)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.multiscenario.mmfi import MMFI
from stemlab.nn.loss import task_losses
from tests.models.mmfi_nets import SPARSE, build, random_batch
from tests.models.scenario_nets import MIXED, take_samples

# ---- sizes (docs/methods/mmfi.md#parameter-counts)


def aliexpress(**chosen: Any) -> MMFI:
    sizes = ImpressionSizes(
        fields={f"c{n}": 10 for n in range(16)},
        numericals={f"x{n}": "user" if n < 23 else "item" for n in range(63)},
        scenarios=("nl", "es", "fr", "us"),
    )
    return MMFI(sizes, ["click", "conversion"], embedding_dim=16, **chosen)


def parameters(net: MMFI) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_published_sizes() -> None:
    net = aliexpress(published=True)
    assert (len(net.fields), len(net.pairs)) == (18, 153)
    assert net.pairs[0] == ("c0", "c1")
    assert net.pairs[-1] == ("user", "item")
    assert net.pair_attention.own[0].tower_TQX.shape == (2, 153, 612)
    assert net.field_attention.own[0].tower_TQX.shape == (2, 18, 72)
    assert net.gates[0].weight_TGX.shape == (2, 6, 20)
    assert not net.bias_STE.any()
    assert float(net.pair_weight_P.std()) == pytest.approx((2 / 154) ** 0.5, rel=0.25)
    table = torch.cat([torch.cat(list(net.embedding_tables()[f"c{n}"].values()), dim=1)[1:] for n in range(16)])
    assert float(table.abs().max()) == pytest.approx((6 / (160 + 16)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(("sparse", "released"), [("tanh_relu", 783_351), ("softmax_t", 782_127)])
def test_published_parameter_counts(sparse: str, released: int) -> None:
    unused, gates, vectors = 1_040, 1_008, 32
    assert parameters(aliexpress(sparse=sparse, published=True)) == released - unused
    # by default the first-order branch has its own gates; the released code defines them but does not use them
    assert parameters(aliexpress(sparse=sparse)) == released - unused + gates
    assert unused == gates + vectors


# ---- equations


def normalised(norm: Any, x: Tensor) -> Tensor:
    return (x - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias


def sample_logits(net: MMFI, batch: ImpressionBatch, row: int, act: Any) -> Tensor:
    """Return the logits of one sample in evaluation mode, by loops over pairs, experts and tasks."""
    s, D = int(batch.scenario_B[row]), net.dim
    both = [table.weight[batch.ids_BF[row, f]] for f, table in enumerate(net.embedding.tables)]
    x = batch.dense_BN[row]
    user, item = net.numerical.lines
    both += [user.weight @ x[[0, 2]] + user.bias, item.weight @ x[[1]] + item.bias]
    X, Z = [v[:D] for v in both], [v[D:] for v in both]
    pairs = itertools.combinations(range(len(X)), 2)
    r = [net.pair_weight_P[p] * X[i] * X[j] for p, (i, j) in enumerate(pairs)]
    logits = []
    for t, tower in enumerate(net.towers):
        indicator = net.cell_weight_ST[s, t] * net.scenario_vector_SI[s] * net.task_vector_TI[t]

        def scores(branch: Any, gates: Any, slots: list[Tensor], t: int = t, indicator: Tensor = indicator) -> Tensor:
            own, N, M, out = branch.own[s], branch.shape.shared, branch.shape.expert, []
            for slot in slots:
                h = act(branch.bottom(slot))
                experts = [act(branch.shared(h)[n * M : n * M + M]) for n in range(N)]
                mine = act(own.weight_TYH[t] @ h + own.bias_TY[t])
                experts += [mine[o * M : o * M + M] for o in range(branch.shape.own)]
                g = torch.softmax(gates[s].weight_TGX[t] @ torch.cat([indicator, slot]) + gates[s].bias_TG[t], 0)
                out.append(sum(g[n] * e for n, e in enumerate(experts)))
            o = torch.stack(out, dim=1).flatten()  # output 1 of all slots, then output 2
            y = [own.tower_TQX[k] @ o + own.bias_TQ[k] for k in range(len(net.tasks))]
            mean = torch.zeros(len(net.tasks), len(slots))
            mean[t] = y[t]
            return normalised(own.norm, mean.flatten()).view(len(net.tasks), -1)[t]

        y = scores(net.pair_attention, net.gates, r)
        if net.sparse == "tanh_relu":
            alpha = torch.relu(torch.tanh(y)) * (1 if net.out_weight_STP is None else net.out_weight_STP[s, t])
        else:
            alpha = torch.softmax(y / net.taus[0], 0)
        u = sum(a * v for a, v in zip(alpha, r, strict=True))
        beta = torch.softmax(scores(net.field_attention, net.field_gates or net.gates, Z) / net.taus[1], 0)
        ell = sum(b * z for b, z in zip(beta, Z, strict=True)) + net.bias_STE[s, t]
        logits.append(tower(torch.cat([u, ell])[None])[0])
    return torch.cat(logits)


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"published": True},
        {"sparse": "softmax_t", "tau_pair": 0.3, "tau_field": 2.0},
        {"use_pair_out_weight": False, "share_gates": True},
        {"activation": "tanh", "num_specific_experts": 0},
        {"activation": "relu", "num_shared_experts": 3, "expert_width": 2, "bottom_width": 5, "indicator_dim": 2},
    ],
    ids=str,
)
def test_equations(chosen: dict[str, Any]) -> None:
    net, batch = build(3, **chosen).eval(), random_batch(MIXED)
    act = {"tanh": torch.tanh, "relu": torch.relu}.get(chosen.get("activation", ""), lambda x: x)
    expected = torch.stack([sample_logits(net, batch, row, act) for row in range(len(MIXED))])
    torch.testing.assert_close(net(batch).logit_BT, expected)


def test_one_vector_per_numerical_column() -> None:
    net, batch = build(numeric="per_feature").eval(), random_batch(MIXED)
    assert net.fields == ("uid", "item", "city", "age", "price", "visits")
    field_BFX, _ = net.inputs(batch)
    torch.testing.assert_close(field_BFX[:, 4], batch.dense_BN[:, 1:2] * net.numerical.vector_NW[1])
    assert net(batch).logit_BT.std(dim=0).min() > 0


def test_columns_of_a_part_need_not_be_adjacent() -> None:
    net, batch = build(), random_batch(MIXED)
    field_BFX, _ = net.inputs(batch)
    torch.testing.assert_close(field_BFX[:, 3], net.numerical.lines[0](batch.dense_BN[:, [0, 2]]))


# ---- sparsity, sums, gradients


def test_hard_mask_is_zero_where_the_score_is_not_positive() -> None:
    net, batch = build().eval(), random_batch(MIXED)
    y = net.pair_attention.own[1]
    rows = take_samples(batch, [row for row, scenario in enumerate(MIXED) if scenario == 1])
    seen: list[Tensor] = []
    y.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    mask_RTP = net.attend(net.inputs(rows))[1].pair_RTP
    score_RTP = seen[0].view(mask_RTP.shape)
    assert torch.equal(mask_RTP == 0, score_RTP <= 0)
    assert 0.1 < (mask_RTP == 0).float().mean() < 0.9
    assert mask_RTP.max() < 1


@pytest.mark.parametrize("sparse", SPARSE[1:])
def test_distributions_sum_to_one(sparse: str) -> None:
    for part in build(sparse=sparse, tau_pair=0.2).eval().attend(build().inputs(random_batch(MIXED))):
        for weights in (part.pair_RTP, part.field_RTF):
            torch.testing.assert_close(weights.sum(dim=2), torch.ones(weights.shape[:2]))
        assert bool((part.pair_RTP == 0).any()) is (sparse != "softmax_t")


def test_order_and_scalars_of_pairs() -> None:
    net, batch = build(sparse="softmax_t").eval(), random_batch([1] * 4)
    with torch.no_grad():
        for own in net.pair_attention.own:
            own.tower_TQX.zero_()
            own.bias_TQ.zero_()
            own.norm.weight.zero_()
            own.norm.bias.zero_()
    state_BTX = net.states(net.inputs(batch))
    (grad_P,) = torch.autograd.grad(state_BTX[:, 0, : net.dim].sum(), net.pair_weight_P)
    field_BFX, _ = net.inputs(batch)
    vectors = field_BFX[..., : net.dim].detach()
    index = {name: f for f, name in enumerate(net.fields)}
    for p, (first, second) in enumerate(net.pairs):
        product = (vectors[:, index[first]] * vectors[:, index[second]]).sum()
        torch.testing.assert_close(grad_P[p], product / len(net.pairs))


def test_the_loss_is_the_mean_over_tasks() -> None:
    net, batch = build(3), random_batch(MIXED)
    labels_BT = torch.randint(0, 2, (12, 3))
    logit_BT = net.eval()(batch).logit_BT
    each = [
        torch.nn.functional.binary_cross_entropy_with_logits(logit_BT[:, t], labels_BT[:, t].float()) for t in range(3)
    ]
    torch.testing.assert_close(task_losses(logit_BT, labels_BT).mean(), sum(each) / 3)


def test_bfloat16_autocast() -> None:
    for sparse in SPARSE:
        net, batch = build(sparse=sparse).eval(), random_batch(MIXED)
        full = net(batch).logit_BT
        with torch.autocast("cpu", torch.bfloat16):
            logit_BT = net(batch).logit_BT
        torch.testing.assert_close(logit_BT.float(), full, atol=0.15, rtol=0.1)
        logit_BT.float().square().sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in net.parameters())
