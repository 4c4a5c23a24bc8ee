"""Settings of the embedding tables that belong together: ``optim.tables`` and what depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.config.override_text import typed_text
from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError

_RULE, _MODE = "optim.tables", "model.embedding_regularizer_mode"


def penalise_rows_of_batch(config: dict[str, Any]) -> None:
    """Set the mode of the embedding regularizer to ``batch`` for tables that are trained by rows; changes the config.

    A mode on the command line stays: ``check_tables`` refuses ``dense``.
    """
    from hydra.core.hydra_config import HydraConfig

    optim, model = config.get("optim"), config.get("model")
    if not isinstance(optim, dict) or optim.get("tables", "dense_adam") == "dense_adam" or not isinstance(model, dict):
        return
    words = typed_text(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    typed = any(word.lstrip("+").startswith(f"{_MODE}=") for word in words)
    if model.get("embedding_regularizer_mode") == "dense" and not typed:
        model["embedding_regularizer_mode"] = "batch"


def check_tables(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse settings of tables that no rule reads, and settings that a rule cannot follow."""
    optim, model = config["optim"], config["model"]
    rule = optim.get("tables", "dense_adam")
    if rule == "dense_adam" and optim.get("tables_lr") is not None:
        key = "optim.tables_lr"
        raise StemlabError(
            f"{key}={optim['tables_lr']} ({origin(key)}) is for tables trained by rows, but {_RULE}=dense_adam "
            f"({origin(_RULE)}): set optim.lr, or {_RULE}=sparse_adam or rowwise_adagrad."
        )
    if rule != "sparse_adam" and optim.get("tables_bias_correction") is False:
        key = "optim.tables_bias_correction"
        raise StemlabError(
            f"{key}=false ({origin(key)}) is for {_RULE}=sparse_adam, but it is {rule} ({origin(_RULE)}): leave it at "
            "true."
        )
    if rule == "dense_adam":
        return
    if optim.get("name") not in ("adam", "adamw"):
        raise StemlabError(
            f"{_RULE}={rule} ({origin(_RULE)}) needs optim.name=adam or adamw for the other parameters, but it is "
            f"{optim.get('name')} ({origin('optim.name')})."
        )
    if model.get("embedding_regularizer_mode") == "dense" and model.get("embedding_regularizer") not in (None, 0):
        raise StemlabError(
            f"{_RULE}={rule} ({origin(_RULE)}) reads the rows of a batch only, but {_MODE}=dense ({origin(_MODE)}) "
            f"penalises whole tables: set {_MODE}=batch."
        )


def check_net_tables(config: Mapping[str, Any], net: Any, origin: Origin) -> None:
    """Refuse tables trained by rows for a network in which every row has a gradient."""
    rule, reason = config.get("optim", {}).get("tables", "dense_adam"), getattr(net, "reads_whole_tables", None)
    if rule != "dense_adam" and reason is not None:
        raise StemlabError(
            f"{_RULE}={rule} ({origin(_RULE)}) is not for model={config['model']['name']}, which {reason}: set "
            f"{_RULE}=dense_adam."
        )
