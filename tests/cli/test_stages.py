"""TiMiRec in two stages: trained once, shared, linked, gone on with, or given."""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.evaluate import evaluate
from tests.cli.commands import TIMEOUT_S, Workspace
from tests.cli.conftest import assert_same_weights, weights
from tests.cli.sequences import TIMIREC, write_folder
from tests.cli.test_train import walk
from tests.runs.wandb_file import read_wandb

EXTRACTOR = ("net.items.", "net.extractor.")


@pytest.fixture(scope="module")
def place(sequences: Workspace) -> Workspace:
    """Where all tests of this file run; each takes its stages from a directory of its own."""
    return sequences


@pytest.fixture(scope="module")
def both(place: Workspace) -> Path:
    """A run of both stages by the command line, its runs directory ``shared``."""
    place.run("train", *TIMIREC, "paths.runs_dir=shared", "hydra.run.dir=both", "logger=wandb")
    return place.directory / "both"


def firsts(place: Workspace, runs_dir: str) -> list[Path]:
    """First stages trained below a runs directory."""
    return sorted(path for path in (place.directory / runs_dir / "stages").iterdir() if path.name[0] != ".")


def record(run: Path) -> dict:
    return json.loads((run / "record.json").read_text())


def extractor(run: Path) -> dict[str, torch.Tensor]:
    return {name: x for name, x in weights(run, "best.ckpt").items() if name.startswith(EXTRACTOR)}


# ------------------------------------------------------------------------------------------------------- both stages


def test_each_stage_has_its_directory_and_record_and_knows_the_other(both: Path, place: Workspace) -> None:
    (first,) = firsts(place, "shared")
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


def test_each_stage_has_a_run_of_its_own_in_wandb_and_they_share_a_group(both: Path, place: Workspace) -> None:
    first = Path(record(both)["stage1"]["directory"])
    runs = [read_wandb(next(run.glob("wandb/offline-run-*/*.wandb"))) for run in (first, both)]
    assert [run.name for run in runs] == [f"rechorus/timirec/{stage}/seed2023" for stage in ("pretrain", "finetune")]
    assert {run.group for run in runs} == {first.name}
    assert runs[0].id != runs[1].id
    for run, directory in zip(runs, (first, both), strict=True):
        assert run.summary["test/ndcg@5"] == record(directory)["metrics"]["test/ndcg@5"]


def test_both_checkpoints_give_back_their_metrics(both: Path, place: Workspace) -> None:
    for run in (both, *firsts(place, "shared")):
        told = {name: value for name, value in record(run)["metrics"].items() if name.startswith("test/")}
        assert evaluate(compose("evaluate", [f"ckpt={run / 'checkpoints' / 'best.ckpt'}"])) == told
        content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]
        assert {type(value) for value in walk(content)} <= {dict, list, str, int, float, bool, type(None)}


def test_a_sweep_over_the_second_stage_trains_the_first_once(place: Workspace) -> None:
    words = ["model.net.temperature=0.5,2", "model.net.projection_layers=1,2", "paths.runs_dir=swept"]
    place.run("train", "-m", *TIMIREC, *words, STEMLAB_SWEEP_ID="grid")
    (first,) = firsts(place, "swept")
    runs = sorted((place.directory / "swept" / "sweeps" / "grid").glob("*/record.json"))
    assert len(runs) == 4
    assert {record(path.parent)["stage1"]["directory"] for path in runs} == {str(first)}
    assert record(first)["stage2"] == [str(path.parent) for path in runs]
    assert len({weights(path.parent)["net.items.weight"].numpy().tobytes() for path in runs}) == 4


def test_a_stage_of_other_settings_is_another_one(
    both: Path, place: Workspace, run_training: Callable[..., float]
) -> None:
    run_training("other_width", *TIMIREC, "paths.runs_dir=shared", "model.net.attention_dim=3")
    assert len(firsts(place, "shared")) == 2


@pytest.mark.process
def test_who_comes_while_the_first_stage_is_trained_waits(place: Workspace) -> None:
    words = [*TIMIREC, "trainer.max_epochs=6", "paths.runs_dir=waited"]
    runs = [place.start("train", *words, f"model.net.temperature={t}", f"hydra.run.dir=wait{t}") for t in (1, 2)]
    told = [process.communicate(timeout=TIMEOUT_S) for process in runs]
    assert [process.returncode for process in runs] == [0, 0], told
    (first,) = firsts(place, "waited")
    assert sorted(record(first)["stage2"]) == [str(place.directory / f"wait{t}") for t in (1, 2)]
    assert sum(bool(re.search("pretrain is trained", out + err)) for out, err in told) == 1


# ------------------------------------------------------------------------------------------------------ interruptions


@pytest.mark.process
def test_a_killed_first_stage_goes_on_and_ends_as_if_it_had_not_been(
    place: Workspace, run_training: Callable[..., float]
) -> None:
    words = [*TIMIREC, "trainer.max_epochs=20"]
    process = place.start("train", *words, "paths.runs_dir=killed", "hydra.run.dir=never")
    stages = place.directory / "killed" / "stages"
    last = wait_for(lambda: next(stages.glob("*/checkpoints/last.ckpt"), None))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.communicate(timeout=30)
    (first,) = firsts(place, "killed")
    assert not (first / "record.json").exists()
    epoch = torch.load(last, weights_only=True)["epoch"]
    assert epoch < 19
    told = place.run("train", *words, "paths.runs_dir=killed", "hydra.run.dir=again")
    said = told.stdout + told.stderr
    assert re.search(rf"pretrain.* {re.escape(str(first))}", said)
    run_training("whole", *words, "paths.runs_dir=unharmed")
    (unharmed,) = firsts(place, "unharmed")
    assert unharmed.name == first.name
    for name in ("best.ckpt", "last.ckpt"):
        assert_same_weights(first, unharmed, name)
        assert_same_weights(place.directory / "again", place.directory / "whole", name)
    assert record(first)["metrics"] == record(unharmed)["metrics"]
    assert place.record("again")["metrics"] == place.record("whole")["metrics"]
    assert len(list(first.glob("metrics_until_epoch_*.csv"))) == 1


def wait_for(found: Callable[[], Path | None]) -> Path:
    end = time.monotonic() + TIMEOUT_S
    while (path := found()) is None:
        assert time.monotonic() < end
        time.sleep(0.005)
    return path


def test_the_second_stage_is_gone_on_with(both: Path, place: Workspace, run_training: Callable[..., float]) -> None:
    """The same words and ckpt_path; the first stage is not asked for again."""
    (first,) = [path for path in firsts(place, "shared") if record(path)["stage2"] == [str(both)]]
    words = [*TIMIREC, f"model.init_from={first}"]
    run_training("four", *words, "trainer.max_epochs=4")
    run_training("two", *words)
    moved = first.rename(first.with_name("elsewhere"))
    try:
        last = place.directory / "two" / "checkpoints" / "last.ckpt"
        run_training("two_more", *words, "trainer.max_epochs=4", f"ckpt_path={last}")
    finally:
        moved.rename(first)
    for name in ("best.ckpt", "last.ckpt"):
        assert_same_weights(place.directory / "four", place.directory / "two_more", name)
    four, two_more = place.record("four"), place.record("two_more")
    assert (four["metrics"], four["stage1"]) == (two_more["metrics"], two_more["stage1"])


def test_a_first_stage_is_not_gone_on_with_as_a_second(
    both: Path, place: Workspace, run_training: Callable[..., float]
) -> None:
    last = firsts(place, "shared")[0] / "checkpoints" / "last.ckpt"
    with pytest.raises(StemlabError, match=r"pretrain.* ckpt_path.* finetune"):
        run_training("refused", *TIMIREC, f"ckpt_path={last}")


# ------------------------------------------------------------------------------------------- given, alone, or none


def test_the_given_extractor_is_what_the_second_stage_begins_with(
    both: Path, place: Workspace, run_training: Callable[..., float]
) -> None:
    """At a vanishing learning rate it stays what it was; the predictor is new."""
    first = Path(record(both)["stage1"]["directory"])
    for name, given in (("from_run", first), ("from_file", first / "checkpoints" / "best.ckpt")):
        words = ["optim.lr=1e-30", "model.stage=finetune", f"model.init_from={given}", "paths.runs_dir=none"]
        run_training(name, *TIMIREC, *words, "trainer.max_epochs=1")
        begun, trained = extractor(place.directory / name), extractor(first)
        assert begun.keys() == trained.keys()
        assert all(torch.equal(begun[key], trained[key]) for key in trained)
        assert place.record(name)["stage1"]["directory"] == str(first)
    assert not (place.directory / "none" / "stages").exists()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["model.net.num_interests=3"], "model.net.num_interests=2.* 3"),
        (["model.net.transformer=false"], "model.net.transformer=True.* False"),
        (["dataset.history_max=5"], "dataset.history_max=6.* 5"),
        (["dataset.raw_dir=other_folder"], "prepared dataset"),
    ],
)
def test_a_first_stage_that_does_not_fit_is_refused(
    words: list[str], hint: str, both: Path, place: Workspace, run_training: Callable[..., float]
) -> None:
    if not (place.directory / "other_folder").exists():
        write_folder(place.directory / "other_folder", seed=1)
    first = record(both)["stage1"]["directory"]
    with pytest.raises(StemlabError) as caught:
        run_training("refused", *TIMIREC, f"model.init_from={first}", *words)
    assert re.search(hint, str(caught.value))
    assert first in str(caught.value)
    assert place.record("refused")["status"] == "failed"


def test_a_second_stage_is_no_first_one(both: Path, run_training: Callable[..., float]) -> None:
    with pytest.raises(StemlabError, match=r"model.stage=finetune.* pretrain"):
        run_training("refused", *TIMIREC, f"model.init_from={both}")


def test_a_missing_or_foreign_first_stage_is_refused(place: Workspace, run_training: Callable[..., float]) -> None:
    with pytest.raises(StemlabError, match=r"model.init_from=nowhere: "):
        run_training("refused", *TIMIREC, "model.init_from=nowhere")
    with pytest.raises(StemlabError, match=r"model.init_from=folder/dev.csv: .*read"):
        run_training("refused", *TIMIREC, "model.init_from=folder/dev.csv")


def test_a_second_stage_alone_needs_a_first_one_or_leave_to_do_without(
    place: Workspace, run_training: Callable[..., float]
) -> None:
    words = [*TIMIREC, "model.stage=finetune", "paths.runs_dir=alone"]
    with pytest.raises(StemlabError, match=r"first stage .*model.stage=both"):
        run_training("refused", *words)
    run_training("scratch", *words, "model.allow_scratch=true")
    told = place.record("scratch")
    assert (told["status"], told["stage"], told["stage1"]) == ("finished", "finetune", None)
    assert not (place.directory / "alone" / "stages").exists()


def test_a_first_stage_for_its_own_sake_serves_second_ones(
    both: Path, place: Workspace, run_training: Callable[..., float]
) -> None:
    words = ["paths.runs_dir=own"]
    run_training("plus", *TIMIREC, *words, "model.name=comirec_plus", "model.stage=pretrain", "model.net.temperature=3")
    assert (place.record("plus")["stage"], place.record("plus")["model"]) == ("pretrain", "comirec_plus")
    (first,) = firsts(place, "own")
    assert first.resolve() == place.directory / "plus"
    run_training("begun", *TIMIREC, *words, "model.stage=finetune")
    assert_same_weights(both, place.directory / "begun")
    assert place.record("plus")["stage2"] == [str(place.directory / "begun")]
    shutil.rmtree(place.directory / "plus")  # the name leads nowhere: the next run trains it, there
    run_training("begun_again", *TIMIREC, *words)
    assert not first.is_symlink()
    assert_same_weights(both, place.directory / "begun_again")


@pytest.mark.ddp
def test_two_processes_train_both_stages_and_take_a_finished_one(place: Workspace) -> None:
    words = [*TIMIREC, "trainer=ddp_cpu", "trainer.devices=2", "paths.runs_dir=pair"]
    place.run_process("train", *words, "hydra.run.dir=pair_one")
    (first,) = firsts(place, "pair")
    assert record(first)["hardware"]["processes"] == 2
    assert not list((place.directory / "pair" / "stages").glob(".*.json"))
    told = place.run_process("train", *words, "hydra.run.dir=pair_two")
    assert "stage pretrain" not in told.stdout + told.stderr
    assert_same_weights(place.directory / "pair_one", place.directory / "pair_two")
    assert firsts(place, "pair") == [first]
