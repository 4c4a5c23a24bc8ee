"""A resumed run ends where an uninterrupted one ends, bit for bit."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stemlab.errors import StemlabError
from tests.cli.conftest import LONG, TINY, Workplace, assert_same_weights
from tests.cli.test_train import rows, wait_for

TWO = ["trainer.max_epochs=2", *LONG[1:]]


@pytest.fixture(scope="module")
def half(workplace: Workplace, here: Callable[..., float]) -> Path:
    """The same run as ``trained``, ended after two of its four epochs."""
    here("half_way", *TINY, *TWO)
    return workplace.directory / "half_way"


def test_two_epochs_and_two_more_are_four(trained: Path, half: Path, here: Callable[..., float]) -> None:
    here("resumed", *TINY, *LONG, f"ckpt_path={half / 'checkpoints' / 'last.ckpt'}")
    resumed = trained.parent / "resumed"
    assert_same_weights(trained, resumed)
    assert_same_weights(trained, resumed, "best.ckpt")
    one, other = (json.loads((run / "record.json").read_text()) for run in (trained, resumed))
    assert one["metrics"] == other["metrics"]
    assert one["best"] == other["best"]
    assert other["epochs_run"] == 4
    assert [row["epoch"] for row in rows(resumed) if row["val/auc"]] == ["2", "3"]


def test_dropout_goes_on_as_it_would_have(here: Callable[..., float], workplace: Workplace) -> None:
    words = [*TINY, "model.net.net_dropout=0.3", "trainer.limit_train_batches=3"]
    here("drop_whole", *words, *LONG)
    here("drop_half", *words, *TWO)
    here("drop_resumed", *words, *LONG, f"ckpt_path={workplace.directory / 'drop_half/checkpoints/last.ckpt'}")
    assert_same_weights(workplace.directory / "drop_whole", workplace.directory / "drop_resumed")


@pytest.mark.slow
def test_a_killed_run_is_resumed(trained: Path, workplace: Workplace, here: Callable[..., float]) -> None:
    process = workplace.start("train", *TINY, *LONG, "trainer.max_epochs=100000", "hydra.run.dir=killed")
    wait_for(workplace.directory / "killed" / "checkpoints" / "last.ckpt")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.communicate(timeout=30)
    # 100,000 epochs went on until the kill: resume the state of the run's own last checkpoint, whichever epoch it is
    last = workplace.directory / "killed" / "checkpoints" / "last.ckpt"
    epoch = torch.load(last, weights_only=True)["epoch"]
    total = epoch + 3
    here("killed_resumed", *TINY, *LONG, f"trainer.max_epochs={total}", f"ckpt_path={last}")
    here("never_killed", *TINY, *LONG, f"trainer.max_epochs={total}")
    for name in ("last.ckpt", "best.ckpt"):
        assert_same_weights(workplace.directory / "never_killed", workplace.directory / "killed_resumed", name)


def test_early_stop_and_plateau_survive(half: Path, here: Callable[..., float], workplace: Workplace) -> None:
    """A monitored metric that never improves: patience 3 is used up across the interruption."""
    words = [*TINY, "trainer.limit_train_batches=1", "callbacks.early_stop.min_delta=1.0"]
    words += ["optim.plateau.threshold=1.0", "callbacks.early_stop.patience=3"]
    here("stop_whole", *words, "trainer.max_epochs=9")
    here("stop_half", *words, "trainer.max_epochs=2")
    last = workplace.directory / "stop_half/checkpoints/last.ckpt"
    here("stop_resumed", *words, "trainer.max_epochs=9", f"ckpt_path={last}")
    whole, resumed = workplace.directory / "stop_whole", workplace.directory / "stop_resumed"
    assert workplace.record("stop_whole")["epochs_run"] == workplace.record("stop_resumed")["epochs_run"] == 4
    assert workplace.record("stop_resumed")["best"]["epoch"] == 0  # its checkpoint came along from the first run
    assert_same_weights(whole, resumed)
    assert_same_weights(whole, resumed, "best.ckpt")
    content = torch.load(resumed / "checkpoints/last.ckpt", weights_only=True)
    # the rate was cut after epochs 2, 3 and 4: 0.01 * 0.1 ** 3
    assert content["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-5)


def test_a_finished_run_can_be_resumed_into_its_record(
    trained: Path, here: Callable[..., float], workplace: Workplace
) -> None:
    """A run killed between its last epoch and its evaluation loses nothing."""
    here("finished", *TINY, *LONG, f"ckpt_path={trained / 'checkpoints' / 'last.ckpt'}")
    assert workplace.record("finished")["metrics"] == workplace.record("trained")["metrics"]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("model.net.embedding_dim=8", "model.net.embedding_dim=4, this one has 8"),
        ("seed=1", "seed=2023, this one has 1"),
        ("dataset.split.seed=1", "trained on prepared dataset"),
        ("dataset.batch_size=64", "dataset.batch_size=128, this one has 64"),
    ],
)
def test_another_run_is_refused(word: str, sentence: str, half: Path, here: Callable[..., float]) -> None:
    with pytest.raises(StemlabError, match=sentence):
        here("refused", *TINY, *TWO, f"ckpt_path={half / 'checkpoints' / 'last.ckpt'}", word)


def test_the_best_epoch_must_be_there(half: Path, here: Callable[..., float], tmp_path: Path) -> None:
    shutil.copy(half / "checkpoints" / "last.ckpt", tmp_path / "last.ckpt")
    with pytest.raises(StemlabError, match=r"best\.ckpt of the same run must lie beside it"):
        here("alone", *TINY, *LONG, f"ckpt_path={tmp_path / 'last.ckpt'}")
