"""Plain implementations of the released sequential code that write files in the format of the golden vectors.

They are written from the descriptions of the methods, with the parameter names of the released code, to test the checks
on kinds of file that may be missing: two projection layers, other temperatures, several layers and heads, MIND with an
integer power, narrow batches, trajectories of stage finetune. TiMiRec's implementation is that of the benchmarks.

Legend: B samples, L history width, N candidates, K interests, D width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scripts.bench.timirec_twin import (
    PlainTiMiRec,
    Transformer,
    attention,
    bpr,
    hard_scores,
    plain_adam,
    pool,
    positions,
)

ITEMS, USERS, LONGEST, ROWS = 60, 41, 8, 32
CONFIG = {
    **{"emb_size": 8, "attn_size": 6, "K": 3, "add_pos": 1, "add_trm": 1, "n_layers": 1, "temp": 1.0},
    **{"stage": "pretrain", "hidden_size": 10, "num_layers": 1, "num_heads": 1, "iterations": 3, "p": "inf"},
    **{"relu_layer": 0, "time_max": 16, "dropout": 0, "history_max": LONGEST, "buffer": 1, "device": "cpu"},
}
Feed = Mapping[str, Tensor]
HOOKED = ("interest_extractor", "interest_extractor.W2", "interest_predictor", "proj", "W2", "routing")


class TiMiRec(PlainTiMiRec):
    def __init__(self, config: dict) -> None:
        super().__init__(ITEMS, LONGEST, config)

    def run(self, feed: Feed, training: bool) -> dict[str, Tensor]:
        return self(feed["history_items"], feed["lengths"], feed["item_id"], training)


class Net(nn.Module):
    """Item table and ranking loss."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config, self.i_embeddings = config, nn.Embedding(ITEMS, config["emb_size"])

    def loss(self, out: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"bpr": bpr(out["prediction"])}


class ComiRec(Net):
    def __init__(self, config: dict) -> None:
        super().__init__(config)
        if config["add_pos"]:
            self.p_embeddings = nn.Embedding(LONGEST + 1, config["emb_size"])
        self.W1 = nn.Linear(config["emb_size"], config["attn_size"])
        self.W2 = nn.Linear(config["attn_size"], config["K"])

    def run(self, feed: Feed, training: bool) -> dict[str, Tensor]:
        history, item = feed["history_items"], self.i_embeddings(feed["item_id"])
        vector = encoded = self.i_embeddings(history)
        if self.config["add_pos"]:
            encoded = vector + self.p_embeddings(positions(history, feed["lengths"]))
        interest = pool(self.W2(self.W1(encoded).tanh()), (history > 0).long(), vector)
        return {"prediction": hard_scores(interest, item, training)}


class Routing(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.S, self.iterations = nn.Linear(config["emb_size"], config["emb_size"], bias=False), config["iterations"]
        if config["relu_layer"]:
            self.layer = nn.Sequential(nn.Linear(config["emb_size"], config["emb_size"]), nn.ReLU())

    def forward(self, vector_BLD: Tensor, valid_BL: Tensor, logits_BKL: Tensor) -> Tensor:
        low = self.S(vector_BLD)
        for number in range(self.iterations):
            used = low if number == self.iterations - 1 else low.detach()
            weight = logits_BKL.softmax(dim=1) * valid_BL.unsqueeze(1)
            total = (weight.unsqueeze(3) * used.unsqueeze(1)).sum(dim=2)
            square = (total**2).sum(dim=-1, keepdim=True)
            high = square / (1 + square) * total / torch.sqrt(square + 1e-9)
            logits_BKL = logits_BKL + (used.unsqueeze(1) * high.unsqueeze(2)).sum(dim=-1)
        return self.layer(high) if hasattr(self, "layer") else high


class MIND(Net):
    def __init__(self, config: dict) -> None:
        super().__init__(config)
        self.routing = Routing(config)

    def run(self, feed: Feed, training: bool) -> dict[str, Tensor]:
        history, item = feed["history_items"], self.i_embeddings(feed["item_id"])
        capsule = self.routing(self.i_embeddings(history), (history > 0).float(), feed["routing_logits"])
        if not training or self.config["p"] == "inf":
            return {"prediction": hard_scores(capsule, item, training)}
        affinity = (capsule * item[:, 0].unsqueeze(1)).sum(dim=-1)
        weight = (affinity ** int(self.config["p"])).softmax(dim=-1)
        return {"prediction": ((weight.unsqueeze(2) * capsule).sum(dim=1).unsqueeze(1) * item).sum(dim=-1)}


def causal(width: int) -> Tensor:
    return torch.ones(width, width).tril().long()


def last(state_BLD: Tensor, feed: Feed, item_BND: Tensor) -> dict[str, Tensor]:
    user = state_BLD[torch.arange(len(state_BLD)), feed["lengths"] - 1]
    return {"prediction": (user.unsqueeze(1) * item_BND).sum(dim=-1)}


class SASRec(Net):
    def __init__(self, config: dict) -> None:
        super().__init__(config)
        self.p_embeddings = nn.Embedding(LONGEST + 1, config["emb_size"])
        blocks = (Transformer(config["emb_size"], config["num_heads"]) for _ in range(config["num_layers"]))
        self.transformer_block = nn.ModuleList(blocks)

    def run(self, feed: Feed, training: bool) -> dict[str, Tensor]:
        history = feed["history_items"]
        state = self.i_embeddings(history) + self.p_embeddings(positions(history, feed["lengths"]))
        for block in self.transformer_block:
            state = block(state, causal(history.shape[1]))
        return last(state, feed, self.i_embeddings(feed["item_id"]))


class TiSASRec(Net):
    def __init__(self, config: dict) -> None:
        super().__init__(config)
        width, gaps = config["emb_size"], config["time_max"] + 1
        self.p_k_embeddings, self.p_v_embeddings = nn.Embedding(LONGEST + 1, width), nn.Embedding(LONGEST + 1, width)
        self.t_k_embeddings, self.t_v_embeddings = nn.Embedding(gaps, width), nn.Embedding(gaps, width)
        blocks = (Transformer(width, config["num_heads"]) for _ in range(config["num_layers"]))
        self.transformer_block = nn.ModuleList(blocks)

    def run(self, feed: Feed, training: bool) -> dict[str, Tensor]:
        history, times = feed["history_items"], feed["history_times"]
        gap = (times.unsqueeze(2) - times.unsqueeze(1)).abs().double() / feed["user_min_intervals"].view(-1, 1, 1)
        gap = gap.floor().long().clamp(0, self.config["time_max"])
        position, state = positions(history, feed["lengths"]), self.i_embeddings(history)
        for block in self.transformer_block:
            state = self.block(block, state, position, gap)
        return last(state, feed, self.i_embeddings(feed["item_id"]))

    def block(self, block: Transformer, x_BLD: Tensor, position_BL: Tensor, gap_BLL: Tensor) -> Tensor:
        head, (B, L, D) = block.masked_attn_head, x_BLD.shape
        query, key, value = head.q_linear(x_BLD), head.k_linear(x_BLD), head.v_linear(x_BLD)
        keys = (key + self.p_k_embeddings(position_BL)).unsqueeze(1) + self.t_k_embeddings(gap_BLL)
        values = (value + self.p_v_embeddings(position_BL)).unsqueeze(1) + self.t_v_embeddings(gap_BLL)
        many, width = head.heads, D // head.heads
        product = (query.unsqueeze(2) * keys).view(B, L, L, many, width).sum(dim=-1) / width**0.5
        weight = attention(product.permute(0, 3, 1, 2), causal(L)).permute(0, 2, 3, 1)
        context = (weight.unsqueeze(4) * values.view(B, L, L, many, width)).sum(dim=2).reshape(B, L, D)
        state = block.layer_norm1(context + x_BLD)
        return block.layer_norm2(block.linear2(block.linear1(state).relu()) + state)


TWINS = {cls.__name__: cls for cls in (TiMiRec, ComiRec, MIND, SASRec, TiSASRec)}


def randomise(twin: nn.Module) -> nn.Module:
    """Give each parameter a seeded random value."""
    with torch.no_grad():
        for name, value in twin.named_parameters():
            if "embeddings" in name:
                value.normal_(0, 0.5)
            elif "layer_norm" in name and name.endswith("weight"):
                value.uniform_(0.5, 1.5)
            elif value.ndim == 1:
                value.normal_(0, 0.1)
            else:
                value.normal_(0, 1.2 / value.shape[1] ** 0.5)
    return twin


def draw(rows: int, candidates: int, config: dict, width: int = LONGEST) -> dict[str, Tensor]:
    length = torch.randint(1, width + 1, (rows,))
    length[: min(rows, 4)] = torch.tensor([1, width, 2, 1])[:rows]
    valid = torch.arange(int(length.max())) < length.unsqueeze(1)
    feed = {
        "user_id": torch.randint(1, USERS, (rows,)),
        "item_id": torch.randint(1, ITEMS, (rows, candidates)),
        "history_items": torch.randint(1, ITEMS, valid.shape) * valid,
        "history_times": torch.randint(0, 90, valid.shape).cumsum(1) * valid,
        "lengths": length,
        "user_min_intervals": torch.randint(1, 20, (rows,)),
    }
    return feed | {"routing_logits": torch.randn(rows, config["K"], valid.shape[1])}


def recorded(twin: nn.Module, feed: Feed, training: bool) -> dict[str, Tensor]:
    """Return the outputs of the network and of some modules."""
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _, __, value, name=name: seen.update({name: value.detach().clone()}))
        for name, module in twin.named_modules()
        if name in HOOKED or name.endswith(("transformer", "masked_attn_head", "transformer_block.0"))
    ]
    out = twin.run(feed, training)
    for handle in handles:
        handle.remove()
    if isinstance(twin, TiSASRec):
        seen.clear()  # its blocks are not called as modules
    elif isinstance(twin, SASRec):
        seen = {name: value for name, value in seen.items() if "attn" not in name}
    return seen | out


def named(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value.detach().clone() for name, value in values.items()}


def gradient(twin: nn.Module, loss: Tensor, key: str) -> dict[str, object]:
    """Return ``grad_*`` and ``gradnone_*`` of a loss."""
    names, parameters = zip(*twin.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    absent = [name for name, g in zip(names, found, strict=True) if g is None]
    filled = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    out = named(f"grad{key}/", dict(zip(names, filled, strict=True)))
    return out | {f"gradnone{key}": np.array(absent or [""])}


def write_case(
    path: Path, model: str, negatives: int = 3, width: int = LONGEST, seed: int = 0, **config: object
) -> None:
    """Write a file with one batch: outputs, losses, gradients, two kinds of first step."""
    torch.manual_seed(seed)
    config = CONFIG | config
    twin = randomise(TWINS[model](config)).eval()
    feeds = {"train": draw(ROWS, negatives + 1, config, width), "eval": draw(ROWS, 12, config, width)}
    feeds["batch1"] = draw(1, negatives + 1, config, 1)
    out: dict[str, object] = named("param/", twin.state_dict())
    for name, feed in feeds.items():
        out |= named(f"input/{name}_", feed)
    for name in ("train", "eval"):
        out |= named(f"output/{name}_", recorded(twin, feeds[name], name == "train"))
        out |= named(f"output/batch1_{name}_", twin.run(feeds["batch1"], name == "train"))
    parts = twin.loss(twin.run(feeds["train"], True))
    total = sum(parts.values())
    out |= named("loss/", parts | {"total": total}) | gradient(twin, total, "")
    if "kl_times_tempsq" in parts:
        out["loss/kl_batchmean"] = parts["kl_times_tempsq"].detach() / config["temp"] ** 2
        out |= gradient(twin, parts["bpr"], "_bpr") | gradient(twin, parts["kl_times_tempsq"], "_kl")
    for key, l2 in (("step1/", 0.0), ("step1_l2_0.01/", 0.01)):
        other = deepcopy(twin)
        sum(other.loss(other.run(feeds["train"], True)).values()).backward()
        plain_adam(other, 1e-3, l2).step()
        out |= named(key, other.state_dict())
    save(path, out, {"model": model, "config": config, "n_items": ITEMS, "n_users": USERS, "history_max": LONGEST})


def write_trajectory(path: Path, steps: int = 20, **config: object) -> None:
    """Write a file with ``steps`` training steps of TiMiRec that cycle through four batches."""
    torch.manual_seed(0)
    config = CONFIG | config
    twin = randomise(TiMiRec(config)).train()
    feeds = [draw(ROWS, 2, config) for _ in range(4)]
    out: dict[str, object] = named("param/", twin.state_dict())
    adam, curve = plain_adam(twin, 1e-3, 1e-4), []
    for number in range(steps):
        adam.zero_grad()
        loss = sum(twin.loss(twin.run(feeds[number % 4], True)).values())
        loss.backward()
        adam.step()
        curve.append(loss.item())
    evaluation = draw(16, 12, config)
    for number, feed in enumerate(feeds):
        out |= named(f"input/batch{number}_", feed)
    out |= named("final/", twin.state_dict()) | named("input/eval_", evaluation)
    out |= {"loss/per_step": np.float32(curve), "output/eval_prediction_after": twin.eval().run(evaluation, False)}
    out["output/eval_prediction_after"] = out["output/eval_prediction_after"]["prediction"].detach()
    words = {key: str(value) for key, value in config.items()}
    save(path, out, {"config": words, "l2": 1e-4, "lr": 1e-3, "stage": config["stage"], "steps": steps})


def save(path: Path, out: dict[str, object], meta: dict) -> None:
    arrays = {key: value.numpy() if isinstance(value, Tensor) else value for key, value in out.items()}
    np.savez(path, **arrays, **{"meta/json": np.array(json.dumps(meta))})
