"""Paths and patterns of runs."""

import glob
from pathlib import Path

from stemlab.analysis.runs import find_run_paths
from stemlab.reporting.collect import record_paths
from stemlab.reporting.path_patterns import matching_paths


def test_a_path_with_brackets_is_a_path_and_other_words_are_patterns(tmp_path: Path) -> None:
    for name in ("b", "a", "lr[a]"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text("{}")
    run = tmp_path / "lr[a]"
    for pattern in (str(run), glob.escape(str(run))):
        assert matching_paths(pattern) == find_run_paths(pattern) == [run]
        assert record_paths([pattern]) == [run / "record.json"]
    assert matching_paths(f"{tmp_path}/[ab]") == [tmp_path / "a", tmp_path / "b"]
    assert matching_paths(f"{tmp_path}/c*") == []
