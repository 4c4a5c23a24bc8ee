"""Figure of metric differences to a baseline as a function of a swept setting, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from stemlab.errors import StemlabError, nearest
from stemlab.reporting.figure_file import FIRST_COLOURS, figure_marks, write_figure
from stemlab.reporting.table import ReportTable, Stat

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class DifferenceCurve:
    """Difference of a model to the baseline, paired by seed.

    Attributes:
        model: name of the model.
        x: values of the swept setting, ascending.
        mean: mean difference over seeds.
        std: standard deviation of the difference over seeds; 0 for a single seed.
    """

    model: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def baseline_differences(table: ReportTable, x: str, metric: str, baseline: str) -> list[DifferenceCurve]:
    """Return the curve of each model except the baseline.

    Args:
        table: table with ``by=[model, x]``: one row per model and value of the swept setting.
        x: key of the swept setting (``dataset.sample.conflict``).
        metric: metric and task (``auc/like``), or a metric without task (``ndcg@5``).
        baseline: name of the baseline model.

    Raises:
        StemlabError: a row has no numeric ``x`` or no ``metric``, two rows of a model have the same ``x``, or the
            baseline is missing.
    """
    points: dict[str, dict[float, Stat]] = {}
    for row in table.rows:
        model, value = str(row.labels["model"]), row.labels.get(x)
        if not isinstance(value, int | float) or metric not in row.stats:
            raise StemlabError(f"figure: a row of {model} has no numeric {x} or no metric {metric}.")
        if float(value) in points.setdefault(model, {}):
            raise StemlabError(f"figure: {model} has two rows at {x}={value}; select one with only={{...}}.")
        points[model][float(value)] = row.stats[metric]
    if baseline not in points:
        raise StemlabError(f"figure.baseline: there is no run of {baseline!r}.{nearest(baseline, list(points))}")
    return [_curve(model, points[model], points[baseline]) for model in points if model != baseline]


def _curve(model: str, ours: dict[float, Stat], base: dict[float, Stat]) -> DifferenceCurve:
    xs, means, stds = [], [], []
    for x in sorted(ours.keys() & base.keys()):
        seeds = sorted(ours[x].values.keys() & base[x].values.keys())
        paired = [ours[x].values[seed] - base[x].values[seed] for seed in seeds]
        if paired:
            xs.append(x)
            means.append(fmean(paired))
            stds.append(stdev(paired) if len(paired) > 1 else 0.0)
    return DifferenceCurve(model, tuple(xs), tuple(means), tuple(stds))


def draw(
    curves: Sequence[DifferenceCurve],
    path: Path,
    *,
    x: str,
    metric: str,
    baseline: str,
    sample: bool,
    limited: bool = False,
) -> list[Path]:
    """Write ``path`` with the suffixes .png and .svg and return both.

    Args:
        curves: differences of the models.
        path: path without suffix.
        x: key of the swept setting.
        metric: metric and task, or a metric without task.
        baseline: name of the baseline model.
        sample: whether the data are synthetic; the title is then marked SAMPLE.
        limited: whether a run used a part of its batches only; the title is then marked LIMITED.
    """

    def plot(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axhline(0.0, color="0.5", linewidth=1)
        for i, curve in enumerate(curves):
            colour = FIRST_COLOURS[i % len(FIRST_COLOURS)]
            axes.errorbar(curve.x, curve.mean, curve.std, label=curve.model, color=colour, marker="o", capsize=3)
        name, _, task = metric.partition("/")
        axes.set_xlabel(x.rpartition(".")[2])
        axes.set_ylabel(f"{name}{f' of {task}' * bool(task)}: difference to {baseline}")
        axes.set_title(f"{figure_marks(sample, limited)}mean ± standard deviation over seeds", fontsize=8)
        axes.legend(frameon=False)

    return write_figure(path, (5.0, 3.2), plot)
