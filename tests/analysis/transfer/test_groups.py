"""Groups of test samples for the bootstrap of both transfer analyses."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stemlab.analysis.transfer.comparable import bootstrap_groups


@pytest.mark.parametrize(
    ("fields", "group", "wanted"),
    [
        (("item_id", "uid"), None, [7, 7, 8]),
        (("item_id", "uid"), [3, 4, 4], [3, 4, 4]),
        (("item_id", "age"), [3, 4, 4], [3, 4, 4]),
        (("item_id", "age"), None, [0, 1, 2]),
    ],
)
def test_groups_are_raw_keys_or_users_or_single_samples(
    fields: tuple[str, ...], group: list[int] | None, wanted: list[int]
) -> None:
    class Store(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.ids)

    store = Store(ids=np.array([[1, 7], [2, 7], [3, 8]]), group=None if group is None else np.array(group))
    spec = SimpleNamespace(field_sizes=dict.fromkeys(fields, 9), group=None, name="toy")
    data: Any = SimpleNamespace(spec=spec, store=lambda split: store)
    assert bootstrap_groups(data).tolist() == wanted
