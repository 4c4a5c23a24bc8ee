"""Settings of optimisers and schedules that nothing would read, or that contradict each other, are refused."""

import pytest

COSINE = ("optim.schedule.name=cosine", "optim.plateau.enabled=false")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("optim.name=lion",), ("adam, adamw, adagrad, sgd",)),
        (("optim.weight_decay=0.1",), ("weight_decay=0.1", "adamw")),
        (("optim.name=sgd", "optim.betas=[0.5,0.9]"), ("betas", "adam or adamw")),
        (("optim.momentum=0.9",), ("momentum=0.9", "sgd")),
        (("optim.schedule.name=cosine",), ("schedule.name=cosine", "plateau.enabled=false")),
        (("optim.schedule.name=cos",), ("cosine",)),
        (("optim.schedule.step_size=3",), ("step_size=3", "step")),
        (("optim.schedule.name=step", "optim.plateau.enabled=false"), ("step_size",)),
        ((*COSINE, "optim.schedule.gamma=0.5"), ("gamma=0.5", "step")),
        (
            ("optim.tables=sparse_adam", "optim.tables_lr=0.1", "optim.lr_groups.tables=0.2"),
            ("tables_lr=0.1", "lr_groups.tables=0.2"),
        ),
        (("optim.ema=1",), ("ema=1", "less than 1")),
        (("optim.ema=0.9", "callbacks.paper_selection=true"), ("ema=0.9", "paper_selection")),
        (("optim.ema=0.9", "trainer=ddp_cpu", "trainer.embedding=row_sharded"), ("optim.ema=null",)),
        (("optim.tables=sparse_adam", "optim.name=sgd"), ("adam or adamw", "sgd")),
        (("optim.name=sgd", "trainer=ddp_cpu", "trainer.embedding=row_sharded"), ("optim.name=adam", "sgd")),
    ],
)
def test_refused_settings(message, words, expected):
    found = message(*words)
    assert all(part in found for part in expected), found


@pytest.mark.parametrize(
    "words",
    [
        ("optim.name=adamw", "optim.weight_decay=0.1", "optim.lr_groups.gates=1e-4", "model=mmoe"),
        ("optim.name=adamw", "optim.tables=sparse_adam"),
        ("optim.name=sgd", "optim.momentum=0.9", "optim.schedule.warmup_steps=10"),
        (*COSINE, "optim.schedule.warmup_steps=10", "optim.schedule.final_factor=0.1"),
    ],
)
def test_accepted_settings(message, words):
    assert message(*words) is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model.beyond_accuracy=true",), ("beyond_accuracy", "full")),
        (("dataset.evaluation.candidates=full", "objective=test/gini@5"), ("gini@5",)),
        (("model.beyond_accuracy=true", "dataset.evaluation.candidates=full", "objective=test/gini@5"), None),
    ],
)
def test_metrics_of_lists_need_lists(message, words, expected):
    found = message("model=sasrec", "dataset=ml1m", *words)
    assert found is None if expected is None else all(part in found for part in expected), found


def test_l2_beside_the_decay_of_adamw_is_refused(message):
    found = message("model=sasrec", "dataset=ml1m", "optim.name=adamw", "optim.l2=1e-6")
    assert all(part in found for part in ("optim.l2", "weight_decay")), found
