import threading

import pytest

from stemlab.data.io.prefetch import prefetch


@pytest.mark.parametrize("count", [0, 1, 50])
def test_same_items_in_order(count):
    assert list(prefetch(iter(range(count)))) == list(range(count))


def test_exception_is_raised_at_its_position():
    def items():
        yield 1
        raise ValueError("third")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="third"):
        next(ahead)


def test_closing_early_ends_the_thread():
    before = threading.active_count()
    ahead = prefetch(iter(range(10**9)), depth=1)
    assert next(ahead) == 0
    assert threading.active_count() == before + 1
    ahead.close()
    assert threading.active_count() == before
