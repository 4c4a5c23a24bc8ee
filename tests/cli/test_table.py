"""A user's own table by the command line: the worked example of data/README.md, and what a user may get wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from stemlab.config.table_description import read_description
from stemlab.metrics import auc
from tests.cli.conftest import SECONDS, Workplace, environment

README = Path(__file__).resolve().parents[2] / "data" / "README.md"


def example():
    """The commands of the section, as one script."""
    section = README.read_text(encoding="utf-8").split("\n## table: your own table\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```bash\n(.*?)```", section, re.DOTALL))


@pytest.mark.slow
def test_the_worked_example(tmp_path):
    script = example()
    assert script.count("python -m stemlab.") == 5
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**environment(tmp_path), "PATH": path},
        capture_output=True,
        text=True,
        timeout=4 * SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    described = read_description(tmp_path / "rows.stemlab.yaml")
    assert described["tasks"] == ["click", "buy"]
    assert described["fields"] == ["user_id", "item_id", "country"]
    assert (described["numericals"], described["time"], described["group"]) == (["price"], "shown_at", "user_id")
    assert (
        "# left out: dwell_time (known only after the row was shown?)" in (tmp_path / "rows.stemlab.yaml").read_text()
    )
    record = json.loads((tmp_path / "runs/first/record.json").read_text())
    assert record["metrics"]["test/auc/click"] > 0.55
    assert {"test/auc/click/fr", "test/auc/buy/nl"} <= set(record["metrics"])
    assert "equal to the run record" in done.stdout
    test = pd.read_parquet(tmp_path / "scores.parquet")[-600:]  # the last 10 % in time
    assert auc(test["click"].to_numpy().astype(int), test["pred_click"].to_numpy()) == pytest.approx(
        record["metrics"]["test/auc/click"], abs=1e-12
    )


def test_a_draft_and_mistakes_in_a_config(tmp_path):
    place = Workplace(tmp_path)
    (tmp_path / "rows.csv").write_text("user_id,age,click\n" + "".join(f"{n % 7},{n},{n % 2}\n" for n in range(50)))
    words = ["dataset=table", "dataset.path=rows.csv"]
    drafted = place.run("prepare", *words)
    assert drafted.stdout.startswith("rows 50, columns 3: tasks 1, fields 1, numericals 1, left out 0.\n")
    assert "give it with dataset.config=rows.stemlab.yaml; nothing is prepared yet." in drafted.stdout
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name[0] != ".") == [
        "rows.csv",
        "rows.stemlab.yaml",
    ]
    config = tmp_path / "rows.stemlab.yaml"
    good = config.read_text()
    for wrong, told in (
        (
            good.replace("fields:", "feilds:"),
            "error: rows.stemlab.yaml: feilds is not a setting. Did you mean 'fields'?",
        ),
        (
            good.replace("  - user_id", "  - usr_id"),
            "error: dataset.fields has 'usr_id', which is no column of rows.csv",
        ),
        (good.replace("min_count: 2", "min_count: 0"), "error: dataset.min_count=0 (set in rows.stemlab.yaml) must be"),
    ):
        config.write_text(wrong)
        failed = place.run("prepare", *words, "dataset.config=rows.stemlab.yaml", status=2)
        assert failed.stderr.startswith(told)
        assert failed.stderr.count("\n") == 1
    assert "there already" in place.run("prepare", *words, status=2).stderr
    refused = place.run("train", *words, status=2)
    assert "does not say what to predict" in refused.stderr
