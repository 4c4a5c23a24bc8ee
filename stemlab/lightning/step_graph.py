"""Training steps as CUDA graphs: capture a step once, replay it many times."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import torch

Step = Callable[[], None]
"""A training step without arguments or result: it reads and writes tensors at fixed addresses."""


class CaptureError(RuntimeError):
    """A step cannot be captured; the message gives the reason. Nothing of the step was executed."""


class StepGraphs(Protocol):
    """Executes steps, and captures them as graphs."""

    def run(self, step: Step) -> None:
        """Execute a step without a graph."""
        ...

    def capture(self, step: Step) -> Step:
        """Return a function that replays the step; the step itself is not executed.

        Raises:
            CaptureError: the step cannot be captured.
        """
        ...


class CudaGraphs:
    """CUDA graphs of one device, with a common memory pool.

    The pool may be shared because graphs are replayed one after the other, and no tensor in the pool is read after the
    replay that wrote it.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # steps before the capture run on the same stream: autograd must not wait for another one during the capture
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._first: torch.cuda.CUDAGraph | None = None  # keeps the memory pool

    def run(self, step: Step) -> None:
        """Execute a step on the stream of the captures."""
        outer = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(outer)
        with torch.cuda.stream(self._stream):
            step()
        outer.wait_stream(self._stream)

    def capture(self, step: Step) -> Step:
        """Return a function that replays the step; the step itself is not executed.

        Raises:
            CaptureError: the step cannot be captured.
        """
        graph = torch.cuda.CUDAGraph()
        outer = torch.cuda.current_stream(self.device)
        pool = None if self._first is None else self._first.pool()
        raised: list[Exception] = []
        try:
            # thread_local: a thread that gathers the next block may allocate page-locked memory meanwhile
            with (
                _no_garbage_collection(),
                torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"),
            ):
                _record_error(step, raised)
        except Exception as error:
            self._clean_up(outer)
            # ending an interrupted capture raises an error of its own: the reason is the first one
            raise CaptureError(str((raised or [error])[0]).strip().partition("\n")[0]) from error
        self._first = self._first or graph
        return graph.replay

    def _clean_up(self, outer: torch.cuda.Stream) -> None:
        """Leave the state of an interrupted capture: its stream and its random number generator."""
        torch.cuda.set_stream(outer)
        with suppress(RuntimeError):  # the error of the capture, reported once more
            torch.cuda.synchronize(self.device)
        # the generator still counts the random numbers of a graph; a copy of its state does not
        generator = torch.cuda.default_generators[self.device.index or 0]
        generator.graphsafe_set_state(generator.clone_state())


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Free unreachable tensors first: their destructors may call functions that a capture forbids."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _record_error(step: Step, raised: list[Exception]) -> None:
    try:
        step()
    except Exception as error:
        raised.append(error)
        raise
