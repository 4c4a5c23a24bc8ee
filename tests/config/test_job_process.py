"""Multi-process jobs of a sweep run in process trees of their own; exit statuses of commands."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from stemlab.config import job_process
from stemlab.config.job_process import process_count, read_objective, run_process_group
from stemlab.errors import StemlabError
from tests.cli.commands import TIMEOUT_S
from tests.config.conftest import ROOT, TOY


@pytest.mark.parametrize(("devices", "count"), [(1, 1), (4, 4), ([0, 3], 2), ([2], 1)])
def test_process_count(devices, count):
    assert process_count({"devices": devices}) == count


@pytest.mark.process
def test_multi_process_jobs_run_in_their_own_process_tree(program, tmp_path):
    done = program(
        "-m", "trainer=ddp_cpu", "seed=1,2", "tags=['a b']", "+hydra.job.env_set.A=b", RANK="1", LOCAL_RANK="0"
    )
    assert done.returncode == 0, done.stderr
    paths = sorted(tmp_path.glob("runs/sweeps/*/*/record.json"))
    assert [json.loads(path.read_text())["seed"] for path in paths] == [1, 2]
    assert [path.parent.name for path in paths] == ["0_stem_seed1", "1_stem_seed2"]
    assert not (tmp_path / "runs" / "toy").exists()


@pytest.mark.process
def test_failing_job_is_reported_and_the_next_one_runs(program, tmp_path):
    done = program("-m", "trainer=ddp_cpu", "seed=1,2", "tags=[odd]")
    assert done.returncode == 2
    assert "error: row 7 has 11 columns." in done.stderr
    assert "exit status 2" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list(tmp_path.glob("runs/sweeps/*/1_stem_seed2/record.json"))) == 1


def test_rank_variables_do_not_reach_the_child(monkeypatch, capfd):
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("KEPT", "7")
    show = "import os; print(sorted(set(os.environ) & {'RANK', 'WORLD_SIZE', 'MASTER_PORT', 'KEPT'}))"
    assert run_process_group([sys.executable, "-c", show]) == 0
    assert capfd.readouterr().out == "['KEPT']\n"


def test_usr1_of_a_slurm_job_is_left_to_the_command(monkeypatch):
    """The command gets the default action back, which ends it; the waiting process goes on."""
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    signals = "import os, signal; os.kill(os.getppid(), signal.SIGUSR1); os.kill(os.getpid(), signal.SIGUSR1)"
    assert run_process_group([sys.executable, "-S", "-c", signals]) == -signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_requeued_job_has_no_result(monkeypatch, tmp_path):
    (tmp_path / "record.json").write_text('{"status": "interrupted", "metrics": {"val/auc": 0.7}}')
    assert not job_process.interrupted_by_slurm(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    assert job_process.interrupted_by_slurm(tmp_path)
    monkeypatch.setattr(job_process, "_REQUEUE_SECONDS", 0.0)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    with pytest.raises(StemlabError, match="requeued"):
        job_process._wait_for_slurm(tmp_path)


def test_read_objective(tmp_path):
    with pytest.raises(StemlabError, match=r"no record\.json"):
        read_objective(tmp_path, "val/auc")
    (tmp_path / "record.json").write_text('{"metrics": {"val/auc": 0.7, "val/gauc": null}}')
    assert read_objective(tmp_path, "val/auc") == 0.7
    assert math.isnan(read_objective(tmp_path, "val/gauc"))
    with pytest.raises(StemlabError, match="val/auc, val/gauc"):
        read_objective(tmp_path, "val/logloss")


def restore_interrupts():
    """Restore the default handler of SIGINT: background processes of a shell ignore it, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


SLEEPER = "import os, pathlib, time; pathlib.Path('started').write_text(str(os.getpid())); time.sleep(600)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_parent_ends_its_job(tmp_path, number):
    parent = (
        "import sys\n"
        "from stemlab.config.job_process import run_process_group\n"
        "run_process_group([sys.executable, '-c', sys.argv[1]])\n"
    )
    command = [sys.executable, "-c", parent, SLEEPER]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        preexec_fn=restore_interrupts,
    )
    started, end = tmp_path / "started", time.monotonic() + TIMEOUT_S
    while not (started.exists() and started.read_text()):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(number)
    process.wait(TIMEOUT_S)
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


@pytest.mark.process
def test_exit_status_of_a_command(program, tmp_path):
    assert program("tags=[success]").returncode == 0
    interrupted = program("tags=[interrupt]")
    assert (interrupted.returncode, interrupted.stderr) == (130, "interrupted\n")
    bug = program("tags=[bug]")
    assert bug.returncode == 1
    assert "Traceback" in bug.stderr
    assert "ValueError: a programming error" in bug.stderr
    odd = program("tags=[odd]", "seed=3")
    assert (odd.returncode, odd.stderr) == (2, "error: row 7 has 11 columns.\n")


def test_arguments_that_lightning_adds_for_other_ranks_are_accepted(program, tmp_path):
    run_dir = tmp_path / "a run's dir"
    words = [f'hydra.run.dir="{run_dir}"', "hydra.job.name=train_ddp_process_1", "hydra.output_subdir=null"]
    done = program("seed=4", *words, LOCAL_RANK="1", RANK="1")
    assert done.returncode == 0, done.stderr
    assert json.loads((run_dir / "record.json").read_text())["seed"] == 4
    assert not (run_dir / ".hydra").exists()
    assert TOY.is_dir()


def test_other_ranks_do_not_repeat_the_message(program):
    done = program("seed=3", "tags=[odd]", LOCAL_RANK="1")
    assert (done.returncode, done.stderr) == (2, "")
