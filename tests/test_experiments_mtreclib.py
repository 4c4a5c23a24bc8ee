"""conf/experiment/aliexpress/mtreclib_*.yaml have MTReclib's settings (docs/methods/multitask.md#mtreclib-protocol)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from stemlab.config.compose import compose
from stemlab.data.spec import DatasetSpec, Field
from stemlab.models import parameter_counts
from stemlab.runs.build import build_net

CONF = Path(__file__).resolve().parents[1] / "conf"
FOLDER = CONF / "experiment/aliexpress"
WIDTH = (16 + 1) * 128


def layer(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def hidden(inputs: int, *widths: int) -> int:
    """Parameters of linear + batch norm layers."""
    return sum(layer(a, b) + 2 * b for a, b in zip((inputs, *widths[:-1]), widths, strict=True))


NUMERICAL = layer(63, 128)
BOTTOM = hidden(WIDTH, 512, 256)
TOWER = hidden(256, 128, 64) + layer(64, 1)
PLE = 12 * (hidden(WIDTH, 512) + hidden(512, 256)) + 2 * (layer(WIDTH, 8) + layer(512, 8))
PLE_SHARED_GATES = layer(WIDTH, 12) + layer(512, 12)
# file -> dense parameters
FILES = {
    "single_task_click": BOTTOM + TOWER,
    "single_task_conversion": BOTTOM + TOWER,
    "shared_bottom": BOTTOM + 2 * TOWER,
    "omoe": 8 * BOTTOM + layer(WIDTH, 8) + 2 * TOWER,
    "mmoe": 8 * BOTTOM + 2 * layer(WIDTH, 8) + 2 * TOWER,
    "ple": PLE + PLE_SHARED_GATES + 2 * TOWER,
    "aitm": 2 * BOTTOM + 4 * layer(256, 256) + 2 * TOWER,
    "metaheac": 8 * BOTTOM + 5 * TOWER + layer(256, 8) + layer(256, 5) + 2 * 128,
}


def spec(fields: int = 16, numericals: int = 63) -> DatasetSpec:
    columns = [Field(f"c{n}", 5) for n in range(fields)] + [Field(f"x{n}", 0, "numerical") for n in range(numericals)]
    return DatasetSpec("aliexpress", tuple(columns), ("click", "conversion"), scenarios=("nl",))


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"mtreclib_{name}.yaml").read_text())


def model_of(name: str) -> str:
    return name.removesuffix("_click").removesuffix("_conversion")


def test_no_file_is_left_out() -> None:
    assert {path.stem.removeprefix("mtreclib_") for path in FOLDER.glob("mtreclib_*.yaml")} == set(FILES)


@cache
def experiment(name: str) -> dict[str, Any]:
    """Return the composed config of a file; tests only read it."""
    return compose("train", [f"experiment=aliexpress/mtreclib_{name}"])


@pytest.mark.parametrize("name", FILES)
def test_training(name: str) -> None:
    family = model_of(name)
    assert read(name)["defaults"] == [{"override /model": family}, {"override /dataset": "aliexpress"}]
    config = experiment(name)
    model, dataset, optim, stop = config["model"], config["dataset"], config["optim"], config["callbacks"]["early_stop"]
    meta = 2 if name == "metaheac" else 1  # two published batches make one step of its meta training
    assert (dataset["scenarios"], dataset["batch_size"]) == (["nl"], 2048 * meta)
    assert (model["embedding_regularizer"], model["net_regularizer"], model["loss_reduction"]) == (1e-6, 1e-6, "mean")
    assert (optim["lr"], optim["clip_norm"], optim["plateau"]["enabled"]) == (1e-3, None, False)
    assert (stop["patience"], config["trainer"]["max_epochs"]) == (2, 50)


@pytest.mark.parametrize("name", FILES)
def test_network(name: str) -> None:
    config = experiment(name)
    assert config["model"]["scenario_feature"] is False
    net = build_net(config, spec())
    assert net.embedding.output_width == WIDTH
    assert parameter_counts(net)["dense"] == NUMERICAL + FILES[name]
    assert net.embedding.tables[0].weight.abs().max() > 0.1  # Xavier-uniform over 80 rows, not N(0, 1e-4)
    assert config["model"]["net"]["net_dropout"] == 0.2
