"""MovieLens as sequences: origin of the file, both protocols, invalid input."""

import gzip
import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from stemlab.config.instantiate import instantiate
from stemlab.data.sources import movielens_sequence
from stemlab.data.sources.movielens_sequence import COLLECTIONS
from stemlab.errors import StemlabError
from tests.data.tiktok_rows import settings

# Users with six ratings (1), three (2) and one (3).
RATINGS = [
    "1::30::5::100",
    "1::10::3::50",
    "1::20::1::150",
    "1::40::4::200",
    "1::7::2::250",
    "1::9::5::300",
    "2::10::4::120",
    "2::50::5::110",
    "2::8::1::130",
    "3::60::5::999",
]
SIMULATION = {"seed": 0, "users": 60, "items": 40, "length": 8, "clusters": 8, "interests": 2}
SMALL = {**settings("ml1m")["sample"], **SIMULATION}


def movielens(folder: Path, name="ml1m", **changed):
    given = {"raw_dir": str(folder / "raw"), "data_dir": str(folder), "source": "raw", "download": False}
    given |= {"eval_negatives": 4, "sample": SMALL}
    return instantiate(settings(name, **{**given, **changed}), key="dataset")


def write(folder: Path, lines=RATINGS, name="ratings.dat"):
    path = folder / "raw" / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("latin-1"))
    return path


def zipped(path: Path, member="ml-1m/ratings.dat", lines=RATINGS):
    path.parent.mkdir(exist_ok=True, parents=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-1m/README", "words")
        archive.writestr(member, "".join(f"{line}\n" for line in lines))
    return path


def table(module):
    """(original user, original item, time, split) of every interaction."""
    log = module.log
    return [
        (int(module.user_tokens[user - 1]), int(module.item_tokens[item - 1]), int(time), int(split))
        for user, item, time, split in zip(log.user, log.item, log.time, log.split, strict=True)
    ]


EXPECTED = [
    *[(1, 10, 50, 0), (1, 30, 100, 0), (1, 20, 150, 0), (1, 40, 200, 0), (1, 7, 250, 1), (1, 9, 300, 2)],
    *[(2, 50, 110, 0), (2, 10, 120, 1), (2, 8, 130, 2)],
    (3, 60, 999, 0),
]


def test_rows_by_hand(tmp_path):
    write(tmp_path)
    module = movielens(tmp_path)
    module.prepare()
    assert table(module) == EXPECTED
    assert module.item_tokens == ["7", "8", "9", "10", "20", "30", "40", "50", "60"]
    assert module.manifest["rows"] == {"train": 3, "valid": 2, "test": 2}
    assert module.manifest["users_with_one_interaction"] == 1
    assert module.manifest["duplicate_rows"] == module.manifest["skipped_rows"] == 0
    assert module.manifest["negatives"] == {"test": 4, "valid": 4}
    assert module.spec.sample is False
    # All rows except first ones have seven items: 50 and 60 (ids 8 and 9) occur in first rows only and are never drawn.
    for loader in (module.val_dataloader(), module.test_dataloader()):
        for user, candidates in ((b.user_B[i], b.candidates_BN[i]) for b in loader for i in range(len(b))):
            mine = set(module.log.items_of(user[None].numpy())[0].tolist())
            assert int(candidates[0]) in mine
            assert not mine & set(candidates[1:].tolist())
            assert candidates[1:].max() <= 7


def test_duplicates_are_dropped_and_counted(tmp_path):
    write(tmp_path, [*RATINGS, RATINGS[0], "1::30::2::100", "1::30::5::101"])
    module = movielens(tmp_path)
    module.prepare()
    assert module.manifest["duplicate_rows"] == 2  # the rating does not distinguish interactions
    assert sorted(table(module)) == sorted([*EXPECTED, (1, 30, 101, 0)])


@pytest.mark.parametrize(
    "give",
    [
        lambda raw: write(raw.parent),
        lambda raw: write(raw.parent, name="ml-1m/ratings.dat"),
        lambda raw: zipped(raw / "ml-1m.zip"),
        lambda raw: raw.mkdir() or (raw / "ratings.dat.gz").write_bytes(gzip.compress("\n".join(RATINGS).encode())),
    ],
)
def test_official_folder_archive_and_gzip(tmp_path, give):
    give(tmp_path / "raw")
    module = movielens(tmp_path)
    module.prepare()
    assert table(module) == EXPECTED


def test_raw_dir_may_be_the_archive(tmp_path):
    module = movielens(tmp_path, raw_dir=str(zipped(tmp_path / "mine.zip")))
    module.prepare()
    assert table(module) == EXPECTED


def test_ml100k_is_tab_separated(tmp_path):
    write(tmp_path, [line.replace("::", "\t") for line in RATINGS], "u.data")
    module = movielens(tmp_path, "ml100k")
    module.prepare()
    assert table(module) == EXPECTED
    assert module.name == "ml100k"


def test_no_negatives_and_another_seed(tmp_path):
    write(tmp_path)
    module = movielens(tmp_path, eval_negatives=0)
    module.prepare()
    with pytest.raises(StemlabError, match=r"no stored negatives.*dataset\.evaluation\.candidates=full"):
        module.val_dataloader()
    full = {**settings("ml1m")["evaluation"], "candidates": "full"}
    loader = movielens(tmp_path, eval_negatives=0, evaluation=full).val_dataloader()
    assert {batch.candidates_BN.shape[1] for batch in loader} == {1}
    drawn = [
        next(
            iter(movielens(tmp_path, eval_negatives=50, eval_seed=seed, largest_negative=9).test_dataloader())
        ).candidates_BN
        for seed in (0, 1, 0)
    ]
    assert (drawn[0] == drawn[2]).all()
    assert (drawn[0] != drawn[1]).any()


def test_the_largest_negative_may_be_given(tmp_path):
    write(tmp_path)
    module = movielens(tmp_path, eval_negatives=200, largest_negative=9)
    assert next(iter(module.val_dataloader())).candidates_BN[:, 1:].max() == 9
    with pytest.raises(StemlabError, match=r"dataset\.largest_negative.*dataset\.protocol=cikm22"):
        movielens(tmp_path, protocol="master", largest_negative=9)
    with pytest.raises(StemlabError, match=r"negatives of \w+ row \d+: item id \d+ .*1 to 9"):
        movielens(tmp_path, eval_negatives=200, largest_negative=50).prepare()


def test_master(tmp_path):
    # Seven users like films 1 to 8 except two in 60 days; user 1 likes one of the two on day 85, user 2 on day 100.
    day = 86_400
    pairs = [(u, i) for u in range(1, 8) for i in range(1, 9) if i not in (u, u % 7 + 1)]
    likes = [f"{u}::{i}::5::{day * 10 * (u - 1) + i}" for u, i in pairs]
    write(tmp_path, [*likes, f"1::1::4::{85 * day}", f"2::3::1::{90 * day}", f"2::2::4::{100 * day}"])
    module = movielens(tmp_path, protocol="master", eval_negatives=1)
    module.prepare()
    assert [row for row in table(module) if row[3]] == [(1, 1, 85 * day, 1), (2, 2, 100 * day, 2)]
    assert module.manifest["settings"]["protocol"] == "master"
    assert next(iter(module.val_dataloader())).candidates_BN.tolist() == [[1, 2]]
    assert next(iter(module.test_dataloader())).candidates_BN.tolist() == [[2, 3]]
    all_ratings = movielens(tmp_path, eval_negatives=0)
    all_ratings.prepare()
    assert (len(all_ratings.log), len(module.log)) == (len(pairs) + 3, len(pairs) + 2)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["1::2::3"], r"ratings\.dat, line 11: 3 columns instead of 4"),
        (["1::2::3::4::5"], r"ratings\.dat, line 11: 5 columns instead of 4"),
        (["1::x::3::4"], r"ratings\.dat, line 11: column 'item_id' is 'x', not an integer"),
        (["1::2::3.5::4"], r"ratings\.dat, line 11: column 'rating' is '3\.5', not an integer"),
        (["1::2::6::4"], r"ratings\.dat, line 11: column 'rating' is '6', not 1 to 5"),
        (["1::2::5::4", ""], r"ratings\.dat, line 12: 1 columns instead of 4"),
    ],
)
def test_invalid_rows_are_reported_or_skipped(tmp_path, lines, expected):
    write(tmp_path, [*RATINGS, *lines])
    with pytest.raises(StemlabError, match=expected) as error:
        movielens(tmp_path).prepare()
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "prepared").glob("ml1m-*"))
    module = movielens(tmp_path, on_bad_row="skip")
    module.prepare()
    assert module.manifest["skipped_rows"] == 1
    assert len(module.log) == len(RATINGS) + len(lines) - 1


def test_empty_invalid_and_damaged_files(tmp_path):
    write(tmp_path, [])
    with pytest.raises(StemlabError, match=r"ratings\.dat is empty"):
        movielens(tmp_path).prepare()
    write(tmp_path, ["user,item", "1,2"])
    with pytest.raises(StemlabError, match=r"ratings\.dat has no valid row: all 2"):
        movielens(tmp_path, on_bad_row="skip").prepare()
    (tmp_path / "raw" / "ratings.dat").unlink()
    path = zipped(tmp_path / "raw" / "ml-1m.zip")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(StemlabError, match=r"ml-1m\.zip is truncated or damaged .*again"):
        movielens(tmp_path).prepare()
    zipped(path, "ml-1m/other.dat")
    with pytest.raises(StemlabError, match=r"ml-1m\.zip.*'ratings\.dat'"):
        movielens(tmp_path).prepare()
    assert not list((tmp_path / "prepared").glob("ml1m-*"))


def test_without_a_raw_file(tmp_path, caplog):
    expected = r"o ratings\.dat and no ml-1m\.zip in .*raw.*dataset\.download.*https://.*ml-1m\.zip"
    with pytest.raises(StemlabError, match=expected):
        movielens(tmp_path).prepare()
    assert not caplog.records
    module = movielens(tmp_path, source="auto")
    module.prepare()
    (announced,) = [r.message for r in caplog.records]
    assert f"SAMPLE data (no ratings.dat and no ml-1m.zip in {tmp_path / 'raw'}): 60 synthetic users" in announced
    assert "not results" in announced
    assert (module.spec.sample, module.manifest["sample"], module.spec.users) == (True, True, 60)
    (made,) = (tmp_path / "sample").glob("movielens-*/ratings.dat")
    again = movielens(tmp_path, source="sample")
    assert again.prepare() == module.directory
    assert movielens(tmp_path, raw_dir=str(made.parent)).prepare() != module.directory  # the same rows as raw file
    assert movielens(tmp_path, "ml100k", source="sample").prepare().name.startswith("ml100k-")


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """Serve ml-1m.zip from a local folder and expect its checksum."""
    path = zipped(tmp_path / "publisher" / "ml-1m.zip")
    monkeypatch.setattr(movielens_sequence, "MOVIELENS_URL", path.parent.as_uri())
    known = replace(COLLECTIONS["ml-1m"], md5=hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setitem(COLLECTIONS, "ml-1m", known)
    return path


@pytest.mark.parametrize("source", ["auto", "raw"])
def test_missing_file_is_downloaded_and_its_terms_are_logged(tmp_path, publisher, caplog, source):
    module = movielens(tmp_path, source=source, download=True)
    module.prepare()
    assert (tmp_path / "raw" / "ml-1m.zip").read_bytes() == publisher.read_bytes()
    assert table(module) == EXPECTED
    assert "research use only" in caplog.text
    assert "SAMPLE" not in caplog.text
    publisher.unlink()
    assert movielens(tmp_path, source=source, download=True).prepare() == module.directory


def test_without_a_network(tmp_path, publisher, caplog):
    publisher.unlink()
    with pytest.raises(StemlabError, match=r"ml-1m\.zip cannot be.*dataset\.source=sample"):
        movielens(tmp_path, download=True).prepare()
    module = movielens(tmp_path, source="auto", download=True)
    module.prepare()
    assert module.spec.sample is True
    assert "SAMPLE data (no ratings.dat and no ml-1m.zip" in caplog.text
    assert "cannot be reached" in caplog.text


def test_wrong_checksum_is_an_error(tmp_path, publisher):
    publisher.write_bytes(publisher.read_bytes() + b"x")
    with pytest.raises(StemlabError, match="has the MD5 checksum"):
        movielens(tmp_path, source="auto", download=True).prepare()
    assert not (tmp_path / "sample").exists()
    assert list((tmp_path / "raw").iterdir()) == []
