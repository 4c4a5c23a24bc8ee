"""ESMM: click, and click followed by conversion (Ma et al., "Entire Space Multi-Task Model", SIGIR 2018).

Legend: B batch, F fields, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from stemlab.errors import StemlabError
from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers
from stemlab.nn.init import initialise
from stemlab.nn.mlp import Activation, MLPStyle
from stemlab.nn.precision import at_least_float32
from stemlab.types import Dropout, PositiveInt


class ESMM(TabularNet):
    """Embeddings -> a click tower and a conversion tower (docs/methods/multitask.md#esmm).

    The first task is the click; the second, whose positives should be clicks, is predicted as p(click) p(conversion).

    Args:
        fields: field -> number of rows of its embedding table.
        tasks: exactly two label names: click, conversion.
        embedding_dim: embedding width of a field.
        tower_hidden_units: hidden widths of a tower.
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation.
        padding: id 0 is padding: its row is zero and not trained.
    """

    label_limits: ClassVar[Mapping[str, str]] = {
        "regression": "multiplies the probabilities of a click and of a conversion",
        "given": "trains the conversion on all impressions",
    }

    def __init__(
        self,
        fields: Mapping[str, int],
        tasks: Sequence[str],
        *,
        embedding_dim: PositiveInt,
        tower_hidden_units: list[PositiveInt],
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
    ) -> None:
        super().__init__(fields, tasks, ["shared"], embedding_dim, padding)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        self.conversion, self.click = build_towers(2, self.embedding.output_width, tower_hidden_units, style)
        initialise(self)

    @classmethod
    def check_tasks(cls, tasks: Sequence[str]) -> None:
        """Raise StemlabError unless there are exactly two tasks."""
        if len(tasks) != 2:
            raise StemlabError(
                f"ESMM needs exactly two tasks (click, then conversion), but got {len(tasks)} ({', '.join(tasks)}); "
                "choose two with dataset.tasks=[<click>,<conversion>]."
            )

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return the logits (B, 1) of p(click) and of p(click) p(conversion), and no gates, from the input (B, F*D)."""
        click_B1 = self.click(inputs[0])
        return [click_B1, product_logit(click_B1, self.conversion(inputs[0]))], ()


def product_logit(left: Tensor, right: Tensor) -> Tensor:
    """Return the logit of ``sigmoid(left) * sigmoid(right)``, float32, finite and differentiable for all logits.

    log(1 - ab) is log((1 - a) + a(1 - b)), a sum of positive terms, without cancellation.
    """
    left, right = at_least_float32(left), at_least_float32(right)
    log_both = logsigmoid(left) + logsigmoid(right)
    log_not_both = torch.logaddexp(logsigmoid(-left), logsigmoid(left) + logsigmoid(-right))
    return log_both - log_not_both
