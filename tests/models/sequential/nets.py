"""Small sequential networks and batches for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.sequential.base import SequenceNet
from stemlab.models.sequential.bprmf import BPRMF
from stemlab.models.sequential.gru4rec import GRU4Rec
from stemlab.models.sequential.lightgcn import LightGCN
from stemlab.models.sequential.pop import POP
from stemlab.models.sequential.sasrec import SASRec
from stemlab.models.sequential.tisasrec import TiSASRec
from stemlab.models.sequential.youtube import YouTube

SIZES = SequenceSizes(users=9, items=23, history_max=7)
NETS = {net.__name__: net for net in (YouTube, GRU4Rec, SASRec, TiSASRec, BPRMF, LightGCN, POP)}
SETTINGS: dict[str, dict[str, Any]] = {
    "YouTube": {"embedding_dim": 8},
    "GRU4Rec": {"embedding_dim": 8, "hidden_dim": 5},
    "SASRec": {"embedding_dim": 8, "num_layers": 2, "num_heads": 4},
    "TiSASRec": {"embedding_dim": 8, "num_layers": 2, "num_heads": 2, "time_max": 11},
    "BPRMF": {"embedding_dim": 8},
    "LightGCN": {"embedding_dim": 8, "num_layers": 2},
    "POP": {},
}
READING = ("YouTube", "GRU4Rec", "SASRec", "TiSASRec")  # networks that read the history
TRAINED = [name for name, net in NETS.items() if net.needs_training]


def build(name: str, seed: int = 0, **settings: Any) -> SequenceNet:
    """Return a small network with random parameters after ``observe(*pairs())``."""
    torch.manual_seed(seed)
    net = NETS[name](SIZES, **{**SETTINGS[name], **settings})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.5)
    net.observe(*pairs())
    return net


def pairs(count: int = 60) -> tuple[Tensor, Tensor]:
    """Return random training pairs with duplicates; the last user and the last item are in none."""
    generator = torch.Generator().manual_seed(5)
    user = torch.randint(1, SIZES.users, (count,), generator=generator)
    return user, torch.randint(1, SIZES.items, (count,), generator=generator)


def random_batch(samples: int = 12, candidates: int = 3, seed: int = 7) -> SequenceBatch:
    """Return random samples; the first two have history lengths 1 and 7."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=generator)

    longest = SIZES.history_max
    length_B = draw(1, longest, samples)
    length_B[:2] = torch.tensor([1, longest])[:samples]
    valid_BL = torch.arange(longest) < length_B.unsqueeze(1)
    return SequenceBatch(
        user_B=draw(1, SIZES.users, samples),
        history_BL=draw(1, SIZES.items, samples, longest) * valid_BL,
        length_B=length_B,
        candidates_BN=draw(1, SIZES.items, samples, candidates),
        time_BL=draw(1, 900, samples, longest).cumsum(1) * valid_BL,
        unit_B=draw(20, 200, samples),
    )
