"""Tests over the test samples of saved scores: parts of metrics, averages over seeds, tables, refusals."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.metrics.ranking import ranking_metrics
from stemlab.report import report
from stemlab.reporting.sample_tests import average, compare_parts, metric_parts, over_samples
from stemlab.reporting.scores import RankScores, save_scores
from stemlab.reporting.statistics import bootstrap_over_groups, delong, holm
from stemlab.types import MISSING_GROUP
from tests.reporting.score_files import metrics_of, task_scores, write_run


def value(parts):
    return parts.auc if hasattr(parts, "auc") else parts.mean


def test_the_parts_give_the_metric():
    scores = task_scores(1.0, 1)
    for name, expected in metrics_of(scores).items():
        _, metric, task = name.split("/")
        assert value(metric_parts(scores, metric, task)) == pytest.approx(expected, abs=1e-9), name
    ranks = RankScores("d", "test", np.arange(50), np.arange(50) // 2, np.random.default_rng(0).integers(1, 21, 50))
    for name, expected in ranking_metrics(ranks.rank_B, (5, 10)).items():
        assert value(metric_parts(ranks, name)) == pytest.approx(expected, abs=1e-12), name
        assert len(metric_parts(ranks, name).value_G) == 25


def test_one_seed_is_the_test_of_two_models():
    one, two = task_scores(1.0, 1), task_scores(0.8, 2)
    labels = one.labels("like")
    found = compare_parts(metric_parts(one, "auc", "like"), metric_parts(two, "auc", "like"), 100)
    assert found == delong(labels, one.prob("like"), two.prob("like"))
    values = [metric_parts(scores, "gauc", "like") for scores in (one, two)]
    found = compare_parts(*values, 3000)
    assert found == bootstrap_over_groups(values[0].value_G, values[1].value_G, values[0].weight_G, 3000)


def test_the_average_over_seeds_has_the_variance_of_the_mean_difference():
    """Brute force: the jackknife over the positives and negatives of the mean difference of three seeds."""
    pairs = [(task_scores(1.0, seed, 80), task_scores(0.7, seed, 80)) for seed in (1, 2, 3)]
    first, second = (average([metric_parts(pair[i], "auc", "finish") for pair in pairs]) for i in (0, 1))
    found = compare_parts(first, second, 1)
    labels = pairs[0][0].labels("finish")

    def difference(kept):
        return np.mean([delong(labels[kept], *(one.prob("finish")[kept] for one in pair)).difference for pair in pairs])

    everything, variance = np.ones(80, dtype=bool), 0.0
    for kind in (0, 1):
        without = []
        for i in np.flatnonzero(labels == kind):
            kept = everything.copy()
            kept[i] = False
            without.append(difference(kept))
        variance += (len(without) - 1) / len(without) * np.sum((np.array(without) - np.mean(without)) ** 2)
    assert found.difference == pytest.approx(difference(everything), abs=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-3)


def test_rows_are_tested_against_the_best_one_on_the_same_samples(tmp_path):
    quality = {"a": 1.0, "b": 0.98, "c": 0.4}
    files, rows = [], []
    for model, one in quality.items():
        scores = {seed: task_scores(one, seed) for seed in (1, 2)}
        paths = {seed: write_run(tmp_path, model, seed, scores[seed]) for seed in scores}
        rows.append({"auc/like": {seed: metrics_of(scores[seed])["test/auc/like"] for seed in scores}})
        files.append({"auc/like": paths})
    found = over_samples(["auc/like"], rows, ["d"] * 3, files)
    assert found.best == {(0, "auc/like")}
    assert [found.is_best(row, "auc/like") for row in range(3)] == [True, True, False]
    alone = [found.cells[row, "auc/like"].test.p for row in (1, 2)]
    assert [found.cells[row, "auc/like"].adjusted for row in (1, 2)] == holm(alone)
    assert 0 < found.detectable["auc/like"] < 0.05
    assert not over_samples(["auc/like"], rows, ["d", "e", "f"], files).cells


def words(folder, *more):
    return compose("report", [f"runs=[{folder}]", "significance=samples", *more])


def test_a_report_marks_what_the_samples_show(tmp_path):
    for model, quality in {"stem": 1.0, "mmoe": 0.4}.items():
        write_run(tmp_path / "runs", model, 1, task_scores(quality, 1))
    output = f"output={tmp_path}/out"
    text = report(words(tmp_path / "runs", "metrics=[auc,gauc,logloss]", output, f"copies={tmp_path}/records"))
    again = report(words(tmp_path / "records", "metrics=[auc,gauc,logloss]"))
    assert again.splitlines()[:8] == text.splitlines()[:8]
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert lines["stem"].count("**") > 4
    assert "**" not in lines["mmoe"].split("log loss")[0][:60]
    assert "DeLong's test and bootstrap over users" in text
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert rows[0]["auc/like adjusted p"] < 1e-4
    assert rows[0]["gauc/like adjusted p"] < 0.01


def test_missing_and_different_samples_are_refused_in_one_sentence(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs, "stem", 1, task_scores(1.0, 1))
    other = write_run(runs, "mmoe", 1, task_scores(0.9, 1))
    file = other.parent / "test_scores_of_best.npz"
    scores = task_scores(0.9, 1)
    cases = {
        "different test samples": replace(scores, group_B=scores.group_B + 1),
        "its record has": replace(scores, prob_BT=scores.prob_BT[:, ::-1]),
        "no task 'finish'": replace(scores, tasks=("x", "like"), prob_BT=scores.prob_BT, labels_BT=scores.labels_BT),
    }
    for hint, changed in cases.items():
        save_scores(file, changed)
        with pytest.raises(StemlabError, match=hint):
            report(words(runs, "metrics=[auc]"))
    file.unlink()
    with pytest.raises(StemlabError, match="save_scores=true"):
        report(words(runs, "metrics=[auc]"))
    over = write_run(tmp_path / "val", "stem", 1, scores)
    over.write_text(over.read_text().replace("test/", "val/"))
    with pytest.raises(StemlabError, match="split=test"):
        report(words(tmp_path / "val", "split=val", "metrics=[auc]"))


def test_samples_without_a_user_join_no_user_with_a_negative_key():
    scores = replace(task_scores(1.0, 1, 6), group_B=np.array([-3, -4, MISSING_GROUP, MISSING_GROUP, -3, 7]))
    assert len(metric_parts(scores, "logloss", "like").value_G) == 5
