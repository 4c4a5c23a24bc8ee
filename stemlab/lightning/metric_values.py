"""Exact metric values, as callbacks and records read them.

Lightning keeps logged numbers as float32 tensors; reported metrics must be equal to the last digit on any number of
processes, so the module keeps its own float64 values.
"""

from __future__ import annotations

from pytorch_lightning import LightningModule

from stemlab.errors import StemlabError, nearest


def metric_value(module: LightningModule, name: str) -> float:
    """Return the newest value of a metric.

    Raises:
        StemlabError: when nothing of that name was measured, with the nearest name.
    """
    values: dict[str, float] = module.metric_values  # type: ignore[assignment]
    if name not in values:
        known = sorted(values)
        raise StemlabError(f"no metric is called {name!r} (known: {', '.join(known)}).{nearest(name, known)}")
    return values[name]
