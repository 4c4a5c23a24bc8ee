"""Build datamodule, network, module and trainer from a validated, plain config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pydantic import TypeAdapter
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import ClusterEnvironment, SLURMEnvironment  # type: ignore[attr-defined]
from pytorch_lightning.strategies import Strategy
from torch import nn

from stemlab.callbacks.checkpoint import BestCheckpoint
from stemlab.callbacks.progress import MetricBar
from stemlab.config.cross_checks import check_cutoffs, effective_stage, effective_tasks
from stemlab.config.instantiate import import_target, instantiate
from stemlab.config.job_process import process_count
from stemlab.config.monitor_checks import check_scenarios
from stemlab.config.own_class import tuples_as_lists
from stemlab.config.raw_folder import dataset_settings
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.log import Instances
from stemlab.data.spec import DatasetSpec, SequenceSizes
from stemlab.errors import StemlabError
from stemlab.lightning import step_loop
from stemlab.lightning.batch_share import GlobalBatchLayers
from stemlab.lightning.idle_hooks import skip_idle_hooks
from stemlab.lightning.interval_loop import IntervalEpochLoop
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.sequential import SequentialModule
from stemlab.lightning.settings import ModuleSettings, SequentialSettings
from stemlab.lightning.step_loop import StepLoop
from stemlab.lightning.unused_parameters import has_unused_parameters
from stemlab.models.sequential.base import SequenceNet
from stemlab.optim import OptimConfig, RankingOptimConfig
from stemlab.runs.checkpoint_io import AtomicCheckpointIO
from stemlab.runs.label_checks import check_prepared_labels
from stemlab.runs.launcher import RankStrategy
from stemlab.runs.numerics import lightning_precision
from stemlab.runs.pretrained import prepare_tables
from stemlab.runs.sharded_strategy import ShardedStrategy
from stemlab.runs.table_plan import plan_tables

Config = Mapping[str, Any]
DataModule = ImpressionDataModule | SequenceDataModule
Module = MultiTaskModule | SequentialModule


def build_datamodule(config: Config) -> DataModule:
    """Return the datamodule of ``config['dataset']``, with the options that its model needs; no file is read yet."""
    data = cast(DataModule, instantiate(dataset_settings(config), key="dataset"))
    if isinstance(data, SequenceDataModule) and "model" in config:
        net = import_target(config["model"]["net"])
        data.first_interactions, data.with_categories = not net.reads_history, net.reads_categories
    return data


def build_net(config: Config, sizes: DatasetSpec | SequenceSizes) -> nn.Module:
    """Return the network of ``config['model']`` with initial weights.

    Args:
        config: validated, plain config of a training.
        sizes: spec of the prepared dataset or, for sequential models, its users, items and maximum history length.
    """
    node = config["model"]["net"]
    if isinstance(sizes, DatasetSpec):
        inputs = replace(sizes.sizes, scenario_feature=config["model"]["scenario_feature"])
        net = cast(nn.Module, instantiate(node, inputs, effective_tasks(config), key="model.net"))
        prepare_tables(config, net)
        return net
    stage = effective_stage(config)
    return cast(nn.Module, instantiate(node, sizes, *([stage] if stage else []), key="model.net"))


def build_module(config: Config, data: DataModule, stage1: Mapping[str, Any] | None = None) -> Module:
    """Return the LightningModule, with the hyper-parameters that its checkpoints must contain.

    Args:
        config: validated, plain config of a training.
        data: the prepared dataset.
        stage1: record entry about the first stage, for a second stage.
    """
    hyper_parameters = {
        "config": copy.deepcopy(dict(config)),
        "spec": tuples_as_lists(data.spec.to_dict()),
        "fingerprint": data.manifest["fingerprint"],
        **({"stage1": dict(stage1)} if stage1 else {}),
    }
    if isinstance(data, SequenceDataModule):
        return _sequential_module(config, data, hyper_parameters)
    check_scenarios(config, data.spec.scenarios)
    settings = ModuleSettings.from_config(config, TypeAdapter(OptimConfig).validate_python(config["optim"]))
    net = build_net(config, data.spec)
    check_prepared_labels(config, data, net)
    return MultiTaskModule(net, data.spec, effective_tasks(config), settings, hyper_parameters)


def _sequential_module(config: Config, data: SequenceDataModule, hyper_parameters: dict[str, Any]) -> SequentialModule:
    if (negatives := _negatives(data)) is not None:
        check_cutoffs(data.evaluation.topk, negatives)
    net = cast(SequenceNet, build_net(config, data.sizes))
    user, item = data.training_pairs()
    net.observe(*(torch.from_numpy(ids.astype("int64")) for ids in (user, item)))
    if data.with_categories and data.item_categories is not None:
        net.set_categories(torch.from_numpy(data.item_categories.code_I))
    settings = SequentialSettings.from_config(config, TypeAdapter(RankingOptimConfig).validate_python(config["optim"]))
    module = SequentialModule(net, data.spec, data.evaluation, settings, hyper_parameters)
    if config["model"].get("beyond_accuracy"):
        categories = data.item_categories
        interactions_I = np.bincount(item, minlength=data.sizes.items + 1)
        module.measure_beyond_accuracy(interactions_I, None if categories is None else categories.code_I)
    return module


def _negatives(data: SequenceDataModule) -> int | None:
    """Return the largest number of negatives of an evaluated sample; None if none are stored."""
    if data.evaluation.candidates == "full":
        return data.sizes.items - 1
    stored = Instances(data.directory, "valid").negatives
    return None if stored is None else int(stored.shape[1])


def build_trainer(
    config: Config, run_dir: Path, callbacks: list[Callback], loggers: list[Logger], module: Module, steps: int
) -> Trainer:
    """Return the Trainer.

    Args:
        config: validated, plain config; its group ``trainer`` is read.
        run_dir: Lightning's root directory.
        callbacks: all callbacks, including the progress bar.
        loggers: may be empty.
        module: with several processes, its network is checked for parameters without a gradient.
        steps: training steps per epoch, an upper bound of the logging interval; 0 without training.

    Raises:
        StemlabError: the trainer needs a GPU and none is available.
    """
    chosen = config["trainer"]
    processes = process_count(chosen)
    require_gpu(chosen)
    if chosen["threads"]:
        torch.set_num_threads(chosen["threads"])
    skip_idle_hooks(module, callbacks)
    trainer = Trainer(
        accelerator=chosen["accelerator"],
        devices=chosen["devices"],
        num_nodes=chosen["num_nodes"],
        strategy=_ddp(config, module) if processes > 1 else "auto",
        precision=lightning_precision(chosen["precision"]),
        max_epochs=chosen["max_epochs"],
        accumulate_grad_batches=chosen["accumulate_grad_batches"],
        log_every_n_steps=max(1, min(chosen["log_every_n_steps"], steps)),
        deterministic=chosen["deterministic"],
        # a training in blocks counts blocks; its loader limits the steps
        limit_train_batches=None if module.blocks is not None else chosen["limit_train_batches"],
        limit_val_batches=chosen["limit_val_batches"],
        limit_test_batches=chosen["limit_test_batches"],
        callbacks=callbacks,
        logger=loggers or False,
        plugins=[AtomicCheckpointIO(), *_slurm(), *([GlobalBatchLayers()] if processes > 1 else [])],
        default_root_dir=run_dir,
        use_distributed_sampler=False,  # it would repeat samples; the datamodule distributes them over processes
        num_sanity_val_steps=0,
        enable_checkpointing=any(isinstance(callback, BestCheckpoint) for callback in callbacks),
        enable_progress_bar=any(isinstance(callback, MetricBar) for callback in callbacks),
        enable_model_summary=False,
    )
    intervals = chosen["val_check_interval"] or chosen["max_steps"]
    if chosen["loop"] == "auto" or intervals:
        loop = step_loop.install(trainer, StepLoop if chosen["loop"] == "auto" else IntervalEpochLoop)
        loop.validate_every, loop.step_limit = chosen["val_check_interval"], chosen["max_steps"]
    return trainer


def _slurm() -> list[ClusterEnvironment]:
    """Return SLURM's environment without Lightning's own requeueing: stemlab.runs.signals requeues the job."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def single_scenario_warning(config: Config, net: nn.Module) -> str | None:
    """Return a sentence if the network separates scenarios and the dataset has only one, else None."""
    if len(getattr(net, "scenarios", ())) != 1:
        return None
    dataset = config["dataset"]
    if "scenario" in dataset:
        advice = "set dataset.scenario to the scenario column and dataset.scenarios to its values"
    elif "scenarios" in dataset:
        advice = "name several in dataset.scenarios"
    else:
        advice = "use a dataset with scenarios, such as dataset=aliexpress"
    return (
        f"model={config['model']['name']} has parts per scenario, but dataset={dataset['name']} has a single scenario, "
        f"so all samples share them: {advice}, or use a multi-task model."
    )


def check_batch_norm(net: nn.Module, chosen: Config, samples: int, batch_size: int) -> None:
    """Refuse training steps of a single sample for a network with batch normalisation.

    With several processes each step has at least one sample per process, and the layers use all of them.

    Args:
        net: the network.
        chosen: group ``trainer`` of the config.
        samples: training samples per process.
        batch_size: samples per step and process.

    Raises:
        StemlabError: each step has a single sample and the network normalises over the batch.
    """
    layers = [name for name, part in net.named_modules() if isinstance(part, nn.BatchNorm1d)]
    if min(samples, batch_size) != 1 or not layers or process_count(chosen) > 1:
        return
    advice = "set dataset.batch_size to 2 or more" if samples > 1 else "there is 1 training sample"
    raise StemlabError(
        f"batch normalisation (layer {layers[0]}) needs at least 2 samples per step: {advice}, or train a "
        "model without it (model.net.batch_norm=false)."
    )


def require_gpu(chosen: Config) -> None:
    """Raise StemlabError if the trainer needs a GPU and none is available."""
    if chosen["accelerator"] == "gpu" and not torch.cuda.is_available():
        option = "trainer=ddp_cpu or trainer=cpu" if chosen["name"].startswith("ddp") else "trainer=cpu"
        raise StemlabError(
            f"trainer.accelerator=gpu needs a GPU, but PyTorch finds none: set {option}, and leave out "
            "trainer.accelerator=gpu."
        )


def _ddp(config: Config, module: Module) -> Strategy:
    sizes, plan = module.sizes if isinstance(module, MultiTaskModule) else None, plan_tables(config, module.net)
    arguments: dict[str, Any] = {
        "process_group_backend": config["trainer"]["process_group_backend"],
        "find_unused_parameters": has_unused_parameters(module.net, sizes),
        "gradient_as_bucket_view": True,  # avoids a second copy of the dense gradients of the embedding tables
    }
    return RankStrategy(**arguments) if plan is None else ShardedStrategy(plan, **arguments)
