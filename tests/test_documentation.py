"""Documentation: every cited page and heading of docs/methods exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
METHODS = ROOT / "docs" / "methods"
FOLDERS = ("stemlab", "conf", "scripts", "tests", "docs", "data")
SUFFIXES = (".py", ".yaml", ".sh", ".md")
CITATION = re.compile(r"docs/methods/([\w-]+\.md)(?:#([\w-]+))?")
LINK = re.compile(r"\]\(([\w-]*\.md)?(?:#([\w-]+))?\)")


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip()).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page; headings in code blocks do not count."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


PAGES = {page.name: anchors(page) for page in sorted(METHODS.glob("*.md"))}
CITING = [
    *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES),
    *sorted(ROOT.glob("*.md")),
]


def test_cited_pages_and_headings_exist() -> None:
    missing = []
    for path in CITING:
        # a citation may be broken over two lines of a docstring, but not inside the path
        for page, anchor in CITATION.findall(path.read_text(encoding="utf-8")):
            if page not in PAGES or (anchor and anchor not in PAGES[page]):
                missing.append(f"{path.relative_to(ROOT)}: docs/methods/{page}#{anchor}")
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_to_headings(page: str) -> None:
    links = LINK.findall((METHODS / page).read_text(encoding="utf-8"))
    missing = [
        f"{target}#{anchor}"
        for target, anchor in links
        if (target or page) not in PAGES or (anchor and anchor not in PAGES[target or page])
    ]
    assert missing == []


def test_the_package_cites_no_other_specification() -> None:
    cited = [str(path.relative_to(ROOT)) for path in CITING if re.search(r"\bspec/\w+\.md", path.read_text("utf-8"))]
    assert cited == []


def test_anchors_follow_github() -> None:
    assert slug("Published numbers") == "published-numbers"
    assert slug("`din_plus`: values, weights") == "din_plus-values-weights"
