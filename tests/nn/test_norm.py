"""Batch normalisation of subsets against ``torch.nn.BatchNorm1d``."""

import pytest
import torch
from torch import nn

from stemlab.nn.norm import SubsetBatchNorm


def twins() -> tuple[SubsetBatchNorm, nn.BatchNorm1d]:
    ours, torchs = SubsetBatchNorm(3), nn.BatchNorm1d(3)
    for value in torchs.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    ours.load_state_dict(torchs.state_dict())
    return ours, torchs


@pytest.mark.parametrize("training", [True, False])
def test_two_or_more_samples_equal_batch_norm(training: bool) -> None:
    ours, torchs = (norm.train(training) for norm in twins())
    input_RH = torch.randn(5, 3)
    assert torch.equal(ours(input_RH), torchs(input_RH))
    assert all(torch.equal(value, torchs.state_dict()[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_samples_use_and_keep_the_running_statistics(rows: int) -> None:
    ours, torchs = twins()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    input_RH = torch.randn(rows, 3)
    out_RH = ours.train()(input_RH)
    assert torch.equal(out_RH, torchs.eval()(input_RH))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    out_RH.sum().backward()
    assert ours.weight.grad.shape == (3,)


def test_sync_batch_norm_does_not_replace_it() -> None:
    net = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(SubsetBatchNorm(3), nn.BatchNorm1d(3)))
    assert isinstance(net[0], SubsetBatchNorm)
    assert isinstance(net[1], nn.SyncBatchNorm)
