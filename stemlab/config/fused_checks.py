"""Refuse settings that cannot be combined with tables trained in the backward pass (``optim.tables=torchrec_...``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stemlab.config.cross_checks import is_sequential
from stemlab.config.job_process import process_count
from stemlab.config.own_balancing import gradient_method
from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError

FUSED_RULE = "torchrec_rowwise_adagrad"
_KEY = "optim.tables"
_INSTEAD = f"set {_KEY}=rowwise_adagrad, the same rule without FBGEMM"


def check_fused_tables(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a training that FBGEMM's operators cannot do.

    Raises:
        StemlabError: the first reason, or FBGEMM is not installed for the device.
    """
    if config["optim"].get("tables") != FUSED_RULE:
        return
    if reason := _reason(config, config.get("trainer", {})):
        raise StemlabError(f"{_KEY}={FUSED_RULE} ({origin(_KEY)}) {reason}.")
    if find_spec("fbgemm_gpu") is None:
        raise StemlabError(f"{_KEY}={FUSED_RULE} ({origin(_KEY)}) needs TorchRec and FBGEMM: run `make torchrec`.")
    if config.get("trainer", {}).get("accelerator") == "gpu" and _variant() == "cpu":
        raise StemlabError(
            f"{_KEY}={FUSED_RULE} ({origin(_KEY)}) needs FBGEMM for GPUs, and the one for CPUs is installed: "
            "`pip uninstall fbgemm-gpu-cpu` and `pip install --no-deps fbgemm-gpu==1.8.0`, or set trainer=cpu."
        )


def _variant() -> str | None:
    """Return the platform of the installed FBGEMM, such as ``cpu`` or ``cuda``, without importing it."""
    spec = find_spec("fbgemm_gpu")
    path = Path(str(spec and spec.origin)).parent / "docs" / "target.default.json.py"  # a JSON file, despite its name
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["variant"])
    except (OSError, ValueError, KeyError):
        return None  # a build of one's own; the operators are checked when the tables are built


def check_fused_net(config: Mapping[str, Any], net: Any, origin: Origin) -> None:
    """Refuse a network that computes gradients more than once per step."""
    if config.get("optim", {}).get("tables") == FUSED_RULE and hasattr(net, "meta_output"):
        raise StemlabError(
            f"{_KEY}={FUSED_RULE} ({origin(_KEY)}) is not for model={config['model']['name']}, which computes "
            f"gradients several times per step: {_INSTEAD}."
        )


def _reason(config: Mapping[str, Any], trainer: Mapping[str, Any]) -> str | None:
    if is_sequential(config):
        return f"is for tables of fields, not for the sequential model={config['model']['name']}: {_INSTEAD}"
    lists = [key for key in ("multivalued", "sequences") if config.get("dataset", {}).get(key)]
    if lists:
        return f"does not look up dataset.{lists[0]}: {_INSTEAD}"
    if trainer and process_count(trainer) != 1:
        return (
            "is for one process, because each process would update its own copy of the tables in the backward pass: "
            f"{_INSTEAD}, or set trainer.devices=1"
        )
    if trainer and trainer["compile"]:
        return "uses operators that cannot be compiled here: set trainer.compile=false"
    if trainer and trainer["accumulate_grad_batches"] != 1:
        return "updates the tables in every backward pass: set trainer.accumulate_grad_batches=1"
    if gradient_method(config["model"]):
        return f"updates the tables in every backward pass, and model.balancing has several per step: {_INSTEAD}"
    if config["optim"].get("clip_norm") is not None:
        return (
            "updates the tables in the backward pass, before the norm of all gradients is known: set "
            "optim.clip_norm=null"
        )
    return None
