import os
import subprocess
from pathlib import Path

import pytest

from stemlab.config.compose import CommandLine
from stemlab.config.sweep import check_command_line
from stemlab.errors import StemlabError
from tests.cli.commands import TIMEOUT_S
from tests.cli.forked import ForkedCommand

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
    """Run ``tests/config/program.py`` in a forked process in an empty directory; return the finished process."""

    def run(*words, **environment):
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
        words = (f"--config-dir={TOY}", "dataset=toy", *words)
        process = ForkedCommand("tests.config.program", words, tmp_path, variables)
        out, err = process.communicate(TIMEOUT_S)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    return run
