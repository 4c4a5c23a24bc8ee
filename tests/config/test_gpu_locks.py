"""GPUs of jobs that run at the same time."""

import pytest

from stemlab.config import gpu_locks
from stemlab.config.gpu_locks import reserved_gpus
from stemlab.errors import StemlabError


def test_jobs_hold_different_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,4,6")
    with reserved_gpus(tmp_path, 1) as first, reserved_gpus(tmp_path, 2) as second:
        assert (first, second) == ("1", "4,6")
    with reserved_gpus(tmp_path, 3) as all_of_them:
        assert all_of_them == "1,4,6"
    with pytest.raises(StemlabError, match="4 GPUs"), reserved_gpus(tmp_path, 4):
        pass


def test_a_job_waits_until_gpus_are_free(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    other = reserved_gpus(tmp_path, 1)
    other.__enter__()
    pauses = []

    def end_of_the_other(pause):
        pauses.append(pause)
        other.__exit__(None, None, None)

    monkeypatch.setattr(gpu_locks.time, "sleep", end_of_the_other)
    with reserved_gpus(tmp_path, 1) as found:
        assert found == "1"
    assert len(pauses) == 1
