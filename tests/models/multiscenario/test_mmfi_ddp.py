"""MMFI in two DDP processes where one has no sample of a scenario: all parameters still get gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.models.mmfi_nets import build, random_batch
from tests.models.scenario_nets import take_samples
from tests.ranks import run_ranks

SCENARIOS = [0, 0, 0, 1, 2, 1, 2, 2]
PARTS = ([0, 1, 2], [3, 4, 5, 6, 7])


def train(rank: int, folder: str) -> None:
    net = DistributedDataParallel(build().train())
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(3):  # DDP fails at the second step if a gradient was missing
        sgd.zero_grad()
        net(take_samples(random_batch(SCENARIOS), list(PARTS[(rank + step) % 2]))).logit_BT.square().mean().backward()
        sgd.step()
    torch.save({name: p.detach() for name, p in net.module.named_parameters()}, f"{folder}/{rank}.pt")


@pytest.mark.ddp
def test_a_scenario_may_be_absent_from_a_rank(tmp_path: Path) -> None:
    run_ranks(train, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    untrained = dict(build().named_parameters())
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    changed = {name for name, value in first.items() if not torch.equal(value, untrained[name])}
    assert {f"pair_attention.own.{s}.tower_TQX" for s in range(3)} <= changed
