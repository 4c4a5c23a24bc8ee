"""Paths of runs on the command line: a path, or a glob pattern."""

from __future__ import annotations

import glob
import os
from pathlib import Path


def matching_paths(pattern: str) -> list[Path]:
    """Return the path itself if it exists, for names with brackets, else what matches the glob pattern, sorted."""
    return [Path(pattern)] if os.path.exists(pattern) else sorted(map(Path, glob.glob(pattern, recursive=True)))
