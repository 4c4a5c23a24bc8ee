"""Tables and figure of docs/negative_transfer.md and the table of README.md, from the committed records.

    python scripts/negative_transfer.py            # replace the tables, draw docs/negative_transfer.png
    python scripts/negative_transfer.py --check    # exit status 1 if page and records differ

A cell: test AUC minus that of one network per task on the same split, mean over the random splits in which all models
of its part are finished, with standard error and p-value for overlapping splits (``overlapping_t``), Holm's correction
over the table; in how many splits the bootstrap over users alone finds a loss or gain (p < 0.05).
``scripts/negative_transfer_data.py`` writes records and ``splits.csv``.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from negative_transfer_analyses import (
    comparable_table,
    conflict_table,
    draw_conflict,
    entanglement_table,
    gate_table,
    read_numbers,
)
from negative_transfer_data import (
    BASELINE,
    MEAN,
    NO_STOP,
    PER_TASK,
    RARE,
    RECORDS,
    REPRODUCED,
    SHARED,
    STUDY,
    TASKS,
    TIME,
    Auc,
    Key,
    Splits,
    baseline_of,
    read_auc,
    read_splits,
)

from stemlab.reporting.collect import collect
from stemlab.reporting.document import check_block, update_block
from stemlab.reporting.figure_file import FIRST_COLOURS, write_figure
from stemlab.reporting.statistics import TestedDifference, holm, overlapping_t

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "negative_transfer.md"
METHODS = ("uncertainty", "dwa", "pcgrad", "upgrad")
ABLATIONS = ("stem", "stem, no stop-gradient", "stem, one table", "ple_me", "mmoe_me")
RULES = (MEAN, PER_TASK, NO_STOP)
TABLES = {  # a part: stopping rule and models that are compared on the same splits
    "shared": [(rule, SHARED) for rule in RULES],
    "ablations": [(MEAN, ABLATIONS), (NO_STOP, ABLATIONS)],
    "balancing": [
        (rule, (name, *(f"{name}, {method}" for method in METHODS)))
        for name in ("shared_bottom", "mmoe")
        for rule in (MEAN, NO_STOP)
    ],
}
FREQUENT = [(MEAN, SHARED), (NO_STOP, SHARED)]
STOPPING = [(PER_TASK, SHARED), (NO_STOP, (BASELINE,)), (NO_STOP, SHARED)]  # without early stopping, or per task
LEVEL = 0.05
MIN_SPLITS = 3


@dataclass(frozen=True)
class Evidence:
    """Records and saved bootstrap results.

    Attributes:
        auc: test AUC by model and stopping rule, split and task.
        splits: rows of ``splits.csv``.
        test_to_train: samples of a random test split divided by those of its training split.
    """

    auc: Auc
    splits: Splits
    test_to_train: float

    def common(self, keys: Sequence[Key], task: str) -> list[str]:
        """Return the random splits in which all these models are finished."""
        having = [{split for split, values in self.auc.get(key, {}).items() if task in values} for key in keys]
        return sorted(set.intersection(*having) - {TIME})

    def differences(self, key: Key, base: Key, task: str, splits: Sequence[str]) -> list[float]:
        """Return the differences of AUC of two models on some splits."""
        return [self.auc[key][split][task] - self.auc[base][split][task] for split in splits]

    def test(self, key: Key, base: Key, task: str, splits: Sequence[str]) -> TestedDifference:
        """Return the mean difference over splits, with its test."""
        return overlapping_t(np.array(self.differences(key, base, task, splits)), self.test_to_train)


def read_evidence() -> Evidence:
    """Return the committed evidence."""
    runs = collect([str(REPRODUCED), str(STUDY)]).runs
    random = next(run for run in runs if run.value("dataset.split.rule") == "random")
    rows = random.record["dataset_manifest"]["rows"]
    return Evidence(read_auc(runs), read_splits(), rows["test"] / rows["train"])


def split_table(
    evidence: Evidence,
    parts: Sequence[tuple[str, Sequence[str]]],
    base_of: Callable[[Key], Key] = baseline_of,
    tasks: Sequence[str] = RARE,
) -> str:
    """Return the table of mean differences over random splits in Markdown.

    Args:
        evidence: the evidence.
        parts: stopping rules and models; a part with fewer than three common splits is left out.
        base_of: returns the model that is subtracted.
        tasks: columns.
    """
    found: dict[tuple[Key, str], tuple[TestedDifference, list[str]]] = {}
    for rule, models in parts:
        keys = [(model, rule) for model in models]
        for task in tasks:
            splits = evidence.common([*keys, *map(base_of, keys)], task)
            if len(splits) >= MIN_SPLITS:
                found |= {(key, task): (evidence.test(key, base_of(key), task, splits), splits) for key in keys}
    adjusted = dict(zip(found, holm([test.p for test, _ in found.values()]), strict=True))
    rows: dict[Key, dict[str, str]] = defaultdict(dict)
    for (key, task), (test, splits) in found.items():
        counts = f"n {len(splits)}"
        if base_of is baseline_of:
            one_by_one = [evidence.splits[*key, split, task] for split in splits]
            sure = [row["difference"] < 0 for row in one_by_one if row["p"] < LEVEL]
            counts = f"{sum(sure)} lose, {len(sure) - sum(sure)} gain of {len(splits)}"
        cell = f"{test.difference:+.4f} ± {test.standard_error:.4f}"
        rows[key][task] = f"{cell} (p {adjusted[key, task]:.2g}; {counts})"
    return _markdown(evidence, rows, [] if base_of is stopped_on_mean else None)


def stopped_on_mean(key: Key) -> Key:
    """Return the same model, stopped on the mean of the tasks."""
    return key[0], MEAN


def short_table(evidence: Evidence) -> str:
    """Return the table of README.md: the rare tasks, with and without early stopping."""
    heads, rows = ["model"], {model: [model] for model in SHARED}
    for task in RARE:
        for rule, title in ((MEAN, "early stopping"), (NO_STOP, "20 epochs")):
            splits = evidence.common(
                [key for model in SHARED for key in ((model, rule), baseline_of((model, rule)))], task
            )
            heads.append(f"{task}, {title} ({len(splits)} splits)")
            for model in SHARED:
                test = evidence.test((model, rule), baseline_of((model, rule)), task, splits)
                rows[model].append(f"{test.difference:+.3f} ± {test.standard_error:.3f}")
    lines = [" | ".join(heads), "|".join(["---"] * len(heads)), *(" | ".join(row) for row in rows.values())]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def time_table(evidence: Evidence) -> str:
    """Return the table of the split by time: the error and the p-value are those of the bootstrap over users."""
    cells = {place: row for place, row in evidence.splits.items() if place[2] == TIME}
    order = [(model, rule) for parts in TABLES.values() for rule, models in parts for model in models]
    adjusted = dict(zip(cells, holm([row["p"] for row in cells.values()]), strict=True))
    rows: dict[Key, dict[str, str]] = defaultdict(dict)
    for key in dict.fromkeys(order):
        for task in TASKS:
            if (row := cells.get((*key, TIME, task))) is not None:
                p = adjusted[*key, TIME, task]
                rows[key][task] = f"{row['difference']:+.4f} ± {row['standard_error']:.4f} (p {p:.2g})"
    return _markdown(evidence, rows, [TIME])


def _markdown(evidence: Evidence, rows: Mapping[Key, Mapping[str, str]], splits: Sequence[str] | None = None) -> str:
    """Return a table; its heads have the mean AUC of the baseline over splits (default: all random ones)."""
    tasks = [task for task in TASKS if any(task in row for row in rows.values())]
    base, heads = evidence.auc[BASELINE, MEAN], []
    for task in tasks:
        used = evidence.common([(BASELINE, MEAN)], task) if splits is None else splits
        heads.append(f"{task} ({BASELINE} {np.mean([base[one][task] for one in used]):.4f})" if used else task)
    lines = [f"| {' | '.join(['model', 'stopping', *heads])} |", "|---" * (2 + len(tasks)) + "|"]
    lines += [f"| {' | '.join([*key, *(row.get(task, '-') for task in tasks)])} |" for key, row in rows.items()]
    return "\n".join(lines)


def tuning_table(runs: Path = RECORDS / "kuairand_log_tuning") -> str:
    """Return the validation AUC of every model and embedding L2 in Markdown, one column per task of ``single_task``."""
    found: dict[tuple[str, float], dict[str, float]] = defaultdict(dict)
    tasks: list[str] = []
    for run in collect([str(runs)]).runs:
        tasks += [run.tasks[0]] if run.alone and run.tasks[0] not in tasks else []
        values = {task: run.record["metrics"][f"val/auc{'' if run.alone else f'/{task}'}"] for task in run.tasks}
        found[str(run.value("model")), float(run.value("model.embedding_regularizer"))] |= values
    lines = ["| model | embedding L2 | " + " | ".join([*tasks, "mean"]) + " |", "|---" * (len(tasks) + 3) + "|"]
    for (name, penalty), values in sorted(found.items(), key=lambda item: (item[0][0] != BASELINE, item[0])):
        cells = [f"{values[task]:.4f}" for task in tasks] + [f"{np.mean([values[task] for task in tasks]):.4f}"]
        lines.append(f"| {name} | {penalty:.0e} | {' | '.join(cells)} |")
    return "\n".join(lines)


def drawn_models(evidence: Evidence) -> list[str]:
    """Return the models with enough splits, in the order of the tables."""
    keys = dict.fromkeys((model, rule) for parts in TABLES.values() for rule, models in parts for model in models)
    enough = [key for key in keys if len(evidence.common([key, baseline_of(key)], RARE[0])) >= MIN_SPLITS]
    return list(dict.fromkeys(model for model, _ in enough))


def draw(evidence: Evidence, figure: Figure) -> None:
    """Draw the differences of the rare tasks with 95 % intervals, one panel per task."""
    from scipy.stats import t

    models = drawn_models(evidence)
    for panel, task in enumerate(RARE):
        axes = figure.add_subplot(1, len(RARE), panel + 1)
        for offset, (rule, colour) in enumerate(zip(RULES, FIRST_COLOURS, strict=False)):
            label = f"stopping: {rule}"
            for place, model in enumerate(models):
                key, y = (model, rule), place + 0.28 * (offset - 1)
                splits = evidence.common([key, baseline_of(key)], task)
                if len(splits) < MIN_SPLITS:
                    continue
                test = evidence.test(key, baseline_of(key), task, splits)
                half = t.ppf(1 - LEVEL / 2, len(splits) - 1) * test.standard_error
                axes.errorbar(
                    test.difference, y, xerr=half, fmt="os^"[offset], color=colour, ms=4, capsize=2, label=label
                )
                label = "_"
                single = evidence.differences(key, baseline_of(key), task, splits)
                axes.plot(single, [y] * len(single), "|", color=colour, alpha=0.5, ms=5)
        axes.axvline(0, color="black", lw=0.8)
        axes.set_yticks(range(len(models)), models if panel == 0 else [""] * len(models))
        axes.invert_yaxis()
        axes.set_xlabel(f"test AUC of {task} minus {BASELINE}")
        axes.grid(axis="x", alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(RULES))


def write_png(path: Path, size: tuple[float, float], draw_figure: Callable[[Figure], None]) -> None:
    """Draw a figure of the page."""
    for made in write_figure(path, size, draw_figure):
        if made.suffix == ".svg":
            made.unlink()


def main() -> None:
    """Replace or check the tables; draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check, evidence = parser.parse_args().check, read_evidence()
    blocks = {name: split_table(evidence, parts) for name, parts in TABLES.items()}
    blocks["frequent"] = split_table(evidence, FREQUENT, tasks=TASKS[len(RARE) :])
    blocks["stopping"] = split_table(evidence, STOPPING, stopped_on_mean, TASKS)
    blocks |= {"time": time_table(evidence), "tuning": tuning_table()}
    numbers = read_numbers()
    blocks |= {"conflict": conflict_table(numbers), "gates": gate_table(numbers)}
    blocks |= {"comparable": comparable_table(numbers), "entanglement": entanglement_table(numbers)}
    write = check_block if check else update_block
    for name, content in blocks.items():
        write(PAGE, f"negative_transfer_{name}", content)
    write(ROOT / "README.md", "negative_transfer", short_table(evidence))
    if not check:
        size = (9, 0.9 + 0.42 * len(drawn_models(evidence)))
        write_png(PAGE.with_suffix(""), size, lambda figure: draw(evidence, figure))
        conflict = PAGE.with_name("negative_transfer_conflict")
        write_png(conflict, (9, 4.2), lambda figure: draw_conflict(numbers, evidence.auc, figure))


if __name__ == "__main__":
    main()
