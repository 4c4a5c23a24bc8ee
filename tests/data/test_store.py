import pickle
import resource

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.reserved_file import blank_column
from stemlab.data.store import ColumnStore, StoreWriter, write_store
from stemlab.errors import StemlabError


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 5), st.integers(1, 3), st.booleans(), st.integers(1, 20))
def test_round_trip_in_any_number_of_appends(tmp_path_factory, rows, fields, tasks, grouped, step):
    path = tmp_path_factory.mktemp("store") / "train.arrow"
    rng = np.random.default_rng(rows)
    ids = rng.integers(0, 2**31 - 1, (rows, fields)).astype(np.int32)
    labels = rng.integers(0, 2, (rows, tasks)).astype(np.int8)
    group = rng.integers(-(2**62), 2**62, rows) if grouped else None
    with StoreWriter(path, rows, list("abcde")[:fields], list("xyz")[:tasks], grouped=grouped) as writer:
        for start in range(0, rows, step):
            part = slice(start, start + step)
            writer.append(ids[part], labels[part], None if group is None else group[part])
    store = ColumnStore(path)
    assert (len(store), store.fields, store.tasks) == (rows, tuple("abcde")[:fields], tuple("xyz")[:tasks])
    np.testing.assert_array_equal(store.ids, ids)
    np.testing.assert_array_equal(store.labels, labels)
    assert (store.group is None) == (not grouped)
    if grouped:
        np.testing.assert_array_equal(store.group, group)


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(0, 4), st.booleans(), st.booleans(), st.integers(1, 20))
def test_optional_columns_round_trip(tmp_path_factory, rows, width, grouped, scenario, step):
    path = tmp_path_factory.mktemp("store") / "train.arrow"
    rng = np.random.default_rng(rows)
    ids, labels = np.zeros((rows, 2), np.int32), np.ones((rows, 1), np.int8)
    dense = rng.normal(size=(rows, width)).astype(np.float32)
    group, scenarios = rng.integers(-9, 9, rows), rng.integers(0, 4, rows).astype(np.int32)
    names = ["p", "q", "r", "s"][:width]
    with StoreWriter(path, rows, "ab", "t", grouped=grouped, numericals=names, scenario=scenario) as writer:
        for start in range(0, rows, step):
            part = slice(start, start + step)
            writer.append(ids[part], labels[part], group[part], dense[part], scenarios[part])
    store = pickle.loads(pickle.dumps(ColumnStore(path)))
    assert store.numericals == tuple(names)
    for found, expected, there in (
        (store.dense, dense, width > 0),
        (store.scenario, scenarios, scenario),
        (store.group, group, grouped),
    ):
        assert (found is not None) == there
        if there:
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


def test_missing_column_raises(tmp_path):
    ids, labels = np.zeros((2, 1), np.int32), np.ones((2, 1), np.int8)
    writer = StoreWriter(tmp_path / "a.arrow", 2, ["f"], ["t"], grouped=False, numericals=["p"])
    with pytest.raises(ValueError, match="column 'dense' needs 2 rows"), writer:
        writer.append(ids, labels)


def test_file_is_one_plain_record_batch(tmp_path):
    write_store(
        tmp_path / "a.arrow", ["f", "g"], ["t"], np.ones((3, 2), np.int32), np.ones((3, 1), np.int8), np.arange(3)
    )
    with pa.memory_map(str(tmp_path / "a.arrow")) as file:
        reader = pa.ipc.open_file(file)
        assert reader.num_record_batches == 1
        batch = reader.get_batch(0)
        batch.validate(full=True)
        assert batch.schema.field("ids").type == pa.list_(pa.int32(), 2)
        assert batch.column("group").to_pylist() == [0, 1, 2]


def test_large_files_are_reserved_without_memory_or_disk(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = tmp_path / "big.arrow"
    rows = 250_000_000  # with ten fields, more list items than int32 counts
    writer = StoreWriter(path, rows, [str(i) for i in range(10)], ["t"])
    with pytest.raises(StemlabError, match="has 0 of 250000000 rows"), writer:
        pass
    assert path.stat().st_size > rows * 49
    assert path.stat().st_blocks * 512 < 1 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_column_may_be_larger_than_main_memory():
    column = blank_column(pa.int64(), 1 << 42)  # 32 TiB
    assert (len(column), column.null_count, column[-1].as_py()) == (1 << 42, 0, 0)


def test_pickles_by_path(tmp_path):
    store = write_store(tmp_path / "a.arrow", ["f"], ["t"], np.ones((9999, 1), np.int32), np.ones((9999, 1), np.int8))
    data = pickle.dumps(store)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).ids, store.ids)


def test_columns_are_views_of_the_file(tmp_path):
    store = write_store(tmp_path / "a.arrow", ["f"], ["t"], np.ones((5, 1), np.int32), np.ones((5, 1), np.int8))
    assert not store.ids.flags.writeable
    assert not store.ids.flags.owndata


@pytest.mark.parametrize("content", [None, b"", b"ARROW1", b"ARROW1" + bytes(500)])
def test_damaged_file_raises(tmp_path, content):
    path = tmp_path / "valid.arrow"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StemlabError, match=r"valid\.arrow is not a prepared split"):
        ColumnStore(path)


def test_writer_rejects_too_many_rows_and_ragged_columns(tmp_path):
    with StoreWriter(tmp_path / "a.arrow", 1, ["f"], ["t"]) as writer:
        with pytest.raises(ValueError, match="reserved for 1 rows"):
            writer.append(np.ones((2, 1), np.int32), np.ones((2, 1), np.int8), np.ones(2, np.int64))
        with pytest.raises(ValueError, match="'group' needs 1 rows"):
            writer.append(np.ones((1, 1), np.int32), np.ones((1, 1), np.int8))
        writer.append(np.ones((1, 1), np.int32), np.ones((1, 1), np.int8), np.ones(1, np.int64))


@pytest.mark.parametrize("column", ["ids", "labels", "group"])
def test_writer_casts_nothing(tmp_path, column):
    parts = {"ids": np.ones((1, 1), np.int32), "labels": np.ones((1, 1), np.int8), "group": np.ones(1, np.int64)}
    parts[column] = parts[column].astype(np.int16)
    with pytest.raises(TypeError, match=f"{column!r} is int16"), StoreWriter(tmp_path / "a", 1, ["f"], ["t"]) as writer:
        writer.append(*parts.values())
