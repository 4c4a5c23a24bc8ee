"""Every model on every dataset: it trains one step, or is refused in one sentence before data is read.

New files of ``conf/model`` and ``conf/dataset`` are included automatically. Models and datasets are composed once each
and their configs joined: a dataset changes only its own node, which a test below checks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stemlab.config.compose import CommandLine, compose, compose_job, hydra_context
from stemlab.config.cross_checks import effective_tasks
from stemlab.config.instantiate import import_target
from stemlab.config.validate import validate
from stemlab.errors import StemlabError
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.nn.init import SkipInit
from stemlab.nn.loss import task_losses
from stemlab.runs.build import build_datamodule, build_module
from tests import tiny_datasets
from tests.conf_files import model_config, model_names

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
    with hydra_context(CommandLine("train")):
        for model, file in MODELS.items():
            fitting = "ml1m" if file["family"] == "sequential" else "tiktok"
            models[model] = compose_job("train", [f"model={model}", f"dataset={fitting}", f"paths.data_dir={home}"])
            models[model]["model"]["net"] = small(models[model]["model"]["net"])
        for name in tiny_datasets.NAMES:
            datasets[name] = compose_job("train", tiny_datasets.overrides(name, home))["dataset"]
    return models, datasets


@pytest.fixture(scope="module")
def prepared() -> Callable[[Config, str], Any]:
    """Return the datamodule of a dataset, prepared once per set of columns that a model needs."""
    made: dict[tuple[str, bool, bool], Any] = {}

    def prepare(config: Config, name: str) -> Any:
        fresh = build_datamodule(config)
        key = (name, *(getattr(fresh, asked, False) for asked in ("first_interactions", "with_categories")))
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
        loss = task_losses(output.logit_BT, module.labels(batch)).sum()
        loss = loss if output.penalty is None else loss + output.penalty
    else:
        loss = torch.stack(list(module.net.losses(module.net(batch, "train")).values())).sum()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def refusal(config: Config) -> str | None:
    """Return the error of validating the config, or None; no data is read."""
    try:
        validate("train", config)
    except StemlabError as error:
        return str(error)
    return None


def built(config: Config, data: Any) -> Any:
    """Return the module; where a setting does not fit the prepared data, apply the advice of the error message."""
    try:
        return build_module(config, data)
    except StemlabError as error:
        message = str(error)
    assert "\n" not in message
    advice = re.search(r"set model\.net\.(\w+)=(\w+)", message)
    assert advice is not None, message
    changed = config["model"]["net"] | {advice[1]: yaml.safe_load(advice[2])}
    return build_module(config | {"model": config["model"] | {"net": changed}}, data)


@pytest.mark.parametrize("dataset", tiny_datasets.NAMES)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_on_a_dataset(composed: Any, prepared: Any, model: str, dataset: str) -> None:
    config = joined(composed, model, dataset)
    message = refusal(config)
    if (MODELS[model]["family"] == "sequential") != tiny_datasets.is_sequential(dataset):
        assert message is not None
        assert f"model={model} and dataset={tiny_datasets.dataset_of(dataset)} " in message
    elif message is not None:  # of the same family: only a number of tasks that the network cannot learn
        net = import_target(config["model"]["net"])
        with pytest.raises(StemlabError):
            net.check_tasks(effective_tasks(config))
    if message is not None:
        assert "\n" not in message
        assert message.endswith(".")
        return
    data = prepared(config, dataset)
    if getattr(data, "with_categories", False) and data.item_categories is None:
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
def test_a_rebuilt_network_equals_the_saved_one(composed: Any, prepared: Any, model: str) -> None:
    """Parameters come from the checkpoint; buffers that it does not hold are computed again to the same values."""
    dataset = "beauty" if MODELS[model]["family"] == "sequential" else "aliexpress"
    config = joined(composed, model, dataset)
    data = prepared(config, dataset)
    torch.manual_seed(1)
    saved = built(config, data).net
    with SkipInit():
        rebuilt = built(config, data).net
    rebuilt.load_state_dict(saved.state_dict(), assign=True)
    for kind in ("named_parameters", "named_buffers"):  # buffers that are not saved, too
        found, wanted = dict(getattr(rebuilt, kind)()), dict(getattr(saved, kind)())
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.equal(found[name], value), name
            assert found[name].requires_grad == value.requires_grad, name


def test_the_datasets_cover_scenarios_numericals_and_shared_tables(composed: Any, prepared: Any) -> None:
    """Otherwise the matrix would not test them."""
    shared = prepared(joined(composed, "mmoe", "tenrec_shared"), "tenrec_shared")
    assert shared.spec.sizes.tables["hist_10"] == "item_id"
    data = prepared(joined(composed, "mmoe", "tenrec_scenarios"), "tenrec_scenarios")
    batch = next(iter(data.train_dataloader()))
    assert set(batch.scenario_B.tolist()) == {0, 1}
    assert data.spec.scenarios == ("QK-video", "QB-video")
    table = next(iter(prepared(joined(composed, "mmoe", "table"), "table").train_dataloader()))
    assert (set(table.scenario_B.tolist()), table.dense_BN.shape) == ({0, 1, 2}, (32, 1))


@pytest.mark.parametrize(("model", "dataset"), [("stem", "tenrec"), ("sasrec", "ml100k"), ("single_task", "tiktok")])
def test_joined_configs_equal_composed_ones(composed: Any, model: str, dataset: str, tmp_path: Path) -> None:
    whole = compose("train", [f"model={model}", *tiny_datasets.overrides(dataset, tmp_path)])
    made = joined(composed, model, dataset)
    whole["model"]["net"] = small(whole["model"]["net"])
    for config in (whole, made):
        config["dataset"] = {key: value for key, value in config["dataset"].items() if not key.endswith("_dir")}
    assert {key: value for key, value in whole.items() if key != "paths"} == {
        key: value for key, value in made.items() if key != "paths"
    }
