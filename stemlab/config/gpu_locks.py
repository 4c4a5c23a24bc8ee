"""GPUs of jobs that Hydra's launchers run at the same time: each job holds the locks of its own."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stemlab.errors import StemlabError

_PAUSE_S = 0.5


def visible_gpus() -> list[str]:
    """Return the GPUs of this process, as values of ``CUDA_VISIBLE_DEVICES``."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        import torch

        return [str(index) for index in range(torch.cuda.device_count())]
    return [name.strip() for name in names.split(",") if name.strip()]


@contextmanager
def reserved_gpus(folder: Path, count: int) -> Iterator[str]:
    """Wait for free GPUs and hold them; yield their value of ``CUDA_VISIBLE_DEVICES``.

    Args:
        folder: folder of the lock files, common to the jobs.
        count: number of GPUs.

    Raises:
        StemlabError: fewer GPUs are visible.
    """
    names = visible_gpus()
    if not 1 <= count <= len(names):
        raise StemlabError(f"a job needs {count} GPUs (trainer.devices), {len(names)} are visible.")
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        with ExitStack() as held:
            found: list[str] = []
            for name in names:
                file = held.enter_context((folder / f".gpu-{name}.lock").open("a"))
                if len(found) < count and _try_lock(file.fileno()):
                    found.append(name)
            if len(found) == count:
                yield ",".join(found)
                return
        time.sleep(_PAUSE_S)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
