"""Loss curves: means over the logging interval, and a point at the end of each epoch."""

import csv
from pathlib import Path

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger

from stemlab.lightning.loss_means import LossMeans
from tests.lightning.test_multitask import Watch, module, trainer
from tests.lightning.toy_data import SPEC, Toy

STEPS = 6  # per epoch


def curve(tmp_path: Path, every: int, epochs: int = 2) -> tuple[list[tuple[int, float]], list[float]]:
    """Train; return (step, logged loss), and the losses of all steps."""
    watch = Watch()
    fit = trainer(tmp_path, watch, epochs=epochs, log_every_n_steps=every)
    fit.loggers = [CSVLogger(tmp_path, name="", version="")]
    fit.fit(module(), datamodule=Toy())
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    for row in rows:
        parts = sum(float(row[f"train/loss/{task}"]) for task in SPEC.tasks)
        assert float(row["train/loss"]) == pytest.approx(parts, rel=1e-6)
        assert float(row["train/lr"]) > 0
    return [(int(row["step"]), float(row["train/loss"])) for row in rows], watch.losses


@pytest.mark.parametrize(
    ("every", "ends"),
    [
        (1, list(range(1, 13))),
        (2, [2, 4, 6, 8, 10, 12]),
        (4, [4, 6, 8, 12]),
        (5, [5, 6, 10, 12]),
        (6, [6, 12]),
        (50, [6, 12]),
    ],
)
def test_a_point_is_the_mean_of_the_steps_since_the_point_before(every: int, ends: list[int], tmp_path: Path) -> None:
    points, losses = curve(tmp_path, every)
    assert [step + 1 for step, _ in points] == ends
    for (_, value), start, end in zip(points, [0, *ends], ends, strict=False):
        assert value == pytest.approx(sum(losses[start:end]) / (end - start), rel=1e-6)


def test_an_unfinished_interval_is_part_of_a_checkpoint() -> None:
    whole, before, after = LossMeans(), LossMeans(), LossMeans()
    for step in range(4):
        losses = {"loss": torch.tensor(step + 1.0), "loss/like": torch.tensor(2.0 * step)}
        whole.add(losses)
        if step == 2:
            after.load_state_dict(before.state_dict())
        (before if step < 2 else after).add(losses)
    assert after.means() == whole.means() == {"loss": torch.tensor(2.5), "loss/like": torch.tensor(3.0)}
    whole.reset()
    assert whole.means() == {}


def test_a_module_saves_it() -> None:
    made, content, other = module(), {}, module()
    made.loss_means.add({"loss": torch.tensor(3.0)})
    made.on_save_checkpoint(content)
    other.on_load_checkpoint(content)
    assert other.loss_means.means() == {"loss": torch.tensor(3.0)}
