"""Golden vectors of the released sequential code, and the stemlab network for each file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.sequential.base import SequenceNet
from tests.golden.sequential_models import MODELS, Model
from tests.golden.stored import StoredCase

FOLDERS = ("timirec", "rechorus")


@dataclass(frozen=True)
class Case(StoredCase):
    """One file of the released sequential code."""

    @property
    def model(self) -> str:
        """Model name in the released code; derived from the parameters in trajectory files."""
        return self.meta.get("model") or ("TiMiRec" if "param/interest_extractor.W1.weight" in self.arrays else "")

    def tensor(self, key: str) -> Tensor:
        """Return an array as a tensor; integers are int64."""
        values = super().tensor(key)
        return values if values.is_floating_point() else values.long()

    @cached_property
    def names(self) -> dict[str, tuple[str, str]]:
        """Released parameter name -> stemlab name and part."""
        return MODELS[self.model].mapping(list(self.group("param")))

    def ours(self, prefix: str) -> dict[str, Tensor]:
        """Return the arrays ``prefix/<parameter>``, by stemlab names."""
        parts: dict[str, dict[str, Tensor]] = {}
        for theirs, value in self.group(prefix).items():
            name, part = self.names[theirs]
            parts.setdefault(name, {})[part] = value
        return {name: torch.cat([found[part] for part in sorted(found)]) for name, found in parts.items()}

    def absent(self, key: str) -> set[str]:
        """Return the stemlab names of the parameters without a gradient."""
        return {self.names[name][0] for name in self.arrays[key].tolist() if name}

    @property
    def sizes(self) -> SequenceSizes:
        """Sizes without padding; sizes that the file lacks are read from its tables."""
        stored = {**self.meta.get("config", {}), **self.meta}
        params, counts = self.ours("param"), self.arrays.get("output/popularity", ())
        items = stored.get("n_items") or max(len(params.get("items.weight", ())), len(counts))
        users = stored.get("n_users") or max(len(params.get("users.weight", ())), 1)
        return SequenceSizes(users - 1, items - 1, int(stored.get("history_max", 1)))

    def net(self) -> SequenceNet:
        """Return the stemlab network with the starting values and the training pairs, in evaluation mode."""
        entry: Model = MODELS[self.model]
        net = entry.net(self.sizes, **entry.chosen({**self.meta, **self.meta.get("config", {})}))
        net.load_state_dict(self.ours("param"))
        for key in ("input/train_edges", "input/train_log"):
            if key in self.arrays:
                net.observe(*self.tensor(key)[:, :2].T)
        return net.eval()

    def batch(self, name: str) -> SequenceBatch:
        """Return the batch ``train``, ``eval``, ``batch1`` ...; a file without names has one unnamed batch."""
        prefix = f"input/{name}_" if f"input/{name}_item_id" in self.arrays else "input/"
        candidates_BN = self.tensor(f"{prefix}item_id")

        def read(key: str, default: Tensor | None) -> Tensor | None:
            return self.tensor(prefix + key) if prefix + key in self.arrays else default

        ones_B = torch.ones(len(candidates_BN), dtype=torch.long)
        return SequenceBatch(
            user_B=read("user_id", ones_B),
            history_BL=read("history_items", ones_B.unsqueeze(1)),
            length_B=read("lengths", ones_B),
            candidates_BN=candidates_BN,
            time_BL=read("history_times", None),
            unit_B=read("user_min_intervals", None),
        )

    def routed(self, net: SequenceNet, name: str) -> SequenceNet:
        """Replace drawn routing logits by those of the file for a batch."""
        key = f"input/{name}_routing_logits"
        if key in self.arrays:
            net.routing_logits = lambda batch, phase: self.tensor(key).to(net.items.weight.dtype)
        return net


def find(folder: Path) -> list[Case]:
    """Return the sequential cases in a folder of ``.npz`` files, or in the folders of this family below it."""
    below = [folder / name for name in FOLDERS if (folder / name).is_dir()] or [folder]
    cases = [Case(path) for root in below for path in sorted(root.glob("*.npz"))]
    return [case for case in cases if "meta/json" in case.arrays and case.model in MODELS]
