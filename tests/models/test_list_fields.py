"""Every network for impressions trains on a table with multi-valued fields and behaviour sequences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from stemlab.config.instantiate import instantiate
from stemlab.data.sources.table import TableDataModule
from stemlab.nn.loss import task_losses
from stemlab.runs.random_batches import random_batch
from tests.accelerator import host_operations
from tests.conf_files import model_config, model_names
from tests.data.table.list_rows import DESCRIBED_LOG, click_log
from tests.data.table.rows import save, table

NETS = {name: file for name in model_names() if (file := model_config(name))["family"] != "sequential"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TableDataModule:
    folder = tmp_path_factory.mktemp("lists")
    made = table(folder, save(click_log(300), folder / "rows.parquet"), **DESCRIBED_LOG)
    made.prepare()
    return made


def build(name: str, data: TableDataModule) -> Any:
    """Return a network with narrow layers."""
    node = dict(NETS[name]["net"])
    for key, value in node.items():
        if key == "embedding_dim":
            node[key] = 4
        elif key.endswith("hidden_units") and value:
            node[key] = [6] * len(value)
    if name == "pepnet":
        node["personal_fields"] = ["user_id"]
    tasks = data.spec.tasks[:1] if name == "single_task" else data.spec.tasks
    torch.manual_seed(0)
    return instantiate(node, data.spec.sizes, tasks, key="model.net")


def loss_of(net: Any, batch: Any) -> torch.Tensor:
    labels_BT = batch.labels_BT[:, : len(net.tasks)]
    if hasattr(net, "meta_output"):
        output, labels_BT = net.meta_output(batch, labels_BT, lambda x, y: task_losses(x, y).sum())
    else:
        output = net(batch)
    return task_losses(output.logit_BT, labels_BT).sum()


@pytest.mark.parametrize("name", NETS)
def test_a_network_trains_on_lists(name: str, data: TableDataModule) -> None:
    net = build(name, data).train()
    inputs = net.embedding.inputs
    assert {"genres", "tags", "history", "history_categories", "recent"} < set(inputs)
    batch = next(iter(data.train_loader()))
    loss_of(net, batch).backward()
    pools = [part.lists for part in net.modules() if hasattr(part, "lists") and hasattr(part, "tables")]
    assert len(pools) == (len(NETS[name]["net"]["dims"]) if name == "ame" else 1)
    for parameter in [p for pool in pools for p in pool.parameters()]:
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    net.eval()
    other = replace(batch, list_ids_BK=batch.list_ids_BK.roll(1, 0))
    with torch.no_grad():
        for part in net.embedding_parameters():
            part.normal_()
        assert not torch.equal(net(batch).logit_BT, net(other).logit_BT)


@pytest.mark.parametrize("name", ["dcnv2", "stem", "mmfi"])
def test_a_step_with_lists_runs_without_the_host(name: str, data: TableDataModule) -> None:
    net, batch = build(name, data).train().to("meta"), next(iter(data.train_loader())).to("meta")
    with host_operations() as found:
        loss_of(net, batch).backward()
    assert found == []


def test_random_batches_have_lists(data: TableDataModule) -> None:
    batch = random_batch(data.spec, 5, 0)
    stored = next(iter(data.train_loader()))
    for name in ("list_ids_BK", "list_weights_BW"):
        assert getattr(batch, name).shape[1:] == getattr(stored, name).shape[1:]
        assert getattr(batch, name).dtype == getattr(stored, name).dtype
