"""Typed settings of ``stemlab.export`` and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from stemlab.config.section import Section
from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError

_TRAINER = {"accelerator": "cpu", "precision": "32-true", "kernels": "off"}


class ExportConfig(Section):
    """Top level of ``conf/export.yaml``, which documents the keys."""

    ckpt: str
    output: str
    format: Literal["onnx", "torchexport", "aoti"]
    allow: list[str]
    raw_dir: str | None
    data_dir: str | None
    trainer: dict[str, Any]
    paths: dict[str, Any]


def check_export_trainer(trainer: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a trainer that would change nothing in the exported file.

    Raises:
        StemlabError: the accelerator, precision or kernels are others than those of the export.
    """
    for key, value in _TRAINER.items():
        if trainer.get(key) != value:
            name = f"trainer.{key}"
            raise StemlabError(
                f"{name}={trainer.get(key)} ({origin(name)}) has no effect on an export, which is traced in float32 on "
                "the CPU: leave it out."
            )
