"""Networks whose parameters get no gradient from the loss; DDP must look for these."""

import pytest
import torch

from stemlab.config.compose import compose
from stemlab.data.spec import SequenceSizes
from stemlab.lightning.unused_parameters import has_unused_parameters
from stemlab.runs.build import build_net

MODELS = ["timirec", "comirec", "mind", "youtube", "gru4rec", "sasrec", "tisasrec", "bprmf", "lightgcn"]
TARGET = ["tin", "din", "din_plus"]  # these read categories, which this dataset lacks


def net(model: str, *words: str) -> torch.nn.Module:
    made = build_net(compose("train", [f"model={model}", "dataset=rechorus", *words]), SequenceSizes(4, 5, 3))
    made.observe(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 5]))
    return made


@pytest.mark.parametrize("model", [*MODELS, *TARGET])
def test_the_loss_reaches_every_parameter_of_a_sequential_net(model: str) -> None:
    made = net(model, *(["model.net.category_dim=0"] if model in TARGET else [])).train()
    next(made.children()).eval()  # as a network of the user may freeze a part
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert has_unused_parameters(made) is False
    assert torch.equal(torch.rand(3), expected)  # MIND draws routing logits
    assert made.training
    assert not next(made.children()).training


def test_the_loss_of_the_first_stage_reaches_every_parameter() -> None:
    assert has_unused_parameters(net("timirec", "model.stage=pretrain")) is False


def test_a_parameter_outside_the_loss_is_detected() -> None:
    made = net("gru4rec")
    made.spare = torch.nn.Parameter(torch.zeros(2))
    assert has_unused_parameters(made) is True
