"""Faster composition of configs in a test process."""

from __future__ import annotations

from tests.fast_copies import copy_nodes_faster
from tests.kept_compositions import keep_compositions
from tests.kept_parses import keep_parses


def compose_faster() -> None:
    """Keep what compositions of the files in ``conf/`` have in common; a test compares the configs with Hydra's."""
    keep_parses()
    copy_nodes_faster()
    keep_compositions()
