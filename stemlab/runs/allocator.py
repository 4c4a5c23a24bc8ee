"""How the process keeps memory between training steps."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MMAP_THRESHOLD_BYTES = 32 * 2**20  # the largest that glibc lets a program take from its heap instead of mapping it
_TRIM_THRESHOLD_BYTES = 256 * 2**20


def keep_freed_memory() -> bool:
    """Keep up to 256 MB of freed memory for the next step instead of giving it back to the system; return whether.

    A training step on the processor frees its tensors and makes the same ones again. By default glibc maps blocks
    above 128 kB anew, or gives the end of its heap back, and the system then has to fill in thousands of pages a step:
    a fifth to a third of TiMiRec's. Only glibc knows how; elsewhere nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)) and bool(
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
    )
