"""Parity with MMFI's released code (``model.net.published=true``), for each file found (``STEMLAB_GOLDEN``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.models.multiscenario.mmfi import MMFI
from stemlab.nn.loss import LossForm, task_losses
from stemlab.optim import OptimConfig, build_optimizer, parse_penalty
from tests.conftest import GOLDEN
from tests.golden import checks
from tests.golden.mmfi import UNUSED, MMFICase, find, observe, observe_cells
from tests.golden.tolerances import trained

# bias_STE: only if all samples are of one scenario
BEFORE_NORM = re.compile(r".*_attention\.own\.\d+\.bias_TQ|towers\.\d+\.[036]\.bias|bias_STE")
CASES = find(GOLDEN)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.stem)
forms = pytest.mark.parametrize("form", ["logits", "probability"])
modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def test_files_exist() -> None:
    if not CASES:
        pytest.skip(f"no MMFI files in {GOLDEN} (set STEMLAB_GOLDEN to their folder)")
    if (GOLDEN / "mmfi").is_dir():  # all files of the family are used
        assert {case.path for case in CASES} == set((GOLDEN / "mmfi").glob("*.npz"))


def of_mode(case: MMFICase, training: bool) -> dict[str, Tensor]:
    mode = "train_" if training else "eval_"
    return {k.removeprefix(mode): v for k, v in case.group("output").items() if k.startswith(mode)}


def double(case: MMFICase, values: Callable[[MMFI, ImpressionBatch], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return values of the network and the batch in float64."""
    batch = case.batch()
    assert batch.dense_BN is not None
    return values(case.fresh().double(), replace(batch, dense_BN=batch.dense_BN.double()))


def _values(cells: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    return {key: value for key, (_, value) in cells.items()}


@each
@modes
def test_outputs(case: MMFICase, training: bool) -> None:
    theirs = of_mode(case, training)
    ours = observe(case.fresh().train(training), case.batch())
    assert {f"pred_task{task}" for task in range(len(case.tasks))} <= theirs.keys()
    known = {k: v for k, v in theirs.items() if k in ours}
    exact = partial(double, case, lambda net, batch: observe(net.train(training), batch))
    assert not checks.differing(ours, known, checks.FORWARD, exact)
    cells = observe_cells(case.fresh().train(training), case.batch(), case.hard)
    own = {key: theirs[key][rows] for key, (rows, _) in cells.items()}
    exact = partial(double, case, lambda net, batch: _values(observe_cells(net.train(training), batch, case.hard)))
    assert not checks.differing(_values(cells), own, checks.FORWARD, exact)
    if unknown := sorted(theirs.keys() - ours.keys() - cells.keys()):
        pytest.skip(f"all other values agree; stemlab has no value for {', '.join(unknown)}")


@each
def test_one_sample(case: MMFICase) -> None:
    """The released code fails on one sample; in evaluation mode samples are independent."""
    theirs = {k: v[3:4] for k, v in of_mode(case, False).items() if k.startswith("pred_task")}
    assert not checks.differing(observe(case.fresh(), case.batch(slice(3, 4))), theirs, checks.FORWARD)


def losses(net: MMFI, case: MMFICase, form: LossForm) -> Tensor:
    return task_losses(net(case.batch()).logit_BT, case.tensor("input/labels"), form)


@each
@forms
def test_losses_are_averaged_over_tasks(case: MMFICase, form: LossForm) -> None:
    ours = {}
    for mode, training in (("train", True), ("eval", False)):
        losses_T = losses(case.fresh().train(training), case, form)
        ours |= {f"{mode}_bce_task{task}": loss for task, loss in enumerate(losses_T)}
        ours[f"{mode}_total"] = losses_T.mean()
    ours["total"] = ours["train_total"]
    theirs = case.group("loss")
    assert {"total", "eval_total"} <= theirs.keys()
    assert not checks.differing(ours, theirs, checks.FORWARD)


@each
@forms
@modes
def test_gradients(case: MMFICase, form: LossForm, training: bool) -> None:
    net = case.fresh().train(training)
    found = checks.gradients(net, losses(net, case, form).mean())
    theirs = case.ours("grad" if training else "grad_evalmode")
    assert theirs.keys() == found.keys()
    assert not checks.differing(checks.filled(net, found), theirs, checks.GRADIENT)


@each
def test_absent_gradients_are_those_of_parameters_missing_in_stemlab(case: MMFICase) -> None:
    net = case.fresh().train()
    absent = {name for name in case.arrays["gradnone"].tolist() if name}
    assert absent == {name for name in case.group("grad") if name.startswith(UNUSED)}
    assert None not in checks.gradients(net, losses(net, case, "logits").mean()).values()


@each
def test_running_statistics(case: MMFICase) -> None:

    def after(net: MMFI, batch: ImpressionBatch) -> dict[str, Tensor]:
        net.train()(batch)
        return dict(net.named_buffers())

    theirs, ours = case.ours("aftertrainforward"), after(case.fresh(), case.batch())
    assert theirs.keys() == ours.keys()
    assert not checks.differing(ours, theirs, checks.FORWARD, partial(double, case, after))


@each
@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("kind", ["torch", "stemlab"])
def test_one_adam_step(case: MMFICase, kind: str, decay: float) -> None:
    net = case.fresh().train()
    if kind == "torch":
        adam: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=decay)
    else:
        penalty = parse_penalty(decay)
        adam = build_optimizer(net, OptimConfig(lr=1e-3), penalty, penalty)
    losses(net, case, "logits").mean().backward()
    adam.step()
    before, gradients = case.ours("param"), case.ours("grad")
    kept = {}
    for name, gradient in gradients.items():
        total = gradient + decay * before[name]
        noise = BEFORE_NORM.fullmatch(name) is not None  # exactly zero only by chance
        kept[name] = (total.abs() > checks.NOISE) | ((total == 0) & (not noise))
    theirs = case.ours("step1_wd_0.01" if decay else "step1")
    assert trained(theirs).keys() == gradients.keys()
    assert not checks.same_state(net.state_dict(), theirs, kept, checks.STEP)
