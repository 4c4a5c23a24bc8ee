"""Ranking metrics, which have no task, in tables, figures and comparisons."""

import pytest

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.report import report
from stemlab.reporting.collect import Run, compact
from stemlab.reporting.figure import baseline_differences
from stemlab.reporting.reference import compare_with_reference, read_reference
from stemlab.reporting.render import markdown, rows_flat
from stemlab.reporting.table import build_table
from tests.reporting.records import record, sequence_record, write

METRICS = ("hr@5", "ndcg@5")


def table(*records, by=("model",), metrics=METRICS, **options):
    return build_table([Run(f"run{i}", made) for i, made in enumerate(records)], by, metrics, **options)


def test_one_column_per_metric():
    made = table(sequence_record("timirec", 1, 0.30), sequence_record("timirec", 2, 0.32), sequence_record("pop"))
    assert made.columns == ["hr@5", "ndcg@5"]
    text = markdown(made, "Toy")
    assert "| model | HR@5 | NDCG@5 | seeds |" in text
    assert "| timirec | 0.4100 ± 0.0141 | 0.3100 ± 0.0141 | 2 |" in text
    assert "one network per task" not in text
    assert rows_flat(made)[0]["hr@5 mean"] == pytest.approx(0.4)
    assert markdown(table(sequence_record(), metrics=["ndcg@5"], split="val"), "").count("0.9000") == 1


def test_a_metric_that_no_run_has_is_an_error():
    with pytest.raises(StemlabError, match=r"test/auc;.*: hr@5, mrr, ndcg@5"):
        table(sequence_record(), metrics=["auc"])
    with pytest.raises(StemlabError, match=r"test/mrr"):
        table(sequence_record(), metrics=["mrr"])
    with pytest.raises(StemlabError, match=r"test/hr@5/finish;.*: auc"):
        table(record(), metrics=["hr@5"])


def test_runs_with_and_without_tasks_have_separate_columns():
    both = table(record("stem"), sequence_record("timirec"), metrics=("auc", "ndcg@5"))
    assert both.columns == ["auc/finish", "auc/like", "ndcg@5/finish", "ndcg@5/like", "ndcg@5"]
    assert [both.rows[0].stats[name].mean for name in ("auc/like", "ndcg@5")] == [0.8, None]
    assert [both.rows[1].stats[name].mean for name in ("auc/like", "ndcg@5")] == [None, 0.3]


def test_a_missing_value_gives_a_warning():
    broken = sequence_record(seed=2)
    broken["metrics"]["test/ndcg@5"] = None
    (warning,) = table(sequence_record(), broken).warnings
    assert warning.startswith("timirec: ndcg@5")
    assert "seed 2" in warning


def test_published_numbers_are_compared(tmp_path):
    path = tmp_path / "published.yaml"
    path.write_text(
        "title: them\ntolerance: {hr@5: 0.012}\n"
        "rows:\n  - {match: {model: timirec}, metrics: {hr@5: 0.41, ndcg@5: 0.2}}\n"
        "  - {match: {model: pop}, metrics: {hr@5: 0.41, auc/like: 0.5}}\n"
    )
    made = table(sequence_record("timirec"), sequence_record("pop", ndcg=0.25), sequence_record("mine"))
    hr_pop, hr, ndcg = compared = compare_with_reference(made, read_reference(path))
    assert [one.within for one in (hr_pop, hr, ndcg)] == [False, True, None]
    text = markdown(made, "", compared, "them")
    assert "(bold: HR@5 more than 0.012)" in text
    assert "| model | HR@5 | NDCG@5 |" in text
    assert "| timirec | 0.4100 (-0.0100) | 0.2000 (+0.1000) |" in text
    assert "| pop | 0.4100 **(-0.0600)** | – |" in text


def test_a_curve_of_a_metric_without_task():
    made = table(
        *(sequence_record(model, 1, 0.2, throughput={"x": x}) for model in ("timirec", "pop") for x in (1, 2)),
        by=("model", "throughput.x"),
    )
    (curve,) = baseline_differences(made, "throughput.x", "ndcg@5", "pop")
    assert (curve.model, curve.x, curve.mean) == ("timirec", (1.0, 2.0), (0.0, 0.0))


def test_the_command_accepts_metrics_without_task(tmp_path):
    runs = write(tmp_path / "runs", sequence_record("timirec"), sequence_record("pop"))
    text = report(compose("report", [f"runs=[{runs}]", "metrics=[hr@5,ndcg@5]", "figure.metric=ndcg@5"]))
    assert "| pop | 0.4000 | 0.3000 | 1 |" in text


def test_compact_copies_keep_stages_without_paths():
    made = sequence_record(
        stage="finetune",
        stage1={"directory": "/home/me/runs/stages/x", "checkpoint": "/home/me/x/best.ckpt", "config_hash": "ab"},
    )
    assert compact(made)["stage"] == "finetune"
    assert compact(made)["stage1"] == {"config_hash": "ab"}
    assert "stage1" not in compact(record())
