from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.model_selection import train_test_split

from stemlab.config.instantiate import instantiate
from stemlab.data.sources.movielens import ML1M_FIELDS, read_movies, read_users
from stemlab.data.store import ColumnStore
from stemlab.errors import StemlabError
from tests.data.tiktok_rows import settings

USERS = ["1::F::1::10::48067", "2::M::56::16::02115-11"]
MOVIES = ["7::Café (Le) (1995)::Comedy|Drama", "3000::Heat (1986)::Action"]
RATINGS = [f"{1 + i % 2}::{(7, 3000)[i // 2 % 2]}::{1 + i % 5}::{978300000 - i}" for i in range(40)]


def movielens(folder: Path, **changed):
    paths = {"raw_dir": str(folder / "raw"), "data_dir": str(folder)}
    return instantiate(settings("ml1m_multitask", **{**paths, **changed}), key="dataset")


def write(folder: Path, ratings=RATINGS, users=USERS, movies=MOVIES):
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    for name, lines in (("ratings", ratings), ("users", users), ("movies", movies)):
        (raw / f"{name}.dat").write_text("".join(f"{line}\n" for line in lines), encoding="latin-1")
    return raw


@pytest.fixture(scope="module")
def real(real_data, tmp_path_factory):
    module = movielens(tmp_path_factory.mktemp("ml1m"), raw_dir=str(real_data / "ml-1m"))
    module.prepare()
    return module


def test_real_rows_and_rates(real):
    assert real.manifest["rows"] == {"train": 810_169, "valid": 90_019, "test": 100_021}
    positives = real.manifest["positives"]
    totals = {task: sum(positives[split][task] for split in positives) for task in ("like", "love")}
    assert totals == {"like": 575_281, "love": 226_310}  # ratings 4 and 5, ratings 5 of the official README's histogram
    assert real.spec.tasks == ("like", "love")
    assert list(real.spec.field_sizes) == list(ML1M_FIELDS)
    assert [real.spec.field_sizes[name] for name in ("user_id", "gender", "age", "occupation")] == [6042, 4, 9, 23]


def test_real_rows_equal_a_pandas_join(real, real_data):
    def read(name, columns):
        path = real_data / "ml-1m" / f"{name}.dat"
        lines = [line.split("::") for line in path.read_text(encoding="latin-1").splitlines()]
        return pd.DataFrame(lines, columns=columns)

    users = read("users", ["user_id", "gender", "age", "occupation", "zip"])
    movies = read("movies", ["item_id", "title", "genres"])
    users["zip3"], movies["genre"] = users["zip"].str[:3], movies["genres"].str.split("|").str[0]
    movies["year"] = movies["title"].str.extract(r"\((\d{4})\)$")[0]
    names = {0: "user_id", 2: "item_id", 4: "rating"}  # the columns between the two colons are empty
    ratings = pd.read_csv(real_data / "ml-1m" / "ratings.dat", sep=":", header=None, usecols=[*names])
    ratings = ratings.rename(columns=names)
    joined = {  # row of the other table per rating
        key: (table, pd.Index(table[key].astype(int)).get_indexer(ratings[key]))
        for key, table in (("user_id", users), ("item_id", movies))
    }
    rest, test = train_test_split(np.arange(len(ratings)), test_size=0.1, random_state=42)
    train, _ = train_test_split(rest, test_size=0.1, random_state=42)
    store = ColumnStore(real.directory / "test.arrow")
    test = np.sort(test)
    for column, field in enumerate(ML1M_FIELDS):
        table, row = joined["user_id" if field in users else "item_id"]
        codes, tokens = pd.factorize(table[field])
        codes = codes[row]
        counts = dict(zip(tokens, np.bincount(codes[train], minlength=len(tokens)), strict=True))
        kept = sorted((token for token in tokens if counts[token] >= 10), key=lambda token: (-counts[token], token))
        ids = {token: number for number, token in enumerate(kept, start=1)}
        expected = np.array([ids.get(token, len(ids) + 1) for token in tokens])[codes[test]]
        assert store.ids[:, column].tolist() == expected.tolist(), field
    test = ratings.iloc[test]
    rating = test["rating"]
    np.testing.assert_array_equal(store.labels, np.stack([rating >= 4, rating == 5], axis=1))
    np.testing.assert_array_equal(store.group, test["user_id"])


def test_encode_accepts_the_derived_columns(real):
    columns = {name: pa.array([None], pa.string()) for name in ML1M_FIELDS} | {"gender": ["M"], "year": [1995]}
    ids = dict(zip(ML1M_FIELDS, real.encode(pa.table(columns)).ids_BF[0].tolist(), strict=True))
    assert ids["gender"] == 1  # men rated most
    assert ids["user_id"] == real.spec.field_sizes["user_id"] - 1
    assert 0 < ids["year"] < real.spec.field_sizes["year"] - 1


def test_time_split_takes_the_last_ratings(tmp_path):
    write(tmp_path)
    split = {"rule": "time", "test_size": 0.1, "valid_size": 0.1, "seed": 42}
    module = movielens(tmp_path, split=split, min_count=1)
    store = ColumnStore(module.prepare() / "test.arrow")
    # Times fall: the first four lines are the newest, kept in file order. Their ratings are 1, 2, 3, 4.
    assert store.group.tolist() == [1, 2, 1, 2]
    assert store.labels.tolist() == [[0, 0], [0, 0], [0, 0], [1, 0]]


def test_users_and_movies(tmp_path):
    raw = write(tmp_path)
    users, movies = read_users(raw / "users.dat"), read_movies(raw / "movies.dat")
    assert users.keys.tolist() == [1, 2]
    assert [users.tokens["zip3"][code] for code in users.columns["zip3"]] == ["480", "021"]
    assert users.columns["age"].tolist() == [1, 56]
    assert [movies.tokens["genre"][code] for code in movies.columns["genre"]] == ["Comedy", "Action"]
    assert movies.columns["year"].tolist() == [1995, 1986]


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("users", "3::F::1::10", r"users\.dat, line 3: 4 columns instead of 5"),
        ("users", "3::F::old::10::1", r"users\.dat, line 3: 'old' is not an integer"),
        ("users", "1::F::1::10::1", r"users\.dat, line 3: id 1 is repeated"),
        ("users", "", r"users\.dat, line 3: 1 columns instead of 5"),
        ("movies", "8::No Year::Drama", r"movies\.dat, line 3: .*'No Year'.*year in brackets"),
        ("movies", "8:Title (1990)::Drama", r"movies\.dat, line 3: 2 columns instead of 3"),
        ("ratings", "1::7::6::1", r"ratings\.dat, line 41: column 'rating' is '6', not 1 to 5"),
        ("ratings", "1::7::5", r"ratings\.dat, line 41: 3 columns instead of 4"),
        ("ratings", "1::8::5::1", r"ratings\.dat, line 41: item_id 8 is not in movies\.dat"),
        ("ratings", "9::7::5::1", r"ratings\.dat, line 41: user_id 9 is not in users\.dat"),
    ],
)
def test_malformed_lines_are_reported(tmp_path, name, line, expected):
    lines = {"users": USERS, "movies": MOVIES, "ratings": RATINGS}
    write(tmp_path, **{name: [*lines[name], line]})
    with pytest.raises(StemlabError, match=expected):
        movielens(tmp_path).prepare()
    if name == "ratings":
        module = movielens(tmp_path, on_bad_row="skip")
        module.prepare()
        assert module.manifest["skipped_rows"] == 1
        assert sum(module.manifest["rows"].values()) == len(RATINGS)


@pytest.mark.parametrize("name", ["ratings", "users", "movies"])
def test_missing_and_empty_files(tmp_path, name):
    raw = write(tmp_path)
    (raw / f"{name}.dat").write_text("")
    with pytest.raises(StemlabError, match=rf"{name}\.dat"):
        movielens(tmp_path).prepare()
    (raw / f"{name}.dat").unlink()
    with pytest.raises(StemlabError, match=rf"raw has no {name}\.dat.*ml-1m\.zip.* dataset\.raw_dir"):
        movielens(tmp_path).prepare()


def test_unknown_fields_are_rejected(tmp_path):
    with pytest.raises(StemlabError, match=r"dataset\.fields.*'rating'"):
        movielens(tmp_path, fields=["user_id", "rating"])
