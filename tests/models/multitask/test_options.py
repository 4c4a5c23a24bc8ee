"""Options of the multi-task networks: initial weights, PLE's widths, AITM's calibrator."""

from __future__ import annotations

import pytest
import torch

from stemlab.data.batch import ImpressionBatch
from stemlab.errors import StemlabError
from stemlab.models import multitask
from stemlab.models.multitask import PLE
from tests.models.nets import SETTINGS, TASKS, build


@pytest.mark.parametrize("name", ["SingleTask", "SharedBottom", "OMoE", "MMoE", "PLE", "AITM"])
def test_initial_weights_of_mtreclib(name: str) -> None:
    fields = {"uid": 400, "item": 300}
    net = getattr(multitask, name)(
        fields, TASKS[: 1 if name == "SingleTask" else 2], embedding_dim=4, **SETTINGS[name], init="mtreclib"
    )
    largest = max(float(weight.abs().max()) for weight in net.embedding_parameters())
    assert 0.09 < largest < (6 / 704) ** 0.5
    assert any(bool(p.any()) for n, p in net.named_parameters() if n.endswith("bias"))


def test_one_width_per_layer(batch: ImpressionBatch) -> None:
    net = build("PLE", one_width_per_layer=True, num_layers=2, expert_hidden_units=[12, 8])
    assert isinstance(net, PLE)
    shapes = [[tuple(p.shape) for p in layer.experts[0].parameters()] for layer in net.mixture.layers]
    assert shapes == [[(12, 9), (12,)], [(8, 12), (8,)]]
    assert net(batch).logit_BT.shape == (16, 2)


def test_too_few_widths_raise() -> None:
    with pytest.raises(StemlabError, match=r"expert_hidden_units has 2 and model.net.num_layers is 3; make them equal"):
        build("PLE", one_width_per_layer=True, num_layers=3)


def test_calibrator(batch: ImpressionBatch) -> None:
    net = build("AITM", 3, calibrator_weight=0.6).train()
    output = net(batch)
    p = output.logit_BT.sigmoid()
    expected = sum(torch.clamp(p[:, t] - p[:, t - 1], min=0).mean() for t in (1, 2))
    assert expected > 0
    torch.testing.assert_close(output.penalty, 0.6 * expected)
    assert net.eval()(batch).penalty is None
    assert build("AITM", 3).train()(batch).penalty is None
    assert build("AITM", 1, calibrator_weight=0.6).train()(batch).penalty == 0
