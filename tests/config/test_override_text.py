"""Values as texts of Hydra's grammar."""

import random
from pathlib import Path
from typing import Any

import pytest

from stemlab.config.compose import parse_overrides
from stemlab.config.override_text import override_text, quote_override
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


def test_other_objects_are_refused() -> None:
    assert override_text("key", Path("a/b")) == "a/b"
    with pytest.raises(StemlabError, match=r"key=.*list"):
        override_text("key", object())
