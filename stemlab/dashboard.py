"""``python -m stemlab.dashboard runs=runs``: all runs on one HTML page; with ``entity=``, as a W&B workspace."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from stemlab.config.cli import command
from stemlab.errors import StemlabError

if TYPE_CHECKING:
    from stemlab.config.dashboard_schema import DashboardConfig

_SHOWN_SKIPPED = 5


@command("dashboard")
def main(config: DictConfig) -> None:
    """Write the page, once or whenever a run changes, or save the workspace."""
    from stemlab.config.resolve import resolve

    dashboard(resolve(config))


def dashboard(config: Mapping[str, Any]) -> None:
    """Write the dashboard of a config.

    Args:
        config: plain (``stemlab.config.compose.compose("dashboard", ["runs=[...]"])``).

    Raises:
        StemlabError: there is no run, a package is missing, or W&B refuses the workspace.
    """
    from stemlab.config.dashboard_schema import DashboardConfig
    from stemlab.config.instantiate import validate_as

    settings = validate_as(DashboardConfig, config)
    if settings.entity is not None:
        from stemlab.reporting.dashboard.workspace import save_workspace

        print(save_workspace(settings))
        return
    if settings.project is not None:
        raise StemlabError("project= names a W&B project: set entity= to its user or team as well.")
    if settings.watch:
        _watch(settings)
    else:
        _write(settings, None)


def _watch(settings: DashboardConfig) -> None:
    """Write the page whenever a run changes, until Ctrl-C."""
    written = None
    try:
        _wait_for_run(settings)
        while True:
            written = _write(settings, written)
            time.sleep(settings.interval)
    except KeyboardInterrupt:  # the last page does not reload itself
        if written is not None:
            _write(settings.model_copy(update={"watch": False}), written)


def _wait_for_run(settings: DashboardConfig) -> None:
    """Return when there is a run; a path of ``runs`` must exist, the default folder need not."""
    from stemlab.reporting.dashboard.run_values import find_runs

    folder = Path(settings.paths["runs_dir"])
    patterns = settings.runs or [str(folder)]
    waiting = False
    while not ((settings.runs or folder.exists()) and find_runs(patterns, settings.only)[0]):
        if not waiting:
            print(f"waiting for the first run in {', '.join(patterns)} (Ctrl-C ends it)", flush=True)
        waiting = True
        time.sleep(settings.interval)


def _write(settings: DashboardConfig, before: str | None) -> str:
    """Write the page if its data have changed; return the data."""
    import json

    from stemlab.data.io.output_file import write_text_file
    from stemlab.reporting.dashboard.page import dashboard_data, dashboard_page

    data, skipped = dashboard_data(settings)
    now = json.dumps(data, sort_keys=True)
    if now == before:
        return now
    path = Path(settings.output)
    write_text_file(path, dashboard_page(data))
    for sentence in skipped[:_SHOWN_SKIPPED] if before is None else ():
        print(sentence)
    if len(skipped) > _SHOWN_SKIPPED and before is None:
        print(f"{len(skipped) - _SHOWN_SKIPPED} more records are left out.")
    watched = f"; written again when a run changes (every {settings.interval:g} s, Ctrl-C ends it)"
    more = watched if settings.watch and before is None else ""
    print(f"wrote {path}: {len(data['runs'])} runs, {path.stat().st_size / 1e6:.1f} MB{more}")
    return now


if __name__ == "__main__":
    main()
