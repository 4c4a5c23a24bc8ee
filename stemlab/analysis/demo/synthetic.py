"""Small synthetic datasets with planted effects, and small models trained on them (``analysis=demo``).

Legend: U users, I items, D width, K width of tables, C categories, P positions, R samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stemlab.array_types import AnyArray


def _minimise(
    parameters: list[Tensor], loss: Callable[[], Tensor], steps: int, rate: float, decay: float = 0.0
) -> None:
    """Minimise a loss with Adam; ``decay`` is the factor of the L2 penalty."""
    for parameter in parameters:
        parameter.requires_grad_()
    adam = torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    for _ in range(steps):
        adam.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        adam.step()


# ----------------------------------------------------------------------------------------------------------- collapse


def collapsed_table(rank: int, width: int, seed: int, entities: int = 300) -> tuple[AnyArray, AnyArray]:
    """Train user and item tables on an affinity matrix of the given rank.

    The label is 1 where the affinity is positive. A small L2 penalty shrinks unused directions.

    Args:
        rank: rank of the affinity matrix.
        width: K, embedding dimension.
        seed: seed of affinities and initial tables.
        entities: number of users and of items.

    Returns:
        The (U, K) user table before and after training.
    """
    draw = torch.Generator().manual_seed(seed)
    true_UI = torch.randn(entities, rank, generator=draw) @ torch.randn(rank, entities, generator=draw)
    label_UI = (true_UI > 0).float()
    user_UK, item_IK = (torch.randn(entities, width, generator=draw) * 0.1 for _ in range(2))
    before = user_UK.clone().numpy()

    def loss() -> Tensor:
        return functional.binary_cross_entropy_with_logits(user_UK @ item_IK.T, label_UI, reduction="sum") / entities

    _minimise([user_UK, item_IK], loss, steps=300, rate=0.03, decay=0.02)
    return before, user_UK.detach().numpy()


# -------------------------------------------------------------------------------------------------------- correlation


@dataclass(frozen=True)
class LabelledHistories:
    """Samples whose label depends on behaviours of the target's category, with an effect that decays with position.

    Attributes:
        category_RP: category (from 1) of the behaviour at position 1 (newest), 2, ..., P.
        target_R: category (from 1) of the target.
        label_R: label, 0 or 1.
    """

    category_RP: AnyArray
    target_R: AnyArray
    label_R: AnyArray


def histories(categories: int, positions: int, rate: float, rows: int, seed: int) -> LabelledHistories:
    """Draw samples; the logit is -1 plus 3 exp(-rate (p - 1)) per behaviour of the target's category at position p."""
    rng = np.random.default_rng(seed)
    category_RP = rng.integers(1, categories + 1, (rows, positions))
    target_R = rng.integers(1, categories + 1, rows)
    effect_P = 3 * np.exp(-rate * np.arange(positions))
    logit_R = ((category_RP == target_R[:, None]) * effect_P).sum(axis=1) - 1
    return LabelledHistories(category_RP, target_R, (rng.random(rows) < 1 / (1 + np.exp(-logit_R))).astype(np.int8))


def temporal_attention(data: LabelledHistories, categories: int, width: int, seed: int) -> tuple[AnyArray, AnyArray]:
    """Train target attention with position encodings on the samples.

    Returns:
        The (C + 1, D) category table, row 0 unused, and the (P + 1, D) encodings of the target and the positions.
    """
    draw = torch.Generator().manual_seed(seed)
    category_RP, target_R = torch.from_numpy(data.category_RP), torch.from_numpy(data.target_R)
    label_R = torch.from_numpy(data.label_R).float()
    category_CD = torch.randn(categories + 1, width, generator=draw) * 0.5
    position_PD = torch.randn(category_RP.shape[1] + 1, width, generator=draw) * 0.1
    weight_D, bias = torch.ones(width) * 0.3, torch.zeros(1)

    def loss() -> Tensor:
        behaviour_RPD = category_CD[category_RP] + position_PD[1:]
        target_R1D = (category_CD[target_R] + position_PD[0])[:, None]
        product_RPD = behaviour_RPD * target_R1D
        share_RP = (product_RPD.sum(dim=2) / width**0.5).softmax(dim=1)
        logit_R = (share_RP[..., None] * product_RPD).sum(dim=1) @ weight_D + bias
        return functional.binary_cross_entropy_with_logits(logit_R, label_R)

    _minimise([category_CD, position_PD, weight_D, bias], loss, steps=250, rate=0.03)
    return category_CD.detach().numpy(), position_PD.detach().numpy()


# ----------------------------------------------------------------------------------------------------------- conflict


@dataclass(frozen=True)
class TwoTaskLabels:
    """Labels of all user-item pairs for two tasks.

    Attributes:
        label_TUI: labels, 0 or 1.
        closeness_TUI: true affinities from which the labels are drawn.
    """

    label_TUI: AnyArray
    closeness_TUI: AnyArray


def two_task_labels(conflict: bool, seed: int, entities: int = 150, width: int = 4) -> TwoTaskLabels:
    """Draw labels of all pairs for two tasks, from equal (``conflict=False``) or independent affinities."""
    rng = np.random.default_rng(seed)
    first, second = (rng.normal(size=(entities, width)) @ rng.normal(size=(width, entities)) for _ in range(2))
    closeness = np.stack([first, second if conflict else first])
    return TwoTaskLabels((rng.random(closeness.shape) < 1 / (1 + np.exp(-2 * closeness))).astype(np.int8), closeness)


def distances(label_TUI: AnyArray, seed: int, width: int = 12) -> AnyArray:
    """Train one user and one item table on all given tasks; return (U, I) distances, smaller for likelier pairs.

    Args:
        label_TUI: labels of the tasks that share the tables.
        seed: seed of the initial tables.
        width: K, embedding dimension.
    """
    draw = torch.Generator().manual_seed(seed)
    label_TUI_ = torch.from_numpy(np.asarray(label_TUI)).float()
    users, items = label_TUI.shape[1:]
    user_UK, item_IK = torch.randn(users, width, generator=draw), torch.randn(items, width, generator=draw)
    bias_T11 = torch.zeros(len(label_TUI), 1, 1)

    def squared_distances() -> Tensor:
        squares_UI: Tensor = (user_UK**2).sum(1)[:, None] + (item_IK**2).sum(1) - 2 * user_UK @ item_IK.T
        return squares_UI

    def loss() -> Tensor:
        return functional.binary_cross_entropy_with_logits(bias_T11 - squared_distances(), label_TUI_)

    _minimise([user_UK, item_IK, bias_T11], loss, steps=300, rate=0.03)
    return np.asarray(squared_distances().detach().clamp(min=0).sqrt().numpy())
