"""A command that trains nothing and records model and seed of its config.

The first tag selects how it ends: ``odd`` (user error for odd seeds), ``bug`` (exception), ``interrupt``; else success.
"""

import json
from pathlib import Path

from stemlab.config.cli import command
from stemlab.config.job_process import needs_own_processes, run_job_in_subprocess
from stemlab.config.resolve import resolve
from stemlab.errors import StemlabError


@command("train")
def main(config):
    plain = resolve(config)
    if needs_own_processes(plain["trainer"]):
        return run_job_in_subprocess(plain["objective"], "tests.config.program")
    end = plain["tags"][0] if plain["tags"] else "success"
    if end == "odd" and plain["seed"] % 2:
        raise StemlabError("row 7 has 11 columns.")
    if end == "bug":
        raise ValueError("a programming error")
    if end == "interrupt":
        raise KeyboardInterrupt
    record = {"model": plain["model"]["name"], "seed": plain["seed"], "metrics": {"val/auc": plain["seed"] / 10}}
    Path(plain["paths"]["output_dir"], "record.json").write_text(json.dumps(record))
    return record["metrics"]["val/auc"]


if __name__ == "__main__":
    main()
