"""Stacks of linear layers in the published layout.

Legend: B rows, I input width, O output width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from torch import Tensor, nn

from stemlab.nn.kernels.linear_relu import dense_stack, stack_dtype
from stemlab.nn.norm import RowsNorm

Activation = Literal["relu", "leaky_relu", "gelu", "tanh", "sigmoid"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # In place: a linear (or batch norm) does not need its own output for its gradient, so this saves one copy a layer.
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def activation(name: Activation) -> nn.Module:
    """Return the activation; it may work in place."""
    return _ACTIVATIONS[name]()


@dataclass(frozen=True, slots=True)
class MLPStyle:
    """What every hidden layer of a network is made of.

    Attributes:
        activation: after every hidden layer.
        dropout: after every activation.
        batch_norm: before every activation.
        some_rows: it sees only some rows of a batch (a scenario's), maybe one or none, which plain batch norm refuses.
    """

    activation: Activation = "relu"
    dropout: float = 0.0
    batch_norm: bool = False
    some_rows: bool = False

    def of_some_rows(self) -> MLPStyle:
        """Return the style of a part that sees only some rows of a batch."""
        return replace(self, some_rows=True)

    @property
    def is_plain(self) -> bool:
        """Whether a hidden layer is a linear and a ReLU, no more."""
        return self.activation == "relu" and self.dropout == 0 and not self.batch_norm


class MLP(nn.Sequential):
    """Linear, [batch norm], activation, [dropout] for every hidden width, then an optional bare linear.

    (B, I) -> (B, O), where O is ``output_width``, or the last hidden width when that is ``None``; such a stack ends in
    its activation (experts and bottoms do, source: spec/stem.md section 2).
    """

    def __init__(
        self, input_width: int, hidden_units: Sequence[int], output_width: int | None = None, *, style: MLPStyle
    ) -> None:
        layers: list[nn.Module] = []
        width = input_width
        for hidden in hidden_units:
            layers.append(nn.Linear(width, hidden))
            if style.batch_norm:
                layers.append((RowsNorm if style.some_rows else nn.BatchNorm1d)(hidden))
            layers.append(activation(style.activation))
            if style.dropout > 0:
                layers.append(nn.Dropout(style.dropout))
            width = hidden
        if output_width is not None:
            layers.append(nn.Linear(width, output_width))
        super().__init__(*layers)
        # What dense_stack can do in one go; anything else runs module by module.
        self._first_width = hidden_units[0] if hidden_units and style.is_plain else None
        self._ends_in_activation = output_width is None

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, O) for (B, I)."""
        dtype = stack_dtype(input, self._first_width) if self._first_width else None
        if dtype is None:
            return cast(Tensor, super().forward(input))  # type: ignore[no-untyped-call]
        linears = [layer for layer in self if isinstance(layer, nn.Linear)]
        weights, biases = [layer.weight for layer in linears], [layer.bias for layer in linears]
        return dense_stack(input, weights, biases, self._ends_in_activation, dtype)
