"""Metrics of the user: exact values, refusals, directions in configs and reports."""

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss

from stemlab.config.compose import CommandLine, compose
from stemlab.config.own_metrics import build_own_metrics, check_own_weights, own_directions
from stemlab.config.own_words import open_nodes
from stemlab.config.resolve import config_hash
from stemlab.config.sweep import check_command_line
from stemlab.errors import StemlabError
from stemlab.metrics import MultiTaskMetrics, RankingMetrics
from stemlab.reporting.collect import Run
from stemlab.reporting.parts import metrics_of
from stemlab.reporting.table import build_table
from tests.own import my_metrics
from tests.ranks import run_ranks
from tests.reporting.records import record

HERE = "tests.own.my_metrics"


def metric(name="brier", target="Brier", **settings):
    words = [f"metrics.own.{name}._target_={HERE}.{target}"]
    return [*words, *(f"metrics.own.{name}.{key}={value}" for key, value in settings.items())]


def filled(rows=slice(None)):
    """Return metrics of a binary, a conditional and a regression task in two scenarios, with weights."""
    rng = np.random.default_rng(0)
    prob, labels = rng.random((300, 3)).astype(np.float32), (rng.random((300, 3)) < 0.4).astype(np.float32)
    mask, weight = np.ones((300, 3), np.int8), rng.integers(0, 4, 300).astype(np.float32)
    labels[:, 2], mask[:, 1] = rng.normal(size=300), labels[:, 0]
    scenario = rng.integers(0, 2, 300)
    own = {"brier": my_metrics.Brier(), "bias": my_metrics.Bias(scale=2.0)}
    metrics = MultiTaskMetrics(("click", "buy", "time"), ("a", "b"), regression=["time"], own=own)
    columns = [torch.from_numpy(column[rows]) for column in (prob, labels, scenario, mask, weight)]
    metrics.update(columns[0], columns[1], None, None, *columns[2:])
    return metrics, (prob, labels, scenario, mask, weight)


def test_values_are_those_of_the_counted_samples_of_each_task_and_scenario():
    metrics, (prob, labels, scenario, mask, weight) = filled()
    values = metrics.compute()
    for name, task, rows in (
        ("brier/click", 0, slice(None)),
        ("brier/buy", 1, mask[:, 1] > 0),
        ("brier/buy/b", 1, (mask[:, 1] > 0) & (scenario == 1)),
    ):
        expected = brier_score_loss(labels[rows, task], prob[rows, task].astype(float), sample_weight=weight[rows])
        assert values[name] == pytest.approx(expected, abs=1e-9), name
    assert values["brier"] == (values["brier/click"] + values["brier/buy"]) / 2
    bias = np.average(prob[:, 2].astype(float) - labels[:, 2], weights=weight)
    assert values["bias/time"] == pytest.approx(2 * bias, abs=1e-9)
    assert values["bias"] == pytest.approx(np.mean([values[f"bias/{task}"] for task in ("click", "buy", "time")]))
    assert not {"brier/time", "brier/time/a"} & set(values)


def _values_of_rank(rank):
    return filled(slice(rank, None, 2))[0].compute()


@pytest.mark.ddp
def test_two_ranks_have_the_values_of_one():
    expected = filled()[0].compute()
    for found in run_ranks(_values_of_rank):
        np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=0, atol=1e-12)


def test_undefined_and_wrong_values():
    metrics = MultiTaskMetrics(["click"], ("a", "b"), own={"nan": my_metrics.Returns(value=float("inf"))})
    metrics.update(torch.rand(4, 1), torch.tensor([[0], [1], [1], [0]]), scenario_B=torch.zeros(4, dtype=torch.int64))
    values = metrics.compute()
    assert np.isnan([values["nan"], values["nan/click"], values["nan/click/b"]]).all()
    assert [reason for reason in metrics.undefined if reason.startswith("nan/click/b") and "Returns" in reason]
    ranks = RankingMetrics([5], {"nan": my_metrics.MeanRank()})
    ranks.update(torch.tensor([]))
    assert np.isnan(ranks.compute()["nan"])
    ranks.reset()
    ranks.update(torch.tensor([1.0, 4.0]))
    assert ranks.compute()["nan"] == 2.5
    assert not ranks.undefined
    with pytest.raises(StemlabError, match=r"metrics\.own\.text.*'a'"):
        my_metrics.measured({"text": my_metrics.Returns(value="a")})
    with pytest.raises(StemlabError, match=r"metrics\.own\.many.*shape \(500,\)") as error:
        my_metrics.measured({"many": my_metrics.Returns(value=np.zeros(500))})
    assert len(str(error.value)) < 200


def test_an_exception_names_the_metric():
    with pytest.raises(AttributeError) as error:
        my_metrics.measured({"wrong": my_metrics.WrongColumn()})
    assert any("metrics.own.wrong" in note for note in error.value.__notes__)
    ranks = RankingMetrics([5], {"wrong": my_metrics.Brier()})
    ranks.update(torch.tensor([1.0]))
    with pytest.raises(AttributeError) as error:
        ranks.compute()
    assert any("metrics.own.wrong" in note for note in error.value.__notes__)


def test_a_metric_with_cutoffs_has_one_value_per_cutoff():
    rank_B = torch.tensor([1.0, 3.0, 8.0, 20.0])
    metrics = RankingMetrics([5, 10], {"precision": my_metrics.Precision(), "rank": my_metrics.MeanRank()})
    metrics.update(rank_B)
    values = metrics.compute()
    assert {name: values[name] for name in ("precision@5", "precision@10", "rank")} == {
        "precision@5": values["hr@5"] / 5,
        "precision@10": values["hr@10"] / 10,
        "rank": 8.0,
    }
    assert "precision" not in values
    ranks = RankingMetrics([5, 10], {"nan": my_metrics.Precision()})
    assert np.isnan([ranks.compute()[f"nan@{k}"] for k in (5, 10)]).all()
    words = ["model=sasrec", "dataset=ml1m", *metric("precision", "Precision")]
    for monitor, status in (("precision@10", None), ("precision", "precision@5"), ("precision@7", "precision@5")):
        line = CommandLine("train", tuple(open_nodes([*words, f"callbacks.checkpoint.monitor=val/{monitor}"])))
        if status is None:
            check_command_line(line)
        else:
            with pytest.raises(StemlabError, match=status):
                check_command_line(line)
    with pytest.raises(StemlabError, match=r"early_stop.*precision@5"):
        check_command_line(
            CommandLine("train", tuple(open_nodes([*words, "callbacks.early_stop.monitor=val/precision@10"])))
        )
    config = compose("train", open_nodes([*words, "callbacks.checkpoint.monitor=val/precision@10"]))
    assert config["callbacks"]["checkpoint"]["mode"] == "max"
    made = record("sasrec")
    made["config"] = config
    made["metrics"] = {f"test/{name}": 0.1 for name in (*values, "hr@5", "ndcg@5", "ndcg@10")}
    assert {"precision@5", "precision@10"} <= set(metrics_of([Run("", made)], "test"))


def test_directions_and_defaults_are_in_the_config_and_change_no_result():
    words = [*metric(), *metric("bias", "Bias"), "callbacks.checkpoint.monitor=val/brier/like"]
    config, plain = compose("train", open_nodes(words)), compose("train", [])
    assert config["metrics"]["own"]["bias"] == {"_target_": f"{HERE}.Bias", "scale": 1.0, "higher_is_better": None}
    assert config["callbacks"]["checkpoint"]["mode"] == "min"
    assert own_directions(config) == {"brier": "min", "bias": None}
    assert own_directions({"metrics": {"own": {"brier": {"_target_": f"{HERE}.Brier"}}}}) == {"brier": "min"}
    assert build_own_metrics(config)["bias"].scale == 1.0
    plain["callbacks"]["checkpoint"] = config["callbacks"]["checkpoint"]
    plain["objective"] = config["objective"]
    assert config_hash(config) == config_hash(plain)
    with pytest.raises(StemlabError, match=r"metrics\.own\.bias.*weighted = True"):
        check_own_weights({"metrics": {"own": {"bias": {"_target_": f"{HERE}.Unweighted"}}}}, True)
    check_own_weights(config, True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (metric("auc"), ["metrics.own.auc", "another name"]),
        (metric("a-b"), ["metrics.own.a-b", "letters"]),
        (metric(target="Nope"), ["metrics.own.brier", "no 'Nope'"]),
        (metric(target="MeanRank"), ["TaskMetric of stemlab.metrics.own", "docs/own/metric.md"]),
        (metric(target="Empty"), ["lacks measure", "higher_is_better", "metrics.own.brier.top", "'label'"]),
        (metric(target="Bias", scales=1), ["metrics.own.brier.scales", "'scale'"]),
        (metric(target="Bias", scale="x"), ["metrics.own.brier.scale", "number"]),
        (metric(target="OfTimes"), ["metrics.own.brier", "regression", "finish, like"]),
        (metric(target="Positional"), ["Positional", "__init__(self, *", "'top'"]),
        (["metrics.own.brier=my_metrics.Brier"], ["metrics.own.brier='my_metrics.Brier'", "_target_"]),
        (["metrics.own=my_metrics.Brier"], ["metrics.own='my_metrics.Brier'", "_target_"]),
        (metric(higher_is_better="true"), ["higher_is_better", "class attribute"]),
        ([*metric(target="Bias"), "callbacks.checkpoint.monitor=val/brier"], ["val/brier", "monitored"]),
        ([*metric(), "callbacks.early_stop.monitor=val/brir"], ["val/brir", "brier"]),
        ([*metric(), "callbacks.early_stop.monitor=val/brier", "callbacks.early_stop.mode=max"], ["min", "mode"]),
        ([*metric(), *metric("m", "Brier"), "model=sasrec", "dataset=ml1m"], ["RankMetric", "sequential"]),
    ],
)
def test_refusals(words, expected):
    with pytest.raises(StemlabError) as error:
        check_command_line(CommandLine("train", tuple(open_nodes(words))))
    assert not [text for text in expected if text not in str(error.value)], str(error.value)


def test_reports_have_the_metric_and_its_direction():
    runs = []
    for model, values in (("stem", (0.1, 0.11, 0.12)), ("mmoe", (0.3, 0.32, 0.31))):
        for seed, value in enumerate(values):
            made = record(model, seed)
            made["config"]["metrics"] = {"own": {"brier": {"_target_": "gone.Brier", "higher_is_better": False}}}
            made["metrics"] |= {"test/brier": value, **{f"test/brier/{task}": value for task in Run("", made).tasks}}
            runs.append(Run(f"{model}{seed}", made))
    assert metrics_of(runs, "test")[-1] == "brier"
    table = build_table(runs, ["model"], ["brier"], level=0.05)
    best = [table.significance.is_best(row, table.columns[0]) for row in range(2)]
    assert [row.labels["model"] for row, chosen in zip(table.rows, best, strict=True) if chosen] == ["stem"]
