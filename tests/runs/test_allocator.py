"""Freed memory is kept for the next step, so that steps cause no page faults."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from stemlab.runs.allocator import keep_freed_memory

def step():
    return [torch.ones(2_000_000) for _ in range(4)]  # 8 MB each: 2,000 pages

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    """Return the page faults of ten steps; the variable disables the dynamic threshold of glibc."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    command = [sys.executable, "-c", PROGRAM, mode]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_no_new_pages_after_the_first_steps() -> None:
    assert page_faults("keep") < 1000
    assert page_faults("default") > 10_000
