"""Epochs that pruners would have trained in a recorded search: a replay of its validation curves (docs/sweeps.md).

Every trial of the search was trained to the end, so its value after each epoch is known. The pruners of Optuna, made
as ``sweep.pruner`` makes them, decide on these values, trial after trial. A replay differs from a real search in one
point: the sampler does not react to pruned trials, so every pruner sees the same trials.

    python scripts/bench/pruner_replay.py runs/sweeps/<search without a pruner>/study.journal \
        scripts/bench/results/pruner_replay.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from stemlab.sweep.study import JOURNAL, make_pruner

DEFAULTS = {"startup_trials": 10, "warmup_epochs": 1, "reduction_factor": 3}
"""Of ``sweep`` in ``conf/train.yaml``."""
REPLAYED: tuple[dict[str, Any], ...] = (
    {"pruner": "none"},
    {"pruner": "median"},
    {"pruner": "median", "startup_trials": 5},
    {"pruner": "successive_halving"},
    {"pruner": "successive_halving", "reduction_factor": 2},
    {"pruner": "hyperband"},
    {"pruner": "hyperband", "reduction_factor": 4},
)


def recorded_curves(journal: Path) -> list[list[float]]:
    """Return the validation values of each trial of a search, one per epoch.

    Raises:
        ValueError: a trial was not trained to the end.
    """
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    trials = optuna.load_study(study_name="sweep", storage=storage).get_trials(deepcopy=False)
    curves = [[trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)] for trial in trials]
    if any(trial.state != TrialState.COMPLETE for trial in trials) or len({len(curve) for curve in curves}) != 1:
        raise ValueError(f"{journal}: every trial must be trained to the end, without a pruner")
    return curves


def replay(curves: Sequence[Sequence[float]], settings: Mapping[str, Any]) -> list[int]:
    """Return the epochs that each trial trains with the pruner of ``settings``; larger values are better.

    The study has the name of the studies of ``sweep``, from which Hyperband computes the bracket of a trial.
    """
    rule = make_pruner({**DEFAULTS, **settings}, len(curves[0]))
    study = optuna.create_study(study_name="sweep", direction="maximize", pruner=rule)
    epochs = []
    for curve in curves:
        trial = study.ask()
        epochs.append(_epochs(trial, curve))
        if epochs[-1] == len(curve):
            study.tell(trial, max(curve))
        else:
            study.tell(trial, state=TrialState.PRUNED)
    return epochs


def _epochs(trial: optuna.Trial, curve: Sequence[float]) -> int:
    """Report the values of a trial until the pruner ends it, or to the last epoch, which is never pruned."""
    for epoch, value in enumerate(curve[:-1], start=1):
        trial.report(value, epoch)
        if trial.should_prune():
            return epoch
    trial.report(curve[-1], len(curve))
    return len(curve)


def summary(curves: Sequence[Sequence[float]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a pruner trains of a search, and the best value of the trials that it trains to the end."""
    epochs = replay(curves, settings)
    total = sum(len(curve) for curve in curves)
    finished = [curve for curve, count in zip(curves, epochs, strict=True) if count == len(curve)]
    return {
        **settings,
        "trials": len(curves),
        "pruned": len(curves) - len(finished),
        "epochs": sum(epochs),
        "share": round(sum(epochs) / total, 3),
        "best_value": max(max(curve) for curve in finished),
        "epochs_of_trials": epochs,
    }


def main() -> None:
    """Replay all pruners and write their record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("journal", type=Path, help=f"{JOURNAL} of a search without a pruner")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    curves = recorded_curves(arguments.journal)
    rows = [summary(curves, settings) for settings in REPLAYED]
    record = {
        "what": "a replay: decisions of Optuna's pruners on the recorded curves of a search without a pruner",
        "optuna": optuna.__version__,
        "defaults": DEFAULTS,
        "rows": rows,
        "curves": [[round(value, 6) for value in curve] for curve in curves],
    }
    arguments.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for settings, row in zip(REPLAYED, rows, strict=True):
        print(f"{settings}: {row['pruned']} pruned, {row['epochs']} epochs, {row['share']}, {row['best_value']:.4f}")


if __name__ == "__main__":
    main()
