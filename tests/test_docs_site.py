"""The documentation site (`make docs`) and llms.txt name every page of docs/."""

from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}


def test_every_page_is_in_the_navigation():
    navigation = (DOCS.parent / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = {word for word in navigation.replace("[", " ").replace("]", " ").replace(",", " ").split() if "." in word}
    assert named == PAGES


def test_llms_txt_lists_every_page_with_its_title():
    lines = (DOCS / "llms.txt").read_text().splitlines()
    listed = {
        line.rpartition("](")[2].rstrip(")"): line[3:].rpartition("](")[0] for line in lines if line.startswith("- [")
    }
    titles = {
        page: next(line[2:] for line in (DOCS / page).read_text().splitlines() if line.startswith("# "))
        for page in PAGES
    }
    assert listed == titles
