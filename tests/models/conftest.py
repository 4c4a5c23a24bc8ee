"""Fixtures of this folder."""

from __future__ import annotations

import pytest

from stemlab.data.batch import ImpressionBatch
from tests.models.nets import random_batch


@pytest.fixture
def batch() -> ImpressionBatch:
    return random_batch()
