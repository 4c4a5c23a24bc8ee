"""Golden vectors of MTReclib's code: their content, and the stemlab network for each.

Legend: B samples, T tasks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models import multitask
from tests.golden.cases import Case

TABLE = re.compile(r"embedding\.(?:(\d+)\.)?embedding\.weight")
LAYER = re.compile(r"(.*?)(\d+)(\.(?:weight|bias|running_mean|running_var|num_batches_tracked))")
# released module name -> stemlab module name; {0}, {1} are the groups of the pattern
RULES = [
    (r"bottom\.mlp", "bottom"),
    (r"bottom\.(\d+)\.mlp", "bottoms.{0}"),
    (r"tower\.(\d+)\.mlp", "towers.{0}"),
    (r"expert\.(\d+)\.mlp", "mixture.layers.0.experts.{0}"),
    (r"gate", "mixture.layers.0.gates.0"),
    (r"gate\.(\d+)", "mixture.layers.0.gates.{0}"),
    (r"task_gates\.(\d+)\.(\d+)", "mixture.layers.{0}.gates.{1}"),
]
HEAC = [
    (r"expert\.(\d+)\.mlp", "experts.{0}"),
    (r"(?:critic|tower)s?\.(\d+)\.mlp", "critics.{0}"),
]
# whole parameter names
PLAIN = [
    (r"numerical_layer\.(weight|bias)", "embedding.numerical.{0}"),
    (r"g\.(\d+)\.(.+)", "transfers.{0}.{1}"),
    (r"h1\.(.+)", "value.{0}"),
    (r"h2\.(.+)", "key.{0}"),
    (r"h3\.(.+)", "query.{0}"),
    (r"(expert|critic)_gate(?:\.0)?\.(weight|bias)", "{0}_gate.{1}"),
    (r"task_embedding(?:\.embedding)?\.weight", "vector_TD"),
]


class PerTaskNets(nn.ModuleList):
    """SingleTask of MTReclib: one network per task, trained together."""

    def forward(self, batch: ImpressionBatch) -> Tensor:
        return torch.cat([net(batch).logit_BT for net in self], dim=1)


@dataclass(frozen=True)
class MTReclibCase(Case):
    """One file of golden/mtreclib."""

    @property
    def model(self) -> str:
        name = self.meta["model"].removesuffix("Model")
        return "MetaHeac" if "heac" in name.lower() else name

    @property
    def count(self) -> int:
        return int(self.meta["config"]["task_num"])

    def batch(self, rows: slice = slice(None)) -> ImpressionBatch:
        return ImpressionBatch(self.tensor("input/categorical")[rows], dense_BN=self.tensor("input/numerical")[rows])

    def fresh(self) -> nn.Module:
        """Return the stemlab network with the initial values of the file, in evaluation mode."""
        dims, numericals = self.meta["categorical_field_dims"], self.meta["numerical_num"]
        fields = {f"c{field}": rows for field, rows in enumerate(dims)}
        sizes = ImpressionSizes(fields, {f"x{n}": "" for n in range(numericals)})
        tasks = [f"task{t}" for t in range(self.count)]
        if self.model == "SingleTask":
            net: nn.Module = PerTaskNets(multitask.SingleTask(sizes, [task], **self.settings) for task in tasks)
        else:
            net = getattr(multitask, self.model)(sizes, tasks, **self.settings)
        net.load_state_dict(self.ours("param"))
        return net.eval()

    @property
    def settings(self) -> dict[str, Any]:
        """Return the stemlab settings for those of the file."""
        theirs = dict(self.meta["config"])
        bottom, tower = theirs["bottom_mlp_dims"], theirs["tower_mlp_dims"]
        common = {"embedding_dim": theirs["embed_dim"], "net_dropout": theirs["dropout"], "padding": False}
        common |= {"batch_norm": True, "init": "mtreclib"}
        if self.model == "MetaHeac":
            own = {"num_experts": theirs["expert_num"], "num_critics": theirs["critic_num"], "critics": "mean"}
            return common | own | {"expert_hidden_units": bottom, "critic_hidden_units": tower}
        common["tower_hidden_units"] = tower
        if self.model in ("OMoE", "MMoE"):
            gated = {"expert_hidden_units": bottom, "gate_hidden_units": []}
            return common | gated | {"num_experts": theirs["expert_num"]}
        if self.model == "PLE":
            experts = {f"num_{kind}_experts": theirs[key] for kind, key in PLE_EXPERTS.items()}
            widths = {"expert_hidden_units": bottom, "num_layers": len(bottom), "one_width_per_layer": True}
            return common | experts | widths | {"gate_hidden_units": [], "shared_gate": "all"}
        return common | {"bottom_hidden_units": bottom}

    def ours(self, prefix: str) -> dict[str, Tensor]:
        """Return the arrays ``prefix/<name>``, by stemlab names; the concatenated table is split into tables."""
        return {ours: part for name, value in self.group(prefix).items() for ours, part in self._renamed(name, value)}

    def _renamed(self, name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
        if match := TABLE.fullmatch(name):
            task = f"{match[1]}." if match[1] else ""
            parts = value.split(self.meta["categorical_field_dims"])
            yield from ((f"{task}embedding.tables.{field}.weight", part) for field, part in enumerate(parts))
        else:
            yield self.our_name(name), value

    def our_name(self, name: str) -> str:
        """Return the stemlab name of a parameter or buffer; raise KeyError if no rule matches."""
        if self.model == "SingleTask":
            kind, task, rest = re.fullmatch(r"(\w+)\.(\d+)\.(?:mlp\.)?(.+)", name).groups()
            if kind == "numerical_layer":
                return f"{task}.embedding.numerical.{rest}"
            return f"{task}.{'bottom' if kind == 'bottom' else 'towers.0'}.{_layer(rest)}"
        for pattern, target in PLAIN:
            if match := re.fullmatch(pattern, name):
                return target.format(*match.groups())
        module, number, rest = LAYER.fullmatch(name).groups()
        layer = _layer(number + rest)
        if self.model == "PLE" and (found := self._of_ple(module.rstrip("."))):
            return f"{found}.{layer}"
        for pattern, target in HEAC if self.model == "MetaHeac" else RULES:
            if match := re.fullmatch(pattern, module.rstrip(".")):
                return f"{target.format(*match.groups())}.{layer}"
        raise KeyError(name)

    def _of_ple(self, module: str) -> str | None:
        own = self.meta["config"]["specific_expert_num"]
        if match := re.fullmatch(r"task_experts\.(\d+)\.(\d+)\.(\d+)\.mlp", module):
            layer, task, expert = map(int, match.groups())
            return f"mixture.layers.{layer}.experts.{task * own + expert}"
        if match := re.fullmatch(r"share_experts\.(\d+)\.(\d+)\.mlp", module):
            return f"mixture.layers.{match[1]}.experts.{self.count * own + int(match[2])}"
        match = re.fullmatch(r"share_gates\.(\d+)", module)
        return f"mixture.layers.{match[1]}.gates.{self.count}" if match else None


PLE_EXPERTS = {"shared": "shared_expert_num", "specific": "specific_expert_num"}


def _layer(name: str) -> str:
    """Return ``<number>.<rest>`` with the stemlab index: MTReclib has a dropout after each activation."""
    number, _, rest = name.partition(".")
    block, inside = divmod(int(number), 4)
    return f"{3 * block + inside}.{rest}"


def logits(net: nn.Module, batch: ImpressionBatch) -> Tensor:
    """Return (B, T)."""
    output = net(batch)
    return output if isinstance(output, Tensor) else output.logit_BT


def observe(net: nn.Module, case: MTReclibCase, batch: ImpressionBatch) -> dict[str, Tensor]:
    """Return the outputs under the keys of the files, without ``output/`` and the mode."""
    seen: dict[str, Tensor] = {}
    output = net(batch)
    logit_BT = output if isinstance(output, Tensor) else output.logit_BT
    gates = () if isinstance(output, Tensor) else output.gates
    for task, logit_B in enumerate(logit_BT.unbind(dim=1)):
        seen[f"logit_tower.{task}"], seen[f"pred_task{task}"] = logit_B, logit_B.sigmoid()
    for number, layer in enumerate(gates):
        for gate, weight_BE in enumerate(layer):
            seen[_gate_key(case, number, gate)] = weight_BE
    return seen


def _gate_key(case: MTReclibCase, layer: int, gate: int) -> str:
    if case.model == "PLE":
        return f"gate_share_gates.{layer}.1" if gate == case.count else f"gate_task_gates.{layer}.{gate}.1"
    return "gate_gate.1" if case.model == "OMoE" else f"gate_gate.{gate}.1"


def find(folder: Path) -> list[MTReclibCase]:
    """Return the cases in a folder of ``.npz`` files, or in the folder ``mtreclib`` below it."""
    below = folder / "mtreclib"
    paths = sorted((below if below.is_dir() else folder).glob("*.npz"))
    return [MTReclibCase(path) for path in paths if _is_mtreclib(path)]


def _is_mtreclib(path: Path) -> bool:
    with np.load(path, allow_pickle=False) as stored:
        names = stored.files
        if "meta/json" not in names or not any(name.startswith("param/numerical_layer.") for name in names):
            return False
        return "bottom_mlp_dims" in json.loads(str(stored["meta/json"])).get("config", {})
