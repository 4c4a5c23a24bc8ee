"""Commands and Python programs in the code blocks of README.md and docs/."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")))
"""Pages whose code blocks are checked here; docs/own and docs/click_log have tests of their own."""
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)((?: {4}.*\n)+)")
NOT_RUN = {
    "trainer=ddp": "needs several GPUs, or is a test of two processes in tests/cli",
    "trainer=gpu": "needs a GPU",
    "torchrec": "needs FBGEMM",
    "entity=": "needs a W&B server",
    "watch=true": "runs until it is interrupted",
    "dataset.raw_dir=": "needs the raw file",
    "experiment=ml1m": "needs the files of MovieLens-1M",
    "experiment=kuairand_log": "needs the KuaiRand feedback log",
    "sweep=table/": "needs raw files",
    "study=": "rewrites pages of docs/",
    "update=": "rewrites pages of docs/",
    "sweep=stem_grid": "has many jobs",
    "sweep=tpe": "has many jobs; tests/sweep has small searches",
    "sweep.resume=": "needs an interrupted sweep; tests/sweep resumes some",
    "runs/sweeps/": "needs a sweep",
    "analysis=demo": "takes long; tests/cli/test_analyze.py runs it",
    "stemlab.reproduce": "takes long; tests of the command run a small one",
    "dataset.path=u.data": "needs the file of MovieLens-100K",
}
"""Text in a command -> why tests do not run it; its settings are checked all the same."""


@dataclass(frozen=True)
class PageCommand:
    """A command ``python -m stemlab.<name> <words>`` of a page."""

    page: str
    line: int
    name: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def not_run(self) -> str:
        """Why tests do not run the command, or the empty text."""
        typed = " ".join((f"stemlab.{self.name}", *self.words))
        return next((reason for text, reason in NOT_RUN.items() if text in typed), "")


def page_text(page: str) -> str:
    """Return the text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def code_blocks(page: str) -> list[tuple[str, int, str]]:
    """Return language (or the empty text), first line and text of the code blocks of a page, in order."""
    text = page_text(page)
    without = _FENCED.sub(lambda match: re.sub(r"[^\n]+", "", match[0]), text)
    fenced = [(x[1], text.count("\n", 0, x.start(2)) + 1, x[2]) for x in _FENCED.finditer(text)]
    indented = [
        ("", without.count("\n", 0, x.start()) + 1, re.sub("^ {4}", "", x[1], flags=re.MULTILINE))
        for x in _INDENTED.finditer(without)
    ]
    return sorted(fenced + indented, key=lambda block: block[1])


def page_commands(page: str) -> list[PageCommand]:
    """Return the commands of stemlab in the code blocks of a page; a backslash continues a line."""
    found = []
    for language, first, text in code_blocks(page):
        lines = text.splitlines() if language in ("", "sh", "bash", "console") else []
        for place, line in enumerate(lines):
            if not line.startswith("python -m stemlab."):
                continue
            typed, last = line, place
            while typed.endswith("\\"):
                last += 1
                typed = f"{typed[:-1]} {lines[last].strip()}"
            words = shlex.split(typed, comments=True)
            found.append(PageCommand(page, first + place, words[2].removeprefix("stemlab."), tuple(words[3:])))
    return found


def page_files(page: str) -> dict[str, str]:
    """Return name -> text of the blocks that begin with the name of a file: ``# clicks.yaml``."""
    named = [(re.match(r"# ([\w./]+\.\w+)\b.*\n", text), text) for _, _, text in code_blocks(page)]
    return {match[1]: text for match, text in named if match}


def page_programs(page: str) -> list[tuple[int, str]]:
    """Return first line and text of the Python programs of a page."""
    return [(line, text) for language, line, text in code_blocks(page) if language == "python"]
