"""Five trainings per family, killed at random moments, end like uninterrupted ones (``make kill``: twenty)."""

import os
import signal
from pathlib import Path

import pytest

from tests.cli.commands import TIMEOUT_S, Workspace
from tests.cli.conftest import TINY, assert_same_weights
from tests.cli.forked import ForkedCommand
from tests.cli.test_train import wait_for

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ("multitask", "multiscenario", "sequential", "two_stages")


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("family", FAMILIES)
def test_killed_trainings_resume_exactly(family: str) -> None:
    process = ForkedCommand("tests.kill_harness", ["--points", "5", "--family", family], ROOT, os.environ)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, out + err


@pytest.mark.slow
@pytest.mark.ddp
def test_two_ranks_stop_together_and_resume_exactly(workspace: Workspace) -> None:
    """SIGTERM reaches rank 0 only."""
    words = [*TINY, "trainer=ddp_cpu", "trainer.devices=2", "dataset.batch_size=8", "model.net.net_dropout=0.3"]
    words += ["callbacks.early_stop.enabled=false", "trainer.max_epochs=3", "logger=csv"]
    workspace.run_process("train", *words, "hydra.run.dir=pair_whole")
    process = workspace.start("train", *words, "hydra.run.dir=pair_ended")
    wait_for(workspace.directory / "pair_ended/checkpoints/last.ckpt")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 143, out + err
    assert "resume=auto" in err
    assert workspace.record("pair_ended")["status"] == "interrupted"
    workspace.run_process("train", *words, "hydra.run.dir=pair_ended", "resume=must")
    (resumption,) = workspace.record("pair_ended")["resumptions"]
    assert resumption["step"] > 0
    assert workspace.record("pair_ended")["metrics"] == workspace.record("pair_whole")["metrics"]
    assert_same_weights(workspace.directory / "pair_whole", workspace.directory / "pair_ended")
