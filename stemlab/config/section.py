"""Base class and shared types of the typed config models."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def _metric_name(name: str) -> str:
    if not re.fullmatch(r"(val|test)/\w+(@\d+)?(/.+)?", name):
        raise ValueError("a metric name, split/metric[/task[/scenario]], such as val/auc or val/auc/like")
    return name


Monitor = Annotated[str, AfterValidator(_metric_name)]


class Section(BaseModel):
    """Part of the config; unknown keys are refused and values are not converted."""

    # defer_build: a command builds the validators of the models that it uses
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)
