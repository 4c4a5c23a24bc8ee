"""Pretrained vectors of a run: written into the tables before the training, and reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from stemlab.config.pretrained_checks import vector_file
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.prepare.vocabulary import Vocabulary
from stemlab.data.vector_file import read_vectors
from stemlab.nn.pretrained_tables import set_vectors, use_pretrained


def pretrained_settings(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return field -> its setting in ``model.pretrained``, with all defaults."""
    defaults = {"ids": None, "column": None, "frozen": True, "projection": None}
    return {name: {**defaults, **setting} for name, setting in (config["model"].get("pretrained") or {}).items()}


def prepare_tables(config: Mapping[str, Any], net: nn.Module) -> None:
    """Give the tables of ``model.pretrained`` their shape; the values are those of a checkpoint or of the files."""
    for name, chosen in pretrained_settings(config).items():
        use_pretrained(net, name, chosen["width"], frozen=chosen["frozen"], projection=chosen["projection"])


def load_pretrained(config: Mapping[str, Any], data: Any, net: nn.Module) -> dict[str, dict[str, Any]]:
    """Write the vectors of the files into the tables, and return what was read, per field.

    Args:
        config: validated, plain config of a training.
        data: the prepared dataset.
        net: its network.

    Raises:
        StemlabError: a file does not fit.
    """
    report = {}
    for name, chosen in pretrained_settings(config).items():
        assert isinstance(data, ImpressionDataModule)
        vocabulary = Vocabulary.load(data.directory / "vocabulary", name)
        found = read_vectors(vector_file(name, chosen), vocabulary.tokens, chosen["width"])
        set_vectors(net, name, torch.from_numpy(found.ids_R), torch.from_numpy(found.rows_RP))
        report[name] = {
            "file": chosen["file"],
            "width": chosen["width"],
            "frozen": chosen["frozen"],
            "ids": found.size,
            "ids_with_vector": len(found.ids_R),
            "vectors_of_other_ids": found.others,
        }
    return report


def pretrained_words(report: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one line per field for the run summary."""
    lines = []
    for name, one in report.items():
        missing = one["ids"] - one["ids_with_vector"]
        rest = f"; {missing:,} without, {'zero' if one['frozen'] else 'at initial values'}" if missing else ""
        kind = "frozen" if one["frozen"] else "trained"
        lines.append(f"{name} {one['ids_with_vector']:,} of {one['ids']:,} ids, {one['width']} wide, {kind}{rest}")
    return "\n".join(lines)
