"""Accepted and refused settings of multi-task models."""

import pytest

from stemlab.config.cross_checks import effective_tasks
from stemlab.config.monitor_checks import check_monitors, check_scenarios, configured_scenarios
from stemlab.config.validation_messages import unknown_origin
from stemlab.errors import StemlabError


def config(task=None, name="stem"):
    return {"model": {"family": "multitask", "task": task, "name": name}, "dataset": {"tasks": ["finish", "like"]}}


def test_effective_tasks():
    assert effective_tasks(config()) == ["finish", "like"]
    assert effective_tasks(config("like")) == ["like"]
    assert effective_tasks(config(name="single_task")) == ["finish"]
    assert effective_tasks(config("like", "single_task")) == ["like"]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("model=single_task",),
        ("model=single_task", "model.task=like"),
        ("model=esmm",),
        ("dataset.tasks=[a,b,c]",),
        ("dataset.tasks=[a,b,c]", "objective=val/auc/c"),
        ("objective=test/gauc/like",),
        ("callbacks.early_stop.monitor=val/logloss", "callbacks.early_stop.mode=min"),
        ("callbacks.checkpoint.monitor=val/ece/like",),
        ("trainer=ddp", "trainer.devices=[0,3]"),
        ("trainer=ddp_cpu",),
        ("optim.clip_norm=null",),
        ("optim.lr=1",),
        ("model.embedding_regularizer='l1_l2(1e-6, 1e-5)'",),
    ],
)
def test_accepted_settings(message, words):
    assert message(*words) is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model=esmm", "dataset.tasks=[a,b,c]"), "ESMM needs exactly two tasks"),
        (("model=esmm", "model.task=like"), "model.task=[like] is set on the command line."),
        (("dataset.tasks=[]",), "dataset.tasks=[] (set on the command line) must be a list of at least 1 value."),
        (("dataset.tasks=[a,a]",), "dataset.tasks=[a, a] (set on the command line) has 'a' twice."),
        (("dataset.fields=[]",), "dataset.fields=[] (set on the command line) must be a list of at least 1 value."),
        (("model.task=lik",), "must be a task of toy: finish, like. Did you mean 'like'?"),
        (("dataset.split.test_size=0.95",), "sum must be less than 1."),
        (("dataset.min_count=0",), "dataset.min_count=0 (set on the command line) must be greater than 0."),
        (("dataset.min_count=-4",), "dataset.min_count=-4 (set on the command line) must be greater than 0."),
        (
            ("model.net.embedding_dim=-1",),
            "model.net.embedding_dim=-1 (set on the command line) must be greater than 0.",
        ),
        (
            ("model.net.embedding_dim=x",),
            "model.net.embedding_dim='x' (set on the command line) must be an integer.",
        ),
        (("model.net.expert_hidden_units=[]",), "must be a list"),
        (("model.net.gate=aftp",), "Did you mean 'aftb'?"),
        (("+model.net.embeding_dim=4",), "is not a setting. Did you mean 'embedding_dim'?"),
        (("model.embedding_regularizer='l3(1)'",), "model.embedding_regularizer='l3(1)' (set on the command line): "),
        (("model.embedding_regularizer=-1",), "model.embedding_regularizer=-1 (set on the command line) must be "),
        (("optim.lr=0",), "optim.lr=0 (set on the command line) must be greater than 0."),
        (("optim.betas=[0.9]",), "optim.betas"),
        (("optim.lr=inf",), "optim.lr=inf (set on the command line) must be a finite number."),
        (("optim.lr=.nan",), "optim.lr"),
        (("optim.lr=1e30",), "optim.lr=1e+30 (set on the command line) must be at most 10."),
        (("optim.plateau.min_lr=1e30",), "optim.plateau.min_lr=1e+30 (set on the command line) must be at most 10."),
        (("optim.clip_norm=1e30",), "optim.clip_norm=1e+30 (set on the command line) must be at most 1e+06."),
        (("model.embedding_regularizer=1e30",), "model.embedding_regularizer=1e+30 (set on the command line) must be"),
        (("model.net_regularizer='l2(1e30)'",), "model.net_regularizer='l2(1e30)' (set on the command line): "),
        (("ckpt_path=''",), "ckpt_path='' (set on the command line) is an empty path"),
        (("resume_from=''",), "resume_from='' (set on the command line) is an empty path"),
        (("optim.eps=1e30",), "optim.eps=1e+30 (set on the command line) must be at most 1."),
        (("optim.clip_norm=inf",), "optim.clip_norm=inf (set on the command line) must be"),
        (("callbacks.early_stop.min_delta=1e9",), "must be at most 1."),
        (("dataset.min_count=10000000000000000000000",), "must be less than 2147483648."),
        (("trainer.max_epochs=10000000000000000000000",), "must be less than 2147483648."),
        (("trainer.devices=10000000000000000000000",), "trainer.devices=10000000000000000000000 (set on the command"),
        (("model.net.embedding_dim=10000000000000000000000",), "must be less than 2147483648."),
        (("paths.data_dir=null",), "paths.data_dir=null (set on the command line) must be a string."),
        (("paths.root_dir=null",), "paths.root_dir=null (set on the command line) must be a string."),
        (("paths.runs_dir=nan",), "paths.runs_dir=nan (set on the command line) must be a string."),
        (("paths.data_dir=[a,b]",), "paths.data_dir=['a', 'b'] (set on the command line) must be a string."),
        (("paths.runs_dir={a: b}",), "paths.runs_dir"),
        (("paths.data_dir=''",), "paths.data_dir='' (set on the command line) must be the path of a folder."),
        (("optim.plateau.factor=2",), "optim.plateau.factor=2 (set on the command line) must be less than 1."),
        (("+optim.plateau.pateince=2",), "optim.plateau.pateince (set on the command line) is not a setting."),
        (("seed=-1",), "seed=-1 (set on the command line) must be at least 0."),
        (("trainer.devices=0",), "must be a number greater than 0, -1 or a list."),
        (("trainer.devices=-1",), "must be a number of processes greater than 0 when trainer.accelerator is cpu."),
        (("trainer.devices=[0,x]",), "trainer.devices.1='x' (set on the command line) must be an integer."),
        (("trainer=ddp_cpu", "trainer.process_group_backend=nccl"), "with trainer.accelerator=cpu set it to gloo."),
        (
            ("trainer.precision=16",),
            "trainer.precision=16 (set on the command line) must be one of 32-true, tf32, bf16-mixed",
        ),
        (("trainer.precision=tf32",), "trainer.precision=tf32 (set on the command line) needs a GPU"),
        (("trainer.max_epochs=0",), "trainer.max_epochs=0 (set on the command line) must be greater than 0."),
        (("objective=val/auc/lik",), "the tasks trained are finish, like. Did you mean 'like'?"),
        (("objective=auc",), "a metric name"),
        (("objective=val/acu",), "the metrics are auc, gauc, gauc_encoded, logloss, calibration, ece. Did you mean "),
        (("objective=val/calibration",), "such as val/calibration/finish."),
        (("objective=val/auc/like/nl",), "(set on the command line): the dataset has no scenarios."),
        (("objective=test/auc", "test=false"), "needs test=true."),
        (
            ("callbacks.paper_selection=true", "test=false"),
            "callbacks.paper_selection=true (set on the command line)",
        ),
        (("callbacks.early_stop.monitor=test/auc",), "must be a validation metric, such as 'val/auc'."),
        (("callbacks.early_stop.patience=0",), "must be greater than 0."),
        (
            ("callbacks.checkpoint.monitor=val/logloss", "callbacks.checkpoint.mode=max"),
            "callbacks.checkpoint.mode=max (set on the command line) contradicts",
        ),
        (("callbacks.early_stop.mode=min",), "set it to max"),
        (("callbacks.early_stop.monitor=val/calibration/like",), "best at 1"),
        (("logger.wandb=maybe",), "logger.wandb='maybe' (set on the command line) must be one of "),
        (("tags={x:1}",), "tags={x:1} (set on the command line) must be a list."),
        (("tags=1",), "tags.0=1 (set on the command line) must be a string."),
    ],
)
def test_refused_settings(message, words, expected):
    text = message(*words)
    assert text is not None
    assert expected in text
    assert "\n" not in text


def monitored(objective, **dataset):
    """Return the error message for an objective on a dataset, or None."""
    callbacks = {name: {"monitor": "val/auc"} for name in ("early_stop", "checkpoint")}
    composed = config() | {"callbacks": callbacks, "objective": objective, "test": True}
    composed["dataset"] = composed["dataset"] | dataset
    try:
        check_monitors(composed, unknown_origin)
        check_scenarios(composed, ["nl", "es"])
    except StemlabError as error:
        return str(error)
    return None


@pytest.mark.parametrize("dataset", [{"scenarios": ["nl", "es"]}, {"scenarios": []}, {"scenario": "tab"}])
def test_metric_of_one_scenario(dataset):
    assert monitored("val/auc/like/es", **dataset) is None
    assert monitored("test/calibration/finish/nl", **dataset) is None
    refused = monitored(
        "val/auc/like/ess", **dataset
    )  # if the config does not list the scenarios, checked after preparation
    assert refused.endswith(": the scenarios are nl, es. Did you mean 'es'?")
    assert "the tasks trained are finish, like." in monitored("val/auc/click/es", **dataset)


def test_configured_scenarios():
    assert configured_scenarios({"scenarios": ["nl", "es"]}) == ["nl", "es"]
    assert configured_scenarios({"scenarios": None}) is configured_scenarios({"scenario": "tab"}) is None
    assert configured_scenarios({"tasks": ["like"]}) == []
    assert "the dataset has no scenarios." in monitored("val/auc/like/es")
