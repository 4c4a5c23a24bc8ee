"""STEM-Net and its training step in plain PyTorch: the baseline of ``step.py``.

A list of expert MLPs, one stacked copy of all experts per gate with detached copies of the other tasks' experts, dense
Adam, whole-table penalty in the graph (docs/methods/stem.md). One layer.

Legend: B batch, F fields, D width of a block, E experts, H expert output width, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def mlp(width: int, hidden: Sequence[int], output: int | None = None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU(inplace=True)]
        width = units
    return nn.Sequential(*layers) if output is None else nn.Sequential(*layers, nn.Linear(width, output))


class PlainStem(nn.Module):
    """One-layer STEM-Net with T tasks; returns one probability (B, 1) per task."""

    def __init__(
        self,
        sizes: Sequence[int],
        tasks: int = 2,
        dim: int = 16,
        shared: int = 8,
        specific: int = 1,
        expert: Sequence[int] = (512, 512, 512),
        gate: Sequence[int] = (128, 64),
        tower: Sequence[int] = (128, 64),
    ) -> None:
        super().__init__()
        width, count = len(sizes) * dim, shared + tasks * specific
        self.tasks, self.dim = tasks, dim
        self.tables = nn.ModuleList(nn.Embedding(n, dim * (tasks + 1), padding_idx=0) for n in sizes)
        self.specific = nn.ModuleList(nn.ModuleList(mlp(width, expert) for _ in range(specific)) for _ in range(tasks))
        self.shared = nn.ModuleList(mlp(width, expert) for _ in range(shared))
        self.gates = nn.ModuleList(mlp(width, gate, count) for _ in range(tasks + 1))
        self.towers = nn.ModuleList(mlp(expert[-1], tower, 1) for _ in range(tasks))

    def forward(self, ids_BF: Tensor) -> list[Tensor]:
        """Return the probabilities."""
        emb_BFW = torch.stack([table(ids_BF[:, f]) for f, table in enumerate(self.tables)], dim=1)
        inputs = [block.flatten(start_dim=1) for block in emb_BFW.split(self.dim, dim=2)]
        own = [[e(inputs[k]) for e in self.specific[k]] for k in range(self.tasks)]
        common = [e(inputs[-1]) for e in self.shared]
        mixtures = []
        for k in range(self.tasks + 1):
            seen: list[Tensor] = []
            for j in range(self.tasks):
                seen += own[j] if k in (j, self.tasks) else [h.detach() for h in own[j]]
            stacked_BEH = torch.stack(seen + common, dim=1)
            gate_input = inputs[-1] if k == self.tasks else inputs[k] + inputs[-1]
            weight_BE = self.gates[k](gate_input).softmax(dim=-1)
            mixtures.append((weight_BE.unsqueeze(-1) * stacked_BEH).sum(dim=1))
        return [torch.sigmoid(self.towers[k](mixtures[k])) for k in range(self.tasks)]


def plain_step(net: PlainStem, adam: torch.optim.Adam, ids_BF: Tensor, labels_BT: Tensor, penalty: float) -> float:
    """Take one training step; return the loss."""
    adam.zero_grad()
    predictions = net(ids_BF)
    loss = torch.stack(
        [functional.binary_cross_entropy(p.float(), labels_BT[:, k : k + 1]) for k, p in enumerate(predictions)]
    ).sum()
    loss = loss + sum(penalty / 2 * torch.norm(table.weight, 2) ** 2 for table in net.tables)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 10.0)
    adam.step()
    return float(loss.detach())
