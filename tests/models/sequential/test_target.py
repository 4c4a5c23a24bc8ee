"""TIN and DIN against plain equations, pair by pair; candidates, padding, blocks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stemlab.data.batch import SequenceBatch
from stemlab.errors import StemlabError
from stemlab.models.sequential import target
from stemlab.models.sequential.din import DIN
from stemlab.models.sequential.tin import TIN
from stemlab.nn.target_attention import age_buckets
from tests.models.sequential.nets import SIZES, random_batch

SIZES_WITH_CATEGORIES = replace(SIZES, categories=4)
CATEGORY = torch.arange(SIZES.items + 1) % 5
CATEGORY[0] = 0
SETTINGS: dict[str, Any] = {"embedding_dim": 3, "category_dim": 2, "hidden_units": [6, 4]}
FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "tin": (TIN, {}),
    "tin time": (TIN, {"encoding": "time", "time_buckets": 8}),
    "tin both": (TIN, {"encoding": "both", "time_buckets": 8}),
    "tin post": (TIN, {"tr": "post"}),
    "tin plain": (TIN, {"category_dim": 0, "item_bias": False}),
    "din": (DIN, {"attention_units": [5]}),
    "din dot": (DIN, {"attention_units": [], "attention": "dot"}),
    "din_plus": (DIN, {"attention_units": [5], "target_aware": True}),
}


def build(form: str) -> Any:
    kind, settings = FORMS[form]
    torch.manual_seed(0)
    net = kind(SIZES_WITH_CATEGORIES, **{**SETTINGS, **settings})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.5)
    net.set_categories(CATEGORY)
    return net.eval()


def item_vector(net: Any, item: int) -> Tensor:
    own = net.items.weight[item]
    return own if net.categories is None else torch.cat([own, net.categories.weight[CATEGORY[item]]])


def age_bucket(newest: int, then: int) -> int:
    """Return 1 for the newest item, plus one for each doubling of the age."""
    number, limit = 1, 2
    while newest - then + 1 >= limit:
        number, limit = number + 1, 2 * limit
    return min(number, 8)


def encoding(net: Any, position: int, bucket: int) -> Tensor:
    total = torch.zeros(net.width)
    if net.encoding.positions is not None:
        total = total + net.encoding.positions.weight[position]
    if net.encoding.ages is not None:
        total = total + net.encoding.ages.weight[bucket]
    return total


def behaviours(net: Any, batch: SequenceBatch, row: int) -> list[Tensor]:
    length, items = int(batch.length_B[row]), batch.history_BL[row].tolist()
    found = []
    for index in range(length):
        vector = item_vector(net, items[index])
        if isinstance(net, TIN):
            time = batch.time_BL[row].tolist()
            vector = vector + encoding(net, length - index, age_bucket(time[length - 1], time[index]))
        found.append(vector)
    return found


def logit(net: Any, e: Tensor, v: Tensor) -> Tensor:
    if hasattr(net.attention, "unit"):
        return net.attention.unit(torch.cat([e, v, e - v, e * v])[None])[0, 0] / math.sqrt(net.width)
    return (e * v).sum() / math.sqrt(net.width)


def fixed_norm(norm: Any, x: Tensor) -> Tensor:
    """Return TensorFlow's batch normalisation with its initial statistics."""
    return norm.weight * (x - 0) / math.sqrt(1 + 1e-3) + norm.bias


def score_of(net: Any, batch: SequenceBatch, row: int, item: int) -> Tensor:
    v = item_vector(net, item)
    if isinstance(net, TIN):
        v = v + encoding(net, 0, 0)
    seen = behaviours(net, batch, row)
    weights = torch.stack([logit(net, e, v) for e in seen]).exp()
    shares = weights / weights.sum()
    multiplied = net.tr == "paper" if isinstance(net, TIN) else net.target_aware
    u = sum(share * (e * v if multiplied else e) for share, e in zip(shares, seen, strict=True))
    if isinstance(net, TIN) and net.tr == "post":
        u = net.pooled[1](fixed_norm(net.pooled[0], u))
        feature = fixed_norm(net.norm, torch.cat([u, v, u * v]))
    else:
        feature = torch.cat([u, v])
    score = net.head(feature[None])[0, 0]
    return score if net.item_bias is None else score + net.item_bias.weight[item, 0]


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_the_equations(form: str) -> None:
    net, batch = build(form), random_batch()
    expected = torch.stack(
        [torch.stack([score_of(net, batch, row, int(item)) for item in batch.candidates_BN[row]]) for row in range(12)]
    )
    torch.testing.assert_close(net(batch).score_BN, expected, rtol=1e-4, atol=1e-5)


def test_the_released_normalisation_is_the_same_in_training() -> None:
    """Its flag ``training`` is never set: no batch statistics, no running statistics that move."""
    net, batch = build("tin post"), random_batch()
    scores, state = net(batch).score_BN, {name: value.clone() for name, value in net.state_dict().items()}
    assert torch.equal(net.train()(batch, "train").score_BN, scores)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any("running" in name for name in state)


@pytest.mark.parametrize("form", FORMS)
def test_blocks_change_nothing(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = build(form), random_batch()
    item_BN = torch.arange(1, SIZES.items + 1).expand(len(batch), -1)
    whole = net.scores(batch, item_BN).detach()
    monkeypatch.setattr(target, "_MAX_FLOATS", 5 * net.floats_per_candidate())
    with torch.no_grad():
        torch.testing.assert_close(net.scores(batch, item_BN), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_more_padding_and_other_candidates_change_nothing(form: str) -> None:
    net, batch = build(form), random_batch()
    wider = replace(
        batch, history_BL=functional.pad(batch.history_BL, (0, 3)), time_BL=functional.pad(batch.time_BL, (0, 3))
    )
    torch.testing.assert_close(net(wider).score_BN, net(batch).score_BN)
    alone = replace(batch, candidates_BN=batch.candidates_BN[:, 1:2])
    torch.testing.assert_close(net(alone).score_BN, net(batch).score_BN[:, 1:2])


def test_which_networks_depend_on_the_order() -> None:
    batch = random_batch()
    long = (batch.length_B >= 2).nonzero().squeeze(1)
    swapped = batch.history_BL.clone()
    swapped[long, 0], swapped[long, 1] = batch.history_BL[long, 1], batch.history_BL[long, 0]
    changed = replace(batch, history_BL=swapped)
    for form, ordered in (("tin", True), ("tin time", True), ("din", False), ("din_plus", False)):
        net = build(form)
        differs = (net(changed).score_BN - net(batch).score_BN).abs()[long].amax() > 1e-5
        assert bool(differs) == ordered, form


def test_the_loss_is_pointwise_over_positive_and_negatives() -> None:
    net, batch = build("tin"), random_batch()
    output = net(batch, "train")
    plain = [
        math.log1p(math.exp(-s)) if column == 0 else math.log1p(math.exp(s))
        for row in output.score_BN.tolist()
        for column, s in enumerate(row)
    ]
    assert net.losses(output)["click"].item() == pytest.approx(sum(plain) / len(plain), rel=1e-5)


def test_buckets_of_age_double() -> None:
    time = torch.tensor([[0, 90, 97, 99, 100, 0]])
    assert age_buckets(time, torch.tensor([5]), 6)[0, :5].tolist() == [6, 4, 3, 2, 1]


def test_categories_are_part_of_the_checkpoint_and_of_the_score() -> None:
    net, batch = build("tin"), random_batch()
    before = net(batch).score_BN
    other = build("tin")
    other.set_categories(CATEGORY.roll(1))
    assert not torch.allclose(other(batch).score_BN, before)
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other(batch).score_BN, before)


def test_inputs_of_learned_correlation() -> None:
    net = build("tin")
    kind, category_CD, position_PD = net.target_attention()
    assert (kind, category_CD.shape, position_PD.shape) == ("tin", (4, 2), (8, 2))
    assert torch.equal(category_CD[2], net.categories.weight[3])
    assert torch.equal(position_PD[0], net.encoding.positions.weight[0, 3:])
    assert [build(form).target_attention()[0] for form in ("din", "din_plus")] == ["din", "din_plus"]
    assert build("tin plain").target_attention() is build("tin time").target_attention() is None


def test_names_and_shapes_of_tables() -> None:
    tables = build("tin both").embedding_tables()
    assert {name: tuple(roles["shared"].shape) for name, roles in tables.items()} == {
        "item_id": (24, 3),
        "category": (5, 2),
        "position": (8, 5),
        "time_gap": (9, 5),
    }


def test_errors() -> None:
    with pytest.raises(StemlabError, match=r"categories.*model\.net\.category_dim=0"):
        TIN(SIZES, **SETTINGS)
    with pytest.raises(StemlabError, match=r"dataset\.times=true"):
        build("tin time")(replace(random_batch(), time_BL=None))
    for call in (lambda net: net.item_vectors(), lambda net: net.represent(random_batch())):
        with pytest.raises(StemlabError, match="no user and item vectors"):
            call(build("din"))
