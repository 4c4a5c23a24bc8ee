"""A user's own table through the commands: the worked example of docs/table.md, and errors."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from stemlab.config.table_description import read_description
from stemlab.metrics import auc
from tests.cli.commands import TIMEOUT_S, Workspace, environment

PAGE = Path(__file__).resolve().parents[2] / "docs" / "table.md"


COMMAND = re.compile(r"python -m stemlab\.(\w+) (.*)")


def example() -> str:
    """Return the commands of the page as one script, one command per line."""
    return "\n".join(re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)).replace("\\\n", "")


def run_example(workspace: Workspace) -> str:
    """Run the script: commands of stemlab in this process, all other lines in bash; return standard output."""
    out, shell = [], []
    for line in [*example().splitlines(), None]:
        found = COMMAND.fullmatch(line or "")
        if line is not None and not found:
            shell.append(line)
            continue
        run_bash(workspace, "\n".join(shell))
        shell = []
        if found:
            out.append(workspace.run(found[1], *shlex.split(found[2])).stdout)
    assert len(out) == 4
    return "".join(out)


def run_bash(workspace: Workspace, script: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=workspace.directory,
        env={**environment(workspace.directory), "PATH": path},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_worked_example(tmp_path):
    out = run_example(Workspace(tmp_path))
    described = read_description(tmp_path / "rows.stemlab.yaml")
    assert described["tasks"] == ["click", "buy"]
    assert described["fields"] == ["user_id", "item_id"]
    assert (described["scenario"], described["scenarios"]) == ("country", ["fr", "nl"])
    assert (described["numericals"], described["time"], described["group"]) == (["price"], "shown_at", "user_id")
    assert "# left out: dwell_time" in (tmp_path / "rows.stemlab.yaml").read_text()
    record = json.loads((tmp_path / "runs/first/record.json").read_text())
    assert record["metrics"]["test/auc/click"] > 0.55
    assert {"test/auc/click/fr", "test/auc/buy/nl"} <= set(record["metrics"])
    assert "equal to the run record" in out
    test = pd.read_parquet(tmp_path / "scores.parquet")[-600:]  # the last 10 % in time
    assert auc(test["click"].to_numpy().astype(int), test["pred_click"].to_numpy()) == pytest.approx(
        record["metrics"]["test/auc/click"], abs=1e-12
    )


def test_a_draft_and_mistakes_in_a_config(tmp_path):
    workspace = Workspace(tmp_path)
    (tmp_path / "rows.csv").write_text("user_id,age,click\n" + "".join(f"{n % 7},{n},{n % 2}\n" for n in range(50)))
    overrides = ["dataset=table", "dataset.path=rows.csv"]
    drafted = workspace.run("prepare", *overrides)
    assert "\nrows 50, columns 3: tasks 1, fields 1, numericals 1, left out 0" in drafted.stdout
    assert drafted.stdout.startswith("user_id  integer: 7 values, 0 to 6 -> field, group of gAUC\nage ")
    assert "dataset.config=rows.stemlab.yaml" in drafted.stdout
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name[0] != ".") == [
        "rows.csv",
        "rows.stemlab.yaml",
    ]
    config = tmp_path / "rows.stemlab.yaml"
    good = config.read_text()
    for wrong, result in (
        (
            good.replace("fields:", "feilds:"),
            "error: rows.stemlab.yaml: feilds .*'fields'",
        ),
        (
            good.replace("  - user_id", "  - usr_id"),
            "error: dataset.fields .*'usr_id'.*rows.csv",
        ),
        (good.replace("min_count: 2", "min_count: 0"), "error: dataset.min_count=0 .*rows.stemlab.yaml"),
    ):
        config.write_text(wrong)
        failed = workspace.run("prepare", *overrides, "dataset.config=rows.stemlab.yaml", status=2)
        assert re.match(result, failed.stderr)
        assert failed.stderr.count("\n") == 1
    assert "rows.stemlab.yaml" in workspace.run("prepare", *overrides, status=2).stderr
    refused = workspace.run("train", *overrides, status=2)
    assert "dataset.tasks" in refused.stderr
