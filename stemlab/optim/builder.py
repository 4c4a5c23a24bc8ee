"""The optimiser of a multi-task network: its parameter groups, and the rule of its embedding tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from stemlab.errors import StemlabError
from stemlab.nn.fused_tables import fuse_tables
from stemlab.optim.config import ADAMW_DECAY, OptimConfig
from stemlab.optim.fused import FusedTablesAdam
from stemlab.optim.groups import with_rates
from stemlab.optim.penalised import PenalisedAdagrad, PenalisedAdam, PenalisedOptimizer, PenalisedSGD, PenaltyMode
from stemlab.optim.penalty import Penalty, bias_and_norm_ids, split_parameters
from stemlab.optim.tables import RowAdam, is_fused, split_tables, table_settings


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
    tables, others = split_parameters(net)
    free: set[int] = bias_and_norm_ids(net) if optim.exclude_bias_bn else set()
    further = [{**group, "l1": 0.0, "l2": 0.0, "rows_only": False, "decay": 0.0} for group in further]
    if optim.tables == "torchrec_rowwise_adagrad":
        return _fused(net, optim, embedding, net_penalty, further)
    if optim.tables != "dense_adam":
        return _by_rows(net, optim, embedding, net_penalty, mode, further)
    groups = [
        _group("embedding", tables, embedding, rows_only=mode == "batch"),
        _group("net", [p for p in others if id(p) not in free], net_penalty, rows_only=False),
        _group("not penalised", [p for p in others if id(p) in free], Penalty(), rows_only=False),
    ]
    decayed = [with_decay(group, optim.name, optim.weight_decay, free) for group in groups]
    return _optimizer([*with_rates(decayed, net, optim.lr_groups), *further], optim)


def _optimizer(groups: list[dict[str, Any]], optim: OptimConfig) -> PenalisedOptimizer:
    parameters = [p for group in groups for p in group["params"]]
    fused = is_fused(parameters)
    if optim.name == "sgd":
        return PenalisedSGD(groups, lr=optim.lr, momentum=optim.momentum or 0.0, fused=fused)
    if optim.name == "adagrad":
        fused = fused and all(p.device.type == "cpu" for p in parameters)
        return PenalisedAdagrad(groups, lr=optim.lr, eps=optim.eps, fused=fused)
    decoupled: dict[str, Any] = {"decoupled_weight_decay": True} if optim.name == "adamw" else {}
    return PenalisedAdam(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=fused, **decoupled)


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
    by_rows = split_tables(net, optim.tables)
    own = {id(table) for table in by_rows}
    tables, others = split_parameters(net)
    free: set[int] = bias_and_norm_ids(net) if optim.exclude_bias_bn else set()
    # the tables come last: the learning rate of the first group is the one that is logged
    groups = [
        _group("net", [p for p in others if id(p) not in free], net_penalty, rows_only=False),
        _group("not penalised", [p for p in others if id(p) in free], Penalty(), rows_only=False),
        _group("embedding", [p for p in tables if id(p) not in own], embedding, rows_only=True),
        _group("rows", by_rows, embedding, rows_only=True)
        | table_settings(optim.tables, optim.tables_lr, optim.tables_bias_correction),
    ]
    decayed = [with_decay(group, optim.name, optim.weight_decay, free) for group in groups]
    own_rates = [*with_rates(decayed, net, optim.lr_groups), *further]
    decoupled: dict[str, Any] = {"decoupled_weight_decay": True} if optim.name == "adamw" else {}
    fused = is_fused([*tables, *others])
    return RowAdam(own_rates, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=fused, **decoupled)


def _fused(
    net: nn.Module, optim: OptimConfig, embedding: Penalty, net_penalty: Penalty, further: Sequence[dict[str, Any]]
) -> PenalisedOptimizer:
    """Return the optimiser for tables that are trained in the backward pass; their penalty is on rows of the batch."""
    fields = fuse_tables(net, optim.eps, embedding.l1, embedding.l2)
    own = {id(table.weight) for one in fields for table in one.tables}
    tables, others = split_parameters(net)
    free: set[int] = bias_and_norm_ids(net) if optim.exclude_bias_bn else set()
    groups = [
        _group("net", [p for p in others if id(p) not in free], net_penalty, rows_only=False),
        _group("not penalised", [p for p in others if id(p) in free], Penalty(), rows_only=False),
        _group("embedding", [p for p in tables if id(p) not in own], embedding, rows_only=True),
        _group("rows", [p for p in tables if id(p) in own], Penalty(), rows_only=True)
        | table_settings(optim.tables, optim.tables_lr, optim.tables_bias_correction),
    ]
    decayed = [with_decay(group, optim.name, optim.weight_decay, free) for group in groups]
    decoupled: dict[str, Any] = {"decoupled_weight_decay": True} if optim.name == "adamw" else {}
    rates = [*with_rates(decayed, net, optim.lr_groups), *further]
    optimizer = FusedTablesAdam(rates, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=True, **decoupled)
    optimizer.attach(fields)
    return optimizer


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
