"""Files of conf/reproduce: they name existing experiments, tables and published numbers."""

from pathlib import Path

import pytest

from stemlab.config.reproduce_schema import PresetConfig, budget_seconds
from stemlab.reporting.reference import read_reference
from stemlab.reproduction.data_choice import ChosenData
from stemlab.reproduction.plan import forms, plan_runs
from stemlab.reproduction.presets import preset_list
from tests.conf_files import CONF, option_names, read_yaml

NAMES = option_names("reproduce")


def preset_of(name):
    return PresetConfig.model_validate(read_yaml("reproduce", name))


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_names_existing_files(name):
    preset = preset_of(name)
    sample = preset.sample
    groups = [*preset.runs, *((sample and sample.runs) or [])]
    experiments = [one for group in groups for one in group.experiments]
    assert [one for one in experiments if not (CONF / "experiment" / f"{one}.yaml").is_file()] == []
    studies = [one for one in (preset.study, sample and sample.study) if one]
    assert [one for one in studies if not (CONF / "study" / f"{one}.yaml").is_file()] == []
    assert (preset.name, f"  {name} " in preset_list()) == (name, True)
    if preset.differences and preset.differences.reference:
        assert read_reference(CONF.parent / preset.differences.reference).tolerance
    assert (CONF / "reproduce" / f"{name}.yaml").read_text().startswith(f"# python -m stemlab.reproduce {name}")


@pytest.mark.parametrize("name", NAMES)
def test_runs_have_names_of_their_own(name):
    preset = preset_of(name)
    whole, *reduced = forms(preset, preset.repeat, None)
    runs = plan_runs(preset.runs, preset.repeat, whole, ChosenData([], False, ""), [], Path("out"))
    per_repeat = sum(len(group.experiments) * len(next(iter(group.grid.values()), [1])) for group in preset.runs)
    assert len({run.directory for run in runs}) == len(runs) == per_repeat * len(preset.repeat.values)
    assert not whole.reduced
    assert all(form.reduced for form in reduced)


def test_a_budget_has_a_unit():
    assert [budget_seconds(text) for text in (90, "90s", "10m", "1.5h")] == [90, 90, 600, 5400]
    for wrong in ("10 days", "0m", "m", "-5"):
        with pytest.raises(ValueError, match="10m"):
            budget_seconds(wrong)
