"""Command lines that name a class of the user: settings without a file of ``conf/``, import from the current folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

TARGET = "_target_"
OWN_NODES = ("model.net", "model.balancing", "dataset", "analysis")
OPEN_NODES = ("callbacks.own.", "metrics.own.", "only=", "only.")
"""Mappings with keys of the user: callbacks; metrics; runs (``only`` of stemlab.report and stemlab.dashboard)."""


def open_nodes(words: Sequence[str]) -> list[str]:
    """Return command line arguments that may add settings to a node whose class they name.

    Hydra refuses a key that no file of ``conf/`` has. ``model.net.width=8`` becomes ``++model.net.width=8`` beside
    ``model.net._target_=...``: the settings are checked against the signature of the class instead. ``OPEN_NODES`` are
    open, too.
    """
    named = [f"{node}." for node in OWN_NODES if any(word.startswith(f"{node}.{TARGET}=") for word in words)]
    opened = (*named, *OPEN_NODES)
    return [f"++{word}" if word.startswith(opened) and "=" in word else word for word in words]


def search_current_folder() -> bool:
    """Add the current folder to the end of ``sys.path``; return whether it was added.

    ``python -m`` has done so already, a console script has not. ``PYTHONSAFEPATH=1`` prevents it.
    """
    folder = os.getcwd()
    if sys.flags.safe_path or any(path in ("", folder) for path in sys.path):
        return False
    sys.path.append(folder)
    return True
