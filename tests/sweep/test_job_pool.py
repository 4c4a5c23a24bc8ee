"""Jobs as processes: their reports, their ends, their GPUs."""

import pytest

from stemlab.config.trial_channel import EpochReport
from stemlab.errors import StemlabError
from stemlab.sweep.job_pool import JobPool, gpus_per_job, last_line


def test_jobs_report_epochs_and_are_ended_by_an_answer(tmp_path):
    pool = JobPool(2, ["0", "3"], module="tests.sweep.reporting_job")
    folders = [tmp_path / name for name in "ab"]
    for number, folder in enumerate(folders):
        pool.start(number, folder, [str(folder), str(number)])
    assert not pool.has_room()
    epochs, ended = {0: [], 1: []}, {}
    while pool.running:
        for job, event in pool.events():
            if isinstance(event, EpochReport):
                epochs[job.number].append(event.epoch)
                assert event.value == event.epoch / 10
                job.answer(stop=event.epoch == 2 + job.number)
            else:
                ended[job.number] = (event, job.stopped)
    assert epochs == {0: [1, 2], 1: [1, 2, 3]}
    assert ended == {0: (0, True), 1: (1, True)}
    assert [last_line(folder) for folder in folders] == [
        "stopped after epoch 2 on GPU 0",
        "stopped after epoch 3 on GPU 3",
    ]
    assert pool.has_room()


def test_jobs_end_with_the_pool(tmp_path):
    pool = JobPool(2, module="tests.sweep.reporting_job")
    pool.start(0, tmp_path, [str(tmp_path), "0"])
    pool.end()
    assert not pool.running


def test_each_job_gets_gpus_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,6,7")
    assert gpus_per_job(4, 1) == ["2", "5", "6", "7"]
    assert gpus_per_job(2, 2) == ["2,5", "6,7"]
    with pytest.raises(StemlabError, match=r"6 GPUs, 4 are visible"):
        gpus_per_job(3, 2)
