"""Ranks answer a signal in the same step, whenever it arrives."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from stemlab.runs import interruption
from stemlab.runs.interruption import InterruptionCheckpoint
from stemlab.runs.signals import SignalGuard


@pytest.fixture
def rank() -> tuple[InterruptionCheckpoint, Any]:
    """Return the callback of one of two ranks, and its trainer."""
    trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=torch.device("cpu")))
    return InterruptionCheckpoint(SignalGuard(), Path("unused.ckpt")), trainer


def test_a_signal_during_the_all_reduce_is_answered_at_the_next_one(
    rank: tuple[InterruptionCheckpoint, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    callback, trainer = rank

    def all_reduce(number: Tensor, op: object) -> None:
        callback.guard.received = int(signal.SIGTERM)  # after the number was sent: the other rank has received 0

    monkeypatch.setattr(interruption.distributed, "all_reduce", all_reduce)
    assert not callback._is_received(trainer)
    assert callback._is_received(trainer)


def test_a_signal_of_another_rank_is_adopted(
    rank: tuple[InterruptionCheckpoint, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    callback, trainer = rank
    monkeypatch.setattr(interruption.distributed, "all_reduce", lambda number, op: number.fill_(int(signal.SIGTERM)))
    assert callback._is_received(trainer)
    assert callback.guard.received == signal.SIGTERM
