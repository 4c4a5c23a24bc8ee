"""The quick guard of the speed, with a clock that only the measured work advances."""

import importlib
import json
import sys
from types import SimpleNamespace

import pytest

VENDOR = "GenuineIntel"


@pytest.fixture
def quick(root, monkeypatch, tmp_path):
    """Return the script with a clock of its own and an empty file of committed ratios."""
    monkeypatch.syspath_prepend(str(root / "scripts" / "bench"))
    for name in ("timing", "quick"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module, timing = importlib.import_module("quick"), importlib.import_module("timing")
    now = SimpleNamespace(seconds=0.0)
    clock = SimpleNamespace(process_time=lambda: now.seconds, perf_counter=lambda: now.seconds)
    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(module, "COMMITTED", tmp_path / "quick.json")
    monkeypatch.setattr(module, "vendor", lambda: VENDOR)
    module.now = now
    return module


def work(quick, *seconds):
    """Return a function that takes the given seconds, call by call; the last ones are repeated."""
    left = list(seconds)

    def act():
        quick.now.seconds += left.pop(0) if len(left) > 1 else left[0]

    return act


def pairs(quick, monkeypatch, **ours):
    """Replace the rows: name -> seconds of stemlab; the baseline takes 8 seconds."""
    made = {
        name: lambda stack, name=name: quick.Pair(name, "twin", work(quick, *ours[name]), work(quick, 8.0), rounds=3)
        for name in ours
    }
    monkeypatch.setattr(quick, "PAIRS", made)


def commit(quick, **ratios):
    entry = {"machine": {}, "ratios": {name: {"median": ratio} for name, ratio in ratios.items()}}
    quick.COMMITTED.write_text(json.dumps({VENDOR: entry}))


def test_a_slowed_function_fails_and_is_named(quick, monkeypatch, capsys):
    commit(quick, gauc=4.0, stem=2.0)
    pairs(quick, monkeypatch, gauc=(2.0,), stem=(4.0,))
    assert quick.main([]) == 0
    pairs(quick, monkeypatch, gauc=(3.0,), stem=(4.0,))  # 2.67 x: below 70 % of 4
    assert quick.main([]) == 1
    out = capsys.readouterr().out
    assert "SLOW gauc" in out
    assert "--commit --rows gauc\n" in out
    assert quick.main(["--rows", "stem"]) == 0


def test_the_limit_is_70_percent_of_the_committed_ratio(quick, monkeypatch):
    commit(quick, gauc=4.0)
    pairs(quick, monkeypatch, gauc=(8 / 2.81,))
    assert quick.main([]) == 0
    pairs(quick, monkeypatch, gauc=(8 / 2.79,))
    assert quick.main([]) == 1


def test_a_row_that_fails_is_measured_once_more(quick, monkeypatch, capsys):
    commit(quick, gauc=4.0)
    pairs(quick, monkeypatch, gauc=(9.0, 9.0, 9.0, 9.0, 2.0))  # warm-up and three rounds, then as committed
    assert quick.main([]) == 0
    assert "once more" in capsys.readouterr().out


def test_one_disturbed_round_changes_nothing(quick, monkeypatch, capsys):
    commit(quick, gauc=4.0)
    pairs(quick, monkeypatch, gauc=(2.0, 2.0, 90.0, 2.0))
    assert quick.main([]) == 0
    assert "once more" not in capsys.readouterr().out


def test_ratios_are_committed_per_vendor(quick, monkeypatch):
    commit(quick, gauc=4.0, stem=2.0)
    monkeypatch.setattr(quick, "vendor", lambda: "AuthenticAMD")
    pairs(quick, monkeypatch, gauc=(2.5,), stem=(7.5,))
    assert quick.main([]) == 0  # 1.07 x is above half of the ratio of the other vendor
    assert quick.main(["--commit", "--rows", "gauc"]) == 0
    written = json.loads(quick.COMMITTED.read_text())
    assert written["AuthenticAMD"]["ratios"].keys() == {"gauc"}
    assert written["AuthenticAMD"]["ratios"]["gauc"]["median"] == pytest.approx(3.2)
    assert written["AuthenticAMD"]["machine"]["threads"] == 1
    assert written[VENDOR]["ratios"]["gauc"]["median"] == 4.0
    assert quick.committed_ratio(written, "gauc", "AuthenticAMD") == pytest.approx((3.2, 2.24))
    assert quick.committed_ratio(written, "gauc", VENDOR) == pytest.approx((4.0, 2.8))
    assert quick.committed_ratio(written, "gauc", "another") == pytest.approx((3.2, 1.6))  # half of the smaller one
    assert quick.committed_ratio(written, "stem", "AuthenticAMD") == pytest.approx((2.0, 1.0))
    assert quick.committed_ratio(written, "new", VENDOR) == (None, None)


def test_the_smallest_of_three_measurements_is_committed(quick, monkeypatch):
    commit(quick)
    pairs(quick, monkeypatch, gauc=(2.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0, 4.0, 2.0))  # 4 calls per measurement
    assert quick.main(["--commit"]) == 0
    assert json.loads(quick.COMMITTED.read_text())[VENDOR]["ratios"]["gauc"]["median"] == pytest.approx(2.0)


def test_every_row_has_a_committed_ratio(root, quick):
    committed = json.loads((root / "scripts" / "bench" / "quick.json").read_text())
    for entry in committed.values():
        assert entry["ratios"].keys() <= quick.PAIRS.keys()
        assert entry["machine"]["cpu"]
    assert all(quick.committed_ratio(committed, name, "another")[0] > 1 for name in quick.PAIRS)
