"""Recommended lists equal those from the scores of the network, for known and new users; no partial files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.inference.recommend import SEQUENTIAL_DEFAULTS, refuse_options
from tests.inference.users_files import ITEMS, NETS, ROWS, USERS, RecommendCase, known_rows, reference_lists


@pytest.fixture
def case(tmp_path: Path) -> RecommendCase:
    return RecommendCase(tmp_path)


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("name", list(NETS))
def test_lists_equal_those_from_the_network_scores(name: str, exclude: bool, tmp_path: Path) -> None:
    case = RecommendCase(tmp_path, name)
    case.recommend(topk=10, exclude_seen=exclude)
    assert case.lists() == reference_lists(case.net, 10, exclude)


@pytest.mark.parametrize("name", ["comirec", "mind", "tisasrec", "bprmf"])
def test_histories_of_a_file_give_the_same_lists_as_those_of_the_dataset(name: str, tmp_path: Path) -> None:
    """Rows may be in any order; rows with equal times keep their order, and so do users."""
    case = RecommendCase(tmp_path, name)
    rows = known_rows()
    order = np.argsort(np.random.default_rng(0).integers(0, 9, len(rows)), kind="stable")
    same = pd.DataFrame(rows).duplicated([0, 2], keep=False)
    shuffled = [rows[index] for index in order if not same[index]]
    shuffled += [row for row, double in zip(rows, same, strict=True) if double]
    case.recommend(input=case.write("rows.csv", shuffled, "user", "item", "time"), topk=7, output="given.parquet")
    case.recommend(topk=7)
    given = case.lists("given.parquet")
    assert given == case.lists()
    assert list(given) == list(dict.fromkeys(row[0] for row in shuffled))


def test_new_users_with_equal_histories_get_equal_lists(case: RecommendCase) -> None:
    mine = [row for row in known_rows() if row[0] == "u7"]
    source = case.write("new.parquet", [("new user", *row[1:]) for row in mine], "user", "item", "time")
    case.recommend(input=source, topk=5)
    assert case.lists() == {"new user": reference_lists(case.net, 5)["u7"]}


def test_only_rows_of_the_file_count_as_seen(case: RecommendCase) -> None:
    """Interactions in the dataset do not count, also for users of the dataset."""
    rows = [("u7", "i1", 5), ("u7", "i2", 6)]
    case.recommend(input=case.write("rows.csv", rows, "user", "item", "time"), topk=ITEMS)
    (items,) = case.lists().values()
    assert sorted(items) == sorted(f"i{item}" for item in range(3, ITEMS + 1))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_users_of_a_list_keep_their_order_without_repeats(kind: str, case: RecommendCase) -> None:
    users = ["u9", "u2", "u9", "u20", "u2"]
    summary = case.recommend(input=case.write(f"users.{kind}", [(user,) for user in users], "user"), topk=4)
    all_lists = reference_lists(case.net, 4)
    assert list(case.lists().items()) == [(user, all_lists[user]) for user in ("u9", "u2", "u20")]
    assert "SAMPLE" in summary
    assert f"12 items for 3 users written to {case.folder}/out/top.parquet, seen items excluded." in summary


def test_topk_larger_than_the_number_of_unseen_items(case: RecommendCase) -> None:
    summary = case.recommend(topk=ITEMS)
    lists = case.lists()
    distinct = {f"u{user}": len({row[1] for row in ROWS if row[0] == user}) for user in range(1, USERS)}
    assert {user: len(items) for user, items in lists.items()} == {user: ITEMS - n for user, n in distinct.items()}
    assert f"{USERS - 1} users with fewer" in summary


def test_lists_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    tables = []
    for size in (1, 5, 100):
        (tmp_path / str(size)).mkdir()
        case = RecommendCase(tmp_path / str(size), eval_batch_size=size)
        case.recommend(topk=9)
        tables.append(pd.read_parquet(case.folder / "out" / "top.parquet"))
    for table in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], table, rtol=1e-5)


def test_vectors_and_index_give_the_same_lists(tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="needs Faiss: pip install 'stemlab[retrieval]'")
    from stemlab.inference.index import ItemIndex

    case = RecommendCase(tmp_path, "mind")
    files = {"vectors": "users.npz", "item_vectors": "items.parquet", "index": "exact", "index_path": "items.faiss"}
    summary = case.recommend(topk=6, exclude_seen=False, **files)
    assert f"{case.folder}/out/items.faiss" in summary
    assert f"exact index of {ITEMS}" in summary
    users, items = np.load(case.folder / "out/users.npz"), pd.read_parquet(case.folder / "out/items.parquet")
    assert users["user"].tolist() == [f"u{user}" for user in range(1, USERS)]
    assert items["item"].tolist() == [f"i{item}" for item in range(1, ITEMS + 1)]
    index = ItemIndex.load(case.folder / "out/items.faiss")
    assert index.metadata == {"kind": "exact", "measure": "inner product", "checkpoint": "best.ckpt", "sample": True}
    item_BN, score_BN = index.search(users["vector"], 6)
    found = {user: [index.items[i - 1] for i in row] for user, row in zip(users["user"], item_BN, strict=True)}
    assert found == case.lists()
    table = np.einsum("ukd,id->uki", users["vector"], np.stack(items["vector"])).max(1)
    np.testing.assert_allclose(np.sort(table)[:, ::-1][:, :6], score_BN, rtol=1e-5)
    scores = pd.read_parquet(case.folder / "out/top.parquet")["score"]
    np.testing.assert_allclose(scores, score_BN.ravel(), rtol=1e-5)


def test_interests_may_differ_from_user_vectors(tmp_path: Path) -> None:
    """TiMiRec scores with one mixture of its K interests."""
    case = RecommendCase(tmp_path, "timirec")
    case.recommend(vectors="vectors.npz", interests="interests.parquet", topk=3)
    assert np.load(case.folder / "out/vectors.npz")["vector"].shape == (USERS - 1, 1, 8)
    table = pd.read_parquet(case.folder / "out/interests.parquet")
    assert list(table) == ["user", "interest", "vector"]
    assert table["user"].tolist() == [f"u{user}" for user in range(1, USERS) for _ in range(2)]
    assert table["interest"].tolist() == [0, 1] * (USERS - 1)
    with torch.no_grad():
        interests_BKD = case.net(case.toy.whole_histories(np.arange(1, USERS))).interests_BKD
    np.testing.assert_allclose(np.stack(table["vector"]), interests_BKD.reshape(-1, 8), rtol=1e-5)


def test_a_bf16_run_computes_vectors_in_bf16(case: RecommendCase) -> None:
    for name, precision in (("full", "32-true"), ("low", "bf16-mixed")):
        case.recommend(precision, vectors=f"{name}.npz", topk=2)
    full, low = (np.load(case.folder / f"out/{name}.npz")["vector"] for name in ("full", "low"))
    assert not np.array_equal(full, low)
    assert np.abs(full - low).max() < 0.05 * np.abs(full).max()


@pytest.mark.parametrize(
    ("chosen", "hint"),
    [
        ({"index": "hnsw"}, "index=hnsw .*index_path"),
        ({"index_path": "a.faiss"}, r"index_path=.*index=exact or index=hnsw"),
        ({"vectors": "a.npz", "interests": "a.npz"}, r"interests=.*a\.npz .*vectors"),
        ({"vectors": "a.npy"}, r"vectors=.*a\.npy .*\.parquet or \.npz"),
        ({"output": "top.json"}, r"output=.*\.parquet or \.csv"),
        ({"interests": "a.npz", "vectors": "b.npz", "name": "sasrec"}, "sasrec has no interests"),
    ],
)
def test_impossible_outputs_are_refused_and_leave_no_file(chosen: dict, hint: str, tmp_path: Path) -> None:
    case = RecommendCase(tmp_path, chosen.pop("name", "comirec"))
    with pytest.raises(StemlabError, match=hint):
        case.recommend(**chosen)
    assert case.output_files() == []


@pytest.mark.parametrize("broken", ["items", "extractor"])
def test_vectors_that_are_not_finite_are_refused(broken: str, case: RecommendCase) -> None:
    parameter = next(value for name, value in case.net.named_parameters() if name.startswith(broken))
    with torch.no_grad():
        parameter.view(-1)[-1] = torch.nan
    with pytest.raises(StemlabError, match=r"best.ckpt gives vectors .*another checkpoint"):
        case.recommend()
    assert case.output_files() == []


def test_defaults_are_those_of_the_file() -> None:
    config = compose("predict", ["ckpt=a.ckpt", "output=b.csv"])
    assert {key: config[key] for key in SEQUENTIAL_DEFAULTS} == SEQUENTIAL_DEFAULTS
    assert config["input"] is None


def test_options_of_sequential_models_are_refused_for_others() -> None:
    config = compose("predict", ["ckpt=a.ckpt", "output=b.csv"])
    refuse_options(config)
    with pytest.raises(StemlabError, match=r"topk=9 .*sequential .*a\.ckpt .*multi-task"):
        refuse_options({**config, "topk": 9})


@pytest.mark.parametrize("chosen", [{"vectors": "u.npz"}, {"item_vectors": "i.npz"}, {"index": "exact"}])
def test_a_network_without_vectors_writes_lists_only(chosen: dict[str, str], tmp_path: Path) -> None:
    case = RecommendCase(tmp_path, "tin")
    path = {"index_path": "items.faiss"} if "index" in chosen else {}
    with pytest.raises(StemlabError, match=rf"tin .* set {next(iter(chosen))}=n"):
        case.recommend(**chosen, **path)
    assert case.output_files() == []
    with torch.no_grad():
        case.net.item_bias.weight[3] = torch.nan
    with pytest.raises(StemlabError, match=r"best.ckpt gives scores"):
        case.recommend()
    assert case.output_files() == []
