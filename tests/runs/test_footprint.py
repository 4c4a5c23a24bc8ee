"""Memory and communication of a training, from numbers of parameters."""

import pytest

from stemlab.runs.footprint import table_contents, training_footprint

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


@pytest.mark.parametrize(
    ("optim", "values", "contents"),
    [
        ({"name": "adam"}, 4, "weights, gradients, Adam moments"),
        ({"name": "sgd"}, 2, "weights, gradients"),
        ({"name": "sgd", "momentum": 0.9}, 3, "weights, gradients, momentum"),
        ({"name": "adagrad", "ema": 0.9}, 4, "weights, gradients, sums of squared gradients, average of the weights"),
        ({"name": "adam", "tables": "sparse_adam", "ema": 0.9}, 4, "weights, Adam moments, average of the weights"),
        ({"name": "adam", "tables": "rowwise_adagrad"}, 1, "weights; one number more per row"),
    ],
)
def test_the_contents_of_the_memory_of_the_tables(optim, values, contents):
    """Each part but the two moments is one number per weight; the average of the weights holds the tables, too."""
    found = training_footprint({"trainer": {"devices": 1}, "optim": optim}, PARAMETERS)
    assert found.embedding_total == values * 36_000
    assert table_contents(optim) == contents
