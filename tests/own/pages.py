"""Files and commands in the code blocks of ``docs/own``."""

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OWN = Path(__file__).resolve().parents[2] / "docs" / "own"
PAGES = sorted(path.name for path in OWN.glob("*.md"))
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def files(page: str) -> dict[str, str]:
    """Return name -> text of the blocks that begin with the name of a file: ``# my_net.py``."""
    found = {}
    for _, text in _BLOCK.findall((OWN / page).read_text(encoding="utf-8")):
        if name := re.match(r"# ([\w./]+\.(?:py|yaml))\n", text):
            found[name[1]] = text
    return found


def write_files(page: str, folder: Path) -> None:
    """Write the files of a page."""
    for name, text in files(page).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """Return the words of each command: name of the command, arguments. A placeholder ``…`` stays."""
    text = (OWN / page).read_text(encoding="utf-8")
    lines = [line for kind, block in _BLOCK.findall(text) if kind == "sh" for line in block.splitlines()]
    words = [shlex.split(line) for line in lines if line.startswith("python -m stemlab.")]
    return [[line[2].removeprefix("stemlab."), *line[3:]] for line in words]


@contextmanager
def modules_of(folder: Path) -> Iterator[None]:
    """Import modules of a folder inside the block only."""
    path, names = list(sys.path), {file.stem for file in folder.glob("*.py")}
    try:
        yield
    finally:
        sys.path[:] = path
        for name in names:
            sys.modules.pop(name, None)
