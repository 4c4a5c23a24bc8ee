"""Filter, distances, conflict subsets and bins of the released notebook."""

import json
from pathlib import Path

import numpy as np
import pytest

from stemlab.analysis.entanglement.conflict import TableDistances, table_distances
from stemlab.analysis.entanglement.pair_distances import active, kept_rows, pair_distances
from tests.conftest import GOLDEN, require

FILES = sorted((GOLDEN / "recscope").glob("interest_entanglement*.npz"))
SLICES = {"STEM_finish": 0, "STEM_like": 1, "STEM_shared": 2}


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def kept(values: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    masks = []
    for name in ("uid", "item_id"):
        rows = len(values[f"input/ST_like_model_{name.removesuffix('_id')}_embedding"])
        masks.append(
            active(values[f"input/train_{name}"], rows, json.loads(str(values["meta/json"]))["percentile"], True)
        )
    rows = kept_rows(values["input/test_uid"], values["input/test_item_id"], *masks)
    return rows, *masks


def columns_of(values: dict[str, np.ndarray]) -> dict[str, TableDistances]:
    rows = kept(values)[0]
    users, items = values["input/test_uid"][rows], values["input/test_item_id"][rows]
    found = {}
    for key in values:
        if not key.startswith("output/distance_"):
            continue
        name = key.removeprefix("output/distance_")
        tables = [
            values[f"input/{name.split('_')[0] if name in SLICES else name}_model_{side}_embedding"]
            for side in ("uid", "item")
        ]
        if name in SLICES:
            width = tables[0].shape[1] // len(SLICES)
            tables = [table[:, SLICES[name] * width : (SLICES[name] + 1) * width] for table in tables]
        distance = pair_distances(*tables, users, items, "euclidean", lambda pairs: None)
        found[name] = table_distances(name, name, "", distance, (40, 60), 39, rounded=True)
    return found


def test_files_exist(golden: Path) -> None:
    require(golden / "recscope")
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_active_users_and_items(path: Path) -> None:
    values = load(path)
    rows, users, items = kept(values)
    np.testing.assert_array_equal(np.flatnonzero(users), np.sort(values["output/selected_users"]))
    np.testing.assert_array_equal(np.flatnonzero(items), np.sort(values["output/selected_items"]))
    pairs = np.stack([values["input/test_uid"][rows], values["input/test_item_id"][rows]], axis=1)
    np.testing.assert_array_equal(pairs, values["output/selected_pairs"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_distances_percentiles_conflicts_and_bins(path: Path) -> None:
    values = load(path)
    columns = columns_of(values)
    assert len(columns) == 6
    for name, found in columns.items():
        np.testing.assert_allclose(found.distance_P, values[f"output/distance_{name}"], rtol=1e-6)
        np.testing.assert_allclose([found.low, found.high], values[f"output64/{name}_p40_p60"], rtol=1e-6)
    like, finish = columns["ST_like"], columns["ST_finish"]
    modes = {0: (finish, like), 1: (like, finish)}
    for mode, (near, far) in modes.items():
        chosen = near.near() & far.far()
        np.testing.assert_array_equal(np.flatnonzero(chosen), values[f"output/mode{mode}_conflict_row_index"])
        assert chosen.sum() / len(values["input/test_uid"]) == pytest.approx(
            values["output/fraction_conflict"][mode], abs=6e-5
        )
        for name, found in columns.items():
            conflict, other = found.counts(chosen)
            np.testing.assert_array_equal(conflict, values[f"output/mode{mode}_{name}_conflict_counts"])
            np.testing.assert_array_equal(other, values[f"output/mode{mode}_{name}_other_counts"])
            edges = values[f"output64/mode{mode}_{name}_bin_edges"]
            np.testing.assert_array_equal(found.edges, edges)
