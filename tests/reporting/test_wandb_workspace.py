"""Specifications of the W&B workspace and report, compared with a stored one; nothing is sent.

``STEMLAB_WRITE_WANDB=1 pytest tests/reporting/test_wandb_workspace.py`` writes it again after panels were changed.
"""

import json
import os
from pathlib import Path

import pytest

from stemlab.reporting.dashboard.workspace import save_workspace, wandb_report, workspace
from tests.reporting.dashboard_inputs import dashboard_settings

pytest.importorskip("wandb_workspaces")
STORED = Path(__file__).parent / "wandb_panels.json"
DATA = {
    "runs": [{"metrics": {f"{split}/auc{end}": 0.8}} for split in ("val", "test") for end in ("", "/like", "/like/nl")],
    "analyses": [],
}


def present(value):
    """Return a specification without empty values."""
    if isinstance(value, dict):
        kept = {key: present(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in (None, {}, [])}
    return [present(inner) for inner in value] if isinstance(value, list) else value


def panels(found):
    return [{"kind": one["viewType"], **present(one["config"])} for one in found]


def model_of(made):
    return json.loads(made._to_model().model_dump_json(by_alias=True))


def test_workspace_and_report_are_the_stored_ones():
    chosen = dashboard_settings()
    for run in DATA["runs"]:
        run |= {"name": "r", "first_stage": None, "reliability": {}}
    board = model_of(workspace(chosen, "me", "stemlab", DATA))
    assert (board["entity"], board["project"]) == ("me", "stemlab")
    sections = board["spec"]["section"]["panelBankConfig"]["sections"]
    found = {one["name"]: panels(one["panels"]) for one in sections}
    page = model_of(wandb_report(chosen, "me", "stemlab", DATA))
    assert (page["displayName"], present(page["project"])) == ("stemlab runs", {"name": "stemlab", "entityName": "me"})
    blocks = page["spec"]["blocks"]
    headings = [one["children"][0]["text"] for one in blocks if one["type"] == "heading"]
    grids = [one["metadata"] for one in blocks if one["type"] == "panel-grid"]
    shown = [panels(grid["panelBankSectionConfig"]["panels"]) for grid in grids]
    assert dict(zip(headings, shown, strict=True)) == {name: one for name, one in found.items() if name != "Comparison"}
    if os.environ.get("STEMLAB_WRITE_WANDB"):
        STORED.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found == json.loads(STORED.read_text(encoding="utf-8"))


def test_panels_show_the_values_of_the_definition():
    chosen = dashboard_settings()
    found = json.loads(STORED.read_text(encoding="utf-8"))
    for section in chosen.dashboard.sections:
        assert len(found[section.name]) == len(section.panels)
    bars = {one["chartTitle"]: one["metrics"] for one in found["Quality"]}
    assert bars["AUC per task"] == ["test/auc/like"]
    assert bars["AUC per task and scenario"] == ["test/auc/like/nl"]
    assert bars["gAUC per task"] == ["test/gauc"]
    assert bars["NDCG"] == ["test/ndcg"]
    curve = next(one for one in found["Training"] if one["chartTitle"] == "Validation AUC")
    assert (curve["metrics"], curve["xAxis"]) == (["val/auc"], "epoch")
    gates = next(one for one in found["Diagnostics"] if "gates" in one.get("chartTitle", ""))
    assert gates["metricRegex"] == "diagnostics/gate/.*"
    assert found["Calibration"][-1]["kind"] == "Vega2"
    assert "reliability_table" in json.dumps(found["Calibration"][-1])
    assert found["Transfer"][-1]["kind"] == "Markdown Panel"


def test_a_failing_server_is_one_sentence(monkeypatch):
    from stemlab.errors import StemlabError

    def refuse(self):
        raise RuntimeError("no login\nmore")

    monkeypatch.setattr("wandb_workspaces.workspaces.Workspace.save", refuse)
    with pytest.raises(StemlabError, match=r"me/stemlab: no login\."):
        save_workspace(dashboard_settings("entity=me", "runs=[/nowhere]"))
