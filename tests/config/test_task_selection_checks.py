"""Settings with which no best epoch per task can be selected are refused by name."""

import pytest

PER_TASK = "callbacks.checkpoint.per_task=true"


@pytest.mark.parametrize(
    "words",
    [
        (PER_TASK,),
        (PER_TASK, "callbacks.early_stop.enabled=false", "callbacks.early_stop.monitor=val/gauc"),
        (PER_TASK, "callbacks.checkpoint.monitor=val/logloss", "callbacks.early_stop.monitor=val/logloss"),
        (PER_TASK, "trainer=ddp_cpu", "trainer.embedding=row_sharded", "model=mmoe"),
    ],
)
def test_accepted(message, words):
    assert message(*words) is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model=single_task",), "model=single_task trains finish only"),
        (("model.task=like",), "trains like only"),
        (("callbacks.checkpoint.monitor=val/auc/like",), "callbacks.checkpoint.monitor=val/auc/like"),
        (("callbacks.early_stop.monitor=val/gauc",), "callbacks.early_stop.monitor=val/auc instead of val/gauc"),
        (("model=timirec", "dataset=ml1m"), "callbacks.checkpoint.per_task"),
    ],
)
def test_refused(message, words, expected):
    assert expected in message(*words, PER_TASK)
