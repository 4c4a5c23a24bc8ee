"""Parity with the published baselines of the sequential family, for every file found.

``STEMLAB_GOLDEN`` may name another folder: the root of all families, or a folder of ``.npz`` files.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from torch import Tensor

from golden.checks import FORWARD, GRADIENT, NOISE, STEP, differing, same_state
from golden.sequential_baselines import BASELINES, OBSERVERS, Baseline
from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.sequential.base import SequenceNet
from stemlab.optim import RankingOptimConfig, build_ranking_optimizer

STEPPED = re.compile(r"step1(?:_l2_(?P<l2>[\d.]+))?")


@dataclass(frozen=True)
class Case:
    """One file."""

    path: Path

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}

    @cached_property
    def meta(self) -> dict:
        return json.loads(str(self.arrays["meta/json"]))

    @property
    def baseline(self) -> Baseline:
        return BASELINES[self.meta["model"]]

    def tensor(self, key: str) -> Tensor:
        values = torch.from_numpy(self.arrays[key].copy())
        return values if values.is_floating_point() else values.long()

    def group(self, prefix: str) -> dict[str, Tensor]:
        keys = [key for key in self.arrays if key.startswith(prefix + "/")]
        return {key.removeprefix(prefix + "/"): self.tensor(key) for key in keys}

    def ours(self, prefix: str) -> dict[str, Tensor]:
        return self.baseline.ours(self.group(prefix))

    @property
    def sizes(self) -> SequenceSizes:
        """What is not said is as large as the ids."""
        rows = {"n_users": 1, "n_items": 1} | {k: self.meta[k] for k in ("n_users", "n_items") if k in self.meta}
        if "output/popularity" in self.arrays:
            rows["n_items"] = len(self.arrays["output/popularity"])
        return SequenceSizes(rows["n_users"] - 1, rows["n_items"] - 1, self.meta.get("history_max", 1))

    def net(self) -> SequenceNet:
        """Return our network with the starting values and the training pairs, in evaluation mode."""
        told = {**self.meta, **self.meta.get("config", {})}
        settings = {ours: told[theirs] for theirs, ours in self.baseline.settings.items() if theirs in told}
        net = self.baseline.net(self.sizes, **settings, **self.baseline.fixed)
        net.load_state_dict(self.ours("param"))
        for key in ("input/train_edges", "input/train_log"):
            if key in self.arrays:
                net.observe(*self.tensor(key)[:, :2].T)
        return net.eval()

    def batch(self, name: str) -> SequenceBatch:
        """Return the batch ``train``, ``eval`` or ``batch1``; a file without any has one unnamed batch."""
        prefix = f"input/{name}_" if f"input/{name}_item_id" in self.arrays else "input/"
        candidates_BN = self.tensor(f"{prefix}item_id")
        rows = len(candidates_BN)

        def read(key: str, default: Tensor | None) -> Tensor | None:
            return self.tensor(prefix + key) if prefix + key in self.arrays else default

        ones_B = torch.ones(rows, dtype=torch.long)
        return SequenceBatch(
            user_B=read("user_id", ones_B),
            history_BL=read("history_items", ones_B.unsqueeze(1)),
            length_B=read("lengths", ones_B),
            candidates_BN=candidates_BN,
            time_BL=read("history_times", None),
            unit_B=read("user_min_intervals", None),
        )

    def seen(self, key: str) -> dict[str, Tensor]:
        """Return all that we compute for an output key, by its last part."""
        *words, base = re.fullmatch(r"(?:(batch1|train|eval)_)?(?:(train|eval)_)?(.+)", key).groups()
        name, phase = words[0] or "eval", words[1] or words[0] or "eval"
        net, batch = self.net(), self.batch(name)
        output = net(batch, phase)
        observed = OBSERVERS.get(self.meta["model"], lambda net, batch: {})(net, batch)
        computed = {**observed, "prediction": output.score_BN}
        return {key: computed[base]} if base in computed else {}


def find(folder: Path) -> list[Case]:
    below = folder / "rechorus"
    cases = [Case(path) for path in sorted((below if below.is_dir() else folder).glob("*.npz"))]
    return [case for case in cases if "meta/json" in case.arrays and case.meta.get("model") in BASELINES]


CASES = find(GOLDEN)
TRAINED = [case for case in CASES if "loss/total" in case.arrays]


def each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.path.stem)


def test_files_are_there() -> None:
    if not CASES:
        pytest.skip(f"no files of sequential baselines in {GOLDEN} (set STEMLAB_GOLDEN to where they are)")
    assert {case.meta["model"] for case in CASES} <= set(BASELINES)


@each(CASES)
def test_outputs(case: Case) -> None:
    theirs = case.group("output")
    ours = {name: value for key in theirs for name, value in case.seen(key).items()}
    assert {key for key in theirs if "prediction" in key} <= set(ours)
    assert not differing(ours, {key: theirs[key] for key in ours}, FORWARD)
    if unknown := set(theirs) - set(ours):
        pytest.skip(f"all else agrees; nothing of ours answers to {', '.join(sorted(unknown))}")


def loss_and_gradients(case: Case) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    net = case.net()
    parts = net.losses(net(case.batch("train"), "train"))
    total = torch.stack(list(parts.values())).sum()
    named = dict(net.named_parameters())
    gradients = dict(zip(named, torch.autograd.grad(total, list(named.values())), strict=True))
    return {"total": total, "bpr": parts["rank"]}, gradients


@each(TRAINED)
def test_loss_and_gradients(case: Case) -> None:
    losses, gradients = loss_and_gradients(case)
    theirs = case.group("loss")
    assert set(theirs) <= set(losses)
    assert not differing(losses, theirs, FORWARD)
    expected = case.ours("grad")
    assert set(expected) == set(gradients)
    assert not differing(gradients, expected, GRADIENT)
    assert not [name for name in case.arrays.get("gradnone", np.array([])).tolist() if name]


@each(TRAINED)
def test_one_step_of_the_optimiser(case: Case) -> None:
    """Plain, and with a decay that spares biases; not where the gradient is rounding noise, which Adam enlarges."""
    groups = {match[0]: match for key in case.arrays if (match := STEPPED.fullmatch(key.split("/")[0]))}
    assert groups
    for prefix, match in groups.items():
        net, gradients = case.net(), case.ours("grad")
        l2 = float(match["l2"] or 0)
        optimiser = build_ranking_optimizer(net, RankingOptimConfig(lr=1e-3, l2=l2))
        sum(net.losses(net(case.batch("train"), "train")).values()).backward()
        start = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
        decay = {name: 0 if "bias" in name else l2 for name in start}
        pushed = {name: gradients[name] + decay[name] * start[name] for name in start}
        still = {name: (pushed[name] == 0) & (parameter.grad == 0) for name, parameter in net.named_parameters()}
        optimiser.step()
        kept = {name: (pushed[name].abs() > NOISE) | still[name] for name in start}
        assert not same_state(net.state_dict(), case.ours(prefix), kept, STEP), prefix
        assert sum(int(mask.sum()) for mask in kept.values()) > 0.9 * sum(mask.numel() for mask in kept.values())
