"""The transformer layer of the sequential family: post-norm, without an output projection.

Released code of Wang et al., CIKM 2022 (spec/timirec.md section 2.1); SASRec there uses it as well.

Legend: B rows, L sequence length, D width, A heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.nn.kernels.dispatch import use_cpu_kernel
from stemlab.nn.kernels.embedding_lookup import Distinct
from stemlab.nn.kernels.transformer import transformer_layer, transformer_layer_of_rows

# Added to a masked score: its weight is exactly zero, and a row with nothing to attend to stays finite.
MASKED = -1e30


def padding_bias(history_BL: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return (B, 1, L): 0 at items, ``MASKED`` at padding, to be added to scores over the history."""
    return (history_BL == 0).to(dtype).mul_(MASKED).unsqueeze(1)


def causal_bias(length: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return (L, L): 0 where a position may look (itself and earlier ones), ``MASKED`` elsewhere."""
    return torch.full((length, length), MASKED, dtype=dtype, device=device).triu_(1)


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward layer as wide as the input, each with a residual and a layer norm after it.

    ``c = LN1(drop(attend(x)) + x);  y = LN2(drop(Lin2(relu(Lin1(c)))) + c)``

    Args:
        width: D.
        heads: A, a divisor of D; a head is D/A wide and scores are divided by sqrt(D/A).
        dropout: of the two branches, before their residuals.
    """

    def __init__(self, width: int, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)  # queries, keys and values in this order: one product
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, width)
        self.linear2 = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLD: Tensor, bias: Tensor) -> Tensor:
        """Return (B, L, D).

        Args:
            x_BLD: input.
            bias: added to the scores, broadcast to (B, L, L): ``padding_bias`` or ``causal_bias``.
        """
        if self._is_node(x_BLD):
            return transformer_layer(x_BLD, bias, self._weights())
        return self.after_attention(self.attend(x_BLD, bias), x_BLD)

    def of_rows(self, terms: Sequence[Distinct], bias: Tensor) -> Tensor:
        """Return (B, L, D) for an input that is the sum of ``terms``, each (B, L, D)."""
        if self._is_node(*(term.row_UD for term in terms)):
            return transformer_layer_of_rows(terms, bias, self._weights())
        output_BLD: Tensor = self(sum(term.vectors() for term in terms), bias)
        return output_BLD

    def _is_node(self, *inputs: Tensor) -> bool:
        no_dropout = not (self.training and self.dropout.p)
        return self.heads == 1 and no_dropout and use_cpu_kernel(*inputs, *self._weights())

    def _weights(self) -> list[Tensor]:
        parts = (self.qkv, self.norm1, self.linear1, self.linear2, self.norm2)
        return [p for part in parts for p in (part.weight, part.bias)]

    def attend(self, x_BLD: Tensor, bias: Tensor) -> Tensor:
        """Return the heads' contexts side by side, (B, L, D)."""
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
        """Return the layer's output (B, L, D), from the contexts and the layer's input."""
        state_BLD = self.norm1(self.dropout(context_BLD) + x_BLD)
        branch_BLD = self.linear2(functional.relu(self.linear1(state_BLD)))
        output_BLD: Tensor = self.norm2(self.dropout(branch_BLD) + state_BLD)
        return output_BLD
