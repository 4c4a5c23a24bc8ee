"""Freed memory is kept for the next step, so that steps cause no page faults."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from stemlab.runs.allocator import keep_freed_memory

def step():
    return [torch.ones(2_000_000) for _ in range(4)]  # 8 MB each: 2,000 pages

def page_faults():
    for _ in range(5):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

freed = page_faults()
assert keep_freed_memory()
print(freed, page_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_no_new_pages_after_the_first_steps() -> None:
    """Counts the page faults of ten steps before and after; the variable disables the dynamic threshold of glibc."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    freed, kept = map(int, done.stdout.split())
    assert freed > 10_000
    assert kept < 1000
