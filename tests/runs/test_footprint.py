"""Memory and communication of a training, from numbers of parameters."""

import pytest

from stemlab.runs.footprint import training_footprint

PARAMETERS = {"dense": 1000, "embedding": 9000}


def config(devices=1, optimizer="adam"):
    return {"trainer": {"devices": devices}, "optim": {"name": optimizer}}


def test_one_rank_reduces_nothing():
    found = training_footprint(config(), PARAMETERS)
    assert (found.weights, found.gradients, found.optimizer, found.total) == (40_000, 40_000, 80_000, 160_000)
    assert (found.reduced, found.sent, found.embedding_total) == (0, 0, 144_000)


def test_every_gradient_is_reduced_over_the_ranks():
    found = training_footprint(config(devices=4), PARAMETERS)
    assert (found.reduced, found.sent) == (40_000, 60_000)
    assert found.record()["ranks"] == 4


@pytest.mark.parametrize(("optimizer", "states"), [("sgd", 0), ("adagrad", 1), ("adadelta", 2), ("adamw", 2)])
def test_states_of_the_optimisers(optimizer, states):
    assert training_footprint(config(optimizer=optimizer), PARAMETERS).optimizer == states * 40_000


def test_momentum_is_a_state():
    chosen = config(optimizer="sgd")
    chosen["optim"]["momentum"] = 0.9
    assert training_footprint(chosen, PARAMETERS).optimizer == 40_000
