"""stemlab.prepare verify=true: counts of a prepared dataset beside the published ones."""

from datetime import date

import pytest
import pytorch_lightning  # noqa: F401  (its log handler keeps the stream of its import: not that of a test)
import yaml

from stemlab.config.compose import compose
from stemlab.prepare import prepare
from stemlab.reporting import data_contract
from stemlab.reporting.data_contract import PublishedStatistic, StatisticCheck, read_statistics
from tests.conf_files import CONF, option_names
from tests.tiny_datasets import write_movielens


def check(value, prepared, **more):
    return StatisticCheck(PublishedStatistic(statistic="samples", value=value, source="", **more), prepared)


@pytest.mark.parametrize(
    ("value", "prepared", "difference", "agrees"),
    [
        (100, 100, 0, True),
        (100, 99, -1, False),
        ([70, 100, 170], 99, -1, False),
        ([70, 100, 170], 170, 0, True),
        (date(2000, 4, 25), date(2000, 4, 27), 2, False),
        (None, 5, None, None),
        (100, None, None, None),
        (date(2000, 4, 25), None, None, None),
    ],
)
def test_difference_of_a_statistic(value, prepared, difference, agrees):
    found = check(value, prepared)
    assert (found.difference, found.agrees) == (difference, agrees)


def test_a_tolerance_and_a_number_that_is_only_shown():
    assert check(0.062, 0.0624, tolerance=0.0005).agrees
    assert check(0.062, 0.0626, tolerance=0.0005).agrees is False
    shown = check(145800, 151254, compared=False)
    assert (shown.difference, shown.agrees) == (5454, None)


@pytest.mark.parametrize("name", option_names("statistics"))
def test_statistics_have_a_source_and_the_name_of_a_dataset(name):
    entries = yaml.safe_load((CONF / "statistics" / f"{name}.yaml").read_text())
    assert (CONF / "dataset" / f"{name}.yaml").is_file()
    assert all(PublishedStatistic.model_validate(entry).source for entry in entries)
    settings = yaml.safe_load((CONF / "dataset" / f"{name}.yaml").read_text())
    assert [key for entry in entries for key in entry.get("when", {}) if key not in settings] == []


def test_statistics_follow_the_settings_of_the_dataset():
    settings = {"name": "tenrec", "file": "ctr_data_1M", "scenarios": []}
    paper, stem = ({**settings, "protocol": protocol} for protocol in ("paper", "stem"))
    assert [entry.statistic for entry in read_statistics(paper)] == ["positives/click", "samples"]
    assert len(read_statistics(stem)) == 6
    assert read_statistics({"name": "own"}) == []


def test_prepare_compares_real_files_only(tmp_path, capsys, monkeypatch):
    raw = tmp_path / "raw"
    raw.mkdir()
    write_movielens(raw)
    words = ["dataset=ml1m_multitask", f"dataset.raw_dir={raw}", f"paths.data_dir={tmp_path}", "verify=true"]
    config = compose("prepare", words)
    assert prepare(config) == 1
    assert "0 of 2 compared" in capsys.readouterr().out

    ratings = [line.split("::") for line in (raw / "ratings.dat").read_text().splitlines()]
    true = [
        {"statistic": "samples", "value": len(ratings)},
        {"statistic": "users", "value": len({user for user, *_ in ratings})},
        {"statistic": "positives/love", "value": sum(rating == "5" for _, _, rating, _ in ratings)},
        {"statistic": "share/like", "value": sum(int(rating) >= 4 for _, _, rating, _ in ratings) / len(ratings)},
    ]
    entries = [PublishedStatistic(source="here", tolerance=1e-12, **one) for one in true]
    monkeypatch.setattr(data_contract, "read_statistics", lambda dataset: entries)
    assert prepare(config) == 0
    assert prepare({**config, "verify": False}) == 0
    assert "4 of 4 compared" in capsys.readouterr().out
    assert prepare(compose("prepare", ["dataset.sample.rows=300", f"paths.data_dir={tmp_path}", "verify=true"])) == 3
    assert "SAMPLE" in capsys.readouterr().out


def test_days_of_a_sequence_dataset(tmp_path, capsys):
    write_movielens(tmp_path)
    words = ["dataset=ml1m", f"dataset.raw_dir={tmp_path}", "dataset.eval_negatives=5", f"paths.data_dir={tmp_path}"]
    assert prepare(compose("prepare", [*words, "verify=true"])) == 1
    output = capsys.readouterr().out
    assert "2000-12-31" in output  # 978,300,000 s
    assert "2000-04-25" in output
