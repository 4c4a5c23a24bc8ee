"""Draws of an epoch are the same whether a thread made them before or not, and each is made once."""

import pytest

from stemlab.data.batch_order import ShuffledOrder
from stemlab.data.draw_ahead import DrawAhead
from tests.data.sequence.toys import Toy, leave_two_out, raw_of


def test_each_epoch_is_drawn_once():
    drawn = []
    ahead = DrawAhead(lambda epoch: drawn.append(epoch) or epoch * 10)
    assert ahead.of(0) == ahead.of(0) == 0
    ahead.start(1)
    ahead.start(1)
    assert [ahead.of(1), ahead.of(1)] == [10, 10]
    ahead.start(2)
    assert ahead.of(7) == 70  # the epoch that was expected does not come
    assert ahead.of(2) == 20
    assert sorted(set(drawn)) == [0, 1, 2, 7]


def test_an_error_is_raised_where_the_draws_are_used():
    ahead = DrawAhead(lambda epoch: 1 // epoch)
    ahead.start(0)
    with pytest.raises(ZeroDivisionError):
        ahead.of(0)


def test_permutations_and_negatives(tmp_path):
    ahead, plain = ShuffledOrder(103, 20, seed=1), ShuffledOrder(103, 20, seed=1)
    rows = leave_two_out(20, 50, seed=5)
    data = Toy(raw_of(rows, 20, 50), tmp_path, batch_size=16, num_negatives=2)
    ours, expected = data.train_loader(), data.train_loader()
    for epoch in (0, 1, 2):
        for order in (ahead, plain, ours, expected):
            order.set_epoch(epoch)
        assert (ahead.permutation() == plain.permutation()).all()
        candidates = [[batch.candidates_BN.tolist() for batch in loader] for loader in (ours, expected)]
        assert candidates[0] == candidates[1]
        ahead.draw_ahead()
        ours.draw_ahead()
