"""Plain MMFI with the structure of the released code, for ``mmfi_step.py`` and the tests.

Loops over scenarios, tasks and experts; each sample passes through the modules of all scenarios, and a one-hot vector
selects its own afterwards. Parameters have the names of the released code (docs/methods/mmfi.md#attention,
docs/methods/mmfi.md#quirks-of-the-released-code), including those that no output depends on.

Legend: B samples, C categorical fields without the scenario, F fields, P pairs, Q pairs or fields, E embedding width,
S scenarios, T tasks, N experts of a mixture.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

BOTTOM, MID = 14, 4
Inputs = tuple[Tensor, Tensor, Tensor]
"""Vectors (B, Q, E) of pairs or fields, their bottom (B, Q, 14) and the outputs of the shared experts (N, B, Q, 4)."""


class StackedEmbedding(nn.Module):
    """One embedding table for all categorical fields, stacked."""

    def __init__(self, dims: Sequence[int], width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sum(dims), width)
        self.offsets = [sum(dims[:field]) for field in range(len(dims))]
        nn.init.xavier_uniform_(self.embedding.weight)

    def forward(self, ids_BC: Tensor) -> Tensor:
        """Look up."""
        vector: Tensor = self.embedding(ids_BC + ids_BC.new_tensor(self.offsets))
        return vector


class Unused(nn.Module):
    """Parameters of layers that the released code defines and does not use."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.fc, self.bias = nn.Embedding(rows, width), nn.Parameter(torch.zeros(width))


def grid(scenarios: int, tasks: int, build: object) -> nn.ModuleList:
    return nn.ModuleList(nn.ModuleList(build() for _ in range(tasks)) for _ in range(scenarios))


class TanhRelu(nn.Module):
    """The hard mask."""

    def forward(self, x: Tensor) -> Tensor:
        """Mask."""
        return x.tanh().relu()


class PlainMMFI(nn.Module):
    """MMFI; ``forward`` returns one probability (B,) per task."""

    def __init__(
        self,
        dims: Sequence[int],
        user: int,
        item: int,
        tasks: int,
        dim: int = 16,
        experts: int = 4,
        hard: bool = True,
        indicator: int = 4,
    ) -> None:
        super().__init__()
        scenarios, fields = dims[0], len(dims) + 1
        self.scenarios, self.tasks, self.user, self.hard = scenarios, tasks, user, hard
        self.pairs = list(itertools.combinations(range(fields), 2))
        pairs, own = len(self.pairs), experts // 2
        self.scenario_task_weights = nn.Parameter(torch.empty(tasks, scenarios, 1))
        self.interact_weights = nn.Parameter(torch.empty(1, pairs, 1))
        for weight in (self.scenario_task_weights, self.interact_weights):
            nn.init.xavier_normal_(weight)
        self.bias = nn.Parameter(torch.zeros(tasks, scenarios, dim))
        self.embedding, self.linear_layer = StackedEmbedding(dims[1:], dim), StackedEmbedding(dims[1:], dim)
        self.user_numerical_layer, self.item_numerical_layer = nn.Linear(user, dim), nn.Linear(item, dim)
        self.user_numerical_linear, self.item_numerical_linear = nn.Linear(user, dim), nn.Linear(item, dim)
        self.scenario_embedding, self.task_embedding = (
            StackedEmbedding([scenarios], indicator),
            StackedEmbedding([tasks], indicator),
        )
        self.scenario_linear, self.task_linear = Unused(scenarios, indicator), Unused(tasks, indicator)
        self.share_bottom, self.linear_share_bottom = nn.Linear(dim, BOTTOM), nn.Linear(dim, BOTTOM)
        self.share_experts = nn.ModuleList(nn.Linear(BOTTOM, MID) for _ in range(experts))
        self.linear_share_experts = nn.ModuleList(nn.Linear(BOTTOM, MID) for _ in range(experts))

        def specific() -> nn.ModuleList:
            return nn.ModuleList(nn.Linear(BOTTOM, MID) for _ in range(own))

        def gate() -> nn.Sequential:
            return nn.Sequential(nn.Linear(indicator + dim, experts + own), nn.Softmax(dim=-1))

        def tower(size: int, sparse: nn.Module) -> nn.Sequential:
            return nn.Sequential(nn.Linear(MID * size, size), nn.BatchNorm1d(size), sparse)

        def cells(build: object) -> nn.ModuleList:
            return grid(scenarios, tasks, build)

        self.specific_experts, self.linear_specific_experts = cells(specific), cells(specific)
        self.gates, self.linear_gates = cells(gate), cells(gate)
        self.linear_tower = cells(lambda: tower(fields, nn.Softmax(dim=-1)))
        if hard:
            self.masks = cells(lambda: tower(pairs, TanhRelu()))
            self.attention_tower = cells(lambda: nn.Sequential(nn.Linear(pairs, 1, bias=False)))
        else:
            self.attention_tower = cells(lambda: tower(pairs, nn.Softmax(dim=-1)))
        self.last = nn.ModuleList(last_tower(2 * dim) for _ in range(tasks))

    def forward(self, categorical: Tensor, numerical: Tensor) -> list[Tensor]:
        """Score a batch.

        Args:
            categorical: (B, 1 + C) ids, the scenario first.
            numerical: (B, N) values, those of the user first.
        """
        scenario_B, ids_BC = categorical[:, 0], categorical[:, 1:]
        user, item = numerical[:, : self.user], numerical[:, self.user :]
        numericals = self.user_numerical_layer(user), self.item_numerical_layer(item)
        pair = torch.cat([self.embedding(ids_BC), torch.stack(numericals, dim=1)], dim=1)
        numericals = self.user_numerical_linear(user), self.item_numerical_linear(item)
        first = torch.cat([self.linear_layer(ids_BC), torch.stack(numericals, dim=1)], dim=1)
        left, right = zip(*self.pairs, strict=True)
        product_BPE = self.interact_weights * (pair[:, list(left)] * pair[:, list(right)])
        hidden_BPX = self.share_bottom(product_BPE)
        first_hidden_BFX = self.linear_share_bottom(first)
        # once per batch, as in the released code
        product = product_BPE, hidden_BPX, torch.stack([expert(hidden_BPX) for expert in self.share_experts])
        linear = (
            first,
            first_hidden_BFX,
            torch.stack([expert(first_hidden_BFX) for expert in self.linear_share_experts]),
        )
        one_hot_BS = functional.one_hot(scenario_B, self.scenarios).float()
        return [self.task_output(task, scenario_B, product, linear, one_hot_BS) for task in range(self.tasks)]

    def task_output(self, task: int, scenario_B: Tensor, product: Inputs, linear: Inputs, own_BS: Tensor) -> Tensor:
        """Return probabilities; ``own_BS`` is one-hot."""
        indicator_B1X = self.scenario_embedding(scenario_B[:, None]) * self.task_embedding.embedding.weight[task]
        indicator_B1X = self.scenario_task_weights[task][scenario_B][:, :, None] * indicator_B1X
        gate_inputs = [
            torch.cat([indicator_B1X.expand(-1, input_BQE.shape[1], -1), input_BQE], dim=2)
            for input_BQE in (product[0], linear[0])
        ]
        every = []
        for s in range(self.scenarios):
            gate = self.gates[s][task]
            state = mixture(gate(gate_inputs[0]), product, self.specific_experts[s][task])
            if self.hard:
                mask_BP1 = self.masks[s][task](state)[:, :, None]
                interaction = self.attention_tower[s][task]((mask_BP1 * product[0]).transpose(1, 2)).squeeze(2)
            else:
                weight_BP = self.attention_tower[s][task](state)
                interaction = torch.einsum("bp,bpe->be", weight_BP, product[0])
            state = mixture(gate(gate_inputs[1]), linear, self.linear_specific_experts[s][task])
            first_order = torch.einsum("bf,bfe->be", self.linear_tower[s][task](state), linear[0]) + self.bias[task, s]
            every.append(torch.cat([interaction, first_order], dim=1))
        tower_input = torch.einsum("bs,bse->be", own_BS, torch.stack(every, dim=1))
        return self.last[task](tower_input).sigmoid().squeeze(1)


def mixture(weight_BQN: Tensor, inputs: Inputs, specific: nn.ModuleList) -> Tensor:
    """Return the mixtures of the experts, (B, 4Q)."""
    _, hidden_BQX, shared_NBQM = inputs
    weight_NBQ1 = weight_BQN.permute(2, 0, 1).unsqueeze(3)
    count = len(shared_NBQM)
    specific_NBQM = torch.stack([expert(hidden_BQX) for expert in specific])
    mixed_BQM = (shared_NBQM * weight_NBQ1[:count]).sum(dim=0) + (specific_NBQM * weight_NBQ1[count:]).sum(dim=0)
    return mixed_BQM.flatten(1)


def last_tower(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for units in (40, 32, 8):
        layers += [nn.Linear(width, units), nn.BatchNorm1d(units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, 1))


def plain_step(net: PlainMMFI, adam: torch.optim.Optimizer, inputs: Sequence[Tensor], labels_BT: Tensor) -> float:
    """Run one training step; return the loss, the mean cross-entropy over tasks."""
    adam.zero_grad()
    losses = [
        functional.binary_cross_entropy(prediction, labels_BT[:, task]) for task, prediction in enumerate(net(*inputs))
    ]
    loss = torch.stack(losses).mean()
    loss.backward()
    adam.step()
    return float(loss.detach())
