"""The settings of ``stemlab.analyze``."""

from __future__ import annotations

from typing import Any

from stemlab.config.section import Section


class AnalyzeConfig(Section):
    """Top level of ``conf/analyze.yaml``, where every key is described."""

    run: str | None
    runs: list[str]
    raw_dir: str | None
    data_dir: str | None
    output: str | None
    analysis: dict[str, Any]
    trainer: dict[str, Any]
    paths: dict[str, Any]
