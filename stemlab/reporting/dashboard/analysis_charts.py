"""Vega-Lite specifications of saved scores, results of analyses and the lineage of runs.

Names of the values: ``run``, ``model``, ``facet`` (task), ``predicted``, ``observed`` (reliability); ``label``,
``model``, ``facet``, ``bucket``, ``gain``, ``low``, ``high`` (buckets, thousandths); ``label``, ``role``, ``index``,
``value`` (spectra); ``x``, ``y``, ``text``, and ``x2``, ``y2`` for the edges (lineage).
"""

from __future__ import annotations

from typing import Any

from stemlab.config.dashboard_schema import PanelConfig
from stemlab.reporting.dashboard.encodings import DASH_LEGEND, MODEL, faceted, quantity, tooltip

_NO_GAIN = {"mark": {"type": "rule", "color": "gray"}, "encoding": {"y": {"datum": 0, "scale": {"zero": True}}}}


def reliability_chart(config: PanelConfig) -> dict[str, Any]:
    """Return observed against predicted rates, both logarithmic, one chart per task."""
    scale = {"type": "log", "nice": False}
    unit: dict[str, Any] = {
        "height": 180,
        "layer": [
            {
                "mark": {"type": "line", "color": "gray", "strokeDash": [4, 3]},
                "encoding": {"x": quantity("predicted", ""), "y": quantity("predicted", "")},
            },
            {
                "mark": {"type": "line", "point": {"size": 22}},
                "encoding": {
                    "x": quantity("predicted", "mean prediction"),
                    "y": quantity("observed", "observed rate"),
                    "color": MODEL,
                    "detail": {"field": "run"},
                    "tooltip": tooltip("run", "predicted", "observed", "normalised entropy", "calibration", "ece"),
                },
            },
        ],
    }
    for layer in unit["layer"]:
        for axis in ("x", "y"):
            layer["encoding"][axis]["scale"] = scale
    chart = faceted("facet", unit, independent="x")
    chart["resolve"]["scale"]["y"] = "independent"
    return chart


def buckets_chart(config: PanelConfig) -> dict[str, Any]:
    """Return the AUC gain per bucket in thousandths with its bootstrap interval, one chart per task."""
    bucket = {"field": "bucket", "type": "nominal", "sort": None, "title": None, "axis": {"labelAngle": 0}}
    similar = {"test": "datum.similar"}  # feedback for both tasks
    spread = {"xOffset": {"field": "label"}, "x": bucket}
    unit = {
        "height": 150,
        "layer": [
            _NO_GAIN,
            {
                "mark": "rule",
                "encoding": {**spread, "y": quantity("low", "", zero=True), "y2": {"field": "high"}, "color": MODEL},
            },
            {
                "mark": {"type": "point", "filled": True, "opacity": 1},
                "encoding": {
                    **spread,
                    "shape": {"condition": {**similar, "value": "diamond"}, "value": "circle"},
                    "size": {"condition": {**similar, "value": 100}, "value": 45},
                    "y": quantity("gain", "AUC gain, ‰", zero=True),
                    "color": MODEL,
                    "tooltip": tooltip("label", "facet", "bucket", "gain", "low", "high", "samples", "result"),
                },
            },
        ],
    }
    return faceted("facet", unit, independent="y")


def spectra_chart(config: PanelConfig) -> dict[str, Any]:
    """Return the mean spectrum of the embedding tables of each run and role."""
    return {
        "mark": {"type": "line", "point": {"size": 18}},
        "encoding": {
            "x": quantity("index", "index of the singular value", axis={"tickMinStep": 1}),
            "y": quantity("value", "singular value / largest", zero=True),
            "color": MODEL,
            "strokeDash": {"field": "role", "type": "nominal", "title": "tables", "legend": DASH_LEGEND},
            "detail": [{"field": "label"}, {"field": "result"}],
            "tooltip": tooltip("label", "role", "index", "value", "tables", "result"),
        },
    }


def lineage_chart(config: PanelConfig) -> dict[str, Any]:
    """Return prepared data, first stages, runs and analyses from left to right, joined by lines."""
    steps = "['prepared data', 'first stage', 'runs', 'analyses'][datum.value]"
    axis = {"values": [0, 1, 2, 3], "labelExpr": steps, "orient": "top", "grid": False, "domain": False, "ticks": False}
    x = {"field": "x", "type": "quantitative", "title": None, "scale": {"domain": [-0.1, 3.6]}, "axis": axis}
    y = {"field": "y", "type": "quantitative", "axis": None, "scale": {"zero": False, "reverse": True}}
    return {
        "layer": [
            {
                "transform": [{"filter": "isValid(datum.x2)"}],
                "mark": {"type": "rule", "opacity": 0.5, "color": "gray"},
                "encoding": {"x": x, "y": y, "x2": {"field": "x2"}, "y2": {"field": "y2"}},
            },
            {
                "transform": [{"filter": "!isValid(datum.x2)"}],
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {"x": x, "y": y, "tooltip": tooltip("text", "names")},
            },
            {
                "transform": [{"filter": "!isValid(datum.x2)"}],
                "mark": {"type": "text", "align": "left", "dx": 7, "dy": -7, "fontSize": 11},
                "encoding": {"x": x, "y": y, "text": {"field": "text"}, "tooltip": tooltip("text", "names")},
            },
        ],
    }
