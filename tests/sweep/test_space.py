"""Search spaces in Hydra's override grammar."""

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from stemlab.sweep.space import SearchSpace


def space(*words):
    return SearchSpace(OverridesParser.create().parse_overrides(list(words)))


def test_single_values_are_fixed_and_later_words_replace_earlier_ones():
    found = space("model.net.a=1,2", "optim.lr=choice(0.1)", "~callbacks.x", "model.net.a=range(1,4)", "tags=[a,b]")
    assert found.fixed == ["optim.lr=0.1", "~callbacks.x", "tags=[a,b]"]
    assert list(found.searched) == ["model.net.a"]


def test_combinations_of_choices_and_ranges():
    found = space("model=stem,ple", "x=range(1,3)", "seed=1").combinations()
    assert found == [{"model": m, "x": x} for m in ("stem", "ple") for x in (1, 2)]


@pytest.mark.parametrize(
    ("word", "distribution"),
    [
        ("x=a,b", optuna.distributions.CategoricalDistribution(["a", "b"])),
        ("x=1,2,4", optuna.distributions.CategoricalDistribution(["1", "2", "4"])),
        ("x=range(2,9,2)", optuna.distributions.IntDistribution(2, 8, step=2)),
        ("x=int(interval(1,8))", optuna.distributions.IntDistribution(1, 8)),
        ("x=interval(0.0,0.5)", optuna.distributions.FloatDistribution(0.0, 0.5)),
        ("x=tag(log,interval(1e-4,1e-2))", optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)),
    ],
)
def test_distributions(word, distribution):
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    (*fixed, chosen) = space("seed=1", word).suggest(trial)
    assert fixed == ["seed=1"]
    assert trial.distributions == {"x": distribution}
    assert chosen == f"x={trial.params['x']}"


def test_description_ignores_how_a_sweep_is_run():
    assert space("b=2", "a=1,2", "sweep=tpe", "sweep.jobs=3").description() == ["a=1,2", "b=2"]
