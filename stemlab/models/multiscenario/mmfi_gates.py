"""Mean gate weights of MMFI per expert group (docs/methods/mmfi.md#pair-importance).

Legend: R samples of one scenario, Q slots, E width of a slot vector, T tasks, I width of an indicator, G experts of a
gate.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stemlab.models.multiscenario.mmfi_attention import SlotGates


def slot_gate_shares(
    gates: Sequence[SlotGates], slots: Sequence[Tensor], indicators: Sequence[Tensor], tasks: Sequence[str], shared: int
) -> dict[str, dict[str, float]]:
    """Return task -> expert group -> mean gate weight over slots and samples; the shares of a task sum to one.

    Each sample uses the gates of its own scenario; group ``task:<name>`` holds the experts of that scenario and task.

    Args:
        gates: one per scenario.
        slots: for each scenario, (R, Q, E).
        indicators: for each scenario, (T, I).
        tasks: T names.
        shared: number of shared experts, the first ones of each gate.
    """
    count = sum(slot_RQE[..., 0].numel() for slot_RQE in slots)
    sums = [
        gate(slot_RQE, indicator_TI).sum(dim=(0, 1), dtype=torch.float64).cpu()
        for gate, slot_RQE, indicator_TI in zip(gates, slots, indicators, strict=True)
    ]
    share_TG = torch.stack(sums).sum(dim=0) / max(count, 1)
    groups = [f"task:{task}" for task in tasks] if share_TG.shape[1] > shared else []
    return {
        task: dict.fromkeys(groups, 0.0)
        | ({f"task:{task}": float(share_G[shared:].sum())} if groups else {})
        | {"shared": float(share_G[:shared].sum())}
        for task, share_G in zip(tasks, share_TG, strict=True)
    }
