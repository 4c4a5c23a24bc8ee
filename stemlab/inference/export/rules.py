"""Content of ``encoder.json``: the vocabularies, scalings and scenarios of a prepared dataset as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.data.cell_rules import CellRules
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.list_layout import values_of
from stemlab.data.prepare.encode_table import encode_scenarios
from stemlab.data.prepare.scaling import Scaler
from stemlab.data.prepare.vocabulary import Vocabulary
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.log import MAX_TIME_UNIT
from stemlab.data.spec import DatasetSpec, Field
from stemlab.errors import StemlabError

FORMAT = 1
"""Version of ``encoder.json``."""


def impression_rules(data: ImpressionDataModule, spec: DatasetSpec) -> dict[str, Any]:
    """Return the rules of a dataset of impressions, without the inputs that the network reads.

    Args:
        data: the prepared dataset.
        spec: the dataset of the checkpoint.

    Raises:
        StemlabError: the dataset does not describe its cells.
    """
    cells = data.cell_rules()
    if cells is None:
        raise StemlabError(
            f"dataset {data.name!r} cannot be encoded outside of stemlab: set the attribute cells of "
            f"{type(data).__name__}, which describes how its cells are read (stemlab.data.cell_rules.CellRules)."
        )
    if getattr(data, "has_own_columns", False):
        raise StemlabError(
            f"dataset {data.name!r} has columns of a method derive(), which the encoder beside an export cannot "
            "compute: store them in the file, or use dataset.derived."
        )
    padding: Mapping[str, str] = data.manifest.get("padding", {})
    fields = [
        {
            "name": f.name,
            "vocabulary": f.table or f.name,
            "padding": padding.get(f.name),
            "out_of_vocabulary": f.size - 1,
        }
        for f in spec.fields
        if f.kind == "categorical"
    ]
    lists = [_list_field(field) for field in spec.lists]
    owners = dict.fromkeys(str(field["vocabulary"]) for field in (*fields, *lists))
    folder = data.directory / "vocabulary"
    return {
        "format": FORMAT,
        "kind": "impressions",
        "dataset": spec.name,
        "fields": fields,
        "numericals": [_scaling(f.name, data.manifest["numericals"][f.name]) for f in spec.numericals],
        "lists": {"columns": list(cells.lists), "fields": lists} if lists else None,
        "scenario": _scenario(data.manifest.get("scenario_column"), cells, spec),
        "cells": {key: value for key, value in cells.to_dict().items() if key not in ("lists", "derived")},
        "derived": [column for column in cells.derived if column["name"] in {field.name for field in spec.fields}],
        "vocabularies": {owner: Vocabulary.load(folder, owner).tokens.to_pylist() for owner in owners},
    }


def _list_field(field: Field) -> dict[str, Any]:
    values = values_of(field)
    return {
        **{"name": field.name, "vocabulary": field.table or field.name, "out_of_vocabulary": field.size - 1},
        **{"max_length": values.max_length, "times": values.times, "weighted": values.weighted},
    }


def _scaling(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    scaler = Scaler.from_dict(values)
    shift, scale = {
        "none": (0.0, 1.0),
        "standard": (scaler.mean, scaler.std or 1.0),
        "minmax": (scaler.low, scaler.high - scaler.low or 1.0),
    }[scaler.rule]
    return {"name": name, "mean": scaler.mean, "shift": shift, "scale": scale}


def _scenario(column: str | None, cells: CellRules, spec: DatasetSpec) -> dict[str, Any] | None:
    """Return column and token -> id of the scenarios, as ``TableEncoder`` reads them; ``None`` without scenarios."""
    if column is None:
        return None
    numbers = [] if any(name.lstrip("-").isdigit() for name in spec.scenarios) else range(len(spec.scenarios))
    tokens = [*spec.scenarios, *(str(number) for number in numbers)]
    ids = encode_scenarios(column, tokens, spec.scenarios).tolist()
    return {
        "column": cells.scenario or column,
        "ids": dict(zip(tokens, ids, strict=True)),
        "optional": len(spec.scenarios) == 1 and cells.scenario is None,
        "from": cells.scenario_from,
    }


def sequence_rules(data: SequenceDataModule, user_required: bool) -> dict[str, Any]:
    """Return the rules of a dataset of sequences, without the inputs that the network reads.

    Args:
        data: the prepared dataset.
        user_required: whether the network has a vector per user and cannot score others.
    """
    return {
        "format": FORMAT,
        "kind": "sequences",
        "dataset": data.name,
        "history_max": data.history_max,
        "largest_gap": MAX_TIME_UNIT,
        "user_required": user_required,
        "users": data.user_tokens,
        "items": data.item_tokens,
    }
