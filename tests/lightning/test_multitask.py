"""The multi-task module: loss, clipping, plateau, exact metrics, content of checkpoints."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from torch import Tensor, nn

from stemlab.callbacks.checkpoint import BestCheckpoint
from stemlab.callbacks.early_stop import EarlyStop
from stemlab.data.batch import ImpressionBatch
from stemlab.errors import StemlabError
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.settings import ModuleSettings
from stemlab.lightning.unused_parameters import has_unused_parameters
from stemlab.metrics import MultiTaskMetrics, auc
from stemlab.models.multitask.mmoe import MMoE
from stemlab.models.multitask.stem import STEM
from stemlab.optim import OptimConfig, Penalty, PlateauConfig
from tests.lightning.toy_data import SPEC, Toy

SMALL = {"embedding_dim": 4, "tower_hidden_units": [4], "gate_hidden_units": [4], "expert_hidden_units": [6]}


def net(tasks: tuple[str, ...] = SPEC.tasks, dropout: float = 0.0) -> nn.Module:
    seed_everything(0, verbose=False)
    return MMoE(SPEC.field_sizes, tasks, num_experts=2, net_dropout=dropout, **SMALL)


def module(tasks: tuple[str, ...] = SPEC.tasks, dropout: float = 0.0, **settings) -> MultiTaskModule:
    optim = settings.pop("optim", OptimConfig(lr=0.05))
    return MultiTaskModule(net(tasks, dropout), SPEC, tasks, ModuleSettings(optim=optim, **settings))


def trainer(tmp_path: Path, *callbacks: Callback, epochs: int = 1, **settings) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=any(isinstance(c, BestCheckpoint) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
        **settings,
    )


class Watch(Callback):
    """Record the losses of the steps and the learning rates of the epochs."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.losses.append(float(outputs["loss"]))

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_the_loss_is_the_sum_of_the_tasks_mean_cross_entropies(tmp_path: Path) -> None:
    toy, watch, made = Toy(), Watch(), module()
    toy.setup()
    loader = toy.train_dataloader()
    first = next(iter(loader))
    prob_BT = made(first).detach().numpy().astype(np.float64)
    labels_BT = first.labels_BT.numpy()
    expected = -(labels_BT * np.log(prob_BT) + (1 - labels_BT) * np.log(1 - prob_BT)).mean(axis=0).sum()
    trainer(tmp_path, watch, limit_train_batches=1).fit(made, datamodule=toy)
    assert watch.losses[0] == pytest.approx(expected, rel=1e-6)


def test_metrics_pool_all_samples_of_the_split(tmp_path: Path) -> None:
    toy, made = Toy(), module()
    trainer(tmp_path).validate(made, datamodule=toy, verbose=False)
    rows = toy.rows["valid"]
    with torch.no_grad():
        prob_BT = made(ImpressionBatch(torch.from_numpy(rows.ids))).numpy()
    for column, task in enumerate(SPEC.tasks):
        assert made.metric_values[f"val/auc/{task}"] == auc(rows.labels[:, column], prob_BT[:, column])
    assert made.metric_values["val/gauc"] == made.metric_values["val/gauc_encoded"]  # both are the same users here


def test_one_task_uses_its_own_labels(tmp_path: Path) -> None:
    toy, made = Toy(), module(tasks=("like",))
    trainer(tmp_path).test(made, datamodule=toy, verbose=False)
    rows = toy.rows["test"]
    with torch.no_grad():
        prob_BT = made(ImpressionBatch(torch.from_numpy(rows.ids))).numpy()
    assert (
        made.metric_values["test/auc"] == made.metric_values["test/auc/like"] == auc(rows.labels[:, 1], prob_BT[:, 0])
    )


# An epoch improves if value >= best + 1e-6: the gain of the second is too small, that of the third sufficient.
SERIES = [0.5, 0.5 + 5e-7, 0.5 + 1.5e-6, 0.5, 0.4, 0.4]


@pytest.fixture
def fixed_metrics(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the validation metrics by a series of values."""
    left = list(SERIES)

    def compute(self: MultiTaskMetrics) -> dict[str, float]:
        return {"auc": left.pop(0)}

    monkeypatch.setattr(MultiTaskMetrics, "compute", compute)
    return left


def test_the_learning_rate_is_reduced_after_an_epoch_without_improvement(
    fixed_metrics: list[float], tmp_path: Path
) -> None:
    watch, plateau = Watch(), PlateauConfig(min_lr=2e-4)
    trainer(tmp_path, watch, epochs=6).fit(module(optim=OptimConfig(lr=0.1, plateau=plateau)), datamodule=Toy())
    assert watch.rates == pytest.approx([0.1, 0.01, 0.01, 0.001, 2e-4, 2e-4])


def test_a_disabled_plateau_keeps_the_learning_rate(fixed_metrics: list[float], tmp_path: Path) -> None:
    watch, optim = Watch(), OptimConfig(lr=0.1, plateau=PlateauConfig(enabled=False))
    trainer(tmp_path, watch, epochs=6).fit(module(optim=optim), datamodule=Toy())
    assert watch.rates == [0.1] * 6


@pytest.mark.parametrize(("patience", "epochs", "best"), [(1, 2, 0), (2, 5, 2), (3, 6, 2)])
def test_early_stop_counts_epochs_without_improvement(
    patience: int, epochs: int, best: int, fixed_metrics: list[float], tmp_path: Path
) -> None:
    keep = BestCheckpoint(tmp_path, "val/auc", "max", 1e-6, save_last=True)
    fit = trainer(tmp_path, EarlyStop("val/auc", "max", patience, 1e-6), keep, epochs=6)
    fit.fit(module(), datamodule=Toy())
    assert fit.current_epoch == epochs
    assert keep.improvement.epoch == best
    assert torch.load(keep.best_path, weights_only=True)["epoch"] == best
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == epochs - 1


def test_a_metric_to_minimise_can_be_monitored(fixed_metrics: list[float], tmp_path: Path) -> None:
    watch = Watch()
    made = module(optim=OptimConfig(lr=0.1), monitor_mode="min")
    trainer(tmp_path, watch, epochs=6).fit(made, datamodule=Toy())
    assert watch.rates == pytest.approx([0.1, 0.01, 0.001, 1e-4, 1e-4, 1e-5])


def test_an_undefined_metric_does_not_stop_the_training(tmp_path: Path) -> None:
    """Without positives: a warning, constant learning rate, no early stop; the latest epoch is the best."""
    keep, watch, made = BestCheckpoint(tmp_path, "val/auc", "max", 1e-6, save_last=False), Watch(), module()
    fit = trainer(tmp_path, watch, EarlyStop("val/auc", "max", 1, 1e-6), keep, epochs=3)
    fit.fit(made, datamodule=Toy(valid_positive=0))
    assert fit.current_epoch == 3
    assert math.isnan(made.metric_values["val/auc"])
    assert not math.isnan(made.metric_values["val/logloss"])
    assert watch.rates == [0.05] * 3
    assert keep.improvement.best is None
    assert torch.load(keep.best_path, weights_only=True)["epoch"] == 2
    assert any(reason.startswith("val/auc/like ") and "51 labels are 0" in reason for reason in made.metric_warnings)
    assert len(made.metric_warnings) == len(set(made.metric_warnings))
    assert not (tmp_path / "last.ckpt").exists()


def test_an_unknown_monitor_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(StemlabError, match=r"'val/acu' .*mean 'val/auc'"):
        trainer(tmp_path).fit(module(monitor="val/acu"), datamodule=Toy())


def test_clipping_and_penalty_reach_the_optimiser(tmp_path: Path) -> None:
    """With a gradient norm far below eps, the first step of Adam is far below lr."""
    free = module(optim=OptimConfig(lr=0.05, eps=1e-3, clip_norm=None))
    clipped = module(optim=OptimConfig(lr=0.05, eps=1e-3, clip_norm=1e-6))
    start = [p.detach().clone() for p in free.net.parameters()]
    for made in (free, clipped):
        trainer(tmp_path, limit_train_batches=1, limit_val_batches=1).fit(made, datamodule=Toy())
    moved = [
        max(float((p.detach() - s).abs().max()) for p, s in zip(made.net.parameters(), start, strict=True))
        for made in (free, clipped)
    ]
    assert moved[0] > 0.01
    assert 0 < moved[1] < 1e-4
    heavy = module(embedding_penalty=Penalty(l2=10.0))
    trainer(tmp_path, epochs=3).fit(heavy, datamodule=Toy())
    light = module()
    trainer(tmp_path, epochs=3).fit(light, datamodule=Toy())
    norms = [sum(float(p.detach().norm()) for p in made.net.embedding_parameters()) for made in (heavy, light)]
    assert norms[0] < 0.5 * norms[1]


def test_a_nan_loss_stops_the_training(tmp_path: Path) -> None:
    made = module()
    with torch.no_grad():
        made.net.embedding_parameters()[0].fill_(float("nan"))
    with pytest.raises(StemlabError, match=r"nan in epoch 1, step 1 \(.*0.05\): lower optim.lr"):
        trainer(tmp_path).fit(made, datamodule=Toy())


def test_dropout_depends_on_seed_and_epoch_only(tmp_path: Path) -> None:
    """Random numbers drawn elsewhere (data loaders, loggers) do not change the dropout masks."""

    class Draw(Callback):
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            torch.rand(17)

    losses = []
    for callbacks, seed in (([], 1), ([Draw()], 1), ([], 2)):
        watch = Watch()
        fit = trainer(tmp_path, watch, *callbacks, epochs=2)
        fit.fit(module(dropout=0.5, seed=seed), datamodule=Toy())
        losses.append(watch.losses)
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_scores_are_float32_under_autocast() -> None:
    made = module()
    batch = ImpressionBatch(torch.ones((3, 2), dtype=torch.int32))
    with torch.autocast("cpu", torch.bfloat16):
        assert made(batch).dtype == torch.float32
    assert torch.equal(made(batch), torch.sigmoid(made.net(batch).logit_BT))


def test_samples_without_labels_cannot_be_measured() -> None:
    with pytest.raises(StemlabError, match="no labels"):
        module().test_step(ImpressionBatch(torch.ones((3, 2), dtype=torch.int32)), 0)


def test_metric_states_are_not_in_the_checkpoint() -> None:
    assert all(name.startswith("net.") for name in module().state_dict())


def test_compiling_keeps_the_names_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    made, called = module(compile=True), []
    monkeypatch.setattr(made.net, "compile", lambda **settings: called.append("compiled"))
    before = list(made.state_dict())
    made.setup("validate")
    assert called == []
    made.setup("fit")
    assert called == ["compiled"]
    assert list(made.state_dict()) == before


def test_evaluation_is_never_compiled() -> None:
    """A compiled network rounds differently; recorded metrics must equal those of ``stemlab.evaluate``."""
    made, compiled = module(), []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        compiled.append(graph)
        return graph.forward

    made.net.compile(backend=backend)
    batch = ImpressionBatch(torch.ones((3, 2), dtype=torch.int32))
    made(batch)
    assert compiled == []
    made.net(batch)
    assert compiled


class WithUnused(nn.Module):
    """One used and one unused weight."""

    def __init__(self, used_only: bool) -> None:
        super().__init__()
        self.used = nn.Parameter(torch.ones(1))
        self.unused = nn.Parameter(torch.ones(1), requires_grad=not used_only)

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        return {"user": {}}

    def forward(self, batch: ImpressionBatch):
        return type("Output", (), {"logit_BT": batch.ids_BF.float() + self.used})


def test_unused_parameters_are_found() -> None:
    assert has_unused_parameters(WithUnused(used_only=False))
    assert not has_unused_parameters(WithUnused(used_only=True))


def test_stem_has_unused_parameters_and_mmoe_has_none() -> None:
    """The output of the last shared gate is not used (docs/methods/stem.md#shared-gate)."""
    stem = STEM(SPEC.field_sizes, SPEC.tasks, num_shared_experts=2, num_specific_experts=1, num_layers=1, **SMALL)
    stem.train()
    assert has_unused_parameters(stem)
    assert stem.training
    assert all(p.grad is None for p in stem.parameters())
    assert not has_unused_parameters(net())
