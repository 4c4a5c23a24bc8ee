"""Typed settings of ``stemlab.analyze``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from stemlab.config.section import Section
from stemlab.config.thresholds import parse_condition
from stemlab.types import NonNegativeInt


def _condition(text: str) -> str:
    return parse_condition(text).text


ConditionText = Annotated[str, AfterValidator(_condition)]


class AnalyzeConfig(Section):
    """Top level of ``conf/analyze.yaml``, which documents the keys."""

    run: str | None
    runs: list[str]
    models: list[str]
    train: dict[str, Any] | None
    seed: NonNegativeInt
    dataset: dict[str, Any] | None = None
    allow: list[str]
    raw_dir: str | None
    data_dir: str | None
    output: str | None
    escape_csv: bool
    fail_if: list[ConditionText] | ConditionText
    analysis: dict[str, Any]
    trainer: dict[str, Any]
    paths: dict[str, Any]
