"""Report tables: rows, statistics, warnings and formats."""

import csv
import io
import json
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemlab.errors import StemlabError
from stemlab.reporting.collect import Run
from stemlab.reporting.reference import compare_with_reference, read_reference
from stemlab.reporting.render import as_csv, as_json, markdown, rows_flat
from stemlab.reporting.table import Stat, build_table
from tests.reporting.records import record


def table(*records, by=("model",), metrics=("auc",), **options):
    runs = [Run(f"run{i}", made) for i, made in enumerate(records)]
    return build_table(runs, by, metrics, **options)


@given(st.dictionaries(st.integers(0, 9), st.floats(0, 1), min_size=1))
def test_mean_and_standard_deviation(values):
    stat = Stat(values)
    assert stat.mean == pytest.approx(fmean(values.values()))
    assert stat.std == (pytest.approx(stdev(values.values())) if len(values) > 1 else None)


def test_seeds_are_averaged_and_models_ordered():
    made = table(
        record("ple"),
        *(record("stem", seed, auc=(0.5, auc)) for seed, auc in ((1, 0.80), (2, 0.82), (3, 0.84))),
        record("mmoe"),
        order=["mmoe", "stem"],
    )
    assert [row.labels["model"] for row in made.rows] == ["mmoe", "stem", "ple"]
    assert made.rows[1].seeds == [1, 2, 3]
    text = markdown(made, "Toy")
    assert "| stem | 0.5000 ± 0.0000 | 0.8200 ± 0.0200 | 3 | 5,000 | 1,000 | 2,000 |" in text
    assert "| mmoe | 0.7000 | 0.8000 | 1 | 5,000 | 1,000 | 2,000 |" in text
    assert "SAMPLE" not in text
    assert made.warnings == []


def test_limited_runs_are_marked_in_every_format():
    limited = record("ple")
    limited["config"]["trainer"] = {"limit_train_batches": 2, "limit_test_batches": 1}
    made = table(limited, record("stem"))
    text = markdown(made, "Toy")
    assert "| ple LIMITED |" in text
    assert "| stem |" in text
    assert "LIMITED" in text.splitlines()[0]
    assert "ple LIMITED: trainer.limit_train_batches=2, trainer.limit_test_batches=1." in text
    flat = rows_flat(made)
    assert [line["limited"] for line in flat] == ["trainer.limit_train_batches=2, trainer.limit_test_batches=1", ""]
    assert json.loads(as_json(flat, made, ""))["limited"] is True
    assert "limited" in as_csv(flat).splitlines()[0]
    plain = table(record("stem"))
    assert "LIMITED" not in markdown(plain, "Toy")
    assert "limited" not in as_csv(rows_flat(plain))


def test_single_task_networks_share_a_row():
    made = table(
        *(record("single_task", seed, task="like", auc=(0.1, 0.8)) for seed in (1, 2)),
        *(record("single_task", seed, task="finish", auc=(0.7, 0.1)) for seed in (1, 2)),
        record("stem", 1),
        record("stem", 1, task="like", auc=(0.1, 0.6)),
    )
    labels = [line.split(" | ")[0] for line in markdown(made, "").splitlines() if line.startswith("| s")]
    assert labels == ["| single_task (one network per task)", "| stem", "| stem (one network per task)"]
    assert [row.stats["auc/finish"].mean for row in made.rows] == [pytest.approx(0.7), 0.7, None]
    assert [row.stats["auc/like"].mean for row in made.rows] == [pytest.approx(0.8), 0.8, 0.6]


@pytest.mark.parametrize(
    ("costs", "names"),
    [(["samples/s", "dense", "embedding"], "samples/s and parameters"), (["dense"], "parameters"), ([], None)],
)
def test_the_note_on_single_task_networks_names_the_shown_costs(costs, names):
    made = table(record("single_task", task="like"), record("stem"))
    made.costs = costs
    notes = [line for line in markdown(made, "").splitlines() if "network per task," in line]
    assert notes == ([f"*With one network per task, {names} are those of one network.*"] if names else [])


def test_synthetic_and_real_data_are_never_mixed():
    made = table(record("stem", 1), record("stem", 2, sample=True, dataset_fingerprint="a" * 64))
    assert [row.seeds for row in made.rows] == [[1], [2]]
    text = markdown(made, "Toy")
    marked = [line for line in text.splitlines() if "SAMPLE" in line]
    assert len(marked) == 2
    assert "synthetic" in marked[0]
    assert marked[1].startswith("| stem SAMPLE |")
    assert json.loads(as_json(rows_flat(made), made, ""))["sample"] is True


def test_different_settings_and_data_make_separate_rows_with_a_warning():
    made = table(
        record("stem", 1), record("stem", 2), record("stem", 3, lr=0.1), record("stem", 4, dataset_fingerprint="0")
    )
    assert sorted(row.seeds for row in made.rows) == [[1, 2], [3], [4]]
    (warning,) = made.warnings
    assert warning.startswith("stem: 3 rows")
    assert "data, optim.lr" in warning
    assert "lr=0.1" in markdown(made, "")


def test_one_row_per_value_of_a_setting():
    made = table(
        *(record(model, 1, conflict=c) for c in (1.0, 0.5, 0.0) for model in ("stem", "ple")),
        by=("model", "dataset.sample.conflict"),
    )
    assert [tuple(row.labels.values()) for row in made.rows[:3]] == [("ple", 0.0), ("ple", 0.5), ("ple", 1.0)]
    assert "| model | conflict | finish AUC |" in markdown(made, "")


def test_undefined_metrics_give_a_warning():
    broken = record("stem", 2)
    broken["metrics"]["test/auc/like"] = None
    made = table(record("stem", 1), broken)
    (warning,) = made.warnings
    assert warning.startswith("stem: auc/like")
    assert "seed 2" in warning
    assert made.rows[0].stats["auc/like"].mean == 0.8
    empty = record("stem", 1)
    empty["metrics"]["test/auc/like"] = None
    assert "| stem | 0.7000 | – |" in markdown(table(empty), "")


def test_unknown_keys_and_metrics_are_errors():
    with pytest.raises(StemlabError, match=r"optim\.rl.*'optim\.lr'"):
        table(record(), by=("optim.rl",))
    with pytest.raises(StemlabError, match=r"test/ndcg/finish.*: auc, logloss"):
        table(record(), metrics=("ndcg",))


def test_csv_and_json_have_the_numbers():
    made = table(record("stem", 1, auc=(0.7, 0.81)), record("stem", 2, auc=(0.7, 0.83)), record("mmoe"))
    rows = rows_flat(made)
    mmoe, stem = csv.DictReader(io.StringIO(as_csv(rows)))
    assert (stem["model"], stem["seeds"], round(float(stem["auc/like mean"]), 9), stem["auc/like n"]) == (
        "stem",
        "1 2",
        0.82,
        "2",
    )
    assert mmoe["auc/like std"] == ""
    content = json.loads(as_json(rows, made, "Toy"))
    assert content["rows"][0]["auc/like std"] is None
    assert content["rows"][1]["dense mean"] == 1000


REFERENCE = """
title: them
tolerance: {auc: 0.01}
rows:
  - match: {model: stem}
    seeds: [1]
    metrics: {auc/like: [0.81, 0.002], logloss/like: 0.2}
  - match: {model: ple}
    metrics: {auc/like: 0.5}
"""


def test_published_numbers_are_compared(tmp_path):
    path = tmp_path / "published.yaml"
    path.write_text(REFERENCE)
    made = table(record("stem", 1), record("stem", 2, auc=(0.7, 0.81)), record("mmoe"), metrics=("auc", "logloss"))
    auc, logloss = compared = compare_with_reference(made, read_reference(path))
    assert (auc.name, auc.ours, auc.seeds, auc.within) == ("auc/like", pytest.approx(0.805), 1, True)
    assert (logloss.ours, logloss.within) == (pytest.approx(0.195), None)
    text = markdown(made, "", compared, "them")
    assert "Numbers of them" in text
    assert "(bold: AUC more than 0.01); one seed only: stem:" in text
    assert "| model | like AUC | like log loss |" in text
    assert "| stem | 0.8100 ± 0.0020 (-0.0050) | 0.2000 (-0.0050) |" in text
    assert rows_flat(made, compared)[1]["auc/like difference"] == pytest.approx(-0.005)
    far = table(record("stem", 1, auc=(0.7, 0.7)), record("stem", 2, auc=(0.7, 0.7)))
    assert "| stem | 0.8100 ± 0.0020 **(-0.1100)** |" in markdown(
        far, "", compare_with_reference(far, read_reference(path)), "them"
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [("title: x", "rows: Field required"), ("a: [", "not YAML"), ("title: x\nrows: [{}]", "rows.0.match")],
)
def test_an_invalid_reference_is_an_error(tmp_path, text, hint):
    path = tmp_path / "published.yaml"
    path.write_text(text)
    with pytest.raises(StemlabError, match=hint):
        read_reference(path)
    with pytest.raises(StemlabError, match="no file"):
        read_reference(tmp_path / "none.yaml")
