"""Checkpoints of small networks with random weights, made without a training."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.runs.build import build_datamodule, build_module
from tests import tiny_datasets
from tests.data.table.list_rows import DESCRIBED_LOG, click_log
from tests.test_matrix import small


@dataclass
class SmallCheckpoint:
    """A checkpoint, the datamodule of its dataset and the network."""

    path: Path
    data: Any
    net: nn.Module


PRODUCTS = ("mmfi",)
"""Networks that multiply embeddings with several weights: small ones would give equal scores."""
_overrides: dict[tuple[str, Path], list[str]] = {}


def list_overrides(home: Path) -> list[str]:
    """Write a table with multi-valued fields and sequences, and return the overrides that select it."""
    click_log(200).to_parquet(home / "log.parquet")
    (home / "log.yaml").write_text(yaml.safe_dump(DESCRIBED_LOG))
    words = ["dataset=table", f"dataset.path={home}/log.parquet", f"dataset.config={home}/log.yaml"]
    return [*words, f"paths.data_dir={home}"]


def small_checkpoint(model: str, dataset: str, home: Path, *overrides: str) -> SmallCheckpoint:
    """Write ``home/<model>_<dataset>.ckpt``.

    Args:
        model: option of the group ``model``.
        dataset: one of ``tiny_datasets.NAMES``, or ``lists`` (``list_overrides``); prepared in ``home`` once.
        home: a folder for everything.
        overrides: further settings.
    """
    if (dataset, home) not in _overrides:
        lists = dataset == "lists"
        _overrides[dataset, home] = list_overrides(home) if lists else tiny_datasets.overrides(dataset, home)
    config = compose("train", [f"model={model}", *_overrides[dataset, home], *overrides])
    config["model"]["net"] = small(config["model"]["net"])
    data = build_datamodule(config)
    data.prepare()
    module = _built(config, data)
    randomise(module.net, 1.0 if model in PRODUCTS else 0.5)
    path = home / f"{model}_{dataset}.ckpt"
    state = {f"net.{name}": tensor for name, tensor in module.net.state_dict().items()}
    saved = {"hyper_parameters": dict(module.hparams), "state_dict": state, "epoch": 0, "global_step": 1}
    torch.save(saved, path)
    return SmallCheckpoint(path, data, module.net)


def _built(config: dict[str, Any], data: Any) -> Any:
    """Return the module; where a setting does not fit the prepared data, apply the advice of the error message."""
    try:
        return build_module(config, data)
    except StemlabError as error:
        advice = re.search(r"set model\.net\.(\w+)=(\w+)", str(error))
    assert advice is not None
    config["model"]["net"][advice[1]] = yaml.safe_load(advice[2])
    return build_module(config, data)


@torch.no_grad()
def randomise(net: nn.Module, largest: float) -> None:
    """Draw all weights and running statistics, so that no part of the network is neutral."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.rand(tensor.shape, generator=generator)
            scale = 0.2 if ".gru" in f".{name}" else largest  # large weights make a GRU chaotic
            tensor.copy_(0.5 + drawn if name.endswith("running_var") else scale * (2 * drawn - 1))
