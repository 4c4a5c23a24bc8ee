"""Checks across settings: compatible models and datasets, existing tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError, nearest


def is_sequential(config: Mapping[str, Any]) -> bool:
    """Return whether the model reads histories of items (``model.family=sequential``)."""
    return bool(config["model"]["family"] == "sequential")


def effective_stage(config: Mapping[str, Any]) -> str | None:
    """Return the stage that the run itself trains: ``finetune`` for ``both``; ``None`` for models without stages."""
    stage: str | None = config["model"].get("stage")
    return "finetune" if stage == "both" else stage


def check_family(config: Mapping[str, Any]) -> None:
    """Refuse a model on a dataset of the other family; only datasets of impressions have tasks."""
    model, dataset = config["model"], config["dataset"]
    if "tasks" in dataset and not dataset["tasks"]:
        raise StemlabError(
            f"dataset={dataset.get('name')} has no tasks: set dataset.tasks, or run stemlab.prepare to draft a "
            "file for your table (dataset.path=rows.csv) and set dataset.config=rows.stemlab.yaml."
        )
    has_histories = "evaluation" in dataset  # protocol of a dataset of histories
    if (is_sequential(config) and has_histories) or (not is_sequential(config) and "tasks" in dataset):
        return
    name, family = dataset.get("name"), model["family"]
    if "tasks" not in dataset and not has_histories:
        key = (
            "evaluation (stemlab.data.sequence.datamodule)" if is_sequential(config) else "tasks (names of the labels)"
        )
        raise StemlabError(f"dataset={name} has no key {key}, which model={model['name']}, a {family} model, needs.")
    if is_sequential(config):
        reason = "reads histories of items, this dataset has impressions with labels. Use dataset=ml1m or grocery"
    else:
        reason = "predicts labels of impressions, this dataset has histories of items. Use dataset=tiktok"
    raise StemlabError(
        f"model={model['name']} and dataset={name} do not fit: a {family} model {reason}, or another model."
    )


def effective_tasks(config: Mapping[str, Any]) -> list[str]:
    """Return the trained tasks: ``model.task`` if it is set, else all tasks of the dataset.

    ``model=single_task`` without ``model.task`` trains the first task; sequential models have no tasks.
    """
    if is_sequential(config):
        return []
    tasks = [str(task) for task in config["dataset"]["tasks"]]
    if config["model"].get("task") is not None:
        return [config["model"]["task"]]
    return tasks[:1] if config["model"].get("name") == "single_task" else tasks


def check_dataset(dataset: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a dataset with empty or repeated tasks or fields, or with a split that leaves no training rows."""
    for name in ("tasks", "fields"):
        values = dataset.get(name)
        if isinstance(values, list):
            _check_names(f"dataset.{name}", values, origin)
    split = dataset.get("split")
    if isinstance(split, Mapping):
        shares = {name: split[name] for name in ("test_size", "valid_size") if _is_number(split.get(name))}
        if sum(shares.values()) >= 1:
            sizes = ", ".join(f"dataset.split.{name}={value}" for name, value in shares.items())
            where = origin(f"dataset.split.{next(iter(shares))}")
            raise StemlabError(f"{sizes} ({where}) leave no training rows: their sum must be less than 1.")


def check_topk(dataset: Mapping[str, Any], origin: Origin) -> None:
    """Refuse cut-offs above the number of stored negatives."""
    evaluation, negatives = dataset.get("evaluation"), dataset.get("eval_negatives")
    if isinstance(evaluation, Mapping) and evaluation.get("candidates") == "stored" and negatives:
        key = "dataset.evaluation.topk"
        try:
            check_cutoffs(evaluation.get("topk", []), negatives)
        except StemlabError as error:
            raise StemlabError(f"{key} ({origin(key)}): {error}") from None


def check_cutoffs(topk: Sequence[int], negatives: int) -> None:
    """Refuse cut-offs k above the number of negatives: HR@k would be 1 for every model.

    Raises:
        StemlabError: a cut-off is larger than ``negatives``.
    """
    if topk and max(topk) > negatives:
        raise StemlabError(
            f"the cut-off {max(topk)} is above the number of negatives of a sample, {negatives}: HR@{max(topk)} would "
            "be 1 for every model; lower dataset.evaluation.topk."
        )


def check_task(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a task that the dataset does not have."""
    task, tasks = config["model"].get("task"), config["dataset"].get("tasks", [])
    if task is not None and task not in tasks:
        raise StemlabError(
            f"model.task={task!r} ({origin('model.task')}) must be a task of {config['dataset'].get('name')}: "
            f"{', '.join(tasks)}.{nearest(task, tasks)}"
        )


def check_net_tasks(config: Mapping[str, Any], net: Any, origin: Origin) -> None:
    """Refuse tasks that the network does not support; the message of the network is extended by where they were set."""
    tasks = effective_tasks(config)
    try:
        net.check_tasks(tasks)
    except StemlabError as error:
        key = "dataset.tasks" if config["model"].get("task") is None else "model.task"
        message = str(error).rstrip(".")
        raise StemlabError(f"{message}; {key}={list_text(tasks)} is {origin(key)}.") from None


def _check_names(key: str, values: Sequence[Any], origin: Origin) -> None:
    if not values:
        raise StemlabError(f"{key}=[] ({origin(key)}) must be a list of at least 1 value.")
    repeated = [value for value in values if values.count(value) > 1]
    if repeated:
        raise StemlabError(f"{key}={list_text(values)} ({origin(key)}) has {repeated[0]!r} twice.")


def check_stage(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse ``init_from`` for stage 1, and ``allow_scratch`` if stage 1 is given or trained by this run."""
    model, key, other = config["model"], "model.init_from", "model.allow_scratch"
    given = model.get("init_from") is not None
    if given and model["stage"] == "pretrain":
        raise StemlabError(
            f"{key}={model['init_from']} ({origin(key)}) is read by stage 2 only: set model.stage=finetune."
        )
    if model.get("allow_scratch") and (given or model["stage"] != "finetune"):
        raise StemlabError(
            f"{other}=true ({origin(other)}) is only valid with model.stage=finetune and without model.init_from."
        )


def check_trainer(trainer: Mapping[str, Any], origin: Origin) -> None:
    """Refuse on a CPU: ``devices`` that is not a positive number of processes, the backend ``nccl``, and TF32."""
    if trainer["accelerator"] == "cpu" and not (isinstance(trainer["devices"], int) and trainer["devices"] > 0):
        raise StemlabError(
            f"trainer.devices={trainer['devices']} ({origin('trainer.devices')}) must be a number of processes "
            f"greater than 0 when trainer.accelerator is cpu."
        )
    if trainer["accelerator"] == "cpu" and trainer["process_group_backend"] == "nccl":
        key = "trainer.process_group_backend"
        raise StemlabError(f"{key}=nccl ({origin(key)}) needs GPUs: with trainer.accelerator=cpu set it to gloo.")
    if trainer["accelerator"] == "cpu" and trainer["precision"] == "tf32":
        key = "trainer.precision"
        raise StemlabError(f"{key}=tf32 ({origin(key)}) needs a GPU: set trainer=gpu, or {key}=32-true.")


def check_logger(logger: Mapping[str, Any], origin: Origin) -> None:
    """Refuse ``wandb_artifacts`` without W&B: nothing would read it."""
    key = "logger.wandb_artifacts"
    if logger.get("wandb_artifacts") and logger.get("wandb") == "off":
        raise StemlabError(f"{key}=true ({origin(key)}) needs W&B: set logger=wandb.")


def list_text(values: Sequence[Any]) -> str:
    """Return values as a list of the command line."""
    return f"[{', '.join(str(value) for value in values)}]"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
