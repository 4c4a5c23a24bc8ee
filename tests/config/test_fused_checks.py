"""Tables trained in the backward pass: refused combinations; FBGEMM need not be installed."""

from importlib.util import find_spec

import pytest

from stemlab.config import fused_checks

RULE = "optim.tables=torchrec_rowwise_adagrad"
UNCLIPPED = (RULE, "optim.clip_norm=null")


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(fused_checks, "find_spec", lambda name: find_spec("torch"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((RULE,), "optim.clip_norm=null"),
        ((*UNCLIPPED, "trainer=ddp_cpu"), "one process"),
        ((*UNCLIPPED, "trainer=gpu"), "CPU"),
        ((*UNCLIPPED, "trainer.compile=true"), "trainer.compile"),
        ((*UNCLIPPED, "trainer.accumulate_grad_batches=2"), "accumulate_grad_batches"),
        ((*UNCLIPPED, "model=metaheac"), "metaheac"),
    ],
)
def test_impossible_trainings_are_refused(message, installed, words, expected):
    found = message(*words)
    assert found is not None
    assert "torchrec_rowwise_adagrad" in found
    assert expected in found


def test_the_rule_is_accepted_where_fbgemm_is_installed(message, installed):
    assert message(*UNCLIPPED) is None


def test_a_missing_installation_is_one_sentence(message, monkeypatch):
    monkeypatch.setattr(fused_checks, "find_spec", lambda name: None)
    assert "make torchrec" in (message(*UNCLIPPED) or "")
