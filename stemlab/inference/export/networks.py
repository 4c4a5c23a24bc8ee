"""Networks as functions of plain tensors, in the form that is exported.

Legend: B samples, F fields, N numerical fields or candidates, T tasks, L history width, K vectors per user, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.data.batch import ImpressionBatch, SequenceBatch
from stemlab.models.sequential.base import SequenceNet
from stemlab.nn.loss import TaskLosses

IMPRESSION_INPUTS = {
    **{"ids": "ids_BF", "values": "dense_BN", "scenario": "scenario_B"},
    **{"lists": "list_ids_BK", "list_weights": "list_weights_BW"},
}
SEQUENCE_INPUTS = {
    **{"user": "user_B", "history": "history_BL", "length": "length_B"},
    **{"candidates": "candidates_BN", "time": "time_BL", "unit": "unit_B"},
}
"""Name of an exported input -> attribute of the batch."""


class ImpressionScores(nn.Module):
    """Probabilities (B, T) of a multi-task network; of regression tasks, values in the unit of the label.

    Args:
        net: the network.
        losses: losses of its tasks, which define the predictions.
    """

    inputs = IMPRESSION_INPUTS

    def __init__(self, net: nn.Module, losses: TaskLosses) -> None:
        super().__init__()
        self.net, self.losses = net, losses
        self.outputs = ("prediction" if any(loss.regression for loss in losses.losses) else "probability",)

    def forward(
        self,
        ids: Tensor,
        values: Tensor | None = None,
        scenario: Tensor | None = None,
        lists: Tensor | None = None,
        list_weights: Tensor | None = None,
    ) -> Tensor:
        """Return the prediction of each task, (B, T) float32."""
        further = {"list_ids_BK": lists, "list_weights_BW": list_weights}
        return self.score(ImpressionBatch(ids, dense_BN=values, scenario_B=scenario, **further))

    def score(self, batch: Any) -> Tensor:
        """Return ``forward`` of a batch."""
        return self.losses.predictions(self.net.forward(batch).logit_BT.float())


class SequenceScores(nn.Module):
    """Scores of candidates (B, N), and user vectors (B, K, D) where scores are dot products."""

    inputs = SEQUENCE_INPUTS

    def __init__(self, net: SequenceNet) -> None:
        super().__init__()
        self.net = net.for_export()
        self.outputs = ("score", "vectors") if self.net.factorises else ("score",)

    def forward(
        self,
        user: Any = None,
        history: Any = None,
        length: Any = None,
        candidates: Any = None,
        time: Any = None,
        unit: Any = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the scores (B, N) float32, and the user vectors (B, K, D) if there are any."""
        return self.score(SequenceBatch(user, history, length, candidates, time, unit))

    def score(self, batch: Any) -> Tensor | tuple[Tensor, Tensor]:
        """Return ``forward`` of a batch."""
        if not self.net.factorises:
            return self.net.scores(batch, batch.candidates_BN).float()
        user_BKD = self.net.represent(batch).float()
        item_BND = functional.embedding(batch.candidates_BN, self.net.item_vectors().float())
        return torch.bmm(user_BKD, item_BND.transpose(1, 2)).amax(dim=1), user_BKD


class ReadInputs:
    """A batch that remembers which of its tensors were read."""

    def __init__(self, batch: ImpressionBatch | SequenceBatch) -> None:
        self._batch, self.read = batch, set[str]()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return getattr(self._batch, name)


def inputs_read(network: ImpressionScores | SequenceScores, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the inputs that the network reads, in the order of its parameters.

    Args:
        network: the network, in evaluation mode.
        tensors: name of each input that the dataset has -> example.
    """
    known = network.inputs
    kind = SequenceBatch if isinstance(network, SequenceScores) else ImpressionBatch
    batch = ReadInputs(kind(**{known[name]: tensor for name, tensor in tensors.items()}))
    with torch.no_grad():
        network.score(batch)
    return [name for name in known if name in tensors and known[name] in batch.read]
