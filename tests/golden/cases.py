"""Golden vectors of the released multi-task code, and the stemlab network for each file."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from stemlab.models import multitask
from stemlab.models.multitask.base import TabularNet
from stemlab.optim import Penalty, parse_penalty
from tests.golden.names import Names, fields_of
from tests.golden.stored import StoredCase

MODELS = {name: getattr(multitask, name) for name in ("SharedBottom", "OMoE", "MMoE", "PLE", "STEM", "ESMM", "AITM")}
NOT_OF_THE_NET = {"gpu", "learning_rate", "loss", "optimizer", "verbose", "embedding_regularizer", "net_regularizer"}


@dataclass(frozen=True)
class Case(StoredCase):
    """One file of the released multi-task code."""

    @cached_property
    def tasks(self) -> list[str]:
        return [f"task{i}" for i in range(self.arrays["input/labels"].shape[-1])]

    @cached_property
    def names(self) -> Names:
        fields = fields_of(list(self.group("param")))
        return Names(self.meta["model"], fields, len(self.tasks), self.meta["config"].get("num_specific_experts", 0))

    @property
    def penalties(self) -> tuple[Penalty, Penalty]:
        config = self.meta["config"]
        return parse_penalty(config.get("embedding_regularizer")), parse_penalty(config.get("net_regularizer"))

    def ours(self, prefix: str) -> dict[str, Tensor]:
        """Return the arrays ``prefix/<name>``, by stemlab names."""
        return {self.names.ours(name): value for name, value in self.group(prefix).items()}

    def absent(self, key: str) -> set[str]:
        """Return the stemlab names of the parameters without a gradient."""
        return {self.names.ours(name) for name in self.arrays[key].tolist() if name}

    def net(self, cls: type[TabularNet] | None = None) -> TabularNet:
        """Return the stemlab network with the initial values of the file, in evaluation mode."""
        cls = cls or MODELS[self.meta["model"]]
        tables = self.group("param")
        rows = [len(tables[f"embedding_layer.embedding_layer.embedding_layers.{f}.weight"]) for f in self.names.fields]
        config = {k: v for k, v in self.meta["config"].items() if k not in NOT_OF_THE_NET}
        unknown = set(config) - set(inspect.signature(cls.__init__).parameters)
        assert not unknown, f"{self.path.name}: no stemlab setting for {unknown}"
        config["padding"] = self.meta.get("padding_idx", 0) is not None
        net = cls(dict(zip(self.names.fields, rows, strict=True)), self.tasks, **config)
        net.load_state_dict(self.ours("param"))
        return net.eval()


def find(folder: Path) -> list[Case]:
    """Return the multi-task cases in a folder of ``.npz`` files, or in the folder ``stem`` below it."""
    below = folder / "stem"
    cases = [Case(path) for path in sorted((below if below.is_dir() else folder).glob("*.npz"))]
    return [case for case in cases if _is_ours(case)]


def _is_ours(case: Case) -> bool:
    with np.load(case.path, allow_pickle=False) as stored:
        if "meta/json" not in stored.files or not any("embedding_layer.embedding_layer" in k for k in stored.files):
            return False
        return json.loads(str(stored["meta/json"])).get("model") in MODELS
