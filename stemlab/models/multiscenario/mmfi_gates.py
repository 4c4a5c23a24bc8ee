"""What MMFI's gates take from whose experts.

Legend: E width of a slot's vector, Q slots, R rows of one scenario, T tasks, I width of an indicator, N experts that a
gate sees, X = Q * R.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stemlab.models.multiscenario.mmfi_attention import Gates


def gate_shares(
    gates: Sequence[Gates], slots: Sequence[Tensor], indicators: Sequence[Tensor], tasks: Sequence[str], shared: int
) -> dict[str, dict[str, float]]:
    """Return task -> expert group -> share, the mean over slots and rows; a task's shares add up to one.

    A row goes through its own scenario's gates: ``task:<name>`` are the experts of that scenario and the task.

    Args:
        gates: one a scenario.
        slots: a scenario, (E, Q, R).
        indicators: a scenario, (T, I).
        tasks: T names.
        shared: number of shared experts, the first ones that a gate sees.
    """
    count = sum(slot_EQR[0].numel() for slot_EQR in slots)
    sums = [_sums(own, slot_EQR.flatten(1), told) for own, slot_EQR, told in zip(gates, slots, indicators, strict=True)]
    share_TN = torch.stack(sums).sum(dim=0) / max(count, 1)
    groups = [f"task:{task}" for task in tasks] if share_TN.shape[1] > shared else []
    return {
        task: dict.fromkeys(groups, 0.0)
        | ({f"task:{task}": float(share_N[shared:].sum())} if groups else {})
        | {"shared": float(share_N[:shared].sum())}
        for task, share_N in zip(tasks, share_TN, strict=True)
    }


def _sums(gates: Gates, slot_EX: Tensor, indicator_TI: Tensor) -> Tensor:
    """Return the sum over slots and rows of a scenario's gates, (T, N) float64."""
    weight, bias = gates.line(indicator_TI)
    score_TNX = torch.addmm(bias.unsqueeze(1), weight, slot_EX).view(*gates.bias_TN.shape, -1)
    return score_TNX.softmax(dim=1).sum(dim=2, dtype=torch.float64).cpu()
