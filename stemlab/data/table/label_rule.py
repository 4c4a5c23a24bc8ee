"""Kind of a label in the description of a table (``dataset.labels``)."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from stemlab.types import LabelKind


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class LabelRule:
    """Kind of one label.

    Attributes:
        kind: ``binary`` (0 or 1) or ``regression`` (a number).
        given: column of 0 and 1, a task or any other column: the label counts in rows with a 1 there only, and may be
            missing in the others; ``None``: it counts in all rows.
    """

    kind: LabelKind = "binary"
    given: str | None = None
