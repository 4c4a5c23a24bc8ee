"""Report tables as LaTeX (booktabs) and as an HTML page, from the cells of the Markdown table."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

_LATEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"±": r"$\pm$", "–": "--", "Δ": r"$\Delta$"},
}
_PAGE_NORMAL, _PAGE_SMALL = 66, 82  # characters on a line of 345 pt; two per column are space
_BOLD = re.compile(r"^\*\*(.*)\*\*$")
_NUMBER = re.compile(r"^(\*\*)?[-+]?[\d,]*\.?\d+( ± [\d.]+)?(\*\*)?$|^–$")
_STYLE = (
    "body{font:15px/1.4 system-ui,sans-serif;margin:2rem;color-scheme:light dark}"
    ".wide{overflow-x:auto}table{border-collapse:collapse}caption{text-align:left;font-weight:600;padding:.5rem 0}"
    "th,td{padding:.25rem .7rem;border-bottom:1px solid #8884;text-align:left}.n{text-align:right;white-space:nowrap}"
)


def as_latex(cells: Sequence[Sequence[str]], caption: str, notes: Sequence[str], label: str) -> str:
    """Return a ``table`` environment for the package booktabs.

    What is wider than a page continues below, with the first column repeated.

    Args:
        cells: heading and rows; a cell in ``**`` is bold.
        caption: caption of the table.
        notes: sentences below the table.
        label: name after ``tab:``.
    """
    blocks = _fitting(cells)
    small = [r"\footnotesize\setlength{\tabcolsep}{4pt}"] if len(blocks) > 1 else []
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(caption)}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]', '-', label)}}}",
        *small,
        "\n\\par\\medskip\n".join(map(_tabular, blocks)),
        *(rf"\par\smallskip\footnotesize {_escaped(note)}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tabular(cells: Sequence[Sequence[str]]) -> str:
    head, *body = cells
    align = "".join("r" if number else "l" for number in _numeric(body))
    lines = [
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(map(_escaped, head)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_latex_cell, row)) + r" \\" for row in body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def _fitting(cells: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    """Return the table as blocks that fit the width of a page; every block has the first column."""
    widths = [max(len(cell.strip("*")) for cell in column) + 2 for column in zip(*cells, strict=True)]
    if sum(widths) <= _PAGE_NORMAL:
        return [[list(row) for row in cells]]
    blocks: list[list[int]] = [[]]
    for column, width in enumerate(widths[1:], 1):
        if blocks[-1] and widths[0] + sum(widths[one] for one in blocks[-1]) + width > _PAGE_SMALL:
            blocks.append([])
        blocks[-1].append(column)
    return [[[row[0], *(row[column] for column in block)] for row in cells] for block in blocks]


def as_html(tables: Sequence[tuple[Sequence[Sequence[str]], str, Sequence[str]]], title: str) -> str:
    """Return a page without scripts or external files.

    Args:
        tables: cells, caption and notes of each table, as for ``as_latex``.
        title: title of the page.
    """
    blocks = []
    for (head, *body), caption, notes in tables:
        numeric = _numeric(body)
        rows = "\n".join(
            "<tr>" + "".join(_html_cell(cell, number) for cell, number in zip(row, numeric, strict=True)) + "</tr>"
            for row in body
        )
        heads = "".join(
            f'<th scope="col"{" class=n" * number}>{html.escape(cell)}</th>'
            for cell, number in zip(head, numeric, strict=True)
        )
        remarks = "\n".join(f"<p><small>{html.escape(note)}</small></p>" for note in notes)
        blocks.append(
            f'<div class=wide tabindex="0" role="region" aria-label="{html.escape(caption or title)}">'
            f"<table><caption>{html.escape(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n"
            f"<tbody>\n{rows}\n</tbody></table></div>\n{remarks}"
        )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body>\n{chr(10).join(blocks)}\n</body></html>\n"
    )


def _numeric(body: Sequence[Sequence[str]]) -> list[bool]:
    """Return per column whether all cells are numbers."""
    return [all(_NUMBER.match(cell) for cell in column) for column in zip(*body, strict=True)]


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(mark, mark) for mark in text)


def _latex_cell(cell: str) -> str:
    found = _BOLD.match(cell)
    return rf"\textbf{{{_escaped(found[1])}}}" if found else _escaped(cell)


def _html_cell(cell: str, number: bool) -> str:
    found = _BOLD.match(cell)
    text = f"<b>{html.escape(found[1])}</b>" if found else html.escape(cell)
    return f"<td{' class=n' * number}>{text}</td>"
