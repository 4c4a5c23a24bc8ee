"""``stemlab.analyze``: complete, reproducible results; errors in one sentence."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stemlab.analyze import analyze
from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from tests.cli.commands import Workspace
from tests.cli.conftest import TINY


def run_of(trained: Path) -> str:
    return f"run={trained}"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def collapse(workspace: Workspace, trained: Path, place: Path) -> str:
    """Run the command and return its standard output."""
    return workspace.run("analyze", "analysis=collapse", run_of(trained), f"output={place}").stdout


@pytest.fixture(scope="module")
def found(trained: Path, workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Results of one command, which tests only read, and its standard output."""
    place = tmp_path_factory.mktemp("analysed") / "found"
    return place, collapse(workspace, trained, place)


def test_numbers_tables_figures_and_one_page(found: tuple[Path, str], trained: Path) -> None:
    folder, output = found
    assert set(files(folder)) == {
        *("index.html", "results.json", "abundance.csv", "spectra.csv"),
        *(f"{name}.{ending}" for name in ("abundance", "spectra_1", "tokens") for ending in ("png", "svg")),
    }
    results = json.loads((folder / "results.json").read_text())
    section = results["sections"]["collapse"]
    assert section["verdict"] in output
    with (folder / "abundance.csv").open() as file:
        rows = {row["run/field/role"]: row for row in csv.DictReader(file)}
    result = {f"stem/{table['field']}/{table['role']}": table for table in section["numbers"]["runs"]["stem"]["tables"]}
    assert rows.keys() == result.keys()
    assert float(rows["stem/uid/shared"]["abundance_l2"]) == result["stem/uid/shared"]["abundance_l2"]
    record = json.loads((trained / "record.json").read_text())
    assert results["runs"][0]["dataset_fingerprint"] == record["dataset_fingerprint"]
    assert results["runs"][0]["epoch"] == record["best"]["epoch"]


def test_the_page_is_self_contained_and_marked_as_sample(found: tuple[Path, str]) -> None:
    page = (found[0] / "index.html").read_text()
    assert "SAMPLE" in page
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page
    assert "read it" in page


def test_the_same_runs_give_the_same_files(found: tuple[Path, str], trained: Path, workspace: Workspace) -> None:
    folder, _ = found
    first, written = files(folder), (folder / "results.json").stat().st_mtime_ns
    collapse(workspace, trained, folder)
    assert files(folder) == first
    assert (folder / "results.json").stat().st_mtime_ns > written
    assert [path.name for path in folder.parent.iterdir()] == ["found"]


def test_checkpoints_of_one_run_are_shown_by_epoch(
    trained: Path, workspace: Workspace, run_training: Callable[..., float]
) -> None:
    run_training("short", *TINY, "trainer.max_epochs=1")
    run = workspace.directory / "long"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("analysis"))
    shutil.copy(workspace.directory / "short/checkpoints/last.ckpt", run / "checkpoints/first.ckpt")
    places = ",".join(f"{run}/checkpoints/{name}.ckpt" for name in ("first", "last"))
    workspace.run("analyze", f"runs=[{places}]", "output=epochs", "analysis.initial=true")
    folder = workspace.directory / "epochs"
    numbers = json.loads((folder / "results.json").read_text())["sections"]["collapse"]["numbers"]["runs"]
    labels = ["stem first (epoch 1)", "stem last (epoch 4)"]
    assert list(numbers) == [result for label in labels for result in (label, f"{label} before training")]
    assert [one["epochs_trained"] for one in numbers.values()] == [1, 0, 4, 0]
    first, first_before, last, last_before = (one["mean_abundance"] for one in numbers.values())
    assert first_before == last_before
    assert len({first["none"], first_before["none"], last["none"]}) == 3
    with (folder / "abundance.csv").open() as file:
        rows = [row["run/field/role"] for row in csv.DictReader(file)]
    assert [rows.count(f"{label}/uid/shared") for label in numbers] == [1, 1, 1, 1]
    page = (folder / "index.html").read_text()
    assert "Information Abundance" in page
    assert all(label in page for label in labels)


def test_a_report_continues_without_an_analysis_that_raises(trained: Path, tmp_path: Path) -> None:
    overrides = ["analysis=report", run_of(trained), f"output={tmp_path / 'found'}"]
    folder = analyze(compose("analyze", [*overrides, "analysis.parts.collapse.row_norm=none"]))
    results = json.loads((folder / "results.json").read_text())
    assert results["sections"]["collapse"]["numbers"]["row_norm"] == "none"
    assert (folder / "collapse" / "abundance.csv").is_file()
    with pytest.raises(StemlabError, match=r"collapse: .*'uidd'"):
        analyze(compose("analyze", [*overrides, "analysis.parts.collapse.fields=[uidd]"]))


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (["run=nowhere"], "run=.*nowhere"),
        ([], "^analysis=collapse .*run="),
        (["run=empty"], r"checkpoints/best\.ckpt.*stemlab\.train"),
        (["run=without"], r"checkpoints/best\.ckpt.*last\.ckpt"),
        (["run=trained", "analysis.fields=[uidd]"], "'uidd'.*uid, item_id.*'uid'"),
        (
            ["run=trained", "analysis.row_norm=l3"],
            r"analysis\.row_norm='l3' .*command line",
        ),
        (["run=trained", "output=empty"], "output=.*empty .*files"),
    ],
)
def test_errors_are_one_sentence_and_write_nothing(
    overrides: list[str], hint: str, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("mine")
    shutil.copytree(trained, tmp_path / "without", ignore=shutil.ignore_patterns("best.ckpt", "analysis"))
    places = {"run=trained": run_of(trained)}
    overrides = [
        places.get(word, word.replace("=", f"={tmp_path}/") if "analysis" not in word else word) for word in overrides
    ]
    with pytest.raises(StemlabError, match=hint) as refused:
        analyze(compose("analyze", overrides))
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "without"]
    assert (tmp_path / "empty" / "notes.txt").read_text() == "mine"


def test_a_missing_run_exits_with_2(workspace: Workspace) -> None:
    result = workspace.run("analyze", "run=nowhere", status=2).stderr
    assert result.startswith("error: ")
    assert "run=nowhere" in result
    assert result.count("\n") == 1


def test_a_crossed_threshold_exits_with_3_after_writing_all_results(trained: Path, workspace: Workspace) -> None:
    limits = "fail_if=['collapse.runs.*.mean_abundance.l2 < 1', 'collapse.runs.stem.mean_abundance.l2 < 100']"
    result = workspace.run("analyze", run_of(trained), "output=judged", limits, status=3).stderr
    folder = workspace.directory / "judged"
    results = json.loads((folder / "results.json").read_text())
    assert {"index.html", *results["files"]} == files(folder).keys() - {"results.json"}
    value = results["sections"]["collapse"]["numbers"]["runs"]["stem"]["mean_abundance"]["l2"]
    path = "collapse.runs.stem.mean_abundance.l2"
    assert result.startswith(f"error: fail_if '{path} < 100' ")
    assert f" {value:.6g}" in result
    assert result.count("\n") == 1


def test_a_threshold_that_is_not_crossed_and_one_with_an_unknown_path(trained: Path) -> None:
    """The results are written into the run directory by default."""
    overrides = [run_of(trained)]
    folder = analyze(compose("analyze", [*overrides, "fail_if='collapse.runs.stem.mean_abundance.l2 < 1'"]))
    assert folder == trained / "analysis" / "collapse"
    with pytest.raises(StemlabError, match=r"'l3' .*collapse\.runs\.stem\.mean_abundance.*l2") as refused:
        analyze(compose("analyze", [*overrides, "fail_if='collapse.runs.stem.mean_abundance.l3 < 1'"]))
    assert refused.value.status == 2
