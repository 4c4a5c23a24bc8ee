"""Embedding tables whose optimiser is part of the backward pass: operators of FBGEMM, the library under TorchRec.

The backward pass of a lookup updates the rows; the tables have no gradient (docs/methods/tables.md#torchrec).

Legend: B samples, F fields, W width of a row, V rows of a table, N lookups of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn

from stemlab.errors import StemlabError
from stemlab.nn.embedding import FieldEmbedding, field_embeddings

_WIDTH_UNIT = 4
"""FBGEMM needs tables whose width is a multiple of it."""


class FusedFields:
    """Lookups in the tables of a ``FieldEmbedding`` that FBGEMM trains with row-wise Adagrad.

    The weights of the tables become views of one tensor of FBGEMM, so that the names in a state do not change.

    Args:
        embedding: the embedding, on the device of the training.
        eps: added to the root of the sum of squares.
        l1: L1 penalty of the rows of a batch.
        l2: L2 penalty of the rows of a batch.

    Attributes:
        tables: the trained tables.
        row_sums: sum of squares of each row (V,) of each table.
        rate: returns the learning rate.
        active: whether lookups train the tables.

    Raises:
        StemlabError: FBGEMM or its operators for the device are missing, or a width is not a multiple of 4.
    """

    def __init__(self, embedding: FieldEmbedding, eps: float, l1: float, l2: float) -> None:
        self.active, self.rate = True, _no_rate
        self._l1, self._l2, self._all = l1, l2, embedding.tables
        chosen = [n for n, weight in enumerate(embedding.weights()) if weight.requires_grad]
        self._slot = {table: slot for slot, table in enumerate(chosen)}
        self.tables = [cast(nn.Embedding, embedding.tables[table]) for table in chosen]
        if embedding.lists is not None:
            raise StemlabError(
                "optim.tables=torchrec_rowwise_adagrad does not look up lists: set optim.tables=rowwise_adagrad."
            )
        if any(str(n) in (embedding.projections or {}) for n in chosen):
            raise StemlabError(
                "optim.tables=torchrec_rowwise_adagrad does not train vectors of model.pretrained that are projected: "
                "set optim.tables=rowwise_adagrad, or freeze them."
            )
        self._padded = any(table.padding_idx is not None for table in self.tables)
        # features of one table must be neighbours
        positions = [*embedding.table_of, *([] if embedding.scenario_table is None else [embedding.scenario_table])]
        fields = [field for field, table in enumerate(positions) if table in self._slot]
        self._order = sorted(fields, key=lambda field: self._slot[positions[field]])
        slots = [self._slot[positions[field]] for field in self._order]
        device = self.tables[0].weight.device
        self._operator = _operator([tuple(table.weight.shape) for table in self.tables], slots, eps, device)
        starts = [0]
        for table, view in zip(self.tables, self._operator.split_embedding_weights(), strict=True):
            view.data.copy_(table.weight.detach())
            table.weight.data = view.detach()
            starts.append(starts[-1] + len(view))
        self.row_sums: list[Tensor] = [states[0] for states in self._operator.split_optimizer_states()]
        self._start_F1 = torch.tensor([starts[slot] for slot in slots], device=device)[:, None]
        self._memory = [table.weight.data_ptr() for table in self.tables]
        self._offset_N = torch.zeros(0, dtype=torch.int64, device=device)
        self._current_rate = 0.0

    def is_used(self) -> bool:
        """Return whether a lookup now trains the tables."""
        return self.active and torch.is_grad_enabled()

    def look_up(self, ids: Sequence[Tensor], tables: Sequence[int]) -> list[Tensor]:
        """Return the embeddings (B, W) of each field; the backward pass updates the rows once.

        Args:
            ids: for each field, (B,).
            tables: for each field, the position of its table.

        Raises:
            RuntimeError: the memory of the tables was replaced after the optimiser was built.
        """
        if self._memory != [table.weight.data_ptr() for table in self.tables]:
            raise RuntimeError("the memory of tables that FBGEMM trains was replaced: copy values into the weights.")
        id_FB = torch.stack([ids[field] for field in self._order]).long()
        if (rate := self.rate()) != self._current_rate:
            self._operator.set_learning_rate(rate)
            self._current_rate = rate
        if len(self._offset_N) != id_FB.numel() + 1:
            self._offset_N = torch.arange(id_FB.numel() + 1, device=id_FB.device)
        found = self._operator(id_FB.flatten(), self._offset_N)
        row_BFW: Tensor = found.view(id_FB.shape[1], len(self._order), -1)
        row_BFW.register_hook(self._gradient(id_FB, row_BFW.detach()))  # type: ignore[no-untyped-call]
        if self._padded:
            row_BFW = row_BFW * (id_FB != 0).t().unsqueeze(2)
        rows = dict(zip(self._order, row_BFW.unbind(1), strict=True))
        return [
            rows[field] if field in rows else self._all[table](own)
            for field, (own, table) in enumerate(zip(ids, tables, strict=True))
        ]

    def _gradient(self, id_FB: Tensor, row_BFW: Tensor) -> Callable[[Tensor], Tensor | None]:
        """Return a hook that adds the penalty to the gradient of the rows, and refuses a second backward pass."""
        used = False

        def hook(grad_BFW: Tensor) -> Tensor | None:
            nonlocal used
            if used:
                raise StemlabError(
                    "optim.tables=torchrec_rowwise_adagrad updates the tables in the backward pass, and a second one "
                    "was made through the same lookup: set optim.tables=rowwise_adagrad."
                )
            used = True
            if not (self._l1 or self._l2):
                return None
            # each row is penalised once: its lookups share the penalty
            _, index_FB, counts = torch.unique(id_FB + self._start_F1, return_inverse=True, return_counts=True)
            share_BF1 = counts[index_FB].t().unsqueeze(2).to(row_BFW.dtype).reciprocal()
            penalty_BFW = self._l2 * row_BFW + (self._l1 * row_BFW.sign() if self._l1 else 0)
            return torch.addcmul(grad_BFW, penalty_BFW, share_BF1)

        return hook


def fuse_tables(net: nn.Module, eps: float, l1: float, l2: float) -> list[FusedFields]:
    """Let FBGEMM train the tables of all ``FieldEmbedding`` of a network; changes their memory in place.

    Raises:
        StemlabError: there are none, or FBGEMM cannot train them.
    """
    embeddings = field_embeddings(net)
    for embedding in embeddings:
        if any(weight.requires_grad for weight in embedding.weights()):
            embedding.fused = FusedFields(embedding, eps, l1, l2)
    fused = [embedding.fused for embedding in embeddings if embedding.fused is not None]
    if not fused:
        raise StemlabError(
            f"optim.tables=torchrec_rowwise_adagrad trains embedding tables of fields, but {type(net).__name__} has "
            "none: set optim.tables=dense_adam."
        )
    return fused


@contextmanager
def plain_lookups(net: nn.Module) -> Iterator[None]:
    """Let a backward pass inside the ``with`` block compute gradients of the tables instead of updating them."""
    fused = [embedding.fused for embedding in field_embeddings(net) if embedding.fused is not None]
    for fields in fused:
        fields.active = False
    try:
        yield
    finally:
        for fields in fused:
            fields.active = True


def _operator(shapes: Sequence[tuple[int, ...]], slots: Sequence[int], eps: float, device: torch.device) -> Any:
    """Return the operator of FBGEMM for tables of the same width; ``slots`` has the table of each field, ascending."""
    if find_spec("fbgemm_gpu") is None:
        raise StemlabError("optim.tables=torchrec_rowwise_adagrad needs TorchRec and FBGEMM: run `make torchrec`.")
    width = shapes[0][1]
    if width % _WIDTH_UNIT:
        raise StemlabError(
            f"optim.tables=torchrec_rowwise_adagrad needs tables whose width is a multiple of {_WIDTH_UNIT}, not "
            f"{width}: change model.net.embedding_dim, or set optim.tables=rowwise_adagrad."
        )
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation, PoolingMode
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    place = (EmbeddingLocation.HOST, ComputeDevice.CPU)
    if device.type != "cpu":
        _check_gpu_operators()
        place = (EmbeddingLocation.DEVICE, ComputeDevice.CUDA)
    return SplitTableBatchedEmbeddingBagsCodegen(
        [(rows, columns, *place) for rows, columns in shapes],
        feature_table_map=list(slots),
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        eps=eps,
        pooling_mode=PoolingMode.SUM,  # of one row per field and sample
        bounds_check_mode=BoundsCheckMode.FATAL,
        device=device,
    )


def _check_gpu_operators() -> None:
    """Raise StemlabError if the installed FBGEMM has no operators for GPUs."""
    if not torch._C._dispatch_has_kernel_for_dispatch_key("fbgemm::bounds_check_indices", "CUDA"):
        raise StemlabError(
            "optim.tables=torchrec_rowwise_adagrad: the installed FBGEMM has no operators for GPUs "
            "(docs/methods/tables.md#torchrec)."
        )


def _no_rate() -> float:
    raise RuntimeError("the optimiser of the tables has not been built.")
