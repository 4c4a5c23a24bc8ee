"""Probe of sequential models, on a model with known scores."""

import numpy as np
import torch
from torch import nn

from stemlab.analysis.correlation.probe import Probe, remove_behaviour
from stemlab.data.batch import SequenceBatch
from stemlab.models.api import SequenceOutput

WEIGHT = torch.tensor([0.0, 1.0, -2.0, 4.0])


class Sum(nn.Module):
    """The target's score is the sum of the behaviours' weights."""

    def forward(self, batch: SequenceBatch) -> SequenceOutput:
        return SequenceOutput(WEIGHT[batch.history_BL].sum(1, keepdim=True).expand(-1, batch.candidates_BN.shape[1]))


def batch_of(*histories: list[int]) -> SequenceBatch:
    longest = max(map(len, histories))
    padded = torch.tensor([history + [0] * (longest - len(history)) for history in histories])
    return SequenceBatch(
        user_B=torch.arange(len(histories)),
        history_BL=padded,
        length_B=torch.tensor([len(history) for history in histories]),
        candidates_BN=torch.tensor([[1, 2]] * len(histories)),
        time_BL=padded * 10,
    )


def test_a_behaviour_is_removed() -> None:
    found = remove_behaviour(batch_of([1, 2, 3], [3, 2]), 2)
    assert found.history_BL.tolist() == [[1, 3], [2, 0]]
    assert found.time_BL.tolist() == [[10, 30], [20, 0]]
    assert found.length_B.tolist() == [2, 1]
    assert remove_behaviour(batch_of([1, 2, 3]), 1).history_BL.tolist() == [[1, 2]]
    assert remove_behaviour(batch_of([1, 2, 3]), 3).history_BL.tolist() == [[2, 3]]


def test_changes_are_averaged_by_category_and_position() -> None:
    member = np.array([[0, 0], [1, 0], [1, 0], [0, 1]], dtype=bool)
    probe = Probe(Sum().eval(), member, 3)
    probe.add(batch_of([1, 2, 3], [3, 2], [1]))  # the last history is skipped: it would be empty
    probe.add(batch_of([1, 1]))
    found = probe.correlation()
    np.testing.assert_allclose(found[0], [(2 + 1) / 2, (2 + 1) / 2, 1])
    np.testing.assert_allclose(found[1], [4, 4, np.nan])
