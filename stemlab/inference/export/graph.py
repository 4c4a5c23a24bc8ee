"""Trace a network with a dynamic batch size.

Fused kernels fix the batch size and scenarios are split by value, so the plain equations in the static shapes for
accelerators are traced (``stemlab.nn.kernels.dispatch``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from stemlab.inference.export.networks import ImpressionScores, SequenceScores
from stemlab.inference.export.quiet import quiet
from stemlab.nn.kernels.dispatch import device_forms, kernel_mode

_LEAST_DYNAMIC = 3  # a dimension of size 0, 1 or 2 in the example may be taken for a constant


def fixed_history(network: nn.Module, history_max: int) -> int | None:
    """Return the history width of the exported network, or ``None`` if it is dynamic.

    A GRU is traced step by step, so its histories are padded to ``history_max``, unless the network does so itself.
    """
    padded = any(getattr(module, "padded_width", None) is not None for module in network.modules())
    recurrent = not padded and any(isinstance(module, nn.RNNBase) for module in network.modules())
    return history_max if recurrent or history_max < _LEAST_DYNAMIC else None


def trace(
    network: ImpressionScores | SequenceScores, tensors: Mapping[str, Tensor], width: int | None, history_max: int
) -> ExportedProgram:
    """Return the network as a graph whose batch size, candidates and (where it can be) history width are dynamic.

    Args:
        network: in evaluation mode, on the CPU, in float32.
        tensors: name of each input that it reads -> example of at least three rows.
        width: history width, or ``None`` if it is dynamic.
        history_max: largest history width.
    """
    batch, history, candidates = Dim("batch"), Dim("history", max=max(history_max, 2)), Dim("candidates")
    second: dict[str, Any] = {"candidates": candidates}
    if width is None:
        second |= {"history": history, "time": history}
    shapes = {name: {0: batch} | ({1: second[name]} if name in second else {}) for name in tensors}
    with quiet(), kernel_mode("off"), device_forms(), torch.no_grad():
        return torch.export.export(network, (), dict(tensors), dynamic_shapes=shapes, strict=False)


def inputs_used(program: ExportedProgram) -> list[str]:
    """Return the names of the inputs on which a result depends."""
    wanted = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in wanted]
    return [node.name for node in nodes if node.users]
