"""Vega-Lite specifications of the panels; the page fills in the values of the chosen runs.

Names of the values: ``run``, ``model``, ``seed``, ``metric``, ``value``; ``epoch``, and of a pattern ``facet`` and
``part``, which are the open parts of the name (curves); ``column``, ``share`` (heat); ``x``, ``y``, ``front``
(scatter); ``setting``, ``position``, ``text`` (parallel); ``setting``, ``value`` (importance). The page sets the width
of facets, the colours of ``model`` and the columns of legends.
"""

from __future__ import annotations

from typing import Any

from stemlab.config.dashboard_schema import PanelConfig, PanelKind
from stemlab.reporting.dashboard.analysis_charts import buckets_chart, lineage_chart, reliability_chart, spectra_chart
from stemlab.reporting.dashboard.encodings import DASH_LEGEND, MODEL, faceted, quantity, tooltip

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name, never fetched


def panel(config: PanelConfig) -> dict[str, Any]:
    """Return a panel of the page: its settings and its chart without values."""
    spec = {"$schema": _SCHEMA, **_CHARTS[config.kind](config)}
    if "facet" not in spec:
        spec |= {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    return {**config.model_dump(exclude_none=True), "spec": spec}


def _points(config: PanelConfig) -> dict[str, Any]:
    value = quantity("value", "")
    ends = {"x": {**value, "aggregate": "min"}, "x2": {"field": "value", "aggregate": "max"}}
    every = {"x": value, "tooltip": tooltip("run", "metric", "value")}
    unit = {
        "layer": [
            {"mark": "rule", "encoding": ends},
            {"mark": {"type": "tick", "thickness": 1.5}, "encoding": every},
            {
                "mark": {"type": "point", "filled": True, "size": 70},
                "encoding": {"x": {**value, "aggregate": "mean"}},
            },
        ],
        "encoding": {"y": {**MODEL, "title": None}, "color": {**MODEL, "legend": None}},
    }
    if "*" not in str(config.metric):
        return unit
    return faceted("metric", unit, independent="x")


def _heat(config: PanelConfig) -> dict[str, Any]:
    colour = {**quantity("share", "", legend=None), "scale": {"scheme": "blues"}}
    middle = {"condition": {"test": "datum.share > 0.6", "value": "white"}, "value": "black"}
    return {
        "layer": [
            {"mark": "rect", "encoding": {"color": colour}},
            {
                "mark": {"type": "text", "fontSize": 10},
                "encoding": {"text": {"field": "value", "format": ".4f"}, "color": middle},
            },
        ],
        "encoding": {
            "x": {"field": "column", "type": "nominal", "title": None, "axis": {"labelAngle": -30}},
            "y": {"field": "model", "type": "nominal", "title": None},
            "tooltip": tooltip("model", "metric", "value", "runs"),
        },
    }


def _curves(config: PanelConfig) -> dict[str, Any]:
    several = "*" in str(config.metric)
    unit: dict[str, Any] = {
        "mark": {"type": "line", "point": {"size": 12 if several else 18}},
        "encoding": {
            "x": quantity("epoch", "epoch", axis={"tickMinStep": 1}),
            "y": quantity("value", "" if several else str(config.metric)),
            "color": MODEL,
            "detail": {"field": "run"},
            "tooltip": tooltip("run", "metric", "epoch", "value"),
        },
    }
    if not several:
        return unit
    unit["encoding"]["strokeDash"] = {"field": "part", "type": "nominal", "title": "part", "legend": DASH_LEGEND}
    return faceted("facet", {**unit, "height": 110}, independent="y")


def _scatter(config: PanelConfig) -> dict[str, Any]:
    x, y = quantity("x", str(config.x)), quantity("y", str(config.y))
    return {
        "layer": [
            {
                "mark": {"type": "line", "strokeDash": [4, 3], "color": "gray", "interpolate": "step-after"},
                "transform": [{"filter": "datum.front"}],
                "encoding": {"x": x, "y": y, "order": {"field": "x"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {"x": x, "y": y, "color": MODEL, "tooltip": tooltip("run", "x", "y")},
            },
        ]
    }


def _parallel(config: PanelConfig) -> dict[str, Any]:
    return {
        "mark": {"type": "line", "opacity": 0.6, "point": True},
        "encoding": {
            "x": {"field": "setting", "type": "nominal", "title": None, "sort": None, "axis": {"labelAngle": -20}},
            "y": {"field": "position", "type": "quantitative", "title": None, "axis": None},
            "color": quantity("score", str(config.metric), legend={"title": str(config.metric)}),
            "detail": {"field": "run"},
            "tooltip": tooltip("run", "setting", "text"),
        },
    }


def _importance(config: PanelConfig) -> dict[str, Any]:
    return {
        "mark": "bar",
        "encoding": {
            "y": {"field": "setting", "type": "nominal", "title": None, "sort": "-x"},
            "x": quantity("value", f"correlation with {config.metric}, absolute", zero=True),
            "tooltip": tooltip("setting", "value", "runs"),
        },
    }


_CHARTS: dict[PanelKind, Any] = {
    "points": _points,
    "heat": _heat,
    "curves": _curves,
    "scatter": _scatter,
    "parallel": _parallel,
    "importance": _importance,
    "reliability": reliability_chart,
    "buckets": buckets_chart,
    "spectra": spectra_chart,
    "lineage": lineage_chart,
}
