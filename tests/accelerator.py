"""A stand-in for an accelerator: networks and batches on the ``meta`` device, and a record of forbidden operations.

Operations on ``meta`` tensors compute shapes only. An operation whose result shape depends on values, or that gives a
value to the host, cannot run there, as in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DATA_DEPENDENT = {
    "_local_scalar_dense",
    "bincount",
    "histc",
    "item",
    "masked_select",
    "nonzero",
    "unique",
    "unique_consecutive",
    "unique_dim",
    "_unique",
    "_unique2",
}


class HostOperations(TorchDispatchMode):
    """Record operations that read or write CPU tensors, or whose result depends on values read by the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and record it if it is forbidden."""
        kwargs = kwargs or {}
        name = str(func)
        inputs = tree_leaves((args, kwargs))
        if func.name().split("::")[1].split(".")[0] in DATA_DEPENDENT:
            self.found.append(f"{name}: needs values")
        masks = [leaf for leaf in inputs[1:] if isinstance(leaf, Tensor) and leaf.dtype in (torch.bool, torch.uint8)]
        # x[mask] = number is a masked fill
        filled = func.name() == "aten::index_put_" and isinstance(args[2], Tensor) and args[2].dim() == 0
        if func.name().startswith("aten::index") and masks and not filled:
            self.found.append(f"{name}: boolean index")
        if func.name() == "aten::repeat_interleave.Tensor" and kwargs.get("output_size") is None:
            self.found.append(f"{name}: without output_size")
        if any(isinstance(leaf, Tensor) and leaf.device.type == "cpu" for leaf in inputs):
            self.found.append(f"{name}: reads a CPU tensor")
        result = func(*args, **kwargs)
        if any(isinstance(leaf, Tensor) and leaf.device.type == "cpu" for leaf in tree_leaves(result)):
            self.found.append(f"{name}: makes a CPU tensor")
        return result


class HostLists(TorchFunctionMode):
    """Record Python lists and NumPy arrays that become tensors: their copy to the device is hidden from dispatch."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function and record it if it copies a list to the device."""
        name = getattr(func, "__name__", str(func))
        if func in (torch.tensor, torch.as_tensor, torch.from_numpy, Tensor.new_tensor):
            self.found.append(f"{name}: copies from the host")
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list | range) or type(part).__module__ == "numpy" for part in index):
                self.found.append(f"{name}: list as index")
        return func(*args, **(kwargs or {}))


@contextmanager
def host_operations() -> Iterator[list[str]]:
    """Collect the forbidden operations inside the block."""
    with HostOperations() as mode, HostLists(mode.found):
        yield mode.found
