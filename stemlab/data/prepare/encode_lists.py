"""Encodes lists of values as blocks of columns (``stemlab.data.list_layout``).

Legend: B rows, L values per list, K columns of all lists of ids, W columns of all lists of weights, N values of all
rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import AnyArray, Int32Array, Int64Array
from stemlab.data.io.arrow import as_numpy
from stemlab.data.list_layout import list_columns, values_of
from stemlab.data.prepare.fit_vocabularies import FittedEncoders
from stemlab.data.prepare.preparation_settings import PreparationSettings, ages_of, weights_of
from stemlab.data.prepare.vocabulary import Vocabulary
from stemlab.data.spec import Field


def encode_lists(
    chunk: Mapping[str, AnyArray], fitted: FittedEncoders, config: PreparationSettings
) -> dict[str, AnyArray]:
    """Return the columns ``list_ids`` and ``list_weights`` of a chunk of raw columns; those that the dataset has."""
    ids = {field.name: fitted.encoders[field.name](chunk[field.name]) for field in config.lists}
    return join_lists(config.lists, ids, chunk)


def join_lists(
    fields: Sequence[Field], ids: Mapping[str, Int32Array], further: Mapping[str, AnyArray]
) -> dict[str, AnyArray]:
    """Return the columns ``list_ids`` and ``list_weights`` of all fields, without those that have no values.

    Args:
        fields: fields that hold lists.
        ids: field -> (B, L) ids, right-padded with 0.
        further: ages and weights of the values, (B, L), under the names ``ages_of`` and ``weights_of``.
    """
    if not fields:
        return {}
    rows, (columns, (K, W)) = len(ids[fields[0].name]), list_columns(fields)
    ids_BK, weights_BW = np.empty((rows, K), dtype=np.int32), np.empty((rows, W), dtype=np.float32)
    for field, own in zip(fields, columns, strict=True):
        ids_BK[:, own.ids] = ids[field.name]
        if own.ages is not None:
            ids_BK[:, own.ages] = further[ages_of(field.name)].clip(0, np.iinfo(np.int32).max)
        if own.weights is not None:
            weights_BW[:, own.weights] = further[weights_of(field.name)]
    return {"list_ids": ids_BK, **({"list_weights": weights_BW} if W else {})}


def pad_lists(values_N: AnyArray, lengths_B: Int64Array, width: int) -> AnyArray:
    """Return flat values as rows of ``width``, right-padded with 0, in the dtype of the values.

    Args:
        values_N: the values of all rows, one row after the other.
        lengths_B: number of values of each row, at most ``width``.
        width: L.
    """
    padded_BL = np.zeros((len(lengths_B), width), dtype=values_N.dtype)
    padded_BL[np.arange(width) < lengths_B[:, None]] = values_N
    return padded_BL


class TableListEncoder:
    """Encodes the lists of raw tables exactly as the preparation did.

    Args:
        vocabularies: folder of the vocabularies.
        lists: fields that hold lists.
    """

    def __init__(self, vocabularies: Path, lists: Sequence[Field]) -> None:
        self._lists = lists
        self._known = {field.name: Vocabulary.load(vocabularies, field.table or field.name) for field in lists}

    def __call__(self, table: Any) -> dict[str, AnyArray]:
        """Return the columns ``list_ids`` and ``list_weights`` of an Arrow table; those that the dataset has.

        Args:
            table: each field is a column of lists of tokens, at most L per row (the empty token has id 0); ages and
                weights are columns of lists under the names ``ages_of`` and ``weights_of``.
        """
        ids: dict[str, Int32Array] = {}
        further: dict[str, AnyArray] = {}
        for field in self._lists:
            values = values_of(field)
            lengths_B, tokens = _flat(table[field.name])
            tokens = pc.fill_null(tokens.dictionary_decode() if pa.types.is_dictionary(tokens.type) else tokens, "")
            given_N = as_numpy(pc.binary_length(tokens)) > 0
            ids_N = np.where(given_N, self._known[field.name].encode(tokens), np.int32(0))
            ids[field.name] = pad_lists(ids_N, lengths_B, values.max_length)
            for name, stored in ((ages_of(field.name), values.times), (weights_of(field.name), values.weighted)):
                if stored:
                    further[name] = pad_lists(as_numpy(_flat(table[name])[1]), lengths_B, values.max_length)
        return join_lists(self._lists, ids, further)


def _flat(column: Any) -> tuple[Int64Array, Any]:
    """Return the number of values of each row, and all values."""
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    lengths_B = as_numpy(pc.cast(pc.list_value_length(lists), pa.int64()))
    return lengths_B, lists.flatten()
