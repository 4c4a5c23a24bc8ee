"""Probe of sequential models: change of the target's score when a behaviour is removed from the history.

A method of this project for models without target attention of the paper's form (TIN, DIN)
(docs/methods/recscope.md#correlation-probe).

Legend: B batch, L history length, C behaviour categories, P positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from stemlab.analysis.correlation.ground_truth import newest_first
from stemlab.array_types import AnyArray, Float64Array
from stemlab.data.batch import SequenceBatch


def remove_behaviour(batch: SequenceBatch, position: int) -> SequenceBatch:
    """Return the batch with one behaviour removed from every history.

    Args:
        batch: every history has at least ``position`` and at least two behaviours.
        position: target-relative position; 1 is the newest behaviour.
    """
    removed_B = batch.length_B - position
    column_L = torch.arange(batch.history_BL.shape[1] - 1)
    column_BL = column_L + (column_L >= removed_B[:, None])

    def kept(values_BL: Tensor) -> Tensor:
        return torch.take_along_dim(values_BL, column_BL, dim=1)

    times = None if batch.time_BL is None else kept(batch.time_BL)
    return replace(batch, history_BL=kept(batch.history_BL), length_B=batch.length_B - 1, time_BL=times)


class Probe:
    """Mean absolute change of the target's score, by category and position of the removed behaviour.

    Args:
        net: sequential network in evaluation mode.
        member_IC: (I + 1, C) bool, categories of the items.
        positions: P.
    """

    def __init__(self, net: nn.Module, member_IC: AnyArray, positions: int) -> None:
        self._net, self._member_IC, self.positions = net, member_IC.astype(np.float64), positions
        self._sum_CP = np.zeros((member_IC.shape[1], positions))
        self._count_CP = np.zeros((member_IC.shape[1], positions))

    @torch.inference_mode()
    def add(self, batch: SequenceBatch, advance: Callable[[int], None] = lambda rows: None) -> None:
        """Probe a batch; column 0 of its candidates is the target.

        Args:
            batch: test samples.
            advance: progress callback; receives the number of samples.
        """
        batch = replace(batch, candidates_BN=batch.candidates_BN[:, :1])
        whole_B = self._score(batch)
        item_BP = newest_first(batch.history_BL.numpy(), batch.length_B.numpy(), self.positions)
        for position in range(1, self.positions + 1):
            rows = torch.nonzero(batch.length_B >= max(position, 2)).flatten()
            if len(rows):
                change_B = np.abs(self._score(remove_behaviour(_rows(batch, rows), position)) - whole_B[rows.numpy()])
                member_BC = self._member_IC[item_BP[rows.numpy(), position - 1]]
                self._sum_CP[:, position - 1] += change_B @ member_BC
                self._count_CP[:, position - 1] += member_BC.sum(axis=0)
        advance(len(batch))

    def _score(self, batch: SequenceBatch) -> AnyArray:
        return np.asarray(self._net(batch).score_BN[:, 0].double().numpy())

    def correlation(self) -> Float64Array:
        """Return (C, P) mean changes; NaN where no history has such a behaviour."""
        return np.divide(self._sum_CP, self._count_CP, out=np.full_like(self._sum_CP, np.nan), where=self._count_CP > 0)


def _rows(batch: SequenceBatch, rows: Tensor) -> SequenceBatch:
    present = {name: getattr(batch, name)[rows] for name in batch.__slots__ if getattr(batch, name) is not None}
    return replace(batch, **present)
