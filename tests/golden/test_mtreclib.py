"""Parity with MTReclib's code, for each file found (``STEMLAB_GOLDEN`` as in test_multitask_family.py).

Settings of MTReclib: batch norm, linear gates, one PLE layer per width with a shared gate over all experts, numerical
columns through one linear layer as the last field, and the mean of the task losses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.nn.loss import LossForm, task_losses
from stemlab.optim import OptimConfig, build_optimizer, parse_penalty
from tests.conftest import GOLDEN
from tests.golden import checks
from tests.golden.mtreclib import MTReclibCase, find, logits, observe

CASES = find(GOLDEN)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.stem)
forms = pytest.mark.parametrize("form", ["logits", "probability"])
modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def test_files_exist() -> None:
    if not CASES:
        pytest.skip(f"no MTReclib files in {GOLDEN} (set STEMLAB_GOLDEN to their folder)")
    if (GOLDEN / "mtreclib").is_dir():  # all files of the family are used
        assert {case.path for case in CASES} == set((GOLDEN / "mtreclib").glob("*.npz"))


def double(case: MTReclibCase, values: Callable[[nn.Module, ImpressionBatch], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return values of the network and the batch in float64."""
    batch = case.batch()
    assert batch.dense_BN is not None
    return values(case.fresh().double(), replace(batch, dense_BN=batch.dense_BN.double()))


@each
@modes
def test_outputs(case: MTReclibCase, training: bool) -> None:
    mode = "train_" if training else "eval_"
    theirs = {k.removeprefix(mode): v for k, v in case.group("output").items() if k.startswith(mode)}
    ours = observe(case.fresh().train(training), case, case.batch())
    exact = partial(double, case, lambda net, batch: observe(net.train(training), case, batch))
    assert {f"pred_task{task}" for task in range(case.count)} <= theirs.keys()
    unknown = sorted(theirs.keys() - ours.keys())
    assert not checks.differing(ours, {k: v for k, v in theirs.items() if k in ours}, checks.FORWARD, exact)
    if unknown:
        pytest.skip(f"all other values agree; stemlab has no value for {', '.join(unknown)}")


@each
def test_one_sample(case: MTReclibCase) -> None:
    theirs = {k.removeprefix("batch1_eval_"): v for k, v in case.group("output").items() if k.startswith("batch1_eval")}
    assert len(theirs) == case.count
    assert not checks.differing(observe(case.fresh(), case, case.batch(slice(1))), theirs, checks.FORWARD)


def losses(net: nn.Module, case: MTReclibCase, form: LossForm) -> Tensor:
    return task_losses(logits(net, case.batch()), case.tensor("input/labels"), form)


@each
@forms
def test_losses_are_averaged_over_tasks(case: MTReclibCase, form: LossForm) -> None:
    trained_T, scored_T = (losses(case.fresh().train(training), case, form) for training in (True, False))
    ours = {f"train_bce_task{task}": loss for task, loss in enumerate(trained_T)}
    ours |= {"total": trained_T.mean(), "eval_total": scored_T.mean()}
    assert not checks.differing(ours, case.group("loss"), checks.FORWARD)


@each
@forms
@modes
def test_gradients(case: MTReclibCase, form: LossForm, training: bool) -> None:
    net = case.fresh().train(training)
    found = checks.gradients(net, losses(net, case, form).mean())
    theirs = case.ours("grad" if training else "grad_evalmode")
    assert theirs.keys() == found.keys()
    assert not checks.differing(checks.filled(net, found), theirs, checks.GRADIENT)
    absent = {case.our_name(name) for name in case.arrays["gradnone"].tolist() if name}
    assert {name for name, gradient in found.items() if gradient is None} == absent


@each
def test_running_statistics(case: MTReclibCase) -> None:

    def after(net: nn.Module, batch: ImpressionBatch) -> dict[str, Tensor]:
        logits(net.train(), batch)
        return net.state_dict()

    theirs = case.ours("aftertrainforward")
    assert theirs
    ours = after(case.fresh(), case.batch())
    assert not checks.differing(ours, theirs, checks.FORWARD, partial(double, case, after))


@each
@pytest.mark.parametrize("kind", ["torch", "stemlab"])
def test_one_adam_step(case: MTReclibCase, kind: str) -> None:
    net = case.fresh().train()
    if kind == "torch":
        adam: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    elif case.model == "SingleTask":
        pytest.skip("stemlab trains one network per task")
    else:
        adam = build_optimizer(net, OptimConfig(lr=1e-3), parse_penalty(0.0), parse_penalty(0.0))
    losses(net, case, "logits").mean().backward()
    own = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in net.named_parameters()}
    adam.step()
    kept = checks.not_noise(case.ours("grad"), own)
    assert not checks.same_state(net.state_dict(), case.ours("step1"), kept, checks.STEP)
