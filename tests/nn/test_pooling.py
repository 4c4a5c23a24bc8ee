"""Pooling of lists of values: brute force, the sequential networks, empty lists, blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch, SequenceBatch
from stemlab.data.spec import Field, ImpressionSizes, SequenceSizes, ValueList
from stemlab.errors import StemlabError
from stemlab.models.sequential.din import DIN
from stemlab.models.sequential.tin import TIN
from stemlab.nn.embedding import FieldEmbedding
from stemlab.nn.kernels.dispatch import device_forms

ITEMS, CATEGORIES, L, D = 9, 5, 4, 3
FIELDS = {"item": ITEMS + 2, "category": CATEGORIES + 2}
LISTS = st.lists(st.lists(st.tuples(st.integers(1, ITEMS), st.integers(0, 3)), max_size=L), min_size=1, max_size=6)


def embedding(*lists: Field, blocks: int = 1) -> FieldEmbedding:
    torch.manual_seed(0)
    tables = {field.name: field.table for field in lists if field.table is not None}
    sizes = ImpressionSizes(FIELDS, {"age": ""}, ("a", "b"), tables, scenario_feature=True, lists=lists)
    made = FieldEmbedding(sizes, [f"expert:{n}" for n in range(blocks)], D, True)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
        for weight in made.weights():
            weight[0] = 0
    return made


def padded(rows: list[list[Any]]) -> Tensor:
    return torch.tensor([[*row, *[0] * (L - len(row))] for row in rows])


def batch_of(ids: Tensor, weights: Tensor | None = None) -> ImpressionBatch:
    torch.manual_seed(1)
    B = len(ids)
    columns = [torch.randint(1, size, (B,)) for size in FIELDS.values()]
    scenario = torch.zeros(B, dtype=torch.int32)
    ids_BF, dense_BN = torch.stack(columns, 1), torch.rand(B, 1)
    return ImpressionBatch(
        ids_BF, dense_BN=dense_BN, scenario_B=scenario, list_ids_BK=ids.int(), list_weights_BW=weights
    )


@settings(max_examples=25, deadline=None)
@given(LISTS, st.sampled_from(["mean", "sum", "attention"]), st.booleans(), st.sampled_from([None, "item"]))
def test_pooling_equals_a_loop_over_the_values(
    rows: list[list[tuple[int, int]]], pooling: Any, weighted: bool, table: str | None
) -> None:
    field = Field("genres", ITEMS + 2, "list", table=table, values=ValueList(L, pooling, weighted=weighted))
    made = embedding(field, blocks=2)
    assert made.inputs == ("item", "category", "scenario", "genres", "numerical")
    ids = padded([[i for i, _ in row] for row in rows])
    weights = padded([[float(w) for _, w in row] for row in rows]).float() if weighted else None
    found = made.of(batch_of(ids, weights))
    weight_VSD = made.weights()[made.fields.index(table or "genres")].detach().view(-1, 2, D)
    for s, input_BX in enumerate(found):
        vector_BD = input_BX.view(len(rows), -1, D)[:, 3]
        for row, vector_D in zip(rows, vector_BD, strict=True):
            given_weights = [float(w) if weighted else 1.0 for _, w in row]
            if pooling == "attention":
                assert made.lists is not None
                query_D = made.lists.pools[0].query_SD[s].detach()
                scores = [float(weight_VSD[i, s] @ query_D) / D**0.5 for i, _ in row]
                given_weights = [w * float(torch.tensor(x).exp()) for w, x in zip(given_weights, scores, strict=True)]
            total = sum(given_weights) if pooling != "sum" else 1.0
            expected = torch.zeros(D)
            for (i, _), weight in zip(row, given_weights, strict=True):
                expected += weight_VSD[i, s] * (weight / total if total else 0.0)
            torch.testing.assert_close(vector_D, expected)


def sequence(pooling: Any, times: bool = False) -> tuple[Field, Field]:
    units = (6,) if pooling.startswith("din") else ()
    items = ValueList(L, pooling, times=times, target="item", attention_units=units)
    categories = ValueList(L, pooling, target="category", part_of="history")
    return (
        Field("history", FIELDS["item"], "list", table="item", values=items),
        Field("history_categories", FIELDS["category"], "list", table="category", values=categories),
    )


@pytest.mark.parametrize(("pooling", "times"), [("din", False), ("din_plus", False), ("tin", False), ("tin", True)])
def test_attention_equals_the_sequential_network(pooling: str, times: bool) -> None:
    """[u; v] of DIN, DIN+ and TIN on the same histories, items, categories and weights."""
    made = embedding(*sequence(pooling, times))
    ids = padded([[1, 2, 3], [4], [5, 6, 7, 8]])
    category_I = torch.tensor([0, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    time_BL = padded([[10, 500, 9000], [3], [1, 1, 8, 40]])
    newest_B1 = time_BL.gather(1, (ids != 0).sum(1, keepdim=True) - 1)
    ages = [(newest_B1 - time_BL).clamp(min=0) * (ids != 0)] if times else []
    batch = batch_of(torch.cat([ids, *ages, category_I[ids]], dim=1))
    batch.ids_BF[:, 1] = category_I[batch.ids_BF[:, 0]]

    sizes = SequenceSizes(users=1, items=ITEMS + 1, history_max=L, categories=CATEGORIES + 1)
    dims = {"embedding_dim": D, "category_dim": D, "hidden_units": [4]}
    aware = pooling == "din_plus"
    net = (
        TIN(sizes, **dims, encoding="both" if times else "position")
        if pooling == "tin"
        else DIN(sizes, attention_units=[6], target_aware=aware, **dims)
    )
    net.items.weight, net.categories.weight = made.weights()[:2]
    net.set_categories(category_I)
    assert made.lists is not None
    (pool,) = made.lists.pools
    if pooling == "tin":
        net.encoding.load_state_dict(pool.encodings[0].state_dict())
    else:
        net.attention.load_state_dict(pool.attentions[0].state_dict())
    length_B = (ids != 0).sum(1)
    item_B1 = batch.ids_BF[:, :1]
    history = SequenceBatch(torch.ones(3), ids, length_B, item_B1, time_BL)
    target_B1X = net.targets(item_B1)
    expected_BX = net.features(net.behaviours(history), target_B1X, ids)[:, 0, : 2 * D]

    (input_BX,) = made.of(batch)
    pooled_BFD = input_BX.view(3, -1, D)[:, 3:5]
    torch.testing.assert_close(pooled_BFD.flatten(1), expected_BX, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "sum", "attention", "din", "din_plus", "tin"])
def test_an_empty_list_is_a_zero_vector_with_finite_gradients(pooling: str) -> None:
    made = embedding(*sequence(pooling)) if pooling not in ("mean", "sum", "attention") else None
    if made is None:
        made = embedding(Field("genres", 4, "list", values=ValueList(2 * L, pooling)))  # type: ignore[arg-type]
    ids = torch.zeros(3, 2 * L, dtype=torch.int64)
    ids[0, 0] = 1
    (input_BX,) = made.of(batch_of(ids))
    input_BX.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.grad is not None)
    assert not input_BX.view(3, -1, D)[1:, 3].any()
    assert input_BX.view(3, -1, D)[0, 3].any()


def test_blocks_pool_on_their_own_and_grouped_lookups_agree() -> None:
    made = embedding(*sequence("tin", times=True), blocks=3)
    batch = batch_of(torch.randint(1, 6, (5, 3 * L)))
    plain = made.of(batch)
    assert not torch.allclose(plain[0].view(5, -1, D)[:, 3], plain[1].view(5, -1, D)[:, 3])
    with device_forms():
        for one, other in zip(made.of(batch), plain, strict=True):
            torch.testing.assert_close(one, other)


def test_a_batch_without_lists_is_refused() -> None:
    weighted = Field("genres", 4, "list", values=ValueList(L, weighted=True))
    made, batch = embedding(weighted), batch_of(torch.ones(2, L))
    batch.list_weights_BW = torch.ones(2, L)
    made.of(batch)
    for missing in ("list_ids_BK", "list_weights_BW"):
        with pytest.raises(StemlabError, match=missing):
            made.of(replace(batch, **{missing: None}))


def test_embeddings_without_lists_have_no_new_module() -> None:
    plain = FieldEmbedding(FIELDS, ["shared"], D, True)
    assert plain.lists is None
    assert [name for name, _ in plain.named_modules() if isinstance(_, nn.Module)] == [
        "",
        "tables",
        "tables.0",
        "tables.1",
    ]
