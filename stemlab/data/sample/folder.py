"""A synthetic raw file: written once, found again by its settings, and announced as SAMPLE every time."""

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
    """Return the file of a synthetic sample, written now if it is not there.

    Args:
        root: folder of all samples.
        kind: begins the name of the sample's own folder; simulation and program version follow as a hash.
        name: name of the file.
        simulation: the settings, a dataclass of plain values.
        write: writes the file.
    """
    text = json.dumps({"code": stemlab.__version__, **asdict(simulation)}, sort_keys=True)
    folder = root / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def build(part: Path) -> None:
        write(part / name)

    find_or_build(folder, lambda made: None if (made / name).is_file() else f"{name} is missing", build)
    return folder / name


@rank_zero_only
def announce_sample(reason: str, what: str) -> None:
    """Warn that the data is synthetic, and why it is taken."""
    _log.warning("SAMPLE data (%s): %s; their numbers are no results.", reason, what)
