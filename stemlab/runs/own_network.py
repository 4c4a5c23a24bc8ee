"""Errors of a training of the user's own network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.config.own_class import is_own
from stemlab.config.own_errors import own_error
from stemlab.errors import StemlabError
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.own_network import wrong_output
from stemlab.runs.build import Module


def explain_own_network(config: Mapping[str, Any], module: Module, error: Exception) -> None:
    """Raise an error that names an own multi-task network with a wrong output, if the exception does not name it.

    Args:
        config: config of the training.
        module: its module, which is not used any more.
        error: exception that ended the training.

    Raises:
        StemlabError: the output of the network is wrong.
    """
    if isinstance(error, StemlabError) or own_error(error) is not None or not is_own(config["model"]["net"]):
        return
    if isinstance(module, MultiTaskModule):
        wrong = wrong_output(module.net, module.sizes, module.tasks)
        if wrong is not None:
            raise StemlabError(f"model.net: {wrong}; see docs/own/README.md.") from error
