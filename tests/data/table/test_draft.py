"""Draft of a table config: proposed roles with reasons, exact counts; an existing draft is not overwritten."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.config.table_description import read_description
from stemlab.data.table import file, survey
from stemlab.data.table.draft import draft_path, write_draft
from stemlab.data.table.file import open_table
from stemlab.errors import StemlabError
from tests.data.table.rows import frame, table


@pytest.fixture(autouse=True)
def current_directory(tmp_path, monkeypatch):
    """Run each test in its temporary directory, where drafts are written."""
    monkeypatch.chdir(tmp_path)


def drafted(rows, path, **options):
    """Return the draft of a frame as plain values, its text, and the messages."""
    if path.suffix == ".parquet":
        rows.to_parquet(path, index=False)
    else:
        rows.to_csv(path, index=False, **options)
    draft_path(path).unlink(missing_ok=True)
    written, _, messages = write_draft(open_table(path))
    return read_description(written), written.read_text(), messages


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.parquet"])
def test_draft_finds_labels_fields_group_and_time(tmp_path, name):
    rows = frame(600)
    rows["play_time"], rows["const"], rows["title"] = rows["price"], 3, [f"the {n}th row" for n in range(600)]
    rows["country"] = rows["country"].astype(object)
    found, text, messages = drafted(rows, tmp_path / name)
    assert found["tasks"] == ["click", "buy"]
    assert found["fields"] == ["user_id", "item_id", "page", "is_new"]
    assert (found["scenario"], found["scenarios"]) == ("country", ["es", "fr", "nl"])
    assert found["numericals"] == ["price", "age"]
    assert (found["group"], found["time"], found["split"]) == ("user_id", "ts", {"rule": "time"})
    assert (found["name"], found["min_count"], found.get("separator")) == ("rows", 2, "," if "csv" in name else None)
    assert f"  - user_id # {rows['user_id'].nunique()} values\n" in text
    assert f"  - click # {100 * rows['click'].mean():.3g} % ones\n" in text
    assert f"{100 * rows['price'].isna().mean():.3g} % missing" in text
    for left in (
        "row (a different value in each row)",
        "play_time (known only after",
        "const (one value only)",
        "title (",
    ):
        assert f"# left out: {left}" in text
    assert messages[0] == "rows 600, columns 14: tasks 2, fields 4, numericals 2, left out 4."
    assert "Left out, add what should be read: row, play_time, const, title." in messages
    assert "'is_new' holds 0 and 1 and is proposed as a field: is it a label?" in messages


def test_unchanged_draft_can_be_prepared(tmp_path):
    path = tmp_path / "rows.csv"
    found, _, _ = drafted(frame(600), path, sep=";")
    module = table(tmp_path, path, **found)
    module.prepare()
    assert module.manifest["rows"] == {"train": 486, "valid": 54, "test": 60}
    assert module.spec.tasks == ("click", "buy")


WORDS = {
    "fields": st.sampled_from(["user_id", "item_id", "brand", "page_type", "city", "hash"]),
    "numericals": st.sampled_from(["price", "num_views", "avg_score", "distance", "log_bid"]),
    "tasks": st.sampled_from(["click", "is_liked", "label", "conversion", "long_view", "order"]),
}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_survey_finds_the_kind_of_each_column(tmp_path_factory, data):
    planted = {kind: data.draw(st.lists(names, unique=True, min_size=1)) for kind, names in WORDS.items()}
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    draw = {
        "fields": lambda: rng.choice(
            [rng.integers(0, 40, 300), np.array([f"c{n}" for n in range(300)])[rng.integers(0, 40, 300)]][
                rng.integers(0, 2)
            ],
            300,
        ),
        "numericals": lambda: np.where(rng.random(300) < 0.1, np.nan, rng.gamma(2, 3, 300).round(3)),
        "tasks": lambda: rng.choice([[0, 1], [False, True]][rng.integers(0, 2)], 300),
    }
    columns = {name: draw[kind]() for kind, names in planted.items() for name in names}
    order = data.draw(st.permutations(list(columns)))
    found, _, _ = drafted(pd.DataFrame(columns)[order], tmp_path_factory.mktemp("drawn") / "rows.csv")
    for kind, names in planted.items():
        assert sorted(found[kind]) == sorted(names), kind
    assert found["group"] == ("user_id" if "user_id" in planted["fields"] else None)
    assert found["split"] == {"rule": "random"}


def test_leaking_columns_are_reported(tmp_path):
    rows = frame(300)
    rows["bid"] = rows["click"] * 5.0 + np.random.default_rng(0).random(300)
    rows["state"] = np.where(rows["buy"] == 1, "sold", "open")
    _, _, messages = drafted(rows, tmp_path / "rows.csv")
    assert any("'bid' alone" in message and "'click' (AUC 1.000)" in message for message in messages)
    assert any("'state' alone" in message and "'buy' (AUC 1.000)" in message for message in messages)
    assert not [sentence for sentence in messages if "'age' alone" in sentence]


def test_bad_lines_are_reported(tmp_path):
    path = tmp_path / "rows.csv"
    frame(20).to_csv(path, index=False)
    path.write_text(f"{path.read_text()}1,2\n3,4,5\n")
    _, _, messages = write_draft(open_table(path))
    assert "rows 20," in messages[0]
    assert "bad lines: 2" in messages[1]
    assert "line 22 (2 columns" in messages[1]


def test_spellings_of_missing_values(tmp_path):
    rows = frame(200).assign(country="NA").astype({"price": object})
    rows.loc[rows["price"].isna(), "price"] = "n/a"
    rows.loc[:100, "country"] = "ES"
    rows["age"] = rows["age"].astype(object)
    rows.loc[::7, "age"] = "NULL"
    found, text, _ = drafted(rows, tmp_path / "rows.csv")
    assert found["missing"] == ["", "NULL"]  # NA is a country code here: the other cells of that column are text
    assert "age" in found["numericals"]
    assert "  - age # " in text
    assert "price" in found["fields"]  # "n/a" is no known spelling of a missing value


def test_table_without_a_label(tmp_path):
    rows = frame(200).drop(columns=["click", "buy", "is_new"])
    found, _, messages = drafted(rows, tmp_path / "rows.csv")
    assert found["tasks"] == []
    assert "No column holds only 0 and 1: create label columns, or name them in tasks." in messages
    rows = frame(200).drop(columns=["click", "buy"]).rename(columns={"user_id": "person"})
    found, _, messages = drafted(rows, tmp_path / "other.csv")
    assert found["tasks"] == ["is_new"]
    assert "No column of 0 and 1 is named like a label: 'is_new', the last one, is a guess." in messages
    assert found["group"] is None


def test_split_column_and_names_that_need_quotes_in_yaml(tmp_path):
    rows = frame(200).rename(columns={"page": "yes", "price": "price: €"})
    rows["split"] = ["train", "valid", "test", "train"] * 50
    found, _, _ = drafted(rows, tmp_path / "a b.csv")
    assert "yes" in found["fields"]
    assert "price: €" in found["numericals"]
    assert (found["split_column"], found["split"]["rule"], found["name"]) == ("split", "given", "a b")


def test_only_the_beginning_of_a_large_file_is_read(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    frame(2000).to_csv(path, index=False)
    monkeypatch.setattr(survey, "MAX_BYTES", 40_000)
    monkeypatch.setattr(file, "TABLE_BLOCK_BYTES", 10_000)
    written, _, messages = write_draft(open_table(path))
    (sentence,) = [s for s in messages if s.startswith("Only the first")]
    rows = int(sentence.split()[3].replace(",", ""))
    assert 500 < rows < 1000
    assert f"the first {rows:,} rows were read" in written.read_text()


def test_distinct_values_are_counted_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "MAX_DISTINCT", 50)
    rows = frame(600)
    rows["item_id"] = np.arange(600) // 2
    _, text, _ = drafted(rows, tmp_path / "rows.csv")
    assert "  - item_id # more than 50 values, 0 to 299" in text


def test_existing_draft_or_missing_header_raises(tmp_path):
    path = tmp_path / "rows.csv"
    drafted(frame(100), path)
    before = draft_path(path).read_text()
    with pytest.raises(StemlabError, match=r"rows\.stemlab\.yaml exists already.*dataset\.config="):
        write_draft(open_table(path))
    assert draft_path(path).read_text() == before
    bare = tmp_path / "bare.csv"
    frame(100)[["row", "age"]].to_csv(bare, index=False, header=False)
    with pytest.raises(StemlabError, match=r"line 1 holds .*header"):
        write_draft(open_table(bare))
    assert not draft_path(bare).exists()


def test_path_of_the_draft(tmp_path):
    for name in ("rows.csv", "rows.csv.gz", "rows.parquet", "rows.tsv.zip", "rows.txt", "rows"):
        assert draft_path(tmp_path / name) == Path("rows.stemlab.yaml")
    assert draft_path(tmp_path / "a.b.csv").name == "a.b.stemlab.yaml"


def test_draft_is_a_valid_config(tmp_path):
    _, text, _ = drafted(frame(100), tmp_path / "rows.csv")
    assert set(yaml.safe_load(text)) <= {
        *("name", "separator", "tasks", "fields", "numericals", "scaling", "group", "time", "split", "min_count"),
        *("scenario", "scenarios"),
    }
    assert max(map(len, text.splitlines())) <= 120


def test_columns_of_lists_are_named(tmp_path):
    rows = frame(200)
    rows["tags"] = [[n, n + 1] for n in range(200)]
    rows["emb"] = [np.zeros(3, np.float32)] * 200
    rows["info"] = [{"a": n} for n in range(200)]
    found, text, messages = drafted(rows, tmp_path / "rows.parquet")
    assert found["multivalued"] == {"tags": {"max_length": 2}}
    assert "# left out: emb (lists of numbers)" in text
    assert "# left out: info (cells of type " in text
    assert [message for message in messages if message.startswith("'info' has cells of type")]
    assert not {"tags", "emb", "info"} & {*found["fields"], *found["numericals"]}
    assert messages[0].startswith("rows 200, columns 14: ")


def test_cells_with_several_values_are_named(tmp_path):
    rows = frame(200)
    words = ("Action", "Comedy", "Drama")
    rows["genres"] = ["|".join(words[: n % 3 + 1]) for n in range(200)]
    rows["history"] = [",".join(str(m) for m in range(n % 7 + 1)) for n in range(200)]
    rows["codes"] = [str(list(range(n % 7 + 1))) for n in range(200)]
    found, text, messages = drafted(rows, tmp_path / "rows.csv")
    assert found["multivalued"] == {"genres": {"max_length": 3}, "history": {"max_length": 7, "separator": ","}}
    assert not {"genres", "history", "codes"} & set(found["fields"])
    assert "# left out: codes (several values in a cell, in [])" in text
    assert [message for message in messages if message.startswith("'codes' holds several values")]


@pytest.mark.parametrize(
    "name", ["request_id", "impression_id", "trace_id", "log_id", "event_id", "uuid", "exposure_id", "session_id"]
)
def test_identifiers_of_a_request_are_no_inputs(tmp_path, name):
    rows = frame(400)
    rows[name] = [f"{n // 4:x}" for n in range(400)]  # several rows per request
    found, text, _ = drafted(rows, tmp_path / "rows.csv")
    assert name not in [*found["fields"], *found["numericals"]]
    assert f"# left out: {name} (identifies a " in text
    assert found["group"] == "user_id"


def test_a_session_can_be_the_group(tmp_path):
    rows = frame(400).drop(columns=["user_id"])
    rows["session_id"] = np.arange(400) // 4
    found, _, _ = drafted(rows, tmp_path / "rows.csv")
    assert found["group"] == "session_id"
    assert "session_id" not in found["fields"]


@pytest.mark.parametrize(
    "name", ["sample_weight", "sampling_rate", "propensity", "ips", "weights", "importance_weight"]
)
def test_weights_of_rows_are_no_inputs(tmp_path, name):
    rows = frame(200)
    rows[name] = np.random.default_rng(0).random(200)
    found, text, _ = drafted(rows, tmp_path / "rows.csv")
    assert name not in [*found["fields"], *found["numericals"]]
    assert f"# left out: {name} (a weight" in text


@pytest.mark.parametrize("name", ["is_profile_enter", "has_viewed", "add_to_wishlist", "did_reply", "is_download"])
def test_actions_are_no_inputs(tmp_path, name):
    rows = frame(300)
    rows[name] = np.arange(300) % 3 == 0
    found, text, messages = drafted(rows, tmp_path / "rows.csv")
    assert found["tasks"] == ["click", "buy"]
    assert name not in [*found["fields"], *found["numericals"]]
    assert f"  # - {name} # 33.3 % ones" in text
    assert [message for message in messages if name in message and "may be labels" in message]
    assert "is_new" in found["fields"]  # an attribute
    found, _, _ = drafted(rows.drop(columns=["click", "buy"]), tmp_path / "other.csv")
    assert found["tasks"] == [name]


@pytest.mark.parametrize(("name", "values"), [("label", [0, 1, 2]), ("is_like", [-1, 1]), ("Target", [0.5, 1.5])])
def test_labels_with_other_values_are_no_inputs(tmp_path, name, values):
    rows = frame(200)
    rows[name] = np.resize(values, 200)
    found, text, _ = drafted(rows, tmp_path / "rows.csv")
    assert name not in [*found["fields"], *found["numericals"]]
    assert f"# left out: {name} (named like a label" in text


def test_the_draft_is_written_into_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    frame(100).to_csv(tmp_path / "raw" / "rows.csv", index=False)
    monkeypatch.chdir(tmp_path)
    written, _, _ = write_draft(open_table(Path("raw/rows.csv")))
    assert written == Path("rows.stemlab.yaml")
    assert "dataset.config=rows.stemlab.yaml \\\n#   dataset.path=raw/rows.csv\n" in written.read_text()
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["rows.csv"]
    with pytest.raises(StemlabError, match="exists already"):
        write_draft(open_table(Path("raw/rows.csv")))
