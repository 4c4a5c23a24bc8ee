"""The tables of docs/negative_transfer.md are those of the committed run records."""

import importlib.util
import sys

import pytest

SCRIPT = "scripts/negative_transfer.py"


@pytest.fixture
def script(root):
    spec = importlib.util.spec_from_file_location("negative_transfer", root / SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_table_of_the_records(script, root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [SCRIPT, str(root / "scripts" / "records" / "kuairand_log")])
    script.main()
    assert capsys.readouterr().out in (root / "docs" / "negative_transfer.md").read_text()


def test_the_page_has_the_table_of_the_tuning(script, root):
    table = script.tuning_table(root / "scripts" / "records" / "kuairand_log_tuning")
    assert table.count("\n") == 16  # five models, three penalties
    assert f"{table}\n" in (root / "docs" / "negative_transfer.md").read_text()


def test_holm(script):
    assert script.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert script.holm([0.9, 0.8]) == [1.0, 1.0]
