"""The page of records compares the published log with the metrics of the committed validation curve."""

import csv
import re
from pathlib import Path

PUBLISHED = {1: (0.3396, 0.2380), 2: (0.3482, 0.2414), 3: (0.3520, 0.2434)}
"""Epoch of stage 2 -> HR@5 and NDCG@5 on the validation split, from the log published with TiMiRec's code."""


def curve(root: Path, stage: str) -> dict[int, tuple[float, float]]:
    with (root / "scripts/records/ml1m_timirec/validation.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] == stage]
    return {int(row["epoch"]): (float(row["val/hr@5"]), float(row["val/ndcg@5"])) for row in rows}


def test_the_table_equals_curve_and_log(root: Path) -> None:
    page = (root / "scripts/records/README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- validation -->\n(.*)<!-- /validation -->", page, re.DOTALL)
    assert found
    ours = curve(root, "finetune")
    for line, (epoch, published) in zip(found[1].splitlines()[2:], PUBLISHED.items(), strict=True):
        cells = [str(epoch)]
        for value, log_value in zip(ours[epoch], published, strict=True):
            cells += [f"{value:.4f}", f"{log_value:.4f}", f"{round(value, 4) - log_value:+.4f}"]
        assert line == f"| {' | '.join(cells)} |"


def test_the_first_epochs_are_within_the_tolerance(root: Path) -> None:
    ours = curve(root, "finetune")
    assert max(abs(a - b) for epoch, both in PUBLISHED.items() for a, b in zip(ours[epoch], both, strict=True)) < 0.01


def test_stage_1_stopped_by_the_released_rule(root: Path) -> None:
    ndcg = [value for _, (_, value) in sorted(curve(root, "pretrain").items())]
    best = ndcg.index(max(ndcg))
    assert len(ndcg) - best > 20
    assert len(ndcg) - 1 - best <= 20
