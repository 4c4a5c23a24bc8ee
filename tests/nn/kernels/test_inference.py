"""Kernels of evaluation, without gradients, against the plain layers, and values of items that batches share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.sequential.base import SequenceNet
from stemlab.models.sequential.gru4rec import GRU4Rec
from stemlab.models.sequential.timirec import TiMiRec
from stemlab.nn.attention import TransformerLayer, padding_bias
from stemlab.nn.interest import position_ids
from stemlab.nn.kernels import embedding_lookup
from stemlab.nn.kernels.dispatch import kernel_mode
from stemlab.nn.kernels.embedding_lookup import HistoryLookup, UniqueEmbeddings, look_up_history
from stemlab.nn.recurrent import LastStateGRU
from tests.nn.kernels.test_transformer import KINDS, LENGTHS, histories, table, with_normal_weights


def unique_items(items: Tensor, history_BL: Tensor, shared: bool) -> UniqueEmbeddings:
    """Return the embeddings of a history: its unique rows, or all rows of the table with shared results."""
    unique = look_up_history(items, history_BL)[0]
    assert isinstance(unique, UniqueEmbeddings)
    return UniqueEmbeddings(items, history_BL, torch.arange(len(items)), {}) if shared else unique


@KINDS
@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, shared=st.booleans())
@torch.no_grad()
def test_last_states_equal_the_plain_gru(
    dtype: torch.dtype, tolerance: float, lengths: list[int], shared: bool
) -> None:
    gru, items = with_normal_weights(LastStateGRU(6, 4), dtype), table(8, dtype)
    history_BL, length_B = histories(lengths)
    found = gru.forward_unique(unique_items(items, history_BL, shared), length_B)
    torch.testing.assert_close(found, gru(items[history_BL], length_B), rtol=tolerance, atol=tolerance)


@KINDS
@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, positions=st.booleans(), shared=st.booleans())
@torch.no_grad()
def test_states_equal_the_plain_transformer_layer(
    dtype: torch.dtype, tolerance: float, lengths: list[int], positions: bool, shared: bool
) -> None:
    layer, items, position_table = with_normal_weights(TransformerLayer(6), dtype), table(8, dtype), table(9, dtype)
    history_BL, length_B = histories(lengths)
    position_BL, bias = position_ids(length_B, history_BL.shape[1]), padding_bias(history_BL, dtype)
    terms = [unique_items(items, history_BL, shared), UniqueEmbeddings(position_table, position_BL)][: 1 + positions]
    x_BLD = functional.embedding(history_BL, items)
    x_BLD = x_BLD + functional.embedding(position_BL, position_table) if positions else x_BLD
    found_BLD, expected_BLD = layer.forward_unique(terms, bias), layer(x_BLD, bias)
    torch.testing.assert_close(found_BLD, expected_BLD, rtol=tolerance, atol=tolerance)


def batches(count: int) -> list[SequenceBatch]:
    """Return batches of histories of up to 7 of 6 items."""
    found = []
    for number in range(count):
        history_BL, length_B = histories([1 + (number + n) % 7 for n in range(5)])
        found.append(SequenceBatch(torch.arange(5), history_BL, length_B, history_BL[:, :1]))
    return found


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize(
    "of", [partial(TiMiRec, stage="pretrain"), TiMiRec, partial(TiMiRec, share_item_tables=True), GRU4Rec]
)
def test_user_encoder_gives_the_representation_of_every_batch(mode: str, of: Callable[..., SequenceNet]) -> None:
    net = of(SequenceSizes(users=5, items=6, history_max=7), embedding_dim=6)
    with_normal_weights(net, torch.float64).eval()
    with torch.no_grad(), kernel_mode("off"):
        expected = [net.represent(batch) for batch in batches(3)]
    with torch.no_grad(), kernel_mode(mode):  # type: ignore[arg-type]
        encode = net.user_encoder()
        for batch, user_BKD in zip(batches(3), expected, strict=True):
            torch.testing.assert_close(encode(batch), user_BKD, rtol=1e-9, atol=1e-9)
    assert encode(batches(1)[0]).requires_grad


def test_products_of_items_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[int] = []
    plain = embedding_lookup.look_up
    monkeypatch.setattr(embedding_lookup, "look_up", lambda t, *ids: looked_up.append(len(ids[0])) or plain(t, *ids))
    net = TiMiRec(SequenceSizes(users=5, items=6, history_max=7), embedding_dim=6).eval()
    with torch.no_grad():
        encode = net.user_encoder()
        for batch in batches(3):
            encode(batch)
    assert looked_up == [7, 7]  # all rows of the extractor's table and of the predictor's, in the first batch only


@pytest.mark.parametrize("of", [TiMiRec, GRU4Rec])
def test_own_representation_of_a_subclass_is_used(of: type[SequenceNet]) -> None:
    own = type("Own", (of,), {"represent": lambda net, batch: batch.length_B})
    batch = batches(1)[0]
    with torch.no_grad():
        assert own(SequenceSizes(users=5, items=6, history_max=7)).user_encoder()(batch) is batch.length_B


def test_a_large_table_is_not_read_as_a_whole() -> None:
    table_VD, history_BL = torch.nn.Embedding(17, 2), torch.tensor([[3, 9]])
    with torch.no_grad():
        small, whole = HistoryLookup(table_VD)(history_BL), HistoryLookup(table_VD)(history_BL.repeat(2, 1))
    assert isinstance(small, UniqueEmbeddings)
    assert isinstance(whole, UniqueEmbeddings)
    assert (len(small.row_UD), len(whole.row_UD)) == (2, 17)
    assert torch.equal(small.dense(), whole.dense()[:1])
