"""Epochs that a trial reports to its sweep."""

from types import SimpleNamespace

import pytest

from stemlab.callbacks.trial_reports import TrialReports
from stemlab.config.trial_channel import EpochReport


class Channel:
    def __init__(self, answer):
        self.answer, self.reports = answer, []

    def stops_after(self, report):
        self.reports.append(report)
        return self.answer


def trainer(epoch, first=True, world_size=1, stopping=False):
    strategy = SimpleNamespace(broadcast=lambda stop: True)  # what the first rank decided
    return SimpleNamespace(
        current_epoch=epoch,
        max_epochs=3,
        should_stop=stopping,
        is_global_zero=first,
        world_size=world_size,
        strategy=strategy,
    )


@pytest.mark.parametrize(
    ("epoch", "stopping", "value", "report"),
    [
        (0, False, 0.7, EpochReport(1, 0.7, last=False)),
        (2, False, 0.7, EpochReport(3, 0.7, last=True)),
        (1, True, float("nan"), EpochReport(2, None, last=True)),
    ],
)
def test_an_epoch_is_reported(epoch, stopping, value, report):
    channel, state = Channel(False), trainer(epoch, stopping=stopping)
    callback = TrialReports(channel, "val/auc")
    callback.on_train_epoch_end(state, SimpleNamespace(metric_values={"val/auc": value}))
    assert channel.reports == [report]
    assert (callback.pruned, state.should_stop) == (False, stopping)


def test_all_ranks_stop_when_the_sweep_ends_the_trial():
    for first in (True, False):
        channel, state = Channel(True), trainer(0, first, world_size=2)
        callback = TrialReports(channel, "val/auc")
        callback.on_train_epoch_end(state, SimpleNamespace(metric_values={"val/auc": 0.7}))
        assert len(channel.reports) == first
        assert callback.pruned
        assert state.should_stop
