"""Trials of a study: their number, their order, and those that a process left when it ended."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.trial import TrialState

from stemlab.config.trial_channel import EpochReport
from stemlab.errors import StemlabError
from stemlab.reporting.run_lock import run_lock
from stemlab.sweep.space import SearchSpace
from stemlab.sweep.study import SearchStudy

SETTINGS = {"jobs": 1, "sampler": "random", "trials": 3, "startup_trials": 0, "seed": 0}
PRUNING = {"pruner": "none", "warmup_epochs": 1, "reduction_factor": 2}
WORDS = ("model=stem", "optim.lr=tag(log,interval(1e-4,1e-2))")


@pytest.fixture
def open_study(tmp_path):
    """Return a function that opens the study of the sweep directory, as another process does."""

    def make(*words, **settings):
        space = SearchSpace(OverridesParser.create().parse_overrides(list(words or WORDS)))
        return SearchStudy(tmp_path, {**SETTINGS, **PRUNING, **settings}, space, "max", 9)

    return make


def states(study):
    return [trial.state for trial in study.study.get_trials()]


def test_a_study_ends_with_its_last_trial_and_is_not_repeated(open_study):
    study = open_study()
    words = []
    with study.working():
        while (started := study.next_trial()) is not None:
            words.append(started.words)
            study.finished(started.trial, 0.5)
    assert len({word[1] for word in words}) == 3
    assert all(word[0] == "model=stem" for word in words)
    assert open_study().next_trial() is None
    assert open_study(trials=4).next_trial() is not None


def test_a_grid_has_each_combination_once_over_several_processes(open_study):
    settings = {"sampler": "grid", "trials": None}
    one, other = (open_study("a=1,2", "b=range(3,5)", **settings) for _ in range(2))
    with one.working(), other.working():
        found = [study.next_trial().words for study in (one, other, one, other)]
        assert sorted(found) == [[f"a={a}", f"b={b}"] for a in (1, 2) for b in (3, 4)]
        assert other.next_trial() is None


def test_a_trial_of_a_killed_process_is_continued_once(open_study):
    first = open_study().next_trial()
    again = open_study().next_trial()
    assert (again.trial.number, again.words, again.resumed) == (0, first.words, True)
    study = open_study()
    assert study.next_trial().trial.number == 1
    assert states(study)[0] == TrialState.FAIL
    assert "2 times" in study.failures()[0]


def test_a_killed_trial_is_continued_as_long_as_it_finishes_epochs(open_study):
    for epoch in (1, 2, 3, 4):
        study = open_study()
        started = study.next_trial()
        assert started.trial.number == 0
        study.is_pruned(started.trial, EpochReport(epoch, 0.5, last=False))
    numbers = [open_study().next_trial().trial.number for _ in range(3)]
    assert numbers == [0, 0, 1]


def test_an_interrupted_trial_is_continued_as_often_as_needed(open_study):
    for _ in range(4):
        study = open_study()
        started = study.next_trial()
        assert started.trial.number == 0
        study.interrupted(started.trial)


def test_a_trial_of_a_living_process_is_left_alone(open_study, tmp_path):
    study = open_study()
    study._worker = "other-machine-1"
    study.next_trial()
    with run_lock(tmp_path / ".workers" / "other-machine-1"):
        assert open_study().next_trial().trial.number == 1


def test_an_interrupted_study_chooses_the_same_trials(open_study, tmp_path):
    settings = {"sampler": "tpe", "startup_trials": 2, "trials": 5}
    uninterrupted, words = open_study(**settings), []
    with uninterrupted.working():
        while (started := uninterrupted.next_trial()) is not None:
            words.append(started.words)
            uninterrupted.finished(started.trial, started.trial.params["optim.lr"])
    (tmp_path / "study.journal").unlink()
    again = []
    for _ in words:
        study = open_study(**settings)
        started = study.next_trial()
        again.append(started.words)
        study.finished(started.trial, started.trial.params["optim.lr"])
    assert again == words


def test_other_settings_in_the_same_directory_are_refused(open_study):
    open_study()
    with pytest.raises(StemlabError, match=r"optim\.lr.*STEMLAB_SWEEP_ID"):
        open_study("model=stem", "optim.lr=0.1,0.2")
    with pytest.raises(StemlabError, match=r"sweep\.sampler"):
        open_study(sampler="tpe")


@pytest.mark.parametrize("pruner", ["median", "successive_halving"])
def test_the_worse_of_two_trials_is_pruned(open_study, pruner):
    study = open_study(pruner=pruner)
    with study.working():
        good, bad = study.next_trial().trial, study.next_trial().trial
        for epoch in (1, 2):
            assert not study.is_pruned(good, EpochReport(epoch, 0.8, last=False))
        study.finished(good, 0.8)
        assert not study.is_pruned(bad, EpochReport(1, None, last=False))
        assert not study.is_pruned(bad, EpochReport(1, 0.6, last=True))
        assert study.is_pruned(bad, EpochReport(2, 0.6, last=False))
