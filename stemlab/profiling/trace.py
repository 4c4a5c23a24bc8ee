"""Reads a Chrome trace of ``torch.profiler``: operators, GPU kernels, time without a kernel, memory of a step.

Times in a trace are microseconds.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemlab.errors import StemlabError
from stemlab.profiling.step_probe import STEP

Event = dict[str, Any]
_ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")
_BACKWARD = "autograd::engine::evaluate_function: "


@dataclass(frozen=True, slots=True)
class Work:
    """Calls of one operator or kernel.

    Attributes:
        name: name in the trace.
        seconds: time of all calls; of an operator, without the operators that it calls.
        calls: number of calls.
    """

    name: str
    seconds: float
    calls: int


def read_trace(path: Path) -> list[Event]:
    """Return the events of a trace file (``.json.gz``).

    Raises:
        StemlabError: the file is incomplete.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            events: list[Event] = json.load(file)["traceEvents"]
    except (EOFError, KeyError, ValueError) as error:
        raise StemlabError(
            f"the trace {path} is incomplete ({error}): free disk space, also in the folder of temporary files "
            f"({tempfile.gettempdir()}; TMPDIR sets another one)."
        ) from error
    return events


def step_windows(events: Sequence[Event]) -> list[tuple[float, float]]:
    """Return begin and end of each traced batch of the training loop."""
    marks = [event for event in events if event.get("cat") == "user_annotation" and event["name"] == STEP]
    return sorted((event["ts"], event["ts"] + event["dur"]) for event in marks)


def operators(events: Sequence[Event]) -> list[Work]:
    """Return the operators that ran on the CPU inside the steps, the longest first."""
    windows, threads = step_windows(events), defaultdict(list)
    for event in events:
        if event.get("cat") == "cpu_op" and _inside(event["ts"], windows):
            threads[event["pid"], event["tid"]].append(event)
    own: dict[str, list[float]] = defaultdict(list)
    for thread in threads.values():
        for name, duration in _own_times(thread):
            own[name.removeprefix(_BACKWARD)].append(duration)
    return _ranked(own)


def kernels(events: Sequence[Event]) -> list[Work]:
    """Return kernels, copies and fills that ran on the GPU, the longest first; empty without a GPU."""
    times: dict[str, list[float]] = defaultdict(list)
    for event in _gpu_events(events):
        times[event["name"]].append(event["dur"])
    return _ranked(times)


def gpu_seconds(events: Sequence[Event]) -> tuple[float, float]:
    """Return seconds with work on the GPU, and seconds from the first step to the end of the last work or step."""
    windows = step_windows(events)
    spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in _gpu_events(events))
    if not windows or not spans:
        return 0.0, 0.0
    start, stop = windows[0][0], max(windows[-1][1], max(end for _, end in spans))
    busy, reached = 0.0, start
    for begin, end in spans:
        busy += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return busy / 1e6, (stop - start) / 1e6


def allocated_bytes(events: Sequence[Event]) -> int:
    """Return the largest growth of memory on the CPU within a step, above what was held at its beginning.

    Weights, optimiser and the gradients of the step before are held; activations and temporary tensors are not. The
    first step is left out if there are others: tensors from before the trace are freed in it without a trace.
    """
    changes = sorted(
        (event["ts"], event["args"]["Bytes"])
        for event in events
        if event["name"] == "[memory]" and event["args"]["Device Type"] == 0
    )
    largest, windows = 0, step_windows(events)
    for start, end in windows[1:] or windows:
        grown = 0
        for at, change in changes:
            if start <= at <= end:
                grown += change
                largest = max(largest, grown)
    return largest


def _gpu_events(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.get("cat") in _ON_GPU and "dur" in event]


def _inside(moment: float, windows: Sequence[tuple[float, float]]) -> bool:
    return any(start <= moment <= end for start, end in windows)


def _own_times(events: list[Event]) -> list[tuple[str, float]]:
    """Return name and duration of each event of a thread, without the time of the events inside it."""
    own: list[tuple[str, float]] = []
    stack: list[tuple[float, int]] = []  # end and index of the events that contain the current one
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        while stack and stack[-1][0] <= event["ts"]:
            stack.pop()
        if stack:
            outer = stack[-1][1]
            own[outer] = (own[outer][0], own[outer][1] - event["dur"])
        stack.append((event["ts"] + event["dur"], len(own)))
        own.append((event["name"], event["dur"]))
    return own


def _ranked(times: dict[str, list[float]]) -> list[Work]:
    found = [Work(name, sum(durations) / 1e6, len(durations)) for name, durations in times.items()]
    return sorted(found, key=lambda work: (-work.seconds, work.name))
