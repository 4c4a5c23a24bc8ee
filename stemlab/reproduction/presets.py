"""List of the reproductions (``conf/reproduce``)."""

from __future__ import annotations

import yaml

from stemlab.config.conf_dir import conf_dir


def preset_list() -> str:
    """Return the names and titles of all reproductions."""
    found = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted(conf_dir().glob("reproduce/*.yaml"))}
    width = max(map(len, found), default=0)
    lines = [f"  {name.ljust(width)}  {preset['title']}" for name, preset in found.items()]
    return "\n".join(["python -m stemlab.reproduce <name> [budget=10m] [seeds=3] [raw_dir=<folder>]", "", *lines])
