"""``stemlab.prepare``: output, errors and files."""

import os
import re

from stemlab.config.compose import compose
from stemlab.prepare import prepare
from tests.cli.commands import Workspace
from tests.cli.conftest import SMALL_DATA
from tests.data.tiktok_rows import random_columns, write_lines, write_raw


def test_the_sample_is_generated_and_announced(tmp_path):
    workspace = Workspace(tmp_path)
    first = workspace.run_process("prepare", "dataset=tiktok", *SMALL_DATA)
    assert "SAMPLE data" in first.stdout + first.stderr
    assert re.search(r"tiktok +SAMPLE", first.stdout)
    for split, rows in (("train", "1,215"), ("valid", "135"), ("test", "151")):
        assert re.search(rf"{split} +│ +{rows} │", first.stdout)
    directory = re.search(r"prepared in (\S+)", first.stdout).group(1)
    assert os.path.isfile(f"{directory}/manifest.json")
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == ["data"]  # no log, no run directory


def test_errors_are_one_sentence(tmp_path):
    workspace = Workspace(tmp_path)
    wrong = workspace.run("prepare", "dataset=tiktok", "dataset.fields=[uid,itme_id]", status=2)
    assert wrong.stderr.count("\n") == 1
    assert "'item_id'" in wrong.stderr
    path = write_raw(tmp_path, random_columns(50))
    write_lines(tmp_path, [*path.read_text().splitlines(), "1\t2"])
    wrong = workspace.run("prepare", f"dataset.raw_dir={tmp_path / 'raw'}", status=2)
    assert re.search("final_track1_train.txt, line 51: .*2 columns.* 12", wrong.stderr)


def test_skipped_rows_are_counted(tmp_path, capsys):
    path = write_raw(tmp_path, random_columns(50))
    write_lines(tmp_path, [*path.read_text().splitlines(), "1\t2"])
    paths = [f"dataset.raw_dir={tmp_path / 'raw'}", f"paths.data_dir={tmp_path}"]
    prepare(compose("prepare", [*paths, "dataset.on_bad_row=skip", "dataset.group=null"]))
    out = capsys.readouterr().out
    assert re.search("1 .*skipped", out)
    assert "SAMPLE" not in out
