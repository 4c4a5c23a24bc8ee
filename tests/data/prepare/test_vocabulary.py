import json
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.prepare.vocabulary import IntegerEncoder, Vocabulary
from stemlab.errors import StemlabError

WHOLE_FLOAT = re.compile(r"\A(-?[0-9]+)\.0+\Z", re.ASCII)  # the text of an integer id that was stored as a float


def fit(tokens, min_count, field="f"):
    counts = Counter(tokens)
    return Vocabulary.fit(field, list(counts), list(counts.values()), min_count)


def plain_ids(tokens, min_count):
    """Reference: the tokenizer's rule in three lines."""
    counts = Counter(str(token) for token in tokens if token != "")
    kept = sorted((t for t in counts if counts[t] >= min_count), key=lambda t: (-counts[t], t))
    return {token: number for number, token in enumerate(kept, start=1)}


def test_golden_tokenizer(golden):
    vectors = json.loads((golden / "stem" / "tokenizer.json").read_text(encoding="utf-8"))
    assert vectors["results"]
    for case, expected in vectors["results"].items():
        vocabulary = fit(vectors["train_values"], int(case.removeprefix("min_freq=")))
        assert vocabulary.size == expected["vocab_size"]
        assert vocabulary.oov == expected["vocab"]["__OOV__"]
        ids = {token: number for token, number in expected["vocab"].items() if token not in ("__PAD__", "__OOV__")}
        assert dict(zip(vocabulary.tokens.to_pylist(), range(1, vocabulary.size), strict=False)) == ids
        assert vocabulary.encode(vectors["train_values"]).tolist() == expected["encoded_train"]
        assert vocabulary.encode(vectors["test_values"]).tolist() == expected["encoded_test"]


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab019-é", max_size=3), max_size=60), st.integers(1, 4), st.lists(st.text(max_size=3)))
def test_vocabulary_equals_the_reference(train, min_count, others):
    vocabulary, ids = fit(train, min_count), plain_ids(train, min_count)
    assert vocabulary.size == len(ids) + 2
    tokens = [re.sub(WHOLE_FLOAT, r"\1", token) for token in train + others]
    expected = [ids.get(token, len(ids) + 1) for token in tokens]
    assert vocabulary.encode(pa.array(train + others, pa.string())).tolist() == expected


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.integers(-3, 12), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=60),
    st.integers(1, 3),
    st.lists(st.integers(-(2**63), 2**63 - 1)),
)
def test_integer_encoder_equals_vocabulary(train, min_count, others):
    vocabulary, ids = fit(train, min_count), plain_ids(train, min_count)
    encoder = IntegerEncoder(vocabulary, np.array([int(token) for token in ids], dtype=np.int64))
    values = np.array(train + others, dtype=np.int64)
    assert encoder(values).tolist() == [ids.get(str(v), len(ids) + 1) for v in train + others]
    assert vocabulary.encode(values).tolist() == encoder(values).tolist()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_integer_encoder_takes_narrow_columns(dtype):
    encoder = IntegerEncoder(fit([100, 100, -100], 1), np.array([100, -100]))
    assert encoder(np.array([100, -100, -128, 127, 0], dtype=dtype)).tolist() == [1, 2, 3, 3, 3]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([5, None, 7]),
        pa.array([5.0, None, 7.0]),
        pa.array([5.0, float("nan"), 7.0]),
        pa.array(["5", None, "7"]),
        pa.array(["5", "", "7"]).dictionary_encode(),
        pa.chunked_array([["5"], ["x", "7"]]),
    ],
)
def test_encode_takes_any_form_of_a_token(column):
    assert fit([5, 5, 7], 1).encode(column).tolist() == [1, 3, 2]


@pytest.mark.parametrize("column", [pa.array([1.5]), pa.array([[1]])])
def test_encode_rejects_values_that_are_no_ids(column):
    with pytest.raises(StemlabError, match=r"column 'uid' holds .*category ids"):
        fit([5], 1, "uid").encode(column)


def test_save_and_load(tmp_path):
    saved = fit(["b", "b", "a"], 1, "city")
    assert saved.save(tmp_path).name == "city.parquet"
    loaded = Vocabulary.load(tmp_path, "city")
    assert (loaded.tokens.to_pylist(), loaded.counts.to_pylist()) == (["b", "a"], [2, 1])
    (tmp_path / "city.parquet").write_bytes(b"PAR1")
    with pytest.raises(StemlabError, match=r"city\.parquet cannot be read"):
        Vocabulary.load(tmp_path, "city")


def test_text_written_as_whole_float_is_the_integer():
    vocabulary = Vocabulary.fit("item", pa.array(["5", "007", "5.5"]), pa.array([3, 2, 1]), 1)
    assert vocabulary.encode(pa.array(["5.0", "5", "5.00", "007.5", "5.5"])).tolist() == [1, 1, 1, 4, 3]


def test_integers_that_a_float_column_cannot_hold_are_refused():
    vocabulary = Vocabulary.fit("item", pa.array(["5"]), pa.array([3]), 1)
    with pytest.raises(StemlabError, match=r"'item'.*double.*integers or text"):
        vocabulary.encode(pa.array([2.0**53 + 2]))
    with pytest.raises(StemlabError, match=r"'item'.*float.*integers or text"):
        vocabulary.encode(pa.array([2.0**24 + 2], pa.float32()))
