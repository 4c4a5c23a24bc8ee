"""Batched stacks and mixtures against one stack after the other, float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stemlab.nn.experts import mix_experts
from stemlab.nn.kernels.batched_stacks import are_batchable, mix_stacked, run_each, run_stacks, structure
from stemlab.nn.kernels.dispatch import device_forms, kernel_mode
from stemlab.nn.mlp import MLP, MLPStyle

READS = {"one input": [0, 0, 0], "own inputs": [0, 1, 2], "mixed": [0, 1, 1], "not in order": [0, 1, 0]}


def stacks(count: int = 3, style: MLPStyle | None = None, **sizes: Any) -> list[nn.Module]:
    torch.manual_seed(0)
    return [
        MLP(4, sizes.get("hidden", [6, 5]), sizes.get("output"), style=style or MLPStyle()).double()
        for _ in range(count)
    ]


def inputs(count: int = 3) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(7, 4, dtype=torch.float64, requires_grad=True) for _ in range(count)]


def gradients(outputs: list[Tensor], tensors: list[Tensor]) -> tuple[Tensor | None, ...]:
    loss = torch.stack([(output * (n + 1)).square().sum() for n, output in enumerate(outputs)]).sum()
    return torch.autograd.grad(loss, tensors, allow_unused=True)


@pytest.mark.parametrize("reads", READS.values(), ids=READS)
@pytest.mark.parametrize("output", [None, 2])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_values_and_gradients(reads: list[int], output: int | None, activation: Any) -> None:
    mlps, given = stacks(style=MLPStyle(activation), output=output), inputs()
    chosen = [given[i] for i in reads]
    weights = [p for mlp in mlps for p in mlp.parameters()] + given
    expected = [mlp(x) for mlp, x in zip(mlps, chosen, strict=True)]
    found = list(run_stacks(mlps, chosen).unbind(0))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, weights), gradients(expected, weights))


def test_linear_layers_without_hidden_layers() -> None:
    linears: list[nn.Module] = [nn.Linear(4, 3, bias=False).double() for _ in range(2)]
    given = inputs(2)
    torch.testing.assert_close(
        list(run_stacks(linears, given)), [layer(x) for layer, x in zip(linears, given, strict=True)]
    )


@pytest.mark.parametrize(
    ("one", "batchable"),
    [
        (MLP(4, [6, 5], style=MLPStyle()), True),
        (MLP(4, [6, 6], style=MLPStyle()), False),
        (MLP(4, [6, 5], style=MLPStyle(batch_norm=True)), False),
        (MLP(4, [6, 5], style=MLPStyle("tanh")), False),
        (MLP(4, [], style=MLPStyle()), False),
    ],
)
def test_only_equal_structures_are_batched(one: nn.Module, batchable: bool) -> None:
    assert are_batchable([MLP(4, [6, 5], style=MLPStyle()), one]) is batchable
    assert not are_batchable([one])


def test_batch_norm_has_no_structure() -> None:
    assert structure(MLP(4, [6], style=MLPStyle(batch_norm=True))) is None


def test_run_each_groups_equal_structures() -> None:
    mixed = [*stacks(2), *stacks(2, hidden=[3]), *stacks(1, hidden=[2])]
    given = inputs(5)
    expected = [mlp(x) for mlp, x in zip(mixed, given, strict=True)]
    for mode in ("auto", "off"):
        with device_forms(), kernel_mode(mode):  # type: ignore[arg-type]
            torch.testing.assert_close(run_each(mixed, given), expected)
    assert run_each([], []) == []


def test_dropout_keeps_a_share_of_the_values() -> None:
    mlps = stacks(2, MLPStyle(dropout=0.5), hidden=[400])
    output_NBO = run_stacks(mlps, inputs(2))
    plain = torch.stack([(mlp.eval()(x) > 0).double().mean() for mlp, x in zip(mlps, inputs(2), strict=True)]).mean()
    assert float((output_NBO > 0).double().mean() / plain) == pytest.approx(0.5, abs=0.05)


LAYOUTS: dict[str, tuple[list[list[int]], list[list[bool]]]] = {
    "all": ([[0, 1, 2]] * 2, [[True] * 3] * 2),
    "stop other tasks": ([[0, 1, 2]] * 2, [[True, False, True], [False, True, True]]),
    "own and shared": ([[0, 2], [1, 2]], [[True, True], [True, True]]),
    "stop shared": ([[0, 2], [2, 1]], [[True, False], [False, True]]),
    "one gate": ([[1]], [[False]]),
    "none": ([], []),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_mixtures(layout: tuple[list[list[int]], list[list[bool]]]) -> None:
    visible, trainable = layout
    torch.manual_seed(2)
    state_EBH = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    weights = [torch.rand(5, len(row), dtype=torch.float64, requires_grad=True) for row in visible]
    expected = mix_experts(list(state_EBH), weights, visible, trainable)
    found = mix_stacked(state_EBH, weights, visible, trainable)
    torch.testing.assert_close(found, expected)
    if visible:
        tensors = [state_EBH, *weights]
        ours, theirs = gradients(found, tensors), gradients(expected, tensors)
        for one, other in zip(ours, theirs, strict=True):
            zero = torch.zeros((), dtype=torch.float64)
            torch.testing.assert_close(zero if one is None else one, zero.expand_as(one) if other is None else other)


def test_gradients_of_weights_are_contiguous_parts() -> None:
    mlps = stacks(2)
    run_stacks(mlps, inputs(2)).sum().backward()
    weights = [parameter for mlp in mlps for parameter in mlp.parameters()]
    assert all(p.grad is not None and p.grad.is_contiguous() for p in weights)


def test_second_derivatives() -> None:
    mlps, given = stacks(2, MLPStyle("tanh")), inputs(2)
    weights = [p for mlp in mlps for p in mlp.parameters()]

    def second(outputs: list[Tensor]) -> tuple[Tensor | None, ...]:
        first = torch.autograd.grad(torch.stack(outputs).square().sum(), given, create_graph=True)
        return torch.autograd.grad(torch.stack(first).square().sum(), weights, allow_unused=True)

    expected = second([mlp(x) for mlp, x in zip(mlps, given, strict=True)])
    torch.testing.assert_close(second(list(run_stacks(mlps, given).unbind(0))), expected)


def test_autocast_computes_in_half_precision() -> None:
    mlps = [mlp.float() for mlp in stacks(2)]
    given = [x.detach().float() for x in inputs(2)]
    with torch.autocast("cpu", torch.bfloat16):
        found = run_stacks(mlps, given)
        expected = torch.stack([mlp(x) for mlp, x in zip(mlps, given, strict=True)])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)
    found.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for mlp in mlps for p in mlp.parameters())


def test_a_compiled_layer_is_compiled_once() -> None:
    mlps, graphs = stacks(), []

    def count(module: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(module)
        return module.forward

    def run(x: Tensor, y: Tensor) -> Tensor:
        return run_stacks(mlps, [x, y, y])

    compiled = torch.compile(run, backend=count, fullgraph=True, dynamic=False)
    for seed in range(3):
        torch.manual_seed(seed)
        x, y = (torch.randn(7, 4, dtype=torch.float64) for _ in range(2))
        torch.testing.assert_close(compiled(x, y), run(x, y))
    assert len(graphs) == 1
