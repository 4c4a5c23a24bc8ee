"""Command stemlab.report: tables, documents and committed studies."""

import pytest

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.report import report
from tests.cli.commands import Workspace
from tests.reporting.records import record, write

PAGE = "# Page\n\n<!-- table:results -->\nold\n<!-- /table -->\n\nafter\n"


def run(*words):
    return report(compose("report", words))


@pytest.fixture
def runs(tmp_path):
    return write(
        tmp_path / "runs", record("stem", 1), record("stem", 2), record("mmoe"), record("ple", status="failed")
    )


def test_the_table_is_written_and_unusable_runs_are_named(tmp_path, runs):
    text = run(f"runs=[{runs}]", "metrics=[auc]", f"output={tmp_path}/out", f"copies={tmp_path}/records", "caption=Toy")
    assert text.startswith("Toy (mean ± standard deviation over seeds)")
    assert any("run3/record.json" in line and "failed" in line for line in text.splitlines())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"results.{end}" for end in ("md", "html", "tex", "csv", "json")
    }
    again = run(f"runs=[{tmp_path}/records]", "metrics=[auc]", "caption=Toy")
    assert again.splitlines()[:6] == text.splitlines()[:6]


def test_a_document_is_updated_and_checked(tmp_path, runs):
    page, words = tmp_path / "README.md", (f"runs=[{runs}]", "metrics=[auc]")
    page.write_text(PAGE)
    with pytest.raises(StemlabError, match=r"README.md, line 4: table 'results'"):
        run(*words, f"update={page}", "check=true")
    assert page.read_text() == PAGE
    assert "replaced" in run(*words, f"update={page}")
    made = page.read_text()
    assert made.startswith("# Page\n\n<!-- table:results -->\n(mean ±")
    assert made.endswith("\n<!-- /table -->\n\nafter\n")
    assert "up to date" in run(*words, f"update={page}")
    assert "table 'results'" in run(*words, f"update={page}", "check=true")
    page.write_text(made.replace("| mmoe | 0.7000 |", "| mmoe | 0.7001 |"))
    with pytest.raises(StemlabError, match=f"line {made[: made.index('| mmoe')].count(chr(10)) + 1}:"):
        run(*words, f"update={page}", "check=true")


@pytest.mark.parametrize(
    ("page", "hint"),
    [
        ("nothing", "no block for table 'results'"),
        ("<!-- table:result -->\n<!-- /table -->", "Did you mean 'result'"),
        (PAGE + PAGE, "more than one"),
        ("<!-- table:results -->", "not closed"),
        ("<!-- table:results -->\n<!-- table:b -->\n<!-- /table -->", "not closed"),
    ],
)
def test_a_document_without_the_block_is_not_changed(tmp_path, runs, page, hint):
    path = tmp_path / "README.md"
    path.write_text(page)
    with pytest.raises(StemlabError, match=hint):
        run(f"runs=[{runs}]", "metrics=[auc]", f"update={path}")
    assert path.read_text() == page


def test_wrong_settings_are_named(runs):
    for words, hint in {
        ("check=true",): "needs update",
        ("metrics=[]",): "metrics",
        ("output=table.md",): "output=table.md .*folder",
        ("split=tset",): "Did you mean 'test'",
        (f"runs=[{runs}/none]",): "nothing at",
        (f"runs=[{runs}]", "reference=none.yaml", "metrics=[auc]"): "no file none.yaml",
    }.items():
        with pytest.raises(StemlabError, match=hint):
            run(*words)


def test_the_figure_is_written_with_the_table(tmp_path):
    runs = write(
        tmp_path / "runs",
        *(record(m, s, conflict=c, sample=True) for m in ("stem", "mmoe") for s in (1, 2) for c in (0, 1)),
    )
    words = ("by=[model,dataset.sample.conflict]", "figure.x=dataset.sample.conflict", "metrics=[auc]")
    run(f"runs=[{runs}]", *words, f"output={tmp_path}/out")
    assert {"results_auc_like.png", "results_auc_like.svg"} < {path.name for path in (tmp_path / "out").iterdir()}


def test_check_exits_with_2_if_the_document_differs(tmp_path, runs):
    page = tmp_path / "README.md"
    page.write_text(PAGE)
    words = [f"runs=[{runs}]", "metrics=[auc]", f"update={page}", "check=true"]
    ended = Workspace(tmp_path).run("report", *words, status=2)
    assert ended.stderr.startswith("error: ")
    assert "table 'results'" in ended.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "README.md"}


@pytest.mark.parametrize(
    ("study", "page"),
    [
        ("ml1m_multitask", "docs/results.md"),
        ("tiktok_conflict", "docs/results.md"),
        ("ml1m_multitask_aitm", "scripts/records/README.md"),
        ("ml1m_dcnv2", "scripts/records/analysis/README.md"),
        ("ml1m_target_attention", "scripts/records/analysis/README.md"),
        ("ml1m_timirec", "scripts/records/README.md"),
        ("grocery", "scripts/records/README.md"),
        ("ml1m_tables", "docs/methods/tables.md"),
        ("tiktok_tables", "docs/methods/tables.md"),
        ("ml1m_balancing", "docs/balancing.md"),
        ("kuairand_log_samples", "docs/reports.md"),
    ],
)
def test_committed_tables_equal_their_records(root, monkeypatch, study, page):
    monkeypatch.chdir(root)
    if not list((root / "scripts" / "records" / study).glob("*_seed*.json")):
        pytest.skip(f"no records of {study} are committed")
    assert f"table {study!r}" in run(f"study={study}", f"update={page}", "check=true")
