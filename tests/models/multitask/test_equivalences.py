"""Networks that must coincide (docs/methods/multitask.md#equivalences)."""

from __future__ import annotations

import pytest
import torch

from stemlab.data.batch import ImpressionBatch
from stemlab.models.multitask.base import TabularNet
from tests.models.nets import build


def copy_dense(source: TabularNet, target: TabularNet) -> None:
    """Give the target the source's weights outside the tables; shapes and names must be the same."""
    dense = {name: value for name, value in source.state_dict().items() if not name.startswith("embedding.")}
    missing, unexpected = target.load_state_dict(dense, strict=False)
    assert all(name.startswith("embedding.") for name in missing)
    assert not unexpected


def tie(source: TabularNet, target: TabularNet) -> None:
    """Give every block of the target's tables the values of the source's one table."""
    with torch.no_grad():
        for weight, tied in zip(source.embedding_parameters(), target.embedding_parameters(), strict=True):
            tied.copy_(weight.repeat(1, tied.shape[1] // weight.shape[1]))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_ple_me_with_tied_tables_is_ple(batch: ImpressionBatch, tasks: int, layers: int) -> None:
    ple, ple_me = build("PLE", tasks, num_layers=layers), build("PLE_ME", tasks, num_layers=layers, seed=1)
    copy_dense(ple, ple_me)
    tie(ple, ple_me)
    assert torch.equal(ple_me(batch).logit_BT, ple(batch).logit_BT)


def test_ple_me_is_stem_with_a_cgc_gate(batch: ImpressionBatch) -> None:
    ple_me, stem = build("PLE_ME", num_layers=2), build("STEM", num_layers=2, gate="cgc", gate_input="task", seed=1)
    stem.load_state_dict(ple_me.state_dict())
    assert torch.equal(stem(batch).logit_BT, ple_me(batch).logit_BT)


def test_mmoe_me_with_tied_tables_is_mmoe(batch: ImpressionBatch) -> None:
    mmoe, mmoe_me = build("MMoE"), build("MMoE_ME", seed=1)
    copy_dense(mmoe, mmoe_me)
    tie(mmoe, mmoe_me)
    torch.testing.assert_close(mmoe_me(batch).logit_BT, mmoe(batch).logit_BT)


def test_stem_with_one_task_and_shared_experts_only_is_mmoe(batch: ImpressionBatch) -> None:
    mmoe = build("MMoE", 1)
    stem = build("STEM", 1, num_specific_experts=0, num_shared_experts=3, tables="shared_only", seed=1)
    dense = {name: value for name, value in mmoe.state_dict().items() if ".gates." not in name}
    stem.load_state_dict(dense, strict=False)
    stem_gate, mmoe_gate = stem.mixture.layers[0].gates[0], mmoe.mixture.layers[0].gates[0]
    stem_gate.load_state_dict(mmoe_gate.state_dict())
    assert not torch.allclose(stem(batch).logit_BT, mmoe(batch).logit_BT)  # its gate reads the input twice
    with torch.no_grad():
        stem_gate[0].weight.div_(2)
    torch.testing.assert_close(stem(batch).logit_BT, mmoe(batch).logit_BT)


def test_omoe_is_mmoe_with_equal_gates(batch: ImpressionBatch) -> None:
    omoe, mmoe = build("OMoE"), build("MMoE", seed=1)
    mmoe.load_state_dict(omoe.state_dict(), strict=False)
    mmoe.mixture.layers[0].gates[1].load_state_dict(omoe.mixture.layers[0].gates[0].state_dict())
    torch.testing.assert_close(mmoe(batch).logit_BT, omoe(batch).logit_BT)


def test_single_task_is_shared_bottom_with_one_task(batch: ImpressionBatch) -> None:
    single, shared = build("SingleTask", 1), build("SharedBottom", 1, seed=1)
    shared.load_state_dict(single.state_dict())
    assert torch.equal(shared(batch).logit_BT, single(batch).logit_BT)


def test_shared_gate_of_ple_matters_from_two_layers_on(batch: ImpressionBatch) -> None:
    for layers in (1, 2):
        released, original = build("PLE", num_layers=layers), build("PLE", num_layers=layers, shared_gate="all")
        widths = [layer.gates[2][-1].out_features for layer in original.mixture.layers]
        assert widths == [6] * layers
        same = {k: v for k, v in released.state_dict().items() if v.shape == original.state_dict()[k].shape}
        original.load_state_dict(same, strict=False)
        assert torch.equal(released(batch).logit_BT, original(batch).logit_BT) == (layers == 1)
