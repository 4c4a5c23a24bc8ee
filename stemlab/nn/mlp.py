"""Stacks of linear layers.

Legend: B batch, I input width, O output width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from stemlab.nn.dropout import SubsetDropout

Activation = Literal["relu", "leaky_relu", "gelu", "tanh", "sigmoid"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # In place, which saves one copy per layer: Linear and BatchNorm1d do not need their output in the backward pass.
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def activation(name: Activation) -> nn.Module:
    """Return the activation module; it may overwrite its input."""
    return _ACTIVATIONS[name]()


@dataclass(frozen=True, slots=True)
class MLPStyle:
    """Hidden layers of an MLP.

    Attributes:
        activation: after every hidden layer.
        dropout: probability, after every activation.
        batch_norm: batch normalisation before every activation.
        subset: the layers see a part of the batch, whose size may differ between processes.
    """

    activation: Activation = "relu"
    dropout: float = 0.0
    batch_norm: bool = False
    subset: bool = False


class MLP(nn.Sequential):
    """Linear, [batch norm], activation, [dropout] per hidden width, then an optional output linear: (B, I) -> (B, O).

    O is ``output_width``; if that is ``None``, O is the last hidden width and the stack ends in its activation, as
    experts and bottoms do (docs/methods/stem.md#experts).
    """

    def __init__(
        self, input_width: int, hidden_units: Sequence[int], output_width: int | None = None, *, style: MLPStyle
    ) -> None:
        layers: list[nn.Module] = []
        width = input_width
        for hidden in hidden_units:
            layers.append(nn.Linear(width, hidden))
            if style.batch_norm:
                layers.append(nn.BatchNorm1d(hidden))
            layers.append(activation(style.activation))
            if style.dropout > 0:
                layers.append((SubsetDropout if style.subset else nn.Dropout)(style.dropout))
            width = hidden
        if output_width is not None:
            layers.append(nn.Linear(width, output_width))
        super().__init__(*layers)
