"""The optimiser of a multi-task network: its parameter groups, and the rule of its embedding tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

from torch import nn

from stemlab.errors import StemlabError
from stemlab.nn.fused_tables import fuse_tables
from stemlab.optim.config import ADAMW_DECAY, OptimConfig
from stemlab.optim.fused import FusedTablesAdam
from stemlab.optim.groups import with_rates
from stemlab.optim.penalised import PenalisedAdagrad, PenalisedAdam, PenalisedOptimizer, PenalisedSGD, PenaltyMode
from stemlab.optim.penalty import Penalty, bias_and_norm_ids, split_parameters
from stemlab.optim.tables import RowAdam, is_fused, split_tables, table_settings

_AdamT = TypeVar("_AdamT", bound=PenalisedAdam)


def build_optimizer(
    net: nn.Module,
    optim: OptimConfig,
    embedding: Penalty,
    net_penalty: Penalty,
    mode: PenaltyMode = "dense",
    further: Sequence[dict[str, Any]] = (),
) -> PenalisedOptimizer:
    """Return the optimiser of a network, fused if the device supports it.

    Args:
        net: the network; weights of ``nn.Embedding`` get the embedding penalty, all others the net penalty. Unless
            ``optim.tables`` is ``dense_adam``, after ``use_row_gradients``.
        optim: optimiser and its settings, learning rates; whether ``net_penalty`` excludes biases and normalisation
            layers; the rule of the tables.
        embedding: penalty of the embedding tables.
        net_penalty: penalty of all other weights and biases.
        mode: ``dense`` penalises whole tables in every step (released code). ``batch`` penalises each row with a
            gradient once: the rows looked up by any rank, without padding; the result does not depend on the world
            size. With ``optim.tables=dense_adam`` the moments of all rows decay in every step in both modes.
        further: groups of parameters outside the network, ``name``, ``params`` and possibly ``lr``: without penalty.

    Raises:
        StemlabError: tables that are trained by rows have a penalty in mode ``dense``, or there are none; or a group
            with a learning rate of its own is empty.
    """
    further = [{**group, "l1": 0.0, "l2": 0.0, "rows_only": False, "decay": 0.0} for group in further]
    if optim.tables == "torchrec_rowwise_adagrad":
        return _fused(net, optim, embedding, net_penalty, further)
    if optim.tables != "dense_adam":
        return _by_rows(net, optim, embedding, net_penalty, mode, further)
    tables = _group("embedding", split_parameters(net)[0], embedding, rows_only=mode == "batch")
    return _optimizer(_complete([tables, *_net_groups(net, optim, net_penalty)], net, optim, further), optim)


def _optimizer(groups: list[dict[str, Any]], optim: OptimConfig) -> PenalisedOptimizer:
    parameters = [p for group in groups for p in group["params"]]
    fused = is_fused(parameters)
    if optim.name == "sgd":
        return PenalisedSGD(groups, lr=optim.lr, momentum=optim.momentum or 0.0, fused=fused)
    if optim.name == "adagrad":
        fused = fused and all(p.device.type == "cpu" for p in parameters)
        return PenalisedAdagrad(groups, lr=optim.lr, eps=optim.eps, fused=fused)
    return _adam(PenalisedAdam, groups, optim, fused)


def _adam(kind: type[_AdamT], groups: list[dict[str, Any]], optim: OptimConfig, fused: bool) -> _AdamT:
    decoupled: dict[str, Any] = {"decoupled_weight_decay": True} if optim.name == "adamw" else {}
    return kind(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=fused, **decoupled)


def _by_rows(
    net: nn.Module,
    optim: OptimConfig,
    embedding: Penalty,
    net_penalty: Penalty,
    mode: PenaltyMode,
    further: Sequence[dict[str, Any]],
) -> PenalisedOptimizer:
    """Return the optimiser for tables that are trained by rows; other tables are trained by Adam in mode ``batch``."""
    if embedding and mode == "dense":
        raise StemlabError(
            f"optim.tables={optim.tables} reads the rows of a batch only, and model.embedding_regularizer_mode=dense "
            "penalises whole tables: set it to batch."
        )
    tables = _table_groups(net, optim, split_tables(net, optim.tables), embedding, embedding)
    groups = _complete([*_net_groups(net, optim, net_penalty), *tables], net, optim, further)
    return _adam(RowAdam, groups, optim, is_fused([p for part in split_parameters(net) for p in part]))


def _fused(
    net: nn.Module, optim: OptimConfig, embedding: Penalty, net_penalty: Penalty, further: Sequence[dict[str, Any]]
) -> PenalisedOptimizer:
    """Return the optimiser for tables that are trained in the backward pass; their penalty is on rows of the batch."""
    fields = fuse_tables(net, optim.eps, embedding.l1, embedding.l2)
    own = [cast(nn.Parameter, table.weight) for one in fields for table in one.tables]
    tables = _table_groups(net, optim, own, embedding, Penalty())
    groups = _complete([*_net_groups(net, optim, net_penalty), *tables], net, optim, further)
    optimizer = _adam(FusedTablesAdam, groups, optim, fused=True)
    optimizer.attach(fields)
    return optimizer


def _net_groups(net: nn.Module, optim: OptimConfig, penalty: Penalty) -> list[dict[str, Any]]:
    """Return the groups of the weights outside of embedding tables: with and without the net penalty."""
    others, free = split_parameters(net)[1], _free_ids(net, optim)
    return [
        _group("net", [p for p in others if id(p) not in free], penalty, rows_only=False),
        _group("not penalised", [p for p in others if id(p) in free], Penalty(), rows_only=False),
    ]


def _table_groups(
    net: nn.Module, optim: OptimConfig, by_rows: Sequence[nn.Parameter], embedding: Penalty, of_rows: Penalty
) -> list[dict[str, Any]]:
    """Return the groups of embedding tables if some are trained by rows.

    They come after those of the network: the learning rate of the first group is the one that is logged.

    Args:
        net: the network.
        optim: the settings.
        by_rows: tables that are trained by rows.
        embedding: penalty of the other tables, on the rows of a batch.
        of_rows: penalty of ``by_rows`` that the optimiser applies.
    """
    own, tables = {id(table) for table in by_rows}, split_parameters(net)[0]
    settings = table_settings(optim.tables, optim.tables_lr, optim.tables_bias_correction)
    return [
        _group("embedding", [p for p in tables if id(p) not in own], embedding, rows_only=True),
        _group("rows", [p for p in tables if id(p) in own], of_rows, rows_only=True) | settings,
    ]


def _complete(
    groups: Sequence[dict[str, Any]], net: nn.Module, optim: OptimConfig, further: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the non-empty groups with their weight decay and learning rates, then ``further``."""
    free = _free_ids(net, optim)
    decayed = [with_decay(group, optim.name, optim.weight_decay, free) for group in groups]
    return [*with_rates(decayed, net, optim.lr_groups), *further]


def _free_ids(net: nn.Module, optim: OptimConfig) -> set[int]:
    """Return the ``id()`` of the parameters without net penalty and weight decay."""
    return bias_and_norm_ids(net) if optim.exclude_bias_bn else set()


def _group(name: str, params: list[nn.Parameter], penalty: Penalty, *, rows_only: bool) -> dict[str, Any]:
    return {"name": name, "params": params, "l1": penalty.l1, "l2": penalty.l2, "rows_only": rows_only}


def with_decay(group: dict[str, Any], name: str, decay: float | None, free: set[int]) -> dict[str, Any]:
    """Return a parameter group with its decoupled weight decay, the key ``decay``, if the optimiser has one.

    Args:
        group: the group.
        name: the optimiser; only ``adamw`` has a decoupled weight decay.
        decay: the setting; ``None`` is ``ADAMW_DECAY``.
        free: ``id()`` of parameters without decay; tables that are trained by rows have none either.
    """
    if name != "adamw":
        return group
    without = "tables" in group or any(id(p) in free for p in group["params"])
    return {**group, "decay": 0.0 if without else ADAMW_DECAY if decay is None else decay}
