"""Comparison of values and states with those of a file, above a tolerance that follows float32 rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

FORWARD = GRADIENT = 1e-6
STEP = 1e-6
NOISE = 1e-6  # a smaller gradient may be a rounding error, which Adam turns into a full step

Differences = dict[str, float]


def differing(
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    tolerance: float,
    exact: Callable[[], Mapping[str, Tensor]] | None = None,
) -> Differences:
    """Return name -> largest absolute difference where it exceeds tolerance * max(1, largest value).

    Args:
        ours: values of stemlab.
        theirs: values of the file.
        tolerance: see above.
        exact: returns ``ours`` in float64. The distance of ``ours`` from it, the rounding of float32 on this CPU, is
            allowed in addition. It is computed only if a difference exceeds the tolerance.
    """
    found = _above(ours, theirs, tolerance)
    if not found or exact is None:
        return found
    rounding = _above(ours, exact(), 0.0)
    return {
        name: gap
        for name, gap in found.items()
        if gap > tolerance * max(1.0, float(theirs[name].double().abs().max())) + rounding.get(name, 0.0)
    }


def _above(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float) -> Differences:
    found = {}
    for name, expected in theirs.items():
        actual = ours[name].detach().reshape(expected.shape).double()
        if not expected.numel():
            continue
        gap = float((actual - expected.double()).abs().max())
        if not gap <= tolerance * max(1.0, float(expected.double().abs().max())):
            found[name] = gap
    return found


def trained(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state without running statistics."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return {name: value for name, value in state.items() if not name.endswith(buffers)}


def same_state(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], kept: Mapping[str, Tensor], tolerance: float
) -> Differences:
    """Compare the parameter entries where ``kept`` is True."""
    theirs = trained(theirs)
    return differing({n: ours[n][kept[n]] for n in theirs}, {n: theirs[n][kept[n]] for n in theirs}, tolerance)


def not_noise(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return name -> mask of the entries whose gradient is large enough to compare a step, or exactly zero in both."""
    return {name: (g.abs() > NOISE) | ((g == 0) & (ours[name] == 0)) for name, g in theirs.items()}
