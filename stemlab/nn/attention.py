"""Transformer layer of the sequential models: post-norm, without an output projection.

Released code of Wang et al., CIKM 2022 (docs/methods/timirec.md#transformer-layer); its SASRec uses the layer as well.

Legend: B batch, L sequence length, D width, A heads, d = D/A.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.nn.kernels.dispatch import use_cpu_kernel
from stemlab.nn.kernels.embedding_lookup import UniqueEmbeddings
from stemlab.nn.kernels.transformer import operations_available, transformer_layer
from stemlab.nn.kernels.transformer_inference import infer_transformer_layer

# Finite, so that a query whose keys are all masked gives no NaN; the weight of a masked key is exactly zero otherwise.
MASKED = -1e30


def padding_bias(history_BL: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the additive mask (B, 1, L) of a history: 0 at items, ``MASKED`` at padding (id 0)."""
    return (history_BL == 0).to(dtype).mul_(MASKED).unsqueeze(1)


def causal_bias(length: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the additive causal mask (L, L): 0 at the query's own and earlier positions, ``MASKED`` at later ones."""
    return torch.full((length, length), MASKED, dtype=dtype, device=device).triu_(1)


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward layer of the input's width, each followed by residual and layer norm.

    ``c = LN1(drop(attend(x)) + x);  y = LN2(drop(Lin2(relu(Lin1(c)))) + c)``

    Args:
        width: D.
        heads: A, a divisor of D; scores are divided by sqrt(d).
        dropout: of both branches, before the residual is added.
    """

    def __init__(self, width: int, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)  # queries, keys and values, in this order
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, width)
        self.linear2 = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLD: Tensor, bias: Tensor) -> Tensor:
        """Return the states (B, L, D).

        Args:
            x_BLD: input.
            bias: added to the scores, broadcast to (B, L, L): ``padding_bias`` or ``causal_bias``.
        """
        return self.after_attention(self.attend(x_BLD, bias), x_BLD)

    def forward_unique(self, terms: Sequence[UniqueEmbeddings], bias: Tensor) -> Tensor:
        """Return the states (B, L, D) for the input ``sum(term.dense() for term in terms)``.

        A CPU kernel runs if it applies: one head and no active dropout.
        """
        weights = [p for layer in self._layers() for p in (layer.weight, layer.bias)]
        has_kernel = self.heads == 1 and not (self.training and self.dropout.p)
        if has_kernel and use_cpu_kernel(*(term.row_UD for term in terms), *weights):
            if not torch.is_grad_enabled():
                return infer_transformer_layer(terms, bias, weights)
            if operations_available():
                return transformer_layer(terms, bias, weights)
        output_BLD: Tensor = self(sum(term.dense() for term in terms), bias)
        return output_BLD

    def _layers(self) -> tuple[nn.Linear | nn.LayerNorm, ...]:
        return self.qkv, self.norm1, self.linear1, self.linear2, self.norm2

    def attend(self, x_BLD: Tensor, bias: Tensor) -> Tensor:
        """Return the concatenated contexts of the heads, (B, L, D)."""
        B, L, D = x_BLD.shape
        if self.heads == 1:
            query_BLD, key_BLD, value_BLD = self.qkv(x_BLD).split(D, dim=2)
            score_BLL = torch.baddbmm(bias, query_BLD, key_BLD.transpose(1, 2), alpha=D**-0.5)
            return torch.bmm(score_BLL.softmax(dim=2), value_BLD)
        heads = self.qkv(x_BLD).view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mask = bias.unsqueeze(1) if bias.dim() == 3 else bias
        context_BALd = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], mask.to(heads.dtype))
        return context_BALd.transpose(1, 2).reshape(B, L, D)

    def after_attention(self, context_BLD: Tensor, x_BLD: Tensor) -> Tensor:
        """Return the layer's output (B, L, D) from the contexts and the layer's input."""
        state_BLD = self.norm1(self.dropout(context_BLD) + x_BLD)
        branch_BLD = self.linear2(functional.relu(self.linear1(state_BLD)))
        output_BLD: Tensor = self.norm2(self.dropout(branch_BLD) + state_BLD)
        return output_BLD
