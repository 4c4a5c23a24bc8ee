"""MkDocs hook: equations become MathML when the site is built, so that pages need no script and no network.

Browsers draw MathML, and screen readers read it. `pymdownx.arithmatex` marks the equations.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_EQUATION = re.compile(r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Return the HTML of a page with its equations as MathML.

    Raises:
        ValueError: an equation has a command that MathML lacks.
    """

    def replaced(equation: re.Match[str]) -> str:
        tag, latex = equation[1], html.unescape(equation[2]).strip()
        math = convert(latex, display="block" if tag == "div" else "inline")
        math = math.replace(r"\_", "_").replace("<mi>log</mi>", '<mo lspace="0" rspace=".17em">log</mo>')
        if unknown := re.findall(r"\\.[a-zA-Z]*", re.sub("<[^>]*>", "", math)):
            raise ValueError(f"{page.file.src_uri}: {unknown[0]} in {latex!r} is unknown to latex2mathml")
        return f'<{tag} class="arithmatex">{math}</{tag}>'

    return _EQUATION.sub(replaced, content)
