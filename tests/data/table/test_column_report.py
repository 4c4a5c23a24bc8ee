"""Scenarios, times, weights and labels in the draft of a table; the line of each column."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stemlab.config.table_description import read_description
from stemlab.data.table import file, survey
from stemlab.data.table.draft import write_draft
from stemlab.data.table.file import open_table
from tests.data.table.rows import frame, table


@pytest.fixture(autouse=True)
def current_directory(tmp_path, monkeypatch):
    """Run each test in its temporary directory, where drafts are written."""
    monkeypatch.chdir(tmp_path)


def test_an_uncommented_scenario_is_no_field(tmp_path, caplog):
    rows = frame(600).assign(platform=["web", "app", "tv"] * 200, tab=[0, 1] * 300)
    rows.to_csv(path := tmp_path / "rows.csv", index=False)
    text = write_draft(open_table(path))[0].read_text()
    found = read_description(Path("rows.stemlab.yaml"))
    assert found["scenario"] == "tab"  # before country and platform
    assert "tab" not in found["fields"]
    assert {"country", "platform"} <= set(found["fields"])
    lines = [line for line in text.splitlines() if not line.startswith("scenario")]
    lines = [line.removeprefix("# ") if line.startswith("# scenario") else line for line in lines]
    Path("rows.stemlab.yaml").write_text(
        "\n".join(line for line in lines if "nl" not in line and "country #" not in line)
    )
    found = read_description(Path("rows.stemlab.yaml")) | {"scenario": "platform"}
    with caplog.at_level("INFO"):
        (module := table(tmp_path, path, **found)).prepare()
    assert "platform" not in module.spec.field_sizes
    assert module.spec.scenarios == ("app", "tv", "web")
    assert "'platform' is dataset.scenario" in caplog.text


def test_a_scenario_is_drafted_only_if_all_values_were_seen(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    frame(2000).to_csv(path, index=False)
    monkeypatch.setattr(survey, "MAX_BYTES", 40_000)
    monkeypatch.setattr(file, "TABLE_BLOCK_BYTES", 10_000)
    written, _, _ = write_draft(open_table(path))
    assert "\n# scenario: country # one model" in written.read_text()
    assert "country" in read_description(written)["fields"]


def test_each_column_has_a_line_with_what_was_seen_and_decided(tmp_path):
    rows = frame(600)
    rows["event_time"] = rows["ts"] * 1000 + 5
    rows["day"] = 20240101 + np.arange(600) % 28
    rows["shown_at"] = pd.date_range("2024-05-01", periods=600, freq="h").astype(str)
    rows["sample_weight"], rows["watch_time"] = rows["price"], rows["price"]
    rows["conversion"] = np.where(rows["click"] == 1, rows["buy"], np.nan)
    rows["tags"] = ["|".join("abc"[: n % 3 + 1]) for n in range(600)]
    rows.to_csv(tmp_path / "rows.csv", index=False)
    written, lines, _ = write_draft(open_table(tmp_path / "rows.csv"))
    assert [name for name, _, _ in lines] == list(rows)
    seen = {name: (cells, decision) for name, cells, decision in lines}
    wanted = {
        "row": ("integer: 600 values", "left out: a different value"),
        "user_id": ("such as u", "field, group of gAUC"),
        "country": ("3 values", "scenario, so no field"),
        "price": ("missing", "numerical"),
        "ts": ("seconds since 1970, 2023-11-14 to", "time of the split"),
        "event_time": ("milliseconds since 1970, 2023-11-14 to", "second time column"),
        "day": ("dates yyyymmdd, 2024-01-01 to 2024-01-28", "second time column"),
        "shown_at": ("ISO dates, 2024-05-01 to 2024-05-25", "second time column"),
        "click": ("0 and 1", "task"),
        "sample_weight": ("number", "weight"),
        "watch_time": ("number", "regression label"),
        "conversion": ("missing", "given"),
        "tags": ("lists: up to 3 values", "multi-valued field"),
    }
    for name, parts in wanted.items():
        assert all(part in text for part, text in zip(parts, seen[name], strict=True)), (name, seen[name])
    text = written.read_text()
    assert "# labels: {watch_time: {kind: regression}}" in text
    assert "# weight: sample_weight" in text
    assert "\ntime: ts # seconds since 1970, 2023-11-14" in text


def test_the_split_follows_the_time_of_the_impressions(tmp_path, monkeypatch):
    """Neither a date of the user or item, nor the coarser of two times."""
    monkeypatch.chdir(tmp_path)
    rows = frame(100)[["user_id", "click"]]
    rows["signup_date"] = pd.date_range("2020-01-01", periods=100, freq="D").astype(str)
    rows["day"] = 20240101 + np.arange(100) % 28
    rows.to_csv("dated.csv", index=False)
    write_draft(open_table(tmp_path / "dated.csv"))
    rows["event_time"] = np.arange(100) + 1_700_000_000
    rows.to_csv("timed.csv", index=False)
    write_draft(open_table(tmp_path / "timed.csv"))
    rows.drop(columns=["day", "event_time"]).to_csv("undated.csv", index=False)
    _, lines, checks = write_draft(open_table(tmp_path / "undated.csv"))
    assert [read_description(tmp_path / f"{name}.stemlab.yaml")["time"] for name in ("dated", "timed")] == [
        "day",
        "event_time",
    ]
    assert "date of the user or item" in {name: decision for name, _, decision in lines}["signup_date"]
    assert any("split at random" in check for check in checks)
