"""Run record: one JSON file with config, data, code, hardware and metrics of a run; the source of all tables."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import stemlab
from stemlab.data.io.output_file import write_text_file
from stemlab.errors import StemlabError
from stemlab.reporting.run_lock import is_locked

SCHEMA = 1
RECORD = "record.json"
_PACKAGES = (
    *("torch", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "pydantic"),
    *("numpy", "pandas", "pyarrow", "wandb"),
)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON atomically; NaN and infinity become ``null``.

    Raises:
        StemlabError: the file cannot be written; nothing is left of it.
    """
    write_text_file(path, json.dumps(defined(values), indent=2, allow_nan=False) + "\n")


def file_name(text: str) -> str:
    """Return a text as the name of a file, without separators; names of a record or checkpoint may be any text."""
    return re.sub(r"[^\w.@+=,;:()\[\] -]|^\.", "_", text)[:200]


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a run directory, or of the given file.

    The status ``running`` of a run whose process has ended becomes ``interrupted``.

    Raises:
        StemlabError: the record does not exist, is not JSON, or has another schema version.
    """
    path = path / RECORD if path.is_dir() else path
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StemlabError(f"there is no run record {path}.") from None
    except ValueError as error:
        raise StemlabError(f"{path} is not JSON ({error}).") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise StemlabError(f"{path} is not a run record of schema {SCHEMA}.")
    if record.get("status") == "running" and not is_locked(path.parent):
        record["status"] = "interrupted"
    return record


def defined(value: Any) -> Any:
    """Return a JSON-serialisable copy of the value with NaN and infinity replaced by ``None``."""
    if isinstance(value, Mapping):
        return {str(key): defined(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [defined(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def code_version() -> dict[str, Any]:
    """Return the version and, if git tracks the package, the commit and whether tracked files differ from it."""
    package = Path(stemlab.__file__).parent
    version: dict[str, Any] = {"version": stemlab.__version__, "git_commit": None, "git_dirty": None}
    # a package installed inside another project's checkout must not report the commit of that project
    if _git(package, "ls-files", "--error-unmatch", "__init__.py"):
        version["git_commit"] = _git(package, "rev-parse", "HEAD")
        version["git_dirty"] = bool(_git(package, "status", "--porcelain", "--untracked-files=no"))
    return version


def _git(directory: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=directory, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def packages() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def hardware(processes: int) -> dict[str, Any]:
    """Return the hardware of the run.

    Args:
        processes: number of processes of the run (world size).
    """
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": gpus,
        "processes": processes,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.processor())


def peak_memory() -> dict[str, int]:
    """Return the peak resident set size of this process and, if used, the peak GPU memory, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available() and torch.cuda.memory_allocated():
        peak["peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
    return peak
