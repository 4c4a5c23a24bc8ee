"""``analysis=collapse`` against plain loops over checkpoints and prepared ids."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stemlab.analysis import runs as subject
from stemlab.analysis.runs import AnalysedRun
from stemlab.analyze import analyze
from stemlab.config.compose import compose
from tests.cli.commands import Workspace
from tests.cli.conftest import FAST, SMALL_DATA, weights

CROSSED = [
    "model=dcnv2",
    "dataset=tiktok",
    *SMALL_DATA,
    *FAST,
    "model.net.embedding_dim=4",
    "model.net.num_cross_layers=2",
]
SHORT = ["model.net.hidden_units=[8]", "trainer.max_epochs=1"]


def abundance(rows: list[np.ndarray], norm: str) -> float:
    """Return the sum of singular values over the largest one; norm l2 normalises the rows first."""
    result = [row / (np.sqrt((row**2).sum()) + 1e-8) for row in rows] if norm == "l2" else rows
    values = np.linalg.svd(np.stack(result), compute_uv=False)
    return float(values.sum() / values.max())


def found(place: Path, *overrides: str) -> tuple[Path, dict]:
    folder = analyze(compose("analyze", ["analysis=collapse", f"output={place}", *overrides]))
    return folder, json.loads((folder / "results.json").read_text())["sections"]["collapse"]["numbers"]


def opened(run: Path) -> AnalysedRun:
    return AnalysedRun(run, compose("analyze", [f"run={run}"]))


def test_count_weighting_scales_rows_by_the_root_of_their_count(trained: Path, tmp_path: Path) -> None:
    _, numbers = found(tmp_path / "found", f"run={trained}", "analysis.weighting=count")
    run = opened(trained)
    ids_RF, tables = run.datamodule.store("train").ids, run.net.embedding_tables()
    result = {(one["field"], one["role"]): one for one in numbers["runs"]["stem"]["tables"]}
    assert len(result) == 3 * len(tables) == 3 * ids_RF.shape[1]
    for column, (field, by_role) in enumerate(tables.items()):
        counts = Counter(ids_RF[:, column].tolist())
        for role, table in by_role.items():
            kept = table.detach().numpy().astype(np.float64)
            rows = {
                norm: [
                    np.sqrt(counts[token]) * (row / (np.linalg.norm(row) + 1e-8) if norm == "l2" else row)
                    for token, row in enumerate(kept)
                    if 0 < token < len(kept) - 1  # neither padding nor out-of-vocabulary
                ]
                for norm in ("none", "l2")
            }
            for norm, weighted in rows.items():
                assert result[field, role][f"abundance_{norm}"] == pytest.approx(abundance(weighted, "none"), rel=1e-6)
    _, plain = found(tmp_path / "plain", f"run={trained}")
    assert plain["runs"]["stem"]["mean_abundance"] != numbers["runs"]["stem"]["mean_abundance"]


@pytest.mark.parametrize("tables", [1, 2])
@pytest.mark.parametrize("norm", ["l2", "none"])
def test_the_interaction_map_equals_plain_loops(
    tables: int, norm: str, run_training: Callable[..., float], workspace: Workspace, tmp_path: Path
) -> None:
    run = workspace.directory / f"crossed{tables}"
    if not run.exists():
        run_training(run.name, *CROSSED, *SHORT, f"model.net.num_tables={tables}")
    folder, numbers = found(tmp_path / "found", f"run={run}", f"analysis.row_norm={norm}")
    state, names, K = weights(run, "best.ckpt"), list(opened(run).spec.field_sizes), 4
    read = {name.removeprefix("net."): value.double().numpy() for name, value in state.items()}
    labels = ["dcnv2"] if tables == 1 else ["dcnv2 expert:0", "dcnv2 expert:1"]
    assert list(numbers["interaction"]) == labels
    for m, label in enumerate(labels):
        cross = read[f"crosses.{m}.layers.0.weight"]
        rows = {
            name: list(read[f"embedding.tables.{number}.weight"][1:-1, m * K : (m + 1) * K])
            for number, name in enumerate(names)
        }
        own = {name: abundance(kept, norm) for name, kept in rows.items()}
        order = sorted(own, key=lambda name: own[name])
        assert numbers["interaction"][label]["fields"] == order
        np.testing.assert_allclose(numbers["interaction"][label]["own_abundance"], sorted(own.values()), rtol=1e-6)
        with (folder / f"interaction_{m + 1}.csv").open() as file:
            result = {line["table/projected towards"]: line for line in csv.DictReader(file)}
        assert list(result) == order
        for source in order:
            for toward in order:
                i, j = names.index(toward), names.index(source)
                met = [
                    np.array([sum(cross[i * K + a, j * K + b] * row[b] for b in range(K)) for a in range(K)])
                    for row in rows[source]
                ]
                assert float(result[source][toward]) == pytest.approx(abundance(met, norm), rel=1e-5)
        cells = [float(line[toward]) for line in result.values() for toward in order]
        assert numbers["interaction"][label]["smallest"] == min(cells)
        assert numbers["interaction"][label]["largest"] == max(cells)


def test_large_weights_are_released_and_read_again(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = opened(trained)
    held = small._rebuilt.saved.weights
    nbytes = sum(value.nbytes for value in held.values())
    assert nbytes > 0
    monkeypatch.setattr(subject, "LARGE", nbytes)
    assert opened(trained)._rebuilt.saved.weights
    monkeypatch.setattr(subject, "LARGE", nbytes - 1)
    large = opened(trained)
    assert not large._rebuilt.saved.weights
    expected = {name: value.clone() for name, value in small.net.state_dict().items()}
    for _ in range(2):
        net = large.net
        assert large.net is net
        assert not large._rebuilt.saved.weights  # in the network only
        assert all((net.state_dict()[name] == value).all() for name, value in expected.items())
        large.release()
        assert "net" not in vars(large)
    last = trained / "checkpoints" / "last.ckpt"
    overrides = [f"run={trained}", f"runs=[{last}]", "analysis.initial=true", "analysis.weighting=count"]
    _, dropped = found(tmp_path / "dropped", *overrides)
    monkeypatch.undo()
    assert found(tmp_path / "kept", *overrides)[1] == dropped
