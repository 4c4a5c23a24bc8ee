"""Layer stacks."""

from __future__ import annotations

import torch
from torch import nn

from stemlab.nn.mlp import MLP, MLPStyle


def kinds(mlp: MLP) -> list[str]:
    return [type(layer).__name__ for layer in mlp]


def test_a_stack_without_output_ends_in_its_activation() -> None:
    torch.manual_seed(0)
    mlp = MLP(3, [5, 4], style=MLPStyle())
    assert kinds(mlp) == ["Linear", "ReLU", "Linear", "ReLU"]
    output = mlp(torch.randn(64, 3))
    assert output.shape == (64, 4)
    assert output.min() == 0


def test_output_layer_has_no_activation() -> None:
    torch.manual_seed(0)
    mlp = MLP(3, [5], 2, style=MLPStyle())
    assert kinds(mlp) == ["Linear", "ReLU", "Linear"]
    assert mlp(torch.randn(64, 3)).min() < 0
    assert kinds(MLP(3, [], 2, style=MLPStyle())) == ["Linear"]


def test_batch_norm_before_and_dropout_after_the_activation() -> None:
    mlp = MLP(3, [5, 4], 1, style=MLPStyle("gelu", dropout=0.25, batch_norm=True))
    assert kinds(mlp) == ["Linear", "BatchNorm1d", "GELU", "Dropout"] * 2 + ["Linear"]
    assert [layer.p for layer in mlp if isinstance(layer, nn.Dropout)] == [0.25, 0.25]


def test_gradient_through_the_activation_in_place() -> None:
    torch.manual_seed(0)
    mlp = MLP(3, [4, 4], 1, style=MLPStyle(batch_norm=True)).double()
    assert torch.autograd.gradcheck(mlp, (torch.randn(6, 3, dtype=torch.double, requires_grad=True),))
