"""Operations of a step equal a count by hand."""

from contextlib import nullcontext
from types import SimpleNamespace

import torch
from torch import nn

from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.settings import ModuleSettings
from stemlab.models.multitask.shared_bottom import SharedBottom
from stemlab.optim import OptimConfig
from stemlab.profiling import flops
from stemlab.profiling.flops import product_peak, step_flops
from stemlab.profiling.measure import parameters_by_part
from tests.lightning.toy_data import SPEC, Toy

WIDTH, BOTTOM, TOWER, BATCH = 4, 8, 6, 10


def net():
    return SharedBottom(
        SPEC.field_sizes, SPEC.tasks, embedding_dim=WIDTH, bottom_hidden_units=[BOTTOM], tower_hidden_units=[TOWER]
    )


def test_flops_of_a_small_network_equal_the_count_by_hand():
    module = MultiTaskModule(net(), SPEC, SPEC.tasks, ModuleSettings(optim=OptimConfig()))
    module._trainer = SimpleNamespace(precision_plugin=SimpleNamespace(forward_context=nullcontext))
    batch = next(iter(Toy(batch_size=BATCH).train_loader()))
    fields, tasks = len(SPEC.field_sizes), len(SPEC.tasks)
    weights = fields * WIDTH * BOTTOM + tasks * (BOTTOM * TOWER + TOWER)
    # a multiplication and an addition per weight; backward: gradients of inputs and of weights
    assert step_flops(module, batch) == {"forward": 2 * BATCH * weights, "backward": 2 * 2 * BATCH * weights}


def test_parameters_are_counted_by_part():
    found = parameters_by_part(net())
    sizes = SPEC.field_sizes.values()
    towers = len(SPEC.tasks) * (BOTTOM * TOWER + TOWER + TOWER + 1)
    assert found["embedding tables"] == WIDTH * sum(sizes)
    assert found["bottom"] == len(sizes) * WIDTH * BOTTOM + BOTTOM
    assert found["towers"] == towers
    assert sum(found.values()) == sum(p.numel() for p in net().parameters())


def test_shared_weights_are_counted_once():
    shared = nn.Linear(3, 2, bias=False)
    assert parameters_by_part(nn.ModuleDict({"first": shared, "second": nn.Sequential(shared)})) == {"first": 6}


def test_the_peak_is_the_fastest_product(monkeypatch):
    monkeypatch.setattr(flops, "_CPU_SHAPES", ((64, 64, 64), (8, 8, 8)))
    peak = product_peak(torch.device("cpu"), "32-true")
    assert peak.flops_per_s > 0
    assert peak.product.startswith(("torch.mm", "oneDNN"))
    left, right = torch.randn(5, 3), torch.randn(3, 4)
    if torch.backends.mkldnn.is_available():
        torch.testing.assert_close(flops.onednn_product(left, right), left @ right)
