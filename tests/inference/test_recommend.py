"""Lists of the best items: those of the network's own scores, for users known and new, and nothing half-written."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.inference.recommend import SEQUENTIAL_DEFAULTS, refuse_options
from tests.inference.users_files import ITEMS, NETS, ROWS, USERS, World, known_rows, twin_lists


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("name", list(NETS))
def test_lists_are_those_of_the_networks_own_scores(name: str, exclude: bool, tmp_path: Path) -> None:
    world = World(tmp_path, name)
    world.recommend(topk=10, exclude_seen=exclude)
    assert world.lists() == twin_lists(world.net, 10, exclude)


@pytest.mark.parametrize("name", ["comirec", "mind", "tisasrec", "bprmf"])
def test_histories_of_a_file_are_as_good_as_those_of_the_dataset(name: str, tmp_path: Path) -> None:
    """Rows may come in any order; those of one second keep theirs, and so do users."""
    world = World(tmp_path, name)
    rows = known_rows()
    order = np.argsort(np.random.default_rng(0).integers(0, 9, len(rows)), kind="stable")
    same = pd.DataFrame(rows).duplicated([0, 2], keep=False)
    shuffled = [rows[place] for place in order if not same[place]]
    shuffled += [row for row, double in zip(rows, same, strict=True) if double]
    world.recommend(input=world.write("rows.csv", shuffled, "user", "item", "time"), topk=7, output="given.parquet")
    world.recommend(topk=7)
    given = world.lists("given.parquet")
    assert given == world.lists()
    assert list(given) == list(dict.fromkeys(row[0] for row in shuffled))


def test_new_users_are_served_by_their_history(world: World) -> None:
    mine = [row for row in known_rows() if row[0] == "u7"]
    source = world.write("new.parquet", [("somebody", *row[1:]) for row in mine], "user", "item", "time")
    world.recommend(input=source, topk=5)
    assert world.lists() == {"somebody": twin_lists(world.net, 5)["u7"]}


def test_only_rows_of_the_file_count_as_seen(world: World) -> None:
    """A file describes its users completely, also those that the dataset knows."""
    rows = [("u7", "i1", 5), ("u7", "i2", 6)]
    world.recommend(input=world.write("rows.csv", rows, "user", "item", "time"), topk=ITEMS)
    (items,) = world.lists().values()
    assert sorted(items) == sorted(f"i{item}" for item in range(3, ITEMS + 1))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_listed_users_in_their_order_each_once(kind: str, world: World) -> None:
    users = ["u9", "u2", "u9", "u20", "u2"]
    told = world.recommend(input=world.write(f"users.{kind}", [(user,) for user in users], "user"), topk=4)
    all_lists = twin_lists(world.net, 4)
    assert list(world.lists().items()) == [(user, all_lists[user]) for user in ("u9", "u2", "u20")]
    assert (
        told == f"[SAMPLE model] 12 items for 3 users written to {world.folder}/out/top.parquet, seen items excluded."
    )


def test_more_items_wanted_than_left(world: World) -> None:
    told = world.recommend(topk=ITEMS)
    lists = world.lists()
    distinct = {f"u{user}": len({row[1] for row in ROWS if row[0] == user}) for user in range(1, USERS)}
    assert {user: len(items) for user, items in lists.items()} == {user: ITEMS - n for user, n in distinct.items()}
    assert f"{USERS - 1} users with fewer than {ITEMS} items left" in told


def test_the_batch_size_changes_nothing(tmp_path: Path) -> None:
    tables = []
    for size in (1, 5, 100):
        (tmp_path / str(size)).mkdir()
        world = World(tmp_path / str(size), eval_batch_size=size)
        world.recommend(topk=9)
        tables.append(pd.read_parquet(world.folder / "out" / "top.parquet"))
    for table in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], table, rtol=1e-5)


def test_vectors_and_index_give_the_same_lists(tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="needs Faiss: pip install 'stemlab[retrieval]'")
    from stemlab.inference.index import ItemIndex

    world = World(tmp_path, "mind")
    files = {"vectors": "users.npz", "item_vectors": "items.parquet", "index": "exact", "index_path": "items.faiss"}
    told = world.recommend(topk=6, exclude_seen=False, **files)
    assert f"exact index of {ITEMS} items in {world.folder}/out/items.faiss" in told
    users, items = np.load(world.folder / "out/users.npz"), pd.read_parquet(world.folder / "out/items.parquet")
    assert users["user"].tolist() == [f"u{user}" for user in range(1, USERS)]
    assert items["item"].tolist() == [f"i{item}" for item in range(1, ITEMS + 1)]
    index = ItemIndex.load(world.folder / "out/items.faiss")
    assert index.metadata == {"kind": "exact", "measure": "inner product", "checkpoint": "best.ckpt", "sample": True}
    item_BN, score_BN = index.search(users["vector"], 6)
    found = {user: [index.items[i - 1] for i in row] for user, row in zip(users["user"], item_BN, strict=True)}
    assert found == world.lists()
    table = np.einsum("ukd,id->uki", users["vector"], np.stack(items["vector"])).max(1)
    np.testing.assert_allclose(np.sort(table)[:, ::-1][:, :6], score_BN, rtol=1e-5)
    scores = pd.read_parquet(world.folder / "out/top.parquet")["score"]
    np.testing.assert_allclose(scores, score_BN.ravel(), rtol=1e-5)


def test_interests_are_more_than_what_scores(tmp_path: Path) -> None:
    """TiMiRec scores with one mixture of its K interests."""
    world = World(tmp_path, "timirec")
    world.recommend(vectors="vectors.npz", interests="interests.parquet", topk=3)
    assert np.load(world.folder / "out/vectors.npz")["vector"].shape == (USERS - 1, 1, 8)
    table = pd.read_parquet(world.folder / "out/interests.parquet")
    assert list(table) == ["user", "interest", "vector"]
    assert table["user"].tolist() == [f"u{user}" for user in range(1, USERS) for _ in range(2)]
    assert table["interest"].tolist() == [0, 1] * (USERS - 1)
    with torch.no_grad():
        interests_BKD = world.net(world.toy.whole_histories(np.arange(1, USERS))).interests_BKD
    np.testing.assert_allclose(np.stack(table["vector"]), interests_BKD.reshape(-1, 8), rtol=1e-5)


def test_a_bf16_run_has_vectors_of_bf16(world: World) -> None:
    for name, precision in (("full", "32-true"), ("low", "bf16-mixed")):
        world.recommend(precision, vectors=f"{name}.npz", topk=2)
    full, low = (np.load(world.folder / f"out/{name}.npz")["vector"] for name in ("full", "low"))
    assert not np.array_equal(full, low)
    assert np.abs(full - low).max() < 0.05 * np.abs(full).max()


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"index": "hnsw"}, "index=hnsw has no file to go to: set index_path"),
        ({"index_path": "a.faiss"}, "has no index to hold: set index=exact or index=hnsw"),
        ({"vectors": "a.npz", "interests": "a.npz"}, r"interests=.*a.npz is the vectors too: name another file"),
        ({"vectors": "a.npy"}, r"vectors=.*a.npy must end in .parquet or .npz"),
        ({"output": "top.json"}, "must end in .parquet or .csv"),
        ({"interests": "a.npz", "vectors": "b.npz", "name": "sasrec"}, "model sasrec has no interests to write"),
    ],
)
def test_what_cannot_be_written_is_a_sentence_and_leaves_nothing(chosen: dict, sentence: str, tmp_path: Path) -> None:
    world = World(tmp_path, chosen.pop("name", "comirec"))
    with pytest.raises(StemlabError, match=sentence):
        world.recommend(**chosen)
    assert world.left() == []


@pytest.mark.parametrize("broken", ["items", "extractor"])
def test_vectors_that_are_no_numbers(broken: str, world: World) -> None:
    parameter = next(value for name, value in world.net.named_parameters() if name.startswith(broken))
    with torch.no_grad():
        parameter.view(-1)[-1] = torch.nan
    with pytest.raises(StemlabError, match=r"best.ckpt gives vectors that are not numbers: take another checkpoint"):
        world.recommend()
    assert world.left() == []


def test_defaults_are_those_of_the_file() -> None:
    config = compose("predict", ["ckpt=a.ckpt", "output=b.csv"])
    assert {key: config[key] for key in SEQUENTIAL_DEFAULTS} == SEQUENTIAL_DEFAULTS
    assert config["input"] is None


def test_another_model_refuses_what_it_would_not_read() -> None:
    config = compose("predict", ["ckpt=a.ckpt", "output=b.csv"])
    refuse_options(config)
    with pytest.raises(StemlabError, match=r"topk=9 is for sequential models, and a.ckpt is a multi-task one"):
        refuse_options({**config, "topk": 9})


@pytest.mark.parametrize("chosen", [{"vectors": "u.npz"}, {"item_vectors": "i.npz"}, {"index": "exact"}])
def test_a_network_without_vectors_writes_lists_only(chosen: dict[str, str], tmp_path: Path) -> None:
    world = World(tmp_path, "tin")
    path = {"index_path": "items.faiss"} if "index" in chosen else {}
    with pytest.raises(StemlabError, match=rf"scores every pair .* set {next(iter(chosen))}=n"):
        world.recommend(**chosen, **path)
    assert world.left() == []
    with torch.no_grad():
        world.net.item_bias.weight[3] = torch.nan
    with pytest.raises(StemlabError, match=r"best.ckpt gives scores that are not numbers"):
        world.recommend()
    assert world.left() == []
