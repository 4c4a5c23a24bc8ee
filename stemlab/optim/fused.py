"""Adam for a network whose embedding tables are trained in the backward pass (docs/methods/tables.md#torchrec)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from stemlab.nn.fused_tables import FusedFields
from stemlab.optim.penalised import PenalisedAdam


class FusedTablesAdam(PenalisedAdam):
    """Adam whose parameter group with the key ``tables`` is trained by FBGEMM in the backward pass.

    The group holds the learning rate of the tables, and the state of a table its sum of squares per row, the memory of
    FBGEMM itself.
    """

    # class attribute, because torch's Optimizer drops instance attributes when it is copied
    _fields: Sequence[FusedFields] = ()

    def attach(self, fields: Sequence[FusedFields]) -> None:
        """Connect the learning rate and the states of the tables."""
        self._fields = fields
        for one in fields:
            one.rate = self._rate
        for table, sums in self._row_sums():
            # Adam expects a step in every loaded state
            self.state[table] = {"step": torch.zeros((), dtype=torch.float32), "row_sum": sums}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; the sums of squares are copied into the memory of FBGEMM."""
        super().load_state_dict(state_dict)
        for table, sums in self._row_sums():
            sums.copy_(self.state[table]["row_sum"])
            self.state[table]["row_sum"] = sums

    def _row_sums(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        for one in self._fields:
            for table, sums in zip(one.tables, one.row_sums, strict=True):
                yield cast(nn.Parameter, table.weight), sums

    def _rate(self) -> float:
        return float(next(group for group in self.param_groups if "tables" in group)["lr"])
