"""TiMiRec in two stages: the first is trained once, shared, linked, resumed or given."""

import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.evaluate import evaluate
from tests.cli.commands import TIMEOUT_S, Workspace, environment
from tests.cli.conftest import assert_same_weights, weights
from tests.cli.forked import ForkedCommand
from tests.cli.sequences import TIMIREC, write_folder
from tests.cli.test_train import walk
from tests.runs.wandb_file import read_wandb

EXTRACTOR = ("net.items.", "net.extractor.")


@pytest.fixture(scope="module")
def both(sequences: Workspace) -> Path:
    """A run of both stages of the command, with the stage cache in ``shared``."""
    sequences.run("train", *TIMIREC, "paths.runs_dir=shared", "hydra.run.dir=both", "logger=wandb")
    return sequences.directory / "both"


def first_stages(sequences: Workspace, runs_dir: str) -> list[Path]:
    """Return the first stages in the cache of a runs directory."""
    return sorted(path for path in (sequences.directory / runs_dir / "stages").iterdir() if path.name[0] != ".")


def record(run: Path) -> dict:
    return json.loads((run / "record.json").read_text())


def extractor(run: Path) -> dict[str, torch.Tensor]:
    return {name: x for name, x in weights(run, "best.ckpt").items() if name.startswith(EXTRACTOR)}


# ------------------------------------------------------------------------------------------------------- both stages


def test_each_stage_has_a_directory_and_a_record_that_names_the_other(both: Path, sequences: Workspace) -> None:
    (first,) = first_stages(sequences, "shared")
    one, two = record(first), record(both)
    assert (one["status"], one["stage"], one["stage1"]) == ("finished", "pretrain", None)
    assert (two["status"], two["stage"]) == ("finished", "finetune")
    assert two["stage1"]["directory"] == str(first)
    assert two["stage1"]["config_hash"] == one["config_hash"] != two["config_hash"]
    assert two["stage1"]["epoch"] == one["best"]["epoch"]
    assert one["stage2"] == [str(both)]
    assert set(one["metrics"]) == set(two["metrics"])
    assert one["metrics"] != two["metrics"]
    for run in (first, both):
        names = {path.name for path in run.rglob("*.c*") if path.is_file()}
        assert {"metrics.csv", "best.ckpt", "last.ckpt"} <= names


def test_each_stage_is_a_wandb_run_of_one_group(both: Path, sequences: Workspace) -> None:
    first = Path(record(both)["stage1"]["directory"])
    runs = [read_wandb(next(run.glob("wandb/offline-run-*/*.wandb"))) for run in (first, both)]
    assert [run.name for run in runs] == [f"rechorus/timirec/{stage}/seed2023" for stage in ("pretrain", "finetune")]
    assert {run.group for run in runs} == {first.name}
    assert runs[0].id != runs[1].id
    for run, directory in zip(runs, (first, both), strict=True):
        assert run.summary["test/ndcg@5"] == record(directory)["metrics"]["test/ndcg@5"]


def test_both_checkpoints_reproduce_their_metrics(both: Path, sequences: Workspace) -> None:
    for run in (both, *first_stages(sequences, "shared")):
        result = {name: value for name, value in record(run)["metrics"].items() if name.startswith("test/")}
        assert evaluate(compose("evaluate", [f"ckpt={run / 'checkpoints' / 'best.ckpt'}"])) == result
        content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]
        assert {type(value) for value in walk(content)} <= {dict, list, str, int, float, bool, type(None)}


def test_a_sweep_over_the_second_stage_trains_the_first_once(sequences: Workspace) -> None:
    overrides = ["model.net.temperature=0.5,2", "model.net.projection_layers=1,2", "paths.runs_dir=swept"]
    sequences.run("train", "-m", *TIMIREC, *overrides, STEMLAB_SWEEP_ID="grid")
    (first,) = first_stages(sequences, "swept")
    runs = sorted((sequences.directory / "swept" / "sweeps" / "grid").glob("*/record.json"))
    assert len(runs) == 4
    assert {record(path.parent)["stage1"]["directory"] for path in runs} == {str(first)}
    assert record(first)["stage2"] == [str(path.parent) for path in runs]
    assert len({weights(path.parent)["net.items.weight"].numpy().tobytes() for path in runs}) == 4


def test_other_settings_train_another_first_stage(
    both: Path, sequences: Workspace, run_training: Callable[..., float]
) -> None:
    run_training("other_width", *TIMIREC, "paths.runs_dir=shared", "model.net.attention_dim=3")
    assert len(first_stages(sequences, "shared")) == 2


@pytest.mark.process
def test_concurrent_runs_wait_for_one_first_stage(sequences: Workspace) -> None:
    overrides = [*TIMIREC, "trainer.max_epochs=3", "paths.runs_dir=waited"]
    runs = [sequences.fork("train", *overrides, f"model.net.temperature={t}", f"hydra.run.dir=wait{t}") for t in (1, 2)]
    result = [process.communicate(timeout=TIMEOUT_S) for process in runs]
    assert [process.returncode for process in runs] == [0, 0], result
    (first,) = first_stages(sequences, "waited")
    assert sorted(record(first)["stage2"]) == [str(sequences.directory / f"wait{t}") for t in (1, 2)]
    assert sum(bool(re.search("pretrain.* training in", out + err)) for out, err in result) == 1


# ------------------------------------------------------------------------------------------------------ interruptions


@pytest.mark.process
def test_a_killed_first_stage_is_resumed_exactly(sequences: Workspace, run_training: Callable[..., float]) -> None:
    overrides = [*TIMIREC, "trainer.max_epochs=4"]
    words = [*overrides, "paths.runs_dir=killed", "hydra.run.dir=never"]
    process = ForkedCommand("tests.cli.killed_train", words, sequences.directory, environment(sequences.directory))
    output = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == -signal.SIGKILL, output
    (first,) = first_stages(sequences, "killed")
    assert record(first)["status"] == "running"
    assert torch.load(first / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    result = sequences.run("train", *overrides, "paths.runs_dir=killed", "hydra.run.dir=again")
    output = result.stdout + result.stderr
    assert re.search(rf"pretrain.* {re.escape(str(first))}", output)
    run_training("whole", *overrides, "paths.runs_dir=unharmed")
    (unharmed,) = first_stages(sequences, "unharmed")
    assert unharmed.name == first.name
    for name in ("best.ckpt", "last.ckpt"):
        assert_same_weights(first, unharmed, name)
        assert_same_weights(sequences.directory / "again", sequences.directory / "whole", name)
    assert record(first)["metrics"] == record(unharmed)["metrics"]
    assert sequences.record("again")["metrics"] == sequences.record("whole")["metrics"]
    assert len(list(first.glob("metrics_until_epoch_*.csv"))) == 1


def test_the_second_stage_is_resumed(both: Path, sequences: Workspace, run_training: Callable[..., float]) -> None:
    """The same overrides and ckpt_path; the first stage is not needed again."""
    (first,) = [path for path in first_stages(sequences, "shared") if record(path)["stage2"] == [str(both)]]
    overrides = [*TIMIREC, f"model.init_from={first}"]
    run_training("four", *overrides, "trainer.max_epochs=4")
    run_training("two", *overrides)
    moved = first.rename(first.with_name("elsewhere"))
    try:
        last = sequences.directory / "two" / "checkpoints" / "last.ckpt"
        run_training("two_more", *overrides, "trainer.max_epochs=4", f"ckpt_path={last}")
    finally:
        moved.rename(first)
    for name in ("best.ckpt", "last.ckpt"):
        assert_same_weights(sequences.directory / "four", sequences.directory / "two_more", name)
    four, two_more = sequences.record("four"), sequences.record("two_more")
    assert (four["metrics"], four["stage1"]) == (two_more["metrics"], two_more["stage1"])


def test_a_first_stage_is_not_resumed_as_a_second(
    both: Path, sequences: Workspace, run_training: Callable[..., float]
) -> None:
    last = first_stages(sequences, "shared")[0] / "checkpoints" / "last.ckpt"
    with pytest.raises(StemlabError, match=r"pretrain.* ckpt_path.* finetune"):
        run_training("refused", *TIMIREC, f"ckpt_path={last}")


# ------------------------------------------------------------------------------------------- given, alone, or none


def test_the_second_stage_starts_from_the_given_extractor(
    both: Path, sequences: Workspace, run_training: Callable[..., float]
) -> None:
    """With a vanishing learning rate the extractor keeps its values; the predictor is new."""
    first = Path(record(both)["stage1"]["directory"])
    for name, given in (("from_run", first), ("from_file", first / "checkpoints" / "best.ckpt")):
        overrides = ["optim.lr=1e-30", "model.stage=finetune", f"model.init_from={given}", "paths.runs_dir=none"]
        run_training(name, *TIMIREC, *overrides, "trainer.max_epochs=1")
        begun, trained = extractor(sequences.directory / name), extractor(first)
        assert begun.keys() == trained.keys()
        assert all(torch.equal(begun[key], trained[key]) for key in trained)
        assert sequences.record(name)["stage1"]["directory"] == str(first)
    assert not (sequences.directory / "none" / "stages").exists()


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (["model.net.num_interests=3"], "model.net.num_interests=2.* 3"),
        (["model.net.transformer=false"], "model.net.transformer=True.* False"),
        (["dataset.history_max=5"], "dataset.history_max=6.* 5"),
        (["dataset.raw_dir=other_folder"], "prepared dataset"),
    ],
)
def test_a_first_stage_that_does_not_fit_is_refused(
    overrides: list[str], hint: str, both: Path, sequences: Workspace, run_training: Callable[..., float]
) -> None:
    if not (sequences.directory / "other_folder").exists():
        write_folder(sequences.directory / "other_folder", seed=1)
    first = record(both)["stage1"]["directory"]
    with pytest.raises(StemlabError) as caught:
        run_training("refused", *TIMIREC, f"model.init_from={first}", *overrides)
    assert re.search(hint, str(caught.value))
    assert first in str(caught.value)
    assert sequences.record("refused")["status"] == "failed"


def test_a_second_stage_is_not_accepted_as_a_first(both: Path, run_training: Callable[..., float]) -> None:
    with pytest.raises(StemlabError, match=r"model.stage=finetune.* pretrain"):
        run_training("refused", *TIMIREC, f"model.init_from={both}")


def test_a_missing_or_foreign_first_stage_is_refused(sequences: Workspace, run_training: Callable[..., float]) -> None:
    with pytest.raises(StemlabError, match=r"model.init_from=nowhere: "):
        run_training("refused", *TIMIREC, "model.init_from=nowhere")
    with pytest.raises(StemlabError, match=r"model.init_from=folder/dev.csv: .*read"):
        run_training("refused", *TIMIREC, "model.init_from=folder/dev.csv")


def test_a_second_stage_needs_a_first_one_or_allow_scratch(
    sequences: Workspace, run_training: Callable[..., float]
) -> None:
    overrides = [*TIMIREC, "model.stage=finetune", "paths.runs_dir=alone"]
    with pytest.raises(StemlabError, match=r"first stage .*model.stage=both"):
        run_training("refused", *overrides)
    run_training("scratch", *overrides, "model.allow_scratch=true")
    result = sequences.record("scratch")
    assert (result["status"], result["stage"], result["stage1"]) == ("finished", "finetune", None)
    assert not (sequences.directory / "alone" / "stages").exists()


def test_a_first_stage_trained_alone_is_reused_by_second_stages(
    both: Path, sequences: Workspace, run_training: Callable[..., float]
) -> None:
    overrides = ["paths.runs_dir=own"]
    run_training(
        "plus", *TIMIREC, *overrides, "model.name=comirec_plus", "model.stage=pretrain", "model.net.temperature=3"
    )
    assert (sequences.record("plus")["stage"], sequences.record("plus")["model"]) == ("pretrain", "comirec_plus")
    (first,) = first_stages(sequences, "own")
    assert first.resolve() == sequences.directory / "plus"
    run_training("begun", *TIMIREC, *overrides, "model.stage=finetune")
    assert_same_weights(both, sequences.directory / "begun")
    assert sequences.record("plus")["stage2"] == [str(sequences.directory / "begun")]
    shutil.rmtree(sequences.directory / "plus")  # a dangling link: the next run trains the stage there
    run_training("begun_again", *TIMIREC, *overrides)
    assert not first.is_symlink()
    assert_same_weights(both, sequences.directory / "begun_again")


@pytest.mark.ddp
def test_two_ranks_train_both_stages_and_reuse_a_finished_one(sequences: Workspace) -> None:
    """Rank 1 of the first run is started by Lightning; the ranks of the second one start at the same time."""
    overrides = [*TIMIREC, "paths.runs_dir=pair"]
    ranks = ["trainer=ddp_cpu", "trainer.devices=2"]
    sequences.run_forked("train", *overrides, *ranks, "hydra.run.dir=pair_one")
    (first,) = first_stages(sequences, "pair")
    assert record(first)["hardware"]["processes"] == 2
    assert not list((sequences.directory / "pair" / "stages").glob(".*.json"))
    result = sequences.run_two_ranks("train", *overrides, "hydra.run.dir=pair_two")
    assert "stage finetune" in result.stdout + result.stderr
    assert "stage pretrain" not in result.stdout + result.stderr
    assert_same_weights(sequences.directory / "pair_one", sequences.directory / "pair_two")
    assert first_stages(sequences, "pair") == [first]


def test_a_second_stage_after_a_limited_first_one_is_marked_limited(
    sequences: Workspace, run_training: Callable[..., float]
) -> None:
    first = ["model.stage=pretrain", "trainer.limit_train_batches=1", "trainer.limit_test_batches=1"]
    run_training("limited_first", *TIMIREC, *first, "trainer.max_epochs=1", "paths.runs_dir=limited")
    second = [*TIMIREC, f"model.init_from={sequences.directory / 'limited_first'}", "trainer.max_epochs=1"]
    output = sequences.run("train", *second, "logger=csv", "hydra.run.dir=limited_second").stdout
    assert "LIMITED: trainer.limit_train_batches=1" in output
    assert sequences.record("limited_second")["stage1"]["limits"] == {"limit_train_batches": 1}
    table = sequences.run("report", "runs=[limited_second]", "metrics=[ndcg@5]").stdout
    assert "LIMITED" in table
