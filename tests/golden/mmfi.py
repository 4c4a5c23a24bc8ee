"""Golden vectors of MMFI's released code: their content, and the stemlab network for each.

The released code has one table for all fields, one module per scenario and task, and flattens (slot, expert output);
stemlab has tables of two blocks, stacked parameters per scenario, and flattens (expert output, slot).

Legend: B samples, R samples of one scenario, T tasks, S scenarios, Q slots (pairs or fields), M outputs of an expert.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.multiscenario.mmfi import MMFI
from tests.golden.cases import Case

UNUSED = ("linear_gates.", "scenario_linear.", "task_linear.")
BRANCHES = {"pair_attention": "", "field_attention": "linear_"}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class MMFICase(Case):
    """One file of golden/mmfi."""

    @property
    def hard(self) -> bool:
        return bool(self.meta["hard_sparse"])

    @property
    def tasks(self) -> list[str]:
        return [f"task{t}" for t in range(self.meta["task_num"])]

    @property
    def scenarios(self) -> int:
        return int(self.meta["scenario_num"])

    @cached_property
    def dims(self) -> list[int]:
        return self.meta["categorical_field_dims"][1:]

    def batch(self, rows: slice = slice(None)) -> ImpressionBatch:
        ids_BF = self.tensor("input/categorical")[rows]
        return ImpressionBatch(
            ids_BF[:, 1:], dense_BN=self.tensor("input/numerical")[rows], scenario_B=ids_BF[:, 0].int()
        )

    def fresh(self, **settings: object) -> MMFI:
        """Return the stemlab network with the initial values of the file, in evaluation mode."""
        net = self.build(**settings)
        net.load_state_dict(self.ours("param"))
        return net.eval()

    def build(self, **settings: object) -> MMFI:
        parts = {"user": self.meta["user_numerical_dim"], "item": self.meta["item_numerical_dim"]}
        sizes = ImpressionSizes(
            fields={f"c{number}": rows for number, rows in enumerate(self.dims, start=1)},
            numericals={f"{part}{number}": part for part, count in parts.items() for number in range(count)},
            scenarios=tuple(f"s{number}" for number in range(self.scenarios)),
        )
        theirs = {
            "embedding_dim": self.meta["embed_dim"],
            "sparse": "tanh_relu" if self.hard else "softmax_t",
            "num_shared_experts": self.meta["expert_num"],
            "num_specific_experts": self.meta["expert_num"] // 2,
            "indicator_dim": self.meta["indicator_dim"],
            "published": True,
            "padding": False,
        }
        return MMFI(sizes, self.tasks, **{**theirs, **settings})

    def ours(self, prefix: str) -> dict[str, Tensor]:
        """Return the arrays ``prefix/<name>`` by stemlab's names; if parameters are missing, only complete ones."""
        return renamed(self.group(prefix), self)


def renamed(theirs: dict[str, Tensor], case: MMFICase) -> dict[str, Tensor]:
    """Return the stemlab state for a released one (or gradients, or running statistics only)."""
    S, T = case.scenarios, len(case.tasks)
    found: dict[str, Tensor] = {}

    def cells(s: int, name: str) -> list[Tensor]:
        return [theirs[name.format(s=s, t=t)] for t in range(T)]

    if "interact_weights" in theirs:
        found |= _shared(theirs, case)
    for branch, prefix in BRANCHES.items():
        towers = "linear_tower" if prefix else ("masks" if case.hard else "attention_tower")
        if whole := f"{towers}.0.0.0.weight" in theirs:
            slots = len(theirs[f"{towers}.0.0.0.weight"])
            found |= _branch(theirs, branch, prefix, case)
        for s in range(S):
            own = f"{branch}.own.{s}"
            if whole:
                tower_TQX = torch.stack(cells(s, towers + ".{s}.{t}.0.weight"))
                by_output = tower_TQX.view(T, slots, slots, -1).transpose(
                    2, 3
                )  # inputs: (slot, output) -> (output, slot)
                found[f"{own}.tower_TQX"] = by_output.reshape(T, slots, -1)
                found[f"{own}.bias_TQ"] = torch.stack(cells(s, towers + ".{s}.{t}.0.bias"))
            for name in NORM:
                if f"{towers}.{s}.0.1.{name}" in theirs:
                    values = cells(s, towers + ".{s}.{t}.1." + name)
                    found[f"{own}.norm.{name}"] = values[0] if name.endswith("tracked") else torch.cat(values)
    for name, value in theirs.items():
        if match := re.fullmatch(r"last\.(\d+\..+)", name):
            found[f"towers.{match[1]}"] = value
    return found


def _shared(theirs: dict[str, Tensor], case: MMFICase) -> dict[str, Tensor]:
    """Return the parameters that all scenarios and tasks share, and the gates."""
    S, T = case.scenarios, len(case.tasks)
    tables = (theirs[f"{table}.embedding.weight"].split(case.dims) for table in ("embedding", "linear_layer"))
    found = {f"embedding.tables.{f}.weight": torch.cat(pair, dim=1) for f, pair in enumerate(zip(*tables, strict=True))}
    for number, part in enumerate(("user", "item")):
        for name in ("weight", "bias"):
            both = [theirs[f"{part}_numerical_{kind}.{name}"] for kind in ("layer", "linear")]
            found[f"numerical.lines.{number}.{name}"] = torch.cat(both)
    found["scenario_vector_SI"] = theirs["scenario_embedding.embedding.weight"]
    found["task_vector_TI"] = theirs["task_embedding.embedding.weight"]
    found["cell_weight_ST"] = theirs["scenario_task_weights"].squeeze(2).t()
    found["pair_weight_P"] = theirs["interact_weights"].flatten()
    found["bias_STE"] = theirs["bias"].transpose(0, 1)
    if case.hard:
        out = [[theirs[f"attention_tower.{s}.{t}.0.weight"].squeeze(0) for t in range(T)] for s in range(S)]
        found["out_weight_STP"] = torch.stack([torch.stack(row) for row in out])
    for s in range(S):
        for name, ours in (("weight", "weight_TGX"), ("bias", "bias_TG")):
            found[f"gates.{s}.{ours}"] = torch.stack([theirs[f"gates.{s}.{t}.0.{name}"] for t in range(T)])
    return found


def _branch(theirs: dict[str, Tensor], branch: str, prefix: str, case: MMFICase) -> dict[str, Tensor]:
    """Return bottom and experts of a branch."""
    found = {}
    shared, own = case.meta["expert_num"], case.meta["expert_num"] // 2
    for name, ours in (("weight", "weight_TYH"), ("bias", "bias_TY")):
        found[f"{branch}.bottom.{name}"] = theirs[f"{prefix}share_bottom.{name}"]
        experts = [theirs[f"{prefix}share_experts.{k}.{name}"] for k in range(shared)]
        found[f"{branch}.shared.{name}"] = torch.cat(experts)
        for s in range(case.scenarios):
            rows = [
                torch.cat([theirs[f"{prefix}specific_experts.{s}.{t}.{k}.{name}"] for k in range(own)])
                for t in range(len(case.tasks))
            ]
            found[f"{branch}.own.{s}.{ours}"] = torch.stack(rows)
    return found


# ---- intermediates


def observe(net: MMFI, batch: ImpressionBatch) -> dict[str, Tensor]:
    """Return the outputs under the keys of the files, without ``output/`` and the mode.

    Outputs per scenario and task are in ``observe_cells``.
    """
    state_BTX = net.states(net.inputs(batch))
    seen = {}
    for t, logit_B1 in enumerate(net.score(net.inputs(batch))[0]):
        seen |= {f"logit_task{t}_call0": logit_B1, f"pred_task{t}": logit_B1.sigmoid()}
        seen[f"tower_input_task{t}"] = state_BTX[:, t]
        seen[f"task_embedding_call{t}"] = net.task_vector_TI[t].expand(len(batch), 1, -1)
    seen["scenario_embedding_call0"] = net.scenario_vector_SI[batch.scenario_B.long()].unsqueeze(1)
    field_BFX, _ = net.inputs(batch)
    pair_BFE, field_BFE = field_BFX.split(net.dim, dim=2)
    i, j = torch.triu_indices(len(net.fields), len(net.fields), 1)
    seen["product_layer_call0"] = pair_BFE[:, i] * pair_BFE[:, j]
    scaled = seen["product_layer_call0"] * net.pair_weight_P[:, None]
    seen["share_bottom_call0"] = net.pair_attention.bottom(scaled)
    seen["linear_share_bottom_call0"] = net.field_attention.bottom(field_BFE)
    return seen


def observe_cells(net: MMFI, batch: ImpressionBatch, hard: bool) -> dict[str, tuple[Tensor, Tensor]]:
    """Return key -> (samples, values): attention and gates per scenario and task, on the samples of that scenario."""
    seen = {}
    pairs = "masks" if hard else "attention_tower"
    for s, part in enumerate(net.attend(net.inputs(batch))):
        indicator_TI = net.cell_weight_ST[s, :, None] * net.scenario_vector_SI[s] * net.task_vector_TI
        for t in range(len(net.tasks)):
            seen[f"{pairs}.{s}.{t}_call0"] = part.samples, part.pair_RTP[:, t]
            seen[f"linear_tower.{s}.{t}_call0"] = part.samples, part.field_RTF[:, t]
            for call, slot_RQE in enumerate((part.pair_RPE, part.field_RFE)):
                seen[f"gates.{s}.{t}_call{call}"] = part.samples, net.gates[s](slot_RQE, indicator_TI)[:, :, t]
            if hard:
                scale_P = net.out_weight_STP[s, t]
                mixed = (part.pair_RTP[:, t] * scale_P).unsqueeze(2) * part.pair_RPE
                seen[f"attention_tower.{s}.{t}_call0"] = part.samples, mixed.sum(dim=1).unsqueeze(2)
    return seen


def find(folder: Path) -> list[MMFICase]:
    """Return the cases in a folder of ``.npz`` files, or in the folder ``mmfi`` below it."""
    below = folder / "mmfi"
    return [MMFICase(path) for path in sorted((below if below.is_dir() else folder).glob("*.npz")) if _is_mmfi(path)]


def _is_mmfi(path: Path) -> bool:
    with np.load(path, allow_pickle=False) as stored:
        return "meta/json" in stored.files and json.loads(str(stored["meta/json"])).get("model") == "MMFI"
