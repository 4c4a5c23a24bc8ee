"""Validate a composed config, cheap checks first; no data is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.config import column_checks, cross_checks
from stemlab.config.balancing_checks import check_balancing
from stemlab.config.embedding_checks import check_embedding, check_net_embedding, check_processes
from stemlab.config.export_schema import check_export_trainer
from stemlab.config.fused_checks import check_fused_net, check_fused_tables
from stemlab.config.instantiate import (
    check_settings,
    default_settings,
    import_target,
    instantiate,
    typed_settings,
    validate_as,
)
from stemlab.config.list_metric_checks import check_beyond_accuracy
from stemlab.config.monitor_checks import check_monitors
from stemlab.config.objective_checks import check_losses, check_net_labels
from stemlab.config.optim_checks import check_average, check_optimizer
from stemlab.config.own_callbacks import check_own_callbacks
from stemlab.config.own_class import check_own_analysis, check_own_dataset, check_own_net
from stemlab.config.own_metrics import check_own_metrics
from stemlab.config.path_checks import check_dataset_name, check_paths
from stemlab.config.pretrained_checks import check_pretrained
from stemlab.config.removed_settings import check_removed_settings
from stemlab.config.schema import CHECKPOINT_COMMANDS, COMMAND_MODELS, SECTIONS, section_model
from stemlab.config.split_checks import check_split_keys
from stemlab.config.table_rules import check_net_tables, check_tables
from stemlab.config.task_selection_checks import check_task_selection
from stemlab.config.trainer_schema import SavedTrainerConfig
from stemlab.config.validation_messages import Origin, unknown_origin
from stemlab.errors import StemlabError


def validate(command: str, config: Mapping[str, Any], origin: Origin = unknown_origin) -> None:
    """Refuse a config that cannot run.

    Args:
        command: ``train``, ``evaluate``, ...; determines the top-level keys.
        config: plain and resolved.
        origin: returns where a key was set.

    Raises:
        StemlabError: the first invalid setting.
    """
    check_paths(config, origin)
    check_dataset_name(config, origin)
    check_removed_settings(config, getattr(origin, "overrides", ()))
    top = top_level_model(command)
    if top is not None:
        validate_as(top, config, origin=origin)
    for name in SECTIONS:
        if isinstance(config.get(name), Mapping):
            saved = name == "trainer" and command in (*CHECKPOINT_COMMANDS, "analyze")
            model = SavedTrainerConfig if saved else section_model(name, config[name])
            validate_as(model, config[name], key=name, origin=origin)
    if isinstance(config.get("trainer"), Mapping):
        cross_checks.check_trainer(config["trainer"], origin)
        check_processes(config["trainer"], origin)
        if command == "export":
            check_export_trainer(config["trainer"], origin)
    if isinstance(config.get("logger"), Mapping):
        cross_checks.check_logger(config["logger"], origin)
    if isinstance(config.get("dataset"), Mapping):
        check_own_dataset(config, origin)
        check_settings(config["dataset"], key="dataset", origin=origin)
        cross_checks.check_dataset(config["dataset"], origin)
        check_split_keys(config["dataset"], origin)
    if isinstance(config.get("model"), Mapping):
        check_own_net(config, origin)
        check_settings(config["model"]["net"], key="model.net", origin=origin)
        cross_checks.check_family(config)
        cross_checks.check_task(config, origin)
        cross_checks.check_stage(config, origin)
        cross_checks.check_topk(config["dataset"], origin)
        column_checks.check_residence(config, origin)
        column_checks.check_reading(config["dataset"], origin)
        check_own_metrics(config, origin)
        check_monitors(config, origin)
        check_task_selection(config, origin)
        if not cross_checks.is_sequential(config):
            check_losses(config, origin)
            if config["model"].get("pretrained"):
                check_pretrained(config, origin)
        check_own_callbacks(config, origin)
        check_beyond_accuracy(config, origin)
    if isinstance(config.get("analysis"), Mapping):
        _check_analysis(config["analysis"], "analysis", origin)
    _validate_built(config, origin)


def _check_analysis(node: Mapping[str, Any], key: str, origin: Origin) -> None:
    """Check the settings of an analysis; for a report, also those of its analyses."""
    check_own_analysis(node, key, origin)
    check_settings(node, key=key, origin=origin)
    for name, part in (node.get("parts") or {}).items():
        _check_analysis(part, f"{key}.parts.{name}", origin)


def top_level_model(command: str) -> type[Any] | None:
    """Return the model of the top-level keys; ``None`` for a config with another name (``--config-name``)."""
    if command == "report":
        from stemlab.config.report_schema import ReportConfig

        return ReportConfig
    if command == "dashboard":
        from stemlab.config.dashboard_schema import DashboardConfig

        return DashboardConfig
    if command == "reproduce":
        from stemlab.config.reproduce_schema import ReproduceConfig

        return ReproduceConfig
    if command == "analyze":
        from stemlab.config.analyze_schema import AnalyzeConfig

        return AnalyzeConfig
    return COMMAND_MODELS.get(command)


def _validate_built(config: Mapping[str, Any], origin: Origin) -> None:
    """Run the checks that import the classes, and with them torch and Lightning."""
    if "optim" in config and "model" in config:
        _check_optim(config, origin)
        check_embedding(config, origin)
        check_balancing(config, origin)
    if "model" in config:
        _check_net(config, origin)
    if "dataset" in config:
        instantiate(config["dataset"], key="dataset", origin=origin)


def _check_optim(config: Mapping[str, Any], origin: Origin) -> None:
    from stemlab import optim

    sequential = cross_checks.is_sequential(config)
    if ("plateau" if sequential else "l2") in config["optim"]:
        option, family = "ranking" if sequential else "adam", config["model"]["family"]
        raise StemlabError(f"the optimiser ({origin('optim')}) is not for a {family} model: set optim={option}.")
    model = optim.RankingOptimConfig if sequential else optim.OptimConfig
    check_optimizer(validate_as(model, config["optim"], key="optim", origin=origin), origin)
    check_average(config, origin)
    check_tables(config, origin)
    check_fused_tables(config, origin)


def _check_net(config: Mapping[str, Any], origin: Origin) -> None:
    net = import_target(config["model"]["net"], key="model.net", origin=origin)
    _check_kind(net, config, origin)
    check_net_tables(config, net, origin)
    check_net_embedding(config, net, origin)
    check_fused_net(config, net, origin)
    if hasattr(net, "check_settings"):
        net.check_settings(default_settings(net) | typed_settings(config["model"]["net"], key="model.net"))
    if hasattr(net, "check_tasks"):
        cross_checks.check_net_tasks(config, net, origin)
        check_net_labels(config, net, cross_checks.effective_tasks(config), origin)
        _check_penalties(config["model"], origin)


def _check_kind(net: Any, config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a class that is no network of stemlab, or one of the other family."""
    key, family = "model.net._target_", config["model"]["family"]
    reads, wanted = getattr(net, "reads", None), "sequences" if family == "sequential" else "impressions"
    if reads == wanted:
        return
    where = f"{key}={config['model']['net']['_target_']} ({origin(key)})"
    if reads in ("sequences", "impressions"):
        other = "sequential" if reads == "sequences" else "multitask"
        raise StemlabError(f"{where} is a network of model.family={other}, and model.family is {family}: change one.")
    base = "sequential.base.SequenceNet" if family == "sequential" else "multitask.base.TabularNet"
    raise StemlabError(
        f"{where} is not a network of stemlab: derive the class from stemlab.models.{base}, or give it reads = "
        f"'{wanted}' and the methods of that class; its settings are keyword-only parameters."
    )


def _check_penalties(model: Mapping[str, Any], origin: Origin) -> None:
    from stemlab.optim import parse_penalty

    for name in ("embedding_regularizer", "net_regularizer"):
        try:
            parse_penalty(model[name])
        except StemlabError as error:
            key = f"model.{name}"
            raise StemlabError(f"{key}={model[name]!r} ({origin(key)}): {error}") from None
