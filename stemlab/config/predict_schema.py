"""Typed model of ``conf/predict.yaml``."""

from __future__ import annotations

from typing import Any, Literal

from stemlab.config.section import Section
from stemlab.types import PositiveInt


class PredictConfig(Section):
    """Top level of ``conf/predict.yaml``.

    Attributes:
        input: ``None`` is all users of the dataset (sequential models).
        on_bad_cell: rows with a cell that cannot be read (multi-task models): ``error`` stops, ``skip`` gives no score,
            ``default`` reads the cell as a missing value.
        unknown_scenario: scenario of rows whose scenario the dataset does not have; ``None``: their cell is bad.
        on_unknown: ``error`` or ``skip`` for users and items that are not in the dataset.
    """

    ckpt: str
    input: str | None
    output: str
    allow: list[str]
    raw_dir: str | None
    data_dir: str | None
    batch_size: PositiveInt | None
    on_bad_cell: Literal["error", "skip", "default"]
    unknown_scenario: str | None
    topk: PositiveInt
    exclude_seen: bool
    on_unknown: Literal["error", "skip"]
    vectors: str | None
    interests: str | None
    item_vectors: str | None
    escape_csv: bool
    index: Literal["none", "exact", "hnsw"]
    index_path: str | None
    trainer: dict[str, Any]
    paths: dict[str, Any]
