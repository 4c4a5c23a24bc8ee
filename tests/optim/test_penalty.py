"""Parsing, value and gradient of the weight penalty."""

import pytest
import torch
from torch import nn

from stemlab.errors import StemlabError
from stemlab.optim import Penalty, parse_penalty, penalty_value, split_parameters


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, Penalty()),
        (0, Penalty()),
        (1e-6, Penalty(l2=1e-6)),
        ("1e-6", Penalty(l2=1e-6)),
        ("l1(1.e-3)", Penalty(l1=1e-3)),
        ("l2( 5e-4 )", Penalty(l2=5e-4)),
        ("l1_l2(1e-3, 2e-3)", Penalty(l1=1e-3, l2=2e-3)),
        ("l1(0)", Penalty()),
    ],
)
def test_formats(value, expected):
    assert parse_penalty(value) == expected


@pytest.mark.parametrize(
    "value", ["l3(1)", "l1_l2(1)", "l2(1,2)", "l2(e)", "much", "", -1e-6, "l2(-1)", float("nan"), "inf"]
)
def test_invalid_penalties_are_refused(value):
    with pytest.raises(StemlabError, match="penalty") as error:
        parse_penalty(value)
    assert repr(value) in str(error.value)


def toy() -> nn.ModuleDict:
    net = nn.ModuleDict({"table": nn.Embedding(3, 2, padding_idx=0), "linear": nn.Linear(2, 1)})
    with torch.no_grad():
        net["table"].weight.copy_(torch.tensor([[0.0, 0.0], [1.0, -2.0], [3.0, 4.0]]))
        net["linear"].weight.copy_(torch.tensor([[1.0, -1.0]]))
        net["linear"].bias.copy_(torch.tensor([2.0]))
    return net


def test_value_by_hand():
    net = toy()
    # tables: sum |w| = 10, sum w^2 = 30; net: sum |w| = 4 (bias included), sum w^2 = 6
    assert penalty_value(net, Penalty(l2=0.1), Penalty()).item() == pytest.approx(1.5)
    assert penalty_value(net, Penalty(l1=0.1, l2=0.2), Penalty(l2=1.0)).item() == pytest.approx(1.0 + 3.0 + 3.0)
    assert penalty_value(net, Penalty(), Penalty()).item() == 0


def test_gradient_by_hand():
    net = toy()
    penalty_value(net, Penalty(l1=0.5, l2=0.1), Penalty(l2=0.2)).backward()
    expected = torch.tensor([[0.0, 0.0], [0.6, -0.7], [0.8, 0.9]])
    torch.testing.assert_close(net["table"].weight.grad, expected)
    torch.testing.assert_close(net["linear"].bias.grad, torch.tensor([0.4]))


def test_split_keeps_trainable_parameters_once():
    net = toy()
    net["tied"] = net["table"]
    net["linear"].bias.requires_grad_(False)
    tables, others = split_parameters(net)
    assert [p.shape for p in tables] == [(3, 2)]
    assert [p.shape for p in others] == [(1, 2)]
