"""TiMiRec, ComiRec, MIND: sizes, phases, padding, what each part of the loss trains, every option."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional

from models.sequential.nets import SIZES, random_batch
from stemlab.config.instantiate import instantiate
from stemlab.data.spec import SequenceSizes
from stemlab.errors import StemlabError
from stemlab.models import parameter_counts
from stemlab.models.sequential.base import SequenceNet
from stemlab.models.sequential.comirec import ComiRec
from stemlab.models.sequential.mind import LOGIT_SETS, MIND
from stemlab.models.sequential.timirec import TiMiRec
from stemlab.nn.interest import position_ids, squash

NETS = {"timirec": TiMiRec, "comirec": ComiRec, "mind": MIND}
SMALL = {"embedding_dim": 8, "num_interests": 3}
KINDS: dict[str, tuple[type[SequenceNet], dict[str, Any]]] = {
    "pretrain": (TiMiRec, {"stage": "pretrain", "attention_dim": 5}),
    "finetune": (TiMiRec, {"attention_dim": 5, "projection_layers": 2, "temperature": 0.5}),
    "finetune_plain": (TiMiRec, {"attention_dim": 5, "position_embedding": False, "transformer": False}),
    "comirec": (ComiRec, {"attention_dim": 5}),
    "mind": (MIND, {}),
    "mind_power": (MIND, {"power": 2, "relu_layer": True}),
}
EACH = pytest.mark.parametrize("kind", KINDS)


def build(kind: str, seed: int = 0, **settings: Any) -> Any:
    """Return a small network with parameters of useful size, without dropout."""
    torch.manual_seed(seed)
    cls, own = KINDS[kind]
    net = cls(SIZES, **{**SMALL, **own, **settings})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.5)
    return net.eval()


def gradients(net: SequenceNet, loss: Tensor) -> dict[str, Tensor | None]:
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True), strict=True))


def of_extractor(name: str) -> bool:
    return name.startswith(("items.", "extractor."))


# ------------------------------------------------------------------------------------------------- sizes, beginnings


def test_published_size_on_movielens() -> None:
    sizes = SequenceSizes(users=6040, items=3706, history_max=20)
    first, both = (TiMiRec(sizes, stage=stage, projection_layers=2) for stage in ("pretrain", "finetune"))
    assert sum(parameter_counts(first).values()) == 260_186
    assert sum(parameter_counts(both).values()) == 526_748
    assert sum(parameter_counts(both.predictor.projection).values()) == 4_290


def config(root: Path, name: str) -> dict[str, Any]:
    return yaml.safe_load((root / "conf" / "model" / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", NETS)
def test_configs_name_every_setting_and_its_default(root: Path, name: str) -> None:
    values = config(root, name)
    settings = inspect.signature(NETS[name].__init__).parameters.values()
    defaults = {s.name: s.default for s in settings if s.kind is inspect.Parameter.KEYWORD_ONLY}
    assert {key: value for key, value in values["net"].items() if key != "_target_"} == defaults
    assert (values["family"], values["name"], values["max_epochs"]) == ("sequential", name, 200)


@pytest.mark.parametrize("name", NETS)
def test_initial_values(root: Path, name: str) -> None:
    torch.manual_seed(0)
    net = instantiate(config(root, name)["net"], SequenceSizes(users=50, items=100, history_max=20))
    for key, parameter in net.named_parameters():
        if ".gru." in key:
            assert parameter.std() > 0.06
            assert parameter.abs().max() <= 1 / 8  # torch's own
        elif ".norm" in key:
            assert torch.equal(parameter, torch.full_like(parameter, float(key.endswith("weight"))))
        else:
            spread = parameter.square().mean().sqrt().item()
            assert spread == pytest.approx(0.01, rel=6 / (2 * parameter.numel()) ** 0.5)


# ----------------------------------------------------------------------------------------------------------- forward


def test_positions_count_from_the_newest_item() -> None:
    assert position_ids(torch.tensor([4, 2, 5]), 5).tolist() == [[4, 3, 2, 1, 0], [2, 1, 0, 0, 0], [5, 4, 3, 2, 1]]


@EACH
def test_padding_changes_nothing(kind: str) -> None:
    net, batch = build(kind), random_batch()
    wider = replace(batch, history_BL=functional.pad(batch.history_BL, (0, 5)))
    if kind.startswith("mind"):
        drawn = torch.randn(len(batch), 3, wider.history_BL.shape[1])
        net.routing_logits = lambda batch, phase: drawn[:, :, : batch.history_BL.shape[1]]
    for phase in ("train", "eval"):
        one, other = net(batch, phase), net(wider, phase)
        for field in ("score_BN", "intent_BK", "target_BK", "interests_BKD"):
            if getattr(one, field) is not None:
                torch.testing.assert_close(getattr(other, field), getattr(one, field), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net.represent(wider), net.represent(batch), rtol=1e-5, atol=1e-5)


@EACH
def test_vectors_give_the_scores_of_evaluation(kind: str) -> None:
    net, batch = build(kind), random_batch(candidates=9)
    user_BKD, item_ID = net.represent(batch), net.item_vectors()
    assert user_BKD.shape == (12, 1 if kind.startswith("finetune") else 3, 8)
    assert item_ID.shape == (SIZES.items + 1, 8)
    expected = (user_BKD @ item_ID.T).amax(dim=1).gather(1, batch.candidates_BN)
    torch.testing.assert_close(net(batch, "eval").score_BN, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["pretrain", "comirec"])
def test_training_scores_by_the_interest_nearest_to_the_target(kind: str) -> None:
    net, batch = build(kind), random_batch()
    output = net(batch, "train")
    candidates_BND = net.item_vectors()[batch.candidates_BN]
    affinity_BK = (output.interests_BKD * candidates_BND[:, :1]).sum(dim=2)
    chosen_BD = output.interests_BKD[torch.arange(12), affinity_BK.argmax(dim=1)]
    torch.testing.assert_close(output.score_BN, (chosen_BD.unsqueeze(1) * candidates_BND).sum(dim=2))
    best = net(batch, "eval").score_BN
    assert bool((best >= output.score_BN - 1e-5).all())
    torch.testing.assert_close(best[:, 0], output.score_BN[:, 0])
    assert not torch.allclose(best, output.score_BN)


def test_finetune_scores_alike_in_both_phases() -> None:
    net, batch = build("finetune"), random_batch()
    train, evaluation = net(batch, "train"), net(batch, "eval")
    assert torch.equal(train.score_BN, evaluation.score_BN)
    assert evaluation.target_BK is None
    assert set(net.losses(evaluation)) == {"rank"}


@EACH
def test_the_padding_row_is_not_trained(kind: str) -> None:
    net, batch = build(kind), random_batch()
    sum(net.losses(net(batch, "train")).values()).backward()
    tables = [module for module in net.modules() if isinstance(module, torch.nn.Embedding)]
    assert all(not table.weight.grad[0].any() and bool(table.weight.grad[1:].any()) for table in tables)


@EACH
def test_tables_are_views_of_the_parameters(kind: str) -> None:
    net = build(kind)
    views = [view for roles in net.embedding_tables().values() for view in roles.values()]
    parameters = {parameter.data_ptr() for parameter in net.parameters()}
    assert all(view.data_ptr() in parameters for view in views)
    assert len(views) == sum(isinstance(module, torch.nn.Embedding) for module in net.modules())
    items = net.embedding_tables()["item_id"].values()
    assert all(view.shape == (SIZES.items + 1, 8) for view in items)


@EACH
def test_bfloat16_autocast(kind: str) -> None:
    net, batch = build(kind), random_batch()
    full = net(batch).score_BN
    with torch.autocast("cpu", torch.bfloat16):
        output = net(batch, "train")
        loss = sum(net.losses(output).values())
        scores = net(batch).score_BN
    torch.testing.assert_close(scores.float(), full, atol=0.3, rtol=0.15)
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)


# ---------------------------------------------------------------------------------------------- distillation, stages


def test_distillation_trains_predictor_and_projection_only() -> None:
    net = build("finetune")
    parts = net.losses(net(random_batch(), "train"))
    for name, gradient in gradients(net, parts["distill"]).items():
        assert (gradient is None) == of_extractor(name), name
    for name, gradient in gradients(net, parts["rank"]).items():
        assert gradient is not None, name


def test_detach_target_off_trains_the_extractor_too() -> None:
    net = build("finetune", detach_target=False)
    found = gradients(net, net.losses(net(random_batch(), "train"))["distill"])
    assert all(gradient is not None for gradient in found.values())
    assert found["items.weight"].abs().max() > 1e-4
    same = build("finetune")(random_batch(), "train")
    assert torch.equal(net(random_batch(), "train").target_BK, same.target_BK)


def test_temperature_squared_keeps_the_gradient_in_size() -> None:
    """With small logits, doubling T halves the gradient of each side's softmax; T^2 makes up for it."""
    sizes = []
    for temperature in (20.0, 40.0):
        net = build("finetune", temperature=temperature)
        found = gradients(net, net.losses(net(random_batch(), "train"))["distill"])
        sizes.append(found["predictor.projection.3.weight"].norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    assert sizes[0] > 0.01


def test_distillation_is_the_published_formula() -> None:
    net = build("finetune")
    output = net(random_batch(), "train")
    interest_BKD, target_BD = output.interests_BKD, net.items.weight[random_batch().candidates_BN[:, 0]]
    target_BK = functional.cosine_similarity(interest_BKD, target_BD.unsqueeze(1), dim=2)
    torch.testing.assert_close(output.target_BK, target_BK)
    p_BK, q_BK = (target_BK / 0.5).softmax(dim=1), (output.intent_BK / 0.5).softmax(dim=1)
    expected = 0.25 * (p_BK * (p_BK.log() - q_BK.log())).sum(dim=1).mean()
    torch.testing.assert_close(net.losses(output)["distill"], expected)


def test_import_of_the_extractor() -> None:
    """Stage 2 begins with the interests of stage 1; its own tensors keep their fresh values."""
    first, second, batch = build("pretrain", position_embedding=True), build("finetune", seed=1), random_batch()
    fresh = {name: tensor.clone() for name, tensor in second.state_dict().items()}
    assert not torch.equal(second(batch).interests_BKD, first(batch).interests_BKD)
    second.import_extractor(first.state_dict())
    assert torch.equal(second(batch).interests_BKD, first(batch).interests_BKD)
    assert torch.equal(second.item_vectors(), first.item_vectors())
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, fresh[name]) == (not of_extractor(name)), name


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"attention_dim": 6}, r"extractor\.hidden\.weight is (6, 8) there and (5, 8) here"),
        ({"num_interests": 4}, r"extractor\.weigh\.weight is (4, 5) there and (3, 5) here"),
        ({"embedding_dim": 4}, r"items\.weight is (24, 4) there and (24, 8) here"),
        ({"transformer": False}, r"extractor\.transformer\.qkv\.weight is absent there and (24, 8) here"),
    ],
)
def test_an_extractor_of_another_shape_is_refused(settings: dict[str, Any], sentence: str) -> None:
    second = build("finetune")
    before = {name: tensor.clone() for name, tensor in second.state_dict().items()}
    with pytest.raises(StemlabError, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        second.import_extractor(build("pretrain", **settings).state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in second.state_dict().items())


def test_an_extractor_with_more_than_ours_is_refused() -> None:
    second = build("finetune", transformer=False)
    with pytest.raises(StemlabError, match=re.compile(r"extractor\.transformer\.\S+ is \(.*\) there and absent here")):
        second.import_extractor(build("pretrain").state_dict())


# ----------------------------------------------------------------------------------------------------------- options


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


# -------------------------------------------------------------------------------------------------------------- MIND


def test_mind_draws_in_training_and_repeats_in_evaluation() -> None:
    net, batch = build("mind"), random_batch()
    assert not torch.equal(net(batch, "train").interests_BKD, net(batch, "train").interests_BKD)
    again = net(batch).score_BN
    torch.manual_seed(99)
    assert torch.equal(net(batch).score_BN, again)
    other = MIND(SIZES, **SMALL)
    assert torch.equal(other.evaluation_logits_PKH, net.evaluation_logits_PKH)
    assert not [name for name in net.state_dict() if "logits" in name]


def test_mind_evaluates_a_user_alike_in_every_batch() -> None:
    net, batch = build("mind"), random_batch()
    order = torch.arange(len(batch) - 1, -1, -1)
    rows = {name: getattr(batch, name)[order] for name in batch.__slots__ if getattr(batch, name) is not None}
    torch.testing.assert_close(net(replace(batch, **rows)).score_BN, net(batch).score_BN[order])
    logit_BKL = net.routing_logits(replace(batch, user_B=torch.arange(1, 13)), "eval")
    assert len(logit_BKL.flatten(1).unique(dim=0)) == 12
    far = replace(batch, user_B=batch.user_B + LOGIT_SETS)
    assert torch.equal(net.routing_logits(far, "eval"), net.routing_logits(batch, "eval"))


def test_squash() -> None:
    vector_BKD = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [0.3, 0.4]]], requires_grad=True)
    squashed = squash(vector_BKD)
    torch.testing.assert_close(squashed.norm(dim=2), torch.tensor([[25 / 26, 0.0, 0.2]]))
    torch.testing.assert_close(functional.normalize(squashed[:, ::2], dim=2), torch.tensor([[[0.6, 0.8]] * 2]))
    squashed.sum().backward()
    assert bool(vector_BKD.grad.isfinite().all())


def test_mind_trains_through_the_last_iteration_only() -> None:
    """One iteration more changes the gradient's weights, but adds no path: capsules before the last are constants."""
    net, batch = build("mind"), random_batch()
    drawn = torch.randn(len(batch), 3, batch.history_BL.shape[1])
    item_BLD = net.items(batch.history_BL).detach().requires_grad_()
    logit_BKL = drawn
    with torch.no_grad():
        mapped_BLD = net.routing.map(item_BLD)
        valid_B1L = (batch.history_BL > 0).unsqueeze(1)
        for _ in range(2):
            capsule_BKD = squash((logit_BKL.softmax(dim=1) * valid_B1L) @ mapped_BLD)
            logit_BKL = logit_BKL + capsule_BKD @ mapped_BLD.transpose(1, 2)
    last = squash((logit_BKL.softmax(dim=1) * valid_B1L) @ net.routing.map(item_BLD))
    ours = net.routing(item_BLD, batch.history_BL, drawn)
    torch.testing.assert_close(ours, last)
    (expected,) = torch.autograd.grad(last.square().sum(), [item_BLD])
    (found,) = torch.autograd.grad(ours.square().sum(), [item_BLD])
    torch.testing.assert_close(found, expected)


def test_mind_power_weights_capsules_before_the_softmax() -> None:
    net, capsule_BKD, target_BD = build("mind_power"), torch.randn(4, 3, 8), torch.randn(4, 8)
    weight_BK = (capsule_BKD * target_BD.unsqueeze(1)).sum(dim=2).square().softmax(dim=1)
    torch.testing.assert_close(net.attend(capsule_BKD, target_BD), (weight_BK.unsqueeze(2) * capsule_BKD).sum(dim=1))
    nearest = build("mind").attend(capsule_BKD, target_BD)
    assert torch.equal(nearest[0], capsule_BKD[0, (capsule_BKD[0] @ target_BD[0]).argmax()])
