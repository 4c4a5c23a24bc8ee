"""A dataset with scenarios through the command: metrics per scenario, the published selection, two ranks."""

from collections.abc import Callable
from typing import Any

import pytest

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.evaluate import evaluate
from tests.cli.commands import Workspace
from tests.cli.conftest import weights

SCENARIOS, TASKS = ("nl", "es"), ("click", "conversion")
# About 1,501 rows of each country: neither batches nor processes divide what is left of them.
ALIEXPRESS = ["dataset=aliexpress", "dataset.scenarios=[nl,es]", "dataset.sample.rows=1501"]
FAST = ["dataset.eval_batch_size=64", "optim.lr=0.01", "callbacks.early_stop.enabled=false", "trainer.max_epochs=2"]
NET = ["model.net.embedding_dim=4", "model.net.hidden_units=[8]", "model.net.gate_width=4", "model.net.scenario_dim=4"]
RUN = ["model=pepnet", *ALIEXPRESS, *FAST, *NET, "model.net.net_dropout=0.2", "trainer.limit_train_batches=4"]


@pytest.fixture(scope="module")
def run(run_training: Callable[..., float], workspace: Workspace) -> dict[str, Any]:
    """The record of a run in one process, with the published selection."""
    run_training("scenarios", *RUN, "dataset.batch_size=128", "callbacks.paper_selection=true")
    return workspace.record("scenarios")


def test_every_scenario_and_task_is_measured(run: dict[str, Any]) -> None:
    found = {name for name in run["metrics"] if name.count("/") == 3}
    kinds = ("auc", "gauc", "logloss", "calibration", "ece")
    assert found == {
        f"{split}/{kind}/{task}/{scenario}"
        for split in ("val", "test")
        for kind in kinds
        for task in TASKS
        for scenario in SCENARIOS
    }
    assert run["metrics"]["test/auc/click/es"] != run["metrics"]["test/auc/click"]


def test_the_published_selection_is_recorded_next_to_the_validation_selection(
    run: dict[str, Any], run_training: Callable[..., float], workspace: Workspace
) -> None:
    result = run["paper_selection"]
    assert "optimistic" in result["note"]
    assert set(result["epoch"]) == {"pooled", *SCENARIOS}
    assert (result["epochs_evaluated"], result["patience"]) == (2, 1)
    assert set(result["metrics"]) == {name for name in run["metrics"] if name.startswith("test/")}
    for name, epoch in result["epoch"].items():  # where both rules chose an epoch, they have the same numbers
        ending = "" if name == "pooled" else f"/{name}"
        if epoch == run["best"]["epoch"]:
            assert result["metrics"][f"test/auc/conversion{ending}"] == run["metrics"][f"test/auc/conversion{ending}"]
        else:
            mean = sum(run["metrics"][f"test/auc/{task}{ending}"] for task in TASKS) / 2
            assert result["mean_auc"][name] > mean
    run_training("validation_only", *RUN, "dataset.batch_size=128")
    validation_only = workspace.record("validation_only")
    assert "paper_selection" not in validation_only
    assert validation_only["metrics"] == run["metrics"]
    assert validation_only["best"] == run["best"]


@pytest.mark.ddp
def test_two_ranks_with_half_the_batch_train_like_one(run: dict[str, Any], workspace: Workspace) -> None:
    overrides = [*RUN, "dataset.batch_size=64", "callbacks.paper_selection=true"]
    workspace.run_two_ranks("train", *overrides, "hydra.run.dir=scenarios_in_two")
    two = weights(workspace.directory / "scenarios_in_two")
    for name, value in weights(workspace.directory / "scenarios").items():
        assert two[name].numpy() == pytest.approx(value.numpy(), abs=2e-5), name
    record = workspace.record("scenarios_in_two")
    assert record["hardware"]["processes"] == 2
    best = workspace.directory / "scenarios_in_two" / "checkpoints" / "best.ckpt"
    one = evaluate(compose("evaluate", [f"ckpt={best}"]))  # one process reproduces what two ranks measured
    assert set(one) == {name for name in run["metrics"] if name.startswith("test/")}
    assert one == pytest.approx({name: record["metrics"][name] for name in one}, abs=1e-9, rel=0)
    assert record["paper_selection"]["epoch"] == run["paper_selection"]["epoch"]
    assert record["paper_selection"]["metrics"] == pytest.approx(run["paper_selection"]["metrics"], abs=1e-3)


def test_one_scenario_can_be_monitored(run_training: Callable[..., float], workspace: Workspace) -> None:
    overrides = [*RUN, "dataset.batch_size=128", "callbacks.checkpoint.monitor=val/auc/conversion/es"]
    value = run_training("watched", *overrides)
    record = workspace.record("watched")
    assert value == record["best"]["value"] == record["metrics"]["val/auc/conversion/es"]
    with pytest.raises(StemlabError, match=r"nl, es.*'es'"):
        run_training("misspelt", *overrides[:-1], "objective=val/auc/click/ess")
    assert not (workspace.directory / "misspelt").exists()
