"""Arrow tables as data frames."""

import pandas as pd
import pyarrow as pa
import pytest

from stemlab.data.io.frames import arrow_table, frame_like


@pytest.mark.parametrize(("kind", "large"), [("Int64", 2**53 + 1), ("UInt64", 2**63 + 1), ("Int8", 7)])
def test_integers_beside_a_missing_value_keep_type_and_digits(kind: str, large: int) -> None:
    frame = pd.DataFrame({"id": pd.array([large, None], dtype=kind), "x": [0.5, None]}, index=[3, 4])
    pd.testing.assert_frame_equal(frame_like(arrow_table(frame), frame), frame)


def test_integers_without_a_missing_value_are_plain() -> None:
    found = frame_like(pa.table({"id": [2**53 + 1, 2], "text": ["a", None]}), None)
    assert (found["id"].dtype, found["id"][0]) == ("int64", 2**53 + 1)
