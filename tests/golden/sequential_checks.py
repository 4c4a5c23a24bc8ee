"""Comparisons of one file with the stemlab network; each returns the differences above the tolerance."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.models.sequential.base import SequenceNet
from stemlab.optim import RankingOptimConfig, build_ranking_optimizer
from tests.golden.checks import FORWARD, GRADIENT, NOISE, STEP, Differences, differing, filled, gradients, same_state
from tests.golden.sequential_cases import Case
from tests.golden.sequential_models import MODELS

KEY = re.compile(r"(?:(batch1)_)?(?:(train|eval)_)?(.+)")
STEPPED = re.compile(r"step1(?:_l2_(?P<l2>[\d.]+))?")
PARTS = {"bpr": "rank", "kl_times_tempsq": "distill"}  # loss term in the released code -> in stemlab


def forward(case: Case) -> tuple[Differences, list[str]]:
    """Compare all outputs of a single-batch file; also return the keys without a stemlab value."""
    wanted, ours = case.group("output"), _outputs(case, torch.float32)
    known = {key: value for key, value in wanted.items() if key in ours}
    exact = functools.partial(_outputs, case, torch.float64)
    return differing(ours, known, FORWARD, exact), [key for key in wanted if key not in ours]


def _outputs(case: Case, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the outputs of the keys of a file that stemlab has."""
    ours = {}
    for key in case.group("output"):
        one_sample, phase, base = KEY.fullmatch(key).groups()
        name = one_sample or phase or "eval"
        net, batch = case.routed(case.net().to(dtype), name), case.batch(name)
        with torch.no_grad():
            score_BN = net(batch, phase or "eval").score_BN
            seen = {**MODELS[case.model].observe(net, batch, phase or "eval"), "prediction": score_BN}
        if base in seen:
            ours[key] = seen[base]
    return ours


def representation(case: Case) -> Differences:
    """Compare the released evaluation scores with the best dot product of ``represent`` and ``item_vectors``."""
    net, batch = case.routed(case.net(), "eval"), case.batch("eval")
    with torch.no_grad():
        score_BKI = net.represent(batch) @ net.item_vectors().T
    score_BN = score_BKI.amax(dim=1).gather(1, batch.candidates_BN)
    key = "output/eval_prediction" if "output/eval_prediction" in case.arrays else "output/prediction"
    return differing({"score": score_BN}, {"score": case.tensor(key)}, FORWARD)


def train_losses(case: Case, net: SequenceNet) -> dict[str, Tensor]:
    """Return the loss terms on the training batch and their sum ``total``."""
    parts = net.losses(case.routed(net, "train")(case.batch("train"), "train"))
    return {**parts, "total": torch.stack(list(parts.values())).sum()}


def losses(case: Case) -> Differences:
    """Compare all loss terms and the total."""
    net = case.net()
    parts = train_losses(case, net)
    ours = {theirs: parts[part] for theirs, part in PARTS.items() if part in parts} | {"total": parts["total"]}
    if "distill" in parts:
        ours["kl_batchmean"] = parts["distill"] / net.temperature**2
    return differing(ours, case.group("loss"), FORWARD)


def part_gradients(case: Case, prefix: str) -> tuple[Differences, set[str], set[str]]:
    """Compare gradients of ``grad``, ``grad_bpr`` or ``grad_kl``; also return absent names in stemlab and file."""
    net = case.net()
    part = {"grad": "total", "grad_bpr": "rank", "grad_kl": "distill"}[prefix]
    found = gradients(net, train_losses(case, net)[part])
    absent = {name for name, gradient in found.items() if gradient is None}
    key = prefix.replace("grad", "gradnone")
    theirs = case.absent(key) if key in case.arrays else absent
    return differing(filled(net, found), case.ours(prefix), GRADIENT), absent, theirs


# ---- training


def first_steps(case: Case) -> dict[str, Differences]:
    """Return, for each stored step, the differences after one optimiser step, except for rounding errors."""
    prefixes = {match[0]: match for key in case.arrays if (match := STEPPED.fullmatch(key.split("/")[0]))}
    result = {}
    for prefix, match in prefixes.items():
        net, l2 = case.net(), float(match["l2"] or 0)
        total = {name: g + decay(name, l2) * case.ours("param")[name] for name, g in case.ours("grad").items()}
        optimiser = build_ranking_optimizer(net, RankingOptimConfig(lr=1e-3, l2=l2))
        train_losses(case, net)["total"].backward()
        own = {name: p.grad for name, p in net.named_parameters()}
        kept = {name: (g.abs() > NOISE) | ((g == 0) & (own[name] == 0)) for name, g in total.items()}
        optimiser.step()
        result[prefix] = same_state(net.state_dict(), case.ours(prefix), kept, STEP)
        if mean_of(kept) < 0.9:
            result[prefix]["share of parameters above rounding noise"] = mean_of(kept)
    return result


def without_gradient(name: str, parameter: Tensor) -> Tensor:
    """Return the entries whose exact gradient is zero; the released code has rounding errors there.

    These are biases of attention keys and of interest scores: both only shift a softmax.
    """
    mask = torch.zeros_like(parameter, dtype=torch.bool)
    if name.endswith("qkv.bias"):
        mask.chunk(3)[1].fill_(True)
    return mask.fill_(True) if name.endswith("extractor.weigh.bias") else mask


def decay(name: str, l2: float) -> float:
    return 0.0 if "bias" in name else l2


def mean_of(kept: Mapping[str, Tensor]) -> float:
    return sum(int(mask.sum()) for mask in kept.values()) / sum(mask.numel() for mask in kept.values())


@dataclass
class Trajectory:
    """Result of the training that a file describes.

    Attributes:
        curve: one loss per step.
        last: state after the last step.
        kept: name -> mask of the entries whose first gradient is not a rounding error.
        score_BN: evaluation scores after the last step.
    """

    curve: Tensor
    last: dict[str, Tensor]
    kept: dict[str, Tensor]
    score_BN: Tensor


def trajectory(case: Case) -> Trajectory:
    """Train as in the file: steps that cycle through its batches."""
    net = case.net()
    names = sorted({match[1] for key in case.arrays if (match := re.fullmatch(r"input/(batch\d+)_item_id", key))})
    batches = [case.batch(name) for name in names]
    l2 = float(case.meta.get("l2", 0))
    optimiser = build_ranking_optimizer(net, RankingOptimConfig(lr=float(case.meta.get("lr", 1e-3)), l2=l2))
    first = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    curve = []
    for number in range(len(case.arrays["loss/per_step"])):
        curve.append(train(net, optimiser, batches[number % len(batches)]))
        for name, p in net.named_parameters():
            total = p.grad + decay(name, l2) * p.detach()
            first[name] = torch.where(first[name] == 0, total.abs(), first[name])
    kept = {name: ((size == 0) | (size > NOISE)) & ~without_gradient(name, size) for name, size in first.items()}
    with torch.no_grad():
        score_BN = net.eval()(case.batch("eval")).score_BN
    return Trajectory(torch.tensor(curve), net.state_dict(), kept, score_BN)


def train(net: SequenceNet, optimiser: torch.optim.Optimizer, batch: SequenceBatch) -> float:
    """Run one step; return the loss before it."""
    optimiser.zero_grad()
    loss = torch.stack(list(net.losses(net(batch, "train")).values())).sum()
    loss.backward()
    optimiser.step()
    return float(loss.detach())
