"""Reliability: normalised entropy and bins from saved scores, against brute force."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.report import report
from stemlab.reporting.reliability import BINS, measure_reliability, normalised_entropy, reliability_curve
from tests.reporting.score_files import task_scores, write_run
from tests.reporting.test_sample_tests import words


def test_a_constant_prediction_of_the_base_rate_has_the_normalised_entropy_1():
    entropy = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    assert normalised_entropy(entropy, 0.3) == pytest.approx(1, abs=1e-15)
    assert normalised_entropy(entropy / 2, 0.3) == pytest.approx(0.5)
    assert math.isnan(normalised_entropy(0.1, 0.0))


def test_the_curve_is_that_of_scikit_learn_for_bins_of_equally_many_samples():
    rng = np.random.default_rng(0)
    prob = rng.permutation(np.linspace(0.01, 0.99, 40 * BINS))
    labels = (rng.random(len(prob)) < prob).astype(np.int8)
    predicted, observed = reliability_curve(labels, prob, np.ones(len(prob)))
    expected_observed, expected_predicted = calibration_curve(labels, prob, n_bins=BINS, strategy="quantile")
    np.testing.assert_allclose(predicted, expected_predicted, atol=2e-3)  # scikit-learn interpolates the limits
    np.testing.assert_allclose(observed, expected_observed, atol=0.03)
    assert len(predicted) == BINS


def test_integer_weights_count_samples():
    rng = np.random.default_rng(1)
    prob, labels, weights = rng.random(300), rng.integers(0, 2, 300), np.full(300, 3.0)
    for found, expected in zip(
        reliability_curve(labels, prob, weights), reliability_curve(labels, prob, weights / 3), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_measures_are_those_of_the_samples():
    scores = task_scores(1.0, 1)
    found = measure_reliability(scores, "like", "stem", 1)
    labels, prob = scores.labels("like"), scores.prob("like").astype(float)
    rate = labels.mean()
    loss = -np.mean(np.where(labels > 0, np.log(prob), np.log(1 - prob)))
    assert found.logloss == pytest.approx(loss, rel=1e-6)
    assert found.normalised_entropy == pytest.approx(
        loss / -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)), rel=1e-6
    )
    assert found.calibration == pytest.approx(prob.sum() / labels.sum(), rel=1e-6)
    assert (found.samples, found.positive_rate) == (len(labels), pytest.approx(rate))


def test_a_report_writes_figure_and_csv(tmp_path):
    for model, quality in {"stem": 1.0, "mmoe": 0.4}.items():
        write_run(tmp_path / "runs", model, 1, task_scores(quality, 1))
    text = report(words(tmp_path / "runs", "metrics=[auc]", "reliability=true", f"output={tmp_path}/out"))
    assert "results_reliability.png" in text
    assert (tmp_path / "out" / "results_reliability.svg").stat().st_size > 1000
    with (tmp_path / "out" / "results_reliability.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["task"]) for row in rows] == [
        ("mmoe", "finish"),
        ("mmoe", "like"),
        ("stem", "finish"),
        ("stem", "like"),
    ]
    assert all(0 < float(row["normalised_entropy"]) < 3 for row in rows)


def test_reliability_needs_output_and_scores(tmp_path):
    path = write_run(tmp_path / "runs", "stem", 1, task_scores(1.0, 1))
    with pytest.raises(StemlabError, match="output"):
        report(words(tmp_path / "runs", "metrics=[auc]", "reliability=true"))
    (path.parent / "test_scores_of_best.npz").unlink()
    with pytest.raises(StemlabError, match="save_scores"):
        report(compose("report", [f"runs=[{tmp_path}/runs]", "reliability=true", f"output={tmp_path}/out"]))


def test_tasks_without_a_counted_sample_are_left_out(tmp_path):
    mask = np.tile(np.array([1, 0], dtype=np.int8), (600, 1))
    write_run(tmp_path / "runs", "stem", 1, replace(task_scores(1.0, 1), mask_BT=mask))
    report(words(tmp_path / "runs", "metrics=[auc]", "reliability=true", f"output={tmp_path}/out"))
    with (tmp_path / "out" / "results_reliability.csv").open() as file:
        assert [row["task"] for row in csv.DictReader(file)] == ["finish"]
