"""Vega-Lite specifications of the panels; the page fills in the values of the chosen runs.

Names of the values: ``run``, ``model``, ``seed``, ``metric``, ``value``; ``epoch`` (curves); ``x``, ``y``, ``front``
(scatter); ``setting``, ``position``, ``text`` (parallel); ``setting``, ``value`` (importance).
"""

from __future__ import annotations

from typing import Any

from stemlab.config.dashboard_schema import PanelConfig, PanelKind

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name, never fetched
_MODEL = {"field": "model", "type": "nominal", "title": "model"}


def panel(config: PanelConfig) -> dict[str, Any]:
    """Return a panel of the page: its settings and its chart without values."""
    spec = {"$schema": _SCHEMA, "width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    return {**config.model_dump(exclude_none=True), "spec": {**spec, **_CHARTS[config.kind](config)}}


def _quantity(field: str, title: str, *, zero: bool = False, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero}, **more}


def _tooltip(*fields: str) -> list[dict[str, Any]]:
    return [{"field": field, "title": field} for field in fields]


def _points(config: PanelConfig) -> dict[str, Any]:
    value = _quantity("value", "")
    ends = {"x": {**value, "aggregate": "min"}, "x2": {"field": "value", "aggregate": "max"}}
    every = {"x": value, "tooltip": _tooltip("run", "metric", "value")}
    unit = {
        "layer": [
            {"mark": "rule", "encoding": ends},
            {"mark": {"type": "tick", "thickness": 1.5}, "encoding": every},
            {
                "mark": {"type": "point", "filled": True, "size": 70},
                "encoding": {"x": {**value, "aggregate": "mean"}},
            },
        ],
        "encoding": {"y": {**_MODEL, "title": None}, "color": {**_MODEL, "legend": None}},
    }
    if "*" not in str(config.metric):
        return unit
    header = {"labelAngle": 0, "labelAlign": "left", "labelAnchor": "start", "labelOrient": "top"}
    row = {"field": "metric", "type": "nominal", "title": None, "header": header}
    return {
        "facet": {"row": row},
        "spec": {**unit, "width": 330},
        "resolve": {"scale": {"x": "independent"}},
        **{"width": None, "autosize": None},
    }


def _curves(config: PanelConfig) -> dict[str, Any]:
    several = {"strokeDash": {"field": "metric", "type": "nominal", "title": "metric"}}
    return {
        "mark": {"type": "line", "point": {"size": 18}},
        "encoding": {
            "x": _quantity("epoch", "epoch", axis={"tickMinStep": 1}),
            "y": _quantity("value", str(config.metric)),
            "color": _MODEL,
            "detail": {"field": "run"},
            "tooltip": _tooltip("run", "metric", "epoch", "value"),
            **(several if "*" in str(config.metric) else {}),
        },
    }


def _scatter(config: PanelConfig) -> dict[str, Any]:
    x, y = _quantity("x", str(config.x)), _quantity("y", str(config.y))
    return {
        "layer": [
            {
                "mark": {"type": "line", "strokeDash": [4, 3], "color": "gray", "interpolate": "step-after"},
                "transform": [{"filter": "datum.front"}],
                "encoding": {"x": x, "y": y, "order": {"field": "x"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {"x": x, "y": y, "color": _MODEL, "tooltip": _tooltip("run", "x", "y")},
            },
        ]
    }


def _parallel(config: PanelConfig) -> dict[str, Any]:
    return {
        "mark": {"type": "line", "opacity": 0.6, "point": True},
        "encoding": {
            "x": {"field": "setting", "type": "nominal", "title": None, "sort": None, "axis": {"labelAngle": -20}},
            "y": {"field": "position", "type": "quantitative", "title": None, "axis": None},
            "color": _quantity("score", str(config.metric), legend={"title": str(config.metric)}),
            "detail": {"field": "run"},
            "tooltip": _tooltip("run", "setting", "text"),
        },
    }


def _importance(config: PanelConfig) -> dict[str, Any]:
    return {
        "mark": "bar",
        "encoding": {
            "y": {"field": "setting", "type": "nominal", "title": None, "sort": "-x"},
            "x": _quantity("value", f"rank correlation with {config.metric}, absolute", zero=True),
            "tooltip": _tooltip("setting", "value", "runs"),
        },
    }


_CHARTS: dict[PanelKind, Any] = {
    "points": _points,
    "curves": _curves,
    "scatter": _scatter,
    "parallel": _parallel,
    "importance": _importance,
}
