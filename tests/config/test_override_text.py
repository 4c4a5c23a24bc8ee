"""Values as texts of Hydra's grammar."""

import random
from pathlib import Path
from typing import Any

import pytest

from stemlab.config.compose import parse_overrides
from stemlab.config.override_text import is_expressible, override_text, quote_override
from stemlab.errors import StemlabError


def read(text: str) -> Any:
    return parse_overrides([f"key={text}"])[0].value()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), ([8, 4], "[8,4]"), ("ple", "ple"), ("l2(1e-6)", "'l2(1e-6)'"), ("3", "'3'"), (None, "null")],
)
def test_values_are_written_as_on_the_command_line(value: Any, text: str) -> None:
    assert override_text("key", value) == text
    assert read(text) == value


def test_every_text_is_read_as_it_was() -> None:
    draw = random.Random(0)
    for _ in range(200):
        text = "".join(draw.choices("ab1é日 '\"\\,:=()[]{}$/.-_~\t", k=draw.randint(0, 6))).replace("${", "")
        assert read(override_text("key", text)) == text
        assert read(quote_override(text)) == text
        assert read(override_text("key", {"a": [text, {"b": text}]})) == {"a": [text, {"b": text}]}


def test_keys_of_mappings_are_read_as_they_were_or_not_expressible() -> None:
    draw = random.Random(1)
    found = set()
    for _ in range(200):
        key = draw.choice([1, -3, "a b", "a.b", "x=y", "\t", "{", " ", "a  b", "1", "null", "é", "'", ""])
        value = {"outer": [{key: 1, "plain": {key: "x"}}]}
        expressible = is_expressible("key", value, lambda word: parse_overrides([word])[0].value())
        assert not expressible or read(override_text("key", value)) == value
        found.add((key, expressible))
    assert {key for key, expressible in found if not expressible} == {"1", "null", "é", "'", ""}
    assert len(found) == 14


def test_other_objects_are_refused() -> None:
    assert override_text("key", Path("a/b")) == "a/b"
    with pytest.raises(StemlabError, match=r"key=.*list"):
        override_text("key", object())
