"""Data and form of a reproduction: raw files or SAMPLE, the whole or a reduced form."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from stemlab.config.compose import compose
from stemlab.config.reproduce_schema import PresetConfig
from stemlab.config.resolve import config_hash
from stemlab.config.thresholds import ThresholdError
from stemlab.errors import StemlabError
from stemlab.reporting.record import write_json
from stemlab.reproduce import _analyses, reproduction_words
from stemlab.reproduction.data_choice import choose_data, settings_that_change_results
from stemlab.reproduction.plan import ReproductionRun, choose_form, compose_runs, forms, plan_runs, remaining_seconds

PRESET = {
    "name": "p",
    "title": "P",
    "folder": "p",
    "data": [
        {"files": ["a.dat", "b*"], "settings": ["dataset.raw_dir={raw_dir}"]},
        {"files": ["c.csv"], "settings": ["dataset=rechorus"]},
    ],
    "runs": [
        {"experiments": ["x/fast"], "seconds": 25, "epochs": 4},
        {"experiments": ["x/slow"], "grid": {"model.task": ["u", "v"]}, "seconds": 105, "epochs": 10},
    ],
    "repeat": {"key": "seed", "values": [7, 8, 9]},
    "reduced": [{"repeats": 1}, {"repeats": 1, "epochs": 2}],
}


def preset(**changed):
    return PresetConfig.model_validate({**PRESET, **changed})


def planned(tmp_path, seeds=None, settings=(), **changed):
    one = preset(**changed)
    data = choose_data(one, str(tmp_path / "raw o'clock"), tmp_path)
    return [
        (form, plan_runs(one.runs, one.repeat, form, data, settings, tmp_path / "out"))
        for form in forms(one, one.repeat, seeds)
    ]


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw o'clock"
    folder.mkdir()
    for name in ("a.dat", "b.dat.gz"):
        (folder / name).touch()
    return tmp_path


def test_the_first_files_that_exist_are_used(raw):
    folder = raw / "raw o'clock"
    assert choose_data(preset(), str(folder), raw).settings == [f"dataset.raw_dir='{raw}/raw o\\'clock'"]
    (folder / "c.csv").touch()
    (folder / "a.dat").unlink()
    found = choose_data(preset(), str(folder), raw)
    assert (found.settings, found.sample) == (["dataset=rechorus"], False)


def test_missing_files_are_replaced_by_the_sample_in_the_default_folder_only(tmp_path):
    with pytest.raises(StemlabError, match=r"a\.dat, b\*.* or c\.csv.*raw_dir"):
        choose_data(preset(), None, tmp_path)
    with_sample = preset(sample={"settings": ["dataset.source=sample"]})
    found = choose_data(with_sample, None, tmp_path)
    assert (found.settings, found.sample) == (["dataset.source=sample"], True)
    assert "SAMPLE" in found.text
    with pytest.raises(StemlabError, match="named"):
        choose_data(with_sample, str(tmp_path / "named"), tmp_path)


def test_words_of_a_run_and_of_a_reduced_form(raw):
    (whole, runs), (_, one), (_, short) = planned(raw, settings=["optim.lr=0.1"])
    assert [run.name for run in runs[:4]] == [
        "x_fast-seed_7",
        "x_slow-task_u-seed_7",
        "x_slow-task_v-seed_7",
        "x_fast-seed_8",
    ]
    assert (len(runs), len(one), whole.reduced) == (9, 3, "")
    assert runs[1].words[-4:] == ["model.task=u", "seed=7", "optim.lr=0.1", "logger=csv"]
    assert one[0].directory == runs[0].directory
    assert short[0].words[-3:] == ["trainer.max_epochs=2", "tags=[LIMITED]", "logger=csv"]
    assert short[0].directory.parent.name == "limited_to_2_epochs"
    assert [run.seconds for run in short] == [5 + 20 / 2, 5 + 100 / 5, 5 + 100 / 5]


def test_the_largest_form_that_fits_is_chosen(raw):
    all_forms = planned(raw)
    assert remaining_seconds(all_forms[0][1]) == 3 * (25 + 2 * 105)
    for budget, jobs, number in (
        (None, 1, 0),
        (705, 1, 0),
        (353, 2, 0),
        (704, 1, 1),
        (235, 1, 1),
        (234, 1, 2),
        (1, 1, 2),
    ):
        assert choose_form(all_forms, budget, jobs) is not None
        assert choose_form(all_forms, budget, jobs)[0] is all_forms[number][0]


def test_measured_times_correct_the_estimate(raw):
    runs = planned(raw)[0][1]
    write_json(runs[0].directory / "record.json", {"schema": 1, "status": "finished", "time": {"wall_s": 50}})
    assert remaining_seconds(runs) == pytest.approx(2 * (3 * 235 - 25))
    assert isinstance(runs[0], ReproductionRun)


def test_seeds_are_a_number_or_a_list(raw):
    assert [form.repeats for form, _ in planned(raw, 2)] == [(7, 8), (7,), (7,)]
    assert planned(raw, 2)[0][0].reduced.startswith("2 of 3")
    assert planned(raw, [1, 2, 3, 4])[0][0].reduced == ""
    with pytest.raises(StemlabError, match=r"has 3.*seeds=\["):
        planned(raw, 4)


def test_words_of_the_command_line():
    words = reproduction_words(
        ["stem", "budget=10m", "trainer=gpu", "paths.runs_dir=r", "optim.lr=0.1", "--cfg", "job"]
    )
    assert words == [
        *("reproduce=stem", "budget=10m", "paths.runs_dir=r", "--cfg", "job"),
        "settings=['trainer=gpu','optim.lr=0.1']",
    ]
    assert reproduction_words([]) == []


def test_settings_of_the_machine_do_not_change_results():
    assert settings_that_change_results(["trainer=gpu", "logger=wandb", "trainer.threads=1"]) == []
    assert settings_that_change_results(["trainer.max_epochs=1", "+optim.lr=1"]) == [
        "trainer.max_epochs=1",
        "+optim.lr=1",
    ]


def test_composed_runs_have_the_hash_of_their_record(tmp_path):
    """Configs of one experiment are composed once; dataset.seed follows the seed of each run."""
    one = preset(runs=[{"experiments": ["tiktok_conflict/single_task"], "seconds": 9, "epochs": 1}], data=[])
    whole = forms(one, one.repeat, None)[0]
    data = choose_data(one, None, tmp_path)
    runs = plan_runs(one.runs, one.repeat, whole, data, [], tmp_path / "out")
    compose_runs(runs)
    assert [run.config["dataset"]["seed"] for run in runs] == [7, 8, 9]
    assert config_hash(runs[2].config) == config_hash(compose("train", runs[2].words))
    record = {"schema": 1, "status": "finished", "config_hash": "another"}
    write_json(runs[1].directory / "record.json", record)
    with pytest.raises(StemlabError, match=r"seed_8.*other settings.*output="):
        compose_runs(runs)


def test_a_condition_that_begins_like_one_that_holds_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def analyze(config: Mapping[str, Any]) -> None:
        raise ThresholdError("fail_if 'a.b < 30' holds: a.b is 7.", ["a.b < 30"])

    monkeypatch.setattr("stemlab.analyze.analyze", analyze)
    config, conditions = {"analysis": {"name": "x"}, "runs": ["r"]}, ["a.b < 3", " a.b < 30"]
    session: Any = SimpleNamespace(
        analysis_configs=lambda: [(config, conditions)], verdict=SimpleNamespace(conditions={})
    )
    _analyses(session)
    assert session.verdict.conditions == {"analysis=x: not a.b < 3": True, "analysis=x: not  a.b < 30": False}
