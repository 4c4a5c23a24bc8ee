"""Every network for impressions trains regression labels, conditional labels and weights, or says why not."""

from __future__ import annotations

from dataclasses import replace

import torch

from stemlab.config.compose import CommandLine, compose_job, hydra_context
from stemlab.config.instantiate import import_target, instantiate
from stemlab.data.blocks import StepBlock
from stemlab.lightning.captured import StepBuffers
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.settings import ModuleSettings
from stemlab.optim import OptimConfig
from tests.conf_files import model_config, model_names
from tests.lightning.test_labels import SPEC, TASKS, samples
from tests.test_matrix import small

REFUSING = {"aitm", "esmm", "metaheac"}


def test_every_network_trains_all_kinds_of_labels_or_refuses() -> None:
    names = [name for name in model_names() if model_config(name)["family"] != "sequential"]
    refused = set()
    with hydra_context(CommandLine("train")):
        for name in names:
            model = compose_job("train", [f"model={name}", "dataset=tiktok"])["model"]
            if import_target(model["net"]).label_limits:
                refused.add(name)
                continue
            tasks = TASKS if name != "single_task" else TASKS[-1:]
            sizes = replace(SPEC.sizes, scenario_feature=model["scenario_feature"])
            net = instantiate(small(model["net"]), sizes, tasks)
            made = MultiTaskModule(net, SPEC, tasks, ModuleSettings(optim=OptimConfig(lr=0.05)))
            loss, parts = made.losses(samples(32))
            loss.backward()
            assert loss.isfinite(), name
            assert set(tasks) <= set(parts), name
    assert refused == REFUSING


def test_captured_steps_read_values_masks_and_weights() -> None:
    whole, rows = samples(48), torch.arange(48).view(3, 16)
    for copies in (False, True):
        buffers = StepBuffers.allocate(StepBlock(whole, rows), 3, copies)
        buffers.load(StepBlock(whole, rows), copies)
        for step in range(3):
            expected, found = whole.take(rows[step]).tensors(), buffers.batch().tensors()
            assert {"values_BV", "mask_BT", "weight_B"} <= set(found)
            assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
            buffers.step_1.add_(1)
