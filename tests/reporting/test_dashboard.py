"""The dashboard of runs: data, page and W&B workspace; the page in a real browser: tests/cli/test_dashboard_page.py."""

import json
import re
from typing import get_args

import pytest

from stemlab.config.compose import compose
from stemlab.config.dashboard_schema import PanelKind
from stemlab.dashboard import dashboard
from stemlab.errors import StemlabError
from stemlab.reporting.dashboard.page import dashboard_data, dashboard_page
from tests.reporting.dashboard_inputs import CURVES, dashboard_settings
from tests.reporting.records import record, sequence_record, write


@pytest.fixture
def runs(tmp_path):
    folder = write(
        tmp_path / "runs",
        *(record("stem", seed, lr=0.001, auc=(0.8, 0.9 + seed / 1000)) for seed in (1, 2)),
        *(record("mmoe", seed, lr=0.002, auc=(0.7, 0.8 + seed / 1000)) for seed in (1, 2)),
        record("ple", 1, status="running", metrics={}),
        record("stem", 3, sample=True),
        sequence_record(dataset="</script><b>"),
    )
    for path in folder.glob("*/record.json"):
        (path.parent / "metrics.csv").write_text(CURVES)
    return folder


def test_runs_and_leaderboards(runs):
    data, skipped = dashboard_data(dashboard_settings(f"runs=[{runs}]"))
    assert not skipped
    assert len(data["runs"]) == 7
    board = next(one for one in data["boards"] if one["title"].startswith("toy") and "SAMPLE" not in one["title"])
    found = {row["label"]: [(cell["mean"], cell["best"]) for cell in row["cells"][:2]] for row in board["rows"]}
    assert found["stem"] == [(0.8, True), (pytest.approx(0.9015), True)]
    assert found["mmoe"] == [(0.7, False), (pytest.approx(0.8015), False)]
    running = next(run for run in data["runs"] if run["status"] == "interrupted")  # nothing holds its lock
    assert running["metrics"] == {}
    assert running["curves"]["val/auc"] == [[1, 0.71], [2, 0.74]]
    assert running["curves"]["train/loss"] == [[1, 0.6], [2, 0.5]]
    assert [one["title"].split(" (")[0] for one in data["boards"]][-1] == "toy SAMPLE"
    stem = next(run for run in data["runs"] if run["model"] == "stem" and run["seed"] == 1)
    assert stem["cost"] == {
        "cost/parameters": 3000,
        "cost/embedding_parameters": 2000,
        "cost/samples_per_s": 5000.4,
        "cost/seconds": 2,
        "cost/seconds_to_best": 1,
        "cost/memory_mb": 1e-06,
    }


def test_settings_are_stored_once(runs):
    data, _ = dashboard_data(dashboard_settings(f"runs=[{runs}]", "++only={dataset:toy}"))
    assert data["common"]["optim.name"] == "adam"
    for run in data["runs"]:
        assert run["settings"]["model.name"] == run["model"]
        assert "optim.name" not in run["settings"]
        assert not any("/home" in str(value) for value in run["settings"].values())


def test_the_page_fetches_nothing_and_escapes_texts(runs):
    data, _ = dashboard_data(dashboard_settings(f"runs=[{runs}]", "title='<all> runs'"))
    text = dashboard_page(data)
    assert len(text) < 5e6
    assert "<title>&lt;all&gt; runs</title>" in text
    assert not re.search(r"""<(script|link|img)[^>]*(src|href)=["']?http""", text)
    content = re.search(r'<script id="data" type="application/json">(.*?)</script>', text)[1]
    assert json.loads(content) == json.loads(json.dumps(data))


def test_panels(runs):
    data, _ = dashboard_data(dashboard_settings(f"runs=[{runs}]"))
    panels = [panel for section in data["sections"] for panel in section["panels"]]
    assert {panel["kind"] for panel in panels} == set(get_args(PanelKind))
    for panel in panels:
        assert {"mark", "layer", "facet"} & set(panel["spec"])


@pytest.mark.parametrize(
    ("panel", "words"),
    [
        ("{kind: scatter, title: t, x: cost/seconds}", "kind=scatter"),
        ("{kind: points, title: t, metric: test/auc, x: a}", "kind=points"),
        ("{kind: importance, title: t, metric: 'test/*'}", "one metric"),
        ("{kind: pie, title: t, metric: test/auc}", "kind"),
        ("{kind: reliability, title: t, metric: test/auc}", "kind=reliability"),
        ("{kind: buckets, title: t}", "analysis"),
    ],
)
def test_wrong_panels_are_refused(panel, words):
    with pytest.raises(StemlabError, match=words):
        dashboard_settings(f"dashboard.sections=[{{name: a, panels: [{panel}]}}]")


def test_no_runs_are_refused(tmp_path):
    with pytest.raises(StemlabError, match="no run"):
        dashboard_data(dashboard_settings(f"runs=[{tmp_path}]"))
    with pytest.raises(StemlabError, match="entity"):
        dashboard(compose("dashboard", ["project=p"]))


def test_watching_writes_changed_runs_and_ends_without_reloading(runs, tmp_path, monkeypatch, capsys):
    page, seen = tmp_path / "page.html", []

    def sleep(seconds):
        seen.append(json.loads(re.search(r'type="application/json">(.*?)</script>', page.read_text())[1]))
        if len(seen) == 3:
            raise KeyboardInterrupt
        if len(seen) == 2:
            write(runs / "more", record("ple", 2))

    monkeypatch.setattr("stemlab.dashboard.time.sleep", sleep)
    monkeypatch.setattr("stemlab.reporting.dashboard.page.vega_bundle", lambda: "")
    dashboard(compose("dashboard", [f"runs=[{runs}]", f"output={page}", "watch=true", "interval=5"]))
    assert [(len(one["runs"]), one["reload_seconds"]) for one in seen] == [(7, 5), (7, 5), (8, 5)]
    assert '"reload_seconds":null' in page.read_text()
    assert capsys.readouterr().out.count("wrote") == 3


def test_watching_waits_for_the_first_run(tmp_path, monkeypatch, capsys):
    page, folder, calls = tmp_path / "page.html", tmp_path / "runs", []

    def sleep(seconds):
        calls.append(page.exists())
        if len(calls) == 3:
            raise KeyboardInterrupt
        if len(calls) == 2:
            write(folder, record("stem", 1))

    monkeypatch.setattr("stemlab.dashboard.time.sleep", sleep)
    monkeypatch.setattr("stemlab.reporting.dashboard.page.vega_bundle", lambda: "")
    dashboard(compose("dashboard", [f"paths.runs_dir={folder}", f"output={page}", "watch=true"]))
    assert calls == [False, False, True]
    assert capsys.readouterr().out.count("waiting") == 1
    with pytest.raises(StemlabError, match="nothing at"):
        dashboard(compose("dashboard", [f"runs=[{tmp_path / 'other'}]", f"output={page}", "watch=true"]))
