"""TiMiRec: parameters trained by each loss term, import from stage 1, options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from stemlab.errors import StemlabError
from tests.models.sequential.interest_nets import build, gradients, is_of_extractor
from tests.models.sequential.nets import SIZES, random_batch

# ---- distillation, stages


def test_distillation_trains_predictor_and_projection_only() -> None:
    net = build("finetune")
    parts = net.losses(net(random_batch(), "train"))
    for name, gradient in gradients(net, parts["distill"]).items():
        assert (gradient is None) == is_of_extractor(name), name
    for name, gradient in gradients(net, parts["rank"]).items():
        assert gradient is not None, name


def test_without_detach_distillation_trains_the_extractor() -> None:
    net = build("finetune", detach_target=False)
    found = gradients(net, net.losses(net(random_batch(), "train"))["distill"])
    assert all(gradient is not None for gradient in found.values())
    assert found["items.weight"].abs().max() > 1e-4
    same = build("finetune")(random_batch(), "train")
    assert torch.equal(net(random_batch(), "train").target_BK, same.target_BK)


def test_temperature_squared_keeps_the_gradient_norm() -> None:
    """With small logits, doubling T halves the gradient of both softmaxes; the factor T^2 compensates."""
    sizes = []
    for temperature in (20.0, 40.0):
        net = build("finetune", temperature=temperature)
        found = gradients(net, net.losses(net(random_batch(), "train"))["distill"])
        sizes.append(found["predictor.projection.3.weight"].norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    assert sizes[0] > 0.01


def test_distillation_is_the_released_formula() -> None:
    net = build("finetune")
    output = net(random_batch(), "train")
    interest_BKD, target_BD = output.interests_BKD, net.items.weight[random_batch().candidates_BN[:, 0]]
    target_BK = functional.cosine_similarity(interest_BKD, target_BD.unsqueeze(1), dim=2)
    torch.testing.assert_close(output.target_BK, target_BK)
    p_BK, q_BK = (target_BK / 0.5).softmax(dim=1), (output.intent_BK / 0.5).softmax(dim=1)
    expected = 0.25 * (p_BK * (p_BK.log() - q_BK.log())).sum(dim=1).mean()
    torch.testing.assert_close(net.losses(output)["distill"], expected)


def test_import_of_the_extractor() -> None:
    """Stage 2 starts with the interests of stage 1; its other tensors keep their initial values."""
    first, second, batch = build("pretrain", position_embedding=True), build("finetune", seed=1), random_batch()
    initial = {name: tensor.clone() for name, tensor in second.state_dict().items()}
    assert not torch.equal(second(batch).interests_BKD, first(batch).interests_BKD)
    second.import_extractor(first.state_dict())
    assert torch.equal(second(batch).interests_BKD, first(batch).interests_BKD)
    assert torch.equal(second.item_vectors(), first.item_vectors())
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, initial[name]) == (not is_of_extractor(name)), name


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"attention_dim": 6}, r"extractor\.hidden\.weight.*\(6, 8\).*\(5, 8\)"),
        ({"num_interests": 4}, r"extractor\.weigh\.weight.*\(4, 5\).*\(3, 5\)"),
        ({"embedding_dim": 4}, r"items\.weight.*\(24, 4\).*\(24, 8\)"),
        ({"transformer": False}, r"extractor\.transformer\.qkv\.weight.*absent.*\(24, 8\)"),
    ],
)
def test_an_extractor_of_another_shape_raises(settings: dict[str, Any], match: str) -> None:
    second = build("finetune")
    before = {name: tensor.clone() for name, tensor in second.state_dict().items()}
    with pytest.raises(StemlabError, match=match):
        second.import_extractor(build("pretrain", **settings).state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in second.state_dict().items())


def test_an_extractor_with_more_tensors_raises() -> None:
    second = build("finetune", transformer=False)
    with pytest.raises(StemlabError, match=r"extractor\.transformer\.\S+.*\(.*\).*absent"):
        second.import_extractor(build("pretrain").state_dict())


# ---- options


def test_similarity_dot() -> None:
    net, batch = build("finetune", similarity="dot"), random_batch()
    output = net(batch, "train")
    target_BD = net.items.weight[batch.candidates_BN[:, 0]]
    torch.testing.assert_close(output.target_BK, (output.interests_BKD @ target_BD.unsqueeze(2)).squeeze(2))


def test_temperature_in_mixing() -> None:
    plain, divided = (build("finetune", temperature_in_mixing=on)(random_batch(), "train") for on in (False, True))
    assert torch.equal(plain.intent_BK, divided.intent_BK)
    assert not torch.allclose(plain.score_BN, divided.score_BN)
    net = build("finetune", temperature_in_mixing=True)
    user_BD = ((divided.intent_BK / 0.5).softmax(dim=1).unsqueeze(2) * divided.interests_BKD).sum(dim=1)
    expected = (net.items.weight[random_batch().candidates_BN] @ user_BD.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(divided.score_BN, expected)


def test_share_item_tables() -> None:
    net, own = build("finetune", share_item_tables=True), build("finetune")
    assert {name for name, _ in own.named_parameters()} - {name for name, _ in net.named_parameters()} == {
        "predictor.items.weight"
    }
    assert list(net.embedding_tables()["item_id"]) == ["shared"]
    with torch.no_grad():
        own.load_state_dict({**net.state_dict(), "predictor.items.weight": torch.cat([net.items.weight] * 2)[:25]})
    assert torch.equal(net(random_batch()).score_BN, own(random_batch()).score_BN)
    found = gradients(net, net.losses(net(random_batch(), "train"))["distill"])
    assert {name for name, gradient in found.items() if gradient is None} == {
        name for name in found if name.startswith("extractor.")
    }


@pytest.mark.parametrize("kind", ["pretrain", "comirec"])
def test_mask_padding_off_makes_padding_an_item(kind: str) -> None:
    masked, unmasked, batch = build(kind), build(kind, mask_padding=False), random_batch()
    assert masked.uncapturable is None
    assert "mask_padding" in unmasked.uncapturable
    full_B = batch.length_B == SIZES.history_max
    ours, theirs = masked(batch).interests_BKD, unmasked(batch).interests_BKD
    torch.testing.assert_close(theirs[full_B], ours[full_B])
    assert 0 < int(full_B.sum()) < len(full_B)
    assert bool((theirs[~full_B] - ours[~full_B]).abs().amax(dim=(1, 2)).gt(1e-3).all())
    sum(unmasked.losses(unmasked(batch, "train")).values()).backward()
    assert unmasked.items.weight.grad[0].any()


def test_projection_dropout() -> None:
    net, batch = build("finetune", projection_dropout=0.5), random_batch()
    assert torch.equal(net(batch, "train").intent_BK, net(batch, "train").intent_BK)
    net.train()
    assert not torch.equal(net(batch, "train").intent_BK, net(batch, "train").intent_BK)
    assert torch.equal(net(batch, "train").interests_BKD, net(batch, "train").interests_BKD)
    net = build("finetune", projection_dropout=0.0).train()
    assert torch.equal(net(batch, "train").intent_BK, net(batch, "train").intent_BK)
    assert [type(layer).__name__ for layer in net.predictor.projection] == ["Linear", "Dropout", "ReLU", "Linear"]
