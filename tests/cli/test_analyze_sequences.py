"""Feature correlation of sequential runs, on a dataset whose users interact with one third of the items."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stemlab.analyze import analyze
from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from tests.cli.commands import Workspace
from tests.cli.sequences import ITEMS, SASREC


@pytest.fixture(scope="session")
def ranked(sequences: Workspace, run_training: Callable[..., float]) -> Path:
    run_training("correlated", *SASREC, "trainer.max_epochs=2")
    return sequences.directory / "correlated"


@pytest.fixture(scope="session")
def thirds(sequences: Workspace) -> Path:
    """Original ids and their third; the last item is in none."""
    path = sequences.directory / "thirds.csv"
    names = [f"third{3 * item // ITEMS}" for item in range(ITEMS)]
    names[-1] = "none|last"
    path.write_text("item,category\n" + "".join(f"{item},{name}\n" for item, name in enumerate(names, start=1)))
    return path


def test_correlation_is_largest_within_a_category(ranked: Path, thirds: Path, tmp_path: Path) -> None:
    overrides = [
        f"run={ranked}",
        f"analysis.categories={thirds}",
        "analysis.positions=4",
        f"output={tmp_path / 'found'}",
    ]
    folder = analyze(compose("analyze", ["analysis=correlation", *overrides, "analysis.top_targets=3"]))
    numbers = json.loads((folder / "results.json").read_text())["sections"]["correlation"]["numbers"]
    assert sorted(numbers["targets"]) == ["third0", "third1", "third2"]
    for result in numbers["targets"].values():
        assert result["own_row"]["is_largest"]
        assert result["own_row"]["decay"] > 0
    assert [found["how"] for found in numbers["learnt"]] == ["probe"] * 3
    assert all(-1 <= found["agreement"]["pearson"] <= 1 for found in numbers["learnt"])
    assert {path.name for path in folder.glob("*.csv")} == {
        f"{kind}_{n}.csv" for kind in ("data", "learnt") for n in (1, 2, 3)
    }


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (["analysis.targets=[third9]"], "analysis.targets: .*'third9'.*'third"),
        (["analysis.positions=7"], "analysis.positions=7 .*dataset.history_max=6"),
        (["analysis.categories=nowhere.csv"], "analysis.categories=nowhere.csv: "),
        (["analysis.categories={here}/train.csv"], "column 'item'.*user_id, item_id, time"),
    ],
)
def test_refused(overrides: list[str], hint: str, ranked: Path, thirds: Path, tmp_path: Path) -> None:
    known = [f"analysis.categories={thirds}", "analysis.positions=4"]
    typed = [word.replace("{here}", str(thirds.parent / "folder")) for word in overrides]
    kept = [word for word in known if word.split("=")[0] not in typed[0]]
    with pytest.raises(StemlabError, match=hint):
        analyze(compose("analyze", ["analysis=correlation", f"run={ranked}", *kept, *typed, f"output={tmp_path}/x"]))
    assert list(tmp_path.iterdir()) == []


def test_correlation_needs_histories(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(StemlabError, match=r"correlation .*histories"):
        analyze(compose("analyze", ["analysis=correlation", f"run={trained}", f"output={tmp_path}/x"]))
