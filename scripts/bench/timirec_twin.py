"""TiMiRec and its training step in plain PyTorch: the baseline of ``sequence_step.py``.

One lookup per occurrence of an item, three projections in the attention, masks with infinities, the score maximum of
the whole batch subtracted, a packed GRU over sorted rows, torch.optim.Adam with its defaults. Parameters have the names
of the released code; the method is that of Wang et al., CIKM 2022 (docs/methods/timirec.md).

Legend: B batch, L history width, N candidates, K interests, D width, A attention width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence


class Head(nn.Module):
    """Attention without an output projection; ``mask`` is 1 for visible keys."""

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear, self.k_linear, self.v_linear = (nn.Linear(width, width) for _ in range(3))

    def split(self, x_BLD: Tensor) -> Tensor:
        """Return (B, heads, L, D / heads)."""
        return x_BLD.view(*x_BLD.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, x_BLD: Tensor, mask: Tensor) -> Tensor:
        """Return the contexts of all heads, concatenated (B, L, D)."""
        query, key, value = (self.split(linear(x_BLD)) for linear in (self.q_linear, self.k_linear, self.v_linear))
        score = torch.matmul(query, key.transpose(2, 3)) / query.shape[-1] ** 0.5
        return (attention(score, mask) @ value).transpose(1, 2).reshape(x_BLD.shape)


def attention(score: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over the last axis; rows without visible keys are zero."""
    score = score.masked_fill(mask == 0, -torch.inf)
    weight = (score - score.max()).softmax(dim=-1)
    return weight.masked_fill(torch.isnan(weight), 0)


class Transformer(nn.Module):
    """Post-norm layer with a feed-forward part as wide as its input."""

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()
        self.masked_attn_head = Head(width, heads)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout1, self.dropout2 = nn.Dropout(0.0), nn.Dropout(0.0)

    def forward(self, x_BLD: Tensor, mask: Tensor) -> Tensor:
        """Return (B, L, D)."""
        context = self.layer_norm1(self.dropout1(self.masked_attn_head(x_BLD, mask)) + x_BLD)
        branch = self.linear2(self.linear1(context).relu())
        return self.layer_norm2(self.dropout2(branch) + context)


class Extractor(nn.Module):
    """History -> K interests; owns the item table of history and candidates."""

    def __init__(self, items: int, history_max: int, config: dict) -> None:
        super().__init__()
        width, K = config["emb_size"], config["K"]
        self.i_embeddings = nn.Embedding(items, width)
        if config["add_pos"]:
            self.p_embeddings = nn.Embedding(history_max + 1, width)
        self.W1, self.W2 = nn.Linear(width, config["attn_size"]), nn.Linear(config["attn_size"], K)
        if config["add_trm"]:
            self.transformer = Transformer(width)

    def forward(self, history_BL: Tensor, length_B: Tensor) -> Tensor:
        """Return (B, K, D)."""
        valid = (history_BL > 0).long()
        state = self.i_embeddings(history_BL)
        if hasattr(self, "p_embeddings"):
            state = state + self.p_embeddings(positions(history_BL, length_B))
        if hasattr(self, "transformer"):
            state = self.transformer(state, valid.view(len(valid), 1, 1, -1)) * valid.unsqueeze(2).float()
        return pool(self.W2(self.W1(state).tanh()), valid, state)


def positions(history_BL: Tensor, length_B: Tensor) -> Tensor:
    """Return (B, L) positions: n - j at item j, 0 at padding."""
    index_L = torch.arange(history_BL.shape[1])
    return (length_B.unsqueeze(1) - index_L.unsqueeze(0)) * (history_BL > 0).long()


def pool(score_BLK: Tensor, valid_BL: Tensor, vector_BLD: Tensor) -> Tensor:
    """Return (B, K, D): one weighted sum of the vectors per score column."""
    score = score_BLK.masked_fill(valid_BL.unsqueeze(2) == 0, -torch.inf).transpose(1, 2)
    weight = (score - score.max()).softmax(dim=-1)
    weight = weight.masked_fill(torch.isnan(weight), 0)
    return (vector_BLD.unsqueeze(1) * weight.unsqueeze(3)).sum(dim=2)


class Predictor(nn.Module):
    """A GRU on an item table of its own."""

    def __init__(self, items: int, width: int) -> None:
        super().__init__()
        self.i_embeddings = nn.Embedding(items + 1, width)
        self.rnn = nn.GRU(width, width, batch_first=True)

    def forward(self, history_BL: Tensor, length_B: Tensor) -> Tensor:
        """Return the last states (B, D)."""
        return packed_gru(self.rnn, self.i_embeddings(history_BL), length_B)


def packed_gru(rnn: nn.GRU, vector_BLD: Tensor, length_B: Tensor) -> Tensor:
    """Return the last state of every history (B, H)."""
    length, order = length_B.sort(descending=True)
    packed = pack_padded_sequence(vector_BLD.index_select(0, order), length.cpu(), batch_first=True)
    return rnn(packed)[1][-1].index_select(0, order.argsort())


class PlainTiMiRec(nn.Module):
    """Both stages; tables have ``items`` rows, padding included."""

    def __init__(self, items: int, history_max: int, config: dict) -> None:
        super().__init__()
        self.interest_extractor = Extractor(items, history_max, config)
        self.temperature, self.finetune = config["temp"], config["stage"] == "finetune"
        if self.finetune:
            width = config["emb_size"]
            self.interest_predictor = Predictor(items, width)
            self.proj = nn.Sequential()
            for number in range(config["n_layers"] - 1):
                self.proj.add_module(f"proj_{number}", nn.Linear(width, width))
                self.proj.add_module(f"dropout_{number}", nn.Dropout(0.5))
                self.proj.add_module(f"relu_{number}", nn.ReLU())
            self.proj.add_module("proj_final", nn.Linear(width, config["K"]))

    def forward(self, history_BL: Tensor, length_B: Tensor, item_BN: Tensor, training: bool) -> dict[str, Tensor]:
        """Return ``prediction`` and, in stage finetune, ``pred_intent`` and ``target_intent``."""
        item = self.interest_extractor.i_embeddings(item_BN)
        interest = self.interest_extractor(history_BL, length_B)
        if not self.finetune:
            return {"prediction": hard_scores(interest, item, training)}
        intent = self.proj(self.interest_predictor(history_BL, length_B))
        user = (interest * intent.softmax(dim=-1).unsqueeze(2)).sum(dim=1)
        found = {"prediction": (user.unsqueeze(1) * item).sum(dim=-1), "pred_intent": intent}
        if training:
            target = functional.normalize(item[:, 0], dim=-1)
            found["target_intent"] = (functional.normalize(interest, dim=-1) * target.unsqueeze(1)).sum(dim=-1)
        return found

    def loss(self, out: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return ``bpr`` and, in stage finetune, ``kl_times_tempsq``."""
        parts = {"bpr": bpr(out["prediction"])}
        if "target_intent" in out:
            intent = functional.log_softmax(out["pred_intent"] / self.temperature, dim=1)
            target = functional.softmax(out["target_intent"].detach() / self.temperature, dim=1)
            parts["kl_times_tempsq"] = self.temperature**2 * nn.KLDivLoss(reduction="batchmean")(intent, target)
        return parts


def hard_scores(interest_BKD: Tensor, item_BND: Tensor, training: bool) -> Tensor:
    """Return (B, N) scores: by the target's best interest in training, by each candidate's best one otherwise."""
    if training:
        nearest = (interest_BKD * item_BND[:, 0].unsqueeze(1)).sum(dim=-1).max(dim=-1)[1]
        user = interest_BKD[torch.arange(len(nearest)), nearest]
        return (user.unsqueeze(1) * item_BND).sum(dim=-1)
    return (interest_BKD.unsqueeze(2) * item_BND.unsqueeze(1)).sum(dim=-1).max(dim=1)[0]


def bpr(score_BN: Tensor) -> Tensor:
    """Return the ranking loss."""
    positive, negatives = score_BN[:, 0], score_BN[:, 1:]
    weight = (negatives - negatives.max()).softmax(dim=1)
    return -((positive.unsqueeze(1) - negatives).sigmoid() * weight).sum(dim=1).log().mean()


def plain_adam(net: nn.Module, lr: float, l2: float) -> torch.optim.Adam:
    """Return torch.optim.Adam; parameters whose name contains "bias" have no weight decay."""
    named = list(net.named_parameters())
    groups = [
        {"params": [p for name, p in named if "bias" not in name], "weight_decay": l2},
        {"params": [p for name, p in named if "bias" in name], "weight_decay": 0.0},
    ]
    return torch.optim.Adam(groups, lr=lr)
