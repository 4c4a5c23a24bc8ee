"""MLflow: the metrics of the other loggers, in a local folder or on a tracking server."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger, MLFlowLogger

from stemlab.config.cross_checks import effective_stage
from stemlab.errors import StemlabError
from stemlab.runs.environment import is_first_process
from stemlab.runs.epochs_from_one import EpochsFromOne

_LONGEST_PARAMETER = 6000
"""Length of a parameter that MLflow accepts."""


class EpochMLFlowLogger(EpochsFromOne, MLFlowLogger):
    """MLflow logger with epochs from 1 and names that a file store can hold: ``val/auc/like`` is ``val.auc.like``."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics under their names in MLflow."""
        super().log_metrics({mlflow_name(name): value for name, value in metrics.items()}, step)


def mlflow_name(name: str) -> str:
    """Return the name of a metric in MLflow: ``test/hr@5`` is ``test.hr_at_5``.

    A file store makes folders of slashes, and a metric cannot be a file and a folder; MLflow refuses ``@`` and ``:``.
    """
    return _valid(name.replace("/", ".").replace("@", "_at_"))


def _valid(name: str) -> str:
    """Return the name of a parameter or tag without the characters that MLflow refuses; columns may have them."""
    return re.sub(r"[^\w./ -]", "_", name)


def build_mlflow_logger(
    config: Mapping[str, Any], flat: Mapping[str, Any], marks: list[str], group: str | None
) -> Logger:
    """Start an MLflow run and return its logger; ranks other than 0 get a logger without a run.

    Args:
        config: resolved config of the run.
        flat: the same config with dotted names; its values are the parameters of the MLflow run.
        marks: SAMPLE (synthetic data) and LIMITED (part of the batches), where they apply.
        group: sweep of the run, or the group of its two stages, if any.

    Raises:
        StemlabError: MLflow is not installed, or its store cannot be used.
    """
    chosen, stage = config["logger"], effective_stage(config)
    names = [config["dataset"]["name"], config["model"]["name"], *([stage] if stage else []), f"seed{config['seed']}"]
    tags = {"model": config["model"]["name"], "dataset": config["dataset"]["name"], "group": group or ""}
    tags |= dict.fromkeys(map(_valid, [*config["tags"], *marks]), "true")
    uri = chosen["mlflow_uri"]
    if "://" not in uri:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 refuses folders without it
    place = {"tracking_uri": uri} if "://" in uri else {"save_dir": uri}
    try:
        logger = EpochMLFlowLogger(chosen["mlflow_experiment"], run_name="/".join(names), tags=tags, **place)
        if is_first_process():
            logger.log_hyperparams({_valid(key): str(value)[:_LONGEST_PARAMETER] for key, value in flat.items()})
    except ModuleNotFoundError:
        raise StemlabError("logger=mlflow needs MLflow: pip install 'stemlab[mlflow]'.") from None
    except Exception as error:
        # MLflow is installed here; its exceptions are imported only to recognise them
        from mlflow.exceptions import MlflowException

        if not isinstance(error, MlflowException):
            raise
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise StemlabError(f"logger.mlflow_uri={uri}: MLflow cannot create a run there ({reason}).") from None
    return logger
