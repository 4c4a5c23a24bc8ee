"""Refuse settings that cannot be combined with embedding tables divided among processes (``trainer.embedding``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.config.optim_checks import check_divided_tables
from stemlab.config.own_balancing import gradient_method
from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError

_KEY = "trainer.embedding"
_DIVIDED = ("row_sharded", "column_sharded")


def check_processes(trainer: Mapping[str, Any], origin: Origin) -> None:
    """Refuse divided tables for one process.

    Raises:
        StemlabError: ``trainer.embedding`` divides tables and ``trainer.devices`` is one process.
    """
    devices = trainer["devices"]
    single = trainer["num_nodes"] == 1 and (devices == 1 or (isinstance(devices, list) and len(devices) == 1))
    if trainer["embedding"] in _DIVIDED and single:
        raise StemlabError(
            f"{_KEY}={trainer['embedding']} ({origin(_KEY)}) needs several processes, but trainer.devices={devices} "
            f"({origin('trainer.devices')}): set trainer=ddp or ddp_cpu, or {_KEY}=replicated."
        )


def check_embedding(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse divided tables for models, optimisers and settings with which they would not be exact.

    Raises:
        StemlabError: the first such setting.
    """
    embedding = config["trainer"]["embedding"]
    if embedding not in _DIVIDED:
        return
    reason = cannot_divide(config)
    mode = "model.embedding_regularizer_mode"
    rows_only = config["model"].get("embedding_regularizer_mode") == "batch"
    if reason is None and embedding == "column_sharded" and rows_only:
        reason = (
            f"{mode}=batch ({origin(mode)}) penalises the rows that have a gradient, which a process with some of the "
            f"columns does not see: set {_KEY}=row_sharded"
        )
    if reason is not None:
        raise StemlabError(f"{_KEY}={embedding} ({origin(_KEY)}): {reason}.")


def check_net_embedding(config: Mapping[str, Any], net: Any, origin: Origin) -> None:
    """Refuse divided tables for a network that reads every row in each step.

    Raises:
        StemlabError: ``trainer.embedding`` divides tables and the network reads whole ones.
    """
    embedding, reason = config.get("trainer", {}).get("embedding"), getattr(net, "reads_whole_tables", None)
    if embedding in _DIVIDED and reason is not None:
        raise StemlabError(
            f"{_KEY}={embedding} ({origin(_KEY)}) is not for model={config['model']['name']}, which {reason}: set "
            f"{_KEY}=replicated."
        )


def cannot_divide(config: Mapping[str, Any]) -> str | None:
    """Return why the embedding tables of a training cannot be divided, or None if they can; ``auto`` follows it."""
    if config["trainer"]["compile"]:
        return "the lookups in other processes cannot be compiled: set trainer.compile=false"
    if reason := check_divided_tables(config):
        return reason
    lists = [key for key in ("multivalued", "sequences") if config["dataset"].get(key)]
    if lists:
        return f"the lookups of dataset.{lists[0]} cannot be divided: set {_KEY}=replicated"
    if method := gradient_method(config["model"]):
        return f"model.balancing={method} needs whole tables: set {_KEY}=replicated"
    rule = config["optim"].get("tables", "dense_adam")
    if rule != "dense_adam":
        return f"divided tables are trained by dense Adam only: set optim.tables=dense_adam instead of {rule}"
    return None
