"""What the tests of this folder share."""

from __future__ import annotations

import pytest

from models.nets import random_batch
from stemlab.data.batch import ImpressionBatch


@pytest.fixture
def batch() -> ImpressionBatch:
    return random_batch()
