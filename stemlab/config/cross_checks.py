"""Checks across settings: compatible models and datasets, existing tasks, metrics and scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stemlab.config.objective_checks import label_kinds, wrong_kind
from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError, nearest
from stemlab.metric_directions import BEYOND_ACCURACY, REGRESSION_METRICS, TASK_METRICS, metric_direction
from stemlab.types import LabelKind

_BETTER_VALUES = {"max": "larger", "min": "smaller"}


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
        raise StemlabError(f"{message}; {key}={_list(tasks)} is {origin(key)}.") from None


def _check_names(key: str, values: Sequence[Any], origin: Origin) -> None:
    if not values:
        raise StemlabError(f"{key}=[] ({origin(key)}) must be a list of at least 1 value.")
    repeated = [value for value in values if values.count(value) > 1]
    if repeated:
        raise StemlabError(f"{key}={_list(values)} ({origin(key)}) has {repeated[0]!r} twice.")


def check_monitors(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse monitors and objectives that are not metrics of this run; monitors must be validation metrics."""
    callbacks = config.get("callbacks", {})
    monitors = {f"callbacks.{name}.monitor": callbacks[name]["monitor"] for name in _monitoring(callbacks)}
    for key, value in {**monitors, "objective": config.get("objective")}.items():
        if not isinstance(value, str):
            continue
        if key != "objective" and not value.startswith("val/"):
            example = "val/ndcg@5" if is_sequential(config) else "val/auc"
            raise StemlabError(f"{key}={value!r} ({origin(key)}) must be a validation metric, such as {example!r}.")
        if is_sequential(config):
            _check_ranking(key, value, config, origin)
        else:
            _check_task_metric(key, value, config, origin)
        if key != "objective":
            _check_mode(key.removesuffix(".monitor"), value, config, origin)
    if config.get("test") is False and (callbacks.get("paper_selection") or config.get("save_scores")):
        key = "callbacks.paper_selection" if callbacks.get("paper_selection") else "save_scores"
        raise StemlabError(f"{key}=true ({origin(key)}) reads the test split and needs test=true.")
    if config.get("test") is False and str(config.get("objective")).startswith("test/"):
        raise StemlabError(f"objective={config['objective']!r} ({origin('objective')}) needs test=true.")


def _check_mode(node: str, monitor: str, config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a monitor without a direction, and a mode that contradicts the direction of the monitor."""
    direction, mode = metric_direction(monitor), config["callbacks"][node.rpartition(".")[2]].get("mode")
    if direction is None:
        key = f"{node}.monitor"
        raise StemlabError(
            f"{key}={monitor!r} ({origin(key)}) cannot be monitored: neither larger nor smaller values are better (it "
            "is best at 1); use logloss or ece."
        )
    if mode not in (None, direction):
        raise StemlabError(
            f"{node}.mode={mode} ({origin(f'{node}.mode')}) contradicts {node}.monitor={monitor!r}, of which "
            f"{_BETTER_VALUES[direction]} values are better: set it to {direction} or leave it out."
        )


def check_search_direction(objective: str, sweeper: Mapping[str, Any]) -> None:
    """Refuse a sweeper that searches the objective in the wrong direction (``hydra.sweeper.direction``)."""
    wanted = {"maximize": "max", "minimize": "min"}.get(str(sweeper.get("direction")).rpartition(".")[2].lower())
    direction = metric_direction(objective)
    if wanted is not None and wanted != direction:
        better = "neither larger nor smaller" if direction is None else _BETTER_VALUES[direction]
        raise StemlabError(
            f"hydra.sweeper.direction={sweeper['direction']} does not fit objective={objective!r}, of which {better} "
            "values are better: change one of them."
        )


def _check_task_metric(key: str, value: str, config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse ``split/metric[/task[/scenario]]`` with an unknown metric, task or scenario."""
    kinds = label_kinds(config["dataset"])
    wrong = _wrong_metric(value, effective_tasks(config), kinds, configured_scenarios(config["dataset"]))
    if wrong is not None:  # origin() is slow, so it is called for errors only
        raise StemlabError(f"{key}={value!r} ({origin(key)}): {wrong}")


def _wrong_metric(
    value: str, tasks: list[str], kinds: Mapping[str, LabelKind], scenarios: list[str] | None
) -> str | None:
    _, metric, *rest = value.split("/", 3)
    known = list(TASK_METRICS | (REGRESSION_METRICS if "regression" in kinds.values() else {}))
    if metric not in known:
        return f"the metrics are {', '.join(known)}.{nearest(metric, known)}"
    if not rest and metric == "calibration":
        return f"calibration has no mean over tasks; add a task, such as {value}/{tasks[0]}."
    if rest and rest[0] not in tasks:
        return f"the tasks trained are {', '.join(tasks)}.{nearest(rest[0], tasks)}"
    if (wrong := wrong_kind(metric, rest[0] if rest else None, tasks, kinds)) is not None:
        return wrong
    if len(rest) == 2 and scenarios is not None:
        return _wrong_scenario(rest[1], scenarios)
    return None


def configured_scenarios(dataset: Mapping[str, Any]) -> list[str] | None:
    """Return the scenarios of a dataset; ``None`` if they are only known from its rows, empty if there are none."""
    named = dataset.get("scenarios")
    if isinstance(named, list) and named and all(isinstance(name, str) for name in named):
        return [str(name) for name in named]
    return None if "scenarios" in dataset or "scenario" in dataset else []


def check_scenarios(config: Mapping[str, Any], scenarios: Sequence[str]) -> None:
    """Refuse a monitor or objective of a scenario that the prepared dataset does not have."""
    monitored = {f"callbacks.{name}.monitor": config["callbacks"][name] for name in _monitoring(config["callbacks"])}
    values = {key: node["monitor"] for key, node in monitored.items()} | {"objective": config["objective"]}
    for key, value in values.items():
        if isinstance(value, str) and value.count("/") > 2:
            wrong = _wrong_scenario(value.split("/", 3)[3], list(scenarios))
            if wrong is not None:
                raise StemlabError(f"{key}={value!r}: {wrong}")


def _wrong_scenario(name: str, scenarios: list[str]) -> str | None:
    if name in scenarios:
        return None
    known = f"the scenarios are {', '.join(scenarios)}" if scenarios else "the dataset has no scenarios"
    return f"{known}.{nearest(name, scenarios)}"


def _check_ranking(key: str, value: str, config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse metrics that are not computed; epochs compute the first cut-off and the checkpoint monitor only."""
    split, topk = value.split("/")[0], config["dataset"]["evaluation"]["topk"]
    known = [f"{split}/{name}" for name in _ranking_metrics(topk)]
    if key == "callbacks.early_stop.monitor":
        chosen = config["callbacks"]["checkpoint"]["monitor"]
        known = list(dict.fromkeys([*(f"{split}/{name}" for name in _ranking_metrics(topk[:1])), chosen]))
    if key == "objective" and config["model"].get("beyond_accuracy"):  # measured after the training
        known += [f"{split}/{name}@{k}" for k in topk for name in BEYOND_ACCURACY]
    if value not in known:
        raise StemlabError(
            f"{key}={value!r} ({origin(key)}) must be one of {', '.join(known)}; dataset.evaluation.topk is "
            f"{_list(topk)}.{nearest(value, known)}"
        )


def _ranking_metrics(topk: Sequence[int]) -> list[str]:
    """Return the names of the ranking metrics at the given cut-offs."""
    return [*(f"hr@{k}" for k in topk), *(f"ndcg@{k}" for k in topk), "mrr"]


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


def _monitoring(callbacks: Mapping[str, Any]) -> list[str]:
    named = [(name, node) for name, node in callbacks.items() if isinstance(node, Mapping) and name != "own"]
    return [name for name, node in named if "monitor" in node]


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


def _list(values: Sequence[Any]) -> str:
    return f"[{', '.join(str(value) for value in values)}]"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
