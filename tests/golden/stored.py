"""One ``.npz`` file of golden vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class StoredCase:
    """One file: inputs and outputs of the released code."""

    path: Path

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}

    @cached_property
    def meta(self) -> dict:
        return json.loads(str(self.arrays["meta/json"]))

    @property
    def trajectory(self) -> bool:
        return "loss/per_step" in self.arrays

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(self.arrays[key].copy())

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Return the arrays ``prefix/<name>``, by the released names."""
        keys = [key for key in self.arrays if key.startswith(prefix + "/")]
        return {key.removeprefix(prefix + "/"): self.tensor(key) for key in keys}
