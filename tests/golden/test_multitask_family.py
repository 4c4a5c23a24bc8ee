"""Parity with the released multi-task code, for each file found.

``STEMLAB_GOLDEN`` may name another folder: the root of all families, or a folder of ``.npz`` files.
"""

from __future__ import annotations

import pytest
import torch

from stemlab.data.batch import ImpressionBatch
from stemlab.models.multitask import SingleTask
from stemlab.nn.loss import LossForm
from tests.conftest import GOLDEN
from tests.golden import checks
from tests.golden.cases import MODELS, Case, find

CASES = find(GOLDEN)
SINGLE = [case for case in CASES if not case.trajectory]
TRAJECTORIES = [case for case in CASES if case.trajectory]
FORMS = ("logits", "probability")
STEPS = list(checks.STEPS)


def each(cases: list[Case]) -> pytest.MarkDecorator:
    """Run a test for each case; skip it with a reason if there is none."""
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.path.stem)


def test_files_exist() -> None:
    if not CASES:
        pytest.skip(f"no multi-task files in {GOLDEN} (set STEMLAB_GOLDEN to their folder)")
    assert {case.meta["model"] for case in CASES} <= set(MODELS)


@each(SINGLE)
def test_outputs(case: Case) -> None:
    differences, unknown = checks.forward(case)
    assert not differences
    if unknown:
        pytest.skip(f"all other values agree; stemlab has no value for {', '.join(unknown)}")


@each(SINGLE)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_batch_entry(case: Case, dtype: torch.dtype) -> None:
    if case.meta["config"].get("batch_norm"):
        pytest.skip("test_outputs covers both modes")
    output = case.net()(ImpressionBatch(case.tensor("input/ids").to(dtype)))
    theirs = torch.cat([case.tensor(f"output/pred_{task}") for task in case.tasks], dim=1)
    assert output.logit_BT.shape == theirs.shape
    assert not checks.differing({"p": output.logit_BT.sigmoid()}, {"p": theirs}, checks.FORWARD)


@each(SINGLE)
@pytest.mark.parametrize("form", FORMS)
def test_losses(case: Case, form: LossForm) -> None:
    assert not checks.losses(case, form)


@each(SINGLE)
@pytest.mark.parametrize("form", FORMS)
def test_gradients(case: Case, form: LossForm) -> None:
    differences, absent = checks.total_gradients(case, form)
    assert not differences
    if "gradnone" in case.arrays:
        assert absent == case.absent("gradnone")


@each(SINGLE)
@pytest.mark.parametrize("form", FORMS)
def test_task_gradients_and_absent_gradients(case: Case, form: LossForm) -> None:
    for task in range(len(case.tasks)):
        differences, ours, theirs = checks.task_gradients(case, task, form)
        assert not differences, f"task {task}"
        assert ours == theirs, f"task {task}"


@each(SINGLE)
@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("form", FORMS)
def test_one_adam_step(case: Case, form: LossForm, kind: str) -> None:
    assert not checks.first_step(case, form, kind)


@each([case for case in SINGLE if case.group("aftertrainforward")])
def test_running_statistics(case: Case) -> None:
    assert not checks.running_statistics(case)


@each([case for case in SINGLE if case.group("grad_evalmode")])
def test_gradients_in_evaluation_mode(case: Case) -> None:
    assert not checks.evaluation_gradients(case, "logits")


@each([case for case in SINGLE if case.meta["model"] == "SharedBottom" and len(case.tasks) == 1])
def test_single_task_is_a_shared_bottom_with_one_task(case: Case) -> None:
    logit_BT = case.net(SingleTask)(ImpressionBatch(case.tensor("input/ids"))).logit_BT
    assert not checks.differing({"x": logit_BT}, {"x": case.tensor("output/logit_task0")}, checks.FORWARD)


@each(TRAJECTORIES)
@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("form", FORMS)
def test_trajectory(case: Case, form: LossForm, kind: str) -> None:
    if form == "logits" and checks.saturates(case):
        pytest.skip("saturated probabilities: only the released form of the loss gives the released curve")
    ours = checks.trajectory(case, form, kind)
    assert not checks.curves_differing(case, form, ours.curves)
    if step1 := case.ours("step1"):
        assert not checks.same_state(ours.first, step1, checks.above_noise(case, form, steps=1), checks.STEP)
    # Rounding differences grow with the steps: Adam divides by the root of the second moment.
    kept = checks.above_noise(case, form, steps=len(ours.curves["loss/per_step"]))
    assert not checks.same_state(ours.last, case.ours("final"), kept, 10 * checks.STEP)
