"""Rules that join several settings: models and datasets that fit, tasks a model can learn, metrics that exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError, nearest

TASK_METRICS = ("auc", "gauc", "gauc_encoded", "logloss", "calibration", "ece")
"""What is measured of a multi-task model (``stemlab.metrics.multitask``), without split, task and scenario."""


def is_sequential(config: Mapping[str, Any]) -> bool:
    """Return whether the model reads histories of items (``model.family=sequential``)."""
    return bool(config["model"]["family"] == "sequential")


def effective_stage(config: Mapping[str, Any]) -> str | None:
    """Return the stage that the run itself trains: ``finetune`` where both are wanted; ``None`` for other models."""
    stage: str | None = config["model"].get("stage")
    return "finetune" if stage == "both" else stage


def check_family(config: Mapping[str, Any]) -> None:
    """Refuse a model on data of another kind; only datasets of impressions have tasks."""
    model, dataset = config["model"], config["dataset"]
    if "tasks" in dataset and not dataset["tasks"]:
        raise StemlabError(
            f"dataset={dataset.get('name')} does not say what to predict: set dataset.tasks, or let stemlab.prepare "
            "draft a config of your table (dataset.path=rows.csv) and name it, dataset.config=rows.stemlab.yaml."
        )
    if is_sequential(config) == ("tasks" not in dataset):
        return
    if is_sequential(config):
        told = "reads histories of items, and this dataset has impressions with labels: take dataset=ml1m or grocery"
    else:
        told = "learns labels of impressions, and this dataset has histories of items: take dataset=tiktok"
    raise StemlabError(
        f"model={model['name']} and dataset={dataset.get('name')} do not fit: a {model['family']} model {told}, or "
        "another model."
    )


def effective_tasks(config: Mapping[str, Any]) -> list[str]:
    """Return the tasks that are trained: ``model.task`` alone where it is set, else all of the dataset.

    ``model=single_task`` without ``model.task`` takes the first one; sequential models have none.
    """
    if is_sequential(config):
        return []
    tasks = [str(task) for task in config["dataset"]["tasks"]]
    if config["model"].get("task") is not None:
        return [config["model"]["task"]]
    return tasks[:1] if config["model"].get("name") == "single_task" else tasks


def check_dataset(dataset: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a dataset without tasks or fields, with repeated names, or with a split that leaves no training rows."""
    for name in ("tasks", "fields"):
        values = dataset.get(name)
        if isinstance(values, list):
            _names(f"dataset.{name}", values, origin)
    split = dataset.get("split")
    if isinstance(split, Mapping):
        shares = {name: split[name] for name in ("test_size", "valid_size") if _is_number(split.get(name))}
        if sum(shares.values()) >= 1:
            told = ", ".join(f"dataset.split.{name}={value}" for name, value in shares.items())
            where = origin(f"dataset.split.{next(iter(shares))}")
            raise StemlabError(f"{told} ({where}) leave no rows to train on: their sum must be less than 1.")


def check_task(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a task that the dataset does not have."""
    task, tasks = config["model"].get("task"), config["dataset"].get("tasks", [])
    if task is not None and task not in tasks:
        raise StemlabError(
            f"model.task={task!r} ({origin('model.task')}) must be a task of {config['dataset'].get('name')}: "
            f"{', '.join(tasks)}.{nearest(task, tasks)}"
        )


def ask_net(config: Mapping[str, Any], net: Any, origin: Origin) -> None:
    """Refuse a number of tasks that the network cannot learn; the network's own sentence, and who set the tasks."""
    tasks = effective_tasks(config)
    try:
        net.check_tasks(tasks)
    except StemlabError as error:
        key = "dataset.tasks" if config["model"].get("task") is None else "model.task"
        sentence = str(error).rstrip(".")
        raise StemlabError(f"{sentence}; {key}={_list(tasks)} is {origin(key)}.") from None


def _names(key: str, values: Sequence[Any], origin: Origin) -> None:
    if not values:
        raise StemlabError(f"{key}=[] ({origin(key)}) must be a list of at least 1 value.")
    repeated = [value for value in values if values.count(value) > 1]
    if repeated:
        raise StemlabError(f"{key}={_list(values)} ({origin(key)}) names {repeated[0]!r} twice.")


def check_monitors(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a monitored metric of a task that is not trained, and one that is not a validation metric."""
    callbacks = config.get("callbacks", {})
    monitors = {f"callbacks.{name}.monitor": callbacks[name]["monitor"] for name in _monitoring(callbacks)}
    for key, value in {**monitors, "objective": config.get("objective")}.items():
        if not isinstance(value, str):
            continue
        if key != "objective" and not value.startswith("val/"):
            such = "val/ndcg@5" if is_sequential(config) else "val/auc"
            raise StemlabError(f"{key}={value!r} ({origin(key)}) must be a validation metric, such as {such!r}.")
        if is_sequential(config):
            _check_ranking(key, value, config, origin)
            continue
        _check_task_metric(key, value, config, origin)
    if config.get("test") is False and callbacks.get("paper_selection"):
        key = "callbacks.paper_selection"
        raise StemlabError(f"{key}=true ({origin(key)}) looks at the test split and needs test=true.")
    if config.get("test") is False and str(config.get("objective")).startswith("test/"):
        raise StemlabError(f"objective={config['objective']!r} ({origin('objective')}) needs test=true.")


def _check_task_metric(key: str, value: str, config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse ``split/metric[/task[/scenario]]`` where there is no such metric, task or scenario."""
    wrong = _wrong_metric(value, effective_tasks(config), configured_scenarios(config["dataset"]))
    if wrong is not None:  # only now: to find who set a key takes as long as all other checks
        raise StemlabError(f"{key}={value!r} ({origin(key)}): {wrong}")


def _wrong_metric(value: str, tasks: list[str], scenarios: list[str] | None) -> str | None:
    _, metric, *rest = value.split("/", 3)
    if metric not in TASK_METRICS:
        return f"the metrics are {', '.join(TASK_METRICS)}.{nearest(metric, TASK_METRICS)}"
    if not rest and metric == "calibration":
        return f"calibration has no mean over tasks; name a task, such as {value}/{tasks[0]}."
    if rest and rest[0] not in tasks:
        return f"the tasks trained are {', '.join(tasks)}.{nearest(rest[0], tasks)}"
    if len(rest) == 2 and scenarios is not None:
        return _wrong_scenario(rest[1], scenarios)
    return None


def configured_scenarios(dataset: Mapping[str, Any]) -> list[str] | None:
    """Return the names of a dataset's scenarios; ``None`` where only its rows tell them, empty where it has none."""
    named = dataset.get("scenarios")
    if isinstance(named, list) and named and all(isinstance(name, str) for name in named):
        return [str(name) for name in named]
    return None if "scenarios" in dataset or "scenario" in dataset else []


def check_scenarios(config: Mapping[str, Any], scenarios: Sequence[str]) -> None:
    """Refuse a monitored metric of a scenario that the prepared dataset does not have."""
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
    """Refuse what is not measured: while training only the first k and the checkpoint's, at the end all of them."""
    split, topk = value.split("/")[0], config["dataset"]["evaluation"]["topk"]
    known = [f"{split}/{name}" for name in _ranking_metrics(topk)]
    if key == "callbacks.early_stop.monitor":
        chosen = config["callbacks"]["checkpoint"]["monitor"]
        known = list(dict.fromkeys([*(f"{split}/{name}" for name in _ranking_metrics(topk[:1])), chosen]))
    if value not in known:
        raise StemlabError(
            f"{key}={value!r} ({origin(key)}) must be one of {', '.join(known)}; dataset.evaluation.topk is "
            f"{_list(topk)}.{nearest(value, known)}"
        )


def _ranking_metrics(topk: Sequence[int]) -> list[str]:
    """Return the names of the metrics that are measured at some cut-offs."""
    return [*(f"hr@{k}" for k in topk), *(f"ndcg@{k}" for k in topk), "mrr"]


def check_stage(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a first stage given to itself, and a second one that could do without what is trained or given."""
    model, key, other = config["model"], "model.init_from", "model.allow_scratch"
    given = model.get("init_from") is not None
    if given and model["stage"] == "pretrain":
        raise StemlabError(f"{key}={model['init_from']} ({origin(key)}) is for the second stage: model.stage=finetune.")
    if model.get("allow_scratch") and (given or model["stage"] != "finetune"):
        raise StemlabError(f"{other}=true ({origin(other)}) is for model.stage=finetune without model.init_from.")


def _monitoring(callbacks: Mapping[str, Any]) -> list[str]:
    return [name for name, node in callbacks.items() if isinstance(node, Mapping) and "monitor" in node]


def check_trainer(trainer: Mapping[str, Any], origin: Origin) -> None:
    """Refuse several processes where none can be counted, and a GPU backend on the processor."""
    if trainer["accelerator"] == "cpu" and not (isinstance(trainer["devices"], int) and trainer["devices"] > 0):
        raise StemlabError(
            f"trainer.devices={trainer['devices']} ({origin('trainer.devices')}) must be a number of processes "
            f"greater than 0 when trainer.accelerator is cpu."
        )
    if trainer["accelerator"] == "cpu" and trainer["process_group_backend"] == "nccl":
        key = "trainer.process_group_backend"
        raise StemlabError(f"{key}=nccl ({origin(key)}) needs GPUs: with trainer.accelerator=cpu it must be gloo.")


def _list(values: Sequence[Any]) -> str:
    return f"[{', '.join(str(value) for value in values)}]"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
