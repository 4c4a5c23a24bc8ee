"""The dashboard of runs: data, page and W&B workspace; the page in a real browser: tests/cli/test_dashboard_page.py."""

import json
import re

import pytest

from stemlab.config.compose import compose
from stemlab.config.dashboard_schema import DashboardConfig
from stemlab.config.instantiate import validate_as
from stemlab.dashboard import dashboard
from stemlab.errors import StemlabError
from stemlab.reporting.dashboard.page import dashboard_data, dashboard_page
from stemlab.reporting.dashboard.workspace import workspace
from tests.reporting.records import record, sequence_record, write

CURVES = "epoch,step,train/loss,val/auc\n1,4,0.7,\n1,8,0.6,0.71\n2,12,0.5,\n2,16,,0.74\n"


def settings(*words):
    return validate_as(DashboardConfig, compose("dashboard", list(words)))


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
    data, skipped = dashboard_data(settings(f"runs=[{runs}]"))
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
    data, _ = dashboard_data(settings(f"runs=[{runs}]", "++only={dataset:toy}"))
    assert data["common"]["optim.name"] == "adam"
    for run in data["runs"]:
        assert run["settings"]["model.name"] == run["model"]
        assert "optim.name" not in run["settings"]
        assert not any("/home" in str(value) for value in run["settings"].values())


def test_the_page_fetches_nothing_and_escapes_texts(runs):
    data, _ = dashboard_data(settings(f"runs=[{runs}]", "title='<all> runs'"))
    text = dashboard_page(data)
    assert len(text) < 5e6
    assert "<title>&lt;all&gt; runs</title>" in text
    assert not re.search(r"""<(script|link|img)[^>]*(src|href)=["']?http""", text)
    content = re.search(r'<script id="data" type="application/json">(.*?)</script>', text)[1]
    assert json.loads(content) == json.loads(json.dumps(data))


def test_panels(runs):
    data, _ = dashboard_data(settings(f"runs=[{runs}]"))
    panels = [panel for section in data["sections"] for panel in section["panels"]]
    assert {panel["kind"] for panel in panels} == {"points", "curves", "scatter", "parallel", "importance"}
    for panel in panels:
        assert {"mark", "layer", "facet"} & set(panel["spec"])


@pytest.mark.parametrize(
    ("panel", "words"),
    [
        ("{kind: scatter, title: t, x: cost/seconds}", "kind=scatter"),
        ("{kind: points, title: t, metric: test/auc, x: a}", "kind=points"),
        ("{kind: importance, title: t, metric: 'test/*'}", "one metric"),
        ("{kind: pie, title: t, metric: test/auc}", "kind"),
    ],
)
def test_wrong_panels_are_refused(panel, words):
    with pytest.raises(StemlabError, match=words):
        settings(f"dashboard.sections=[{{name: a, panels: [{panel}]}}]")


def test_no_runs_are_refused(tmp_path):
    with pytest.raises(StemlabError, match="no run"):
        dashboard_data(settings(f"runs=[{tmp_path}]"))
    with pytest.raises(StemlabError, match="entity"):
        dashboard(compose("dashboard", ["project=p"]))


def test_the_workspace_has_the_panels_of_the_page():
    chosen = settings()
    model = json.loads(workspace(chosen, "me", "stemlab")._to_model().model_dump_json(by_alias=True))
    assert (model["entity"], model["project"]) == ("me", "stemlab")
    sections = model["spec"]["section"]["panelBankConfig"]["sections"]
    shown = {one["name"]: one["panels"] for one in sections}
    for section in chosen.dashboard.sections:
        assert len(shown[section.name]) == len(section.panels)
    kinds = {panel["viewType"] for one in sections for panel in one["panels"]}
    assert kinds == {
        "Run History Line Plot",
        "Bar Chart",
        "Scatter Plot",
        "Parallel Coordinates Plot",
        "Parameter Importance",
        "Run Comparer",
    }
    known = [f"test/auc/{task}" for task in ("finish", "like")]
    shown_bars = workspace(chosen, "me", "stemlab", known).sections[0].panels[0].metrics
    assert [getattr(metric, "name", metric) for metric in shown_bars] == known
    curve = next(one for one in shown["Training"] if one["config"]["chartTitle"] == "Validation AUC")
    assert (curve["config"]["metrics"], curve["config"]["xAxis"]) == (["val/auc"], "epoch")
    gates = next(one for one in shown["Diagnostics"] if "gates" in one["config"]["chartTitle"])
    assert gates["config"]["metricRegex"] == "diagnostics/gate/.*"
