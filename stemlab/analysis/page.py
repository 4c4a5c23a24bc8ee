"""Self-contained HTML page of an analysis: verdict, figures, explanation, runs and settings."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stemlab.config.limits import LIMITED, limits_text
from stemlab.reporting.record import defined

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; }
.verdict { font-weight: 600; background: #eef4fa; border-left: 4px solid #0072b2; padding: .6rem .9rem; }
.sample { background: #fdecd9; border-left: 4px solid #d55e00; padding: .6rem .9rem; font-weight: 600; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; } figcaption { color: #444; font-size: .9rem; }
table { border-collapse: collapse; font-size: .85rem; } td, th { padding: .15rem .6rem; border-bottom: 1px solid #ddd; }
td { text-align: left; } pre { background: #f6f6f6; padding: .7rem; overflow-x: auto; font-size: .8rem; }
.note { color: #555; }
@media (min-width: 100rem) { body:has(.several) { max-width: 118rem; }
 .several { display: grid; grid-template-columns: repeat(auto-fit, minmax(32rem, 1fr)); column-gap: 2.5rem; } }
"""
_SAMPLE = "SAMPLE: these runs were trained on synthetic data; the numbers are not results on real data."


@dataclass(frozen=True)
class PageFigure:
    """A figure on the page.

    Attributes:
        png: content of the PNG file.
        svg: path of the SVG file, relative to the page.
        caption: caption.
    """

    png: bytes
    svg: str
    caption: str


def page(results: Mapping[str, Any], figures: Mapping[str, Sequence[PageFigure]]) -> str:
    """Return the page as HTML.

    Args:
        results: content of ``results.json``.
        figures: section name -> its figures.
    """
    labels = ", ".join(run["label"] for run in results["runs"])
    title = f"{results['analysis']}: {labels}" if labels else str(results["analysis"])
    parts = [f"<h1>{_text(title)}</h1>"]
    if results["sample"]:
        parts.append(f'<p class="sample">{_text(_SAMPLE)}</p>')
    limited = {run["label"]: limits_text(run["limits"]) for run in results["runs"] if run.get("limits")}
    parts += [f'<p class="sample">{_text(f"{LIMITED}: {label}: {limits}.")}</p>' for label, limits in limited.items()]
    sections = [_section(section, figures[name]) for name, section in results["sections"].items()]
    layout = "several" if len(sections) > 1 else "one"
    parts.append(f'<div class="{layout}">{chr(10).join(sections)}</div>')
    parts += [f'<p class="note">{_text(name)} left out: {_text(why)}</p>' for name, why in results["refused"].items()]
    parts.append(_origin(results))
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{chr(10).join(parts)}\n</body></html>\n'


def _section(section: Mapping[str, Any], figures: Sequence[PageFigure]) -> str:
    lines = [f"<section><h2>{_text(section['title'])}</h2>", f'<p class="verdict">{_text(section["verdict"])}</p>']
    lines += [_figure(figure) for figure in figures]
    lines.append("<h3>How to read it</h3>")
    lines += [f"<p>{_text(paragraph)}</p>" for paragraph in section["reading"]]
    lines += [f'<p class="note">{_text(note)}</p>' for note in section["notes"]]
    numbers = json.dumps(defined(_rounded(section["numbers"])), indent=1)
    lines.append(f"<details><summary>Numbers</summary><pre>{_text(numbers)}</pre></details></section>")
    return "\n".join(lines)


def _figure(figure: PageFigure) -> str:
    data = base64.b64encode(figure.png).decode()
    caption = f'{_text(figure.caption)} <a href="{_text(figure.svg)}">SVG</a>'
    picture = f'<img alt="{_text(figure.caption)}" src="data:image/png;base64,{data}">'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _origin(results: Mapping[str, Any]) -> str:
    """Return the part of the page about runs, settings and versions."""
    columns = ("label", "run", "checkpoint", "epoch", "dataset", "seed", "dataset_fingerprint", "checkpoint_sha256")
    head = "".join(f"<th>{_text(name.replace('_', ' '))}</th>" for name in columns)
    rows = ["".join(f"<td>{_text(_short(run[name]))}</td>" for name in columns) for run in results["runs"]]
    table = "".join(f"<tr>{row}</tr>" for row in [head, *rows]) if rows else ""
    settings = {key: results[key] for key in ("config", "config_hash", "code", "packages")}
    versions = f"<pre>{_text(json.dumps(settings, indent=1))}</pre>"
    return "\n".join(
        (
            "<h2>Runs and settings</h2>",
            f"<table>{table}</table>",
            f"<details><summary>Settings and versions</summary>{versions}</details>",
        )
    )


def _short(value: Any) -> str:
    text = "" if value is None else str(value)
    return text[:12] if len(text) == 64 else text  # a hash


def _rounded(value: Any) -> Any:
    """Round floats to six significant digits; ``results.json`` keeps full precision."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _text(value: Any) -> str:
    return html.escape(str(value))
