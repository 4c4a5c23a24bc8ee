"""Tables that ``stemlab.prepare`` prints for a sequence dataset."""

import re

import numpy as np
from rich.console import Console

from stemlab.prepare import tables
from tests.data.sequence.toys import Toy, raw_of


def shown(data):
    console = Console(record=True, width=100)
    for table in tables(data.manifest):
        console.print(table)
    return [re.findall(r"[\w-]+", line) for line in console.export_text().splitlines() if "│" in line]


def test_tables_of_sequences(tmp_path):
    rows = [(1, 1, 0, 0), (1, 2, 1, 0), (1, 3, 2, 2), (2, 5, 0, 0)]
    data = Toy(raw_of(rows, 2, 5, negatives={"test": np.array([[4, 5, 4]])}), tmp_path)
    data.prepare()
    assert shown(data) == [
        ["train", "3", "1", "-"],
        ["valid", "0", "0", "-"],
        ["test", "1", "1", "3"],
        ["users", "2"],
        ["items", "5"],
        ["users", "with", "one", "interaction", "no", "sample", "1"],
    ]


def test_categories_are_counted_if_prepared(tmp_path):
    data = Toy(raw_of([(1, 1, 0, 0), (1, 2, 1, 0)], 1, 4, categories=["b", None, "a", "b"]), tmp_path)
    data.prepare()
    assert shown(data)[-2:] == [
        ["item", "categories", "2"],
        ["items", "without", "a", "category", "1"],
    ]
