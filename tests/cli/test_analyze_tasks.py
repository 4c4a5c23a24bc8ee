"""Analyses that compare single-task with joint models, on runs of a small dataset."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stemlab.analyze import analyze
from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from tests.cli.commands import Workspace
from tests.cli.conftest import FAST, NET, SMALL_DATA

BOTTOM = "model.net.bottom_hidden_units=[8]"
COMMON = ["dataset=tiktok", *SMALL_DATA, *NET, BOTTOM, *FAST, "trainer.max_epochs=2"]


@pytest.fixture(scope="session")
def family(run_training: Callable[..., float], workspace: Workspace, trained: Path) -> dict[str, Path]:
    """Single-task models, one of them with a second seed, and two joint models."""
    runs = {
        "finish": ["model=single_task", "model.task=finish"],
        "like": ["model=single_task", "model.task=like"],
        "like2": ["model=single_task", "model.task=like", "seed=7"],
        "shared": ["model=shared_bottom"],
    }
    for name, overrides in runs.items():
        run_training(f"family/{name}", *overrides, *COMMON)
    return {**{name: workspace.directory / "family" / name for name in runs}, "stem": trained}


def found(analysis: str, places: list[Path], tmp_path: Path, *overrides: str) -> tuple[Path, dict]:
    runs = f"runs=[{','.join(map(str, places))}]"
    folder = analyze(compose("analyze", [f"analysis={analysis}", runs, f"output={tmp_path / 'found'}", *overrides]))
    return folder, json.loads((folder / "results.json").read_text())["sections"]


def table(path: Path) -> dict[str, dict[str, float]]:
    with path.open() as file:
        lines = list(csv.DictReader(file))
    name = next(iter(lines[0]))
    return {row[name]: {key: float(value or "nan") for key, value in row.items() if key != name} for row in lines}


def test_entanglement(family: dict[str, Path], tmp_path: Path) -> None:
    folder, sections = found("entanglement", list(family.values()), tmp_path)
    kept = table(folder / "retention.csv")
    single = kept["single-task (definition)"]
    assert set(single.values()) == {1.0}
    for key in (key for key in single if key.endswith("retention")):
        assert kept["shared_bottom"][key] <= 0.5
        assert 0 <= kept["control (another seed)"][key] < 1
        assert 0 <= kept["stem"][key] <= 1
    numbers = sections["entanglement"]["numbers"]
    assert 0 < numbers["pairs"] <= numbers["rows"] == 151
    for mode in numbers["conflicts"].values():
        assert mode["pairs"] == round(mode["share_of_pairs"] * numbers["pairs"])
        for shares in mode["shares"].values():
            assert sum(shares.values()) == pytest.approx(1)
    bins = table(folder / "bins_finish_like.csv")
    assert sum(row["conflict"] + row["other"] for row in bins.values()) == 7 * numbers["pairs"]
    assert list(table(folder / "label_auc.csv"))[3:] == [
        *("shared_bottom shared", "stem finish", "stem like", "stem shared"),
    ]
    assert "second seed of finish" in sections["entanglement"]["notes"][0]


@pytest.mark.parametrize(
    ("names", "overrides", "hint"),
    [
        (["stem"], [], "two tasks.*finish: 0, like: 0"),
        (["finish", "like", "stem"], [], "seed .*single-task"),
        (["finish", "like", "like2"], ["analysis.user_field=uidd"], "field 'uidd'.*'uid'"),
        (["finish", "like", "like2"], ["analysis.tasks=[lik]"], "task 'lik'.*finish, like.*'like'"),
        (["finish", "like", "like2"], ["analysis.activity=100"], "0 of 151 .*analysis.activity"),
        (["finish", "like", "like2"], ["analysis.near=70"], "analysis.near=70 .*analysis.far"),
    ],
)
def test_entanglement_refuses(
    names: list[str], overrides: list[str], hint: str, family: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(StemlabError, match=hint):
        found("entanglement", [family[name] for name in names], tmp_path, *overrides)


def test_comparable(family: dict[str, Path], tmp_path: Path) -> None:
    overrides = ["analysis.buckets=2", "analysis.resamples=20"]
    folder, sections = found("comparable", list(family.values()), tmp_path, *overrides)
    panels = sections["comparable"]["numbers"]["comparisons"][0]["panels"]
    record = json.loads((family["stem"] / "record.json").read_text())
    for task, panel in panels.items():
        result = table(folder / f"finish_like_{task}.csv")
        base = {key.split("/")[1]: row for key, row in result.items() if key.startswith(panel["baseline"])}
        assert sum(row["rows"] for row in base.values()) == 151
        for key, row in result.items():
            name, bucket = key.split("/")
            if name != panel["baseline"]:
                assert row["delta_auc"] == pytest.approx(row["auc"] - base[bucket]["auc"])
                assert row["low"] <= row["high"]
    assert panels["like"]["baseline"] == "single_task like seed 2023"
    assert "single_task like seed 7" in panels["like"]["models"]
    assert "stem" in sections["comparable"]["verdict"]
    assert record["metrics"]["test/auc/like"] is not None


def test_one_bucket_of_all_samples_has_the_recorded_auc(family: dict[str, Path], tmp_path: Path) -> None:
    """Buckets by a field without any difference between its values: all samples but the cold ones are together."""
    overrides = ["analysis.tau=1000", "analysis.resamples=2"]
    folder, _ = found("comparable", [family[name] for name in ("finish", "like", "stem")], tmp_path, *overrides)
    record = json.loads((family["stem"] / "record.json").read_text())
    result = table(folder / "finish_like_like.csv")
    assert result["stem/B2*"]["rows"] == 151
    assert result["stem/B2*"]["auc"] == record["metrics"]["test/auc/like"]


@pytest.mark.parametrize(
    ("names", "overrides", "hint"),
    [
        (["finish", "like"], [], "2 tasks .*0 joint"),
        (["finish", "like", "stem"], ["analysis.entity=usr"], "analysis.entity: .*'usr'"),
        (["finish", "like", "stem"], ["analysis.buckets=60"], r"bucket \d+ has \d+ test"),
    ],
)
def test_comparable_refuses(
    names: list[str], overrides: list[str], hint: str, family: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(StemlabError, match=hint):
        found("comparable", [family[name] for name in names], tmp_path, "analysis.resamples=2", *overrides)


def test_a_report_skips_analyses_that_do_not_apply(family: dict[str, Path], tmp_path: Path) -> None:
    folder, sections = found("report", [family["stem"]], tmp_path)
    assert "collapse" in sections
    results = json.loads((folder / "results.json").read_text())
    assert "two tasks" in results["refused"]["entanglement"]
    assert "entanglement left out" in (folder / "index.html").read_text()
