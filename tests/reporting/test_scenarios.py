"""Tables of runs on datasets with scenarios, and their comparison with published numbers."""

import copy
from pathlib import Path

import pytest

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.report import report
from stemlab.reporting.collect import Run, compact
from stemlab.reporting.reference import read_reference
from stemlab.reporting.render import markdown
from stemlab.reporting.table import build_table
from tests.reporting.records import record, write

TASKS, SCENARIOS = ("click", "conversion"), ("nl", "es")


def scenario_record(model="mmoe", seed=1, auc=0.7, scenarios=SCENARIOS, **changes):
    """A record with click AUC ``auc`` in the first scenario and 0.01 more in the second; conversion is 0.1 higher."""
    made = record(model, seed)
    made["dataset"] = made["config"]["dataset"]["name"] = "aliexpress"
    made["config"]["dataset"] |= {"tasks": list(TASKS), "scenarios": list(scenarios)}
    made["config"]["model"] |= {"scenario_feature": True, "loss_reduction": "sum"}
    made["dataset_manifest"] = {**made["dataset_manifest"], "spec": {"scenarios": list(scenarios)}}
    made["metrics"] = {f"test/auc/{task}": auc + 0.1 * k for k, task in enumerate(TASKS)}
    for i, name in enumerate(scenarios):
        made["metrics"] |= {f"test/auc/{task}/{name}": auc + 0.1 * k + 0.01 * i for k, task in enumerate(TASKS)}
    return made | changes


def table(*records, **options):
    runs = [Run(Path(f"run{i}"), made) for i, made in enumerate(records)]
    return build_table(runs, ["model"], ["auc"], **options)


def test_one_column_per_task_or_per_task_and_scenario():
    records = [scenario_record(seed=1), scenario_record(seed=2, auc=0.72)]
    assert table(*records).columns == ["auc/click", "auc/conversion"]
    each = table(*records, scenarios="each")
    assert each.columns == ["auc/click/nl", "auc/click/es", "auc/conversion/nl", "auc/conversion/es"]
    assert [round(each.rows[0].stats[name].mean, 4) for name in each.columns] == [0.71, 0.72, 0.81, 0.82]
    text = markdown(each, "Toy")
    assert "| model | click nl AUC | click es AUC | conversion nl AUC | conversion es AUC | seeds |" in text
    assert "| mmoe | 0.7100 ± 0.0141 | 0.7200 ± 0.0141 |" in text
    assert each.warnings == []


def test_runs_on_one_scenario_have_no_value_in_other_scenarios():
    each = table(
        scenario_record(), scenario_record("ple", scenarios=["es"], dataset_fingerprint="e" * 64), scenarios="each"
    )
    assert [row.stats["auc/click/nl"].mean for row in each.rows] == [0.7, None]
    assert [row.stats["auc/click/es"].mean for row in each.rows] == [0.71, 0.7]
    assert each.warnings == []
    lost = scenario_record(seed=2)
    lost["metrics"]["test/auc/click/es"] = None  # measured and undefined
    (warning,) = table(scenario_record(), lost, scenarios="each").warnings
    assert warning.startswith("mmoe: auc/click/es")
    assert "seed 2" in warning


def test_scenarios_each_needs_a_dataset_with_scenarios():
    with pytest.raises(StemlabError, match=r"scenarios=each: .*scenarios=pooled"):
        table(record("stem"), scenarios="each")


def test_settings_without_effect_make_no_separate_row():
    """A record without a setting shares a row with records that have its default."""
    old, new, chosen = record("stem", 1), record("stem", 2), record("stem", 3)
    new["config"]["model"] |= {"loss_reduction": "sum", "scenario_feature": True}
    chosen["config"]["callbacks"] = {"paper_selection": True}
    assert [row.seeds for row in table(old, new, chosen).rows] == [[1, 2, 3]]
    mean = record("stem", 4)
    mean["config"]["model"]["loss_reduction"] = "mean"
    (warning,) = table(old, mean).warnings
    assert warning.startswith("stem: 2 rows")
    assert "model.loss_reduction" in warning
    feature = copy.deepcopy(scenario_record(seed=5))
    feature["config"]["model"]["scenario_feature"] = False
    (warning,) = table(scenario_record(), feature).warnings
    assert warning.startswith("mmoe: 2 rows")
    assert "model.scenario_feature" in warning


def test_compact_copies_keep_scenarios_and_the_paper_selection():
    made = scenario_record(paper_selection={"selection": "test"})
    kept = compact(made)
    assert kept["paper_selection"] == {"selection": "test"}
    assert Run(Path("x"), kept).scenarios == SCENARIOS
    assert kept["metrics"] == made["metrics"]
    assert "paper_selection" not in compact(scenario_record())


PUBLISHED = Path("scripts/records/aliexpress")
COUNTRIES = ("nl", "es", "fr", "us")


@pytest.mark.parametrize(
    ("name", "rows", "numbers", "model", "metric", "value"),
    [
        ("mtreclib", 7, 16, "aitm", "logloss/conversion/es", 0.00451),
        ("mtreclib", 7, 16, "metaheac", "auc/conversion/us", 0.8743),
        ("mtreclib", 7, 16, "single_task", "auc/click/nl", 0.7222),
        ("noah", 9, 12, "esmm", "auc/conversion/us", 0.8712),
        ("noah", 9, 12, "ple_nashmtl", "auc/cvr/fr", 0.8102),
        ("noah", 9, 12, "mmoe", "auc/click/es", 0.7269),
    ],
)
def test_published_tables_have_their_values(root, name, rows, numbers, model, metric, value):
    found = read_reference(root / PUBLISHED / f"{name}.yaml")
    assert [len(row.metrics) for row in found.rows] == [numbers] * rows
    assert {key.rpartition("/")[2] for row in found.rows for key in row.metrics} == set(COUNTRIES)
    assert next(row for row in found.rows if row.match == {"model": model}).metrics[metric] == value


def test_published_numbers_are_compared_with_own_runs(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    mine = [
        scenario_record("mmoe", scenarios=["nl"]),
        scenario_record("mmoe", 2, scenarios=["nl"]),
        scenario_record("ple", scenarios=["es"]),
    ]
    sample = scenario_record("aitm", sample=True)
    runs = write(tmp_path / "runs", *mine, sample)
    text = report(compose("report", ["study=aliexpress_noah", f"runs=[{runs}]"]))
    assert "| mmoe | nl | 0.7000 ± 0.0000 | – | 0.8000 ± 0.0000 | – | 2 |" in text
    assert "| mmoe | nl | 0.7195 (-0.0195) | 0.8574 (-0.0574) | – | – |" in text
    assert "| ple | es | – | – | 0.7268 (-0.0268) | 0.8861 (-0.0861) |" in text
    assert "aitm" not in text  # a SAMPLE is not compared with published numbers


@pytest.mark.parametrize("name", ["mtreclib", "noah"])
def test_studies_select_the_metrics_of_the_published_tables(root, name):
    config = compose("report", [f"study=aliexpress_{name}"])
    assert (config["scenarios"], config["only"]) == ("each", {"dataset": "aliexpress", "sample": False})
    reference = read_reference(root / config["reference"])
    assert {key.partition("/")[0] for row in reference.rows for key in row.metrics} == set(config["metrics"])


def test_a_key_of_other_rows_is_shown_as_a_dash():
    records = [scenario_record("mmoe"), scenario_record("mmfi")]
    records[1]["config"]["model"]["net"] = {"sparse": "softmax_t"}
    runs = [Run(Path("x"), made) for made in records]
    text = markdown(build_table(runs, ["model", "model.net.sparse"], ["auc"]), "Toy")
    assert "| mmoe | – |" in text
    assert "| mmfi | softmax_t |" in text
