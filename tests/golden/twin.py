"""Plain implementation of the released multi-task code that writes files in the format of the golden vectors.

It is written from the description of the methods, with the parameter names of the released code, to test the checks on
kinds of file that may be missing: batch norm, three tasks, different numbers of experts, long trajectories.

Legend: B samples, F fields, D input width, E experts, H hidden width, T tasks.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

SIZES = {"uid": 50, "item_id": 40, "author_id": 30, "channel": 7}
DIM, ROWS = 4, 32


class Block(nn.Module):
    def __init__(self, width: int, hidden: list[int], out: int | None = None, batch_norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(width, units), *([nn.BatchNorm1d(units)] if batch_norm else []), nn.ReLU()]
            width = units
        self.mlp = nn.Sequential(*layers, *([nn.Linear(width, out)] if out else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class Layer(nn.Module):
    """STEM or CGC layer: all experts stacked, one loop iteration per gate."""

    def __init__(self, width: int, tasks: int, config: dict, stem: bool) -> None:
        super().__init__()
        k1, k2, bn = config["num_specific_experts"], config["num_shared_experts"], config["batch_norm"]
        experts, gate = config["expert_hidden_units"], config["gate_hidden_units"]
        self.shared_experts = nn.ModuleList(Block(width, experts, batch_norm=bn) for _ in range(k2))
        self.specific_experts = nn.ModuleList(
            nn.ModuleList(Block(width, experts, batch_norm=bn) for _ in range(k1)) for _ in range(tasks)
        )
        sizes = [k1 * tasks + k2] * (tasks + 1) if stem else [k1 + k2] * tasks + [k2]
        self.gate = nn.ModuleList(Block(width, gate, size, bn) for size in sizes)
        self.stem = stem

    def forward(self, xs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        shared = [expert(xs[-1]) for expert in self.shared_experts]
        own = [[expert(x) for expert in group] for group, x in zip(self.specific_experts, xs, strict=False)]
        outs, gates = [], []
        for i, (gate, x) in enumerate(zip(self.gate, xs, strict=True)):
            last = i == len(own)
            if self.stem:
                seen = [h if last or j == i else h.detach() for j, group in enumerate(own) for h in group] + shared
            else:
                seen = shared if last else own[i] + shared
            weight = gate(x + xs[-1] if self.stem and not last else x).softmax(1)
            outs.append((weight.unsqueeze(2) * torch.stack(seen, 1)).sum(1))
            gates.append(weight)
        return outs, gates


class OneGateLayer(nn.Module):
    """OMoE layer: one gate, which runs once per task."""

    def __init__(self, width: int, tasks: int, config: dict) -> None:
        super().__init__()
        count, bn, self.tasks = config["num_experts"], config["batch_norm"], tasks
        self.experts = nn.ModuleList(Block(width, config["expert_hidden_units"], batch_norm=bn) for _ in range(count))
        self.gate = Block(width, config["gate_hidden_units"], count, bn)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        experts = torch.stack([expert(x) for expert in self.experts], 1)
        gates = [self.gate(x).softmax(1) for _ in range(self.tasks)]
        return [(weight.unsqueeze(2) * experts).sum(1) for weight in gates], gates


class Twin(nn.Module):
    """SharedBottom, OMoE, PLE, STEM or AITM with the parameter names of the released code."""

    def __init__(self, model: str, tasks: int, config: dict) -> None:
        super().__init__()
        self.model, self.tasks, bn = model, tasks, config["batch_norm"]
        tables = nn.ModuleDict(
            {f: nn.Embedding(n, DIM * (tasks + 1 if model == "STEM" else 1), padding_idx=0) for f, n in SIZES.items()}
        )
        self.embedding_layer = nn.ModuleDict({"embedding_layer": nn.ModuleDict({"embedding_layers": tables})})
        width = DIM * len(SIZES)
        if model == "SharedBottom":
            self.bottom = Block(width, config["bottom_hidden_units"], batch_norm=bn)
        elif model == "AITM":
            hidden = config["bottom_hidden_units"][-1]
            self.bottom = nn.ModuleList(
                Block(width, config["bottom_hidden_units"], batch_norm=bn) for _ in range(tasks)
            )
            self.g = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(tasks - 1))
            self.h1, self.h2, self.h3 = (nn.Linear(hidden, hidden) for _ in range(3))
        elif model == "OMoE":
            self.omoe_layer = OneGateLayer(width, tasks, config)
        else:
            widths = [width] + [config["expert_hidden_units"][-1]] * (config["num_layers"] - 1)
            layers = nn.ModuleList(Layer(w, tasks, config, model == "STEM") for w in widths)
            self.add_module("stem_layers" if model == "STEM" else "cgc_layers", layers)
        last = config.get("bottom_hidden_units", config.get("expert_hidden_units"))[-1]
        self.tower = nn.ModuleList(Block(last, config["tower_hidden_units"], 1, bn) for _ in range(tasks))

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        tables = self.embedding_layer["embedding_layer"]["embedding_layers"].values()
        emb = torch.stack([table(ids[:, f]) for f, table in enumerate(tables)], 1)
        seen = {"feature_emb": emb}
        states = self.states(emb, seen)
        for i, (tower, state) in enumerate(zip(self.tower, states, strict=True)):
            seen[f"logit_task{i}"] = tower(state)
            seen[f"pred_task{i}"] = seen[f"logit_task{i}"].sigmoid()
        return seen

    def states(self, emb: Tensor, seen: dict[str, Tensor]) -> list[Tensor]:
        if self.model == "SharedBottom":
            seen["bottom"] = self.bottom(emb.flatten(1))
            return [seen["bottom"]] * self.tasks
        if self.model == "AITM":
            return self.transferred(emb.flatten(1), seen)
        if self.model == "OMoE":
            return self.kept("omoe_layer", *self.omoe_layer(emb.flatten(1)), seen)
        stem = self.model == "STEM"
        xs = [e.flatten(1) for e in emb.split(DIM, 2)] if stem else [emb.flatten(1)] * (self.tasks + 1)
        name = "stem_layers" if stem else "cgc_layers"
        for number, layer in enumerate(getattr(self, name)):
            xs, gates = layer(xs)
            self.kept(f"{name}{number}", xs, gates, seen)
        return xs[: self.tasks]

    @staticmethod
    def kept(name: str, xs: list[Tensor], gates: list[Tensor], seen: dict[str, Tensor]) -> list[Tensor]:
        """Add the outputs and gates of a layer to ``seen``; return the outputs."""
        for i, (x, gate) in enumerate(zip(xs, gates, strict=True)):
            seen[f"layerout_{name}_{i}"], seen[f"gate_{name}_{i}"] = x, gate
        return xs

    def transferred(self, x: Tensor, seen: dict[str, Tensor]) -> list[Tensor]:
        states = [bottom(x) for bottom in self.bottom]
        seen |= {f"bottom{i}": state for i, state in enumerate(states)}
        for i in range(1, self.tasks):
            pair = torch.stack([self.g[i - 1](states[i - 1]), states[i]], 1)
            score = (self.h2(pair) * self.h3(pair)).sum(2, keepdim=True) / pair.shape[2] ** 0.5
            states[i] = (score.softmax(1) * self.h1(pair)).sum(1)
        return states


def randomise(twin: Twin) -> None:
    """Give each parameter a seeded random value, so that small initial embeddings hide no error."""
    with torch.no_grad():
        for name, value in twin.state_dict().items():
            if "embedding_layers" in name:
                value.normal_(0, 0.5)[0] = 0
            elif "running_var" in name or (value.ndim == 1 and name.endswith("weight")):
                value.uniform_(0.5, 1.5)
            elif value.ndim == 1:
                value.normal_(0, 0.1)
            elif value.ndim == 2:
                value.normal_(0, 1.2 / value.shape[1] ** 0.5)


def penalty(twin: Twin, weight: float) -> Tensor:
    return weight / 2 * sum(p.square().sum() for n, p in twin.named_parameters() if "embedding_layers" in n)


def write_case(path: Path, model: str, tasks: int, config: dict, seed: int = 0) -> None:
    """Write a file with one batch: outputs, losses, gradients, one Adam step."""
    torch.manual_seed(seed)
    twin = Twin(model, tasks, config)
    randomise(twin)
    ids, labels = batch(tasks)
    out: dict[str, object] = named("param", twin.state_dict()) | {"input/ids": ids, "input/labels": labels}
    out |= outputs(twin, ids, config["batch_norm"])
    trained = deepcopy(twin).train(config["batch_norm"])
    seen = trained(ids)
    if config["batch_norm"]:
        out |= named("aftertrainforward", {k: v for k, v in trained.state_dict().items() if "running" in k})
    names, parameters = zip(*trained.named_parameters(), strict=True)
    losses = [functional.binary_cross_entropy(seen[f"pred_task{i}"], labels[:, i : i + 1]) for i in range(tasks)]
    for i, loss in enumerate(losses):
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        out[f"loss/bce_task{i}"] = loss
        out[f"gradnone_task_{i}"] = np.array([n for n, g in zip(names, found, strict=True) if g is None] or [""])
        out |= {f"grad_task_{i}/{n}": zeros(p, g) for n, p, g in zip(names, parameters, found, strict=True)}
    out["loss/regularization"] = penalty(trained, config.get("embedding_regularizer", 0.0))
    out["loss/total"] = sum(losses) + out["loss/regularization"]
    adam = torch.optim.Adam(parameters, lr=1e-3)
    out["loss/total"].backward()
    out |= {f"grad/{n}": zeros(p, p.grad) for n, p in zip(names, parameters, strict=True)}
    out["gradnone"] = np.array([n for n, p in zip(names, parameters, strict=True) if p.grad is None] or [""])
    adam.step()
    save(path, out | named("step1", trained.state_dict()), model, tasks, config)


def outputs(twin: Twin, ids: Tensor, batch_norm: bool) -> dict[str, Tensor]:
    """Return the outputs under their keys: both modes with batch norm, else evaluation mode without prefix."""
    one = {f"output/batch1_{k}": v for k, v in deepcopy(twin).eval()(ids[:1]).items() if k.startswith("pred")}
    found: dict[str, Tensor] = {"input/batch1_ids": ids[:1]} | one
    for training in (False, True) if batch_norm else (False,):
        prefix = ("train_" if training else "eval_") if batch_norm else ""
        seen = deepcopy(twin).train(training)(ids)
        found |= {f"output/{prefix}{key}": value for key, value in seen.items()}
    return found


def write_trajectory(path: Path, model: str, tasks: int, config: dict, steps: int = 20, seed: int = 0) -> None:
    """Write a file with ``steps`` training steps that cycle through four batches."""
    torch.manual_seed(seed)
    twin = Twin(model, tasks, config).train()
    randomise(twin)
    batches = [batch(tasks) for _ in range(4)]
    out = named("param", {k: v.clone() for k, v in twin.state_dict().items()})
    adam = torch.optim.Adam(twin.parameters(), lr=1e-3)
    curve, before, after = [], [], []
    for number in range(steps):
        ids, labels = batches[number % 4]
        adam.zero_grad()
        seen = twin(ids)
        pred = torch.cat([seen[f"pred_task{i}"] for i in range(tasks)], 1)
        loss = functional.binary_cross_entropy(pred, labels, reduction="none").mean(0).sum()
        loss = loss + penalty(twin, config.get("embedding_regularizer", 0.0))
        loss.backward()
        curve.append(loss.item())
        before.append(nn.utils.clip_grad_norm_(twin.parameters(), 0.2).item())
        after.append(min(before[-1], 0.2))
        adam.step()
        if number == 0:
            out |= named("step1", {k: v.clone() for k, v in twin.state_dict().items()})
    out |= named("final", twin.state_dict())
    out |= {"input/ids": torch.stack([b[0] for b in batches]), "input/labels": torch.stack([b[1] for b in batches])}
    out |= {"loss/per_step": np.float32(curve), "output/grad_norm_before_clip": np.float32(before)}
    out["output/grad_norm_after_clip"] = np.float32(after)
    save(path, out, model, tasks, config, max_grad_norm=0.2)


def batch(tasks: int) -> tuple[Tensor, Tensor]:
    ids = torch.stack([torch.randint(0, rows, (ROWS,)) for rows in SIZES.values()], 1)
    ids[0] = 0
    return ids, torch.randint(0, 2, (ROWS, tasks)).float()


def named(prefix: str, state: dict[str, Tensor]) -> dict[str, object]:
    return {f"{prefix}/{name}": value for name, value in state.items()}


def zeros(parameter: Tensor, gradient: Tensor | None) -> Tensor:
    return torch.zeros_like(parameter) if gradient is None else gradient.clone()


def save(path: Path, out: dict[str, object], model: str, tasks: int, config: dict, **rest: object) -> None:
    meta = {"model": model, "num_tasks": tasks, "config": {"embedding_dim": DIM, "verbose": 0, **config}, **rest}
    arrays = {k: v.detach().numpy().copy() if isinstance(v, Tensor) else v for k, v in out.items()}
    np.savez(path, **arrays, **{"meta/json": np.array(json.dumps(meta))})
