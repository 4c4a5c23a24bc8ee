"""Parity with the released sequential code, for each file found.

``STEMLAB_GOLDEN`` may name another folder: the root of all families, or a folder of ``.npz`` files.
"""

from __future__ import annotations

import pytest

from tests.conftest import GOLDEN
from tests.golden import sequential_checks as checks
from tests.golden.checks import FORWARD, STEP, differing, same_state
from tests.golden.sequential_cases import Case, find
from tests.golden.sequential_models import MODELS

CASES = find(GOLDEN)
SINGLE = [case for case in CASES if not case.trajectory]
TRAINED = [case for case in SINGLE if "loss/total" in case.arrays]
TRAJECTORIES = [case for case in CASES if case.trajectory]
PARTS = [(case, p) for case in TRAINED for p in ("grad", "grad_bpr", "grad_kl") if case.group(p)]


def each(cases: list[Case]) -> pytest.MarkDecorator:
    """Run a test for each case; skip it with a reason if there is none."""
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.path.stem)


def test_files_exist() -> None:
    if not CASES:
        pytest.skip(f"no sequential files in {GOLDEN} (set STEMLAB_GOLDEN to their folder)")
    assert {case.model for case in CASES} <= set(MODELS)


@each(SINGLE)
def test_outputs(case: Case) -> None:
    differences, unknown = checks.forward(case)
    assert not differences
    assert not [key for key in unknown if "prediction" in key]
    if unknown:
        pytest.skip(f"all other values agree; stemlab has no value for {', '.join(unknown)}")


@each([case for case in SINGLE if case.model != "YouTube"])
def test_vectors_of_evaluation(case: Case) -> None:
    assert not checks.representation(case)


@each(TRAINED)
def test_losses(case: Case) -> None:
    assert not checks.losses(case)


@pytest.mark.parametrize(("case", "part"), PARTS, ids=lambda v: v if isinstance(v, str) else v.path.stem)
def test_gradients_and_absent_gradients(case: Case, part: str) -> None:
    differences, ours, theirs = checks.part_gradients(case, part)
    assert not differences
    assert ours == theirs


@each(TRAINED)
def test_one_optimiser_step(case: Case) -> None:
    results = checks.first_steps(case)
    assert results
    assert not any(results.values()), results


@each(TRAJECTORIES)
def test_trajectory(case: Case) -> None:
    ours = checks.trajectory(case)
    assert not differing({"loss": ours.curve}, {"loss": case.tensor("loss/per_step")}, FORWARD)
    # Rounding differences grow with the steps: Adam divides by the root of the second moment.
    assert not same_state(ours.last, case.ours("final"), ours.kept, 10 * STEP)
    after = {"score": case.tensor("output/eval_prediction_after")}
    assert not differing({"score": ours.score_BN}, after, 10 * FORWARD)
