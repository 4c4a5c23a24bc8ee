"""Sequential networks against plain implementations of the released code."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.errors import StemlabError
from stemlab.models.sequential.sasrec import SASRec
from stemlab.models.sequential.tisasrec import TiSASRec
from stemlab.nn.attention import TransformerLayer, causal_bias
from stemlab.nn.causal import CausalLayer
from tests.models.sequential.nets import SIZES, build, pairs, random_batch


def same_with_gradients(net: nn.Module, ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weights = list(net.parameters())
    for one, other in zip(
        torch.autograd.grad(ours.square().sum(), weights, allow_unused=True),
        torch.autograd.grad(theirs.square().sum(), weights, allow_unused=True),
        strict=True,
    ):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def dot(user_BD: Tensor, net: nn.Module, batch: SequenceBatch) -> Tensor:
    return (user_BD.unsqueeze(1) * net.items(batch.candidates_BN)).sum(dim=2)


def at_last(state_BLD: Tensor, batch: SequenceBatch) -> Tensor:
    return state_BLD[torch.arange(len(batch)), batch.length_B - 1]


def positions(batch: SequenceBatch) -> Tensor:
    """Return n - j at items, 0 at padding, (B, L)."""
    position_BL = batch.length_B.unsqueeze(1) - torch.arange(batch.history_BL.shape[1])
    return position_BL * (batch.history_BL > 0)


# ---- layers


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_causal_layer_is_a_transformer_layer_with_a_mask(heads: int) -> None:
    torch.manual_seed(0)
    plain, ours = TransformerLayer(8, heads), CausalLayer(8, heads)
    ours.load_state_dict(plain.state_dict())
    x_BLD = torch.randn(5, 6, 8)
    expected = plain(x_BLD, causal_bias(6, x_BLD.device))
    torch.testing.assert_close(ours(x_BLD), expected)
    last_B = torch.tensor([0, 5, 2, 3, 5])
    torch.testing.assert_close(ours(x_BLD, last_B).squeeze(1), expected[torch.arange(5), last_B])


def test_dropout_is_applied_to_both_branches() -> None:
    layer, x_BLD = CausalLayer(8, dropout=0.5), torch.randn(4, 3, 8)
    assert torch.equal(layer.eval()(x_BLD), layer(x_BLD))
    layer.train()
    assert not torch.equal(layer(x_BLD), layer(x_BLD))
    nn.init.zeros_(layer.qkv.weight)
    nn.init.zeros_(layer.qkv.bias)
    nn.init.zeros_(layer.linear2.weight)
    nn.init.zeros_(layer.linear2.bias)
    assert torch.equal(layer(x_BLD), layer(x_BLD))  # all dropped values are zero: only the residuals remain


# ---- SASRec, TiSASRec


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (1, 4), (3, 2)])
def test_sasrec_uses_the_last_state(layers: int, heads: int) -> None:
    net, batch = build("SASRec", num_layers=layers, num_heads=heads), random_batch()
    state_BLD = net.items(batch.history_BL) + net.positions(positions(batch))
    for layer in net.layers:
        state_BLD = TransformerLayer.forward(layer, state_BLD, causal_bias(SIZES.history_max, state_BLD.device))
    same_with_gradients(net, net(batch).score_BN, dot(at_last(state_BLD, batch), net, batch))


def time_aware(net: TiSASRec, layer: CausalLayer, x_BLD: Tensor, batch: SequenceBatch) -> Tensor:
    """Return one layer with a key and a value vector per pair of positions, (B, L, L, D)."""
    _, L, D = x_BLD.shape
    gap_BLL = (batch.time_BL[:, :, None] - batch.time_BL[:, None, :]).abs().double() / batch.unit_B[:, None, None]
    gap_BLL = gap_BLL.floor().long().clamp(max=net.time_max)
    query, key, value = layer.qkv(x_BLD).split(D, dim=2)
    position_BL = positions(batch)
    key_BLLD = (key + net.position_keys(position_BL))[:, None] + net.gap_keys(gap_BLL)
    value_BLLD = (value + net.position_values(position_BL))[:, None] + net.gap_values(gap_BLL)
    width = D // layer.heads
    contexts = []
    for head in range(layer.heads):
        part = slice(head * width, (head + 1) * width)
        score_BLL = (query[:, :, None, part] * key_BLLD[..., part]).sum(dim=3) / width**0.5
        weight_BLL = (score_BLL + causal_bias(L, x_BLD.device)).softmax(dim=2)
        contexts.append((weight_BLL[..., None] * value_BLLD[..., part]).sum(dim=2))
    return layer.after_attention(torch.cat(contexts, dim=2), x_BLD)


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (1, 4), (3, 2)])
def test_tisasrec_equals_one_vector_per_pair(layers: int, heads: int) -> None:
    net, batch = build("TiSASRec", num_layers=layers, num_heads=heads), random_batch()
    state_BLD = net.items(batch.history_BL)
    for layer in net.layers:
        state_BLD = time_aware(net, layer, state_BLD, batch)
    same_with_gradients(net, net(batch).score_BN, dot(at_last(state_BLD, batch), net, batch))


def test_gaps_are_exact_integers_in_units_of_the_user() -> None:
    """16,777,217 is the smallest integer that float32 cannot represent."""
    net = build("TiSASRec", time_max=3)
    times = [[0, 16_777_217, 3 * 16_777_217], [100, 100, 0]]
    batch = SequenceBatch(
        user_B=torch.tensor([1, 2]),
        history_BL=torch.tensor([[1, 2, 3], [4, 5, 0]]),
        length_B=torch.tensor([3, 2]),
        candidates_BN=torch.tensor([[1], [2]]),
        time_BL=torch.tensor(times),
        unit_B=torch.tensor([16_777_217, 65_535]),
    )
    assert net.gaps(batch).tolist() == [[[0, 1, 3], [1, 0, 2], [3, 2, 0]], [[0] * 3] * 3]
    longer = replace(batch, unit_B=torch.tensor([16_777_218, 10]))
    assert net.gaps(longer).tolist() == [[[0, 0, 2], [0, 0, 1], [2, 1, 0]], [[0, 0, 3], [0, 0, 3], [3, 3, 0]]]


def test_tisasrec_without_timestamps_raises() -> None:
    with pytest.raises(StemlabError, match=r"TiSASRec.*dataset\.times=true"):
        build("TiSASRec")(replace(random_batch(), time_BL=None, unit_B=None))


@pytest.mark.parametrize("cls", [SASRec, TiSASRec])
def test_heads_must_divide_the_width(cls: type[SASRec | TiSASRec]) -> None:
    with pytest.raises(StemlabError, match=r"num_heads=3.*embedding_dim=8"):
        cls(SIZES, embedding_dim=8, num_heads=3)
    cls.check_settings({"embedding_dim": 9, "num_heads": 3})


# ---- others


def test_gru4rec_equals_a_packed_gru() -> None:
    net, batch = build("GRU4Rec"), random_batch()
    plain = nn.GRU(8, 5, batch_first=True)
    plain._parameters = net.gru._parameters
    plain._flat_weights = net.gru._flat_weights
    packed = nn.utils.rnn.pack_padded_sequence(
        net.items(batch.history_BL), batch.length_B, batch_first=True, enforce_sorted=False
    )
    same_with_gradients(net, net(batch).score_BN, dot(net.output(plain(packed)[1][0]), net, batch))


def test_youtube_adds_padding_only_with_padding_published() -> None:
    masked, published, batch = build("YouTube"), build("YouTube", padding="published"), random_batch()
    assert masked.uncapturable is None
    assert "padding=published" in published.uncapturable
    length_B1 = batch.length_B.unsqueeze(1)
    for net, items_BLD in (
        (published, published.items(batch.history_BL)),
        (masked, masked.items(batch.history_BL) * (batch.history_BL > 0).unsqueeze(2)),
    ):
        same_with_gradients(net, net(batch).score_BN, dot(net.layer(items_BLD.sum(dim=1) / length_B1), net, batch))
    published.losses(published(batch))["rank"].backward()
    assert bool(published.items.weight.grad[0].any())


def dense_adjacency() -> Tensor:
    """Return the dense normalised adjacency of users, then items, (V, V), as in the released code."""
    users = SIZES.users + 1
    matrix = torch.zeros(users + SIZES.items + 1, users + SIZES.items + 1, dtype=torch.float64)
    for user, item in zip(*pairs(), strict=True):
        matrix[user, users + item] = matrix[users + item, user] = 1
    root = (matrix.sum(dim=1) + 1e-10).rsqrt()
    return root[:, None] * matrix * root


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_lightgcn_equals_dense_propagation(layers: int) -> None:
    net, batch = build("LightGCN", num_layers=layers), random_batch()
    matrix = dense_adjacency().float()
    states = [torch.cat([net.users.weight, net.items.weight])]
    for _ in range(layers):
        states.append(matrix @ states[-1])
    user_VD, item_VD = torch.stack(states).mean(dim=0).tensor_split([SIZES.users + 1])
    scores = (user_VD[batch.user_B].unsqueeze(1) * item_VD[batch.candidates_BN]).sum(dim=2)
    same_with_gradients(net, net(batch).score_BN, scores)


def test_lightgcn_propagates_once_per_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = build("LightGCN"), random_batch()
    calls = []
    propagate = net.propagate
    monkeypatch.setattr(net, "propagate", lambda: calls.append(1) or propagate())
    net.eval()
    with torch.inference_mode():
        first = net(batch).score_BN
        assert torch.equal(net(batch).score_BN, first)
        net.represent(batch), net.item_vectors()
    assert len(calls) == 1
    with torch.no_grad():
        net.items.weight.mul_(2)
        assert not torch.equal(net(batch).score_BN, first)
    assert len(calls) == 2
    net.train()
    net(batch)
    net(batch)
    assert len(calls) == 4


def test_lightgcn_without_a_graph_raises() -> None:
    net = type(build("LightGCN"))(SIZES)
    with pytest.raises(RuntimeError, match="observe"):
        net(random_batch())


def test_graph_and_counts_are_not_in_the_state_dict() -> None:
    assert set(build("LightGCN").state_dict()) == {"users.weight", "items.weight"}
    assert not build("POP").state_dict()


def test_pop_counts_training_interactions() -> None:
    net, item = build("POP"), pairs()[1]
    assert net.item_vectors()[:, 0].tolist() == [float((item == i).sum()) for i in range(SIZES.items + 1)]
    assert net(random_batch()).score_BN.dtype == torch.float32
