"""The committed pages of analyses: what they quote is what the analyses said."""

import json
import re
from pathlib import Path

import pytest

PAGES = Path("scripts") / "records" / "analysis"
RESULTS = sorted((Path(__file__).parents[2] / PAGES).glob("*/results.json"))


def plain(text: str) -> str:
    """Return the text without the marks of a quotation, on one line."""
    return " ".join(re.sub(r"^> ?", "", text, flags=re.MULTILINE).split())


def test_there_are_pages_of_every_analysis() -> None:
    names = {path.parent.name for path in RESULTS}
    assert names >= {"collapse", "comparable", "correlation", "demo", "entanglement", "transfer"}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_verdicts_are_quoted_as_they_are(root: Path, path: Path) -> None:
    results = json.loads(path.read_text(encoding="utf-8"))
    told = plain((root / PAGES / "README.md").read_text(encoding="utf-8"))
    for section in results["sections"].values():
        assert section["verdict"] in told


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_results_come_from_committed_code_and_name_no_place(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    results = json.loads(text)
    assert results["code"]["git_dirty"] is False
    assert results["sample"] is (path.parent.name == "demo")
    assert not re.search(r'"[^"]*(?:/home/|/tmp/|/root/|/work/)', text)


@pytest.mark.parametrize("page", ["README.md", str(PAGES / "README.md"), "scripts/records/README.md"])
def test_pictures_and_links_lead_somewhere(root: Path, page: str) -> None:
    text = (root / page).read_text(encoding="utf-8")
    places = [place for place in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in place]
    missing = [place for place in places if not ((root / page).parent / place).exists()]
    assert places
    assert missing == []
