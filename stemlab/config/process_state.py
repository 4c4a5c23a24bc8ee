"""State of the process that a training changes, restored at the end: for commands called from Python."""

from __future__ import annotations

import os
import random
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLES = ("PL_", "CUBLAS_WORKSPACE_CONFIG")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Restore random states, settings of torch, warning filters, signal handlers and variables at the end."""
    import numpy as np
    import torch

    in_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS} if in_main else {}
    variables = dict(os.environ)
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_state)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        _restore_variables(variables)
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _restore_variables(before: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith(_VARIABLES)]:
        if name not in before:
            del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if name.startswith(_VARIABLES)})
