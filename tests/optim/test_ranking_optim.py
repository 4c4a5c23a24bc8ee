"""The optimisers of sequential models equal those of torch and a recorded step of the released code."""

import copy
import re

import numpy as np
import pydantic
import pytest
import torch
import yaml
from pydantic import TypeAdapter
from torch import nn

from stemlab.optim import RankingOptimConfig, build_ranking_optimizer
from stemlab.optim.ranking import OPTIMIZERS
from tests.conftest import GOLDEN

FILES = [
    path
    for folder in ("timirec", "rechorus")
    for path in sorted((GOLDEN / folder).glob("*.npz"))
    if any(name.startswith("step1_l2_") for name in np.load(path).files)
]


def validate(values):
    return TypeAdapter(RankingOptimConfig).validate_python(values)


def test_the_config_file_has_the_default_settings(root):
    assert validate(yaml.safe_load((root / "conf/optim/ranking.yaml").read_text())) == RankingOptimConfig()
    assert RankingOptimConfig() == RankingOptimConfig(name="adam", lr=1e-3, l2=0.0)


@pytest.mark.parametrize(
    "values", [{"lr": 0}, {"l2": -1e-6}, {"l2": float("inf")}, {"name": "lion"}, {"betas": [0, 0]}]
)
def test_refuses_impossible_values(values):
    with pytest.raises(pydantic.ValidationError):
        validate(values)


class Net(nn.Module):
    """An embedding table, a GRU, a layer norm, a linear layer, a frozen layer and an unused layer."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Embedding(11, 4)
        self.gru = nn.GRU(4, 4, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 3)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.idle = nn.Linear(2, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, ids):
        return self.out(self.norm(self.gru(self.table(ids))[0][:, -1])).square().mean()


DECAYED = ["table.weight", "gru.weight_ih_l0", "gru.weight_hh_l0", "norm.weight", "out.weight", "idle.weight"]
BIASES = ["gru.bias_ih_l0", "gru.bias_hh_l0", "norm.bias", "out.bias", "idle.bias"]


def steps(net, optimizer, count=5):
    for step in range(count):
        optimizer.zero_grad()
        net(torch.arange(6).view(2, 3) + step % 3).backward()
        optimizer.step()


def plain(net, kind, lr, l2):
    """Return the optimiser of torch, neither fused nor foreach."""
    named = dict(net.named_parameters())
    groups = [{"params": [named[n] for n in DECAYED], "weight_decay": l2}, {"params": [named[n] for n in BIASES]}]
    return OPTIMIZERS[kind](groups, lr=lr, foreach=False)


@pytest.mark.parametrize("kind", [kind for kind in OPTIMIZERS if kind != "adamw"])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_steps_equal_those_of_torch(kind, l2):
    ours, theirs = Net(), Net()
    start = copy.deepcopy(ours.state_dict())
    steps(ours, build_ranking_optimizer(ours, RankingOptimConfig(name=kind, lr=0.01, l2=l2)))
    steps(theirs, plain(theirs, kind, 0.01, l2))
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-5, atol=1e-6, msg=name)
        assert torch.equal(value, start[name]) == name.startswith(("frozen", "idle")), name


def test_adam_is_fused_and_adadelta_is_not():
    net = Net()
    assert build_ranking_optimizer(net, RankingOptimConfig()).defaults["fused"] is True
    assert "fused" not in build_ranking_optimizer(net, RankingOptimConfig(name="adadelta")).defaults


def test_parameters_named_bias_have_no_weight_decay():
    net = Net()
    optimizer = build_ranking_optimizer(net, RankingOptimConfig(l2=0.5))
    name_of = {id(parameter): name for name, parameter in net.named_parameters()}
    groups = {g["weight_decay"]: [name_of[id(p)] for p in g["params"]] for g in optimizer.param_groups}
    assert groups == {0.5: DECAYED, 0.0: BIASES}


def recorded_net(weights):
    """Return a module that has only the parameters of the released code, by their names."""
    net = nn.Module()
    for name, value in weights.items():
        *folders, last = name.split(".")
        module = net
        for folder in folders:
            if folder not in dict(module.named_children()):
                module.add_module(folder, nn.Module())
            module = getattr(module, folder)
        module.register_parameter(last, nn.Parameter(torch.from_numpy(value.copy())))
    return net


@pytest.mark.skipif(not FILES, reason="needs golden/timirec (set STEMLAB_GOLDEN)")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_step_equals_that_of_the_released_code(path):
    with np.load(path) as z:
        arrays = {name: z[name] for name in z.files}
    weights = {
        n.removeprefix("grad/"): arrays[f"param/{n.removeprefix('grad/')}"] for n in arrays if n.startswith("grad/")
    }
    net = recorded_net(weights)
    absent = set(arrays.get("gradnone", np.array([])).tolist())
    stepped = next(name.split("/")[0] for name in arrays if name.startswith("step1_l2_"))
    l2 = float(re.fullmatch(r"step1_l2_(.+)", stepped)[1])
    optimizer = build_ranking_optimizer(net, RankingOptimConfig(lr=1e-3, l2=l2))
    for name, parameter in net.named_parameters():
        parameter.grad = None if name in absent else torch.from_numpy(arrays[f"grad/{name}"].copy())
    optimizer.step()
    compared = 0
    for name, parameter in net.named_parameters():
        # compare only clear gradients: Adam amplifies rounding errors of tiny ones
        decay = 0 if "bias" in name else l2 * np.abs(weights[name])
        clear = (np.abs(arrays[f"grad/{name}"]) + decay) > 1e-6
        found = parameter.detach().numpy()[clear]
        np.testing.assert_allclose(found, arrays[f"{stepped}/{name}"][clear], rtol=0, atol=2e-6, err_msg=name)
        compared += clear.sum()
    assert compared > 500
