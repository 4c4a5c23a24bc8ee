"""Settings of ``model.balancing`` that belong together."""

import importlib.util

import pytest

from stemlab.balancing_methods import DEFAULTS
from stemlab.config import balancing_checks
from stemlab.config.compose import compose
from stemlab.lightning.settings import ModuleSettings
from stemlab.optim import OptimConfig

WEIGHTS = "model.balancing=weights"
OPTIONS = "model.balancing_options"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model.balancing=pcgard",), ("pcgard", "pcgrad")),
        ((WEIGHTS,), (f"{OPTIONS}.weights", "finish: 1")),
        ((WEIGHTS, f"{OPTIONS}.weights={{finish: 1}}"), ("no weight", "like")),
        ((WEIGHTS, f"{OPTIONS}.weights={{finish: 1, lik: 2}}"), ("lik", "Did you mean")),
        ((WEIGHTS, f"{OPTIONS}.weights=[1]"), ("one number per task", "finish, like")),
        ((WEIGHTS, f"{OPTIONS}.weights=[1,-1]"), (f"{OPTIONS}.weights", "-1")),
        ((WEIGHTS, f"{OPTIONS}.weights=[0,0]"), ("nothing would be trained",)),
        (("model.balancing=dwa", f"{OPTIONS}.c=0.5"), (f"{OPTIONS}.c", "cagrad", "dwa")),
        ((f"{OPTIONS}.alpha=1",), ("gradnorm", "sum")),
        (("model.balancing=upgrad", "model=single_task"), ("upgrad", "finish")),
        (("model.balancing=gls", "model.task=like"), ("gls", "like")),
        (("model.balancing=upgrad", "trainer.compile=true"), ("upgrad", "trainer.compile=false")),
        (("model.balancing=upgrad", "optim.tables=sparse_adam", "trainer=ddp_cpu"), ("upgrad", "optim.tables")),
        (("model.balancing=upgrad", "trainer=ddp_cpu", "trainer.embedding=row_sharded"), ("upgrad", "replicated")),
        (("model=sasrec", "dataset=ml1m", "model.balancing=upgrad"), ("balancing",)),
    ],
)
def test_refused_settings(message, words, expected):
    found = message(*words)
    assert found is not None
    assert all(part in found for part in expected), found


@pytest.mark.parametrize(
    "words",
    [
        ("model.balancing=mean",),
        ("model=metaheac", "model.balancing=pcgrad"),
        (WEIGHTS, f"{OPTIONS}.weights={{like: 1, finish: 0.5}}"),
        ("model.balancing=upgrad", "optim.tables=sparse_adam"),
        ("model.balancing=gls", "trainer.compile=true", "trainer=ddp_cpu"),
        ("model.balancing=cagrad", f"{OPTIONS}.c=0.2"),
    ],
)
def test_accepted_settings(message, words):
    assert message(*words) is None


def test_the_default_is_the_reduction():
    made = {}
    for words in ((), ("model.loss_reduction=mean",), ("model.balancing=mean",), ("model.balancing=gls",)):
        config = compose("train", ["model=mmoe", *words])
        settings = ModuleSettings.from_config(config, OptimConfig())
        made[words] = settings.loss_reduction, settings.balancing and settings.balancing.method
    assert list(made.values()) == [("sum", None), ("mean", None), ("mean", None), ("sum", "gls")]


def test_every_option_of_the_config_is_read_by_a_method():
    options = compose("train", ["model=mmoe"])["model"]["balancing_options"]
    assert set(options) == {name for read in DEFAULTS.values() for name in read}


def test_a_missing_package_is_named(message, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(balancing_checks, "find_spec", lambda name: None if name == "quadprog" else found(name))
    assert "pip install 'stemlab[balancing]'" in message("model.balancing=upgrad")
    assert message("model.balancing=pcgrad") is None
