"""What MMFI promises: scenarios that do not touch each other, importances, one sentence a mistake."""

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
from tests.models.mmfi_nets import FIELDS, MIXED, SCENARIOS, SPARSE, TASKS, build, part_of, rows_of, sizes_of

all_sparse = pytest.mark.parametrize("sparse", SPARSE)
published = pytest.mark.parametrize("released", [False, True])
training = pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])


# -------------------------------------------------------------------------------------------------------- scenarios


@training
@all_sparse
def test_other_rows_do_not_matter(train: bool, sparse: str) -> None:
    """Whose scenario is another: for what a tower reads, also in training."""
    batch, own = rows_of(MIXED), [row for row, scenario in enumerate(MIXED) if scenario == 1]

    def states(rows: ImpressionBatch) -> Tensor:
        net = build(sparse=sparse).train(train)
        return net.states(net.inputs(rows))

    torch.testing.assert_close(states(batch)[own], states(part_of(batch, own)))


def test_published_batch_norm_sees_all_rows() -> None:
    batch, own = rows_of(MIXED), [row for row, scenario in enumerate(MIXED) if scenario == 1]
    for train, same in ((True, False), (False, True)):
        net, other = build(published=True).train(train), build(published=True).train(train)
        gap = net.states(net.inputs(batch))[own] - other.states(other.inputs(part_of(batch, own)))
        assert bool(gap.abs().max() < 1e-5) is same
    # in evaluation nothing is left of the difference
    quirky, ours = (build(bn_all_rows=every, share_gates=True).eval() for every in (True, False))
    torch.testing.assert_close(quirky(batch).logit_BT, ours(batch).logit_BT)


def test_running_statistics_are_those_of_the_own_rows() -> None:
    net, batch = build().train(), rows_of([0, 1, 1, 1, 0])
    before = [{k: v.clone() for k, v in own.norm.state_dict().items()} for own in net.pair_attention.own]
    net(batch)
    counts = [int(own.norm.num_batches_tracked) for own in net.pair_attention.own]
    assert counts == [1, 1, 0]
    untouched = net.pair_attention.own[2].norm.running_mean
    assert torch.equal(untouched, before[2]["running_mean"])
    alone = build().train()
    alone(part_of(batch, [1, 2, 3]))
    for name, buffer in net.pair_attention.own[1].norm.named_buffers():
        torch.testing.assert_close(buffer, alone.pair_attention.own[1].norm.state_dict()[name])


@training
def test_foreign_scenarios_get_zero_gradients(train: bool) -> None:
    net = build(3).train(train)
    net(rows_of([1] * 6)).logit_BT.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name  # DDP waits for no gradient that never comes
        if ".own." in name or "gates." in name:
            scenario = int(name.split("own." if ".own." in name else "gates.")[1].split(".")[0])
            at_all = scenario == 1 and not (train and name.endswith("bias_TQ"))  # before a batch norm it is noise
            assert bool(parameter.grad.any()) is at_all or scenario == 1, name
        elif "_S" in name:
            assert not parameter.grad[[0, 2]].any(), name
            assert parameter.grad[1].any(), name


@published
@settings(max_examples=10, deadline=None)
@given(scenarios=st.lists(st.integers(0, 2), min_size=2, max_size=6))
def test_a_training_batch_may_have_any_number_of_rows_of_a_scenario(released: bool, scenarios: list[int]) -> None:
    net = build(published=released).train()
    net(rows_of(scenarios)).logit_BT.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert all(buffer.isfinite().all() for buffer in net.buffers())


@pytest.mark.parametrize(
    ("sparse", "released"), [*((kind, False) for kind in SPARSE), (SPARSE[0], True), (SPARSE[1], True)]
)
def test_no_parameter_is_idle(sparse: str, released: bool) -> None:
    assert not has_unused_parameters(build(published=released, sparse=sparse), sizes_of())


@published
def test_rows_one_by_one(released: bool) -> None:
    net, batch = build(published=released).eval(), rows_of(MIXED)
    logit_BT = net(batch).logit_BT
    for row in range(len(MIXED)):
        torch.testing.assert_close(net(part_of(batch, [row])).logit_BT[0], logit_BT[row])


def test_one_scenario() -> None:
    batch = rows_of(None)
    logits = [build(sizes=sizes_of(count)).eval()(batch).logit_BT for count in (0, 1)]
    assert torch.equal(*logits)
    assert build(sizes=sizes_of(0)).scenarios == ("all",)
    build(sizes=sizes_of(0)).train()(batch).logit_BT.sum().backward()


def test_auc_of_one_scenario_is_the_pooled_one_and_that_of_one_class_is_undefined() -> None:
    torch.manual_seed(0)
    prob_BT, labels_BT = torch.rand(20, 2), torch.tensor([[0, 1]] * 10 + [[1, 1]] * 10)
    metrics = MultiTaskMetrics(TASKS[:2], ("nl",))
    metrics.update(prob_BT, labels_BT, None, None, torch.zeros(20, dtype=torch.int32))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["auc/click"] == found["auc/click/nl"]
    assert np.isnan(found["auc/buy/nl"])


# ---------------------------------------------------------------------------------------------------------- the rest


def test_what_every_net_promises() -> None:
    net, batch = build(), rows_of(MIXED)
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
        net, batch = build(padding=padding), rows_of(MIXED)
        batch.ids_BF[:] = 0
        net(batch).logit_BT.square().sum().backward()
        assert [bool(w.grad[0].any()) for w in net.embedding_parameters()] == [not padding] * 3
    assert not any(weight[0].any() for weight in MMFI(FIELDS, ["click"], embedding_dim=3).embedding_parameters())


def test_the_scenario_as_a_field_too() -> None:
    net = build(sizes=sizes_of(scenario_feature=True))
    assert net.fields == ("uid", "item", "city", "scenario", "user", "item (numerical)")
    assert net(rows_of(MIXED)).logit_BT.shape == (12, 2)


def test_importance_is_the_mean_attention_of_own_rows() -> None:
    net, batch = build().eval(), rows_of([0, 1, 1, 0, 1])
    found = net.importance(batch)
    assert (found.fields, found.pairs, found.scenarios, found.tasks) == (
        net.fields,
        tuple(itertools.combinations(net.fields, 2)),
        SCENARIOS,
        ("click", "buy"),
    )
    assert found.rows_S.tolist() == [2, 3, 0]
    part = net.attend(net.inputs(batch))[1]
    torch.testing.assert_close(found.pair_STP[1], part.pair_RTP.mean(dim=0).double())
    torch.testing.assert_close(found.open_STP[1], (part.pair_RTP > 0).double().mean(dim=0))
    names = {name: place for place, name in enumerate(net.fields)}
    for place, (first, second) in enumerate(net.pairs):
        product_RE = part.pair_vector_RFE[:, names[first]] * part.pair_vector_RFE[:, names[second]]
        factor_RT = part.pair_RTP[:, :, place] * net.out_weight_STP[1, :, place] * net.pair_weight_P[place]
        term_RTE = (factor_RT.unsqueeze(2) * product_RE.unsqueeze(1)).double()
        torch.testing.assert_close(found.added_STPE[1, :, place], term_RTE.mean(dim=0))
        spread_T = (term_RTE - term_RTE.mean(dim=0)).square().sum(dim=2).mean(dim=0).sqrt()
        torch.testing.assert_close(found.strength()[1, :, place], spread_T, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.field_STF[1].sum(dim=1), torch.ones(2).double())
    assert not found.pair_STP[2].any()
    halves = [net.importance(part_of(batch, rows)) for rows in ([0, 1], [2, 3, 4])]
    joined = halves[0].joined(halves[1])
    for name in ("rows_S", "pair_STP", "open_STP", "added_STPE", "square_STP", "field_STF"):
        torch.testing.assert_close(getattr(joined, name), getattr(found, name), msg=name)


# ---------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"bn_all_rows": False}, "has bn_all_rows=true, not false; set model.net.bn_all_rows=true, or"),
        ({"share_gates": False}, "has share_gates=true, not false"),
        ({"use_pair_out_weight": False}, "has use_pair_out_weight=true, not false"),
        ({"activation": "relu"}, "has activation=none, not relu"),
        ({"numeric": "per_feature"}, "has numeric=grouped, not per_feature"),
        ({"sparse": "sparsemax"}, "has sparse=tanh_relu or softmax_t, not sparsemax; set model.net.sparse=tanh_relu"),
        ({"sparse": "softmax_t", "tau_pair": 0.5}, r"has tau_pair=1.0, not 0.5"),
        ({"tau_field": 2.0}, r"has tau_field=1.0, not 2.0"),
        ({"num_specific_experts": 1}, "has num_specific_experts=2, not 1"),
    ],
)
def test_published_refuses_what_contradicts_it(chosen: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StemlabError, match=sentence):
        build(published=True, **chosen)
    build(**chosen)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: build(tau_pair=0.5), "model.net.tau_pair=0.5 is the temperature of distributions"),
        (lambda: build(tasks=0), "MMFI needs at least one task"),
        (lambda: MMFI({"uid": 4}, ["click"], embedding_dim=2), "MMFI weighs pairs of fields, but .* only uid"),
        (lambda: build()(ImpressionBatch(torch.zeros(2, 3, dtype=torch.int64))), "the network reads dense_BN"),
    ],
)
def test_one_sentence_a_mistake(act: Any, sentence: str) -> None:
    with pytest.raises(StemlabError, match=sentence):
        act()
