from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.prepare import value_counts as counting
from stemlab.data.prepare.value_counts import count_values

INTEGERS = st.one_of(st.integers(-3, 9), st.integers(-(2**62), 2**62))


@settings(deadline=None)
@given(st.lists(INTEGERS, min_size=1, max_size=80), st.integers(1, 5), st.integers(1, 3), st.integers(1, 5))
def test_dense_and_partitioned_counts_equal_a_counter(values, parts, min_count, part_rows):
    expected = sorted((v, c) for v, c in Counter(values).items() if c >= min_count)
    array = np.array(values, dtype=np.int64)
    span = (min(values), max(values))
    chunks = [c.astype(np.int8) if abs(c).max(initial=0) < 100 else c for c in np.array_split(array, parts)]
    dense_span = 1 << 10 if span[1] - span[0] < 1 << 10 else 0
    whole = counting._PART_ROWS
    try:
        counting._PART_ROWS = part_rows
        in_parts = count_values(lambda: chunks, span, min_count, dense_span=0)
    finally:
        counting._PART_ROWS = whole
    for found, counts in (in_parts, count_values(lambda: chunks, span, min_count, dense_span)):
        assert list(zip(found.tolist(), counts.tolist(), strict=True)) == expected


def test_no_rows():
    for dense_span in (0, 10):
        values, counts = count_values(lambda: [], (0, 0), 1, dense_span)
        assert (values.tolist(), counts.tolist()) == ([], [])
