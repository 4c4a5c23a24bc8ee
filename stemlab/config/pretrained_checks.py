"""Pretrained vectors of fields (``model.pretrained``): their settings, and what is refused before data is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemlab.config.section import Section
from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError, nearest
from stemlab.types import PositiveInt

if TYPE_CHECKING:
    from stemlab.data.vector_file import VectorFile

_KEY = "model.pretrained"
SUFFIXES = (".npy", ".parquet")


class PretrainedVectors(Section):
    """Vectors of the values of one field (docs/vectors.md).

    Attributes:
        file: ``.npy`` (rows, width) or ``.parquet``.
        width: numbers per vector; in the checkpoint, so that a run is rebuilt without the file.
        ids: of ``.npy``, a ``.npy`` or text file with one id per row; of ``.parquet``, the column of the ids.
        column: of ``.parquet``, the column of the vectors; ``None``: the only column of lists of floats.
        frozen: whether the vectors stay as they are.
        projection: whether a linear layer maps them to the width of the tables; ``None``: where the widths differ.
    """

    file: str
    width: PositiveInt | None = None
    ids: str | None = None
    column: str | None = None
    frozen: bool = True
    projection: bool | None = None


def vector_file(name: str, setting: Mapping[str, Any]) -> VectorFile:
    """Return the file of a field's vectors."""
    from stemlab.data.vector_file import VectorFile

    return VectorFile(f"{_KEY}.{name}", Path(setting["file"]), setting.get("ids"), setting.get("column"))


def check_pretrained(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse vectors of an unknown field, and files that do not fit; a resumed run does not read the files.

    Raises:
        StemlabError: the first such setting.
    """
    settings: Mapping[str, Mapping[str, Any]] = config["model"].get("pretrained") or {}
    resumed = config.get("resume", "never") != "never" or config.get("resume_from") or config.get("ckpt_path")
    known = _fields(config["dataset"])
    for name, setting in settings.items():
        key = f"{_KEY}.{name}"
        if known and name not in known:
            raise StemlabError(
                f"{key} ({origin(key)}): {name!r} is no field of dataset={config['dataset'].get('name')} with a table "
                f"of its own: {', '.join(known)}.{nearest(name, known)}"
            )
        path = Path(setting["file"])
        if path.suffix not in SUFFIXES:
            raise StemlabError(f"{key}.file={path} ({origin(f'{key}.file')}) must end in {' or '.join(SUFFIXES)}.")
        if path.suffix == ".npy" and setting.get("ids") is None:
            raise StemlabError(f"{key}.ids is not set: {path} needs a .npy or text file with the id of each row.")
        if path.suffix == ".npy" and setting.get("column") is not None:
            raise StemlabError(f"{key}.column ({origin(f'{key}.column')}) is for .parquet, and {path} has no columns.")
        if setting.get("width") is None or not resumed:
            _check_width(name, setting, origin)


def _check_width(name: str, setting: Mapping[str, Any], origin: Origin) -> None:
    from stemlab.data.vector_file import vector_width

    key, width = f"{_KEY}.{name}.width", vector_width(vector_file(name, setting))
    if setting.get("width") is None:
        raise StemlabError(
            f"{key} is not set: the vectors of {setting['file']} have {width} numbers; set {key}={width}."
        )
    if setting["width"] != width:
        raise StemlabError(
            f"{key}={setting['width']} ({origin(key)}), but the vectors of {setting['file']} have {width} numbers."
        )


def _fields(dataset: Mapping[str, Any]) -> list[str]:
    """Return the fields that have a table of their own; empty if only the prepared dataset knows them."""
    fields = dataset.get("fields")
    if not isinstance(fields, list):
        return []
    shared, lists = dataset.get("shared") or {}, dataset.get("multivalued") or {}
    own = [name for name, setting in lists.items() if isinstance(setting, Mapping) and setting.get("table") is None]
    return [name for name in [*fields, *own] if name not in shared and name != dataset.get("scenario")]
