"""The parts of a step add up to the step."""

import pytest

from stemlab.profiling.step_clock import BACKWARD, FORWARD, LOADER, OPTIMISER, REST, StepClock, mean_parts, typical


@pytest.fixture
def ticking():
    """Return a clock and the list of moments that it reads, in nanoseconds."""
    moments = []
    return StepClock(lambda: moments.pop(0)), moments


def test_a_moment_belongs_to_the_innermost_part(ticking):
    clock, moments = ticking
    moments += [100, 103, 110, 130, 135, 180]  # begin, optimiser, forward, end of both, end of the batch
    clock.begin("timed")
    with clock.part(OPTIMISER), clock.part(FORWARD):
        pass
    clock.count(2)
    clock.end()
    (batch,) = clock.batches
    assert {name: time for name, time in batch.parts.items() if time} == {OPTIMISER: 12, FORWARD: 20, REST: 48}
    assert batch.nanoseconds == 80
    assert mean_parts(clock.batches) == pytest.approx({OPTIMISER: 6e-9, FORWARD: 1e-8, REST: 2.4e-8})


def test_time_between_batches_is_not_counted(ticking):
    clock, moments = ticking
    moments += [0, 5, 1000, 1001, 1002, 1003, 1010]
    clock.begin("timed")
    clock.count(1)
    clock.end()
    clock.begin("timed")
    with clock.part(LOADER):
        pass
    clock.count(1)
    clock.end()
    moments.append(2000)
    clock.end()  # nothing is open
    assert [batch.nanoseconds for batch in clock.batches] == [5, 3]


def test_a_batch_without_steps_is_dropped(ticking):
    clock, moments = ticking
    moments += [0, 7]
    clock.begin("timed")
    clock.end()
    assert clock.batches == []


def test_an_error_closes_its_part(ticking):
    clock, moments = ticking
    moments += [0, 1, 4, 10]
    clock.begin("timed")
    with pytest.raises(ValueError, match="bad"):
        clock.timed(BACKWARD, int)("bad")
    clock.count(1)
    clock.end()
    assert clock.batches[0].parts[BACKWARD] == 3
    assert clock.batches[0].parts[REST] == 7


def test_the_slowest_and_the_fastest_quarter_are_left_out(ticking):
    clock, moments = ticking
    for steps, duration in ((1, 50), (2, 2), (1, 9000), (1, 60)):
        moments += [0, duration]
        clock.begin("timed")
        clock.count(steps)
        clock.end()
    assert [batch.nanoseconds for batch in typical(clock.batches)] == [50, 60]
    assert len(typical(clock.batches[:3])) == 3
