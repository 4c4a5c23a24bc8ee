"""Plain MetaHeac (inner network) and PLE of MTReclib that write files in the format of golden/mtreclib.

They are written from the description of the methods, for kinds of file that may be missing.

Legend: B samples, T tasks.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

DIMS, NUMERICALS, DIM, ROWS = [12, 7, 5], 4, 4, 32


class Block(nn.Module):
    def __init__(self, width: int, hidden: list[int], out: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(width, units), nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(0.0)]
            width = units
        self.mlp = nn.Sequential(*layers, *([nn.Linear(width, 1)] if out else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


def linear_gate(width: int, experts: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, experts), nn.Softmax(dim=1))


class Inputs(nn.Module):
    """One table for all fields; all numerical columns form one last field."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.ModuleDict({"embedding": nn.Embedding(sum(DIMS), DIM)})
        self.numerical_layer = nn.Linear(NUMERICALS, DIM)
        self.width = DIM * (len(DIMS) + 1)

    def fields(self, ids: Tensor, dense: Tensor) -> Tensor:
        start = torch.tensor([0, *np.cumsum(DIMS)[:-1]])
        embedded = self.embedding["embedding"](ids + start)
        return torch.cat([embedded, self.numerical_layer(dense).unsqueeze(1)], 1)


class HeacTwin(Inputs):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        bottom, tower, self.tasks = config["bottom_mlp_dims"], config["tower_mlp_dims"], config["task_num"]
        self.task_embedding = nn.Embedding(self.tasks, DIM)
        self.expert = nn.ModuleList(Block(self.width, bottom, False) for _ in range(config["expert_num"]))
        self.critic = nn.ModuleList(Block(bottom[-1], tower, True) for _ in range(config["critic_num"]))
        self.expert_gate = linear_gate(2 * DIM, config["expert_num"])
        self.critic_gate = linear_gate(2 * DIM, config["critic_num"])

    def forward(self, ids: Tensor, dense: Tensor) -> list[Tensor]:
        fields = self.fields(ids, dense)
        experts = torch.stack([expert(fields.flatten(1)) for expert in self.expert], 1)
        results = []
        for task in range(self.tasks):
            context = torch.cat([self.task_embedding(torch.full((len(ids),), task)), fields.mean(1)], 1)
            state = (self.expert_gate(context).unsqueeze(2) * experts).sum(1)
            probs = torch.cat([critic(state).sigmoid() for critic in self.critic], 1)
            results.append((self.critic_gate(context) * probs).mean(1))
        return results


class PLETwin(Inputs):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.tasks, own, common = config["task_num"], config["specific_expert_num"], config["shared_expert_num"]
        widths = [self.width, *config["bottom_mlp_dims"]]
        pairs = list(pairwise(widths))
        self.task_experts = nn.ModuleList(
            nn.ModuleList(nn.ModuleList(Block(a, [b], False) for _ in range(own)) for _ in range(self.tasks))
            for a, b in pairs
        )
        self.share_experts = nn.ModuleList(nn.ModuleList(Block(a, [b], False) for _ in range(common)) for a, b in pairs)
        self.task_gates = nn.ModuleList(
            nn.ModuleList(linear_gate(a, own + common) for _ in range(self.tasks)) for a, _ in pairs
        )
        self.share_gates = nn.ModuleList(linear_gate(a, own * self.tasks + common) for a, _ in pairs)
        self.tower = nn.ModuleList(Block(widths[-1], config["tower_mlp_dims"], True) for _ in range(self.tasks))

    def forward(self, ids: Tensor, dense: Tensor) -> list[Tensor]:
        states = [self.fields(ids, dense).flatten(1)] * (self.tasks + 1)
        for level in range(len(self.share_gates)):
            own = [[e(x) for e in group] for group, x in zip(self.task_experts[level], states, strict=False)]
            common = [expert(states[-1]) for expert in self.share_experts[level]]
            seen = [*(group + common for group in own), [h for group in own for h in group] + common]
            gates = [*self.task_gates[level], self.share_gates[level]]
            if level == len(self.share_gates) - 1:
                gates.pop()
            states = [
                (gate(x).unsqueeze(2) * torch.stack(h, 1)).sum(1)
                for gate, x, h in zip(gates, states, seen, strict=False)
            ]
        return [tower(state).squeeze(1).sigmoid() for tower, state in zip(self.tower, states, strict=False)]


def write(path: Path, model: str, config: dict[str, Any]) -> None:
    """Write a file in the format of the golden vectors."""
    torch.manual_seed(len(path.stem))
    config = {"embed_dim": DIM, "dropout": 0.0, "bottom_mlp_dims": [16, 8], "tower_mlp_dims": [8, 6]} | config
    twin = {"MetaHeac": HeacTwin, "PLEModel": PLETwin}[model](config)
    with torch.no_grad():
        for name, value in twin.state_dict().items():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5) if name.endswith("running_var") else value.normal_(0, 0.4)
    ids = torch.stack([torch.randint(0, rows, (ROWS,)) for rows in DIMS], 1)
    dense, labels = torch.randn(ROWS, NUMERICALS), torch.randint(0, 2, (ROWS, config["task_num"])).float()
    out: dict[str, Any] = {"input/categorical": ids, "input/numerical": dense, "input/labels": labels}
    out |= named("param", twin.state_dict())
    twin.eval()
    out |= predictions("eval", twin(ids, dense)) | predictions("batch1_eval", twin(ids[:1], dense[:1]))
    evaluated = bce(twin(ids, dense), labels)
    out |= {"loss/eval_total": torch.stack(evaluated).mean()}
    out |= named("grad_evalmode", gradients(twin, torch.stack(evaluated).mean())[0])
    twin.train()
    probs = twin(ids, dense)
    out |= predictions("train", probs)
    out |= named("aftertrainforward", {k: v for k, v in twin.state_dict().items() if "running" in k})
    losses = bce(probs, labels)
    total = torch.stack(losses).mean()
    out |= {"loss/total": total} | {f"loss/train_bce_task{t}": loss for t, loss in enumerate(losses)}
    found, absent = gradients(twin, total)
    out |= named("grad", found) | {"gradnone": np.array(absent or [""])}
    for name, parameter in twin.named_parameters():
        parameter.grad = None if name in absent else found[name]
    torch.optim.Adam(twin.parameters(), lr=1e-3).step()
    out |= named("step1", twin.state_dict())
    meta = {"model": model, "config": config, "categorical_field_dims": DIMS, "numerical_num": NUMERICALS}
    arrays = {k: v.detach().numpy() if isinstance(v, Tensor) else v for k, v in out.items()}
    np.savez(path, **arrays, **{"meta/json": np.array(json.dumps(meta))})


def bce(probs: list[Tensor], labels: Tensor) -> list[Tensor]:
    return [functional.binary_cross_entropy(p, labels[:, t]) for t, p in enumerate(probs)]


def gradients(twin: nn.Module, loss: Tensor) -> tuple[dict[str, Tensor], list[str]]:
    names, parameters = zip(*twin.named_parameters(), strict=True)
    found = dict(zip(names, torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True), strict=True))
    absent = [name for name, gradient in found.items() if gradient is None]
    return {n: torch.zeros_like(p) if found[n] is None else found[n] for n, p in twin.named_parameters()}, absent


def predictions(mode: str, probs: list[Tensor]) -> dict[str, Tensor]:
    return {f"output/{mode}_pred_task{t}": p.clone() for t, p in enumerate(probs)}


def named(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value.clone() for name, value in state.items()}
