"""Strings of a column that is read piece by piece -> small integers, in the memory of the distinct strings alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import Int64Array
from stemlab.data.io.arrow import as_numpy

MISSING_CODE = 0  # the code of the empty string
_LARGEST_PIECE = 1 << 30  # bytes; Arrow's strings count them in 31 bits


class TokenCodes(Sequence[str]):
    """Numbers strings from 0 in the order in which they first appear; 0 is the empty string, which means missing.

    Ten million distinct strings take the bytes of their text and about 24 more each (a dict: about 170), because only
    their hashes are looked up. As a sequence it is the tokens that the codes stand for.

    Args:
        hashed: the 64-bit hash; another one only in tests.
    """

    def __init__(self, hashed: Callable[[str], int] = hash) -> None:
        self._hash = hashed
        self._words: list[Any] = [pa.array([""], pa.string())]
        self._size = 1
        self._hashes = np.array([hashed("")], dtype=np.int64)  # in ascending order
        self._codes = np.zeros(1, dtype=np.int64)  # of the same places
        self._twins: dict[str, int] = {}  # strings whose hash another string had before

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, code: int) -> str: ...
    @overload
    def __getitem__(self, code: slice) -> Sequence[str]: ...
    def __getitem__(self, code: int | slice) -> str | Sequence[str]:
        words = self._all()[code]
        return list(words.to_pylist()) if isinstance(code, slice) else str(words.as_py())

    def __iter__(self) -> Iterator[str]:
        for words in self._words:
            yield from words.to_pylist()

    def take(self, codes: Int64Array) -> Any:
        """Return the strings of (V,) codes as an Arrow string array."""
        return self._all().take(pa.array(codes))

    def encode(self, words: Any) -> Int64Array:
        """Return the (W,) codes of distinct strings (an Arrow string array without nulls); new ones get new codes."""
        hashes = np.fromiter(map(self._hash, words.to_pylist()), dtype=np.int64, count=len(words))
        place = np.searchsorted(self._hashes, hashes).clip(max=len(self._hashes) - 1)
        codes = np.where(self._hashes[place] == hashes, self._codes[place], -1)
        known = np.flatnonzero(codes >= 0)
        same = as_numpy(pc.cast(pc.equal(self.take(codes[known]), words.take(pa.array(known))), pa.int8()))
        for other in known[same == 0]:
            codes[other] = self._twin(words[int(other)])
        self._add(words, hashes, codes)
        return codes

    def _add(self, words: Any, hashes: Int64Array, codes: Int64Array) -> None:
        """Give codes to the strings whose hash is new; ``codes`` is filled in."""
        new = np.flatnonzero(codes < 0)
        _, firsts = np.unique(hashes[new], return_index=True)
        added = new[np.sort(firsts)]
        codes[added] = self._size + np.arange(len(added))
        self._append(words.take(pa.array(added)))
        for other in np.setdiff1d(new, added):
            codes[other] = self._twin(words[int(other)])
        order = np.argsort(hashes[added])
        places = np.searchsorted(self._hashes, hashes[added][order])
        self._hashes = np.insert(self._hashes, places, hashes[added][order])
        self._codes = np.insert(self._codes, places, codes[added][order])

    def _twin(self, word: Any) -> int:
        text = str(word.as_py())
        if text not in self._twins:
            self._twins[text] = self._size
            self._append(pa.array([text], pa.string()))
        return self._twins[text]

    def _append(self, words: Any) -> None:
        if len(words):
            self._words.append(words)
            self._size += len(words)

    def _all(self) -> Any:
        """Join the pieces: they double, so each string is copied a few times only."""
        while len(self._words) > 1 and len(self._words[-1]) * 2 > len(self._words[-2]):
            if sum(words.nbytes for words in self._words[-2:]) > _LARGEST_PIECE:
                break
            self._words[-2:] = [pa.concat_arrays(self._words[-2:])]
        return pa.chunked_array(self._words)
