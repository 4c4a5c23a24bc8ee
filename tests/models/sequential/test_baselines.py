"""Contracts of the sequential networks with one vector per user."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from stemlab.config.instantiate import instantiate
from stemlab.data.batch import SequenceBatch
from stemlab.models import parameter_counts
from tests.conf_files import model_config
from tests.models.sequential.nets import NETS, READING, SETTINGS, SIZES, TRAINED, build, random_batch


def wider(batch: SequenceBatch, columns: int) -> SequenceBatch:
    """Return the batch with more padding."""
    wide = {name: functional.pad(getattr(batch, name), (0, columns)) for name in ("history_BL", "time_BL")}
    return replace(batch, **wide)


def take_samples(batch: SequenceBatch, samples: slice) -> SequenceBatch:
    """Return some samples of a batch."""
    return replace(
        batch, **{name: getattr(batch, name)[samples] for name in batch.__slots__ if getattr(batch, name) is not None}
    )


@pytest.mark.parametrize("name", NETS)
def test_vectors_give_the_scores_of_evaluation(name: str) -> None:
    net, batch = build(name).eval(), random_batch(candidates=9)
    user_BKD, item_ID = net.represent(batch), net.item_vectors()
    assert user_BKD.shape[:2] == (12, 1)
    assert item_ID.shape == (SIZES.items + 1, user_BKD.shape[2])
    expected = (user_BKD @ item_ID.T).amax(dim=1).gather(1, batch.candidates_BN)
    torch.testing.assert_close(net(batch, "eval").score_BN, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_phases_are_the_same(name: str) -> None:
    net, batch = build(name), random_batch()
    assert torch.equal(net(batch, "train").score_BN, net(batch, "eval").score_BN)


@pytest.mark.parametrize("name", NETS)
def test_padding_changes_nothing(name: str) -> None:
    net, batch = build(name).eval(), random_batch()
    scores = net(batch).score_BN
    torch.testing.assert_close(net(wider(batch, 3)).score_BN, scores, rtol=1e-5, atol=1e-6)
    alone = take_samples(batch, slice(0, 1))
    narrow = replace(alone, history_BL=alone.history_BL[:, :1], time_BL=alone.time_BL[:, :1])
    torch.testing.assert_close(net(narrow).score_BN, scores[:1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", READING)
def test_the_padding_row_is_not_trained(name: str) -> None:
    net, batch = build(name), random_batch()
    sum(net.losses(net(batch, "train")).values()).backward()
    assert not net.items.weight.grad[0].any()
    assert net.items.weight.grad[batch.history_BL[0, 0]].any()


@pytest.mark.parametrize("name", READING)
def test_scores_depend_on_the_last_item(name: str) -> None:
    net, batch = build(name).eval(), random_batch()
    history_BL = batch.history_BL.clone()
    last_B = batch.length_B - 1
    samples = torch.arange(len(batch))
    history_BL[samples, last_B] = history_BL[samples, last_B] % SIZES.items + 1
    changed = net(replace(batch, history_BL=history_BL)).score_BN != net(batch).score_BN
    assert bool(changed.any(dim=1).all())


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_is_trained(name: str) -> None:
    net = build(name)
    sum(net.losses(net(random_batch(64), "train")).values()).backward()
    gradients = {key: parameter.grad for key, parameter in net.named_parameters()}
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients.values())


@pytest.mark.parametrize("name", TRAINED)
def test_state_dict_restores_the_scores(name: str) -> None:
    net, other, batch = build(name).eval(), build(name, seed=1).eval(), random_batch()
    with torch.no_grad():
        before = net(batch).score_BN
        assert not torch.equal(other(batch).score_BN, before)
        other.load_state_dict(net.state_dict())
        assert torch.equal(other(batch).score_BN, before)


@pytest.mark.parametrize("name", TRAINED)
def test_bfloat16_autocast(name: str) -> None:
    net, batch = build(name), random_batch()
    full = net(batch).score_BN
    with torch.autocast("cpu", torch.bfloat16):
        output = net(batch)
        loss = net.losses(output)["rank"]
    torch.testing.assert_close(output.score_BN.float(), full, atol=0.15, rtol=0.1)
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.dtype == torch.float32 and bool(p.grad.isfinite().all()) for p in net.parameters())


@pytest.mark.parametrize("name", NETS)
def test_tables_are_views_of_the_parameters(name: str) -> None:
    net = build(name)
    views = [view for roles in net.embedding_tables().values() for view in roles.values()]
    parameters = {parameter.data_ptr(): parameter for parameter in net.parameters()}
    assert all(parameters[view.data_ptr()].shape == view.shape for view in views)
    tables = [module.weight for module in net.modules() if isinstance(module, torch.nn.Embedding)]
    assert len(views) == len(tables)


@pytest.mark.parametrize("name", NETS)
def test_configs_hold_all_settings_with_their_defaults(name: str) -> None:
    values = model_config(name.lower())
    settings = inspect.signature(NETS[name].__init__).parameters.values()
    defaults = {s.name: s.default for s in settings if s.kind is inspect.Parameter.KEYWORD_ONLY}
    assert {key: value for key, value in values["net"].items() if key != "_target_"} == defaults
    assert (values["family"], values["name"], values["max_epochs"]) == ("sequential", name.lower(), 200)
    assert set(SETTINGS[name]) <= set(defaults)


# Parameters at d = 64, H = 20, I = 100, U = 50; tables have a row 0.
TABLE, USERS, POSITIONS, LAYER = 101 * 64, 51 * 64, 21 * 64, 12_480 + 8_320 + 256
SIZE = {
    "YouTube": TABLE + 4_160,
    "GRU4Rec": TABLE + 24_960 + 4_160,
    "SASRec": TABLE + POSITIONS + LAYER,
    "TiSASRec": TABLE + 2 * POSITIONS + 2 * 513 * 64 + LAYER,
    "BPRMF": TABLE + USERS,
    "LightGCN": TABLE + USERS,
    "POP": 0,
}


@pytest.mark.parametrize("name", NETS)
def test_sizes_and_initial_values(name: str) -> None:
    torch.manual_seed(0)
    net = instantiate(model_config(name.lower())["net"], replace(SIZES, users=50, items=100, history_max=20))
    assert sum(parameter_counts(net).values()) == SIZE[name]
    for key, parameter in net.named_parameters():
        if key.startswith("gru."):
            assert parameter.abs().max() <= 1 / 8  # PyTorch's initial values
            assert parameter.std() > 0.06
        elif ".norm" in key:
            assert torch.equal(parameter, torch.full_like(parameter, float(key.endswith("weight"))))
        elif name == "LightGCN":
            bound = (6 / sum(parameter.shape)) ** 0.5
            assert 0.98 * bound < parameter.abs().max() <= bound
        else:
            assert parameter.std().item() == pytest.approx(0.01, rel=6 / (2 * parameter.numel()) ** 0.5)
