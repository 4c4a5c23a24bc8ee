"""A compiled network is traced once: not again for evaluation, the last batch, or another epoch."""

from pathlib import Path

import pytest
import torch
from torch import nn

from stemlab.data.batch import ImpressionBatch
from stemlab.nn.kernels.dispatch import device_forms
from tests.lightning.toy_training import EPOCH_STEPS, Training, make


@pytest.mark.parametrize("block", [0, 4])
def test_the_network_is_compiled_once(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced, net = [], make("stem")

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        traced.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(net, "compile", lambda **settings: nn.Module.compile(net, backend=backend, **settings))
    training = Training(net, block, tmp_path, compile=True)
    names = list(training.module.state_dict())
    with device_forms():  # the form of the equations that a GPU runs
        training.fit()
    assert training.trainer.global_step == 3 * EPOCH_STEPS
    assert len(traced) == 1
    assert list(training.module.state_dict()) == names


def test_compiled_lookups_have_the_gradients_of_the_network_itself() -> None:
    """``aot_eager`` traces the backward pass too."""
    compiled, plain = make("stem"), make("stem")
    torch._dynamo.reset()
    nn.Module.compile(compiled, backend="aot_eager", dynamic=False)
    batch = ImpressionBatch(torch.tensor([[0, 1], [2, 1], [2, 3]], dtype=torch.int32))
    with device_forms():
        for net in (compiled, plain):
            net.train()(batch).logit_BT.square().sum().backward()
    assert any(parameter.grad is not None for parameter in plain.parameters())
    for a, b in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-9)
