"""Embedding tables that are split into blocks."""

from __future__ import annotations

import pytest
import torch

from stemlab.data.spec import ImpressionSizes
from stemlab.errors import StemlabError
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
def test_input_s_concatenates_block_s_of_every_field(dtype: torch.dtype) -> None:
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
def test_padding_row_is_not_trained(padding: bool) -> None:
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


def with_everything() -> FieldEmbedding:
    sizes = ImpressionSizes(
        fields={"item": 4, "hist_1": 4, "city": 3},
        numericals={"age": "user", "price": "item"},
        scenarios=("nl", "es"),
        tables={"hist_1": "item"},
        scenario_feature=True,
    )
    embedding = FieldEmbedding(sizes, ["task:a", "shared"], 1, True)
    with torch.no_grad():
        for table, weight in enumerate(embedding.weights()):
            weight.copy_(torch.arange(weight.numel()).view_as(weight) + 100 * table)
        embedding.numerical.weight.copy_(torch.tensor([[1.0, 10.0], [2.0, 20.0]]))
        embedding.numerical.bias.copy_(torch.tensor([0.5, 0.25]))
    return embedding


def test_scenario_and_numericals_follow_the_fields() -> None:
    embedding = with_everything()
    ids_BF, dense_BN = torch.tensor([[1, 3, 2]]), torch.tensor([[4.0, 5.0]])
    first, second = embedding(ids_BF, dense_BN, torch.tensor([1], dtype=torch.int32))
    assert embedding.inputs == ("item", "hist_1", "city", "scenario", "numerical")
    assert first.tolist() == [[2, 6, 104, 204, 54.5]]  # scenario 1 is row 2 of its table
    assert second.tolist() == [[3, 7, 105, 205, 108.25]]
    assert embedding.output_width == 5


def test_fields_that_share_a_table_train_one() -> None:
    embedding = with_everything()
    assert [tuple(weight.shape) for weight in embedding.weights()] == [(4, 2), (3, 2), (4, 2)]
    assert list(embedding.views()) == ["item", "city", "scenario"]
    sum(x.sum() for x in embedding(torch.tensor([[2, 2, 1]]), torch.zeros(1, 2), torch.tensor([0]))).backward()
    assert embedding.weights()[0].grad.tolist() == [[0, 0], [0, 0], [2, 2], [0, 0]]


def test_scenario_is_no_input_unless_it_is_a_feature() -> None:
    sizes = ImpressionSizes(fields={"item": 4}, scenarios=("nl", "es"))
    assert FieldEmbedding(sizes, ["shared"], 2, True).inputs == ("item",)


def test_missing_inputs_raise() -> None:
    embedding = with_everything()
    with pytest.raises(StemlabError, match="reads scenario_B, but the batch has none"):
        embedding(torch.tensor([[1, 1, 1]]), torch.zeros(1, 2))
    with pytest.raises(StemlabError, match="reads dense_BN, but the batch has none"):
        embedding(torch.tensor([[1, 1, 1]]), None, torch.tensor([0]))


def test_the_owner_of_a_table_may_follow_the_fields_that_share_it() -> None:
    sizes = ImpressionSizes(fields={"hist_1": 5, "city": 3, "item": 5}, tables={"hist_1": "item"})
    embedding = FieldEmbedding(sizes, ["shared"], 2, True)
    city, item = embedding.weights()
    (only,) = embedding(torch.tensor([[3, 1, 4]]))
    assert torch.equal(only[0], torch.cat([item[3], city[1], item[4]]))


def test_names_of_parameters() -> None:
    """Without scenario and numericals, the parameters are the tables only."""
    tables = [f"tables.{number}.weight" for number in range(3)]
    assert list(numbered().state_dict()) == tables
    assert list(with_everything().state_dict()) == [*tables, "numerical.weight", "numerical.bias"]
