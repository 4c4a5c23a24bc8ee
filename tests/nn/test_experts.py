"""Expert layers: inputs of experts and gates, unused gates, gate shares.

Legend: B batch, E experts.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.nn.experts import ExpertLayout, MixtureLayer, MixtureStack, expert_group_shares
from stemlab.nn.mlp import MLPStyle

LAYOUT = ExpertLayout(
    expert_inputs=(0, 1, 1),
    expert_groups=("a", "b", "b"),
    visible_experts=((0, 2), (2, 1), (1,)),
    trainable=((True, True), (True, False), (True,)),
    gate_inputs=((0, 1), (0,), (1,)),
)


def layer(layout: ExpertLayout = LAYOUT, style: MLPStyle = MLPStyle()) -> MixtureLayer:  # noqa: B008 - frozen
    torch.manual_seed(1)
    return MixtureLayer(4, layout, [6, 5], [3], style)


def test_layout_connects_inputs_experts_and_gates() -> None:
    net, inputs = layer(), [torch.randn(7, 4), torch.randn(7, 4)]
    mixtures, weights = net(inputs)
    experts = [net.experts[0](inputs[0]), net.experts[1](inputs[1]), net.experts[2](inputs[1])]
    first = net.gates[0](inputs[0] + inputs[1]).softmax(1)
    second = net.gates[1](inputs[0]).softmax(1)
    assert torch.equal(weights[0], first)
    assert torch.equal(weights[1], second)
    torch.testing.assert_close(mixtures[0], first[:, :1] * experts[0] + first[:, 1:] * experts[2])
    torch.testing.assert_close(mixtures[1], second[:, :1] * experts[2] + second[:, 1:] * experts[1])
    torch.testing.assert_close(mixtures[2], experts[1])


def test_mean_gate_input() -> None:
    mean = ExpertLayout(
        LAYOUT.expert_inputs,
        LAYOUT.expert_groups,
        LAYOUT.visible_experts,
        LAYOUT.trainable,
        LAYOUT.gate_inputs,
        mean_gate_input=True,
    )
    net, inputs = layer(mean), [torch.randn(7, 4), torch.randn(7, 4)]
    torch.testing.assert_close(net(inputs)[1][0], net.gates[0]((inputs[0] + inputs[1]) / 2).softmax(1))


def test_only_used_gates_are_computed() -> None:
    mixtures, weights = layer()([torch.randn(2, 4)] * 2, used=1)
    assert (len(mixtures), len(weights)) == (1, 1)


def test_unused_gates_update_running_statistics() -> None:
    net = layer(style=MLPStyle(batch_norm=True)).train()
    net([torch.randn(8, 4)] * 2, used=1)
    assert [int(gate[1].num_batches_tracked) for gate in net.gates] == [1, 1, 1]
    net.eval()([torch.randn(8, 4)] * 2, used=1)
    assert [int(gate[1].num_batches_tracked) for gate in net.gates] == [1, 1, 1]


def test_stack_feeds_mixtures_forward() -> None:
    layout = ExpertLayout((0, 1), ("a", "b"), ((0, 1), (0, 1)), ((True, True),) * 2, ((0,), (1,)))
    stack = MixtureStack(4, [layout, layout], 1, [5], [3], MLPStyle())
    inputs = [torch.randn(6, 4), torch.randn(6, 4)]
    hidden, _ = stack.layers[0](inputs)
    outputs, gates = stack(inputs)
    assert [len(row) for row in gates] == [2, 1]
    assert torch.equal(outputs[0], stack.layers[1](hidden)[0][0])


def test_layout_refuses_empty_gates_and_ragged_masks() -> None:
    with pytest.raises(ValueError, match="visible expert"):
        ExpertLayout((0,), ("a",), ((),), ((),), ((0,),))
    with pytest.raises(ValueError, match="same shape"):
        ExpertLayout((0,), ("a",), ((0,),), ((True, True),), ((0,),))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["task:x", "task:y", "shared"]), min_size=1, max_size=6), st.integers(1, 5))
def test_shares_add_up_to_one(groups: list[str], rows: int) -> None:
    weight_BE = torch.rand(rows, len(groups)).softmax(1)
    shares = expert_group_shares(weight_BE, range(len(groups)), groups)
    assert set(shares) == set(groups)
    assert sum(float(s) for s in shares.values()) == pytest.approx(1, abs=1e-6)


def test_shares_of_groups() -> None:
    weight_BE = torch.tensor([[0.2, 0.3, 0.5], [0.4, 0.1, 0.5]])
    shares = expert_group_shares(weight_BE, [3, 0, 1], ["a", "a", "c", "b"])
    assert {k: round(float(v), 6) for k, v in shares.items()} == {"a": 0.7, "c": 0.0, "b": 0.3}
