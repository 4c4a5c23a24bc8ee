"""Blocked embedding tables."""

from __future__ import annotations

import pytest
import torch

from stemlab.nn.embedding import FieldEmbedding

FIELDS = {"uid": 5, "type": 3, "keys": 4}
BLOCKS = ["task:finish", "task:like", "shared"]


def numbered(padding: bool = True) -> FieldEmbedding:
    embedding = FieldEmbedding(FIELDS, BLOCKS, 2, padding)
    with torch.no_grad():
        for field, weight in enumerate(embedding.weights()):
            weight.copy_(torch.arange(weight.numel()).view_as(weight) + 1000 * field)
    return embedding


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_block_s_of_every_field_makes_input_s(dtype: torch.dtype) -> None:
    inputs = numbered()(torch.tensor([[1, 2, 3], [4, 0, 1]], dtype=dtype))
    assert len(inputs) == 3
    assert inputs[0].tolist() == [[6, 7, 1012, 1013, 2018, 2019], [24, 25, 1000, 1001, 2006, 2007]]
    assert inputs[1].tolist() == [[8, 9, 1014, 1015, 2020, 2021], [26, 27, 1002, 1003, 2008, 2009]]
    assert inputs[2].tolist() == [[10, 11, 1016, 1017, 2022, 2023], [28, 29, 1004, 1005, 2010, 2011]]


def test_views_share_memory_with_the_tables() -> None:
    embedding = numbered()
    views = embedding.views()
    assert list(views) == list(FIELDS)
    assert list(views["uid"]) == BLOCKS
    assert views["type"]["task:like"].tolist() == [[1002, 1003], [1008, 1009], [1014, 1015]]
    with torch.no_grad():
        views["type"]["task:like"][1] = -1
    assert embedding.weights()[1][1].tolist() == [1006, 1007, -1, -1, 1010, 1011]


@pytest.mark.parametrize("padding", [True, False])
def test_padding_row_is_never_trained(padding: bool) -> None:
    embedding = numbered(padding)
    sum(x.sum() for x in embedding(torch.tensor([[0, 0, 0], [1, 1, 1]]))).backward()
    for weight in embedding.weights():
        assert weight.grad[0].tolist() == [0.0 if padding else 1.0] * 6
        assert weight.grad[1].tolist() == [1.0] * 6


def test_one_block() -> None:
    embedding = FieldEmbedding({"a": 3, "b": 3}, ["shared"], 4, True)
    (only,) = embedding(torch.tensor([[1, 2]]))
    first, second = embedding.weights()
    assert torch.equal(only[0], torch.cat([first[1], second[2]]))
    assert embedding.output_width == 8
