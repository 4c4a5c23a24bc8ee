"""Nearest-neighbour index of the items by inner product, built with Faiss (extra ``retrieval``).

An index is a Faiss file plus a JSON file with metadata: position ``p`` of the index is item ``items[p]``. ``exact``
compares a query with every item. ``hnsw`` searches a neighbour graph (Malkov & Yashunin, "Efficient and robust
approximate nearest neighbor search using Hierarchical Navigable Small World graphs", TPAMI 2020) and is approximate.

Legend: B users, K vectors per user, D embedding width, I items, N items per list.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stemlab.array_types import Float32Array, Int64Array
from stemlab.data.io.output_file import complete_file, write_errors
from stemlab.errors import StemlabError

IndexKind = Literal["exact", "hnsw"]

# HNSW parameters M, efConstruction and efSearch. Faiss raises efSearch to the number of requested items; the value is
# stored in the index file and may be changed there.
_HNSW_LINKS, _BUILD_BREADTH, _SEARCH_BREADTH = 32, 200, 256


def require_faiss() -> Any:
    """Return the module ``faiss``.

    Raises:
        StemlabError: Faiss is not installed.
    """
    logging.getLogger("faiss").setLevel(logging.WARNING)  # at INFO, Faiss logs the CPU instruction sets that it tries
    try:
        import faiss
    except ModuleNotFoundError:
        raise StemlabError(
            "index needs Faiss, which is not installed: pip install 'stemlab[retrieval]', or set index=none."
        ) from None
    return faiss


class ItemIndex:
    """Index that finds the items with the largest inner products.

    Args:
        index: a Faiss index; position p is item p + 1.
        items: original ids of items 1, 2, ...
        metadata: further content of the JSON file.
    """

    def __init__(self, index: Any, items: Sequence[str], metadata: dict[str, Any]) -> None:
        self.index, self.items, self.metadata = index, list(items), metadata

    @classmethod
    def build(cls, kind: IndexKind, item_ID: Float32Array, items: Sequence[str], **metadata: Any) -> ItemIndex:
        """Build an index.

        Args:
            kind: ``exact`` or ``hnsw``.
            item_ID: (I+1, D) vectors; row 0 is padding and is not indexed.
            items: original ids of items 1 to I.
            metadata: plain values for the JSON file.
        """
        faiss = require_faiss()
        width = item_ID.shape[1]
        if kind == "exact":
            index = faiss.IndexFlatIP(width)
        else:
            index = faiss.IndexHNSWFlat(width, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD_BREADTH, _SEARCH_BREADTH
        index.add(np.ascontiguousarray(item_ID[1:], dtype=np.float32))
        return cls(index, items, {"kind": kind, "measure": "inner product", **metadata})

    def search(self, user_BKD: Float32Array, count: int) -> tuple[Int64Array, Float32Array]:
        """Return the top items of each user, best first; the score is the maximum inner product over the K vectors.

        Searches ``count`` items for each vector and merges the results. With an exact index the result is exact: a top
        item of the user is also a top item of the vector with which it has its maximum.

        Args:
            user_BKD: vectors of the users.
            count: N.

        Returns:
            Item ids (B, N) int64, from 1, and scores (B, N) float32; id 0 and score -inf fill missing items.
        """
        users, interests, width = user_BKD.shape
        queries = np.ascontiguousarray(user_BKD.reshape(users * interests, width), dtype=np.float32)
        score, position = self.index.search(queries, count)
        item_BX = position.astype(np.int64).reshape(users, interests * count) + 1  # Faiss returns -1 for no item
        score_BX = np.where(item_BX > 0, score.reshape(users, -1), -np.inf)
        order_BX = np.lexsort((item_BX, -score_BX), axis=1)
        item_BX, score_BX = (np.take_along_axis(values, order_BX, axis=1) for values in (item_BX, score_BX))
        return _without_repeats(item_BX, score_BX, count)

    def save(self, path: Path) -> None:
        """Write the index and its JSON file."""
        with self.writing(path):
            pass

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Write both files under temporary names; rename them when the block ends without an error.

        Raises:
            StemlabError: a file cannot be written.
        """
        metadata_path = _metadata_path(path)
        with complete_file(path) as part, complete_file(metadata_path) as metadata_part:
            content = json.dumps({**self.metadata, "items": self.items}, ensure_ascii=False)
            with write_errors(metadata_path):
                metadata_part.write_text(content, encoding="utf-8")
            faiss = require_faiss()
            with write_errors(path), part.open("wb") as file:  # given a name, Faiss only prints that a disk is full
                faiss.write_index(self.index, faiss.PyCallbackIOWriter(file.write))
            yield

    @classmethod
    def load(cls, path: Path) -> ItemIndex:
        """Read the files of :meth:`save`.

        Raises:
            StemlabError: a file is missing or damaged, or the number of items differs between the two files.
        """
        faiss = require_faiss()
        try:
            metadata = json.loads(_metadata_path(path).read_text(encoding="utf-8"))
            index, items = faiss.read_index(str(path)), metadata.pop("items")
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise StemlabError(f"{path} cannot be read as an index of stemlab.predict ({reason}).") from None
        if index.ntotal != len(items):
            raise StemlabError(
                f"{path} holds {index.ntotal} vectors, but {_metadata_path(path)} lists {len(items)} items."
            )
        return cls(index, items, metadata)


def _metadata_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _without_repeats(item_BX: Int64Array, score_BX: Float32Array, count: int) -> tuple[Int64Array, Float32Array]:
    """Keep the first (highest) occurrence of each item per row, and at most ``count`` items."""
    rows = np.arange(len(item_BX))[:, None]
    order_BX = np.argsort(item_BX, axis=1, kind="stable")
    sorted_BX = np.take_along_axis(item_BX, order_BX, axis=1)
    repeated_BX = np.zeros(item_BX.shape, dtype=np.bool_)
    repeated_BX[:, 1:] = sorted_BX[:, 1:] == sorted_BX[:, :-1]
    drop_BX = np.zeros_like(repeated_BX)
    drop_BX[rows, order_BX] = repeated_BX
    kept_BX = np.argsort(drop_BX, axis=1, kind="stable")[:, :count]
    item_BN, score_BN = item_BX[rows, kept_BX], score_BX[rows, kept_BX]
    dropped_BN = drop_BX[rows, kept_BX]
    return np.where(dropped_BN, 0, item_BN), np.where(dropped_BN, -np.inf, score_BN).astype(np.float32)
