"""Metrics computed as tensors (on a GPU) equal those of the CPU arrays, for ties, one class and missing groups."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.metrics import MultiTaskMetrics, auc, calibration_ratio, ece, group_auc, log_loss
from stemlab.metrics import multitask as multitask_metrics
from stemlab.metrics.calibration import exact_sum
from stemlab.metrics.tensor_auc import tensor_auc, tensor_group_auc
from stemlab.metrics.tensor_calibration import tensor_calibration_ratio, tensor_ece, tensor_exact_sum, tensor_log_loss
from stemlab.types import MISSING_GROUP
from tests.ranks import run_ranks


def samples(n, seed, kind="ties", keys="near"):
    """Return labels, scores and groups; scores with ties, all different, of both signs, or float64."""
    rng = np.random.default_rng(seed)
    score = rng.random(n).astype(np.float32)
    if kind == "ties":
        score = (rng.integers(0, 7, n) / 8).astype(np.float32)
    elif kind == "signed":
        score = np.where(rng.random(n) < 0.2, np.float32(-0.0), (score - np.float32(0.5))).astype(np.float32)
    elif kind == "double":
        score = rng.integers(0, 20, n) / 7
    group = rng.integers(-3, 6, n)
    if keys == "far":
        group = group * 10**15
    group[rng.random(n) < 0.1] = MISSING_GROUP if keys != "near" else 2
    return (rng.random(n) < 0.3).astype(np.int8), score, group


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 60),
    st.integers(0, 10**6),
    st.sampled_from(["ties", "different", "signed", "double"]),
    st.sampled_from(["near", "far", "missing"]),
)
def test_groups_are_equal_bit_for_bit(n, seed, kind, keys):
    arrays = samples(n, seed, kind, keys)
    ours, expected = tensor_group_auc(*tensors(*arrays)), group_auc(*arrays)
    for name in ("key_G", "auc_G", "rows_G"):
        found = getattr(ours, name)
        np.testing.assert_array_equal(found, getattr(expected, name))
        assert found.dtype == getattr(expected, name).dtype
    assert np.array_equal([ours.mean(), ours.mean("equal")], [expected.mean(), expected.mean("equal")], equal_nan=True)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 200), st.integers(0, 10**6), st.sampled_from(["ties", "different"]), st.booleans())
def test_other_metrics_of_a_task(n, seed, kind, one_class):
    labels, score, _ = samples(n, seed, kind)
    labels = np.zeros_like(labels) if one_class else labels
    for ours, expected in (
        (tensor_auc, auc),
        (tensor_log_loss, log_loss),
        (tensor_calibration_ratio, calibration_ratio),
        (tensor_ece, ece),
    ):
        np.testing.assert_allclose(ours(*tensors(labels, score)), expected(labels, score), rtol=0, atol=1e-12)


def test_many_samples():
    labels, score, group = samples(300_000, 3, "different", "far")
    assert tensor_auc(*tensors(labels, score)) == auc(labels, score)
    assert tensor_group_auc(*tensors(labels, score, group)).mean() == group_auc(labels, score, group).mean()
    assert tensor_exact_sum(torch.from_numpy(score)) == exact_sum(score)
    assert abs(tensor_ece(*tensors(labels, score)) - ece(labels, score)) < 1e-12


@pytest.mark.parametrize("largest", [2**31 - 2, 2**31 - 1, 2**40])
def test_the_largest_groups(largest):
    group = np.array([0, largest, 0, largest, largest])
    labels, score = np.array([0, 1, 1, 0, 0], dtype=np.int8), np.array([0.9, 0.5, 0.5, 0.1, 0.7], dtype=np.float32)
    ours, expected = tensor_group_auc(*tensors(labels, score, group)), group_auc(labels, score, group)
    np.testing.assert_array_equal(ours.key_G, expected.key_G)
    np.testing.assert_array_equal(ours.auc_G, [0.0, 0.5])


def test_a_nan_score_makes_all_metrics_undefined():
    labels, score, group = samples(50, 1)
    score[7] = np.nan
    arrays = tensors(labels, score, group)
    assert np.isnan(tensor_group_auc(*arrays).auc_G).all()
    found = [metric(*arrays[:2]) for metric in (tensor_auc, tensor_log_loss, tensor_calibration_ratio, tensor_ece)]
    assert all(math.isnan(value) for value in found)


def filled(scenarios, arrays, parts=slice(None)):
    metrics = MultiTaskMetrics(("finish", "like"), scenarios)
    for part in np.array_split(np.arange(len(arrays[0])), 5)[parts]:
        prob, labels, encoded, group, scenario = (torch.from_numpy(array[part]) for array in arrays)
        metrics.update(prob, labels, encoded, group, scenario if scenarios else None)
    return metrics


def batches(seed=0, n=500):
    labels, score, group = samples(2 * n, seed, "ties", "missing")
    labels, score, group = labels.reshape(n, 2), score.reshape(n, 2), group[:n]
    labels[:, 1] &= np.random.default_rng(1).random(n) < 0.02
    return score, labels, group % 3, group, (np.arange(n) % 3).astype(np.int32)


def as_tensors(monkeypatch):
    monkeypatch.setattr(multitask_metrics, "stays_on_device", lambda values: True)


@pytest.mark.parametrize("scenarios", [(), ("nl",), ("nl", "es", "fr")])
def test_all_metrics_and_reasons(scenarios, monkeypatch):
    arrays = batches()
    if len(scenarios) == 1:
        arrays = (*arrays[:4], np.zeros_like(arrays[4]))
    cpu = filled(scenarios, arrays)
    expected = cpu.compute()
    as_tensors(monkeypatch)
    device = filled(scenarios, arrays)
    found = device.compute()
    assert list(found) == list(expected)
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=0, atol=1e-12)
    assert device.undefined == cpu.undefined
    assert any("missing" in reason for reason in cpu.undefined)


def _metrics_of_rank(rank, arrays):
    multitask_metrics.stays_on_device = lambda values: True
    metrics = filled(("nl", "es", "fr"), arrays, slice(rank, None, 2))
    found, errors = metrics.compute(), []
    metrics = filled(("nl", "es", "fr"), arrays, slice(rank, None, 2))
    if rank == 1:
        metrics.scenario[-1] = torch.full_like(metrics.scenario[-1], 3)  # on a GPU, update does not check the ids
    for broken in (metrics, _BrokenMetrics(("finish", "like"))):
        with pytest.raises((ValueError, RuntimeError, KeyError)) as error:
            broken.compute()
        errors.append(f"{type(error.value).__name__}: {error.value}")
    return found, errors


class _BrokenMetrics(MultiTaskMetrics):
    def _evaluate(self, samples):
        raise KeyError("rank 0")


def test_two_ranks(monkeypatch):
    """An error on rank 0, or an invalid scenario id on rank 1, is raised on both."""
    arrays = batches()
    expected = filled(("nl", "es", "fr"), arrays).compute()
    both = run_ranks(_metrics_of_rank, arrays)
    for found, errors in both:
        assert re.search("ValueError: scenario ids are 0 to 3", errors[0])
        assert "rank 0" in errors[1]
        np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=0, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu_are_measured_there_without_waiting():
    arrays = batches()
    expected, metrics = (
        filled(("nl", "es", "fr"), arrays).compute(),
        MultiTaskMetrics(("finish", "like"), ("nl", "es", "fr")),
    )
    prob, labels, encoded, group, scenario = (torch.from_numpy(array).cuda() for array in arrays)
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics.update(prob, labels, encoded, group, scenario)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    np.testing.assert_allclose(list(metrics.compute().values()), list(expected.values()), rtol=0, atol=1e-12)
