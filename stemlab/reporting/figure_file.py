"""Figures of reports as PNG and SVG files, equal for equal input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stemlab.config.limits import LIMITED
from stemlab.data.io.output_file import complete_file, write_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # safe for colour-blind readers


def write_figure(path: Path, size: tuple[float, float], draw: Callable[[Figure], None]) -> list[Path]:
    """Draw a figure and write ``path`` with the suffixes .png and .svg; return both.

    Args:
        path: path without suffix; a dot in its name is part of the name.
        size: width and height in inches.
        draw: draws into the empty figure.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "stemlab", "figure.dpi": 150, "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        paths = [path.with_name(f"{path.name}{ending}") for ending in (".png", ".svg")]
        for made in paths:
            date = {"Date": None} if made.suffix == ".svg" else None
            with complete_file(made) as part, write_errors(made):
                figure.savefig(part, metadata=date, format=made.suffix[1:])
    return paths


def figure_marks(sample: bool, limited: bool) -> str:
    """Return the marks at the beginning of a title: SAMPLE for synthetic data, LIMITED for parts of the batches."""
    return f"{'SAMPLE (synthetic data): ' * sample}{f'{LIMITED} (part of the batches or epochs): ' * limited}"
