"""Curves of a run that was interrupted are read from the files of all its parts."""

from pathlib import Path

from stemlab.analysis.transfer.logged_curves import logged_conflicts

NAME = "diagnostics/conflict/finish-like/tables"


def write(path: Path, *values: tuple[int, str]) -> None:
    path.write_text(f"epoch,step,{NAME}\n" + "".join(f"{epoch},0,{value}\n" for epoch, value in values))


def test_all_parts_of_a_run_form_one_curve(tmp_path: Path) -> None:
    assert logged_conflicts("a", None) == []
    assert logged_conflicts("a", tmp_path) == []
    write(tmp_path / "metrics_until_epoch_10.csv", (9, "0.9"), (10, "1.0"), (11, "7"))
    write(tmp_path / "metrics_until_epoch_2.csv", (1, "0.1"), (2, "0.2"))
    write(tmp_path / "metrics_until_epoch_2_2.csv", (2, "0.25"))
    write(tmp_path / "metrics.csv", (11, "1.1"), (12, ""))
    (curve,) = logged_conflicts("a", tmp_path)
    assert (curve.label, curve.name) == ("a", "finish-like/tables")
    assert curve.epochs == (1, 2, 9, 10, 11)
    assert curve.values == (0.1, 0.25, 0.9, 1.0, 1.1)
