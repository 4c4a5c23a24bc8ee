"""Tables trained in the backward pass: refused combinations; FBGEMM need not be installed."""

from importlib.machinery import ModuleSpec
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


def test_a_gpu_needs_the_operators_for_gpus(message, monkeypatch, tmp_path):
    """The platform of FBGEMM is read from its files, without importing it."""
    spec = ModuleSpec("fbgemm_gpu", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(fused_checks, "find_spec", lambda name: spec)
    (tmp_path / "docs").mkdir()
    for variant, accepted in (("cpu", False), ("cuda", True)):
        (tmp_path / "docs" / "target.default.json.py").write_text(f'{{"variant": "{variant}"}}')
        found = message(*UNCLIPPED, "trainer=gpu")
        assert (found is None) == accepted
        assert accepted or "fbgemm-gpu==1.8.0" in found
        assert message(*UNCLIPPED) is None
