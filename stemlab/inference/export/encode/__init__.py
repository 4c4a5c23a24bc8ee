"""Raw rows -> inputs of an exported model. Needs only NumPy; this folder is copied beside the model.

encoder = load("exported/encoder.json")
inputs = encoder([{"user_id": 7, "item_id": "a1", "price": 3.5}])  # dicts, a dict of columns, or a DataFrame
scores = onnxruntime.InferenceSession("exported/model.onnx").run(None, inputs)[0]
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .cells import EncodingError
from .impressions import ImpressionEncoder
from .sequences import SequenceEncoder

__all__ = ["EncodingError", "ImpressionEncoder", "SequenceEncoder", "encoder_of", "load"]


def load(path: str | Path, on_unknown: str = "error") -> ImpressionEncoder | SequenceEncoder:
    """Return the encoder of an exported model.

    Args:
        path: its ``encoder.json``.
        on_unknown: for sequences, ``error`` or ``skip`` items of a history that the model does not know.
    """
    return encoder_of(json.loads(Path(path).read_text(encoding="utf-8")), on_unknown)


def encoder_of(rules: Mapping[str, Any], on_unknown: str = "error") -> ImpressionEncoder | SequenceEncoder:
    """Return the encoder for the content of an ``encoder.json``."""
    return SequenceEncoder(rules, on_unknown) if rules["kind"] == "sequences" else ImpressionEncoder(rules)
