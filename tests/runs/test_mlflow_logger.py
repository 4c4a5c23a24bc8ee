"""MLflow: names of metrics, refusals; a logged run: tests/cli/test_loggers.py."""

from pathlib import Path

import pytest

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.runs.loggers import build_loggers
from stemlab.runs.mlflow_logger import EpochMLFlowLogger, mlflow_name
from tests.cli.conftest import TINY


def test_wrong_logger_settings_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StemlabError, match=r"wandb_artifacts.*logger=wandb"):
        compose("train", [*TINY, "logger=csv", "logger.wandb_artifacts=true"])
    pytest.importorskip("mlflow")
    config = compose("train", [*TINY, "logger=mlflow", "logger.mlflow_uri=nope://x"])
    with pytest.raises(StemlabError, match=r"mlflow_uri=nope://x.*unsupported URI"):
        build_loggers(config, tmp_path, sample=True, sweep_id=None)


def test_names_of_columns_and_tags_may_have_any_character(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    config = compose("train", [*TINY, "logger=mlflow", f"logger.mlflow_uri={tmp_path}", "tags=['a[b]']"])
    config["model"]["losses"] = {"click[1]": "mse"}
    (logger,) = (one for one in build_loggers(config, tmp_path, True, None) if isinstance(one, EpochMLFlowLogger))
    data = logger.experiment.get_run(logger.run_id).data
    assert data.params["model.losses.click_1_"] == "mse"
    assert data.tags["a_b_"] == "true"


def test_names_of_metrics_in_mlflow() -> None:
    assert mlflow_name("test/hr@5") == "test.hr_at_5"
    assert mlflow_name("diagnostics/ia/task:like") == "diagnostics.ia.task_like"
