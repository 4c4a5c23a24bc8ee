"""The published baselines of the sequential family: their settings and names -> ours, and what they compute on the way.

Legend: B rows, L history width, D width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.models.sequential.base import SequenceNet
from stemlab.models.sequential.bprmf import BPRMF
from stemlab.models.sequential.gru4rec import GRU4Rec
from stemlab.models.sequential.lightgcn import LightGCN
from stemlab.models.sequential.pop import POP
from stemlab.models.sequential.sasrec import SASRec
from stemlab.models.sequential.tisasrec import TiSASRec
from stemlab.models.sequential.youtube import YouTube
from stemlab.nn.interest import position_ids

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Baseline:
    """One model of the published code.

    Attributes:
        net: our class.
        settings: published setting -> ours.
        fixed: our settings without a published counterpart.
        names: published name or its beginning -> ours.
    """

    net: type[SequenceNet]
    settings: Mapping[str, str] = field(default_factory=lambda: {"emb_size": "embedding_dim"})
    fixed: Settings = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def ours(self, group: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a group of arrays, one a parameter, under our names; queries, keys and values become one.

        Raises:
            KeyError: a name that nothing of ours answers to.
        """
        made = {self._name(name): value for name, value in group.items() if not name.endswith(PROJECTIONS)}
        for name in group:
            if match := re.fullmatch(r"transformer_block\.(\d+)\.masked_attn_head\.q_linear\.(\w+)", name):
                parts = [group[name.replace("q_linear", part)] for part in ("q_linear", "k_linear", "v_linear")]
                made[f"layers.{match[1]}.qkv.{match[2]}"] = torch.cat(parts)
        return made

    def _name(self, name: str) -> str:
        if match := re.fullmatch(r"transformer_block\.(\d+)\.(?:layer_)?(norm[12]|linear[12])\.(\w+)", name):
            return "layers.{}.{}.{}".format(*match.groups())
        theirs = next((theirs for theirs in self.names if name == theirs or name.startswith(theirs + ".")), None)
        if theirs is None:
            raise KeyError(name)
        return self.names[theirs] + name[len(theirs) :]


PROJECTIONS = tuple(f"{part}_linear.{kind}" for part in "qkv" for kind in ("weight", "bias"))
WIDTH = {"emb_size": "embedding_dim"}
LAYERS = {**WIDTH, "num_layers": "num_layers", "num_heads": "num_heads", "dropout": "dropout"}
ITEMS = {"i_embeddings": "items"}
BASELINES = {
    "YouTube": Baseline(YouTube, WIDTH, {"padding": "published"}, {**ITEMS, "layer": "layer"}),
    "GRU4Rec": Baseline(GRU4Rec, {**WIDTH, "hidden_size": "hidden_dim"}, {}, {**ITEMS, "rnn": "gru", "out": "output"}),
    "SASRec": Baseline(SASRec, LAYERS, {}, {**ITEMS, "p_embeddings": "positions"}),
    "TiSASRec": Baseline(
        TiSASRec,
        {**LAYERS, "time_max": "time_max"},
        {},
        {
            **ITEMS,
            "p_k_embeddings": "position_keys",
            "p_v_embeddings": "position_values",
            "t_k_embeddings": "gap_keys",
            "t_v_embeddings": "gap_values",
        },
    ),
    "BPRMF": Baseline(BPRMF, WIDTH, {}, {**ITEMS, "u_embeddings": "users"}),
    "LightGCN": Baseline(
        LightGCN,
        {**WIDTH, "n_layers": "num_layers"},
        {},
        {
            "encoder.embedding_dict.item_emb": "items.weight",
            "encoder.embedding_dict.user_emb": "users.weight",
        },
    ),
    "POP": Baseline(POP, {}),
}


def _last(net: SequenceNet, batch: SequenceBatch) -> dict[str, Tensor]:
    return {"out": net.represent(batch).squeeze(1), "layer": net.represent(batch).squeeze(1)}


def _sasrec(net: SequenceNet, batch: SequenceBatch) -> dict[str, Tensor]:
    assert isinstance(net, SASRec)
    state_BLD = net.items(batch.history_BL) + net.positions(position_ids(batch.length_B, batch.history_BL.shape[1]))
    seen = {}
    for number, layer in enumerate(net.layers):
        state_BLD = seen[f"transformer_block.{number}"] = layer(state_BLD)
    return seen


def _tisasrec(net: SequenceNet, batch: SequenceBatch) -> dict[str, Tensor]:
    assert isinstance(net, TiSASRec)
    place_BL = position_ids(batch.length_B, batch.history_BL.shape[1])
    extra = (net.position_keys(place_BL), net.position_values(place_BL))
    state_BLD, seen = net.items(batch.history_BL), {}
    for number, layer in enumerate(net.layers):
        state_BLD = layer(state_BLD, None, net.relations(net.gaps(batch)), extra)
        seen[f"transformer_block.{number}"] = state_BLD
    return seen


def _lightgcn(net: SequenceNet, batch: SequenceBatch) -> dict[str, Tensor]:
    assert isinstance(net, LightGCN)
    nodes = net.rows.numel() - 1
    row_E = torch.arange(nodes).repeat_interleave(net.rows.diff())
    dense_VV = torch.zeros(nodes, nodes).index_put_((row_E, net.columns.long()), net.values)
    return {"norm_adj_dense": dense_VV}


OBSERVERS: dict[str, Callable[[SequenceNet, SequenceBatch], dict[str, Tensor]]] = {
    "YouTube": _last,
    "GRU4Rec": _last,
    "SASRec": _sasrec,
    "TiSASRec": _tisasrec,
    "LightGCN": _lightgcn,
    "POP": lambda net, batch: {"popularity": net.item_vectors()[:, 0]},
}
