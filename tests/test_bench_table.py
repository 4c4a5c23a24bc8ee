"""The speed table is what the committed measurements give."""

import json
import runpy
import shutil
import sys
from types import SimpleNamespace
from unittest import mock

import pytest


def run(root, *words):
    """Run the script of a folder in this process; return its exit status and error message."""
    folder = root / "scripts" / "bench"
    with mock.patch.object(sys, "argv", ["table.py", *words]), mock.patch.object(sys, "path", [str(folder), *sys.path]):
        sys.modules.pop("result_rows", None)  # the one of another folder
        try:
            runpy.run_path(str(folder / "table.py"), run_name="__main__")
        except SystemExit as end:
            return SimpleNamespace(returncode=1, stderr=str(end))
    return SimpleNamespace(returncode=0, stderr="")


def test_the_page_holds_what_was_measured(root):
    ended = run(root, "--check")
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def bench(root, tmp_path):
    """Return the folder of a copy of the script, its results and its page."""
    folder = tmp_path / "scripts" / "bench"
    shutil.copytree(root / "scripts" / "bench" / "results", folder / "results")
    for name in ("scripts/bench/table.py", "scripts/bench/result_rows.py", "docs/benchmarks.md"):
        copy = tmp_path / name
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(root / name, copy)
    return folder


def rows(bench):
    """Write the page again; return its lines by what was measured."""
    ended = run(bench.parents[1])
    assert ended.returncode == 0, ended.stderr
    page = bench.parents[1] / "docs" / "benchmarks.md"
    table = page.read_text().partition("<!-- table:speed -->")[2].partition("<!-- /table -->")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0] == ["work", "against", "result (median)", "spread", "of the peak", "memory per step", "machine"]
    return {work: (against, *rest) for work, against, *rest in cells}


def test_a_typed_number_would_be_noticed(bench):
    page = bench.parents[1] / "docs" / "benchmarks.md"
    page.write_text(page.read_text().replace("| gAUC, 1,000,000 rows", "| gAUC, 9,000,000 rows"))
    ended = run(bench.parents[1], "--check")
    assert ended.returncode == 1
    assert "table 'speed'" in ended.stderr


def test_preparation_compares_memory_with_fewer_rows(bench):
    sizes = [{"rows": 1_000, "peak_bytes": 500_000_000}, {"rows": 6_000, "peak_bytes": 550_000_000}]
    (bench / "results" / "prepare_aliexpress.json").write_text(json.dumps({"ours": sizes}))
    assert rows(bench)["prepare, AliExpress NL, peak memory, 6,000 rows"][:2] == ("1,000 rows (500 MB)", "1.10 x")


def test_analyses_are_compared_with_their_limits(bench):
    taken = {"wall_seconds": 71.4, "cpu_seconds": 102.6, "peak_bytes": 3_210_000_000, "progress_bar": True}
    found = {"rows": 5_000, "width": 48, "pairs": 20_000, "threads": 2, "collapse": taken, "entanglement": taken}
    (bench / "results" / "analysis.json").write_text(json.dumps(found))
    found = rows(bench)
    assert found["analysis=collapse, table of 5,000 rows x 48, peak memory"][:2] == ("limit 6 GB", "3.21 GB")
    about = "analysis=entanglement, table of 5,000 rows x 48, 20,000 pairs"
    assert found[f"{about}, 2 threads"][:2] == ("limit 120 s", "71 s")
    assert found[f"{about}, CPU time"][:2] == ("limit 240 s (two cores)", "103 s")


def test_a_benchmark_without_results_has_no_rows(bench):
    before = rows(bench)
    (bench / "results" / "kernels.json").unlink()
    left = rows(bench)
    gone = {what for what in before if what not in left}
    assert gone == {what for what in before if what.endswith("CPU time saved by kernels")} != set()


def test_a_file_in_the_common_form_needs_no_function(bench):
    row = {"what": "a step", "baseline": "a twin", "ratio": {"median": 2.356, "low": 2.2, "high": 12.34}, "unit": "x"}
    share = {**row, "what": "a rate", "unit": "%", "ratio": {"median": 0.7, "low": 0.7, "high": 0.7}}
    of_peak = {**share, "what": "products per second", "baseline": "peak of this CPU (oneDNN)"}
    more = {**row, "what": "all", "peak": 0.813, "memory_bytes": 12_300_000, "cpu": "other CPU"}
    found = {"cpu": "some CPU", "threads": 2, "rows": [row, share, of_peak, more]}
    (bench / "results" / "new.json").write_text(json.dumps(found))
    made = rows(bench)
    assert made["a step"] == ("a twin", "2.36 x", "2.20 x to 12.3 x", "", "", "some CPU, 2 threads")
    assert made["a rate"] == ("a twin", "70%", "", "", "", "some CPU, 2 threads")
    assert made["products per second"][1:4] == ("", "", "70%")
    assert made["all"][3:] == ("81%", "12 MB", "other CPU, 2 threads")
    (bench / "results" / "gauc.json").write_text(json.dumps(found))  # a script that has changed its form
    assert made.items() - rows(bench).items() == {(work, row) for work, row in made.items() if work.startswith("gAUC")}


def test_recorded_rounds_give_a_spread_and_recorded_machines_are_named(bench):
    made = rows(bench)
    assert " to " in made["gAUC, 1,000,000 rows, 30,000 groups"][2]
    assert any("Xeon" in row[-1] for row in made.values())
    assert any("H100" in row[-1] for row in made.values())


def test_all_rows_are_written_to_one_file(bench):
    made = rows(bench)
    together = json.loads((bench / "results" / "table.json").read_text())["rows"]
    assert {row["work"] for row in together} == made.keys() - {"work", "---"}
    path = bench / "results" / "table.json"
    path.write_text(path.read_text().replace("gAUC", "AUC"))
    ended = run(bench.parents[1], "--check")
    assert ended.returncode == 1
    assert "table.json" in ended.stderr
