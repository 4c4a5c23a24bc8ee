"""How expert outputs are mixed by gates: the one place to make faster.

Legend: B rows, E experts a gate sees, H width of an expert's output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mix(
    experts: Sequence[Tensor],
    weights: Sequence[Tensor],
    sees: Sequence[Sequence[int]],
    trains: Sequence[Sequence[bool]],
) -> list[Tensor]:
    """Return every gate's weighted sum of the experts it sees.

    Args:
        experts: outputs of all experts of the layer, (B, H) each.
        weights: gate weights, (B, E) each; E may differ from gate to gate.
        sees: gate -> indices into ``experts`` in the order of the columns of its weights.
        trains: gate -> whether the gate's loss may train that expert; an expert that it may not train is read with its
            gradient stopped (the gate weight keeps its gradient).

    Returns:
        One (B, H) mixture a gate.
    """
    return [mix_one(experts, *gate) for gate in zip(weights, sees, trains, strict=True)]


def mix_one(experts: Sequence[Tensor], weight_BE: Tensor, sees: Sequence[int], trains: Sequence[bool]) -> Tensor:
    """Return one gate's mixture (B, H), accumulated expert by expert: no stacked copy of the experts."""
    weight_BE = weight_BE.to(experts[sees[0]].dtype)
    mixed_BH: Tensor | None = None
    for column, (expert, train) in enumerate(zip(sees, trains, strict=True)):
        expert_BH = experts[expert] if train else experts[expert].detach()
        weight_B1 = weight_BE[:, column : column + 1]
        mixed_BH = weight_B1 * expert_BH if mixed_BH is None else torch.addcmul(mixed_BH, weight_B1, expert_BH)
    assert mixed_BH is not None
    return mixed_BH
