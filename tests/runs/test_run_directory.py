"""A run directory belongs to one run: what it holds, the lock, and how a training starts in it."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from stemlab.config.compose import compose, parse_overrides
from stemlab.config.resolve import config_hash
from stemlab.errors import StemlabError
from stemlab.reporting import run_lock as run_lock_module
from stemlab.reporting.record import read_record
from stemlab.reporting.run_lock import LOCK, is_locked, run_lock
from stemlab.runs import run_directory
from stemlab.runs.run import TrainingRun
from stemlab.runs.run_directory import check_run_directory, clear, newest_checkpoint, plan_start, resume_command
from stemlab.train import _check_directory
from tests.damage import flip_byte

WEIGHTS = torch.arange(50.0)


def config(directory: Path, **settings: Any) -> dict[str, Any]:
    paths = {"output_dir": str(directory)}
    return {"resume": "never", "overwrite": False, "ckpt_path": None, "paths": paths, "seed": 1, **settings}


def write_checkpoint(path: Path, step: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"global_step": step, "weights": WEIGHTS}, path)
    return path


def write_record(directory: Path, status: str, **values: Any) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "record.json").write_text(json.dumps({"schema": 1, "status": status, **values}))


def test_a_new_directory_and_one_without_results_start_from_the_beginning(tmp_path: Path) -> None:
    assert plan_start(config(tmp_path / "new")).checkpoint is None
    write_record(tmp_path / "early", "failed")
    for resume in ("never", "auto"):
        assert plan_start(config(tmp_path / "early", resume=resume)).checkpoint is None


@pytest.mark.parametrize("status", ["finished", "failed", "interrupted", "running"])
@pytest.mark.parametrize("file", ["checkpoints/last.ckpt", "checkpoints/best.ckpt", "hpc_ckpt_1.ckpt"])
def test_a_directory_with_a_run_is_refused_with_the_ways_on(status: str, file: str, tmp_path: Path) -> None:
    write_record(tmp_path, status)
    write_checkpoint(tmp_path / file, 3)
    with pytest.raises(StemlabError, match=r"resume=auto.*overwrite=true.*hydra\.run\.dir"):
        plan_start(config(tmp_path))
    assert plan_start(config(tmp_path, overwrite=True)).checkpoint is None
    assert plan_start(config(tmp_path, resume="must")).checkpoint == tmp_path / file
    elsewhere = write_checkpoint(tmp_path.parent / f"{tmp_path.name}-other" / "last.ckpt", 1)
    with pytest.raises(StemlabError, match="overwrite=true"):
        plan_start(config(tmp_path, ckpt_path=str(elsewhere)))
    assert plan_start(config(tmp_path, ckpt_path=str(tmp_path / file))).in_place


def test_a_finished_run_is_not_repeated_unless_its_settings_changed(tmp_path: Path) -> None:
    last = write_checkpoint(tmp_path / "checkpoints/last.ckpt", 3)
    same = config(tmp_path, resume="auto")
    write_record(tmp_path, "finished", config_hash=config_hash(same), metrics={"val/auc": 0.5})
    assert plan_start(same).finished["metrics"] == {"val/auc": 0.5}
    assert plan_start(same | {"resume": "must"}).finished is not None
    changed = plan_start(same | {"seed": 2})
    assert (changed.finished, changed.checkpoint) == (None, last)


def test_resume_must_needs_a_checkpoint_and_excludes_overwrite(tmp_path: Path) -> None:
    with pytest.raises(StemlabError, match=r"resume=must.*no checkpoint"):
        plan_start(config(tmp_path, resume="must"))
    with pytest.raises(StemlabError, match=r"overwrite=true.*resume=auto"):
        plan_start(config(tmp_path, resume="auto", overwrite=True))


def test_the_checkpoint_with_the_most_steps_is_resumed(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/best.ckpt").write_bytes(b"broken")
    assert newest_checkpoint(tmp_path) is None
    best = write_checkpoint(tmp_path / "checkpoints/best.ckpt", 6)
    last = write_checkpoint(tmp_path / "checkpoints/last.ckpt", 6)
    assert newest_checkpoint(tmp_path) == last
    slurm = write_checkpoint(tmp_path / "hpc_ckpt_2.ckpt", 8)
    write_checkpoint(tmp_path / "hpc_ckpt_1.ckpt", 7)
    assert newest_checkpoint(tmp_path) == slurm
    last.unlink()
    slurm.unlink()
    (tmp_path / "hpc_ckpt_1.ckpt").unlink()
    assert newest_checkpoint(tmp_path) == best


def test_a_damaged_checkpoint_is_skipped_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = write_checkpoint(tmp_path / "checkpoints/best.ckpt", 6)
    last = write_checkpoint(tmp_path / "checkpoints/last.ckpt", 8)
    flip_byte(last, WEIGHTS.numpy().tobytes())
    printed: list[str] = []
    monkeypatch.setattr(run_directory, "rank_zero_info", printed.append)
    assert newest_checkpoint(tmp_path) == best
    assert re.search(rf"warning: {last} .*damaged: resuming from {best}", *printed)
    start = plan_start(config(tmp_path, resume="auto"))
    assert (start.checkpoint, start.in_place) == (best, True)
    assert str(last) in start.warning
    assert str(best) in start.warning
    write_checkpoint(tmp_path / "hpc_ckpt_1.ckpt", 9)
    assert plan_start(config(tmp_path, resume="auto")).warning is None  # the newest one is intact


@pytest.mark.parametrize("resume", ["auto", "must", "never"])
def test_a_run_whose_checkpoints_are_all_damaged_is_neither_resumed_nor_replaced(resume: str, tmp_path: Path) -> None:
    flip_byte(write_checkpoint(tmp_path / "checkpoints/last.ckpt", 8), WEIGHTS.numpy().tobytes())
    (tmp_path / "checkpoints/best.ckpt").write_bytes(b"broken")
    with pytest.raises(StemlabError, match=r"(best|last)\.ckpt .*damaged.*delete"):
        plan_start(config(tmp_path, resume=resume))


def test_a_finished_run_in_a_read_only_directory_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "checkpoints/last.ckpt", 3)
    words = ["resume=auto", "objective=val/auc", f"paths.output_dir={tmp_path}"]
    same = compose("train", words)
    write_record(tmp_path, "finished", config_hash=config_hash(same), metrics={"val/auc": 0.5})

    def refuse(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(run_lock_module, "_acquire", refuse)
    assert check_run_directory(same) is None
    assert TrainingRun(same, [], None).run() == 0.5
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(SystemExit) as end:
        _check_directory(same)  # before Hydra writes
    assert end.value.code == 0
    assert "nothing is left to do" in capsys.readouterr().out


def test_a_job_that_slurm_requeued_resumes_with_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = write_checkpoint(tmp_path / "checkpoints/last.ckpt", 3)
    write_record(tmp_path, "running", slurm_job="7_2")
    with pytest.raises(StemlabError, match="resume=auto"):
        plan_start(config(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert plan_start(config(tmp_path)).checkpoint == last
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with pytest.raises(StemlabError, match="resume=auto"):
        plan_start(config(tmp_path))


def test_overwrite_deletes_the_run_and_nothing_else(tmp_path: Path) -> None:
    write_record(tmp_path, "finished")
    write_checkpoint(tmp_path / "checkpoints/best.ckpt", 1)
    for name in ("metrics.csv", "metrics_until_epoch_1.csv", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "wandb").mkdir()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_locked_directory_is_refused_and_its_record_says_running(tmp_path: Path) -> None:
    write_record(tmp_path, "running")
    assert read_record(tmp_path)["status"] == "interrupted"
    with run_lock(tmp_path):
        assert is_locked(tmp_path)
        assert read_record(tmp_path)["status"] == "running"
        with pytest.raises(StemlabError, match=rf"running in .*process {os.getpid()} on"), run_lock(tmp_path):
            pass
        with pytest.raises(StemlabError, match="another training"):
            check_run_directory(config(tmp_path))
    assert not (tmp_path / LOCK).exists()
    assert not is_locked(tmp_path)
    check_run_directory(config(tmp_path))
    (tmp_path / LOCK).write_text("process 1 on a machine that was switched off")
    with run_lock(tmp_path):
        pass


def test_a_run_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StemlabError, match=r"hydra\.run\.dir=.*file"):
        plan_start(config(tmp_path / "file"))


def test_the_command_that_resumes_a_run_can_be_parsed(tmp_path: Path) -> None:
    for name in ("run", "run 1[x], a=b"):
        words = shlex.split(resume_command(config(tmp_path / name), ["seed=1", "resume=never"]))[3:]
        found = {one.key_or_group: one.value() for one in parse_overrides(words)}
        assert found == {"seed": 1, "hydra.run.dir": str(tmp_path / name), "resume": "auto"}
    assert f" hydra.run.dir={tmp_path / 'run'} " in resume_command(config(tmp_path / "run"), [])
