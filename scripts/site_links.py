"""MkDocs hook: name files of the repository outside the site instead of linking to them.

Pages of docs/ link to records, benchmarks and notebooks, which a browser of the repository opens. The site has no such
files, so that a link to one becomes its text and the path of the file; MkDocs checks every other link (`make docs`).
"""

import posixpath
import re
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"!?\[([^\]\n]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """Return the text of a page whose links outside the site are replaced."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        path = posixpath.normpath(posixpath.join("docs", target))
        file = files.get_file_from_path(target)
        if (file is not None and not file.inclusion.is_excluded()) or not (_ROOT / path).exists():
            return link[0]
        return f"`{path}`" if link[1].strip("`") in link[2] else f"{link[1]} (`{path}`)"

    return _LINK.sub(replaced, markdown)
