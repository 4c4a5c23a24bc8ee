"""Incremental mapping of strings to integer codes; memory grows with the distinct strings only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import Int64Array
from stemlab.data.io.arrow import as_numpy

MISSING_CODE = 0  # code of the empty string
_LARGEST_ARRAY = 1 << 30  # bytes; the offsets of Arrow strings are int32


class TokenCodes(Sequence[str]):
    """Codes of strings in the order of their first appearance; code 0 is the empty string, which means missing.

    Only hashes are looked up, so a distinct string takes the bytes of its text and about 24 more (a dict: about 170).
    As a sequence, ``self[code]`` is the string of a code.

    Args:
        hashed: 64-bit hash function; replaced only in tests.
    """

    def __init__(self, hashed: Callable[[str], int] = hash) -> None:
        self._hash = hashed
        self._strings: list[Any] = [pa.array([""], pa.string())]
        self._size = 1
        self._hashes = np.array([hashed("")], dtype=np.int64)  # ascending
        self._codes = np.zeros(1, dtype=np.int64)  # codes of self._hashes
        self._collisions: dict[str, int] = {}  # codes of strings whose hash is taken by another string

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, code: int) -> str: ...
    @overload
    def __getitem__(self, code: slice) -> Sequence[str]: ...
    def __getitem__(self, code: int | slice) -> str | Sequence[str]:
        strings = self._all()[code]
        return list(strings.to_pylist()) if isinstance(code, slice) else str(strings.as_py())

    def __iter__(self) -> Iterator[str]:
        for strings in self._strings:
            yield from strings.to_pylist()

    def take(self, codes: Int64Array) -> Any:
        """Return the strings of (V,) codes as an Arrow string array."""
        return self._all().take(pa.array(codes))

    def encode(self, strings: Any) -> Int64Array:
        """Return the codes of distinct strings, adding new ones.

        Args:
            strings: (W,) Arrow string array without nulls and repetitions.

        Returns:
            (W,) int64 codes.
        """
        hashes = np.fromiter(map(self._hash, strings.to_pylist()), dtype=np.int64, count=len(strings))
        index = np.searchsorted(self._hashes, hashes).clip(max=len(self._hashes) - 1)
        codes = np.where(self._hashes[index] == hashes, self._codes[index], -1)
        known = np.flatnonzero(codes >= 0)
        same = as_numpy(pc.cast(pc.equal(self.take(codes[known]), strings.take(pa.array(known))), pa.int8()))
        for other in known[same == 0]:
            codes[other] = self._collided_code(strings[int(other)])
        self._add(strings, hashes, codes)
        return codes

    def _add(self, strings: Any, hashes: Int64Array, codes: Int64Array) -> None:
        """Assign codes to the strings with a new hash; ``codes`` is changed in place."""
        new = np.flatnonzero(codes < 0)
        _, firsts = np.unique(hashes[new], return_index=True)
        added = new[np.sort(firsts)]
        codes[added] = self._size + np.arange(len(added))
        self._append(strings.take(pa.array(added)))
        for other in np.setdiff1d(new, added) if len(added) < len(new) else ():
            codes[other] = self._collided_code(strings[int(other)])
        order = np.argsort(hashes[added])
        index = np.searchsorted(self._hashes, hashes[added][order])
        self._hashes = np.insert(self._hashes, index, hashes[added][order])
        self._codes = np.insert(self._codes, index, codes[added][order])

    def _collided_code(self, string: Any) -> int:
        text = str(string.as_py())
        if text not in self._collisions:
            self._collisions[text] = self._size
            self._append(pa.array([text], pa.string()))
        return self._collisions[text]

    def _append(self, strings: Any) -> None:
        if len(strings):
            self._strings.append(strings)
            self._size += len(strings)

    def _all(self) -> Any:
        """Join the arrays; their sizes double, so each string is copied only a few times."""
        while len(self._strings) > 1 and len(self._strings[-1]) * 2 > len(self._strings[-2]):
            if sum(strings.nbytes for strings in self._strings[-2:]) > _LARGEST_ARRAY:
                break
            self._strings[-2:] = [pa.concat_arrays(self._strings[-2:])]
        return pa.chunked_array(self._strings)
