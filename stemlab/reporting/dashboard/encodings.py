"""Parts of Vega-Lite specifications that several charts of the page use."""

from __future__ import annotations

from typing import Any

MODEL = {"field": "model", "type": "nominal", "title": "model"}
"""Colour by model; the page gives each model the same colour in all charts."""

DASH_LEGEND = {
    **{"symbolType": "stroke", "symbolSize": 250, "symbolStrokeWidth": 2, "symbolLimit": 0},
    **{"symbolStrokeColor": "gray", "symbolFillColor": "transparent"},
}
"""Legend of dashed lines; Vega-Lite would draw filled circles where lines have points."""


def faceted(field: str, unit: dict[str, Any], *, independent: str) -> dict[str, Any]:
    """Return one chart per value of a field, in the page's number of columns; one scale (x or y) is independent."""
    header = {"labelAngle": 0, "labelAlign": "left", "labelAnchor": "start", "labelOrient": "top", "title": None}
    facet = {"field": field, "type": "nominal", "title": None, "header": header, "sort": None}
    return {"facet": facet, "columns": 1, "spec": unit, "resolve": {"scale": {independent: "independent"}}}


def quantity(field: str, title: str, *, zero: bool = False, **more: Any) -> dict[str, Any]:
    """Return the encoding of a number."""
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero}, **more}


def tooltip(*fields: str) -> list[dict[str, Any]]:
    """Return the encoding that shows some fields on hover."""
    return [{"field": field, "title": field} for field in fields]
