"""Own networks with wrong outputs: the error that ends their training says what is wrong."""

import pytest
import torch

from stemlab.analysis.base import Findings
from stemlab.callbacks.improvement import Improvement
from stemlab.errors import StemlabError
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.settings import ModuleSettings
from stemlab.models.api import MultiTaskOutput
from stemlab.optim import OptimConfig
from stemlab.runs.own_network import explain_own_network
from stemlab.runs.selected_epochs import still_improved, unselected_epoch
from tests.lightning.toy_data import SPEC
from tests.own.my_classes import Towers, WithoutFind

CONFIG = {"model": {"net": {"_target_": "tests.own.my_classes.Towers"}}}


class OneLogit(Towers):
    def score(self, inputs):
        return super().score(inputs)[0][:1], ()


class NoGates(Towers):
    def score(self, inputs):
        return super().score(inputs)[0] * 2


class Logits(Towers):
    def forward(self, batch):
        return torch.cat(super().score(self.inputs(batch))[0], dim=1)


class OneSample(Towers):
    def forward(self, batch):
        return MultiTaskOutput(super().forward(batch).logit_BT[:1])


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (OneLogit, r"OneLogit.*\(2, 1\).*\(2, 2\)"),
        (NoGates, "forward pass of NoGates.*too many values"),
        (Logits, "Logits.forward returned Tensor.*MultiTaskOutput"),
        (OneSample, r"OneSample.*\(1, 2\) for 2 samples and 2 tasks"),
    ],
)
def test_a_wrong_output_is_named(net, words):
    module = MultiTaskModule(net(SPEC.sizes, SPEC.tasks), SPEC, SPEC.tasks, ModuleSettings(optim=OptimConfig()))
    with pytest.raises(StemlabError, match=f"model.net: .*{words}"):
        explain_own_network(CONFIG, module, ValueError("sizes"))
    explain_own_network({"model": {"net": {"_target_": "stemlab.models.A"}}}, module, ValueError("sizes"))
    explain_own_network(CONFIG, module, StemlabError("the loss became nan"))


def test_an_error_with_another_cause_stays():
    module = MultiTaskModule(Towers(SPEC.sizes, SPEC.tasks), SPEC, SPEC.tasks, ModuleSettings(optim=OptimConfig()))
    assert explain_own_network(CONFIG, module, ValueError("elsewhere")) is None


def test_an_analysis_returns_findings():
    class Wrong(WithoutFind):
        def find(self, runs):
            return runs[0]

    found = Findings(title="t", verdict="v", reading=[], numbers={})
    assert Wrong(name="own").sections([found]).found == {"own": found}
    with pytest.raises(StemlabError, match=r"Wrong.find.*NoneType.*Findings"):
        Wrong(name="own").sections([None])


def test_a_metric_that_is_never_defined_selects_no_epoch():
    improvement = Improvement()
    assert "val/mine" in unselected_epoch("val/mine", improvement)
    improvement.epoch = 1
    assert not still_improved(improvement, 2)
    improvement.update(0.5, 1)
    assert unselected_epoch("val/mine", improvement) is None
    assert still_improved(improvement, 2)
    assert not still_improved(improvement, 3)
