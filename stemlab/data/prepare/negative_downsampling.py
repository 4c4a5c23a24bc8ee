"""Thinning the negatives: every positive row of a label, and an exact number of the others drawn at random."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stemlab.array_types import BoolArray, IntegerArray
from stemlab.data.prepare.dtypes import to_small_codes

_STEP = 1 << 20


@dataclass(frozen=True, kw_only=True)
class DownsamplingRule:
    """Which rows are kept.

    Attributes:
        label: column of 0 and 1; every row with 1 is kept.
        negatives: rows with 0 that are kept for each row with 1 (all of them where there are fewer), in each scenario.
        seed: seed of the draw.
    """

    label: str
    negatives: int
    seed: int


def draw_negatives(
    labels: Iterable[IntegerArray],
    rows: int,
    sampling: DownsamplingRule,
    scenarios: Iterable[IntegerArray] | None = None,
) -> BoolArray:
    """Return which rows are kept; every set of that many negatives is equally likely.

    Selection sampling by steps of rows: how many of a step's negatives are kept is hypergeometric, which ones is
    uniform. So the draw does not depend on how the columns were cut into chunks, and takes five bytes a row.

    Args:
        labels: the label's column chunk by chunk, one pass.
        rows: its length.
        sampling: the rule.
        scenarios: ids of the rows' scenarios, 0 to 254, chunk by chunk; ``None``: one scenario.

    Returns:
        (rows,) bool.
    """
    positive: BoolArray = to_small_codes(labels, rows) != 0
    scenario = np.zeros(rows, dtype=np.uint8) if scenarios is None else to_small_codes(scenarios, rows)
    kept: BoolArray = positive.copy()
    rng = np.random.default_rng(sampling.seed)
    for place in range(int(scenario.max(initial=0)) + 1):
        inside = scenario == place
        wanted = sampling.negatives * int(np.count_nonzero(positive & inside))
        _draw(kept, inside & ~positive, wanted, rng)
    return kept


def _draw(kept: BoolArray, candidates: BoolArray, wanted: int, rng: np.random.Generator) -> None:
    """Set ``kept`` at ``wanted`` of the candidates (all of them where there are fewer)."""
    left = int(np.count_nonzero(candidates))
    wanted = min(wanted, left)
    for start in range(0, len(kept), _STEP):
        places = np.flatnonzero(candidates[start : start + _STEP])
        if len(places):
            taken = int(rng.hypergeometric(wanted, left - wanted, len(places)))
            kept[start + rng.choice(places, taken, replace=False, shuffle=False)] = True
            wanted, left = wanted - taken, left - len(places)
