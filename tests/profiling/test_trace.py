"""Operators, kernels, gaps and memory of a trace that is written by hand, in microseconds."""

import errno
import gzip
import json
from types import SimpleNamespace

import pytest

from stemlab.errors import StemlabError
from stemlab.profiling.measure import _write_trace
from stemlab.profiling.step_probe import STEP
from stemlab.profiling.trace import Work, allocated_bytes, gpu_seconds, kernels, operators, read_trace


def event(name, ts, dur, cat="cpu_op", tid=1):
    return {"name": name, "ts": ts, "dur": dur, "cat": cat, "pid": 1, "tid": tid}


def memory(ts, bytes_, device=0):
    return {"name": "[memory]", "ts": ts, "cat": "cpu_instant_event", "args": {"Bytes": bytes_, "Device Type": device}}


STEPS = [event(STEP, 0, 100, "user_annotation"), event(STEP, 200, 100, "user_annotation")]


def test_an_operator_has_the_time_outside_the_operators_it_calls(tmp_path):
    inner = [event("aten::mm", 15, 20), event("aten::mm", 40, 10), event("aten::copy_", 41, 4)]
    backward = [event("autograd::engine::evaluate_function: MulBackward0", 60, 8, tid=2)]
    outside = [event("aten::add", 150, 30)]  # between the steps
    path = tmp_path / "trace.json.gz"
    with gzip.open(path, "wt") as file:
        json.dump({"traceEvents": [*STEPS, event("aten::linear", 10, 50), *inner, *backward, *outside]}, file)
    assert operators(read_trace(path)) == [
        Work("aten::mm", pytest.approx(26e-6), 2),
        Work("aten::linear", pytest.approx(20e-6), 1),
        Work("MulBackward0", pytest.approx(8e-6), 1),
        Work("aten::copy_", pytest.approx(4e-6), 1),
    ]


def test_the_gpu_is_idle_where_no_kernel_runs():
    work = [
        event("gemm", 10, 30, "kernel"),
        event("gemm", 30, 30, "kernel", tid=2),
        event("fill", 250, 5, "gpu_memset"),
    ]
    late = [event("gemm", 290, 30, "kernel")]  # ends 20 us after the last step
    busy, span = gpu_seconds([*STEPS, *work, *late])
    assert busy == pytest.approx(85e-6)  # overlapping kernels count once
    assert span == pytest.approx(320e-6)
    assert kernels([*STEPS, *work, *late]) == [Work("gemm", pytest.approx(90e-6), 3), Work("fill", 5e-6, 1)]


def test_without_a_gpu_there_are_no_kernels():
    assert gpu_seconds([*STEPS, event("aten::mm", 10, 5)]) == (0.0, 0.0)
    assert kernels(STEPS) == []


def test_memory_of_a_step_is_its_growth_above_its_beginning():
    first = [memory(10, 9000)]  # left out: a step before it frees nothing
    second = [memory(210, 500), memory(220, -200), memory(230, 400), memory(240, -700), memory(250, 10_000, device=1)]
    assert allocated_bytes([*STEPS, *first, *second]) == 700
    assert allocated_bytes([STEPS[0], *first]) == 9000


def full_disk(path):
    with gzip.open(path, "wt") as file:
        file.write('{"traceEvents": [')
    raise OSError(errno.ENOSPC, "No space left on device")


def full_temporary_folder(path):
    """The profiler writes a part of its temporary file without an error."""
    with gzip.open(path, "wt") as file:
        file.write('{"traceEvents": [')


@pytest.mark.parametrize(
    ("export", "hint"), [(full_disk, "No space left.*free disk space"), (full_temporary_folder, "incomplete.*TMPDIR")]
)
def test_nothing_is_left_of_a_trace_on_a_full_disk(export, hint, tmp_path):
    path = tmp_path / "trace.json.gz"
    with pytest.raises(StemlabError, match=rf"trace\.json\.gz .*{hint}"):
        _write_trace(SimpleNamespace(export_chrome_trace=export), path)
    assert not path.exists()
