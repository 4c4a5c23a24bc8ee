"""Training of the experiments tiktok_conflict/* in a plain loop with stemlab's networks, data and optimiser.

A separate module, so that worker processes can import it.
"""

import copy

import numpy as np
import torch

from stemlab.config.compose import compose
from stemlab.config.instantiate import validate_as
from stemlab.metrics.auc import auc
from stemlab.nn.loss import task_losses
from stemlab.optim import OptimConfig, build_optimizer, clip_gradients, parse_penalty
from stemlab.runs.build import build_datamodule, build_net


def sample_auc(model, conflict, seed, data_dir, /, **sample):
    """Return the test AUC of finish and like at the epoch with the best validation AUC."""
    torch.set_num_threads(1)
    overrides = [f"dataset.sample.{key}={value}" for key, value in {"conflict": conflict, **sample}.items()]
    overrides += [f"experiment=tiktok_conflict/{model}", f"seed={seed}", f"paths.data_dir={data_dir}"]
    config = compose("train", overrides)
    data = build_datamodule(config)
    data.prepare_data()
    data.setup("fit")
    torch.manual_seed(seed)
    net = build_net(config, data.spec)
    weights = _best_epoch(net, data, config)
    net.load_state_dict(weights)
    return dict(zip(data.spec.tasks, _aucs(net, data.test_dataloader()), strict=True))


def _best_epoch(net, data, config):
    optim = validate_as(OptimConfig, config["optim"])
    penalty = parse_penalty(config["model"]["embedding_regularizer"])
    optimizer = build_optimizer(net, optim, penalty, parse_penalty(0.0), "dense")
    best, weights = -1.0, None
    for epoch in range(config["trainer"]["max_epochs"]):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad()
            task_losses(net(batch).logit_BT, batch.labels_BT).sum().backward()
            clip_gradients(optimizer, optim.clip_norm)
            optimizer.step()
        value = float(np.mean(_aucs(net, data.val_dataloader())))
        if value < best + config["callbacks"]["early_stop"]["min_delta"]:
            break
        best, weights = value, copy.deepcopy(net.state_dict())
    return weights


@torch.no_grad()
def _aucs(net, batches):
    scored = [(net(batch).logit_BT, batch.labels_BT) for batch in batches]
    logit_RT, labels_RT = (torch.cat(parts).numpy() for parts in zip(*scored, strict=True))
    return [auc(labels, logit) for labels, logit in zip(labels_RT.T, logit_RT.T, strict=True)]
