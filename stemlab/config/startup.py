"""A shorter time before the first training step: work on the second core, and no garbage collection of modules.

A command composes its config for about a second, and imports torch afterwards. The shared libraries of torch are a
fifth of that import; the dynamic loader works without Python's lock, so a thread loads them meanwhile. The collector of
reference cycles looks at all objects several times while 2,000 modules are imported and finds nothing to free.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

_LIBRARIES = (("libtorch_global_deps.so", ctypes.RTLD_GLOBAL), ("libtorch_python.so", ctypes.RTLD_LOCAL))
"""What ``import torch`` loads, in its order and modes."""


def start_loading_torch(words: Sequence[str]) -> threading.Thread | None:
    """Load the shared libraries of torch in a thread; None where a command needs no torch, or on other systems.

    The thread is not a daemon: the process must not end while the dynamic loader works.

    Args:
        words: arguments of the command; help, sweeps and other options (``-m``, ``--cfg``) do not train here.
    """
    if not sys.platform.startswith("linux") or "torch" in sys.modules or any(word.startswith("-") for word in words):
        return None
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    thread = threading.Thread(target=_load, args=(Path(spec.origin).parent / "lib",), name="torch libraries")
    thread.start()
    return thread


def _load(folder: Path) -> None:
    with suppress(OSError):  # another layout: torch finds its libraries itself
        for name, mode in _LIBRARIES:
            ctypes.CDLL(str(folder / name), mode=mode)


def pause_collection() -> None:
    """Collect no garbage while modules are imported; no effect if torch is imported already."""
    if "torch" not in sys.modules:
        gc.disable()


def resume_collection() -> None:
    """Collect garbage again if that was paused, but not the objects that exist: those of modules live until the end."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
