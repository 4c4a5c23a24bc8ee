"""Contracts of TiMiRec, ComiRec and MIND: sizes, phases, padding, vectors."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from stemlab.config.instantiate import instantiate
from stemlab.data.spec import SequenceSizes
from stemlab.models import parameter_counts
from stemlab.models.sequential.comirec import ComiRec
from stemlab.models.sequential.mind import MIND
from stemlab.models.sequential.timirec import TiMiRec
from stemlab.nn.interest import position_ids
from tests.conf_files import model_config
from tests.models.sequential.interest_nets import EACH, build
from tests.models.sequential.nets import SIZES, random_batch

NETS = {"timirec": TiMiRec, "comirec": ComiRec, "mind": MIND}
# ---- sizes, initial values


def test_size_in_the_released_log_of_movielens() -> None:
    sizes = SequenceSizes(users=6040, items=3706, history_max=20)
    first, both = (TiMiRec(sizes, stage=stage, projection_layers=2) for stage in ("pretrain", "finetune"))
    assert sum(parameter_counts(first).values()) == 260_186
    assert sum(parameter_counts(both).values()) == 526_748
    assert sum(parameter_counts(both.predictor.projection).values()) == 4_290


@pytest.mark.parametrize("name", NETS)
def test_configs_hold_all_settings_with_their_defaults(name: str) -> None:
    values = model_config(name)
    settings = inspect.signature(NETS[name].__init__).parameters.values()
    defaults = {s.name: s.default for s in settings if s.kind is inspect.Parameter.KEYWORD_ONLY}
    assert {key: value for key, value in values["net"].items() if key != "_target_"} == defaults
    assert (values["family"], values["name"], values["max_epochs"]) == ("sequential", name, 200)


@pytest.mark.parametrize("name", NETS)
def test_initial_values(name: str) -> None:
    torch.manual_seed(0)
    net = instantiate(model_config(name)["net"], SequenceSizes(users=50, items=100, history_max=20))
    for key, parameter in net.named_parameters():
        if ".gru." in key:
            assert parameter.std() > 0.06
            assert parameter.abs().max() <= 1 / 8  # PyTorch's initial values
        elif ".norm" in key:
            assert torch.equal(parameter, torch.full_like(parameter, float(key.endswith("weight"))))
        else:
            spread = parameter.square().mean().sqrt().item()
            assert spread == pytest.approx(0.01, rel=6 / (2 * parameter.numel()) ** 0.5)


# ---- forward


def test_positions_count_from_the_newest_item() -> None:
    assert position_ids(torch.tensor([4, 2, 5]), 5).tolist() == [[4, 3, 2, 1, 0], [2, 1, 0, 0, 0], [5, 4, 3, 2, 1]]


@EACH
def test_padding_changes_nothing(kind: str) -> None:
    net, batch = build(kind), random_batch()
    wider = replace(batch, history_BL=functional.pad(batch.history_BL, (0, 5)))
    if kind.startswith("mind"):
        fixed_BKL = torch.randn(len(batch), 3, wider.history_BL.shape[1])
        net.routing_logits = lambda batch, phase: fixed_BKL[:, :, : batch.history_BL.shape[1]]
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
def test_training_scores_use_the_interest_nearest_to_the_target(kind: str) -> None:
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


def test_finetune_scores_are_equal_in_both_phases() -> None:
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
