"""Cache of synthetic raw files, keyed by their settings, and the SAMPLE warning."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

import stemlab
from stemlab.data.prepare.atomic_directory import find_or_build

_log = logging.getLogger(__name__)


def sample_file(root: Path, kind: str, name: str, simulation: Any, write: Callable[[Path], object]) -> Path:
    """Return the path of a synthetic file; write the file if it does not exist.

    Args:
        root: folder of all samples.
        kind: prefix of the name of the sample's folder; a hash of the simulation and of stemlab's version follows.
        name: name of the file.
        simulation: settings of the generator, a dataclass of plain values.
        write: writes the file, given its path.
    """
    text = json.dumps({"code": stemlab.__version__, **asdict(simulation)}, sort_keys=True)
    folder = root / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def build(part: Path) -> None:
        write(part / name)

    find_or_build(folder, lambda made: None if (made / name).is_file() else f"{name} is missing", build)
    return folder / name


@rank_zero_only
def announce_sample(source: str, missing: str, content: str) -> None:
    """Log a warning that the data is synthetic, with the reason.

    Args:
        source: value of ``dataset.source``.
        missing: what is missing, the reason if the source is not ``sample``.
        content: description of the data.
    """
    reason = "requested by dataset.source=sample" if source == "sample" else missing
    _log.warning("SAMPLE data (%s): %s; metrics on it are not results.", reason, content)
