"""Figures and numbers of tables with known singular values."""

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from stemlab.analysis.collapse.findings import findings
from stemlab.analysis.collapse.table_spectra import RunSpectra, TableSpectrum


def spectrum(field: str, role: str, rows: int, *values: float) -> TableSpectrum:
    """A table of width 4; values after the first are halved in the normalised spectrum."""
    found = np.array(values)
    return TableSpectrum(field, role, rows, 4, {"none": found, "l2": found / [1, *[2] * (len(values) - 1)]})


ONE = RunSpectra("one", (spectrum("uid", "shared", 1000, 2, 2, 2, 2), spectrum("sex", "shared", 2, 4, 2)))
TWO = RunSpectra(
    "two", (spectrum("uid", "task:like", 1000, 4, 2, 1, 1), spectrum("uid", "task:buy", 10, 1, 0, 0, 0)), (), "two", 3
)


def points(*runs: RunSpectra) -> dict[str, list[list[float]]]:
    """Return name -> points of the scatter plot."""
    axes = findings(runs, [], [], "none").figures["tokens"].figure.axes[0]
    clouds = [found for found in axes.collections if isinstance(found, PathCollection)]
    assert len({cloud.get_paths()[0].vertices.tobytes() for cloud in clouds}) == len(clouds)
    return {str(cloud.get_label()): cloud.get_offsets().tolist() for cloud in clouds}


def test_scatter_plot_of_abundance_against_tokens() -> None:
    assert points(ONE) == {"one": [[3.0, 4.0], [pytest.approx(np.log10(2)), 1.5]]}
    assert points(ONE, TWO) == {
        "one shared": [[3.0, 4.0], [pytest.approx(np.log10(2)), 1.5]],
        "two task:like": [[3.0, 2.0]],
        "two task:buy": [[1.0, 1.0]],
    }
    captioned = findings([ONE], [], [], "none").figures["tokens"]
    (bound,) = captioned.figure.axes[0].lines
    tokens = np.array([1, 2, 3, 4, 1000])
    np.testing.assert_allclose(np.column_stack(bound.get_data()), np.stack([np.log10(tokens), tokens.clip(max=4)], 1))
    assert "number of tokens" in captioned.caption


def test_correlation_with_the_logarithm_of_tokens() -> None:
    three = RunSpectra("three", tuple(spectrum(f"f{n}", "shared", 10**n, 4, n, 0, 0) for n in (1, 2, 3)))
    numbers = findings([three], [], [], "l2").numbers["runs"]["three"]
    assert numbers["pearson_with_log_tokens"] == pytest.approx({"none": 1.0, "l2": 1.0})
    zeros = RunSpectra("zeros", (*three.tables, spectrum("z", "shared", 5, 0, 0)))
    assert findings([zeros], [], [], "l2").numbers["runs"]["zeros"]["pearson_with_log_tokens"]["none"] == 1.0


def test_epochs_of_one_training_form_a_curve() -> None:
    later = RunSpectra("two later", (spectrum("uid", "shared", 10, 2, 1, 0, 0),), (), "two", 7)
    before = RunSpectra("two before", (spectrum("uid", "shared", 10, 1, 1, 1, 0),), (), "two", 0)
    figure = findings([TWO, later, before, ONE], [], [], "none").figures["epochs"].figure
    (line,) = figure.axes[0].lines
    assert line.get_label() == "two"
    # (2 + 1) / 2 of the two tables of epoch 3
    assert np.column_stack(line.get_data()).tolist() == [[0, 3.0], [3, 1.5], [7, 1.5]]
    assert "epochs" not in findings([TWO, ONE], [], [], "none").figures
