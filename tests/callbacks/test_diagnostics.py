"""Diagnostics of a network: logged values; the training is not affected."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.loggers import CSVLogger

from stemlab.analysis.collapse.spectra import BlockwiseMatrix, information_abundance, singular_values
from stemlab.callbacks.diagnostics import Diagnostics, abundance, diagnose, first_rows
from stemlab.data.batch import ImpressionBatch
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.settings import ModuleSettings
from stemlab.models.multitask.ple import PLE
from stemlab.models.multitask.stem import STEM
from stemlab.optim import OptimConfig
from tests.lightning.test_multitask import SMALL
from tests.lightning.toy_data import SPEC, Toy


def module(**settings) -> MultiTaskModule:
    seed_everything(0, verbose=False)
    net = STEM(
        SPEC.field_sizes, SPEC.tasks, num_layers=1, num_shared_experts=1, num_specific_experts=1, **SMALL, **settings
    )
    return MultiTaskModule(net, SPEC, SPEC.tasks, ModuleSettings(optim=OptimConfig(lr=0.05)))


def fit(tmp_path: Path, made: MultiTaskModule, *callbacks, epochs: int = 3) -> None:
    seed_everything(1, verbose=False)
    Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=CSVLogger(tmp_path, name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    ).fit(made, datamodule=Toy())


def batch(rows: int = 24) -> ImpressionBatch:
    made = Toy().rows["train"]
    return ImpressionBatch(torch.from_numpy(made.ids[:rows]), torch.from_numpy(made.labels[:rows]))


@pytest.mark.parametrize("settings", [{"net_dropout": 0.3}, {"batch_norm": True}])
def test_training_is_bit_identical_with_diagnostics(tmp_path: Path, settings) -> None:
    watched, alone = module(**settings), module(**settings)
    fit(tmp_path / "watched", watched, Diagnostics(1, 8, "l2"))
    after = torch.rand(1)
    fit(tmp_path / "alone", alone)
    assert torch.equal(after, torch.rand(1))
    for (name, one), other in zip(watched.state_dict().items(), alone.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert watched.training == alone.training


def test_every_logger_gets_the_values_at_the_interval(tmp_path: Path) -> None:
    made, watch = module(), Diagnostics(2, 8, "none")
    fit(tmp_path, made, watch, epochs=4)
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["diagnostics/ia/shared"]]
    assert [row["epoch"] for row in rows] == ["1", "3"]
    assert watch.values.keys() == {
        *("diagnostics/ia/shared", "diagnostics/ia/task:finish", "diagnostics/ia/task:like"),
        *(f"diagnostics/gate/{t}/{g}" for t in SPEC.tasks for g in ("shared", "task:finish", "task:like")),
        *(f"diagnostics/conflict/finish-like/{part}" for part in ("tables", "experts")),
    }
    assert {name: float(rows[-1][name]) for name in watch.values} == pytest.approx(watch.values)
    for task in SPEC.tasks:
        assert sum(x for name, x in watch.values.items() if f"gate/{task}/" in name) == pytest.approx(1)


def test_abundances_equal_those_of_the_analysis() -> None:
    table = torch.randn(70, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 3, 1, 0.3, 0.1, 0.03])
    for norm in ("l2", "none"):
        expected = information_abundance(singular_values(BlockwiseMatrix(table.numpy(), normalised=norm == "l2")))
        assert abundance(table, norm) == pytest.approx(expected, rel=1e-6)
    assert abundance(torch.eye(5), "none") == pytest.approx(5)
    assert abundance(torch.ones(9, 4), "none") == pytest.approx(1, abs=1e-6)
    assert math.isnan(abundance(torch.zeros(9, 4), "l2"))
    assert math.isnan(abundance(torch.zeros(0, 4), "none"))


def test_the_mean_over_fields_excludes_padding_and_oov() -> None:
    made = module()
    tables = [roles["shared"].detach()[1:-1].numpy() for roles in made.net.embedding_tables().values()]
    expected = np.mean([information_abundance(singular_values(BlockwiseMatrix(table))) for table in tables])
    assert diagnose(made, batch(), "none")["ia/shared"] == pytest.approx(expected, rel=1e-6)


def plain_cosine(made: MultiTaskModule, blocks: int, chosen: str) -> float:
    """Return the reference: cosine of full gradients of the shared block of the tables, or of the shared experts."""
    made.eval()
    data, found = batch(), []
    for task in range(2):
        made.zero_grad()
        logit_B = made.net(data).logit_BT[:, task]
        torch.nn.functional.binary_cross_entropy_with_logits(logit_B, data.labels_BT[:, task].float()).backward()
        if chosen == "tables":
            grads = [weight.grad.chunk(blocks, dim=1)[-1] for weight in made.net.embedding.weights()]
        else:
            grads = [weight.grad for weight in made.net.mixture.layers[0].experts[-1].parameters()]
        found.append(torch.cat([grad.flatten() for grad in grads]).double())
    return float(torch.nn.functional.cosine_similarity(*found, dim=0))


def test_conflicts_are_cosines_of_full_gradients() -> None:
    values = diagnose(module(), batch(), "l2")
    assert values["conflict/finish-like/tables"] == pytest.approx(plain_cosine(module(), 3, "tables"), abs=1e-6)
    assert values["conflict/finish-like/experts"] == pytest.approx(plain_cosine(module(), 3, "experts"), abs=1e-6)


def test_equal_labels_agree_and_opposite_labels_conflict() -> None:
    """With equal towers, gates and task tables, equal labels give cosine 1 and opposite labels about -1."""
    made, data = module(), batch()
    made.net.towers[1].load_state_dict(made.net.towers[0].state_dict())
    made.net.mixture.layers[0].gates[1].load_state_dict(made.net.mixture.layers[0].gates[0].state_dict())
    with torch.no_grad():
        for weight in made.net.embedding.weights():
            weight[:, 4:8] = weight[:, :4]  # the gates of both tasks read equal inputs
    data.labels_BT[:, 1] = data.labels_BT[:, 0]
    agreeing = diagnose(made, data, "l2")["conflict/finish-like/tables"]
    with torch.no_grad():
        for tower in made.net.towers:
            list(tower.parameters())[-1].zero_()  # no bias: logits near zero
    data.labels_BT[:, 1] = 1 - data.labels_BT[:, 0]
    opposite = diagnose(made, data, "l2")["conflict/finish-like/tables"]
    assert agreeing == pytest.approx(1, abs=1e-6)
    assert opposite == pytest.approx(-1, abs=0.1)


def test_layers_are_numbered_and_parameters_get_no_gradient() -> None:
    seed_everything(0, verbose=False)
    net = PLE(SPEC.field_sizes, SPEC.tasks, num_layers=2, num_shared_experts=1, num_specific_experts=1, **SMALL)
    made = MultiTaskModule(net, SPEC, SPEC.tasks, ModuleSettings(optim=OptimConfig(lr=0.05)))
    values = diagnose(made, batch(), "l2")
    assert {"gate/1/shared/shared", "gate/2/like/task:like"} <= values.keys()
    assert "gate/2/shared/shared" not in values
    assert all(weight.grad is None for weight in net.parameters())
    assert made.training


def test_first_rows_returns_a_copy() -> None:
    data = batch()
    kept = first_rows(data, 5)
    data.ids_BF.zero_()
    assert len(kept) == 5
    assert kept.ids_BF.min() > 0
