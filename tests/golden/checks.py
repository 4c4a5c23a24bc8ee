"""Comparisons of one file with the stemlab network; each returns the differences above the tolerance.

Legend: B samples, F fields, T tasks.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.models.multitask.base import TabularNet
from stemlab.nn.loss import LossForm, task_losses
from stemlab.optim import OptimConfig, build_optimizer, clip_gradients, penalty_value
from tests.golden.cases import Case
from tests.golden.observe import observe
from tests.golden.tolerances import (
    FORWARD,
    GRADIENT,
    NOISE,
    STEP,
    Differences,
    differing,
    not_noise,
    same_state,
)

CURVES = ("loss/per_step", "output/grad_norm_before_clip", "output/grad_norm_after_clip")
MODE = re.compile(r"(?:(batch1)_)?(?:(train|eval)_)?(?:(batch1)_)?(.+)")

# ---- forward


def split_key(key: str) -> tuple[bool, bool, str]:
    """Return whether an output key is of the one-sample batch, whether of training mode, and its base name."""
    before, mode, after, base = MODE.fullmatch(key).groups()
    return bool(before or after), mode == "train", base


def forward(case: Case, tolerance: float = FORWARD) -> tuple[Differences, list[str]]:
    """Compare all outputs of a single-batch file; also return the keys without a stemlab value."""
    wanted = case.group("output")
    ours, exact = _outputs(case, torch.float32), functools.partial(_outputs, case, torch.float64)
    known = {key: value for key, value in wanted.items() if key in ours}
    return differing(ours, known, tolerance, exact), [key for key in wanted if key not in ours]


def _outputs(case: Case, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the outputs of the keys of a file that stemlab has."""
    computed: dict[tuple[bool, bool], dict[str, Tensor]] = {}
    ours = {}
    for key in case.group("output"):
        one_sample, training, base = split_key(key)
        if (one_sample, training) not in computed:
            ids_BF = case.tensor("input/batch1_ids" if one_sample else "input/ids")
            computed[one_sample, training] = observe(case.net().to(dtype).train(training), ids_BF)
        if base in computed[one_sample, training]:
            ours[key] = computed[one_sample, training][base]
    return ours


def running_statistics(case: Case) -> Differences:
    """Compare the state after one forward pass in training mode."""

    def after(dtype: torch.dtype) -> dict[str, Tensor]:
        net = case.net().to(dtype).train()
        net(ImpressionBatch(case.tensor("input/ids")))
        return net.state_dict()

    return differing(
        after(torch.float32), case.ours("aftertrainforward"), FORWARD, functools.partial(after, torch.float64)
    )


# ---- losses, gradients


def in_loss_mode(case: Case) -> TabularNet:
    """Return the network in the mode of the losses of the file, detected by comparing values."""
    net = case.net()
    if "output/train_pred_task0" not in case.arrays:
        return net
    labels_B1 = case.tensor("input/labels")[:, :1]
    gaps = {}
    for training in (False, True):
        logits, _ = case.net().train(training).score(net.embedding(case.tensor("input/ids")))
        gaps[training] = abs(task_losses(logits[0], labels_B1).item() - case.tensor("loss/bce_task0").item())
    return net.train(min(gaps, key=gaps.__getitem__))


def bce(net: TabularNet, case: Case, form: LossForm) -> list[Tensor]:
    """Return one loss per task, each with the graph of its task only."""
    logits, _ = net.score(net.embedding(case.tensor("input/ids")))
    labels_BT = case.tensor("input/labels")
    return [task_losses(logit_B1, labels_BT[:, i : i + 1], form)[0] for i, logit_B1 in enumerate(logits)]


def losses(case: Case, form: LossForm) -> Differences:
    """Compare the task losses, the penalty and the total."""

    def values(dtype: torch.dtype) -> dict[str, Tensor]:
        net = in_loss_mode(case).to(dtype)
        tasks, penalty = bce(net, case, form), penalty_value(net, *case.penalties)
        found = {f"bce_task{i}": loss for i, loss in enumerate(tasks)}
        return found | {"regularization": penalty, "total": torch.stack(tasks).sum() + penalty}

    ours = values(torch.float32)
    known = {k: v for k, v in case.group("loss").items() if k in ours}
    return differing(ours, known, FORWARD, functools.partial(values, torch.float64))


def gradients(net: TabularNet, loss: Tensor) -> dict[str, Tensor | None]:
    """Return name -> gradient, ``None`` where the loss does not depend on the parameter."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))


def filled(net: TabularNet, found: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Return the gradients with zeros for absent ones, as in the files."""
    return {name: torch.zeros_like(p) if found[name] is None else found[name] for name, p in net.named_parameters()}


def task_gradients(case: Case, task: int, form: LossForm) -> tuple[Differences, set[str], set[str]]:
    """Compare the gradients of a task; also return the names of absent gradients in stemlab and in the file."""
    net = in_loss_mode(case)
    found = gradients(net, bce(net, case, form)[task])
    absent = {name for name, gradient in found.items() if gradient is None}
    theirs = case.ours(f"grad_task_{task}")
    return differing(filled(net, found), theirs, GRADIENT), absent, case.absent(f"gradnone_task_{task}")


def total_gradients(case: Case, form: LossForm) -> tuple[Differences, set[str]]:
    """Compare the gradients of the total loss and their norm; also return the names of absent gradients."""
    net = in_loss_mode(case)
    found = gradients(net, torch.stack(bce(net, case, form)).sum() + penalty_value(net, *case.penalties))
    ours = filled(net, found)
    result = differing(ours, case.ours("grad"), GRADIENT)
    if "grad_global_norm" in case.arrays:
        norm = torch.stack([g.norm() for g in ours.values()]).norm()
        result |= differing({"norm": norm}, {"norm": case.tensor("grad_global_norm")}, GRADIENT)
    return result, {name for name, gradient in found.items() if gradient is None}


def evaluation_gradients(case: Case, form: LossForm) -> Differences:
    """Compare gradients taken with running statistics."""
    net = case.net()
    loss = torch.stack(bce(net, case, form)).sum() + penalty_value(net, *case.penalties)
    return differing(filled(net, gradients(net, loss)), case.ours("grad_evalmode"), GRADIENT)


# ---- training

Step = Callable[[Tensor, Tensor], tuple[float, float, float]]


def plain_step(net: TabularNet, case: Case, form: LossForm, max_norm: float) -> Step:
    """Return a plain training step: penalty in the loss, clipping and Adam of PyTorch."""
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step(ids_BF: Tensor, labels_BT: Tensor) -> tuple[float, float, float]:
        adam.zero_grad()
        loss = task_losses(net(ImpressionBatch(ids_BF)).logit_BT, labels_BT, form).sum()
        loss = loss + penalty_value(net, *case.penalties)
        loss.backward()
        before = nn.utils.clip_grad_norm_(net.parameters(), max_norm)
        after = nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])
        adam.step()
        return loss.item(), before.item(), after.item()

    return step


def fused_step(net: TabularNet, case: Case, form: LossForm, max_norm: float) -> Step:
    """Return the training step of stemlab: penalty and clipping inside the optimiser."""
    adam = build_optimizer(net, OptimConfig(lr=1e-3), *case.penalties)

    def step(ids_BF: Tensor, labels_BT: Tensor) -> tuple[float, float, float]:
        adam.zero_grad()
        loss = task_losses(net(ImpressionBatch(ids_BF)).logit_BT, labels_BT, form).sum()
        total = loss.item() + penalty_value(net, *case.penalties).item()
        loss.backward()
        before = float(clip_gradients(adam, max_norm))
        adam.step()
        return total, before, min(before, max_norm)

    return step


STEPS = {"plain": plain_step, "stemlab": fused_step}


def first_step(case: Case, form: LossForm, kind: str) -> Differences:
    """Compare the parameters after one step, where their gradient is not a rounding error."""
    net = in_loss_mode(case)
    own = filled(net, gradients(net, torch.stack(bce(net, case, form)).sum() + penalty_value(net, *case.penalties)))
    net = in_loss_mode(case)  # the forward pass moved its running statistics
    STEPS[kind](net, case, form, float("inf"))(case.tensor("input/ids"), case.tensor("input/labels"))
    return same_state(net.state_dict(), case.ours("step1"), not_noise(case.ours("grad"), own), STEP)


def saturates(case: Case) -> bool:
    """Return whether some probability is so near 0 or 1 that float32 rounds it there; the loss forms differ then."""
    ids_BF = case.tensor("input/ids").flatten(0, -2)
    return case.net()(ImpressionBatch(ids_BF)).logit_BT.abs().max().item() > 12


@dataclass
class Trajectory:
    """Result of the training that a file describes.

    Attributes:
        curves: key -> one number per step.
        first: state after the first step.
        last: state after the last step.
    """

    curves: dict[str, Tensor]
    first: dict[str, Tensor]
    last: dict[str, Tensor]


def trajectory(case: Case, form: LossForm, kind: str) -> Trajectory:
    """Train with the settings and batches of the file."""
    net, rows, first = case.net().train(), [], {}
    step = STEPS[kind](net, case, form, case.meta.get("max_grad_norm", float("inf")))
    for batch in _batches(case):
        rows.append(step(*batch))
        first = first or deepcopy(net.state_dict())
    curves = {key: torch.tensor(values) for key, values in zip(CURVES, zip(*rows, strict=True), strict=True)}
    return Trajectory(curves, first, net.state_dict())


def curves_differing(case: Case, form: LossForm, ours: Mapping[str, Tensor]) -> Differences:
    """Compare the curves with the file's.

    Logits of several hundred have six exact digits in float32, too few for the gradient behind their sigmoid: there
    the file's own distance from the same training in double precision is allowed; CPUs differ by as much.
    """
    theirs = {key: case.tensor(key) for key in ours if key in case.arrays}
    allowed = _own_rounding(case, form, theirs) if saturates(case) else {}
    return {name: gap for name, gap in differing(ours, theirs, FORWARD).items() if gap > allowed.get(name, 0.0)}


def _own_rounding(case: Case, form: LossForm, theirs: Mapping[str, Tensor]) -> Differences:
    """Return curve -> distance of the file from the same training in double precision."""
    net = case.net().train().double()  # the loss of float64 logits is computed in float64, too
    step = plain_step(net, case, form, case.meta.get("max_grad_norm", float("inf")))
    rows = [step(ids_BF, labels_BT.double()) for ids_BF, labels_BT in _batches(case)]
    exact = {
        key: torch.tensor(values, dtype=torch.float64)
        for key, values in zip(CURVES, zip(*rows, strict=True), strict=True)
    }
    return {key: float((exact[key] - stored.double()).abs().max()) for key, stored in theirs.items()}


def above_noise(case: Case, form: LossForm, steps: int) -> dict[str, Tensor]:
    """Return name -> mask of the entries whose first nonzero gradient in ``steps`` steps exceeds NOISE or is absent.

    Adam's first step of an entry has full length, however small its gradient is.
    """
    net = case.net().train()
    step = plain_step(net, case, form, case.meta.get("max_grad_norm", float("inf")))
    first = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for batch in _batches(case)[:steps]:
        step(*batch)
        for name, parameter in net.named_parameters():
            if parameter.grad is not None:
                first[name] = torch.where(first[name] == 0, parameter.grad.abs(), first[name])
    return {name: (size == 0) | (size > NOISE) for name, size in first.items()}


def _batches(case: Case) -> list[tuple[Tensor, Tensor]]:
    ids_SBF, labels_SBT = case.tensor("input/ids"), case.tensor("input/labels")
    cycle = len(ids_SBF)
    return [(ids_SBF[i % cycle], labels_SBT[i % cycle]) for i in range(len(case.arrays["loss/per_step"]))]
