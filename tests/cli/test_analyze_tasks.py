"""Analyses that compare single-task with joint models, on runs of a tiny world."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stemlab.analyze import analyze
from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from tests.cli.conftest import FAST, NET, WORLD, Workplace

BOTTOM = "model.net.bottom_hidden_units=[8]"
COMMON = ["dataset=tiktok", *WORLD, *NET, BOTTOM, *FAST, "trainer.max_epochs=2"]


@pytest.fixture(scope="session")
def family(here: Callable[..., float], workplace: Workplace, trained: Path) -> dict[str, Path]:
    """Single-task models, one of them with a second seed, and two joint models."""
    runs = {
        "finish": ["model=single_task", "model.task=finish"],
        "like": ["model=single_task", "model.task=like"],
        "like2": ["model=single_task", "model.task=like", "seed=7"],
        "shared": ["model=shared_bottom"],
    }
    for name, words in runs.items():
        here(f"family/{name}", *words, *COMMON)
    return {**{name: workplace.directory / "family" / name for name in runs}, "stem": trained}


def found(analysis: str, places: list[Path], tmp_path: Path, *words: str) -> tuple[Path, dict]:
    runs = f"runs=[{','.join(map(str, places))}]"
    folder = analyze(compose("analyze", [f"analysis={analysis}", runs, f"output={tmp_path / 'found'}", *words]))
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
    assert "No second seed of finish" in sections["entanglement"]["notes"][0]


@pytest.mark.parametrize(
    ("names", "words", "sentence"),
    [
        (["stem"], [], r"at least two tasks, and there are too few \(finish: 0, like: 0\)"),
        (["finish", "like", "stem"], [], "needs the noise of a seed as its control: train one of the single-task"),
        (["finish", "like", "like2"], ["analysis.user_field=uidd"], "no field 'uidd'; .*Did you mean 'uid'"),
        (["finish", "like", "like2"], ["analysis.tasks=[lik]"], "no task 'lik'; there are finish, like.*mean 'like'"),
        (["finish", "like", "like2"], ["analysis.activity=100"], "0 of 151 test rows .* set analysis.activity lower"),
        (["finish", "like", "like2"], ["analysis.near=70"], "analysis.near=70 must not be greater than analysis.far"),
    ],
)
def test_entanglement_refuses(
    names: list[str], words: list[str], sentence: str, family: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(StemlabError, match=sentence):
        found("entanglement", [family[name] for name in names], tmp_path, *words)


def test_comparable(family: dict[str, Path], tmp_path: Path) -> None:
    words = ["analysis.buckets=2", "analysis.resamples=20"]
    folder, sections = found("comparable", list(family.values()), tmp_path, *words)
    panels = sections["comparable"]["numbers"]["comparisons"][0]["panels"]
    record = json.loads((family["stem"] / "record.json").read_text())
    for task, panel in panels.items():
        told = table(folder / f"finish_like_{task}.csv")
        base = {key.split("/")[1]: row for key, row in told.items() if key.startswith(panel["baseline"])}
        assert sum(row["rows"] for row in base.values()) == 151
        for key, row in told.items():
            name, bucket = key.split("/")
            if name != panel["baseline"]:
                assert row["delta_auc"] == pytest.approx(row["auc"] - base[bucket]["auc"])
                assert row["low"] <= row["high"]
    assert panels["like"]["baseline"] == "single_task like seed 2023"
    assert "single_task like seed 7" in panels["like"]["models"]
    assert "stem" in sections["comparable"]["verdict"]
    assert record["metrics"]["test/auc/like"] is not None


def test_one_bucket_of_everything_has_the_recorded_auc(family: dict[str, Path], tmp_path: Path) -> None:
    """Buckets by a field without any difference between its values: all samples but the cold ones are together."""
    words = ["analysis.tau=1000", "analysis.resamples=2"]
    folder, _ = found("comparable", [family[name] for name in ("finish", "like", "stem")], tmp_path, *words)
    record = json.loads((family["stem"] / "record.json").read_text())
    told = table(folder / "finish_like_like.csv")
    assert told["stem/B2*"]["rows"] == 151
    assert told["stem/B2*"]["auc"] == record["metrics"]["test/auc/like"]


@pytest.mark.parametrize(
    ("names", "words", "sentence"),
    [
        (["finish", "like"], [], "there are 2 of these and 0 joint runs"),
        (["finish", "like", "stem"], ["analysis.entity=usr"], "analysis.entity: there is no field 'usr'"),
        (["finish", "like", "stem"], ["analysis.buckets=60"], r"bucket \d+ has \d+ test rows and all of them are"),
    ],
)
def test_comparable_refuses(
    names: list[str], words: list[str], sentence: str, family: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(StemlabError, match=sentence):
        found("comparable", [family[name] for name in names], tmp_path, "analysis.resamples=2", *words)


def test_a_report_leaves_out_what_does_not_apply(family: dict[str, Path], tmp_path: Path) -> None:
    folder, sections = found("report", [family["stem"]], tmp_path)
    assert "collapse" in sections
    results = json.loads((folder / "results.json").read_text())
    assert "at least two tasks" in results["refused"]["entanglement"]
    assert "entanglement left out" in (folder / "index.html").read_text()
