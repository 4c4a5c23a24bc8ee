"""Sequential models of the released code: settings and names in stemlab, and intermediate values.

One entry per model.

Legend: B samples, L history width, K interests, D width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.models.api import Phase
from stemlab.models.sequential.base import SequenceNet
from stemlab.models.sequential.bprmf import BPRMF
from stemlab.models.sequential.comirec import ComiRec
from stemlab.models.sequential.gru4rec import GRU4Rec
from stemlab.models.sequential.lightgcn import LightGCN
from stemlab.models.sequential.mind import MIND
from stemlab.models.sequential.pop import POP
from stemlab.models.sequential.sasrec import SASRec
from stemlab.models.sequential.timirec import TiMiRec
from stemlab.models.sequential.tisasrec import TiSASRec
from stemlab.models.sequential.youtube import YouTube
from stemlab.nn.interest import SelfAttentiveExtractor, position_ids

PROJECTION = re.compile(r"predictor\.projection\.(\w+)\.(\w+)")
Seen = dict[str, Tensor]
Convert = Callable[[Any], Any]


def switch(value: Any) -> bool:
    return bool(int(value))


def power(value: Any) -> int | None:
    return None if value == "inf" else int(value)


# ---- intermediate values


def last_states(net: SequenceNet, batch: SequenceBatch, phase: Phase) -> Seen:
    return dict.fromkeys(("out", "layer"), net.represent(batch).squeeze(1))


def sasrec(net: SequenceNet, batch: SequenceBatch, phase: Phase) -> Seen:
    assert isinstance(net, SASRec)
    state_BLD = net.items(batch.history_BL) + net.positions(position_ids(batch.length_B, batch.history_BL.shape[1]))
    seen = {}
    for number, layer in enumerate(net.layers):
        state_BLD = seen[f"transformer_block.{number}"] = layer(state_BLD)
    return seen


def tisasrec(net: SequenceNet, batch: SequenceBatch, phase: Phase) -> Seen:
    assert isinstance(net, TiSASRec)
    position_BL = position_ids(batch.length_B, batch.history_BL.shape[1])
    extra = (net.position_keys(position_BL), net.position_values(position_BL))
    state_BLD, seen = net.items(batch.history_BL), {}
    for number, layer in enumerate(net.layers):
        state_BLD = layer(state_BLD, None, net.relations(net.gaps(batch)), extra)
        seen[f"transformer_block.{number}"] = state_BLD
    return seen


def lightgcn(net: SequenceNet, batch: SequenceBatch, phase: Phase) -> Seen:
    assert isinstance(net, LightGCN)
    nodes = net.rows.numel() - 1
    row_E = torch.arange(nodes).repeat_interleave(net.rows.diff())
    dense_VV = torch.zeros(nodes, nodes, dtype=net.values.dtype).index_put_((row_E, net.columns.long()), net.values)
    return {"norm_adj_dense": dense_VV}


def pop(net: SequenceNet, batch: SequenceBatch, phase: Phase) -> Seen:
    return {"popularity": net.item_vectors()[:, 0]}


def attention_scores(extractor: SelfAttentiveExtractor, item_BLD: Tensor, batch: SequenceBatch) -> Seen:
    """Run the extractor, including padding (where the released scores come from zero inputs)."""
    bias_B1L = (batch.history_BL == 0).to(item_BLD.dtype).mul(-1e30).unsqueeze(1)
    state_BLD = extractor.states(item_BLD, batch.length_B, bias_B1L)
    seen = {"transformer": state_BLD}
    if extractor.transformer is not None:
        input_BLD = item_BLD
        if extractor.positions is not None:
            input_BLD = item_BLD + extractor.positions(position_ids(batch.length_B, item_BLD.shape[1]))
        seen["transformer.masked_attn_head"] = extractor.transformer.attend(input_BLD, bias_B1L)
        state_BLD = state_BLD * (batch.history_BL > 0).unsqueeze(2)
    return seen | {"W2": extractor.scores(state_BLD)}


def timirec(net: SequenceNet, batch: SequenceBatch, phase: Phase) -> Seen:
    assert isinstance(net, TiMiRec)
    inside = attention_scores(net.extractor, net.items(batch.history_BL), batch)
    seen = {f"interest_extractor.{name}": value for name, value in inside.items()}
    output = net(batch, phase)
    seen["interest_extractor"] = output.interests_BKD
    if net.predictor is not None:
        item_BLD = net.items(batch.history_BL)
        seen["interest_predictor"] = net.predictor.state(item_BLD, batch.history_BL, batch.length_B)
        seen["proj"] = seen["pred_intent"] = output.intent_BK
    if output.target_BK is not None:
        seen["target_intent"] = output.target_BK
    return seen


def comirec(net: SequenceNet, batch: SequenceBatch, phase: Phase) -> Seen:
    assert isinstance(net, ComiRec)
    return attention_scores(net.extractor, net.items(batch.history_BL), batch)


def mind(net: SequenceNet, batch: SequenceBatch, phase: Phase) -> Seen:
    return {"routing": net(batch, phase).interests_BKD}


# ---- entries


@dataclass(frozen=True)
class Model:
    """One model of the released code.

    Attributes:
        net: stemlab class.
        settings: setting of the released code -> stemlab setting and the conversion of its value (some files store
            numbers as text).
        names: rules (pattern, stemlab name) for parameter names, the first match is used; the group ``part`` of a
            pattern is q, k or v, which stemlab stacks in one tensor.
        fixed: stemlab settings that the released code does not have.
        observe: returns intermediate values under the keys of the files, without the prediction.
    """

    net: type[SequenceNet]
    settings: Mapping[str, tuple[str, Convert]]
    names: Sequence[tuple[str, str]]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    observe: Callable[[SequenceNet, SequenceBatch, Phase], Seen] = lambda net, batch, phase: {}

    def chosen(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the stemlab settings for those of a file."""
        found = {ours: read(theirs[key]) for key, (ours, read) in self.settings.items() if key in theirs}
        return found | dict(self.fixed)

    def mapping(self, theirs: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return, for all parameter names of a file, the stemlab name and the part of a stacked tensor (see ``name``).

        Raises:
            KeyError: no rule matches a name.
        """
        found = {name: self.name(name) for name in theirs}
        steps = {match[1] for ours, _ in found.values() if (match := PROJECTION.fullmatch(ours))}
        order = sorted(steps, key=lambda step: (step == "last", int(step) if step.isdigit() else 0))

        def indexed(ours: str) -> str:  # linear, dropout, ReLU, linear, ...
            match = PROJECTION.fullmatch(ours)
            return f"predictor.projection.{3 * order.index(match[1])}.{match[2]}" if match else ours

        return {name: (indexed(ours), part) for name, (ours, part) in found.items()}

    def name(self, theirs: str) -> tuple[str, str]:
        """Return the stemlab name and the part of a stacked tensor: 0 queries, 1 keys, 2 values."""
        for pattern, target in self.names:
            if match := re.fullmatch(pattern, theirs):
                part = str("qkv".index(match["part"])) if "part" in match.re.groupindex else ""
                return target.format(**match.groupdict()), part
        raise KeyError(theirs)


def layer(theirs: str, ours: str) -> list[tuple[str, str]]:
    """Return the rules for a transformer layer."""
    return [
        (rf"{theirs}\.masked_attn_head\.(?P<part>[qkv])_linear\.(?P<kind>\w+)", f"{ours}.qkv.{{kind}}"),
        (rf"{theirs}\.layer_norm(?P<which>[12])\.(?P<kind>\w+)", f"{ours}.norm{{which}}.{{kind}}"),
        (rf"{theirs}\.(?P<which>linear[12])\.(?P<kind>\w+)", f"{ours}.{{which}}.{{kind}}"),
    ]


def same(pairs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the rules for renamed modules with equal parameter names."""
    return [(rf"{re.escape(theirs)}\.(?P<rest>.+)", f"{ours}.{{rest}}") for theirs, ours in pairs.items()]


WIDTH = {"emb_size": ("embedding_dim", int)}
LAYERS = WIDTH | {"num_layers": ("num_layers", int), "num_heads": ("num_heads", int), "dropout": ("dropout", float)}
ATTENTION = WIDTH | {
    "attn_size": ("attention_dim", int),
    "K": ("num_interests", int),
    "add_pos": ("position_embedding", switch),
}
ITEMS = {"i_embeddings": "items"}
BLOCKS = layer(r"transformer_block\.(?P<number>\d+)", "layers.{number}")
MODELS = {
    "TiMiRec": Model(
        TiMiRec,
        ATTENTION
        | {
            "stage": ("stage", str),
            "add_trm": ("transformer", switch),
            "temp": ("temperature", float),
            "n_layers": ("projection_layers", int),
        },
        [
            *same(
                {
                    "interest_extractor.i_embeddings": "items",
                    "interest_extractor.p_embeddings": "extractor.positions",
                    "interest_extractor.W1": "extractor.hidden",
                    "interest_extractor.W2": "extractor.weigh",
                    "interest_predictor.i_embeddings": "predictor.items",
                    "interest_predictor.rnn": "predictor.gru",
                }
            ),
            *layer(r"interest_extractor\.transformer", "extractor.transformer"),
            (r"proj\.proj_final\.(?P<kind>\w+)", "predictor.projection.last.{kind}"),
            (r"proj\.\D*(?P<number>\d+)\.(?P<kind>\w+)", "predictor.projection.{number}.{kind}"),
        ],
        observe=timirec,
    ),
    "ComiRec": Model(
        ComiRec,
        ATTENTION,
        same({**ITEMS, "p_embeddings": "extractor.positions", "W1": "extractor.hidden", "W2": "extractor.weigh"}),
        observe=comirec,
    ),
    "MIND": Model(
        MIND,
        WIDTH
        | {
            "K": ("num_interests", int),
            "iterations": ("iterations", int),
            "p": ("power", power),
            "relu_layer": ("relu_layer", switch),
        },
        same({**ITEMS, "routing.S": "routing.map", "routing.layer": "routing.output"}),
        observe=mind,
    ),
    "YouTube": Model(YouTube, WIDTH, same({**ITEMS, "layer": "layer"}), {"padding": "published"}, observe=last_states),
    "GRU4Rec": Model(
        GRU4Rec,
        WIDTH | {"hidden_size": ("hidden_dim", int)},
        same({**ITEMS, "rnn": "gru", "out": "output"}),
        observe=last_states,
    ),
    "SASRec": Model(SASRec, LAYERS, [*same({**ITEMS, "p_embeddings": "positions"}), *BLOCKS], observe=sasrec),
    "TiSASRec": Model(
        TiSASRec,
        LAYERS | {"time_max": ("time_max", int)},
        [
            *same(
                {
                    **ITEMS,
                    "p_k_embeddings": "position_keys",
                    "p_v_embeddings": "position_values",
                    "t_k_embeddings": "gap_keys",
                    "t_v_embeddings": "gap_values",
                }
            ),
            *BLOCKS,
        ],
        observe=tisasrec,
    ),
    "BPRMF": Model(BPRMF, WIDTH, same({**ITEMS, "u_embeddings": "users"})),
    "LightGCN": Model(
        LightGCN,
        WIDTH | {"n_layers": ("num_layers", int)},
        [(r"encoder\.embedding_dict\.(?P<which>item|user)_emb", "{which}s.weight")],
        observe=lightgcn,
    ),
    "POP": Model(POP, {}, [], observe=pop),
}
