"""One-head transformer layer on unique embeddings without gradients, on the CPU.

The reference is ``TransformerLayer`` (docs/methods/timirec.md#transformer-layer); the key projection is merged into the
query as in ``transformer.py``. Without a backward pass, results replace their inputs, and input, query and value of a
position are read together.

Legend: B batch, L sequence length, D width, T = B * L positions, U rows of all tables, N tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stemlab.nn.kernels.embedding_lookup import UniqueEmbeddings, sum_rows
from stemlab.nn.kernels.transformer import query_and_value_weights


def infer_transformer_layer(terms: Sequence[UniqueEmbeddings], bias: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the output (B, L, D) of the layer for the input ``sum(term.dense() for term in terms)``.

    Args:
        terms: unique embeddings with indices (B, L).
        bias: added to the scores; broadcast to (B, L, L).
        weights: as for ``transformer_layer``.
    """
    w_qkv, b_qkv, g1, e1, w1, b1, w2, b2, g2, e2 = weights
    (B, L), D = terms[0].index.shape, w_qkv.shape[1]
    tables = [term.row_UD for term in terms]
    projected_UX = terms[0].compute(w_qkv, lambda: project_tables(tables, w_qkv, b_qkv))
    first = [0, *itertools.accumulate(len(table) for table in tables)]
    index_TN = torch.stack([term.index.flatten() + start for term, start in zip(terms, first, strict=False)], dim=1)
    x_BLD, query_BLD, value_BLD = torch.split(sum_rows(projected_UX, index_TN).view(B, L, 3 * D), D, dim=2)
    weight_BLL = torch.bmm(query_BLD, x_BLD.transpose(1, 2)).add_(bias).softmax(2)
    attended_TD = torch.bmm(weight_BLL, value_BLD).add_(x_BLD).view(B * L, D)  # baddbmm would copy x first
    # The bias of the second linear layer is added to the first norm, whose output is the residual of that layer.
    residual_TD = functional.layer_norm(attended_TD, (D,), g1, e1 + b2)
    hidden_TD = torch.addmm(torch.addmv(b1, w1, b2, alpha=-1), residual_TD, w1.t()).relu_()
    output_TD = functional.layer_norm(residual_TD.addmm_(hidden_TD, w2.t()), (D,), g2, e2)
    return output_TD.view(B, L, D)


def project_tables(tables: Sequence[Tensor], w_qkv: Tensor, b_qkv: Tensor) -> Tensor:
    """Return ``[x, merged query, value]`` (U, 3D) of the rows of all tables; the first one's contain the biases."""
    weight, bias = query_and_value_weights(w_qkv, b_qkv)
    table_UD = torch.cat(list(tables))
    projected_UX = torch.cat([table_UD, functional.linear(table_UD, weight)], dim=1)
    projected_UX[: len(tables[0]), w_qkv.shape[1] :] += bias  # every sum contains one row of the first table
    return projected_UX
