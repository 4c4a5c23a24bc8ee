"""With both regularizers set to a, the optimiser equals torch's Adam(weight_decay=a) on every parameter."""

import copy

import pytest
import torch
from torch import nn

from stemlab.optim import OptimConfig, PlateauConfig, build_optimizer, parse_penalty

DECAY = 0.05  # large enough to be visible in every parameter


class Net(nn.Module):
    """An embedding table, a linear layer with bias, batch norm, a single parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 3)
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        self.scale = nn.Parameter(torch.tensor([0.7]))

    def forward(self, ids_B: torch.Tensor) -> torch.Tensor:
        return self.scale * self.body(self.table(ids_B))


def trained(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    for ids in ([1, 2, 3, 1], [4, 5, 2, 2], [3, 3, 1, 0]):
        optimizer.zero_grad()
        net(torch.tensor(ids)).square().mean().backward()
        optimizer.step()
    return [p.detach() for p in net.parameters()]


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_every_parameter_decays_as_in_adam_of_torch(decay: float) -> None:
    torch.manual_seed(0)
    ours = Net()
    theirs = copy.deepcopy(ours)
    penalty = parse_penalty(decay)
    config = OptimConfig(lr=0.01, clip_norm=None, plateau=PlateauConfig(enabled=False))
    mine = trained(ours, build_optimizer(ours, config, penalty, penalty))
    expected = trained(theirs, torch.optim.Adam(theirs.parameters(), lr=0.01, weight_decay=decay))
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_the_decay_reaches_biases_and_batch_norm() -> None:
    """Check that the decay has an effect on each parameter; otherwise the test above would prove nothing."""
    nets = []
    for decay in (0.0, DECAY):
        torch.manual_seed(0)
        net, penalty = Net(), parse_penalty(decay)
        config = OptimConfig(lr=0.01, clip_norm=None)
        nets.append(trained(net, build_optimizer(net, config, penalty, penalty)))
    assert [not torch.equal(one, other) for one, other in zip(*nets, strict=True)] == [True] * 8


def test_biases_and_batch_norm_can_be_excluded() -> None:
    torch.manual_seed(0)
    ours = Net()
    theirs, penalty = copy.deepcopy(ours), parse_penalty(DECAY)
    optim = OptimConfig(lr=1e-2, clip_norm=None, plateau=PlateauConfig(enabled=False), exclude_bias_bn=True)
    free = {"body.0.bias", "body.1.weight", "body.1.bias", "body.3.bias"}
    named = dict(theirs.named_parameters())
    groups = [
        {"params": [p for name, p in named.items() if name not in free], "weight_decay": DECAY},
        {"params": [named[name] for name in sorted(free)], "weight_decay": 0.0},
    ]
    expected = trained(theirs, torch.optim.Adam(groups, lr=1e-2))
    found = trained(ours, build_optimizer(ours, optim, penalty, penalty))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
