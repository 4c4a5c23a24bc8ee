"""Diagnostics of every multi-task model: all values are defined, and gate shares sum to 1."""

from pathlib import Path

import pytest

from stemlab.callbacks.diagnostics import diagnose
from stemlab.config.compose import CommandLine, compose_job, hydra_context
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.runs.build import build_datamodule, build_module
from tests import tiny_datasets
from tests.test_matrix import MODELS, small

MULTITASK = [name for name, file in MODELS.items() if file["family"] == "multitask"]
GATED = {"mmoe", "omoe", "ple", "stem", "mmoe_me", "ple_me", "ame", "hinet", "mmfi"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImpressionDataModule]:
    home = tmp_path_factory.mktemp("prepared")
    with hydra_context(CommandLine("train")):
        data = build_datamodule({"dataset": compose_job("train", tiny_datasets.overrides("tiktok", home))["dataset"]})
    data.prepare()
    assert isinstance(data, ImpressionDataModule)
    return home, data


@pytest.mark.parametrize("model", MULTITASK)
def test_logged_values_are_defined(model: str, prepared: tuple[Path, ImpressionDataModule]) -> None:
    home, data = prepared
    with hydra_context(CommandLine("train")):
        config = compose_job("train", [f"model={model}", f"paths.data_dir={home}"])
    config["model"]["net"] = small(config["model"]["net"])
    module = build_module(config, data)
    assert isinstance(module, MultiTaskModule)
    values = diagnose(module, data.train_dataloader().take(slice(0, 32)), "none")
    assert all(1 <= value <= 64 for name, value in values.items() if name.startswith("ia/"))
    assert any(name.startswith("ia/") for name in values)
    cosines = {name: value for name, value in values.items() if name.startswith("conflict/")}
    expected = {f"conflict/finish-like/{part}" for part in ("tables", "experts")} if len(module.tasks) > 1 else set()
    assert cosines.keys() == expected
    assert all(-1 <= value <= 1 for value in cosines.values())
    gates: dict[str, float] = {}
    for name, share in values.items():
        if name.startswith("gate/"):
            gate = name.rsplit("/", 1)[0]
            gates[gate] = gates.get(gate, 0.0) + share
    assert bool(gates) == (model in GATED)
    assert list(gates.values()) == pytest.approx([1.0] * len(gates), abs=1e-5)
