"""Replays of pruners on recorded curves: ``scripts/bench/pruner_replay.py``."""

import optuna
import pytest
import yaml
from optuna.storages.journal import JournalFileBackend

from scripts.bench import pruner_replay
from tests.config.conftest import ROOT

CURVES = [[0.6, 0.7, 0.8], [0.5, 0.9, 0.9], [0.7, 0.6, 0.6], [0.65, 0.71, 0.7]]


def test_the_defaults_are_those_of_the_command():
    sweep = yaml.safe_load((ROOT / "conf" / "train.yaml").read_text())["sweep"]
    assert {key: sweep[key] for key in pruner_replay.DEFAULTS} == pruner_replay.DEFAULTS


def test_the_median_rule_by_hand():
    """Trial 2 ends after epoch 2: its best value 0.7 is below the median 0.8 of the others' second epochs."""
    settings = {"pruner": "median", "startup_trials": 2}
    assert pruner_replay.replay(CURVES, settings) == [3, 3, 2, 2]
    assert pruner_replay.replay(CURVES, {"pruner": "none"}) == [3, 3, 3, 3]
    row = pruner_replay.summary(CURVES, settings)
    assert (row["pruned"], row["epochs"], row["share"], row["best_value"]) == (2, 10, round(10 / 12, 3), 0.9)


def test_curves_are_read_from_the_journal_and_must_be_complete(tmp_path):
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    study = optuna.create_study(study_name="sweep", storage=storage, direction="maximize")
    for curve in CURVES:
        trial = study.ask()
        for epoch, value in enumerate(curve, start=1):
            trial.report(value, epoch)
        study.tell(trial, max(curve))
    assert pruner_replay.recorded_curves(tmp_path / "study.journal") == CURVES
    study.ask()
    with pytest.raises(ValueError, match="trained to the end"):
        pruner_replay.recorded_curves(tmp_path / "study.journal")
