"""The tables of docs/negative_transfer.md are those of the committed run records."""

import importlib
import json
import sys

import pytest
import yaml

from stemlab.errors import StemlabError


@pytest.fixture
def page(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "scripts"))
    return importlib.import_module("negative_transfer")


@pytest.fixture
def data(page):
    return importlib.import_module("negative_transfer_data")


@pytest.fixture
def analyses(page):
    return importlib.import_module("negative_transfer_analyses")


def test_page_and_records_agree(page, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["negative_transfer.py", "--check"])
    page.main()
    assert page.tuning_table().count("\n") == 16  # five models, three penalties
    changed = tmp_path / "negative_transfer.md"
    changed.write_text(page.PAGE.read_text().replace("| stem | mean | ", "| stem | mean | 0"))
    monkeypatch.setattr(page, "PAGE", changed)
    with pytest.raises(StemlabError, match="negative_transfer_shared"):
        page.main()


def test_the_bootstrap_results_belong_to_the_records(page, data):
    evidence = page.read_evidence()
    assert {key[0] for key in evidence.splits} == {name for name, _ in evidence.auc} - {data.BASELINE}
    for (model, rule, split, task), row in evidence.splits.items():
        base = evidence.auc[data.baseline_of((model, rule))][split][task]
        assert row["baseline"] == pytest.approx(base, abs=2e-6)
        assert row["difference"] == pytest.approx(evidence.auc[model, rule][split][task] - base, abs=2e-6)
        assert 0 < row["standard_error"] < 0.05
    number = len([key for key in evidence.splits if key[2:] == ("1", "is_comment")])
    assert number == len([key for key, splits in evidence.auc.items() if "1" in splits and key[0] != data.BASELINE])


def test_only_common_splits_are_compared(page):
    auc = {
        ("single_task", "mean"): {split: {"is_comment": 0.7} for split in ("1", "2", "3", "4", "time")},
        ("stem", "mean"): {split: {"is_comment": 0.7 + int(split) / 100} for split in "123"},
        ("ple", "mean"): {split: {"is_comment": 0.6} for split in ("2", "3", "time")},
    }
    evidence = page.Evidence(auc, {}, 0.125)
    keys = [("stem", "mean"), ("single_task", "mean")]
    assert evidence.common(keys, "is_comment") == ["1", "2", "3"]
    assert evidence.test(*keys, "is_comment", ["1", "2", "3"]).difference == pytest.approx(0.02)
    assert evidence.common([*keys, ("ple", "mean")], "is_comment") == ["2", "3"]
    table = page.split_table(evidence, [("mean", ("stem",))], lambda key: ("single_task", "mean"))
    assert "| stem | mean | +0.0200 ± " in table
    assert "| ple |" not in page.split_table(evidence, [("mean", ("stem", "ple"))], lambda key: ("single_task", "mean"))


def test_runs_have_the_name_of_their_method_and_stopping_rule(data):
    runs = data.collect([str(data.STUDY)]).runs
    for run in runs:
        settings = json.dumps(run.record["config"])
        model, rule = data.key_of(run)
        assert (rule == data.NO_STOP) == ('"patience": 20' in settings)
        assert (", " in model) == (
            '"all_backward"' in settings or '"shared_only"' in settings or run.config["model"]["balancing"] is not None
        )


def test_the_reproduction_is_compared_with_a_recorded_difference_of_every_model(data, root):
    preset = yaml.safe_load((root / "conf" / "reproduce" / "negative_transfer.yaml").read_text())
    names = {
        name
        for group in preset["runs"]
        for experiment in group["experiments"]
        for name in group["grid"].get("model.name", [experiment.split("/")[1]])
    }
    recorded = yaml.safe_load((root / preset["differences"]["reference"]).read_text())
    assert {row["match"]["model"] for row in recorded["rows"]} == names - {data.BASELINE}
    assert len(names) == 9


def test_numbers_of_an_analysis(analyses, tmp_path):
    gates = {"a": {"task:a": 0.5, "task:b": 0.2, "shared": 0.3}}
    transfer = {
        "analysis": "transfer",
        "sections": {
            "transfer": {
                "numbers": {"interiors": {"stem": {"gradient_cosine": {"a-b": {"tables": -0.5}}, "gates": [gates]}}}
            }
        },
    }
    assert list(analyses.numbers_of(transfer, tmp_path)) == [
        ("conflict", "stem", "a-b", "tables", -0.5),
        ("gate", "stem", "a", "own", 0.5),
        ("gate", "stem", "a", "shared", 0.3),
        ("gate", "stem", "a", "other", pytest.approx(0.2)),
    ]
    assert analyses.gate_summary("a", {"expert:0": 0.5, "expert:1": 0.5}) == {"in use": pytest.approx(2)}
    (tmp_path / "retention.csv").write_text(
        'model,"a near, b far: near kept","a near, b far: retention"\nstem,0.1,0.3\n'
    )
    found = list(
        analyses.numbers_of({"analysis": "entanglement", "sections": {"entanglement": {"numbers": {}}}}, tmp_path)
    )
    assert found == [("entanglement", "stem", "a near, b far", "retention", 0.3)]


def test_a_point_is_the_cosine_of_the_rare_tasks_and_the_difference(analyses):
    key = ("mmoe", "mean")
    numbers = {("conflict", "is_comment-is_profile_enter", "tables"): {key: {"1": -0.5, "2": 0.1, "time": 0.9}}}
    auc = {key: {"1": {"is_comment": 0.6}, "2": {"is_comment": 0.7}}}
    auc["single_task", "mean"] = {"1": {"is_comment": 0.7}, "2": {"is_comment": 0.7}}
    points = analyses.conflict_points(numbers, auc, key, "is_comment")
    assert points == [(-0.5, pytest.approx(-0.1)), (0.1, pytest.approx(0))]
    assert "-0.20 (-0.50 to +0.10)" in analyses._mean({"1": -0.5, "2": 0.1})
