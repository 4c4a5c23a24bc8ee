"""Comments of the settings in YAML files, and descriptions in docstrings of typed models and classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

_ENTRY = re.compile(r"^ {4}(?P<name>\w+)(?: \([^)]*\))?: (?P<text>.*)$")


@dataclass
class FileComments:
    """Comments of a YAML file.

    Attributes:
        title: comment block that begins the file.
        keys: dotted key -> comment beside it, or above it.
    """

    title: str = ""
    keys: dict[str, str] = field(default_factory=dict)


def yaml_comments(text: str) -> FileComments:
    """Return the comments of a YAML file. A comment beside a key has priority over one above it."""
    lines = text.splitlines()
    head = 0
    while head < len(lines) and lines[head].startswith("#"):
        head += 1
    found = FileComments(_joined(line for line in lines[:head] if not line.startswith("# @package")))
    root = yaml.compose(text)
    if isinstance(root, yaml.MappingNode):
        _collect(root, "", lines, head, found)
    return found


def _collect(node: yaml.MappingNode, prefix: str, lines: list[str], head: int, found: FileComments) -> None:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name == "defaults":
            continue
        comment = _beside(lines, key, value) or _above(lines, key.start_mark.line, head)
        if comment:
            found.keys[name] = comment
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            _collect(value, f"{name}.", lines, head, found)


def _beside(lines: list[str], key: yaml.Node, value: yaml.Node) -> str:
    """Return the comment behind a value, or behind the key of a block of settings."""
    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    mark = key.end_mark if block else value.end_mark
    _, sign, comment = lines[mark.line][mark.column :].partition("#") if mark.line < len(lines) else ("", "", "")
    return comment.strip() if sign else ""


def _above(lines: list[str], line: int, head: int) -> str:
    """Return the block of comment lines directly above a line, without the one that begins the file."""
    start = line
    while start > head and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return _joined(lines[start:line])


def _joined(lines: Iterator[str] | list[str]) -> str:
    return " ".join(line.strip().lstrip("#").strip() for line in lines).strip()


def described_settings(docstring: str | None) -> dict[str, str]:
    """Return the entries of the sections ``Args`` and ``Attributes`` of a Google-style docstring: name -> text."""
    found: dict[str, str] = {}
    name, inside = "", False
    for line in (docstring or "").splitlines():
        if re.match(r"^\w[\w ]*:$", line):
            inside, name = line in ("Args:", "Attributes:"), ""
        elif inside and (entry := _ENTRY.match(line)):
            name = entry["name"]
            found[name] = entry["text"]
        elif inside and name and line.startswith(" " * 8):
            found[name] += f" {line.strip()}"
        elif line.strip():
            name = ""
    return {key: _of_yaml(text) for key, text in found.items()}


def _of_yaml(text: str) -> str:
    """Return a description in the words of YAML, without the marks of docstrings."""
    return re.sub(r"\bNone\b", "null", text.replace("``", ""))


def read_file_comments(path: Path) -> FileComments:
    """Return the comments of a file; none if it cannot be read."""
    try:
        return yaml_comments(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return FileComments()
