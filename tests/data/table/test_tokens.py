"""TokenCodes: equal to a dictionary, also for colliding hashes."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemlab.data.table import tokens
from stemlab.data.table.tokens import TokenCodes

PIECES = st.lists(st.lists(st.text("ab\u00e9 ", max_size=4), unique=True, max_size=12), max_size=6)


@given(PIECES, st.sampled_from([hash, len, lambda word: 7, lambda word: len(word) % 2 - 1]))
def test_codes_equal_a_dictionary_for_any_hash(pieces, hashed):
    codes, known = TokenCodes(hashed), {"": 0}
    for words in pieces:
        found = codes.encode(pa.array(words, pa.string()))
        assert {word: code for word, code in zip(words, found.tolist(), strict=True) if word in known} == {
            word: known[word] for word in words if word in known
        }
        known |= dict(zip(words, found.tolist(), strict=True))
    assert sorted(known.values()) == list(range(len(known)))
    assert len(codes) == len(known)
    assert list(codes) == sorted(known, key=known.__getitem__)
    assert codes.take(np.array([known[word] for word in known])).to_pylist() == list(known)
    assert [codes[code] for code in known.values()] == list(known)


def test_codes_follow_first_appearance():
    codes = TokenCodes()
    assert codes.encode(pa.array(["b", "a"])).tolist() == [1, 2]
    assert codes.encode(pa.array(["", "c", "a"])).tolist() == [0, 3, 2]


def test_strings_are_split_before_arrow_offsets_overflow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tokens, "_LARGEST_ARRAY", 40)
    codes = TokenCodes()
    words = [f"word{number}" for number in range(50)]
    for start in range(0, 50, 5):
        codes.encode(pa.array(words[start : start + 5]))
    assert codes[1:51] == words
    assert len(codes._strings) > 3
