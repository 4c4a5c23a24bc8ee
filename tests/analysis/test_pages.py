"""Committed pages of analyses: they quote the verdicts of their results.json."""

import json
import re
from pathlib import Path

import pytest

PAGES = Path("scripts") / "records" / "analysis"
RESULTS = sorted((Path(__file__).parents[2] / PAGES).glob("*/results.json"))


def plain(text: str) -> str:
    """Return the text without quotation marks (>), on one line."""
    return " ".join(re.sub(r"^> ?", "", text, flags=re.MULTILINE).split())


def test_every_analysis_has_a_page() -> None:
    names = {path.parent.name for path in RESULTS}
    assert names >= {"collapse", "comparable", "correlation", "demo", "entanglement", "transfer"}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_verdicts_are_quoted_literally(root: Path, path: Path) -> None:
    results = json.loads(path.read_text(encoding="utf-8"))
    quoted = plain((root / PAGES / "README.md").read_text(encoding="utf-8"))
    for section in results["sections"].values():
        assert section["verdict"] in quoted


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_results_come_from_committed_code_and_have_no_local_path(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    results = json.loads(text)
    assert results["code"]["git_dirty"] is False
    assert results["sample"] is (path.parent.name == "demo")
    assert not re.search(r'"[^"]*(?:/home/|/tmp/|/root/|/work/)', text)


@pytest.mark.parametrize("page", ["README.md", str(PAGES / "README.md"), "scripts/records/README.md"])
def test_images_and_links_exist(root: Path, page: str) -> None:
    text = (root / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in target]
    missing = [target for target in targets if not ((root / page).parent / target).exists()]
    assert targets
    assert missing == []
