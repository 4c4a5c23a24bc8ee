"""The one-node stacks, which real sizes go through, against the published numbers (whose sizes are too small for them).

Trajectories are left to the modules: Adam makes steps of rounding noise, and a loop of 20 shows it.
"""

from __future__ import annotations

import pytest

from stemlab.nn.kernels import linear_relu as dense
from tests.golden import checks
from tests.golden.cases import Case
from tests.golden.test_multitask_family import SINGLE, each


@each([case for case in SINGLE if not case.meta["config"].get("batch_norm")])
def test_outputs_losses_and_gradients(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "SMALLEST", 0)
    differences, _ = checks.forward(case)
    assert not differences
    assert not checks.losses(case, "logits")
    differences, absent = checks.total_gradients(case, "logits")
    assert not differences
    if "gradnone" in case.arrays:
        assert absent == case.absent("gradnone")
    for task in range(len(case.tasks)):
        differences, ours, theirs = checks.task_gradients(case, task, "logits")
        assert not differences, f"task {task}"
        assert ours == theirs, f"task {task}"
