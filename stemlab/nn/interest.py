"""Interest extractors: history -> K interest vectors, and the scores of candidates.

Legend: B batch, L history width, K interests, D width, N candidates, A attention width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stemlab.nn.attention import TransformerLayer, padding_bias
from stemlab.nn.kernels.dispatch import use_cpu_kernel
from stemlab.nn.kernels.embedding_lookup import UniqueEmbeddings

_FEW_CANDIDATES = 8  # up to this number, multiply and sum takes less time than torch.bmm


def position_ids(length_B: Tensor, width: int) -> Tensor:
    """Return the position ids (B, L): n at the oldest item of a history of n items, 1 at the newest, 0 at padding."""
    offset_L = torch.arange(width, device=length_B.device)
    return (length_B.unsqueeze(1) - offset_L).clamp_(min=0)


class SelfAttentiveExtractor(nn.Module):
    """Item embeddings of a history -> K interests, each an attention-weighted sum over the history.

    ``s = transformer(e + p);  a_k = softmax_j(W2 tanh(W1 s_j + b1) + b2)_k;  v_k = sum_j a_kj s_j``

    Extractor of TiMiRec (docs/methods/timirec.md#extractor) and, with ``pool_raw`` and without transformer, of ComiRec
    (docs/methods/sequential.md#comirec).

    Args:
        history_max: longest history; the position table has one row more.
        width: D.
        attention_dim: A.
        interests: K.
        position_embedding: add a trained vector p per position, counted from the newest item.
        transformer: apply one bidirectional transformer layer before the attention.
        pool_raw: sum the item embeddings e instead of the states s.
        mask_padding: mask padding; if False, every padded position counts as an item.
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

    def forward(self, items: Tensor | UniqueEmbeddings, history_BL: Tensor, length_B: Tensor) -> Tensor:
        """Return the interests (B, K, D).

        Args:
            items: item embeddings of the history, (B, L, D) or deduplicated.
            history_BL: item ids, 0 = padding.
            length_B: numbers of items.
        """
        if isinstance(items, UniqueEmbeddings) and (self.pool_raw or self.transformer is None):
            items = items.dense()
        bias = self._padding_bias(history_BL)
        state_BLD = self.states(items, length_B, bias)
        weight_BKL = (self.scores(state_BLD).transpose(1, 2) + bias).softmax(dim=2)
        # Padding is not zeroed: its weights are exactly zero.
        return weight_BKL @ (items if self.pool_raw and isinstance(items, Tensor) else state_BLD)

    def _padding_bias(self, history_BL: Tensor) -> Tensor:
        """Return the additive mask of the attention scores, broadcast to (B, 1, L)."""
        dtype = self.hidden.weight.dtype
        if self.mask_padding:
            return padding_bias(history_BL, dtype)
        return torch.zeros(1, 1, dtype=dtype, device=history_BL.device)

    def states(self, items: Tensor | UniqueEmbeddings, length_B: Tensor, bias: Tensor) -> Tensor:
        """Return the states s (B, L, D); those at padding are arbitrary.

        Args:
            items: item embeddings of the history.
            length_B: numbers of items.
            bias: added to the scores of the transformer.
        """
        width = (items.index if isinstance(items, UniqueEmbeddings) else items).shape[1]
        position_BL = position_ids(length_B, width)
        if isinstance(items, UniqueEmbeddings):
            assert self.transformer is not None
            positions = [] if self.positions is None else [UniqueEmbeddings(self.positions.weight, position_BL)]
            return self.transformer.forward_unique([items, *positions], bias)
        input_BLD = items if self.positions is None else items + self.positions(position_BL)
        state_BLD: Tensor = input_BLD if self.transformer is None else self.transformer(input_BLD, bias)
        return state_BLD

    def scores(self, state_BLD: Tensor) -> Tensor:
        """Return the attention scores (B, L, K) before masking."""
        if torch.is_grad_enabled() or not use_cpu_kernel(state_BLD):
            score_BLK: Tensor = self.weigh(torch.tanh(self.hidden(state_BLD)))
            return score_BLK
        # A CPU takes less time for few features of many positions if the positions are the last dimension.
        hidden_AT = torch.addmm(self.hidden.bias.unsqueeze(1), self.hidden.weight, state_BLD.flatten(0, 1).t()).tanh_()
        score_KT = torch.addmm(self.weigh.bias.unsqueeze(1), self.weigh.weight, hidden_AT)
        return score_KT.t().view(*state_BLD.shape[:2], -1)


def dot_scores(vector_BD: Tensor, item_BND: Tensor) -> Tensor:
    """Return the scores (B, N) of the candidates: dot products with one vector per user."""
    if item_BND.shape[1] <= _FEW_CANDIDATES:
        return (item_BND * vector_BD.unsqueeze(1)).sum(dim=2)
    return torch.bmm(item_BND, vector_BD.unsqueeze(2)).squeeze(2)


def best_scores(interest_BKD: Tensor, item_BND: Tensor) -> Tensor:
    """Return the scores (B, N) of the candidates: the largest dot product over the interests."""
    return torch.bmm(interest_BKD, item_BND.transpose(1, 2)).amax(dim=1)


def target_scores(interest_BKD: Tensor, item_BND: Tensor) -> Tensor:
    """Return the scores (B, N) of the candidates for the interest with the largest dot product with candidate 0.

    The argmax has no gradient.
    """
    if item_BND.shape[1] <= _FEW_CANDIDATES:
        nearest_B = dot_scores(item_BND[:, 0].detach(), interest_BKD.detach()).argmax(dim=1)
        nearest_B1D = nearest_B.view(-1, 1, 1).expand(-1, 1, interest_BKD.shape[2])
        return dot_scores(interest_BKD.gather(1, nearest_B1D).squeeze(1), item_BND)
    score_BKN = torch.bmm(interest_BKD, item_BND.transpose(1, 2))
    nearest_B1N = score_BKN[:, :, :1].argmax(dim=1, keepdim=True).expand(-1, -1, item_BND.shape[1])
    return score_BKN.gather(1, nearest_B1N).squeeze(1)


class CapsuleRouting(nn.Module):
    """Item embeddings of a history -> K capsules by dynamic routing, with a softmax over the capsules.

    MIND (Li et al., CIKM 2019) as released with TiMiRec (docs/methods/sequential.md#mind): one shared linear map
    without bias, random initial logits, gradients through the last iteration only.

    Args:
        width: D.
        iterations: routing iterations, at least 1.
        relu_layer: apply a linear layer with ReLU to every capsule.
    """

    def __init__(self, width: int, iterations: int, relu_layer: bool) -> None:
        super().__init__()
        self.map = nn.Linear(width, width, bias=False)
        self.output = nn.Sequential(nn.Linear(width, width), nn.ReLU()) if relu_layer else nn.Identity()
        self.iterations = iterations

    def forward(self, item_BLD: Tensor, history_BL: Tensor, logit_BKL: Tensor) -> Tensor:
        """Return the capsules (B, K, D).

        Args:
            item_BLD: item embeddings of the history.
            history_BL: item ids; 0 = padding, which is masked.
            logit_BKL: initial logits, N(0, 1).
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
    """Return the vectors scaled from norm n to norm n^2 / (1 + n^2); zero stays zero."""
    square_BK1 = vector_BKD.square().sum(dim=2, keepdim=True)
    return vector_BKD * (square_BK1 / (1 + square_BK1) / (square_BK1 + 1e-9).sqrt())
