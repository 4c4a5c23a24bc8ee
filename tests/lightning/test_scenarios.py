"""The module with scenarios and numerical features: inputs of networks, metrics, unused parameters."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stemlab.config.compose import compose
from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import Field
from stemlab.inference.score_rows import _slice_inputs
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.settings import ModuleSettings
from stemlab.lightning.unused_parameters import has_unused_parameters
from stemlab.models.api import MultiTaskOutput
from stemlab.optim import OptimConfig
from stemlab.runs.build import build_net
from tests.lightning.test_multitask import Watch, trainer
from tests.lightning.toy_data import SPEC, Toy

SCENARIOS = ("nl", "es", "fr")
MIXED = replace(
    SPEC,
    fields=(*SPEC.fields, Field("price", 0, kind="numerical"), Field("age", 0, kind="numerical")),
    scenarios=SCENARIOS,
)
WORDS = ["model.net.embedding_dim=4", "model.net.expert_hidden_units=[6]", "model.net.num_experts=2"]


def net(*words: str) -> nn.Module:
    torch.manual_seed(0)
    config = compose("train", ["model=mmoe", *WORDS, *words])
    config["dataset"]["tasks"] = list(SPEC.tasks)
    return build_net(config, MIXED)


def toy() -> Toy:
    made = Toy()
    for seed, rows in enumerate(made.rows.values()):
        rng = np.random.default_rng(seed)
        rows.dense = rng.random((len(rows), 2), dtype=np.float32)
        rows.scenario = rng.integers(0, 3, len(rows)).astype(np.int32)
    return made


def test_the_scenario_is_a_field_if_configured_and_given() -> None:
    width = 4 * (2 + 1)  # two fields, and all numerical features together
    assert net().embedding.output_width == width + 4
    assert net("model.scenario_feature=false").embedding.output_width == width
    assert build_net(compose("train", ["model=mmoe", *WORDS]), SPEC).embedding.output_width == 8  # no scenarios


def test_every_scenario_and_task_is_measured(tmp_path: Path) -> None:
    made = MultiTaskModule(net(), MIXED, SPEC.tasks, ModuleSettings(optim=OptimConfig(lr=0.01)))
    trainer(tmp_path).fit(made, datamodule=toy())
    names = {name for name in made.metric_values if name.startswith("val/auc")}
    assert names == {
        *("val/auc", "val/auc/finish", "val/auc/like"),
        *(f"val/auc/{task}/{scenario}" for task in SPEC.tasks for scenario in SCENARIOS),
    }
    assert made.scenarios == SCENARIOS


class WithPenalty(nn.Module):
    """A bias per task and a constant penalty of 3."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, batch: ImpressionBatch) -> MultiTaskOutput:
        return MultiTaskOutput(self.bias.expand(len(batch), 2), penalty=3.0 + 0 * self.bias.sum())


def test_the_penalty_of_a_network_is_part_of_the_loss(tmp_path: Path) -> None:
    watch = Watch()
    made = MultiTaskModule(WithPenalty(), SPEC, SPEC.tasks, ModuleSettings(optim=OptimConfig(lr=0.01)))
    fit = trainer(tmp_path, watch, limit_train_batches=1, log_every_n_steps=1)
    fit.fit(made, datamodule=Toy())
    assert watch.losses[0] == pytest.approx(2 * np.log(2) + 3, rel=1e-6)
    assert float(fit.callback_metrics["train/loss/penalty"]) == 3


class BiasPerScenario(nn.Module):
    """One bias per scenario; without ``all_of_them``, biases of scenarios without samples are not in the graph."""

    def __init__(self, all_of_them: bool) -> None:
        super().__init__()
        self.parts, self.all_of_them = nn.ParameterList(nn.Parameter(torch.zeros(1, 2)) for _ in SCENARIOS), all_of_them

    def forward(self, batch: ImpressionBatch) -> MultiTaskOutput:
        assert batch.dense_BN is not None
        assert batch.dense_BN.shape == (2, 2)
        present = [i for i in range(3) if self.all_of_them or bool((batch.scenario_B == i).any())]
        rows = [self.parts[i].expand(int((batch.scenario_B == i).sum()), 2) for i in present]
        return MultiTaskOutput(torch.cat(rows))

    def embedding_tables(self) -> dict[str, dict[str, torch.Tensor]]:
        return {}


def test_a_batch_may_lack_samples_of_a_scenario() -> None:
    """DDP must look for unused parameters if such a batch leaves parameters without a gradient."""
    assert has_unused_parameters(BiasPerScenario(all_of_them=False), MIXED.sizes)
    assert not has_unused_parameters(BiasPerScenario(all_of_them=True), MIXED.sizes)
    assert not has_unused_parameters(net(), MIXED.sizes)


def test_a_slice_of_inputs_keeps_numericals_and_scenarios() -> None:
    batch = ImpressionBatch(
        torch.arange(10).reshape(5, 2), dense_BN=torch.arange(5.0)[:, None], scenario_B=torch.arange(5) % 3
    )
    part = _slice_inputs(batch, slice(1, 3))
    assert part.ids_BF.tolist() == [[2, 3], [4, 5]]
    assert part.dense_BN is not None
    assert part.scenario_B is not None
    assert (part.dense_BN.tolist(), part.scenario_B.tolist()) == ([[1.0], [2.0]], [1, 2])
    plain = _slice_inputs(ImpressionBatch(batch.ids_BF), slice(1, 3))
    assert plain.dense_BN is plain.scenario_B is None
