"""Runs with saved scores of made-up models."""

import json

import numpy as np

from stemlab.metrics import auc, gauc, log_loss
from stemlab.reporting.scores import TaskScores, save_scores
from tests.reporting.records import record

SAMPLES, USERS = 600, 40


def task_scores(quality, seed, samples=SAMPLES, split="test", data="f" * 64):
    """Return scores of the tasks finish and like: larger ``quality`` ranks the positives higher."""
    truth, noise = np.random.default_rng(0), np.random.default_rng([seed, int(1000 * quality)])
    labels = (truth.random((samples, 2)) < [0.4, 0.2]).astype(np.int8)
    difficulty = truth.normal(0, 1, (samples, 2))  # of the samples, for every model
    logits = quality * labels + difficulty + noise.normal(0, 0.1, (samples, 2))
    return TaskScores(
        *(data, split, np.arange(samples), ("finish", "like"), (), ()),
        prob_BT=(1 / (1 + np.exp(-logits))).astype(np.float32),
        labels_BT=labels,
        group_B=truth.integers(0, USERS, samples),
    )


def metrics_of(scores):
    found = {}
    for task in scores.tasks:
        columns = scores.labels(task), scores.prob(task)
        found[f"test/auc/{task}"], found[f"test/logloss/{task}"] = auc(*columns), log_loss(*columns)
        found[f"test/gauc/{task}"] = gauc(*columns, scores.group_B)
    return found


def write_run(folder, model, seed, scores):
    """Write a record and its scores; return the path of the record."""
    path = folder / f"{model}{seed}" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record(model, seed, metrics=metrics_of(scores))))
    save_scores(path.parent / "test_scores_of_best.npz", scores)
    return path
