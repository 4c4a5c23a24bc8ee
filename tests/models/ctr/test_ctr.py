"""DCNv2 and AME against plain equations, sample by sample; tables and gates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.ctr import AME, DCNv2
from stemlab.models.multitask import gate_shares
from tests.models.nets import FIELDS, TASKS, random_batch

D = 3
CROSS: dict[str, Any] = {
    "embedding_dim": D,
    "num_tables": 1,
    "num_cross_layers": 2,
    "hidden_units": [8, 5],
    "tower_hidden_units": [],
}
ASYMMETRIC: dict[str, Any] = {
    "dims": [2, 3, 5],
    "expert_hidden_units": [8, 6],
    "gate_hidden_units": [],
    "tower_hidden_units": [4],
}


def dcnv2(tasks: int = 2, **settings: Any) -> DCNv2:
    return randomise(DCNv2(FIELDS, TASKS[:tasks], **{**CROSS, **settings}))


def ame(tasks: int = 2, **settings: Any) -> AME:
    return randomise(AME(FIELDS, TASKS[:tasks], **{**ASYMMETRIC, **settings}))


def randomise(net: Any) -> Any:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.4)
    return net


def layer(linear: Any, x: Tensor) -> Tensor:
    """Return W x + b of one sample, sum by sum."""
    return torch.stack(
        [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(linear.weight, linear.bias, strict=True)]
    )


def crossed(cross: Any, x: Tensor) -> Tensor:
    state = x
    for linear in cross.layers:
        state = x * layer(linear, state) + state
    return state


def hidden(stack: Any, x: Tensor, last: bool = False) -> Tensor:
    linears = [part for part in stack if isinstance(part, torch.nn.Linear)]
    for number, linear in enumerate(linears):
        x = layer(linear, x)
        if not last or number + 1 < len(linears):
            x = x.clamp(min=0)
    return x


def embeddings_of(net: Any, ids: Tensor, role: str) -> Tensor:
    tables = net.embedding_tables()
    return torch.cat([tables[field][role][i] for field, i in zip(FIELDS, ids, strict=True)])


def softmax(x: Tensor) -> Tensor:
    return x.exp() / x.exp().sum()


def dcnv2_equations(net: DCNv2, ids: Tensor) -> Tensor:
    roles = list(net.embedding.blocks)
    inputs = [embeddings_of(net, ids, role) for role in roles]
    own = len(net.crosses)
    states = [hidden(net.after[m % own], crossed(net.crosses[m % own], x)) for m, x in enumerate(inputs)]
    everything = torch.cat(inputs)
    if net.gate is None:
        state = sum(states) / len(states)
    else:
        state = sum(w * s for w, s in zip(softmax(layer(net.gate, everything)), states, strict=True))
    state = (
        hidden(net.stacked_mlp, state)
        if net.parallel_mlp is None
        else torch.cat([state, hidden(net.parallel_mlp, everything)])
    )
    return torch.cat([hidden(tower, state, last=True) for tower in net.towers])


def ame_equations(net: AME, ids: Tensor) -> Tensor:
    inputs = [embeddings_of(net, ids, f"expert:{m}") for m in range(len(net.experts))]
    states = [hidden(expert, x) for expert, x in zip(net.experts, inputs, strict=True)]
    logits = []
    for gate, tower in zip(net.gates, net.towers, strict=True):
        weight = softmax(hidden(gate, torch.cat(inputs), last=True))
        mixed = sum(w * s for w, s in zip(weight, states, strict=True))
        logits.append(hidden(tower, mixed, last=True))
    return torch.cat(logits)


@pytest.mark.parametrize("structure", ["stacked", "parallel"])
@pytest.mark.parametrize(
    "settings",
    [
        {"num_tables": 1},
        {"num_tables": 3},
        {"num_tables": 3, "fusion": "gate"},
        {"num_tables": 2, "shared_interaction": True, "tower_hidden_units": [4]},
    ],
    ids=["one", "mean", "gate", "shared"],
)
def test_dcnv2_is_its_equations(structure: str, settings: dict[str, Any]) -> None:
    net, batch = dcnv2(structure=structure, **settings), random_batch(4)
    expected = torch.stack([dcnv2_equations(net, ids) for ids in batch.ids_BF])
    torch.testing.assert_close(net(batch).logit_BT, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gate_hidden_units", [[], [7]])
@pytest.mark.parametrize("tasks", [1, 3])
def test_ame_is_its_equations(gate_hidden_units: list[int], tasks: int) -> None:
    net, batch = ame(tasks, gate_hidden_units=gate_hidden_units), random_batch(4)
    expected = torch.stack([ame_equations(net, ids) for ids in batch.ids_BF])
    torch.testing.assert_close(net(batch).logit_BT, expected, rtol=1e-4, atol=1e-5)


def test_a_table_feeds_its_own_interaction_only() -> None:
    net, batch = dcnv2(num_tables=2, fusion="gate"), random_batch(6)
    before = net.crosses[1](net.embedding(batch.ids_BF)[1])
    with torch.no_grad():
        for weight in net.embedding_parameters():
            weight[:, :D] += 1  # table 0
    assert torch.equal(net.crosses[1](net.embedding(batch.ids_BF)[1]), before)
    assert not torch.equal(net.crosses[0](net.embedding(batch.ids_BF)[0]), before)


@pytest.mark.parametrize("tables", [1, 3])
def test_projection_is_a_block_of_the_first_cross_layer(tables: int) -> None:
    net = dcnv2(num_tables=tables)
    names = list(FIELDS)
    for m, role in enumerate(net.embedding.blocks):
        first = net.crosses[m].layers[0]
        for toward in names:
            for source in names:
                alone = torch.zeros(D * len(names))
                start = names.index(source) * D
                row = net.embedding_tables()[source][role][2]
                alone[start : start + D] = row
                projected = (layer(first, alone) - first.bias)[names.index(toward) * D :][:D]
                torch.testing.assert_close(net.interaction_projection(toward, source, role) @ row, projected)
    assert net.interaction_projection("uid", "item", "task:like") is None
    assert net.interaction_projection("uid", "nothing", net.embedding.blocks[0]) is None


def test_roles_and_widths_of_tables() -> None:
    assert list(dcnv2().embedding_tables()["item"]) == ["shared"]
    assert list(dcnv2(num_tables=2).embedding_tables()["item"]) == ["expert:0", "expert:1"]
    shapes = {role: tuple(view.shape) for role, view in ame().embedding_tables()["item"].items()}
    assert shapes == {"expert:0": (7, 2), "expert:1": (7, 3), "expert:2": (7, 5)}
    assert [tuple(weight.shape) for weight in ame().embedding_parameters()][3] == (11, 3)


def test_gates_sum_to_one_and_are_reported_per_task() -> None:
    net, batch = ame(), random_batch()
    output = net(batch)
    for weight_BM in output.gates[0]:
        torch.testing.assert_close(weight_BM.sum(dim=1), torch.ones(16))
    shares = gate_shares(net, output)
    assert list(shares[0]) == ["finish", "like"]
    assert shares[0]["like"]["expert:1"] == pytest.approx(float(output.gates[0][1][:, 1].mean().detach()))
    gated = dcnv2(num_tables=2, fusion="gate")
    assert list(gate_shares(gated, gated(batch))[0]) == ["all"]
    assert gate_shares(dcnv2(), dcnv2()(batch)) == []


@pytest.mark.parametrize("make", [dcnv2, ame])
def test_layer_settings_are_applied(make: Any) -> None:
    net, batch = make(batch_norm=True, net_dropout=0.5, hidden_activations="tanh"), random_batch()
    kinds = {type(module).__name__ for module in net.modules()}
    assert {"BatchNorm1d", "Dropout", "Tanh"} <= kinds
    assert "ReLU" not in kinds
    assert not torch.equal(net(batch).logit_BT, net(batch).logit_BT)


@pytest.mark.parametrize("make", [DCNv2, AME])
@pytest.mark.parametrize("padding", [True, False])
def test_padding_rows_stay_zero_and_others_are_drawn(make: Any, padding: bool) -> None:
    net = make(FIELDS, TASKS[:2], **(CROSS if make is DCNv2 else ASYMMETRIC), padding=padding)
    net(ImpressionBatch(torch.zeros(4, 3, dtype=torch.int64))).logit_BT.square().sum().backward()
    for weight in net.embedding_parameters():
        assert bool(weight[0].any()) == (not padding)
        assert bool(weight.grad[0].any()) == (not padding)
        assert bool(weight[1:].any(dim=1).all())


@pytest.mark.parametrize(("make", "settings"), [(DCNv2, {**CROSS, "num_tables": 2}), (AME, ASYMMETRIC)])
def test_numericals_and_scenarios_are_inputs(make: Any, settings: dict[str, Any]) -> None:
    sizes = ImpressionSizes(FIELDS, {"price": ""}, ("home", "search"), scenario_feature=True)
    net, batch = randomise(make(sizes, TASKS[:2], **settings)), random_batch(4)
    batch.dense_BN, batch.scenario_B = torch.randn(4, 1), torch.tensor([0, 1, 0, 1], dtype=torch.int32)
    before = net(batch).logit_BT
    assert net.embedding.inputs == ("uid", "item", "city", "scenario", "numerical")
    batch.dense_BN = batch.dense_BN + 1
    changed = net(batch).logit_BT
    batch.scenario_B = 1 - batch.scenario_B
    assert not torch.isclose(before, changed).any()
    assert not torch.isclose(net(batch).logit_BT, changed).any()
