"""Outputs of the stemlab network under the keys of the files.

Legend: B samples, F fields, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stemlab.models.multitask import AITM, ESMM, STEM, OMoE, SharedBottom
from stemlab.models.multitask.base import TabularNet
from stemlab.nn.experts import expert_group_shares

LAYER_NAMES = {"STEM": "stem_layers{}", "PLE": "cgc_layers{}", "MMoE": "mmoe_layer", "OMoE": "omoe_layer"}


def observe(net: TabularNet, ids_BF: Tensor) -> dict[str, Tensor]:
    """Return key -> value for all outputs that a file may contain, without the prefixes ``output/`` and mode."""
    inputs = net.embedding(ids_BF)
    seen = {"feature_emb": torch.stack([t(ids_BF[:, f]) for f, t in enumerate(net.embedding.tables)], dim=1)}
    logits, _ = net.score(inputs)
    for task, logit_B1 in enumerate(logits):
        seen[f"logit_task{task}"] = logit_B1
        seen[f"pred_task{task}"] = logit_B1.sigmoid()
    if isinstance(net, ESMM):  # the files hold the logits of the towers, in tower order
        seen["logit_task0"], seen["logit_task1"] = net.conversion(inputs[0]), net.click(inputs[0])
    if isinstance(net, SharedBottom):
        seen["bottom"] = net.bottom(inputs[0])
    if isinstance(net, AITM):
        seen |= {f"bottom{task}": bottom(inputs[0]) for task, bottom in enumerate(net.bottoms)}
    if hasattr(net, "mixture"):
        seen |= _mixtures(net, inputs)
    return seen


def _mixtures(net: TabularNet, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """Run the layers with all gates, including those that the network does not compute."""
    seen: dict[str, Tensor] = {}
    paths = len(net.tasks) + 1
    if isinstance(net, STEM):
        inputs = net.paths(inputs)
        names = [f"task{task}" for task in range(len(net.tasks))] + ["shared"]
        seen |= {f"stem_input_{name}": value for name, value in zip(names, inputs, strict=True)}
    elif type(net).__name__ == "PLE":
        inputs = [inputs[0]] * paths
    for number, layer in enumerate(net.mixture.layers):
        mixed, weights = layer(inputs)
        if isinstance(net, OMoE):  # the files list its only gate once per task
            mixed, weights = mixed * len(net.tasks), weights * len(net.tasks)
        name = LAYER_NAMES[type(net).__name__].format(number)
        for gate, (mixture, weight) in enumerate(zip(mixed, weights, strict=True)):
            seen[f"gate_{name}_{gate}"], seen[f"layerout_{name}_{gate}"] = weight, mixture
            seen[f"gatemean_layer{number}_task{gate}"] = weight.mean(dim=0)
            if gate < len(layer.gates):
                shares = expert_group_shares(weight, layer.layout.visible_experts[gate], layer.layout.expert_groups)
                seen[f"gatesummary_layer{number}_task{gate}"] = torch.stack(list(shares.values()))
        inputs = mixed
    return seen
