"""Forward, loss and backward of every network run without the host: no values, CPU tensors or copies from the CPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch, SequenceBatch
from stemlab.nn.kernels.dispatch import device_forms
from stemlab.nn.loss import task_losses
from tests.accelerator import host_operations
from tests.models import mmfi_nets, nets, scenario_nets
from tests.models.ctr.test_ctr import ame, dcnv2
from tests.models.sequential import interest_nets
from tests.models.sequential import nets as sequential_nets
from tests.models.sequential.test_target import FORMS
from tests.models.sequential.test_target import build as build_target

Batch = ImpressionBatch | SequenceBatch
Case = Callable[[], tuple[nn.Module, Batch]]


def multitask(name: str, **settings: Any) -> Case:
    return lambda: (nets.build(name, 1 if name == "SingleTask" else 2, **settings), nets.random_batch())


def scenario(net: Any) -> Case:
    return lambda: (scenario_nets.build(net), scenario_nets.random_batch(scenario_nets.MIXED))


def mmfi(**settings: Any) -> Case:
    return lambda: (mmfi_nets.build(**settings), mmfi_nets.random_batch(scenario_nets.MIXED))


def sequential(build: Callable[[], Any]) -> Case:
    return lambda: (build(), sequential_nets.random_batch())


CASES: dict[str, Case] = {
    **{name: multitask(name) for name in nets.SETTINGS},
    **{f"{name} norm": multitask(name, batch_norm=True, net_dropout=0.5) for name in nets.SETTINGS},
    "PLE layers": multitask("PLE", num_layers=2),
    "AITM calibrated": multitask("AITM", calibrator_weight=0.6),
    "DCNv2": lambda: (dcnv2(num_tables=2, fusion="gate"), nets.random_batch()),
    "AME": lambda: (ame(), nets.random_batch()),
    **{net.__name__: scenario(net) for net in scenario_nets.NETS},
    "MMFI": mmfi(),
    "MMFI published": mmfi(published=True),
    "MMFI sparsemax": mmfi(sparse="sparsemax"),
    "MMFI entmax15": mmfi(sparse="entmax15", numeric="per_feature"),
    **{name: sequential(lambda name=name: sequential_nets.build(name)) for name in sequential_nets.TRAINED},
    **{kind: sequential(lambda kind=kind: interest_nets.build(kind)) for kind in interest_nets.KINDS},
    **{form: sequential(lambda form=form: build_target(form)) for form in FORMS},
}


def with_labels(net: Any, batch: ImpressionBatch) -> ImpressionBatch:
    """Return the batch with labels of the network's tasks."""
    sample_B = torch.arange(len(batch))
    return replace(
        batch, labels_BT=torch.stack([(sample_B % (2 + t) == 0).to(torch.int8) for t in range(len(net.tasks))], 1)
    )


def loss_of(net: Any, batch: Batch) -> Tensor:
    """Return the training loss."""
    if isinstance(batch, SequenceBatch):
        parts: dict[str, Tensor] = net.losses(net(batch, "train"))
        return torch.stack(list(parts.values())).sum()
    assert batch.labels_BT is not None
    if not hasattr(net, "meta_output"):
        output = net(batch)
        loss = task_losses(output.logit_BT, batch.labels_BT).sum()
        return loss if output.penalty is None else loss + output.penalty
    output, labels_BT = net.meta_output(batch, batch.labels_BT, lambda x, y: task_losses(x, y).sum())
    return task_losses(output.logit_BT, labels_BT).sum()


@pytest.mark.parametrize("case", CASES)
def test_training_step_runs_without_the_host(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # unknown to the meta device
    net, batch = CASES[case]()
    if isinstance(batch, ImpressionBatch):
        batch = with_labels(net, batch)
    net, moved = net.train().to("meta"), batch.to("meta")
    with host_operations() as found:
        loss_of(net, moved).backward()
    assert found == []


PLAIN = [case for case in CASES if not case.endswith(" norm")]  # dropout draws other masks


@pytest.mark.parametrize("case", PLAIN)
def test_device_forms_equal_the_plain_forms(case: str) -> None:
    found = []
    for forms in (nullcontext(), device_forms()):
        net, batch = CASES[case]()
        net = net.train() if case.startswith("mind") else net.train().double()  # MIND draws float32 logits
        if isinstance(batch, ImpressionBatch):
            dense_BN = None if batch.dense_BN is None else batch.dense_BN.double()
            batch = with_labels(net, replace(batch, dense_BN=dense_BN))
        torch.manual_seed(0)
        with forms:
            loss = loss_of(net, batch)
            loss.backward()
        gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        found.append({"loss": loss.detach(), **gradients, **net.state_dict()})
    # losses are float32, as in training
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", PLAIN)
def test_device_forms_under_bfloat16_autocast(case: str) -> None:
    losses = []
    for half in (False, True):
        net, batch = CASES[case]()
        if isinstance(batch, ImpressionBatch):
            batch = with_labels(net, batch)
        torch.manual_seed(0)
        with device_forms():
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = loss_of(net.train(), batch)
            loss.backward()
        losses.append(loss.detach())
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        assert all(gradient.dtype == torch.float32 and bool(gradient.isfinite().all()) for gradient in gradients)
    torch.testing.assert_close(losses[1].float(), losses[0].float(), atol=0.05, rtol=0.05)


def test_harness_finds_host_operations() -> None:
    value, mask = torch.ones(3, device="meta"), torch.ones(3, dtype=torch.bool, device="meta")
    forbidden: dict[str, Callable[[], object]] = {
        "_local_scalar_dense": value.sum().item,
        "boolean index": lambda: value[mask],
        "nonzero": value.nonzero,
        "CPU tensor": lambda: torch.arange(3),
        "reads a CPU tensor": lambda: value * torch.ones(3),
        "list as index": lambda: value[[0, 2]],
        "copies from the host": lambda: torch.tensor([0, 2], device="meta"),
    }
    for word, operation in forbidden.items():
        # the meta device refuses some of them
        with host_operations() as found, suppress(NotImplementedError, RuntimeError):
            operation()
        assert any(word in line for line in found), (word, found)
