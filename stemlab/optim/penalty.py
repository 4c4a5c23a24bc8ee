"""Weight penalty of the released code of STEM: (lambda / p) * sum |w|^p over whole parameters.

A number lambda means p = 2, hence lambda / 2 * sum w^2 (docs/methods/stem.md#regularizer). The embedding penalty covers
every row of every ``nn.Embedding``; the net penalty covers every other weight and bias.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stemlab.errors import StemlabError

_NUMBER = r"\s*([0-9.eE+-]+)\s*"
_FORMS = {
    "l1": re.compile(rf"l1\({_NUMBER}\)"),
    "l2": re.compile(rf"l2\({_NUMBER}\)"),
    "l1_l2": re.compile(rf"l1_l2\({_NUMBER},{_NUMBER}\)"),
}


_LARGEST = 1e4


@dataclass(frozen=True, slots=True)
class Penalty:
    """Weights of the L1 and L2 terms: l1 * sum |w| + l2 / 2 * sum w^2, with gradient l1 * sign(w) + l2 * w."""

    l1: float = 0.0
    l2: float = 0.0

    def __bool__(self) -> bool:
        return self.l1 > 0 or self.l2 > 0

    def of(self, parameter: Tensor) -> Tensor:
        """Return the scalar penalty of one parameter, differentiable."""
        return self.l1 * parameter.abs().sum() + self.l2 / 2 * parameter.square().sum()


def parse_penalty(value: float | str | None) -> Penalty:
    """Parse a penalty in the format of the released configs.

    Args:
        value: a number (L2), ``"l1(a)"``, ``"l2(a)"``, ``"l1_l2(a, b)"``, a number as text, or None for no penalty.

    Raises:
        StemlabError: the text has another format, or a weight is negative or above 10,000.
    """
    l1, l2 = _weights(value)
    if not (0 <= l1 <= _LARGEST and 0 <= l2 <= _LARGEST):
        raise StemlabError(f"penalty {value!r} must have weights from 0 to {_LARGEST:g}.")
    return Penalty(l1=l1, l2=l2)


def _weights(value: float | str | None) -> tuple[float, float]:
    if value is None:
        return 0.0, 0.0
    try:
        if not isinstance(value, str):
            return 0.0, float(value)
        for form, pattern in _FORMS.items():
            if match := pattern.fullmatch(value.strip()):
                numbers = [float(x) for x in match.groups()]
                return {"l1": (numbers[0], 0.0), "l2": (0.0, numbers[0])}.get(form) or (numbers[0], numbers[1])
        return 0.0, float(value)
    except ValueError:
        raise StemlabError(
            f"cannot read penalty {value!r}: write a number (L2), 'l1(a)', 'l2(a)' or 'l1_l2(a, b)'."
        ) from None


def split_parameters(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return (weights of ``nn.Embedding``, all other parameters): trainable ones only, each once."""
    tables = {id(m.weight) for m in net.modules() if isinstance(m, nn.Embedding)}
    trainable = [p for p in net.parameters() if p.requires_grad]
    return [p for p in trainable if id(p) in tables], [p for p in trainable if id(p) not in tables]


def bias_and_norm_ids(net: nn.Module) -> set[int]:
    """Return the ``id()`` of all biases and of all parameters of normalisation layers (class name contains "Norm")."""
    biases = {id(p) for name, p in net.named_parameters() if name.rpartition(".")[2].startswith("bias")}
    norms = (module for module in net.modules() if "Norm" in type(module).__name__)
    return biases | {id(p) for norm in norms for p in norm.parameters()}


def penalty_value(net: nn.Module, embedding: Penalty, net_penalty: Penalty) -> Tensor:
    """Return the dense penalty as a scalar in the autograd graph: the reference for the optimiser."""
    tables, others = split_parameters(net)
    terms = [embedding.of(p) for p in tables if embedding] + [net_penalty.of(p) for p in others if net_penalty]
    if terms:
        return torch.stack(terms).sum()
    first = next(net.parameters(), None)
    return torch.zeros((), device=None if first is None else first.device)
