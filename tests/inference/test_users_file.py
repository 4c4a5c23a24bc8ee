"""Files that say for whom items are chosen: unknown users and items, bad rows."""

from pathlib import Path

import pytest

from stemlab.errors import StemlabError
from tests.inference.users_files import World, twin_lists


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_unknown_users_are_skipped_when_told_to(world: World) -> None:
    source = world.write("users.csv", [("u1",), ("x",), ("u3",), ("u23",), ("x",)], "user")
    told = world.recommend(input=source, topk=4, on_unknown="skip")
    assert list(world.lists()) == ["u1", "u3"]
    assert "; 2 unknown users skipped" in told


def test_unknown_items_are_skipped_when_told_to(world: World) -> None:
    clean = [("a", "i1", 1), ("a", "i2", 2)]
    noisy = [clean[0], ("a", "no item", 2), clean[1], ("b", "no item", 1), ("c", "none", 2)]
    for name, rows in (("clean", clean), ("noisy", noisy)):
        source = world.write(f"{name}.csv", rows, "user", "item", "time")
        told = world.recommend(input=source, topk=4, on_unknown="skip", output=f"{name}.parquet")
    assert world.lists("noisy.parquet") == world.lists("clean.parquet")
    assert told.endswith("; 2 unknown items and 2 users without a known item skipped.")


def test_a_model_of_users_knows_no_others(tmp_path: Path) -> None:
    world = World(tmp_path, "bprmf")
    rows = [("u1", "i1", 1), ("u1", "i2", 2), ("new", "i1", 1)]
    source = world.write("rows.csv", rows, "user", "item", "time")
    with pytest.raises(StemlabError, match=r"row 3: 'new' is no user .*; this model knows no others, whatever their"):
        world.recommend(input=source)
    told = world.recommend(input=source, on_unknown="skip", topk=4)
    assert list(world.lists()) == ["u1"]
    assert "4 items for 1 user written" in told
    assert told.endswith("; 1 unknown user skipped.")


def test_a_history_longer_than_the_maximum_counts_by_its_end(world: World) -> None:
    rows = [("a", f"i{item}", item) for item in range(1, 21)]
    for name, some in (("long", rows), ("end", rows[-6:])):
        source = world.write(f"{name}.csv", some, "user", "item", "time")
        world.recommend(input=source, exclude_seen=False, topk=9, output=f"{name}.parquet")
    assert world.lists("long.parquet") == world.lists("end.parquet")


def test_only_text_of_the_same_characters_is_the_same_user(world: World) -> None:
    source = world.write("users.csv", [("U1",)], "user")
    with pytest.raises(StemlabError, match="'U1' is no user"):
        world.recommend(input=source)


def test_further_columns_are_not_read(world: World) -> None:
    source = world.write("users.csv", [("u4", "x")], "user", "note")
    world.recommend(input=source, topk=3)
    assert world.lists() == {"u4": twin_lists(world.net, 3)["u4"]}


FILES = {
    "unknown.csv": "user\nu1\nx\ny\n",
    "nothing.csv": "user\nu23\n",
    "no_user.csv": "usr\nu1\n",
    "no_time.csv": "user,item\nu1,i1\n",
    "no_item.csv": "user,itme,time\nu1,i1,1\n",
    "item.csv": "user,item,time\nu1,i1,1\nu1,i99,2\n",
    "time.csv": "user,item,time\nu1,i1,1\nu1,i2,yesterday\n",
    "nobody.csv": "user,item,time\n,i1,1\n",
    "empty.csv": "user\n",
    "rows.txt": "u1\n",
}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "unknown.csv",
            r"row 2: 'x' is no user of dataset 'toy' \(2 rows have such users\): set on_unknown=skip .*histor",
        ),
        ("nothing.csv", r"row 1: 'u23' is no user of dataset 'toy': set on_unknown=skip"),
        ("no_user.csv", r"has no column 'user': .* Did you mean 'usr'\?"),
        ("no_time.csv", r"has no column 'time': histories need the columns user, item and time"),
        ("no_item.csv", r"has no column 'item': .* Did you mean 'itme'\?"),
        ("item.csv", r"row 2: 'i99' is no item of dataset 'toy': set on_unknown=skip to leave them out."),
        ("time.csv", r"row 2: time is 'yesterday': give whole seconds"),
        ("nobody.csv", "row 1: there is no user"),
        ("empty.csv", "has no rows: name at least one user"),
        ("rows.txt", "no raw format without a header"),
        ("missing.csv", "there is no such file"),
    ],
)
def test_mistakes_are_sentences_and_leave_no_file(name: str, sentence: str, world: World) -> None:
    for file, text in FILES.items():
        (world.folder / file).write_text(text)
    with pytest.raises(StemlabError, match=sentence) as told:
        world.recommend(input=name, vectors="v.npz")
    assert name in str(told.value)
    assert world.left() == []


def test_nobody_left_is_a_sentence(world: World) -> None:
    source = world.write("users.csv", [("x",), ("y",)], "user")
    with pytest.raises(StemlabError, match=r"nothing is left of it \(2 unknown users skipped\)"):
        world.recommend(input=source, on_unknown="skip")
    assert world.left() == []
