"""Initial distributions of the released codes (docs/methods/multitask.md#initial-weights)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Init = Literal["stem", "mtreclib", "rechorus", "tin"]
EMBEDDING_STD = 1e-4
RECHORUS_STD = 0.01


@torch.no_grad()
def initialise(net: nn.Module, init: Init = "stem") -> None:
    """Draw the initial weights of all embeddings and linear layers, in place.

    N(m, s) is the normal distribution with standard deviation s.

    Args:
        net: a new network; its linear layers have PyTorch's initial values.
        init: ``stem``: embeddings N(0, 1e-4), padding rows zero, linear weights Xavier-normal, biases zero
            (docs/methods/multitask.md#initial-weights). ``mtreclib``: embeddings Xavier-uniform as if all tables were
            one matrix, padding rows zero; linear layers keep PyTorch's values. ``rechorus`` (sequential networks):
            embeddings (row 0 too), linear weights and biases N(0, 0.01); GRUs and layer norms keep PyTorch's values
            (docs/methods/timirec.md#initialisation). ``tin`` (TIN, DIN): embeddings and linear weights Xavier-uniform,
            biases zero (docs/methods/sequential.md#tin).
    """
    if init == "rechorus":
        _draw_normal(net)
        return
    if init == "tin":
        _draw_xavier(net)
        return
    tables = [module for module in net.modules() if isinstance(module, nn.Embedding)]
    bound = _xavier_bound(tables)
    for module in net.modules():
        if isinstance(module, nn.Embedding):
            if init == "stem":
                nn.init.normal_(module.weight, std=EMBEDDING_STD)
            else:
                nn.init.uniform_(module.weight, -bound, bound)
            if module.padding_idx is not None:
                module.weight[module.padding_idx].zero_()
        elif isinstance(module, nn.Linear) and init == "stem":
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _draw_normal(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            for parameter in module.parameters(recurse=False):  # weight, and bias where there is one
                nn.init.normal_(parameter, std=RECHORUS_STD)


def _draw_xavier(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.xavier_uniform_(module.weight)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def _xavier_bound(tables: list[nn.Embedding]) -> float:
    """Return the bound of Xavier-uniform for one matrix of all rows."""
    rows = sum(table.num_embeddings for table in tables)
    return math.sqrt(6 / (rows + tables[0].embedding_dim)) if tables else 0.0


class SkipInit(TorchFunctionMode):
    """Context manager that skips the initialisation of parameters, for networks whose weights are loaded next.

    Parameters stay uninitialised, so large tables take no time and, if their weights are memory-mapped, no memory.
    Buffers are initialised.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return a parameter unchanged instead of initialising it; call every other function."""
        kwargs = kwargs or {}
        if func in _INITIALISERS:
            tensor = kwargs["tensor"] if "tensor" in kwargs else args[0]
            if isinstance(tensor, nn.Parameter):
                return tensor
        return func(*args, **kwargs)


_INITIALISERS = (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_)
