"""Run a function in two ranks (gloo on the CPU) that share the imports of a server process.

The children are forked from a server that has imported torch and stemlab once and nothing else, so a test with two
ranks costs tenths of a second instead of the imports of two interpreters.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from typing import Any

import torch
from torch import distributed

TIMEOUT_S = 300
PRELOADED = (
    "tests.kept_metadata",
    "pytest",
    "hypothesis",
    "torchmetrics",
    "stemlab.metrics",
    "stemlab.models.multiscenario.mmfi",
    "torch._dynamo",
    "hydra.main",
    "stemlab.runs.stages",
    "stemlab.inference.evaluate",
    "tests.ranks",
    "tests.cli.forked",
    "tests.cli.server",
)


def server_context() -> ForkServerContext:
    """Return the context whose processes are forked from the server with the imports."""
    context = get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    return context


def run_ranks(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what ``function(rank, *arguments)`` returns in rank 0 and in rank 1.

    Args:
        function: defined at the top of a module; its result can be pickled.
        arguments: passed on to every rank.
    """
    context = server_context()
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(2, context) as pool:
        running = [pool.submit(_rank, function, rank, f"file://{folder}/store", arguments) for rank in range(2)]
        ended, _ = wait(running, TIMEOUT_S, FIRST_EXCEPTION)
        failed = [future.exception() for future in ended if future.exception() is not None]
        if failed or len(ended) < len(running):
            for process in list(pool._processes.values()):  # a rank that waits for the other one would never end
                process.kill()
            raise failed[0] if failed else TimeoutError(f"the ranks took more than {TIMEOUT_S} s")
        return [future.result() for future in running]


def _rank(function: Callable[..., Any], rank: int, store: str, arguments: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    try:
        return function(rank, *arguments)
    finally:
        distributed.destroy_process_group()
