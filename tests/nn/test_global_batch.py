"""Batch normalisation and dropout in two processes against ``torch.nn`` in one process."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stemlab.lightning.batch_share import set_batch_share
from stemlab.nn.dropout import GlobalDropout, SubsetDropout
from stemlab.nn.global_batch import BatchShare
from stemlab.nn.norm import GlobalBatchNorm1d, SubsetBatchNorm
from tests.ranks import run_ranks

SPLITS = {"equal": [6, 6], "uneven": [11, 1], "none on one rank": [12, 0]}
LAYERS = ("BatchNorm1d", "SubsetBatchNorm", "SubsetDropout", "Dropout")
Outcome = dict[str, Tensor]


def layer(name: str) -> nn.Module:
    if name.endswith("Dropout"):
        return {"Dropout": nn.Dropout, "SubsetDropout": SubsetDropout}[name](0.5)
    norm = {"BatchNorm1d": nn.BatchNorm1d, "SubsetBatchNorm": SubsetBatchNorm}[name](3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0]))
        norm.bias.copy_(torch.tensor([0.5, 0.0, 1.0]))
    return norm


def samples() -> Tensor:
    return 5 + torch.randn(12, 3, generator=torch.Generator().manual_seed(3))


def outcome(module: nn.Module, input_RH: Tensor) -> Outcome:
    """Return output, gradients of a sum and buffers after a step."""
    torch.manual_seed(11)
    input_RH = input_RH.clone().requires_grad_()
    output_RH = module.train()(input_RH)
    output_RH.pow(3).sum().backward()
    result = {"output": output_RH.detach(), "input gradient": input_RH.grad}
    result |= {f"{name} gradient": p.grad for name, p in module.named_parameters()}
    return result | dict(module.named_buffers())


def in_rank(rank: int) -> dict[tuple[str, str], Outcome]:
    found = {}
    for name in LAYERS:
        for split, counts in SPLITS.items():
            if name != "Dropout" or split == "equal":
                module = layer(name)
                set_batch_share(module, BatchShare.current())
                found[name, split] = outcome(module, samples().split(counts)[rank])
    few = layer("SubsetBatchNorm")
    set_batch_share(few, BatchShare.current())
    found["few", ""] = outcome(few, samples()[: 1 - rank])
    return found


@pytest.fixture(scope="module")
def ranks() -> list[dict[tuple[str, str], Outcome]]:
    return run_ranks(in_rank)


@pytest.mark.ddp
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", LAYERS)
def test_two_processes_compute_what_one_computes(
    name: str, split: str, ranks: list[dict[tuple[str, str], Outcome]]
) -> None:
    if (name, split) not in ranks[0]:
        pytest.skip("processes must have equally many rows")
    one, both = outcome(layer(name), samples()), [found[name, split] for found in ranks]
    for key in ("output", "input gradient"):
        torch.testing.assert_close(torch.cat([found[key] for found in both]), one[key], rtol=1e-5, atol=2e-5)
    for key in one.keys() - {"output", "input gradient"}:
        parts = [found[key] for found in both]
        total = sum(parts) if key.endswith("gradient") else parts[0]
        torch.testing.assert_close(total, one[key], rtol=1e-5, atol=2e-5)
        assert key.endswith("gradient") or torch.equal(parts[0], parts[1])


@pytest.mark.ddp
def test_one_sample_of_all_processes_uses_the_running_statistics(
    ranks: list[dict[tuple[str, str], Outcome]],
) -> None:
    one, both = outcome(layer("SubsetBatchNorm"), samples()[:1]), [found["few", ""] for found in ranks]
    torch.testing.assert_close(both[0]["output"], one["output"])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(both[0][name], one[name]), name
        assert torch.equal(both[1][name], one[name]), name


def test_the_layers_of_torch_return_after_the_training() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), SubsetBatchNorm(3), SubsetDropout(0.5))
    weight, kinds = net[0].weight, [type(layer) for layer in net]
    set_batch_share(net, BatchShare(0, 2))
    assert [type(layer) for layer in net] == [GlobalBatchNorm1d, GlobalDropout, SubsetBatchNorm, SubsetDropout]
    assert all(layer.batch_share == BatchShare(0, 2) for layer in net)
    set_batch_share(net, None)
    assert [type(layer) for layer in net] == kinds
    assert net[0].weight is weight
    assert net[2].batch_share is None
