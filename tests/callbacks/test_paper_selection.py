"""Epoch selection on the test split, in addition to the selection on the validation split."""

import copy
import math
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback

from stemlab.callbacks.checkpoint import BestCheckpoint
from stemlab.callbacks.paper_selection import POOLED, PaperSelection, measure_test_split
from tests.lightning.test_multitask import Watch, module, trainer
from tests.lightning.toy_data import Toy

TASKS, NAMES = ("click", "like"), [POOLED, "nl", "es"]


def epoch(pooled: float, nl: float, es: float) -> dict[str, float]:
    """Return the metrics of an epoch; the two tasks are 0.1 above and below the mean."""
    values = {"auc": pooled}
    for name, mean in (("", pooled), ("/nl", nl), ("/es", es)):
        values |= {f"auc/click{name}": mean + 0.1, f"auc/like{name}": mean - 0.1, f"logloss/click{name}": 1 - mean}
    return values


def chosen(rule: PaperSelection, *epochs: dict[str, float]) -> dict:
    for number, values in enumerate(epochs):
        rule.update(NAMES, TASKS, values, number)
    return rule.summary()


def test_every_scenario_has_its_own_best_epoch() -> None:
    summary = chosen(PaperSelection(5), epoch(0.60, 0.7, 0.50), epoch(0.62, 0.6, 0.55), epoch(0.61, 0.6, 0.56))
    assert summary["epoch"] == {"pooled": 2, "nl": 1, "es": 3}
    assert summary["mean_auc"] == pytest.approx({"pooled": 0.62, "nl": 0.7, "es": 0.56})
    assert summary["metrics"]["test/auc/click"] == pytest.approx(0.72)
    assert summary["metrics"]["test/auc/like/nl"] == pytest.approx(0.6)
    assert summary["metrics"]["test/logloss/click/es"] == pytest.approx(0.44)
    assert len(summary["metrics"]) == 4 + 3 + 3
    assert (summary["epochs_evaluated"], summary["patience"]) == (3, 5)
    assert summary["note"].startswith("optimistic: ")


def test_scenarios_may_have_slashes() -> None:
    """A name may also end like another one."""
    values = {"auc": 0.5, "auc/click": 0.5, "auc/click/US/CA": 0.7, "auc/click/CA": 0.6}
    rule = PaperSelection(5)
    rule.update(["pooled", "US/CA", "CA"], ("click",), values, 0)
    assert rule.metrics["US/CA"] == {"auc/click/US/CA": 0.7}
    assert rule.metrics["CA"] == {"auc/click/CA": 0.6}
    assert rule.metrics["pooled"] == {"auc": 0.5, "auc/click": 0.5}


def test_patience_ends_the_updates_of_one_scenario_only() -> None:
    """After two epochs without improvement nl is not updated any more: its later best is ignored."""
    summary = chosen(
        PaperSelection(2), epoch(0.6, 0.6, 0.6), epoch(0.6, 0.6, 0.5), epoch(0.7, 0.5, 0.7), epoch(0.8, 0.9, 0.8)
    )
    assert summary["epoch"] == {"pooled": 4, "nl": 1, "es": 4}
    assert summary["mean_auc"]["nl"] == pytest.approx(0.6)


def test_equal_is_not_better_and_undefined_does_not_count() -> None:
    undefined = float("nan")
    rule = PaperSelection(2)
    summary = chosen(rule, epoch(0.6, undefined, 0.6), epoch(0.6, undefined, undefined), epoch(0.5, undefined, 0.6))
    assert summary["epoch"] == {"pooled": 1, "es": 1}
    assert rule.waited == {"pooled": 2, "nl": 0, "es": 1}


def test_the_state_is_plain_and_can_be_restored() -> None:
    series = [epoch(0.6, 0.6, 0.5), epoch(0.7, 0.5, 0.6), epoch(0.6, 0.5, 0.5), epoch(0.8, 0.9, 0.4)]
    whole, first, second = PaperSelection(2), PaperSelection(2), PaperSelection(2)
    expected = chosen(whole, *series)
    chosen(first, *series[:2])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for number in (2, 3):
        second.update(NAMES, TASKS, series[number], number)
    assert second.summary() == expected
    assert second.state_dict() == whole.state_dict()


class EvaluateTestSplit(Callback):
    """Evaluate the test split after each epoch."""

    def __init__(self) -> None:
        self.found: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.found.append(measure_test_split(trainer, pl_module))


def test_metrics_equal_those_of_the_test_loop(tmp_path: Path) -> None:
    made, evaluation, toy = module(dropout=0.5), EvaluateTestSplit(), Toy()
    trainer(tmp_path, evaluation, epochs=2).fit(made, datamodule=toy)
    assert made.training
    trainer(tmp_path).test(made, datamodule=toy, verbose=False)
    assert evaluation.found[-1] == {
        key.removeprefix("test/"): x for key, x in made.metric_values.items() if "test/" in key
    }
    assert evaluation.found[0] != evaluation.found[1]


def test_the_training_is_not_affected(tmp_path: Path) -> None:
    """Losses, weights and the epoch selected on the validation split are equal with and without the callback."""
    outcomes = []
    for name, rules in (("without", []), ("with", [PaperSelection(1)])):
        watch, made = Watch(), module(dropout=0.5)
        keep = BestCheckpoint(tmp_path / name, "val/auc", "max", 1e-6, save_last=False)
        trainer(tmp_path, watch, *rules, keep, epochs=3).fit(made, datamodule=Toy())
        outcomes.append((watch.losses, keep.improvement.state_dict(), [p.detach() for p in made.net.parameters()]))
    assert outcomes[0][:2] == outcomes[1][:2]
    assert all(torch.equal(one, other) for one, other in zip(outcomes[0][2], outcomes[1][2], strict=True))
    assert rules[0].summary()["epoch"][POOLED] in (1, 2, 3)
    assert not math.isnan(rules[0].summary()["metrics"]["test/auc/like"])
