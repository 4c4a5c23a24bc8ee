"""Abundance after projection, compared with a plain loop."""

import numpy as np

from stemlab.analysis.collapse.projected_spectra import projected_abundance
from stemlab.data.io.progress import ProgressBars


def test_every_pair_is_projected_row_by_row() -> None:
    rng = np.random.default_rng(0)
    tables = {name: rng.normal(size=(rows, 4)) for name, rows in (("a", 9), ("b", 3), ("c", 20))}
    maps = {(toward, source): rng.normal(size=(4, 4)) for toward in tables for source in tables}
    with ProgressBars() as steps:
        found = projected_abundance("net", tables, lambda toward, source: maps[toward, source], "l2", steps)
    own = {}
    for source, weight in tables.items():
        rows = np.stack([row / (np.linalg.norm(row) + 1e-8) for row in weight])
        values = np.linalg.svd(rows, compute_uv=False)
        own[source] = values.sum() / values.max()
    assert list(found.fields) == sorted(own, key=own.get)
    for i, source in enumerate(found.fields):
        for j, toward in enumerate(found.fields):
            rows = []
            for row in tables[source]:
                moved = np.array([sum(maps[toward, source][x, y] * row[y] for y in range(4)) for x in range(4)])
                rows.append(moved / (np.linalg.norm(moved) + 1e-8))
            values = np.linalg.svd(np.stack(rows), compute_uv=False)
            np.testing.assert_allclose(found.abundance_NN[i, j], values.sum() / values.max(), rtol=1e-9)
