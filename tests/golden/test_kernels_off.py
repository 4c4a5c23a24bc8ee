"""Parity of the plain equations of the sequential models, which run where ``trainer.kernels`` is ``off``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stemlab.nn.kernels.dispatch import kernel_mode
from tests.golden import sequential_checks as checks
from tests.golden.sequential_cases import Case
from tests.golden.test_sequential_family import PARTS, SINGLE, TRAINED, each

USE_KERNELS = ("TiMiRec", "ComiRec", "MIND")


@pytest.fixture(autouse=True)
def off() -> Iterator[None]:
    with kernel_mode("off"):
        yield


@each([case for case in SINGLE if case.model in USE_KERNELS])
def test_outputs(case: Case) -> None:
    differences, _ = checks.forward(case)
    assert not differences
    assert not checks.representation(case)


@each([case for case in TRAINED if case.model in USE_KERNELS])
def test_losses(case: Case) -> None:
    assert not checks.losses(case)


@pytest.mark.parametrize(
    ("case", "part"),
    [(case, part) for case, part in PARTS if case.model in USE_KERNELS],
    ids=lambda v: v if isinstance(v, str) else v.path.stem,
)
def test_gradients_and_which_are_absent(case: Case, part: str) -> None:
    differences, ours, theirs = checks.part_gradients(case, part)
    assert not differences
    assert ours == theirs
