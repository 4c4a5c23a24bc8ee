"""Figures of the analyses."""

from pathlib import Path

import numpy as np

from stemlab.analysis import plots


def test_names_with_dollar_signs_are_no_formulas(tmp_path: Path) -> None:
    names = ["price_$", "$_{$"]
    figure = plots.heat_map(np.eye(2), names, names, labels=("a", "$_{$"), title="$_{$")
    png, svg = plots.save(figure, tmp_path / "map")
    assert png.stat().st_size > 1000
    assert svg.read_text().startswith("<?xml")
