"""MMFI: independence of scenarios, importance, error messages."""

from __future__ import annotations

import itertools
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.errors import StemlabError
from stemlab.lightning.unused_parameters import has_unused_parameters
from stemlab.metrics import MultiTaskMetrics
from stemlab.models.api import MultiTaskNet
from stemlab.models.multiscenario.mmfi import MMFI
from tests.models.mmfi_nets import SPARSE, TASKS, build, random_batch, sizes_of
from tests.models.scenario_nets import FIELDS, MIXED, SCENARIOS, take_samples

all_sparse = pytest.mark.parametrize("sparse", SPARSE)
published = pytest.mark.parametrize("released", [False, True])
training = pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])


# ---- scenarios


@training
@all_sparse
def test_samples_of_other_scenarios_do_not_matter(train: bool, sparse: str) -> None:
    """The inputs of the towers do not depend on them, also in training."""
    batch, own = random_batch(MIXED), [sample for sample, scenario in enumerate(MIXED) if scenario == 1]

    def states(samples: ImpressionBatch) -> Tensor:
        net = build(sparse=sparse).train(train)
        return net.states(net.inputs(samples))

    torch.testing.assert_close(states(batch)[own], states(take_samples(batch, own)))


def test_published_batch_norm_sees_all_samples() -> None:
    batch, own = random_batch(MIXED), [sample for sample, scenario in enumerate(MIXED) if scenario == 1]
    for train, same in ((True, False), (False, True)):
        net, other = build(published=True).train(train), build(published=True).train(train)
        gap = net.states(net.inputs(batch))[own] - other.states(other.inputs(take_samples(batch, own)))
        assert bool(gap.abs().max() < 1e-5) is same
    # in evaluation there is no difference
    quirky, ours = (build(bn_all_rows=every, share_gates=True).eval() for every in (True, False))
    torch.testing.assert_close(quirky(batch).logit_BT, ours(batch).logit_BT)


def test_running_statistics_use_only_samples_of_the_scenario() -> None:
    net, batch = build().train(), random_batch([0, 1, 1, 1, 0])
    before = [{k: v.clone() for k, v in own.norm.state_dict().items()} for own in net.pair_attention.own]
    net(batch)
    counts = [int(own.norm.num_batches_tracked) for own in net.pair_attention.own]
    assert counts == [1, 1, 0]
    untouched = net.pair_attention.own[2].norm.running_mean
    assert torch.equal(untouched, before[2]["running_mean"])
    alone = build().train()
    alone(take_samples(batch, [1, 2, 3]))
    for name, buffer in net.pair_attention.own[1].norm.named_buffers():
        torch.testing.assert_close(buffer, alone.pair_attention.own[1].norm.state_dict()[name])


@training
def test_foreign_scenarios_get_zero_gradients(train: bool) -> None:
    net = build(3).train(train)
    net(random_batch([1] * 6)).logit_BT.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name  # DDP waits for all gradients
        if ".own." in name or "gates." in name:
            scenario = int(name.split("own." if ".own." in name else "gates.")[1].split(".")[0])
            # the gradient of a bias before a batch norm is only rounding error
            expected = scenario == 1 and not (train and name.endswith("bias_TQ"))
            assert bool(parameter.grad.any()) is expected or scenario == 1, name
        elif "_S" in name:
            assert not parameter.grad[[0, 2]].any(), name
            assert parameter.grad[1].any(), name


@published
@settings(max_examples=10, deadline=None)
@given(scenarios=st.lists(st.integers(0, 2), min_size=2, max_size=6))
def test_training_with_any_number_of_samples_per_scenario(released: bool, scenarios: list[int]) -> None:
    net = build(published=released).train()
    net(random_batch(scenarios)).logit_BT.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert all(buffer.isfinite().all() for buffer in net.buffers())


@pytest.mark.parametrize(
    ("sparse", "released"), [*((kind, False) for kind in SPARSE), (SPARSE[0], True), (SPARSE[1], True)]
)
def test_all_parameters_get_gradients(sparse: str, released: bool) -> None:
    assert not has_unused_parameters(build(published=released, sparse=sparse), sizes_of())


@published
def test_samples_are_independent_in_evaluation(released: bool) -> None:
    net, batch = build(published=released).eval(), random_batch(MIXED)
    logit_BT = net(batch).logit_BT
    for sample in range(len(MIXED)):
        torch.testing.assert_close(net(take_samples(batch, [sample])).logit_BT[0], logit_BT[sample])


def test_one_scenario() -> None:
    batch = random_batch(None)
    logits = [build(sizes=sizes_of(count)).eval()(batch).logit_BT for count in (0, 1)]
    assert torch.equal(*logits)
    assert build(sizes=sizes_of(0)).scenarios == ("all",)
    build(sizes=sizes_of(0)).train()(batch).logit_BT.sum().backward()


def test_auc_with_one_scenario_and_with_one_class() -> None:
    torch.manual_seed(0)
    prob_BT, labels_BT = torch.rand(20, 2), torch.tensor([[0, 1]] * 10 + [[1, 1]] * 10)
    metrics = MultiTaskMetrics(TASKS[:2], ("nl",))
    metrics.update(prob_BT, labels_BT, None, None, torch.zeros(20, dtype=torch.int32))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["auc/click"] == found["auc/click/nl"]
    assert np.isnan(found["auc/buy/nl"])


# ---- contracts


def test_contracts_of_a_network() -> None:
    net, batch = build(), random_batch(MIXED)
    assert isinstance(net, MultiTaskNet)
    assert net.tasks == ("click", "buy")
    tables = net.embedding_tables()
    shapes = {name: {role: tuple(view.shape) for role, view in roles.items()} for name, roles in tables.items()}
    assert shapes == {
        **{name: {"shared": (rows, 3), "first_order": (rows, 3)} for name, rows in FIELDS.items()},
        "scenario_vectors": {"shared": (3, 4)},
    }
    assert [tuple(w.shape) for w in net.embedding_parameters()] == [(11, 6), (7, 6), (5, 6)]
    wide = net.eval()(batch).logit_BT
    narrow = ImpressionBatch(batch.ids_BF.int(), dense_BN=batch.dense_BN, scenario_B=batch.scenario_B.long())
    assert torch.equal(net(narrow).logit_BT, wide)
    other = build(indicator_dim=4)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(batch).logit_BT, wide)


def test_padding_rows_are_never_trained() -> None:
    for padding in (True, False):
        net, batch = build(padding=padding), random_batch(MIXED)
        batch.ids_BF[:] = 0
        net(batch).logit_BT.square().sum().backward()
        assert [bool(w.grad[0].any()) for w in net.embedding_parameters()] == [not padding] * 3
    assert not any(weight[0].any() for weight in MMFI(FIELDS, ["click"], embedding_dim=3).embedding_parameters())


def test_scenario_as_a_field() -> None:
    net = build(sizes=sizes_of(scenario_feature=True))
    assert net.fields == ("uid", "item", "city", "scenario", "user", "item (numerical)")
    assert net(random_batch(MIXED)).logit_BT.shape == (12, 2)


def test_importance_is_the_mean_over_samples_of_the_scenario() -> None:
    net, batch = build().eval(), random_batch([0, 1, 1, 0, 1])
    found = net.importance(batch)
    assert (found.fields, found.pairs, found.scenarios, found.tasks) == (
        net.fields,
        tuple(itertools.combinations(net.fields, 2)),
        SCENARIOS,
        ("click", "buy"),
    )
    assert found.samples_S.tolist() == [2, 3, 0]
    part = net.attend(net.inputs(batch))[1]
    torch.testing.assert_close(found.pair_STP[1], part.pair_RTP.mean(dim=0).double())
    torch.testing.assert_close(found.open_STP[1], (part.pair_RTP > 0).double().mean(dim=0))
    index = {name: f for f, name in enumerate(net.fields)}
    pair_RFE = net.inputs(batch)[0][part.samples, :, : net.dim]
    for p, (first, second) in enumerate(net.pairs):
        pair_RE = net.pair_weight_P[p] * pair_RFE[:, index[first]] * pair_RFE[:, index[second]]
        factor_RT = part.pair_RTP[:, :, p] * net.out_weight_STP[1, :, p]
        term_RTE = (factor_RT.unsqueeze(2) * pair_RE.unsqueeze(1)).double()
        torch.testing.assert_close(found.added_STPE[1, :, p], term_RTE.mean(dim=0))
        spread_T = (term_RTE - term_RTE.mean(dim=0)).square().sum(dim=2).mean(dim=0).sqrt()
        torch.testing.assert_close(found.strength()[1, :, p], spread_T, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.field_STF[1].sum(dim=1), torch.ones(2).double())
    assert not found.pair_STP[2].any()
    halves = [net.importance(take_samples(batch, rows)) for rows in ([0, 1], [2, 3, 4])]
    joined = halves[0].joined(halves[1])
    for name in ("samples_S", "pair_STP", "open_STP", "added_STPE", "square_STP", "field_STF"):
        torch.testing.assert_close(getattr(joined, name), getattr(found, name), msg=name)


# ---- errors


@pytest.mark.parametrize(
    ("chosen", "match"),
    [
        ({"bn_all_rows": False}, "bn_all_rows=true, not false.*model.net.bn_all_rows=true"),
        ({"share_gates": False}, "share_gates=true"),
        ({"use_pair_out_weight": False}, "use_pair_out_weight=true"),
        ({"activation": "relu"}, "activation=none"),
        ({"numeric": "per_feature"}, "numeric=grouped"),
        ({"sparse": "sparsemax"}, "sparse=tanh_relu or softmax_t.*model.net.sparse=tanh_relu"),
        ({"sparse": "softmax_t", "tau_pair": 0.5}, "tau_pair=1.0"),
        ({"tau_field": 2.0}, "tau_field=1.0"),
        ({"num_specific_experts": 1}, "num_specific_experts=2"),
    ],
)
def test_published_raises_for_contradicting_settings(chosen: dict[str, Any], match: str) -> None:
    with pytest.raises(StemlabError, match=match):
        build(published=True, **chosen)
    build(**chosen)


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda: build(tau_pair=0.5), "model.net.tau_pair=0.5"),
        (lambda: build(tasks=0), "MMFI.*one task"),
        (lambda: MMFI({"uid": 4}, ["click"], embedding_dim=2), "MMFI.*two fields.*uid"),
        (lambda: build()(ImpressionBatch(torch.zeros(2, 3, dtype=torch.int64))), "dense_BN"),
    ],
)
def test_errors(act: Any, match: str) -> None:
    with pytest.raises(StemlabError, match=match):
        act()
