"""Refuse metrics of recommended items where there are no lists of them (``model.beyond_accuracy``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError


def check_beyond_accuracy(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse metrics of recommended items if the positive is ranked among stored negatives."""
    key, candidates = "model.beyond_accuracy", config["dataset"].get("evaluation", {}).get("candidates")
    if config["model"].get("beyond_accuracy") and candidates != "full":
        raise StemlabError(
            f"{key}=true ({origin(key)}) measures the best items of the catalogue, and dataset.evaluation.candidates="
            f"{candidates} ({origin('dataset.evaluation.candidates')}) ranks a few: set it to full."
        )
