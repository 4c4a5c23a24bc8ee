"""Steps of all networks on a GPU: without waiting for the host, equal to the CPU, captured; skipped without a GPU.

The forms for accelerators are compared with the plain forms on the CPU in ``tests/models/test_capturable.py``.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from stemlab.data.batch import ImpressionBatch
from stemlab.lightning.step_graph import CudaGraphs
from tests.models.test_capturable import CASES, PLAIN, Batch, loss_of, with_labels

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
# random numbers differ between devices
DRAWN = ("mind", "mind_power", "finetune", "finetune_plain")


def make(case: str, device: str) -> tuple[nn.Module, Batch]:
    """Return a network in training mode and a batch with labels, on a device."""
    net, batch = CASES[case]()
    if isinstance(batch, ImpressionBatch):
        batch = with_labels(net, batch)
    return net.train().to(device), batch.to(device)


def step(net: nn.Module, batch: Batch) -> None:
    net.zero_grad(set_to_none=True)
    loss_of(net, batch).backward()


def gradients(net: nn.Module) -> dict[str, Any]:
    return {name: p.grad.cpu() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("case", CASES)
def test_steps_do_not_wait_for_the_gpu(case: str) -> None:
    net, batch = make(case, "cuda")
    step(net, batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(net, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("case", [case for case in PLAIN if case not in DRAWN])
def test_steps_equal_those_of_the_cpu(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    found = []
    for device in ("cpu", "cuda"):
        net, batch = make(case, device)
        step(net, batch)
        found.append(gradients(net) | {name: buffer.cpu() for name, buffer in net.named_buffers()})
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_steps_are_captured(case: str) -> None:
    net, batch = make(case, "cuda")
    graphs = CudaGraphs(torch.device("cuda", torch.cuda.current_device()))
    for _ in range(3):
        graphs.run(lambda: step(net, batch))
    replay = graphs.capture(lambda: step(net, batch))
    replay()
    torch.cuda.synchronize()
    assert all(bool(gradient.isfinite().all()) for gradient in gradients(net).values())
