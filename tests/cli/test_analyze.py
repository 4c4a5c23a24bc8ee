"""``stemlab.analyze``: whole results in one step, the same twice, one sentence where it cannot."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stemlab.analyze import analyze
from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from tests.cli.conftest import TINY, Workplace


def run_of(trained: Path) -> str:
    return f"run={trained}"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_numbers_tables_figures_and_one_page(trained: Path, workplace: Workplace) -> None:
    done = workplace.run("analyze", "analysis=collapse", run_of(trained), "output=found")
    folder = workplace.directory / "found"
    assert set(files(folder)) == {
        *("index.html", "results.json", "abundance.csv", "spectra.csv"),
        *(f"{name}.{ending}" for name in ("abundance", "spectra_1", "tokens") for ending in ("png", "svg")),
    }
    results = json.loads((folder / "results.json").read_text())
    section = results["sections"]["collapse"]
    assert section["verdict"] in done.stdout
    with (folder / "abundance.csv").open() as file:
        rows = {row["run/field/role"]: row for row in csv.DictReader(file)}
    told = {f"stem/{table['field']}/{table['role']}": table for table in section["numbers"]["runs"]["stem"]["tables"]}
    assert rows.keys() == told.keys()
    assert float(rows["stem/uid/shared"]["abundance_l2"]) == told["stem/uid/shared"]["abundance_l2"]
    record = json.loads((trained / "record.json").read_text())
    assert results["runs"][0]["dataset_fingerprint"] == record["dataset_fingerprint"]
    assert results["runs"][0]["epoch"] == record["best"]["epoch"]


def test_the_page_needs_no_other_file_and_says_sample(trained: Path, tmp_path: Path) -> None:
    page = (analyze(compose("analyze", [run_of(trained), f"output={tmp_path / 'found'}"])) / "index.html").read_text()
    assert "SAMPLE" in page
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page
    assert "How to read it" in page


def test_the_same_runs_give_the_same_files(trained: Path, tmp_path: Path) -> None:
    words = [run_of(trained), f"output={tmp_path / 'found'}"]
    first = files(analyze(compose("analyze", words)))
    assert files(analyze(compose("analyze", words))) == first
    assert [path.name for path in tmp_path.iterdir()] == ["found"]


def test_results_lie_beside_the_run_unless_told_otherwise(trained: Path) -> None:
    assert analyze(compose("analyze", [run_of(trained)])) == trained / "analysis" / "collapse"


def test_checkpoints_of_one_run_are_overlaid_epoch_by_epoch(
    trained: Path, workplace: Workplace, here: Callable[..., float]
) -> None:
    here("short", *TINY, "trainer.max_epochs=1")
    run = workplace.directory / "long"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("analysis"))
    shutil.copy(workplace.directory / "short/checkpoints/last.ckpt", run / "checkpoints/first.ckpt")
    places = ",".join(f"{run}/checkpoints/{name}.ckpt" for name in ("first", "last"))
    workplace.run("analyze", f"runs=[{places}]", "output=epochs", "analysis.initial=true")
    folder = workplace.directory / "epochs"
    numbers = json.loads((folder / "results.json").read_text())["sections"]["collapse"]["numbers"]["runs"]
    labels = ["stem first (epoch 1)", "stem last (epoch 4)"]
    assert list(numbers) == [told for label in labels for told in (label, f"{label} before training")]
    assert [one["epochs_trained"] for one in numbers.values()] == [1, 0, 4, 0]
    first, first_before, last, last_before = (one["mean_abundance"] for one in numbers.values())
    assert first_before == last_before
    assert len({first["none"], first_before["none"], last["none"]}) == 3
    with (folder / "abundance.csv").open() as file:
        rows = [row["run/field/role"] for row in csv.DictReader(file)]
    assert [rows.count(f"{label}/uid/shared") for label in numbers] == [1, 1, 1, 1]
    page = (folder / "index.html").read_text()
    assert "Mean Information Abundance over the epochs that were named" in page
    assert all(label in page for label in labels)


def test_a_report_goes_on_without_what_refuses(trained: Path, tmp_path: Path) -> None:
    words = ["analysis=report", run_of(trained), f"output={tmp_path / 'found'}"]
    folder = analyze(compose("analyze", [*words, "analysis.parts.collapse.row_norm=none"]))
    results = json.loads((folder / "results.json").read_text())
    assert results["sections"]["collapse"]["numbers"]["row_norm"] == "none"
    assert (folder / "collapse" / "abundance.csv").is_file()
    with pytest.raises(StemlabError, match=r"no analysis applies to these runs. collapse: .*no field 'uidd'"):
        analyze(compose("analyze", [*words, "analysis.parts.collapse.fields=[uidd]"]))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run=nowhere"], r"run=.*nowhere: there is nothing at this place\."),
        ([], r"^analysis=collapse needs a run: write run=<run directory>\.$"),
        (["run=empty"], r"no run directory: has no checkpoints/best\.ckpt; train it first with stemlab\.train\."),
        (["run=without"], r"the run has no checkpoints/best\.ckpt; name one of its checkpoints: last\.ckpt\."),
        (["run=trained", "analysis.fields=[uidd]"], "there is no field 'uidd'; there are uid, item_id.*mean 'uid'"),
        (
            ["run=trained", "analysis.row_norm=l3"],
            r"analysis\.row_norm='l3' \(set on the command line\) must be one of",
        ),
        (["run=trained", "output=empty"], "output=.*empty holds other files than those of stemlab.analyze"),
    ],
)
def test_what_cannot_be_analysed_is_one_sentence(
    words: list[str], sentence: str, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("mine")
    shutil.copytree(trained, tmp_path / "without", ignore=shutil.ignore_patterns("best.ckpt", "analysis"))
    places = {"run=trained": run_of(trained)}
    words = [places.get(word, word.replace("=", f"={tmp_path}/") if "analysis" not in word else word) for word in words]
    with pytest.raises(StemlabError, match=sentence) as refused:
        analyze(compose("analyze", words))
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "without"]
    assert (tmp_path / "empty" / "notes.txt").read_text() == "mine"


def test_a_mistake_leaves_with_status_2(workplace: Workplace) -> None:
    told = workplace.run("analyze", "run=nowhere", status=2).stderr
    assert told == "error: run=nowhere: there is nothing at this place.\n"


def test_a_crossed_threshold_leaves_with_status_3_and_whole_results(trained: Path, workplace: Workplace) -> None:
    limits = "fail_if=['collapse.runs.*.mean_abundance.l2 < 1', 'collapse.runs.stem.mean_abundance.l2 < 100']"
    told = workplace.run("analyze", run_of(trained), "output=judged", limits, status=3).stderr
    folder = workplace.directory / "judged"
    results = json.loads((folder / "results.json").read_text())
    assert {"index.html", *results["files"]} == files(folder).keys() - {"results.json"}
    value = results["sections"]["collapse"]["numbers"]["runs"]["stem"]["mean_abundance"]["l2"]
    path = "collapse.runs.stem.mean_abundance.l2"
    assert told == f"error: fail_if '{path} < 100' holds: {path} is {value:.6g}.\n"


def test_thresholds_that_hold_or_lead_nowhere(trained: Path, tmp_path: Path) -> None:
    words = [run_of(trained), f"output={tmp_path / 'found'}"]
    analyze(compose("analyze", [*words, "fail_if='collapse.runs.stem.mean_abundance.l2 < 1'"]))
    with pytest.raises(StemlabError, match=r"no 'l3' in collapse\.runs\.stem\.mean_abundance; nearest: l2") as refused:
        analyze(compose("analyze", [*words, "fail_if='collapse.runs.stem.mean_abundance.l3 < 1'"]))
    assert refused.value.status == 2
