"""Files of users to recommend for: unknown users and items, invalid rows."""

import json
from pathlib import Path

import pytest

from stemlab.errors import StemlabError
from tests.inference.users_files import RecommendCase, known_rows, reference_lists


@pytest.fixture
def case(tmp_path: Path) -> RecommendCase:
    return RecommendCase(tmp_path)


def test_unknown_users_are_skipped_on_request(case: RecommendCase) -> None:
    source = case.write("users.csv", [("u1",), ("x",), ("u3",), ("u23",), ("x",)], "user")
    summary = case.recommend(input=source, topk=4, on_unknown="skip")
    assert list(case.lists()) == ["u1", "u3"]
    assert "; 2 unknown users skipped" in summary


def test_unknown_items_are_skipped_on_request(case: RecommendCase) -> None:
    clean = [("a", "i1", 1), ("a", "i2", 2)]
    noisy = [clean[0], ("a", "no item", 2), clean[1], ("b", "no item", 1), ("c", "none", 2)]
    for name, rows in (("clean", clean), ("noisy", noisy)):
        source = case.write(f"{name}.csv", rows, "user", "item", "time")
        summary = case.recommend(input=source, topk=4, on_unknown="skip", output=f"{name}.parquet")
    assert case.lists("noisy.parquet") == case.lists("clean.parquet")
    assert "2 unknown items" in summary
    assert "2 users without" in summary


def test_a_model_with_user_embeddings_refuses_new_users(tmp_path: Path) -> None:
    case = RecommendCase(tmp_path, "bprmf")
    rows = [("u1", "i1", 1), ("u1", "i2", 2), ("new", "i1", 1)]
    source = case.write("rows.csv", rows, "user", "item", "time")
    with pytest.raises(StemlabError, match=r"row 3: 'new' .*embedding per user"):
        case.recommend(input=source)
    summary = case.recommend(input=source, on_unknown="skip", topk=4)
    assert list(case.lists()) == ["u1"]
    assert "4 items for 1 user " in summary
    assert "1 unknown user skipped" in summary


def test_only_the_end_of_a_long_history_is_used(case: RecommendCase) -> None:
    rows = [("a", f"i{item}", item) for item in range(1, 21)]
    for name, some in (("long", rows), ("end", rows[-6:])):
        source = case.write(f"{name}.csv", some, "user", "item", "time")
        case.recommend(input=source, exclude_seen=False, topk=9, output=f"{name}.parquet")
    assert case.lists("long.parquet") == case.lists("end.parquet")


def test_user_ids_are_case_sensitive(case: RecommendCase) -> None:
    source = case.write("users.csv", [("U1",)], "user")
    with pytest.raises(StemlabError, match="row 1: 'U1'"):
        case.recommend(input=source)


def test_other_columns_are_ignored(case: RecommendCase) -> None:
    source = case.write("users.csv", [("u4", "x")], "user", "note")
    case.recommend(input=source, topk=3)
    assert case.lists() == {"u4": reference_lists(case.net, 3)["u4"]}


FILES = {
    "unknown.csv": "user\nu1\nx\ny\n",
    "nothing.csv": "user\nu23\n",
    "no_user.csv": "usr\nu1\n",
    "no_time.csv": "user,item\nu1,i1\n",
    "no_item.csv": "user,itme,time\nu1,i1,1\n",
    "item.csv": "user,item,time\nu1,i1,1\nu1,i99,2\n",
    "time.csv": "user,item,time\nu1,i1,1\nu1,i2,yesterday\n",
    "no_name.csv": "user,item,time\n,i1,1\n",
    "empty.csv": "user\n",
    "rows.txt": "u1\n",
}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("unknown.csv", r"row 2: 'x' .*user of dataset 'toy' \(2 rows .*on_unknown=skip .*histor"),
        ("nothing.csv", r"row 1: 'u23' .*user of dataset 'toy': .*on_unknown=skip"),
        ("no_user.csv", r"no column 'user': .* 'usr'\?"),
        ("no_time.csv", r"no column 'time': .*columns user, item and time"),
        ("no_item.csv", r"no column 'item': .* 'itme'\?"),
        ("item.csv", r"row 2: 'i99' .*item of dataset 'toy': .*on_unknown=skip"),
        ("time.csv", r"row 2, .*'time' .*'yesterday': .*seconds"),
        ("no_name.csv", "row 1, column 'user'"),
        ("empty.csv", "no rows"),
        ("rows.txt", "without a header"),
        ("missing.csv", "missing.csv does not exist"),
    ],
)
def test_invalid_files_are_refused_and_leave_no_output(name: str, hint: str, case: RecommendCase) -> None:
    for file, text in FILES.items():
        (case.folder / file).write_text(text)
    with pytest.raises(StemlabError, match=hint) as refused:
        case.recommend(input=name, vectors="v.npz")
    assert name in str(refused.value)
    assert case.output_files() == []


def test_a_file_without_known_users_is_refused(case: RecommendCase) -> None:
    source = case.write("users.csv", [("x",), ("y",)], "user")
    with pytest.raises(StemlabError, match=r"no user .*\(2 unknown users skipped\)"):
        case.recommend(input=source, on_unknown="skip")
    assert case.output_files() == []


def test_recbole_and_json_files_are_read(case: RecommendCase) -> None:
    rows = known_rows()[:40]
    case.recommend(input=case.write("rows.csv", rows, "user", "item", "time"), topk=4)
    wanted = case.lists()
    inter = ["user_id:token\titem_id:token\ttimestamp:float", *(f"{user}\t{item}\t{t}.0" for user, item, t in rows)]
    (case.folder / "rows.inter").write_text("\n".join(inter) + "\n")
    objects = [json.dumps({"user": user, "item": item, "time": int(time)}) for user, item, time in rows]
    (case.folder / "rows.jsonl").write_text("\n".join(objects) + "\n")
    (case.folder / "users.inter").write_text("user_id:token\nu3\nu1\n")
    for name in ("rows.inter", "rows.jsonl"):
        case.recommend(input=name, topk=4)
        assert case.lists() == wanted, name
    case.recommend(input="users.inter", topk=4)
    assert list(case.lists()) == ["u3", "u1"]
