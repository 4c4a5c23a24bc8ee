"""Checks of the launcher and log filters."""

import logging

import pytest

from stemlab.errors import StemlabError
from stemlab.runs.environment import check_launcher, silence_lightning


def test_processes_of_an_external_launcher_need_one_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    check_launcher([])
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    check_launcher(["hydra.run.dir=runs/x"])
    with pytest.raises(StemlabError, match=r"hydra\.run\.dir=runs/<name>"):
        check_launcher(["hydra.verbose=true"])
    check_launcher(["hydra.run.dir='/runs/x'"], nodes=2)
    with pytest.raises(StemlabError, match="absolute"):
        check_launcher(["hydra.run.dir=runs/x"], nodes=2)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    with pytest.raises(StemlabError, match=r"num_nodes=2 .*scripts/launch"):
        check_launcher(["hydra.run.dir=/runs/x"], nodes=2)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    check_launcher([])
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(StemlabError, match=r"SLURM .*hydra\.run\.dir"):
        check_launcher([])


def test_only_ignored_log_lines_are_silenced(caplog: pytest.LogCaptureFixture) -> None:
    silence_lightning()
    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    with caplog.at_level(logging.INFO, logger=log.name):
        log.info("GPU available: False, used: False")
        log.info("W&B is off")
    assert [record.getMessage() for record in caplog.records] == ["W&B is off"]
