"""Messages for errors of the machine: files, disks, memory, lost processes."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from stemlab.config.process_watch import OTHER_ENDED

_ADVICE = {
    errno.ENOSPC: "free some disk space, or choose another directory",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or choose another directory",
    errno.EDQUOT: "free some of your quota, or choose another directory",
    errno.EACCES: "check its permissions, or choose another path",
    errno.EPERM: "check its permissions, or choose another path",
    errno.EROFS: "choose a path on a file system that can be written",
    errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EEXIST: "a file of that name exists; choose another path",
    errno.EISDIR: "give a file, not a directory",
    errno.ENOENT: "check the path",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.EIO: "check the disk",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_BYTES = 1 << 20  # free space with which a file system counts as full
_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "Cannot allocate memory")
_LOST_RANK = (
    *(
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "Application timeout caused pair closure",
    ),
    *("DistBackendError", "DistNetworkError", "DistStoreError", "Timed out waiting"),
)


def machine_error(error: BaseException) -> str | None:
    """Return a message for an error that the machine caused, or ``None`` for another error.

    Args:
        error: the exception; its causes are searched, too, because libraries wrap such errors.
    """
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        message = _message(found)
        if message is not None:
            return message
        found = found.__cause__ or found.__context__
    return None


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an error says that another process of the run cannot be reached."""
    text = f"{type(error).__name__} {error}"
    return isinstance(error, RuntimeError) and any(word in text for word in _LOST_RANK)


def _message(error: BaseException) -> str | None:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in text for word in _MEMORY)):
        reason = f" ({text[:200]})" if text else ""
        return f"there is not enough memory{reason}: use smaller batches, a smaller model or table, or free memory."
    if is_lost_connection(error):
        return f"{OTHER_ENDED} ({text[:200]}); its error message is above."
    if isinstance(error, OSError) and error.errno is not None:
        path = error.filename2 or error.filename or (_full_folder() if error.errno in _FULL else None)
        where = f"{path}: " if path else ""
        advice = _ADVICE.get(error.errno)
        return f"{where}{error.strerror or text}{f'; {advice}' if advice else ''}."
    return None


def _full_folder() -> Path | None:
    """Return the first of run directory, current and temporary folder whose file system is full; None: none of them.

    An error while an open file is written does not name the file.
    """
    hydra = sys.modules.get("hydra.core.hydra_config")
    job = hydra.HydraConfig.get() if hydra is not None and hydra.HydraConfig.initialized() else None
    run = job.runtime.get("output_dir") if job is not None else None
    with suppress(OSError):  # the current folder was deleted, or no temporary folder can be written
        for folder in (Path(name) for name in (run, os.getcwd(), tempfile.gettempdir()) if name):
            space = os.statvfs(next(path for path in (folder, *folder.parents) if path.exists()))
            if space.f_bavail * space.f_frsize < _FULL_BYTES:
                return folder
    return None
