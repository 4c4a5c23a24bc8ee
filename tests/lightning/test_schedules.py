"""Learning rates that change in every step: in batches, in blocks, with a plateau, after a resume."""

from pathlib import Path
from typing import Any

import pytest
import torch

from stemlab.callbacks.optimizer_settings import OptimizerSettings
from stemlab.optim import OptimConfig, PlateauConfig, RateGroups, RateSchedule, ScheduleConfig, build_optimizer
from tests.lightning.test_captured import assert_equal_trainings
from tests.lightning.toy_training import EPOCH_STEPS, PENALISED, Training, make

COSINE = ScheduleConfig(name="cosine", warmup_steps=5, final_factor=0.1)
WARMUP = ScheduleConfig(warmup_steps=12)


def training(schedule: ScheduleConfig, block: int, folder: Path, epochs: int = 3, **settings: Any) -> Training:
    plateau = PlateauConfig(enabled=schedule.name is None, factor=0.5)
    settings = {"lr": 0.05, "clip_norm": 0.1, "lr_groups": RateGroups(gates=0.01), "plateau": plateau, **settings}
    made = Training(make("mmoe"), block, folder, epochs, **PENALISED | {"optim": OptimConfig(**settings)})
    made.module.schedule = RateSchedule(schedule, 3 * EPOCH_STEPS)
    return made


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", [COSINE, WARMUP], ids=["cosine", "warm-up and plateau"])
def test_blocks_equal_batches_without_further_captures(schedule: ScheduleConfig, name: str, tmp_path: Path) -> None:
    expected = training(schedule, 0, tmp_path / "batches", name=name).fit()
    ours = training(schedule, 4, tmp_path / "blocks", name=name).fit()
    assert_equal_trainings(ours, expected)
    assert ours.emulated.captures == 1
    rates = {step: line["train/lr"] for step, line in ours.log.lines if "train/lr" in line}
    if schedule is COSINE:
        planned = ours.module.schedule
        assert rates == {step: pytest.approx(0.05 * planned.factor(step)) for step in (4, 6, 9, 13, 14, 19, 20)}
        assert all("train/lr/gates" in line for _, line in ours.log.lines if "train/lr" in line)
    saved = torch.load(tmp_path / "blocks" / "last.ckpt", weights_only=True)["optimizer_states"][0]
    assert all(type(group["lr"]) is float for group in saved["param_groups"])


def test_equals_a_plain_loop(tmp_path: Path) -> None:
    ours = training(COSINE, 0, tmp_path, epochs=1)
    plain, module = make("mmoe"), ours.module
    batches, losses = [], module.losses
    module.losses = lambda batch: batches.append(batch) or losses(batch)  # type: ignore[method-assign]
    ours.fit()
    settings = module.settings
    theirs = build_optimizer(plain, settings.optim, settings.embedding_penalty, settings.net_penalty)
    scheduler = torch.optim.lr_scheduler.LambdaLR(theirs, module.schedule.factor)
    module.net.train()
    module.net, trained = plain.train(), module.net
    for batch in batches:
        theirs.zero_grad()
        losses(batch)[0].backward()
        theirs.clip(0.1)
        theirs.step()
        scheduler.step()
    for a, b in zip(trained.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (4, 0), (0, 4)])
@pytest.mark.parametrize("schedule", [COSINE, WARMUP], ids=["cosine", "warm-up and plateau"])
def test_a_resumed_run_continues_the_schedule(
    schedule: ScheduleConfig, first: int, second: int, tmp_path: Path
) -> None:
    expected = training(schedule, 0, tmp_path / "whole").fit()
    training(schedule, first, tmp_path / "first", epochs=2).fit()
    resumed = training(schedule, second, tmp_path / "second")
    resumed.trainer.callbacks.insert(0, OptimizerSettings(keep_lr=True, scheduled=True))
    resumed.fit(tmp_path / "first" / "last.ckpt")
    for a, b in zip(resumed.module.parameters(), expected.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_schedule_can_be_removed_at_a_resume(tmp_path: Path) -> None:
    training(COSINE, 0, tmp_path / "first", epochs=2).fit()
    resumed = training(COSINE, 0, tmp_path / "second")
    resumed.module.schedule = None
    resumed.trainer.callbacks.insert(0, OptimizerSettings(keep_lr=True))
    resumed.fit(tmp_path / "first" / "last.ckpt")
    assert [group["lr"] for group in resumed.trainer.optimizers[0].param_groups] == [0.05, 0.05, 0.01]
