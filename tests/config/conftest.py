import os
import subprocess
import sys
from pathlib import Path

import pytest

from stemlab.config.compose import CommandLine
from stemlab.config.sweep import check_command_line
from stemlab.errors import StemlabError

ROOT = Path(__file__).resolve().parents[2]
TOY = Path(__file__).parent / "toy"


@pytest.fixture
def message():
    """Return the error message for the arguments of a command line, or None."""

    def refuse(*words, multirun=False):
        line = CommandLine("train", ("dataset=toy", *words), multirun, extra=TOY)
        try:
            check_command_line(line)
        except StemlabError as error:
            return str(error)
        return None

    return refuse


@pytest.fixture
def program(tmp_path):
    """Run ``tests/config/program.py`` in an empty directory; return the finished process."""

    def run(*words, **environment):
        command = [sys.executable, "-m", "tests.config.program", f"--config-dir={TOY}", "dataset=toy", *words]
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120)

    return run
