"""Every model on every dataset: it trains a step there, or refuses in one sentence before data is read.

Files of ``conf/model`` and ``conf/dataset`` that come later are included. Models and datasets are composed once each
and their configs joined: a dataset brings nothing but itself, which a test below checks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stemlab.config.compose import CommandLine, compose, plain_job, session
from stemlab.config.cross_checks import effective_tasks
from stemlab.config.instantiate import import_target
from stemlab.config.validate import validate
from stemlab.errors import StemlabError
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.nn.init import Undrawn
from stemlab.nn.loss import task_losses
from stemlab.runs.build import build_datamodule, build_module
from tests import tiny_worlds
from tests.model_files import model_config, model_names

MODELS = {name: model_config(name) for name in model_names()}
WIDTHS = ("hidden_units",)  # endings of settings that are lists of widths
Config = dict[str, Any]


def small(net: Config) -> Config:
    """Return a network's settings in a small size: nothing of its structure changes."""
    made = dict(net)
    for key, value in net.items():
        if key == "embedding_dim":
            made[key] = 8
        elif key.endswith(WIDTHS) and isinstance(value, list):
            made[key] = [8] * len(value)
        elif key.startswith("num_") and key.endswith("experts"):
            made[key] = min(value, 2)
    return made


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Config], dict[str, Config]]:
    """Configs of all models, and of all datasets."""
    home = tmp_path_factory.mktemp("matrix")
    models, datasets = {}, {}
    with session(CommandLine("train")):
        for model, file in MODELS.items():
            fitting = "ml1m" if file["family"] == "sequential" else "tiktok"
            models[model] = plain_job("train", [f"model={model}", f"dataset={fitting}", f"paths.data_dir={home}"])
            models[model]["model"]["net"] = small(models[model]["model"]["net"])
        for name in tiny_worlds.NAMES:
            datasets[name] = plain_job("train", tiny_worlds.words(name, home))["dataset"]
    return models, datasets


@pytest.fixture(scope="module")
def prepared() -> Callable[[Config, str], Any]:
    """Return the datamodule of a dataset, prepared once; sequence models may ask it for more."""
    made: dict[tuple[str, bool, bool], Any] = {}

    def prepare(config: Config, name: str) -> Any:
        fresh = build_datamodule(config)
        key = (name, *(getattr(fresh, asked, False) for asked in ("first_interactions", "tells_categories")))
        if key not in made:
            fresh.prepare()
            made[key] = fresh
        return made[key]

    return prepare


def joined(composed: tuple[dict[str, Config], dict[str, Config]], model: str, dataset: str) -> Config:
    models, datasets = composed
    return models[model] | {"dataset": datasets[dataset]}


def step(module: Any, data: Any) -> float:
    """Train one step by hand and return the loss."""
    optimizer = module.configure_optimizers()
    batch = next(iter(data.train_dataloader()))
    module.train()
    if isinstance(module, MultiTaskModule):
        output = module.net(batch)
        loss = task_losses(output.logit_BT, batch.labels_BT[:, module._columns]).sum()
        loss = loss if output.penalty is None else loss + output.penalty
    else:
        loss = torch.stack(list(module.net.losses(module.net(batch, "train")).values())).sum()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def refusal(config: Config) -> str | None:
    """What the config says against the pair, before anything is read; one sentence or nothing."""
    try:
        validate("train", config)
    except StemlabError as error:
        return str(error)
    return None


def built(config: Config, data: Any) -> Any:
    """Return the module; where only the prepared data tell that a setting does not fit, do what the sentence says."""
    try:
        return build_module(config, data)
    except StemlabError as error:
        said = str(error)
    assert "\n" not in said
    advice = re.search(r"set model\.net\.(\w+)=(\w+)", said)
    assert advice is not None, said
    mended = config["model"]["net"] | {advice[1]: yaml.safe_load(advice[2])}
    return build_module(config | {"model": config["model"] | {"net": mended}}, data)


@pytest.mark.parametrize("dataset", tiny_worlds.NAMES)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_on_a_dataset(composed: Any, prepared: Any, model: str, dataset: str) -> None:
    config = joined(composed, model, dataset)
    said = refusal(config)
    if (MODELS[model]["family"] == "sequential") != tiny_worlds.is_sequential(dataset):
        assert said is not None
        assert f"model={model} and dataset={tiny_worlds.dataset_of(dataset)} " in said
    elif said is not None:  # of the same family: only a number of tasks that the network cannot learn
        net = import_target(config["model"]["net"])
        with pytest.raises(StemlabError):
            net.check_tasks(effective_tasks(config))
    if said is not None:
        assert "\n" not in said
        assert said.endswith(".")
        return
    data = prepared(config, dataset)
    if getattr(data, "tells_categories", False) and data.item_categories is None:
        with pytest.raises(StemlabError, match="category_dim=0"):
            build_module(config, data)
        return
    module = build_module(config, data)
    if not getattr(module.net, "needs_training", True):
        return
    before = [p.detach().clone() for p in module.net.parameters()]
    assert 0 < step(module, data) < 1e3
    after = [p.detach() for p in module.net.parameters()]
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(bool(torch.isfinite(p).all()) for p in after)


@pytest.mark.parametrize("model", MODELS)
def test_a_rebuilt_network_is_the_saved_one(composed: Any, prepared: Any, model: str) -> None:
    """Of what is not drawn again, everything is in the checkpoint; what no checkpoint holds is as it was."""
    dataset = "beauty" if MODELS[model]["family"] == "sequential" else "aliexpress"
    config = joined(composed, model, dataset)
    data = prepared(config, dataset)
    torch.manual_seed(1)
    saved = built(config, data).net
    with Undrawn():
        rebuilt = built(config, data).net
    rebuilt.load_state_dict(saved.state_dict(), assign=True)
    for kind in ("named_parameters", "named_buffers"):  # buffers that are not saved, too
        found, wanted = dict(getattr(rebuilt, kind)()), dict(getattr(saved, kind)())
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.equal(found[name], value), name
            assert found[name].requires_grad == value.requires_grad, name


def test_scenarios_numericals_and_shared_tables_are_there(composed: Any, prepared: Any) -> None:
    """Else the matrix would say nothing about them."""
    shared = prepared(joined(composed, "mmoe", "tenrec_shared"), "tenrec_shared")
    assert shared.spec.sizes.tables["hist_10"] == "item_id"
    data = prepared(joined(composed, "mmoe", "tenrec_scenarios"), "tenrec_scenarios")
    batch = next(iter(data.train_dataloader()))
    assert set(batch.scenario_B.tolist()) == {0, 1}
    assert data.spec.scenarios == ("QK-video", "QB-video")
    table = next(iter(prepared(joined(composed, "mmoe", "table"), "table").train_dataloader()))
    assert (set(table.scenario_B.tolist()), table.dense_BN.shape) == ({0, 1, 2}, (32, 1))


@pytest.mark.parametrize(("model", "dataset"), [("stem", "tenrec"), ("sasrec", "ml100k"), ("single_task", "tiktok")])
def test_joined_configs_are_composed_ones(composed: Any, model: str, dataset: str, tmp_path: Path) -> None:
    whole = compose("train", [f"model={model}", *tiny_worlds.words(dataset, tmp_path)])
    made = joined(composed, model, dataset)
    whole["model"]["net"] = small(whole["model"]["net"])
    for config in (whole, made):
        config["dataset"] = {key: value for key, value in config["dataset"].items() if not key.endswith("_dir")}
    assert {key: value for key, value in whole.items() if key != "paths"} == {
        key: value for key, value in made.items() if key != "paths"
    }
