"""Console output before and after a run."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from stemlab.data.spec import SequenceSpec
from stemlab.runs.footprint import format_bytes, training_footprint
from stemlab.runs.summary import format_metric, print_metrics, print_run_summary
from tests.lightning.toy_data import SPEC

TRAINER = {"devices": 2, "max_epochs": 7, "accumulate_grad_batches": 1, "max_steps": None}
CONFIG = {"dataset": {"batch_size": 100}, "trainer": TRAINER, "optim": {"name": "adam"}}
RECORD = {
    "model": "stem",
    "dataset": "toy",
    "sample": True,
    "config": CONFIG,
    "parameters": {"dense": 1234, "embedding": 1_000_000},
    "dataset_manifest": {"rows": {"train": 1000, "valid": 20, "test": 30}},
}
FOOTPRINT = training_footprint(CONFIG, RECORD["parameters"])


def test_the_run_summary_shows_samples_parameters_memory_and_steps(capsys: pytest.CaptureFixture[str]) -> None:
    print_run_summary(RECORD, steps=5, processes=2, directory=Path("/runs/x"), footprint=FOOTPRINT)
    output = capsys.readouterr().out
    assert "stem on toy  [SAMPLE" in output
    assert "train 1,000  valid 20  test 30" in output
    assert "dense 1,234  embedding 1,000,000" in output
    assert "16 MB per process" in output  # a million parameters, four float32 values each
    assert "gradients" in output
    assert "Adam moments" in output
    assert "5 per epoch" in output
    assert "200 samples" in output
    assert "2 processes" in output
    assert "7 epochs" in output


@pytest.mark.parametrize(("rule", "memory"), [("sparse_adam", "12 MB"), ("rowwise_adagrad", "4 MB")])
def test_the_memory_of_tables_trained_by_rows_has_no_gradient(
    rule: str, memory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CONFIG | {"optim": {"name": "adam", "tables": rule}}
    footprint = training_footprint(config, RECORD["parameters"])
    assert footprint.gradients == footprint.reduced == 4 * 1234
    assert footprint.total == 4 * (4 * 1234 + {"sparse_adam": 3, "rowwise_adagrad": 1}[rule] * 1_000_000)
    print_run_summary(RECORD | {"config": config}, 5, 2, Path("/runs/x"), footprint=footprint)
    output = capsys.readouterr().out
    assert f"{memory} per process" in output
    assert ("Adam moments" in output) == (rule == "sparse_adam")


@pytest.mark.parametrize("name", ["a" * 100, "with [brackets] and [bold]words[/bold]", "two  spaces"])
def test_paths_can_be_copied_from_a_narrow_terminal(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rich._console", Console(width=80))
    directory = Path("/data/runs/tiktok/stem") / name
    print_run_summary(RECORD, steps=5, processes=2, directory=directory, footprint=FOOTPRINT)
    print_metrics({"test/auc/like": 0.7}, "test", ("like",), SPEC, 3, directory / "checkpoints/best.ckpt")
    lines = capsys.readouterr().out.splitlines()
    assert f"run directory: {directory}" in lines
    assert [line for line in lines if line.endswith(f" {directory}/checkpoints/best.ckpt")]


def test_a_limit_is_shown_in_both_tables(capsys: pytest.CaptureFixture[str]) -> None:
    config = CONFIG | {"trainer": TRAINER | {"limit_test_batches": 2}}
    print_run_summary({**RECORD, "sample": False, "config": config}, 5, 1, Path("/runs/x"), FOOTPRINT)
    spec, limits = replace(SPEC, sample=False), {"limit_test_batches": 2}
    print_metrics({"test/auc/like": 0.7}, "test", ("like",), spec, 3, Path("best.ckpt"), limits)
    assert capsys.readouterr().out.count("LIMITED: trainer.limit_test_batches=2") == 2


def test_final_metrics_have_one_row_per_task(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"test/auc/finish": 0.712345, "test/auc/like": None, "test/auc": None, "test/ece/finish": 0.01}
    print_metrics(metrics, "test", SPEC.tasks, replace(SPEC, sample=False), 3, Path("best.ckpt"))
    output = capsys.readouterr().out
    assert "SAMPLE" not in output
    cells = {
        line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:-1]]
        for line in output.splitlines()
        if "│" in line
    }
    assert cells == {"finish": ["0.71235", "0.01000"], "like": ["undefined", "undefined"], "mean": ["undefined", ""]}
    assert "best of 3 epochs" in output
    assert "best.ckpt" in output


def cells_of(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if "│" in line]


def test_scenarios_have_a_second_table(capsys: pytest.CaptureFixture[str]) -> None:
    spec = replace(SPEC, sample=False, scenarios=("nl", "es"))
    metrics = {"test/auc": 0.7, "test/auc/finish": 0.7, "test/auc/like": 0.7, "val/auc/like/nl": 0.9}
    metrics |= {f"test/{m}/{t}/nl": 0.25 for m in ("auc", "gauc", "logloss") for t in SPEC.tasks}
    metrics |= {f"test/{m}/{t}/es": 0.5 for m in ("auc", "gauc", "logloss") for t in SPEC.tasks}
    metrics["test/gauc/like/es"] = None
    print_metrics(metrics, "test", SPEC.tasks, spec, 3, Path("best.ckpt"))
    output = capsys.readouterr().out
    assert "test metrics by scenario" in output
    # two metrics of two tasks fit into 80 columns
    assert cells_of(output)[-2:] == [["nl", *["0.25000"] * 4], ["es", "0.50000", "0.50000", "0.50000", "undefined"]]


def test_names_in_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("[new/a]", "[/old]")
    spec = replace(SPEC, name="toy[b]", sample=True, scenarios=names)
    metrics = {"test/auc/pay[usd]": 0.7, **{f"test/auc/pay[usd]/{name}": 0.5 for name in names}}
    print_metrics(metrics, "test", ["pay[usd]"], spec, 3, Path("best.ckpt"))
    print_run_summary({**RECORD, "model": "m[b]"}, 5, 1, Path("/runs/x"), FOOTPRINT, "eager: trainer.devices=[a]")
    output = capsys.readouterr().out
    words = ("toy[b]  [SAMPLE: ", "pay[usd]", "[new/a]", "[/old]", "m[b] on toy", "trainer.devices=[a]")
    assert [word for word in words if word not in output] == []


def test_without_scenarios_there_is_no_second_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_metrics({"test/auc/like": 0.7}, "test", ("like",), replace(SPEC, sample=False), 3, Path("best.ckpt"))
    assert "scenario" not in capsys.readouterr().out


def test_final_metrics_of_a_ranking_model_have_one_column_per_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"test/hr@5": 0.25, "test/ndcg@5": 0.125, "test/hr@10": 0.5, "test/ndcg@10": None, "test/mrr": 0.0625}
    print_metrics({**metrics, "val/hr@5": 0.75}, "test", (), SequenceSpec("toy", 3, 4, True), 0, Path("best.ckpt"))
    output = capsys.readouterr().out
    assert "test metrics of toy  [SAMPLE" in output
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if "│" in line]
    assert table == [
        ["hr", "0.25000", "0.50000", ""],
        ["ndcg", "0.12500", "undefined", ""],
        ["mrr", "", "", "0.06250"],
    ]
    assert [word for word in output.split() if word.startswith("@")] == ["@5", "@10"]
    assert output.splitlines()[-1] == "best.ckpt"


def test_the_run_summary_shows_the_stage_and_models_without_training(capsys: pytest.CaptureFixture[str]) -> None:
    print_run_summary({**RECORD, "sample": False, "stage": "pretrain"}, 0, 1, Path("/runs/x"), FOOTPRINT)
    output = capsys.readouterr().out
    assert "stem, stage pretrain, on toy" in output
    assert "nothing to train" in output


@pytest.mark.parametrize(
    ("value", "output"), [(None, "undefined"), (float("nan"), "undefined"), (0.1234567, "0.12346")]
)
def test_numbers(value: float | None, output: str) -> None:
    assert format_metric(value) == output


@pytest.mark.parametrize(("count", "output"), [(12, "12 B"), (57_216, "57.2 kB"), (3.2e9, "3.2 GB"), (5e12, "5 TB")])
def test_sizes(count: float, output: str) -> None:
    assert format_bytes(count) == output
