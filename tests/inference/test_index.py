"""The index returns the items of tiled scoring: all of them if exact, nearly all if approximate."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stemlab.errors import StemlabError
from stemlab.inference import index as index_module
from stemlab.inference.index import ItemIndex
from stemlab.metrics.catalogue import Catalogue
from stemlab.metrics.topk import no_seen_items, top_items

faiss = pytest.importorskip("faiss", reason="needs Faiss: pip install 'stemlab[retrieval]'")


def random_vectors(items: int, users: int, interests: int = 3, width: int = 16, skew: float = 0.0, seed: int = 0):
    """Return item and user vectors around common centres; ``skew`` is the spread of the log norms of the items."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((40, width))
    item_ID = centre[rng.integers(0, 40, items + 1)] + 0.6 * rng.standard_normal((items + 1, width))
    item_ID *= np.exp(skew * rng.standard_normal((items + 1, 1)))
    user_BKD = centre[rng.integers(0, 40, (users, interests))] + 0.6 * rng.standard_normal((users, interests, width))
    return item_ID.astype(np.float32), user_BKD.astype(np.float32)


def names(items: int) -> list[str]:
    return [f"item {i}" for i in range(1, items + 1)]


def exact_lists(item_ID, user_BKD, count: int):
    device = torch.device("cpu")
    catalogue, users = Catalogue(torch.from_numpy(item_ID)), torch.from_numpy(user_BKD)
    return [part.numpy() for part in top_items(catalogue, users, no_seen_items(len(user_BKD), device), count)]


def recall(found_BN, expected_BN) -> float:
    hits = [len(set(found) & set(expected)) for found, expected in zip(found_BN, expected_BN, strict=True)]
    return sum(hits) / expected_BN.size


@pytest.mark.parametrize("interests", [1, 4])
def test_exact_index_gives_the_lists_of_tiled_scoring(interests: int) -> None:
    item_ID, user_BKD = random_vectors(1500, 60, interests)
    found_BN, score_BN = ItemIndex.build("exact", item_ID, names(1500)).search(user_BKD, 50)
    expected_BN, expected_score_BN = exact_lists(item_ID, user_BKD, 50)
    assert np.array_equal(found_BN, expected_BN)
    np.testing.assert_allclose(score_BN, expected_score_BN, rtol=1e-5)


@pytest.mark.parametrize("skew", [0.0, 0.5])
def test_hnsw_finds_nearly_all(skew: float) -> None:
    item_ID, user_BKD = random_vectors(6000, 100, 3, 32, skew)
    found_BN, _ = ItemIndex.build("hnsw", item_ID, names(6000)).search(user_BKD, 50)
    value = recall(found_BN, exact_lists(item_ID, user_BKD, 50)[0])
    assert value >= 0.95


def test_fewer_items_than_requested() -> None:
    item_ID, user_BKD = random_vectors(7, 5, 2)
    found_BN, score_BN = ItemIndex.build("exact", item_ID, names(7)).search(user_BKD, 10)
    assert [sorted(row) for row in found_BN.tolist()] == [[0, 0, 0, 1, 2, 3, 4, 5, 6, 7]] * 5
    assert np.isneginf(score_BN[:, 7:]).all()
    assert np.isfinite(score_BN[:, :7]).all()


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_a_saved_index_can_be_loaded(kind: str, tmp_path: Path) -> None:
    item_ID, user_BKD = random_vectors(300, 10)
    made = ItemIndex.build(kind, item_ID, names(300), sample=True)
    made.save(tmp_path / "new" / "items.faiss")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"items.faiss", "items.faiss.json"}
    loaded = ItemIndex.load(tmp_path / "new" / "items.faiss")
    assert loaded.items == names(300)
    assert loaded.metadata == {"kind": kind, "measure": "inner product", "sample": True}
    for one, other in zip(made.search(user_BKD, 20), loaded.search(user_BKD, 20), strict=True):
        assert np.array_equal(one, other)
    plain = faiss.read_index(str(tmp_path / "new" / "items.faiss"))
    assert plain.metric_type == faiss.METRIC_INNER_PRODUCT
    assert plain.ntotal == 300


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    made = ItemIndex.build("exact", random_vectors(5, 1)[0], names(5))

    def fail() -> None:
        with made.writing(tmp_path / "items.faiss"):
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "items.faiss").symlink_to("/dev/full")
    made = ItemIndex.build("exact", random_vectors(40, 1)[0], names(40))
    with pytest.raises(StemlabError, match=r"items\.faiss cannot be written .No space"):
        made.save(tmp_path / "items.faiss")
    assert [path.name for path in tmp_path.iterdir()] == ["items.faiss"]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.faiss"
    with pytest.raises(StemlabError, match=r"items\.faiss .*index"):
        ItemIndex.load(path)
    ItemIndex.build("exact", random_vectors(5, 1)[0], names(4)).save(path)
    with pytest.raises(StemlabError, match=r"5 vectors, .* 4 items"):
        ItemIndex.load(path)
    path.write_bytes(b"no index")
    with pytest.raises(StemlabError, match=r"items\.faiss .*index"):
        ItemIndex.load(path)


def test_an_error_names_the_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(StemlabError, match=r"pip install 'stemlab\[retrieval\]'"):
        index_module.require_faiss()
