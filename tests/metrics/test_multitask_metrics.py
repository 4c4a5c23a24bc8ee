"""MultiTaskMetrics on one process and on two."""

import math

import numpy as np
import pytest
import torch

from stemlab.metrics import MultiTaskMetrics, auc, calibration_ratio, ece, gauc, log_loss
from stemlab.types import MISSING_GROUP
from tests.ranks import run_ranks

TASKS = ("finish", "like")


def rows(n=257, seed=0):
    rng = np.random.default_rng(seed)
    prob = torch.from_numpy(rng.random((n, 2)).round(2).astype(np.float32))
    labels = torch.from_numpy((rng.random((n, 2)) < [0.4, 0.1]).astype(np.int8))
    user = torch.from_numpy(rng.integers(0, 20, n) * 10**12)
    return prob, labels, (user % 7).int(), user


def filled(parts, tasks=TASKS, size=50):
    metrics = MultiTaskMetrics(tasks)
    for start in range(0, len(parts[0]), size):
        metrics.update(*(None if p is None else p[start : start + size] for p in parts))
    return metrics


def test_values_are_those_of_the_functions():
    prob, labels, encoded, user = rows()
    values = filled((prob, labels, encoded, user)).compute()
    p, y, e, u = prob.numpy(), labels.numpy(), encoded.numpy(), user.numpy()
    for k, task in enumerate(TASKS):
        assert values[f"auc/{task}"] == auc(y[:, k], p[:, k])
        assert values[f"gauc/{task}"] == gauc(y[:, k], p[:, k], u)
        assert values[f"gauc_encoded/{task}"] == gauc(y[:, k], p[:, k], e)
        assert values[f"logloss/{task}"] == log_loss(y[:, k], p[:, k])
        assert values[f"calibration/{task}"] == calibration_ratio(y[:, k], p[:, k])
        assert values[f"ece/{task}"] == ece(y[:, k], p[:, k])
    for name in ("auc", "gauc", "gauc_encoded", "logloss", "ece"):
        assert values[name] == (values[f"{name}/finish"] + values[f"{name}/like"]) / 2
    assert len(values) == 5 + 6 * 2
    assert all(type(v) is float for v in values.values())
    assert values["gauc"] != values["gauc_encoded"]


def test_samples_without_a_group_are_left_out_and_counted():
    prob, labels, encoded, user = rows()
    user[::3] = MISSING_GROUP
    metrics = filled((prob, labels, encoded, user))
    values, known = metrics.compute(), (user != MISSING_GROUP).numpy()
    for k, task in enumerate(TASKS):
        expected = gauc(labels[known, k].numpy(), prob[known, k].numpy(), user[known].numpy())
        assert values[f"gauc/{task}"] == expected
        assert values[f"auc/{task}"] == auc(labels[:, k].numpy(), prob[:, k].numpy())  # all samples
    assert metrics.undefined == ["gauc leaves out 86 of 257 samples, whose group is missing."]
    user[:] = MISSING_GROUP
    metrics = filled((prob, labels, encoded, user))
    assert math.isnan(metrics.compute()["gauc"])


def test_without_groups_there_are_no_group_metrics():
    prob, labels, _, _ = rows()
    values = filled((prob, labels, None, None)).compute()
    assert {key.split("/")[0] for key in values} == {"auc", "logloss", "calibration", "ece"}


def test_metrics_of_one_class_are_undefined_with_a_reason():
    prob, labels, encoded, user = rows()
    labels[:, 1] = 0
    metrics = filled((prob, labels, encoded, user))
    values = metrics.compute()
    assert {key for key in values if math.isnan(values[key])} == {
        *("auc/like", "gauc/like", "gauc_encoded/like", "calibration/like"),
        *("auc", "gauc", "gauc_encoded"),
    }
    assert values["auc/finish"] > 0
    assert any(reason.startswith("auc/like ") and "257 labels are 0" in reason for reason in metrics.undefined)
    assert len(metrics.undefined) == 4


def test_groups_of_one_class_each_are_undefined():
    prob, labels = torch.tensor([[0.2], [0.3], [0.4]]), torch.tensor([[1], [0], [0]])
    metrics = filled((prob, labels, torch.tensor([1, 2, 2]), torch.tensor([1, 2, 2])), tasks=("click",))
    assert math.isnan(metrics.compute()["gauc/click"])
    assert any(reason.startswith("gauc/click ") and "no group" in reason for reason in metrics.undefined)


def test_diverged_predictions_are_undefined():
    prob, labels, encoded, user = rows()
    prob[3, 0] = math.nan
    metrics = filled((prob, labels, encoded, user))
    assert math.isnan(metrics.compute()["auc/finish"])
    assert any("1 of 257" in reason and "NaN" in reason for reason in metrics.undefined)


def test_no_samples():
    metrics = MultiTaskMetrics(TASKS)
    with pytest.warns(UserWarning, match="before the ``update``"):
        values = metrics.compute()
    assert all(math.isnan(v) for v in values.values())
    assert any(reason.startswith("auc/finish ") and "no samples" in reason for reason in metrics.undefined)


def test_reset_clears_the_states_and_states_are_compact():
    parts = rows()
    metrics = filled(parts)
    first = metrics.compute()
    assert [t[0].dtype for t in (metrics.prob, metrics.labels, metrics.group)] == [
        torch.float32,
        torch.int8,
        torch.int64,
    ]
    metrics.reset()
    other = rows(seed=1)
    for start in range(0, 257, 100):
        metrics.update(*(p[start : start + 100] for p in other))
    assert metrics.compute() == filled(other).compute() != first


def test_buffers_may_be_reused():
    prob, labels, encoded, user = rows(n=40)
    expected = filled((prob.clone(), labels.clone(), encoded, user)).compute()
    metrics = MultiTaskMetrics(TASKS)
    metrics.update(prob, labels, encoded, user)
    prob.zero_()
    labels.zero_()
    assert metrics.compute() == expected


@pytest.mark.parametrize(
    ("columns", "keys", "message"), [(1, 10, "probabilities"), (2, 9, "group keys")], ids=["tasks", "groups"]
)
def test_wrong_shapes_are_refused(columns, keys, message):
    prob, labels, encoded, user = rows(n=10)
    metrics = MultiTaskMetrics(TASKS)
    with pytest.raises(ValueError, match=message):
        metrics.update(prob[:, :columns], labels, encoded[:keys], user)


def test_groups_come_with_every_batch_or_none():
    prob, labels, _, user = rows(n=10)
    metrics = filled((prob, labels, None, None))
    with pytest.raises(ValueError, match="group keys"):
        metrics.update(prob, labels, None, user)


SCENARIOS = ("nl", "es", "fr")


def with_scenarios(n=257, seed=0, scenarios=SCENARIOS):
    """Return samples with scenario ids, in the order of the arguments of ``update``."""
    where = np.random.default_rng(seed + 100).integers(0, len(scenarios), n)
    return (*rows(n, seed), torch.from_numpy(where.astype(np.int32)))


def filled_by_scenario(parts, scenarios=SCENARIOS, size=50):
    metrics = MultiTaskMetrics(TASKS, scenarios)
    for start in range(0, len(parts[0]), size):
        metrics.update(*(None if p is None else p[start : start + size] for p in parts))
    return metrics


def test_a_scenario_is_measured_on_its_own_samples():
    parts = with_scenarios()
    values, pooled = filled_by_scenario(parts).compute(), filled(parts[:4]).compute()
    assert {key: value for key, value in values.items() if key.count("/") < 2} == pooled
    for index, name in enumerate(SCENARIOS):
        inside = parts[4] == index
        alone = filled(tuple(p[inside] for p in parts[:4])).compute()
        own = {key.removesuffix(f"/{name}"): value for key, value in values.items() if key.endswith(f"/{name}")}
        assert own == {key: value for key, value in alone.items() if "/" in key and "encoded" not in key}
    assert len(values) == len(pooled) + 3 * 2 * 5


def test_a_single_scenario_equals_the_pooled_metrics():
    parts = (*rows(), torch.zeros(257, dtype=torch.int32))
    values = filled_by_scenario(parts, ("nl",)).compute()
    own = {key: value for key, value in values.items() if key.endswith("/nl")}
    assert len(own) == 2 * 5
    assert own == {key: values[key.removesuffix("/nl")] for key in own}


def test_a_scenario_with_one_class_is_undefined_not_one_half():
    parts = with_scenarios()
    parts[1][parts[4] == 1, 1] = 0
    metrics = filled_by_scenario(parts)
    values = metrics.compute()
    lost = {"auc/like/es", "gauc/like/es", "calibration/like/es"}
    assert {key for key, value in values.items() if math.isnan(value)} == lost
    count = int((parts[4] == 1).sum())
    (reason,) = metrics.undefined
    assert reason.startswith("auc/like/es ")
    assert "(also calibration, gauc)" in reason
    assert f"all {count} labels are 0" in reason


def test_a_scenario_without_samples_is_undefined():
    parts = with_scenarios()
    parts[4][parts[4] == 2] = 0
    metrics = filled_by_scenario(parts)
    values = metrics.compute()
    assert all(math.isnan(value) for key, value in values.items() if key.endswith("/fr"))
    assert not any(math.isnan(value) for key, value in values.items() if not key.endswith("/fr"))
    assert ["no samples" in reason for reason in metrics.undefined] == [True] * 2


@pytest.mark.parametrize(
    ("scenario_B", "hint"),
    [
        (None, "sample .*scenarios .*'nl', 'es', 'fr'"),
        (torch.zeros(9, dtype=torch.int32), "sample .*scenarios .*'nl', 'es', 'fr'"),
        (torch.full((10,), 3), "3 to 3"),
        (torch.full((10,), -1), "-1 to -1"),
    ],
)
def test_every_sample_needs_a_known_scenario(scenario_B, hint):
    with pytest.raises(ValueError, match=hint):
        MultiTaskMetrics(TASKS, SCENARIOS).update(*rows(n=10), scenario_B)


def case_rows(case):
    parts = with_scenarios() if case == "uneven" else with_scenarios(n=31)
    parts[1][:, 1] *= case == "uneven"  # else all likes are 0, and both ranks report why
    return parts


def in_rank(rank, case):
    parts = case_rows(case)
    metrics = MultiTaskMetrics(TASKS, SCENARIOS)
    for number, start in enumerate(range(0, len(parts[0]), 32)):  # one batch only where n is 31: rank 1 has none
        if number % 2 == rank:
            metrics.update(*(p[start : start + 32] for p in parts))
    return metrics.compute(), metrics.undefined, sum(map(len, metrics.prob))


@pytest.mark.ddp
@pytest.mark.parametrize(("case", "shares"), [("uneven", [129, 128]), ("idle", [31, 0])])
def test_two_ranks_equal_one(case, shares):
    results = run_ranks(in_rank, case)
    assert [held for _, _, held in results] == shares
    single = filled_by_scenario(case_rows(case))
    expected = single.compute()
    assert bool(single.undefined) == (case == "idle")
    for values, undefined, _ in results:
        assert repr(values) == repr(expected)  # bit-identical, and NaN at the same keys
        assert undefined == single.undefined
