"""Grouped lookups against one lookup per table: values and gradients, padding, shared tables, repeated ids."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from stemlab.data.spec import ImpressionSizes
from stemlab.nn.embedding import FieldEmbedding
from stemlab.nn.kernels.dispatch import device_forms, kernel_mode
from stemlab.nn.kernels.grouped_lookup import can_group

SIZES = {
    "fields": ImpressionSizes({"uid": 11, "item": 7, "city": 5}),
    "shared table": ImpressionSizes({"uid": 11, "item": 7, "city": 11}, tables={"city": "uid"}),
    "scenario and numerical": ImpressionSizes(
        {"uid": 11, "item": 7, "city": 5}, {"age": ""}, ("nl", "es"), scenario_feature=True
    ),
}


def results(net: FieldEmbedding, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(1)
    ids_BF = torch.stack([torch.randint(0, 5, (40,)) for _ in range(3)], dim=1).to(dtype)
    blocks = net(ids_BF, torch.rand(40, 1, dtype=torch.float64), torch.arange(40).to(dtype) % 2)
    torch.stack([(block * (n + 1)).square().sum() for n, block in enumerate(blocks)]).sum().backward()
    return [*blocks, *(parameter.grad for parameter in net.parameters() if parameter.grad is not None)]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("blocks", [["shared"], ["task:a", "task:b", "shared"]])
@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_values_and_gradients(sizes: ImpressionSizes, padding: bool, blocks: list[str], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = FieldEmbedding(sizes, blocks, 3, padding).double()
    other = copy.deepcopy(net)
    expected = results(net, dtype)
    with device_forms():
        assert can_group(list(other.tables))  # type: ignore[arg-type]
        found = results(other, dtype)
    assert len(found) == len(expected)
    torch.testing.assert_close(found, expected)
    assert not padding or not any(weight.grad[0].any() for weight in other.weights() if weight.grad is not None)


def test_where_tables_are_not_grouped() -> None:
    tables = list(FieldEmbedding({"uid": 11, "item": 7}, ["shared"], 3, True).tables)
    assert not can_group(tables)  # type: ignore[arg-type]
    with device_forms():
        assert not can_group(tables[:1])  # type: ignore[arg-type]
        with torch.no_grad():
            assert not can_group(tables)  # type: ignore[arg-type]
        with kernel_mode("off"):
            assert not can_group(tables)  # type: ignore[arg-type]
