"""Initial distributions of the released codes, and skipped initialisation."""

import math

import torch
from torch import nn

from stemlab.nn.init import SkipInit, initialise


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, 8, padding_idx=0) for rows in (2000, 500))
        self.linear = nn.Linear(8, 4)


def test_distributions_of_the_stem_code() -> None:
    net = Net()
    initialise(net)
    for table in net.tables:
        assert not table.weight[0].any()
        assert math.isclose(float(table.weight[1:].std()), 1e-4, rel_tol=0.1)
    assert not net.linear.bias.any()


def test_distributions_of_mtreclib() -> None:
    net = Net()
    before = net.linear.weight.clone(), net.linear.bias.clone()
    initialise(net, "mtreclib")
    bound = math.sqrt(6 / (2500 + 8))  # one table of all rows
    for table in net.tables:
        assert not table.weight[0].any()
        largest = float(table.weight.abs().max())
        assert 0.98 * bound < largest <= bound
        assert math.isclose(float(table.weight[1:].std()), bound / math.sqrt(3), rel_tol=0.05)
    assert torch.equal(net.linear.weight, before[0])
    assert torch.equal(net.linear.bias, before[1])


def test_skip_init_skips_parameters_but_not_buffers() -> None:
    before = torch.get_rng_state()
    with SkipInit():
        net = Net()
        initialise(net)
        initialise(net, "mtreclib")
    assert torch.equal(torch.get_rng_state(), before)
    assert [table.weight.shape[0] for table in net.tables] == [2000, 500]
    with SkipInit():
        buffer = torch.zeros(100).normal_()
    assert buffer.std() > 0.5
    assert not torch.equal(torch.get_rng_state(), before)


def test_parameters_are_initialised_after_skip_init() -> None:
    with SkipInit():
        net = Net()
    initialise(net)
    assert math.isclose(float(net.tables[0].weight[1:].std()), 1e-4, rel_tol=0.1)
