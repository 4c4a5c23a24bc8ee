"""Figure of differences to a baseline."""

import pytest

from stemlab.errors import StemlabError
from stemlab.reporting.collect import Run
from stemlab.reporting.figure import baseline_differences, draw
from stemlab.reporting.table import build_table
from tests.reporting.records import record

X = "dataset.sample.conflict"


def conflict_table(drop=()):
    likes = {
        ("mmoe", 0.0): (0.80, 0.82),
        ("stem", 0.0): (0.79, 0.81),
        ("mmoe", 1.0): (0.70, 0.74),
        ("stem", 1.0): (0.75, 0.76),
    }
    runs = [
        Run("x", record(model, seed, conflict=c, auc=(0.5, like), sample=True, dataset_fingerprint=str(c)))
        for (model, c), values in likes.items()
        for seed, like in zip((1, 2), values, strict=True)
        if (model, c, seed) not in drop
    ]
    return build_table(runs, ["model", X], ["auc"])


def test_differences_are_paired_by_seed():
    (stem,) = baseline_differences(conflict_table(), X, "auc/like", "mmoe")
    assert (stem.model, stem.x) == ("stem", (0.0, 1.0))
    assert stem.mean == (pytest.approx(-0.01), pytest.approx(0.035))
    assert stem.std == (pytest.approx(0.0), pytest.approx(0.0212132))
    (less,) = baseline_differences(conflict_table(drop=[("mmoe", 1.0, 2)]), X, "auc/like", "mmoe")
    assert (less.mean[1], less.std[1]) == (pytest.approx(0.05), 0.0)
    (shorter,) = baseline_differences(conflict_table(drop=[("mmoe", 1.0, 1), ("mmoe", 1.0, 2)]), X, "auc/like", "mmoe")
    assert shorter.x == (0.0,)


def test_missing_baseline_metric_and_repeated_rows_are_errors():
    with pytest.raises(StemlabError, match=r"no run of 'mmo'.*'mmoe'"):
        baseline_differences(conflict_table(), X, "auc/like", "mmo")
    with pytest.raises(StemlabError, match="no metric auc/love"):
        baseline_differences(conflict_table(), X, "auc/love", "mmoe")
    two = build_table([Run("x", record("mmoe", conflict=0.0, lr=lr)) for lr in (0.1, 0.2)], ["model", X], ["auc"])
    with pytest.raises(StemlabError, match="two rows"):
        baseline_differences(two, X, "auc/like", "mmoe")


def test_the_figure_is_deterministic_and_marked_sample(tmp_path):
    curves = baseline_differences(conflict_table(), X, "auc/like", "mmoe")
    png, svg = draw(curves, tmp_path / "out" / "conflict", x=X, metric="auc/like", baseline="mmoe", sample=True)
    assert png.read_bytes().startswith(b"\x89PNG")
    first = svg.read_text()
    assert "SAMPLE" in first
    draw(curves, tmp_path / "out" / "conflict", x=X, metric="auc/like", baseline="mmoe", sample=False)
    assert "SAMPLE" not in svg.read_text()
    draw(curves, tmp_path / "out" / "conflict", x=X, metric="auc/like", baseline="mmoe", sample=True)
    assert svg.read_text() == first
