"""Parts of Vega-Lite specifications that several charts of the page use."""

from __future__ import annotations

from typing import Any

MODEL = {"field": "model", "type": "nominal", "title": "model"}
"""Colour by model; the page gives each model the same colour in all charts."""


def faceted(field: str, unit: dict[str, Any], *, independent: str) -> dict[str, Any]:
    """Return a chart below the other for each value of a field; one scale (x or y) is independent in each."""
    header = {"labelAngle": 0, "labelAlign": "left", "labelAnchor": "start", "labelOrient": "top"}
    row = {"field": field, "type": "nominal", "title": None, "header": header, "sort": None}
    return {"facet": {"row": row}, "spec": unit, "resolve": {"scale": {independent: "independent"}}}


def quantity(field: str, title: str, *, zero: bool = False, **more: Any) -> dict[str, Any]:
    """Return the encoding of a number."""
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero}, **more}


def tooltip(*fields: str) -> list[dict[str, Any]]:
    """Return the encoding that shows some fields on hover."""
    return [{"field": field, "title": field} for field in fields]
