"""From a history to several interest vectors, and how candidates are scored with them.

Legend: B rows, L history width, K interests, D width, N candidates, A attention width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stemlab.nn.attention import TransformerLayer, padding_bias
from stemlab.nn.kernels.attention_pooling import pool
from stemlab.nn.kernels.dispatch import use_cpu_kernel
from stemlab.nn.kernels.embedding_lookup import Distinct, look_up

FEW = 8  # candidates up to which a product of matrices takes longer than multiplying and adding up


def position_ids(length_B: Tensor, width: int) -> Tensor:
    """Return (B, L): the newest item of a history is 1, its oldest is n, padding is 0."""
    place_L = torch.arange(width, device=length_B.device)
    return (length_B.unsqueeze(1) - place_L).clamp_(min=0)


class SelfAttentiveExtractor(nn.Module):
    """Item states of a history -> K interests, each a softmax-weighted sum over the history.

    TiMiRec's extractor and, with ``pool_raw`` and without transformer, ComiRec's (spec/timirec.md sections 2 and 9).

    Args:
        history_max: longest history; the position table has one row more.
        width: D.
        attention_dim: A.
        interests: K.
        position_embedding: add a trained vector a position, counted from the newest item.
        transformer: one bidirectional transformer layer before the interests are formed.
        pool_raw: sum the plain item vectors instead of the states that the weights come from.
        mask_padding: padding takes no part. Without, every padded position counts as an item.
    """

    def __init__(
        self,
        history_max: int,
        width: int,
        attention_dim: int,
        interests: int,
        *,
        position_embedding: bool,
        transformer: bool,
        pool_raw: bool,
        mask_padding: bool,
    ) -> None:
        super().__init__()
        self.positions = nn.Embedding(history_max + 1, width) if position_embedding else None
        self.transformer = TransformerLayer(width) if transformer else None
        self.hidden = nn.Linear(width, attention_dim)
        self.weigh = nn.Linear(attention_dim, interests)
        self.pool_raw = pool_raw
        self.mask_padding = mask_padding

    def forward(self, items: Tensor | Distinct, history_BL: Tensor, length_B: Tensor) -> Tensor:
        """Return the interests (B, K, D).

        Args:
            items: item vectors of the history (B, L, D), or the same with every different one held once.
            history_BL: item ids, 0 = padding.
            length_B: true lengths.
        """
        if isinstance(items, Distinct) and (self.pool_raw or self.transformer is None):
            items = items.vectors()
        dtype = (items.row_UD if isinstance(items, Distinct) else items).dtype
        # Padding needs no zeroing: its weights are exactly zero.
        zero = torch.zeros(1, 1, dtype=dtype, device=history_BL.device)
        bias = padding_bias(history_BL, dtype) if self.mask_padding else zero
        state_BLD = self.states(items, length_B, bias)
        raw_BLD = items if self.pool_raw and isinstance(items, Tensor) else None
        weights = [p for part in (self.hidden, self.weigh) for p in (part.weight, part.bias)]
        if use_cpu_kernel(state_BLD, *weights):
            return pool(state_BLD, raw_BLD, bias, weights)
        weight_BKL = (self.scores(state_BLD).transpose(1, 2) + bias).softmax(dim=2)
        return weight_BKL @ (state_BLD if raw_BLD is None else raw_BLD)

    def states(self, items: Tensor | Distinct, length_B: Tensor, bias: Tensor) -> Tensor:
        """Return the states (B, L, D) from which the weights come; those at padding mean nothing.

        Args:
            items: item vectors of the history.
            length_B: true lengths.
            bias: added to the scores of attention.
        """
        place_BL = position_ids(length_B, (items.place if isinstance(items, Distinct) else items).shape[1])
        if isinstance(items, Distinct) and self.transformer is not None:
            positions = [] if self.positions is None else [Distinct(self.positions.weight, place_BL)]
            return self.transformer.of_rows([items, *positions], bias)
        item_BLD = items.vectors() if isinstance(items, Distinct) else items
        if self.positions is not None:
            item_BLD = item_BLD + look_up(self.positions.weight, place_BL)[0]
        state_BLD: Tensor = item_BLD if self.transformer is None else self.transformer(item_BLD, bias)
        return state_BLD

    def scores(self, state_BLD: Tensor) -> Tensor:
        """Return every position's score for every interest (B, L, K), before masking."""
        score_BLK: Tensor = self.weigh(torch.tanh(self.hidden(state_BLD)))
        return score_BLK


def dot_scores(vector_BD: Tensor, item_BND: Tensor) -> Tensor:
    """Return the score (B, N) of every candidate for one vector a row."""
    if item_BND.shape[1] <= FEW:
        return (item_BND * vector_BD.unsqueeze(1)).sum(dim=2)
    return torch.bmm(item_BND, vector_BD.unsqueeze(2)).squeeze(2)


def best_scores(interest_BKD: Tensor, item_BND: Tensor) -> Tensor:
    """Return the score (B, N) of every candidate for its best interest."""
    return torch.bmm(interest_BKD, item_BND.transpose(1, 2)).amax(dim=1)


def target_scores(interest_BKD: Tensor, item_BND: Tensor) -> Tensor:
    """Return the score (B, N) of every candidate for the interest nearest to the first one, by dot product.

    No gradient passes the choice.
    """
    score_BKN = torch.bmm(interest_BKD, item_BND.transpose(1, 2))
    nearest_B1N = score_BKN[:, :, :1].argmax(dim=1, keepdim=True).expand(-1, -1, item_BND.shape[1])
    return score_BKN.gather(1, nearest_B1N).squeeze(1)


class CapsuleRouting(nn.Module):
    """Item vectors of a history -> K capsules by dynamic routing, with a softmax over the capsules.

    MIND (Li et al., CIKM 2019) as released with TiMiRec (spec/timirec.md section 9): a shared bilinear map without
    bias, random starting logits, and gradients through the last iteration only.

    Args:
        width: D.
        iterations: routing iterations, at least 1.
        relu_layer: a linear layer with ReLU on every capsule.
    """

    def __init__(self, width: int, iterations: int, relu_layer: bool) -> None:
        super().__init__()
        self.map = nn.Linear(width, width, bias=False)
        self.output = nn.Sequential(nn.Linear(width, width), nn.ReLU()) if relu_layer else nn.Identity()
        self.iterations = iterations

    def forward(self, item_BLD: Tensor, history_BL: Tensor, logit_BKL: Tensor) -> Tensor:
        """Return the capsules (B, K, D).

        Args:
            item_BLD: item vectors of the history.
            history_BL: item ids, 0 = padding, which takes no part.
            logit_BKL: starting logits, N(0, 1).
        """
        mapped_BLD = self.map(item_BLD)
        fixed_BLD = mapped_BLD.detach()
        valid_B1L = (history_BL > 0).to(item_BLD.dtype).unsqueeze(1)
        for _ in range(self.iterations - 1):
            capsule_BKD = squash(torch.bmm(logit_BKL.softmax(dim=1) * valid_B1L, fixed_BLD))
            logit_BKL = torch.baddbmm(logit_BKL, capsule_BKD, fixed_BLD.transpose(1, 2))
        output_BKD: Tensor = self.output(squash(torch.bmm(logit_BKL.softmax(dim=1) * valid_B1L, mapped_BLD)))
        return output_BKD


def squash(vector_BKD: Tensor) -> Tensor:
    """Return the vectors at the length n^2 / (1 + n^2), n being their length; zero stays zero."""
    square_BK1 = vector_BKD.square().sum(dim=2, keepdim=True)
    return vector_BKD * (square_BK1 / (1 + square_BK1) / (square_BK1 + 1e-9).sqrt())
