"""Columns of the AliExpress files, with MTReclib's names.

User files have 33 columns and item files 49, both without a header; MTReclib's train.csv and test.csv have 82 and a
header. Source: the publisher's page (tianchi.aliyun.com/dataset/74690) and MTReclib's conversion, see
docs/methods/datasets.md#aliexpress-columns.
"""

from __future__ import annotations

COUNTRIES = ("nl", "es", "fr", "us", "ru")
SEARCH_COLUMN = "search_id"
LABEL_COLUMN = "label"  # last column of an item file: 0 displayed, 1 clicked, 2 purchased
ALIEXPRESS_TASKS = ("click", "conversion")
CATEGORICALS = tuple(f"categorical_{number}" for number in range(1, 17))
NUMERICALS = tuple(f"numerical_{number}" for number in range(1, 64))
USER_CATEGORICALS, ITEM_CATEGORICALS = CATEGORICALS[:9], CATEGORICALS[9:]
USER_NUMERICALS, ITEM_NUMERICALS = NUMERICALS[:23], NUMERICALS[23:]
NUMERICAL_PARTS = {**dict.fromkeys(USER_NUMERICALS, "user"), **dict.fromkeys(ITEM_NUMERICALS, "item")}
_ITEM_CATEGORICAL_POSITIONS = (19, 34, 35, 36, 40, 41, 42)  # categorical columns of an item file, counted from 1


def _item_columns() -> tuple[str, ...]:
    categoricals, numericals = iter(ITEM_CATEGORICALS), iter(ITEM_NUMERICALS)
    return tuple(next(categoricals if at in _ITEM_CATEGORICAL_POSITIONS else numericals) for at in range(2, 49))


USER_FILE = (SEARCH_COLUMN, *USER_CATEGORICALS[:7], *USER_NUMERICALS, *USER_CATEGORICALS[7:])
ITEM_FILE = (SEARCH_COLUMN, *_item_columns(), LABEL_COLUMN)
