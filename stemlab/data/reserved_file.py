"""Files whose columns are reserved as holes (a sparse file) and written in place later."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stemlab.array_types import AnyArray

_WRITE_AT_ONCE = 1 << 16  # larger buffers are left as holes in the file


def blank_column(kind: Any, length: int) -> Any:
    """Return an Arrow column of ``length`` zeros over untouched virtual memory."""
    size = length * kind.bit_width // 8
    # read-only and private: it uses no physical memory, and its size is not limited by that of main memory
    zeros = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    return pa.Array.from_buffers(kind, length, [None, pa.py_buffer(zeros).slice(0, size)], null_count=0)


def blank_lists(kind: Any, rows: int, width: int) -> Any:
    """Return an Arrow column of lists of ``width`` zeros over untouched virtual memory."""
    return pa.FixedSizeListArray.from_arrays(blank_column(kind, rows * width), width)


class _SparseSink:
    """File sink that seeks past large buffers instead of writing their zeros (holes in the file)."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.closed = False

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if size > _WRITE_AT_ONCE:
            self._file.seek(size, os.SEEK_CUR)
        else:
            self._file.write(data)
        return size

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self.closed = True


def reserve_file(path: Path, batch: Any) -> None:
    """Write a file of one record batch whose large buffers are holes."""
    sink = _SparseSink(path)
    options = pa.ipc.IpcWriteOptions(allow_64bit=True)  # 223 million rows of 10 fields exceed 2**31 list items
    with pa.ipc.new_file(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    sink.close()


def write_at(file: int, block: AnyArray, offset: int) -> None:
    """Write the bytes of an array at an offset of an open file."""
    view = block.reshape(-1).view(np.uint8).data
    while view.nbytes:
        wrote = os.pwrite(file, view, offset)
        view, offset = view[wrote:], offset + wrote
