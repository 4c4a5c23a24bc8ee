"""Metrics of ranking belong to no task; they stand in tables, figures and comparisons all the same."""

import pytest

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.report import report
from stemlab.reporting.collect import Run, compact
from stemlab.reporting.figure import differences
from stemlab.reporting.reference import compare, read_reference
from stemlab.reporting.render import markdown, rows_flat
from stemlab.reporting.table import build_table
from tests.reporting.records import record, sequence_record, write

METRICS = ("hr@5", "ndcg@5")


def table(*records, by=("model",), metrics=METRICS, **options):
    return build_table([Run(f"run{i}", made) for i, made in enumerate(records)], by, metrics, **options)


def test_a_column_a_metric():
    made = table(sequence_record("timirec", 1, 0.30), sequence_record("timirec", 2, 0.32), sequence_record("pop"))
    assert made.columns == ["hr@5", "ndcg@5"]
    text = markdown(made, "Toy")
    assert "| model | HR@5 | NDCG@5 | seeds |" in text
    assert "| timirec | 0.4100 ± 0.0141 | 0.3100 ± 0.0141 | 2 |" in text
    assert "a network a task" not in text
    assert rows_flat(made)[0]["hr@5 mean"] == pytest.approx(0.4)
    assert markdown(table(sequence_record(), metrics=["ndcg@5"], split="val"), "").count("0.9000") == 1


def test_a_metric_that_nobody_has():
    with pytest.raises(StemlabError, match=r"no run has test/auc; measured there: hr@5, mrr, ndcg@5\."):
        table(sequence_record(), metrics=["auc"])
    with pytest.raises(StemlabError, match="no run has test/mrr;"):
        table(sequence_record(), metrics=["mrr"])
    with pytest.raises(StemlabError, match="no run has test/hr@5/finish; measured there: auc"):
        table(record(), metrics=["hr@5"])


def test_runs_with_and_without_tasks_keep_to_their_columns():
    both = table(record("stem"), sequence_record("timirec"), metrics=("auc", "ndcg@5"))
    assert both.columns == ["auc/finish", "auc/like", "ndcg@5/finish", "ndcg@5/like", "ndcg@5"]
    assert [both.rows[0].stats[name].mean for name in ("auc/like", "ndcg@5")] == [0.8, None]
    assert [both.rows[1].stats[name].mean for name in ("auc/like", "ndcg@5")] == [None, 0.3]


def test_a_missing_value_is_told():
    broken = sequence_record(seed=2)
    broken["metrics"]["test/ndcg@5"] = None
    assert table(sequence_record(), broken).warnings == ["timirec: ndcg@5 has no value for seed 2."]


def test_published_numbers_beside_ours(tmp_path):
    path = tmp_path / "published.yaml"
    path.write_text(
        "title: them\ntolerance: {hr@5: 0.012}\n"
        "rows:\n  - {match: {model: timirec}, metrics: {hr@5: 0.41, ndcg@5: 0.2}}\n"
        "  - {match: {model: pop}, metrics: {hr@5: 0.41, auc/like: 0.5}}\n"
    )
    made = table(sequence_record("timirec"), sequence_record("pop", ndcg=0.25), sequence_record("mine"))
    hr_pop, hr, ndcg = beside = compare(made, read_reference(path))
    assert [one.within for one in (hr_pop, hr, ndcg)] == [False, True, None]
    text = markdown(made, "", beside, "them")
    assert "(bold: HR@5 more than 0.012)" in text
    assert "| model | HR@5 | NDCG@5 |" in text
    assert "| timirec | 0.4100 (-0.0100) | 0.2000 (+0.1000) |" in text
    assert "| pop | 0.4100 **(-0.0600)** | – |" in text


def test_a_curve_of_a_metric_without_task():
    made = table(
        *(sequence_record(model, 1, 0.2, throughput={"x": x}) for model in ("timirec", "pop") for x in (1, 2)),
        by=("model", "throughput.x"),
    )
    (curve,) = differences(made, "throughput.x", "ndcg@5", "pop")
    assert (curve.model, curve.x, curve.mean) == ("timirec", (1.0, 2.0), (0.0, 0.0))


def test_the_command_takes_such_names(tmp_path):
    runs = write(tmp_path / "runs", sequence_record("timirec"), sequence_record("pop"))
    text = report(compose("report", [f"runs=[{runs}]", "metrics=[hr@5,ndcg@5]", "figure.metric=ndcg@5"]))
    assert "| pop | 0.4000 | 0.3000 | 1 |" in text


def test_copies_name_the_stages_but_no_folder():
    made = sequence_record(
        stage="finetune",
        stage1={"directory": "/home/me/runs/stages/x", "checkpoint": "/home/me/x/best.ckpt", "config_hash": "ab"},
    )
    assert compact(made)["stage"] == "finetune"
    assert compact(made)["stage1"] == {"config_hash": "ab"}
    assert "stage1" not in compact(record())
