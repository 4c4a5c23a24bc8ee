"""Exact metric values for callbacks and records.

Lightning stores logged values as float32 tensors. Reported metrics must be identical for every world size, so the
module keeps its own float64 values.
"""

from __future__ import annotations

from pytorch_lightning import LightningModule

from stemlab.errors import StemlabError, nearest


def metric_value(module: LightningModule, name: str) -> float:
    """Return the latest value of a metric.

    Args:
        module: a module of :mod:`stemlab.lightning`.
        name: full metric name, ``val/auc/like``.

    Raises:
        StemlabError: no metric has this name; the message gives the nearest name.
    """
    values: dict[str, float] = module.metric_values  # type: ignore[assignment]
    if name not in values:
        known = sorted(values)
        raise StemlabError(f"no metric is called {name!r} (known: {', '.join(known)}).{nearest(name, known)}")
    return values[name]
