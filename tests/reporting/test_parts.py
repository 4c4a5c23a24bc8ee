"""A report separates datasets, protocols, SAMPLE and LIMITED runs."""

import csv
import json

import pytest

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.report import report
from stemlab.reporting.render import aligned
from tests.reporting.records import record, sequence_record, write


def run(*words):
    return report(compose("report", words))


def captions(text):
    return [line.partition(" (mean")[0] for line in text.splitlines() if "(mean ±" in line]


def limited(**changes):
    made = record(**changes)
    made["config"]["trainer"] = {"limit_train_batches": 2}
    return made


def after_a_limited_stage():
    made = sequence_record()
    made["stage1"] = {"limits": {"limit_train_batches": 2}}
    return made


def other(name="other", fingerprint="e" * 64, **settings):
    made = record("stem", dataset=name, dataset_fingerprint=fingerprint)
    made["config"]["dataset"] |= {"name": name, **settings}
    return made


@pytest.fixture
def mixed(tmp_path):
    """Runs of two families, three datasets, SAMPLE and LIMITED ones, and one without metrics."""
    bare = record("ple", dataset="bare", dataset_fingerprint="b" * 64)
    bare["config"]["dataset"]["name"], bare["metrics"] = "bare", {}
    synthetic = record("mmoe", sample=True, dataset_fingerprint="d" * 64)
    records = [record("stem"), record("mmoe"), synthetic, limited(), sequence_record(), other(), bare]
    return write(tmp_path / "runs", *records)


def test_the_default_report_has_a_table_per_dataset_and_mark(mixed):
    text = run(f"runs={mixed}")
    assert captions(text) == ["grocery", "other", "toy", "toy LIMITED", "toy SAMPLE"]
    assert "| model | NDCG@5 |" in text or "| model | HR@5 | NDCG@5 |" in text
    assert text.count("| stem") == 3
    assert "bare is left out" in text
    marked = text[text.index("toy SAMPLE") :]
    assert marked.count("SAMPLE: synthetic") == 1
    assert "SAMPLE: synthetic" not in text[: text.index("toy SAMPLE")]


def test_a_second_stage_after_a_limited_first_stage_is_limited(tmp_path):
    runs = write(tmp_path / "runs", sequence_record(), after_a_limited_stage())
    assert captions(run(f"runs={runs}")) == ["grocery", "grocery LIMITED"]


def test_protocols_of_a_dataset_are_separate_and_named(tmp_path):
    runs = write(tmp_path / "runs", other(split="time", batch_size=1), other(split="random", fingerprint="a" * 64))
    assert captions(run(f"runs={runs}")) == [
        "other (dataset.split=random, data aaaaaaaa)",
        "other (dataset.split=time, data eeeeeeee)",
    ]


def test_keys_of_the_dataset_keep_its_variants_in_one_table(tmp_path):
    made = [record(conflict=c, sample=True, dataset_fingerprint=str(c) * 64) for c in (0, 1)]
    runs = write(tmp_path / "runs", *made)
    assert len(captions(run(f"runs={runs}"))) == 2
    assert len(captions(run(f"runs={runs}", "by=[model,dataset.sample.conflict]"))) == 1
    assert len(captions(run(f"runs={runs}", "tables=one"))) == 1


def test_rows_of_several_datasets_stay_together_if_they_are_rows(tmp_path):
    runs = write(tmp_path / "runs", record(), other())
    text = run(f"runs={runs}", "by=[dataset,model]")
    assert len(captions(text)) == 1
    assert "| toy | stem |" in text
    assert "| other | stem |" in text


def test_each_table_has_its_files(mixed, tmp_path):
    run(f"runs={mixed}", f"output={tmp_path}/out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"results.md", "results_toy.csv", "results_toy_sample.csv", "results_grocery.json"} <= names
    rows = list(csv.DictReader((tmp_path / "out" / "results_toy.csv").open()))
    assert [row["model"] for row in rows] == ["mmoe", "stem"]
    assert json.loads((tmp_path / "out" / "results_toy_sample.json").read_text())["sample"] is True
    with pytest.raises(StemlabError, match=r"figure.*only="):
        run(f"runs={mixed}", f"output={tmp_path}/other", "figure.x=seed")
    assert not (tmp_path / "other").exists()


def test_chosen_metrics_are_those_of_the_tables_that_have_them(mixed):
    assert captions(run(f"runs={mixed}", "metrics=ndcg@5")) == ["grocery"]
    with pytest.raises(StemlabError, match="ndcg@7"):
        run(f"runs={mixed}", "metrics=ndcg@7")


def test_many_skipped_records_are_counted(tmp_path):
    runs = write(tmp_path / "runs", record(), *(record(seed=seed, status="failed") for seed in range(20)))
    text = run(f"runs={runs}")
    assert text.count("is skipped") == 5
    assert "15 more" in text


def test_many_differing_settings_are_shortened(tmp_path):
    made = [record(), record()]
    made[1]["config"]["model"]["net"] |= {f"setting{i}": i for i in range(30)}
    text = run(f"runs={write(tmp_path / 'runs', *made)}", f"output={tmp_path}/out")
    assert max(map(len, text.splitlines())) < 600
    assert "and 24 more" in text
    assert "setting29=29" in (tmp_path / "out" / "results.csv").read_text()


def test_tables_on_the_screen_are_aligned():
    text = "Head\n\n| model | AUC |\n|---|---|\n| stem SAMPLE | 0.5 |\n| a | 0.25 |\n\nafter | it\n"
    assert aligned(text).splitlines() == [
        *("Head", "", "| model       | AUC  |", "|-------------|------|", "| stem SAMPLE | 0.5  |"),
        *("| a           | 0.25 |", "", "after | it"),
    ]
    assert aligned("| a | b |\n|---|---|\n| x | y | z |\n") == "| a | b |\n|---|---|\n| x | y | z |\n"
