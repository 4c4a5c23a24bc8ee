"""Adapters that run the published implementations from a checkout, for the option ``--published DIR`` of the scripts.

The published sources are not part of this repository; docs/benchmarks.md names repositories and commits. Only the
import of ``h5py`` (file formats of FuxiCTR, not used by a training step) is replaced where the package is missing.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module, util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

COMMITS = {
    "LiangcaiSu/STEM": "769e2af0d0d1a0be9f58b475b95e05f502a20df5",
    "EnnengYang/MMFI": "1bfaf547b032132bea8a6f270e2260ef1954b62b",
    "THUwangcy/ReChorus (branch CIKM22)": "b53832b162571ddb898db3a6fa359881e35a7352",
    "easezyc/Multitask-Recommendation-Library": "8c6529c8525ef9c9d2c05794291cdcde1e4f1541",
}


def load(folder: Path, module: str) -> Any:
    """Import ``module`` from a checkout, whose top-level packages have general names such as ``models``."""
    file = folder.joinpath(*module.split("."))
    if not (file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()):
        sys.exit(f"error: --published: {folder} holds no module {module}; see docs/benchmarks.md.")
    if "h5py" not in sys.modules and util.find_spec("h5py") is None:
        sys.modules["h5py"] = ModuleType("h5py")
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
    return import_module(module)


def multitask_model(folder: Path, name: str, sizes: Mapping[str, int], net: Mapping[str, Any], tasks: int) -> Any:
    """Return a network of LiangcaiSu/STEM.

    Args:
        folder: Checkout.
        name: Class of the network: ``STEM``, ``MMoE`` or ``PLE``.
        sizes: Field -> number of rows of its table.
        net: Arguments of the network.
        tasks: Number of tasks.
    """
    features = load(folder, "fuxictr.features").FeatureMap("bench", str(folder))
    features.num_fields, features.labels = len(sizes), [f"label{task}" for task in range(tasks)]
    for field, rows in sizes.items():
        features.features[field] = {"source": "", "type": "categorical", "vocab_size": rows, "padding_idx": 0}
    features.set_column_index()
    every = {"num_tasks": tasks, "task": ["binary_classification"] * tasks, "loss": ["binary_crossentropy"] * tasks}
    runner = {"optimizer": "adam", "learning_rate": 1e-3, "model_root": "", "metrics": [], "verbose": 0}
    return getattr(load(folder, "models"), name)(features, **every, **runner, **net)


def multitask_step(
    folder: Path, name: str, sizes: Mapping[str, int], net: Mapping[str, Any], batch: tuple[Tensor, Tensor], half: bool
) -> Callable[[], float]:
    """Return the training step of a network of LiangcaiSu/STEM: its ``train_step`` on one batch.

    Args:
        folder: Checkout.
        name: Class of the network.
        sizes: Field -> number of rows of its table.
        net: Arguments of the network, ``embedding_regularizer`` included.
        batch: Ids (B, F) and labels (B, T).
        half: Run the forward pass under autocast in bf16; its probabilities go back to float32 for the loss.
    """
    ids_BF, labels_BT = batch
    model = multitask_model(folder, name, sizes, net, labels_BT.shape[1])
    model._max_gradient_norm = 10.0
    model.train()
    if half:
        _use_autocast(model)
    data = torch.cat([ids_BF.double(), labels_BT.double()], dim=1)  # one float64 matrix, as its loader yields
    return lambda: float(model.train_step(data).detach())


def _use_autocast(model: nn.Module) -> None:
    plain = model.forward

    def forward(inputs: Tensor) -> dict[str, Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            found = plain(inputs)
        return {key: value.float() for key, value in found.items()}

    model.forward = forward  # type: ignore[method-assign]


def mmfi(folder: Path, fields: Sequence[int], tasks: int) -> nn.Module:
    """Return MMFIModel of EnnengYang/MMFI; ``fields`` has the number of scenarios first, then rows per field."""
    import numpy as np

    model: nn.Module = load(folder, "models.mmfi").MMFIModel(
        tasks, 16, 63, np.array(fields), expert_num=4, scenario_num=fields[0]
    )
    return model


def mmfi_step(model: nn.Module, adam: torch.optim.Optimizer, inputs: tuple[Tensor, Tensor], labels_BT: Tensor) -> float:
    """Take the training step of ``main.py`` of EnnengYang/MMFI; return the loss."""
    loss = torch.zeros(())
    for task, prediction in enumerate(model(*inputs, inputs[0].device)):
        loss = loss + nn.functional.binary_cross_entropy(prediction, labels_BT[:, task])
    loss = loss / labels_BT.shape[1]
    model.zero_grad()
    loss.backward()
    adam.step()
    return float(loss.detach())


def timirec(folder: Path, items: int, history_max: int, config: Mapping[str, Any]) -> Any:
    """Return TiMiRec of THUwangcy/ReChorus (branch CIKM22); ``items`` counts the padding row."""
    known = {"device": torch.device("cpu"), "model_path": "", "buffer": 1, "num_neg": 1, "dropout": 0, "test_all": 0}
    arguments = Namespace(**known, history_max=history_max, random_seed=0, **config)
    corpus = Namespace(n_users=1, n_items=items, dataset="bench")
    return load(folder / "src", "models.sequential.TiMiRec").TiMiRec(arguments, corpus)


def timirec_step(model: Any, adam: torch.optim.Optimizer, feed: dict[str, Any]) -> float:
    """Take the training step of ``BaseRunner.fit``; return the loss."""
    adam.zero_grad()
    loss = model.loss(model(feed))
    loss.backward()
    adam.step()
    return float(loss.detach().cpu().data.numpy())


def timirec_adam(model: Any, lr: float, l2: float) -> torch.optim.Adam:
    """Return the optimiser of ``BaseRunner``."""
    return torch.optim.Adam(model.customize_parameters(), lr=lr, weight_decay=l2)
