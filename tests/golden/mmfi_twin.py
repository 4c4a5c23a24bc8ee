"""Write files in the format of golden/mmfi with the plain MMFI of ``scripts/bench``, for kinds that may be missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from scripts.bench.mmfi_twin import PlainMMFI

SAMPLES = 32
RECORDED = ("share_bottom", "linear_share_bottom")
GRIDS = ("gates", "masks", "attention_tower", "linear_tower")


def write(path: Path, meta: dict, scenario: int | None = None) -> None:
    """Write a file; ``scenario`` is the scenario of all samples; ``None``: each scenario has some."""
    torch.manual_seed(meta["seed"])
    dims, tasks = meta["categorical_field_dims"], meta["task_num"]
    numericals = meta["user_numerical_dim"], meta["item_numerical_dim"]
    sizes = (meta["embed_dim"], meta["expert_num"], meta["hard_sparse"], meta["indicator_dim"])
    twin = PlainMMFI(dims, *numericals, tasks, *sizes)
    randomise(twin)
    ids = torch.stack([torch.randint(0, rows, (SAMPLES,)) for rows in dims], dim=1)
    ids[:, 0] = torch.arange(SAMPLES) % dims[0] if scenario is None else scenario
    dense, labels = torch.randn(SAMPLES, sum(numericals)), torch.randint(0, 2, (SAMPLES, tasks)).float()
    out: dict[str, object] = named("param", twin.state_dict())
    out |= {"input/categorical": ids, "input/scenario_id": ids[:, 0], "input/numerical": dense, "input/labels": labels}
    for mode in ("eval", "train"):
        net = deepcopy(twin).train(mode == "train")
        with recorded(net) as seen:
            predictions = net(ids, dense)
        out |= {f"output/{mode}_{key}": value for key, value in seen.items()}
        out |= {f"output/{mode}_pred_task{t}": p for t, p in enumerate(predictions)}
        if mode == "train":
            out |= named("aftertrainforward", {k: v for k, v in net.state_dict().items() if is_buffer(k)})
        losses = [functional.binary_cross_entropy(p, labels[:, t]) for t, p in enumerate(predictions)]
        out |= {f"loss/{mode}_bce_task{t}": loss for t, loss in enumerate(losses)}
        total = torch.stack(losses).mean()
        out["loss/total" if mode == "train" else "loss/eval_total"] = total
        total.backward()
        gradients = {k: torch.zeros_like(p) if p.grad is None else p.grad for k, p in net.named_parameters()}
        out |= named("grad" if mode == "train" else "grad_evalmode", gradients)
    out["gradnone"] = np.array([k for k, p in net.named_parameters() if p.grad is None])
    for key, decay in (("step1", 0.0), ("step1_wd_0.01", 0.01)):
        moved = deepcopy(net)
        for mine, theirs in zip(moved.parameters(), net.parameters(), strict=True):
            mine.grad = theirs.grad
        torch.optim.Adam(moved.parameters(), lr=1e-3, weight_decay=decay).step()
        out |= named(key, moved.state_dict())
    arrays = {k: v.detach().numpy().copy() if isinstance(v, Tensor) else v for k, v in out.items()}
    np.savez(path, **arrays, **{"meta/json": np.array(json.dumps({"model": "MMFI", "scenario_num": dims[0], **meta}))})


def named(prefix: str, state: dict[str, Tensor]) -> dict[str, object]:
    return {f"{prefix}/{name}": value.clone() for name, value in state.items()}


def is_buffer(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def randomise(twin: PlainMMFI) -> None:
    """Give each parameter and buffer a seeded random value, so that small or equal values hide no error."""
    with torch.no_grad():
        for name, value in twin.state_dict().items():
            if "running_var" in name or (value.ndim == 1 and name.endswith("weight")):
                value.uniform_(0.5, 1.5)
            elif value.ndim == 1:
                value.normal_(0, 0.1)
            elif value.ndim > 1:
                value.normal_(0, 0.5 if "embedding" in name or value.ndim == 3 else 1.2 / value.shape[1] ** 0.5)


@contextmanager
def recorded(net: PlainMMFI) -> Iterator[dict[str, Tensor]]:
    """Collect outputs of modules under the keys of the files."""
    seen: dict[str, Tensor] = {}

    def watch(key: str) -> object:
        def keep(module: object, inputs: object, output: Tensor) -> None:
            call = sum(name.startswith(f"{key}_call") for name in seen)
            seen[f"{key}_call{call}"] = output.detach()

        return keep

    modules = dict(net.named_modules())
    keys = [*RECORDED, *(k for k in modules if k.split(".")[0] in GRIDS and k.count(".") == 2)]
    handles = [modules[key].register_forward_hook(watch(key)) for key in keys]
    for task, tower in enumerate(net.last):
        handles.append(
            tower.register_forward_pre_hook(lambda m, x, t=task: seen.update({f"tower_input_task{t}": x[0]}))
        )
        handles.append(tower.register_forward_hook(watch(f"logit_task{task}")))
    yield seen
    for handle in handles:
        handle.remove()
