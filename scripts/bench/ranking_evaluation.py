"""Evaluation of 6,040 users x 1,001 candidates: stemlab, a plain twin and the published code alternate.

    python scripts/bench/ranking_evaluation.py [--threads 2] [--published DIR]

DIR is a checkout of ReChorus (docs/benchmarks.md).

Sizes of ML-1M (3,706 items, width 64) and TiMiRec: the score of a candidate is its maximum dot product with the
interests of the user (K = 2: pretrain; K = 1: finetune). ``ranking`` starts from user vectors; ``evaluation`` computes
them from histories. The twin works like the released code: for each batch of 256 users it gathers one vector per
candidate, multiplies and sums, appends the scores to a list, then sorts all of them and searches the positive. The
published code reads batches that are ready, without its data loader. CPU seconds are reported besides wall-clock
seconds, because other load affects them less. Full ranking (all unseen items) has no baseline: the released code sorts
I + 1 scores per user. Writes ``results/ranking_evaluation.json`` (``--output`` for another file).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import published
import sequence_step
import timing
import torch
from timirec_twin import PlainTiMiRec
from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.metrics import RankingMetrics
from stemlab.metrics.catalogue import Catalogue, SeenItems
from stemlab.models.sequential.timirec import TiMiRec
from stemlab.runs.allocator import keep_freed_memory

USERS, ITEMS, CANDIDATES, WIDTH, SEEN = 6_040, 3_706, 1_001, 64, 166
BATCH, TOPK = 256, (5, 10, 20, 50)
Metrics = dict[str, float]


class RandomData:
    """Random vectors, candidates and seen items with the sizes of ML-1M."""

    def __init__(self, interests: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.user_UKD = torch.randn(USERS, interests, WIDTH, generator=draw)
        self.item_ID = torch.randn(ITEMS + 1, WIDTH, generator=draw)
        drawn_UN = torch.randint(1, ITEMS + 1, (USERS, CANDIDATES), generator=draw)
        positive_U1 = drawn_UN[:, :1]
        repeated_UN = drawn_UN[:, 1:] == positive_U1  # it would tie, and the order of ties in the baseline is undefined
        self.candidates_UN = drawn_UN.clone()
        self.candidates_UN[:, 1:] = torch.where(repeated_UN, positive_U1 % ITEMS + 1, drawn_UN[:, 1:])
        self.user_UKD[:, 0] += 0.25 * self.item_ID[positive_U1[:, 0]]  # so that the positive is sometimes in the top k
        self.history_UL = torch.randint(1, ITEMS + 1, (USERS, sequence_step.SIZES.history_max), generator=draw)
        self.length_U = torch.full((USERS,), sequence_step.SIZES.history_max)
        self.seen_US = torch.randint(1, ITEMS + 1, (USERS, SEEN), generator=draw)

    def batches(self) -> list[slice]:
        """Return the users of each batch as slices."""
        return [slice(start, start + BATCH) for start in range(0, USERS, BATCH)]


def ours(data: RandomData) -> Metrics:
    metrics, catalogue = RankingMetrics(TOPK), Catalogue(data.item_ID)
    for rows in data.batches():
        metrics.update(catalogue.candidate_ranks(data.user_UKD[rows], data.candidates_UN[rows], "pessimistic"))
    return metrics.compute()


def baseline(data: RandomData) -> Metrics:
    predictions: list[Any] = []
    for rows in data.batches():
        item_BND = data.item_ID[data.candidates_UN[rows]]
        score_BN = (data.user_UKD[rows][:, None] * item_BND[:, :, None]).sum(-1).max(-1).values
        predictions.extend(score_BN.numpy())
    return metrics_of(predictions)


def metrics_of(predictions: list[Any]) -> Metrics:
    """Return the metrics as the released code computes them."""
    rank = np.argwhere((-np.array(predictions)).argsort(axis=1) == 0)[:, 1] + 1
    values = {}
    for k in TOPK:
        hit = rank <= k
        values[f"hr@{k}"] = float(hit.mean())
        values[f"ndcg@{k}"] = float((hit / np.log2(rank + 1)).mean())
    return values


def full(data: RandomData) -> Metrics:
    metrics, catalogue = RankingMetrics(TOPK), Catalogue(data.item_ID)
    for rows in data.batches():
        seen_BS: Tensor = data.seen_US[rows]
        seen = SeenItems(seen_BS.reshape(-1), torch.arange(0, seen_BS.numel() + 1, SEEN))
        positive_B = data.candidates_UN[rows, 0]
        metrics.update(catalogue.ranks(data.user_UKD[rows], positive_B, seen, "pessimistic"))
    return metrics.compute()


@torch.no_grad()
def our_evaluation(net: TiMiRec, data: RandomData) -> Metrics:
    metrics, catalogue, encode = RankingMetrics(TOPK), Catalogue(net.item_vectors()), net.user_encoder()
    for rows in data.batches():
        history_BL, candidates_BN = data.history_UL[rows], data.candidates_UN[rows]
        batch = SequenceBatch(torch.arange(len(history_BL)), history_BL, data.length_U[rows], candidates_BN)
        metrics.update(catalogue.candidate_ranks(encode(batch), candidates_BN, "pessimistic"))
    return metrics.compute()


@torch.no_grad()
def twin_evaluation(net: PlainTiMiRec, data: RandomData) -> Metrics:
    predictions: list[Any] = []
    for rows in data.batches():
        output = net(data.history_UL[rows], data.length_U[rows], data.candidates_UN[rows], training=False)
        predictions.extend(output["prediction"].numpy())
    return metrics_of(predictions)


def published_evaluation(model: Any, measure: Callable[..., Metrics], data: RandomData) -> Metrics:
    """Evaluate as ``predict`` and ``evaluate_method`` of ``BaseRunner``; it records a graph, too."""
    predictions: list[Any] = []
    for rows in data.batches():
        feed = {"item_id": data.candidates_UN[rows], "history_items": data.history_UL[rows]}
        prediction = model({**feed, "lengths": data.length_U[rows], "phase": "test"})["prediction"]
        predictions.extend(prediction.cpu().data.numpy())
    return measure(np.array(predictions), list(TOPK), ["NDCG", "HR"])


@torch.no_grad()
def bare_products(stage: str, data: RandomData) -> None:
    """Compute the matrix products that an evaluation cannot avoid, with random matrices of the sizes of a batch.

    Products of an item count once: positions pass through the attention, its two linear layers and the recurrence.
    """
    length, gates = data.history_UL.shape[1], 2 * WIDTH
    user_BD, item_DI = torch.randn(BATCH, WIDTH), data.item_ID.t().contiguous()
    state_BLD, by_gate, by_new = torch.randn(BATCH, length, WIDTH), torch.randn(WIDTH, gates), torch.randn(WIDTH, WIDTH)
    gate_BX, new_BD, score_BI = torch.empty(BATCH, gates), torch.empty(BATCH, WIDTH), torch.empty(BATCH, ITEMS + 1)
    next_BLD, weight_BLL = torch.empty_like(state_BLD), torch.empty(BATCH, length, length)
    for _ in data.batches():
        torch.bmm(state_BLD, state_BLD.transpose(1, 2), out=weight_BLL)
        torch.bmm(weight_BLL, state_BLD, out=next_BLD)
        for _ in range(2):
            torch.mm(state_BLD.view(-1, WIDTH), by_new, out=next_BLD.view(-1, WIDTH))
        for _ in range(length if stage == "finetune" else 0):
            torch.mm(user_BD, by_gate, out=gate_BX)
            torch.mm(user_BD, by_new, out=new_BD)
        for _ in range(1 if stage == "finetune" else sequence_step.CONFIG["K"]):
            torch.mm(user_BD, item_DI, out=score_BI)


def evaluations(stage: str, data: RandomData, folder: Path | None) -> dict[str, Callable[[], object]]:
    """Return variant -> evaluation of TiMiRec in a stage, with random weights."""
    torch.manual_seed(0)
    sizes, config = sequence_step.SIZES, {**sequence_step.CONFIG, "stage": stage}
    net = TiMiRec(sizes, stage=stage, temperature=config["temp"], projection_layers=config["n_layers"])
    twin = PlainTiMiRec(ITEMS + 1, sizes.history_max, config)
    works = {
        "stemlab": partial(our_evaluation, net.eval(), data),
        "twin": partial(twin_evaluation, twin.eval(), data),
        "products": partial(bare_products, stage, data),
    }
    if folder is not None:
        model = published.timirec(folder, ITEMS + 1, sizes.history_max, config).eval()
        measure = published.load(folder / "src", "helpers.BaseRunner").BaseRunner.evaluate_method
        works["published"] = partial(published_evaluation, model, measure, data)
    return works


def compare(
    what: str, works: Mapping[str, Callable[[], object]], rounds: int, clock: str
) -> tuple[dict[str, Any], list[Any]]:
    """Return seconds of the variants and the rows of the table."""
    wall, cpu = timing.alternate(works, rounds, warmup=1)
    chosen, label = timing.pick(clock, wall, cpu)
    what += label
    names = {"published": "published code", "twin": "twin of the published code"}
    rows = [
        timing.row(what, name, timing.paired_ratio(chosen[base], chosen["stemlab"]))
        for base, name in names.items()
        if base in wall
    ]
    if "products" in wall:
        share = timing.paired_ratio(chosen["products"], chosen["stemlab"])
        rows.append(timing.row(what, "its bare matrix products (100% = nothing else)", share, "%"))
    if "published" in wall:
        faster = timing.paired_ratio(chosen["published"], chosen["twin"])
        rows.append(timing.row(f"twin of the {what}", "published code", faster))
    seconds = {name: timing.spread(values) for name, values in wall.items()}
    return {"seconds": seconds, "cpu_seconds": {name: timing.spread(values) for name, values in cpu.items()}}, rows


def report(interests: int, rounds: int, clock: str, folder: Path | None) -> tuple[dict[str, Any], list[Any]]:
    data, stage = RandomData(interests), "pretrain" if interests > 1 else "finetune"
    size = f"{USERS:,} users, {CANDIDATES:,} candidates"
    works = {"stemlab": partial(ours, data), "twin": partial(baseline, data), "stemlab full": partial(full, data)}
    ranked, rows = compare(f"ranking of {size}, {interests} interest(s)", works, rounds, clock)
    evaluated, more = compare(f"TiMiRec evaluation, {stage}, {size}", evaluations(stage, data, folder), rounds, clock)
    values, theirs = works["stemlab"](), works["twin"]()
    differences = [abs(theirs[name] - values[name]) for name in theirs]
    found = {"ranking": ranked, "evaluation": evaluated, "largest_difference": max(differences), "hr@5": values["hr@5"]}
    return found, rows + more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    timing.add_clock(parser)
    parser.add_argument("--published", type=Path, metavar="DIR", help="checkout of ReChorus, timed as well")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "ranking_evaluation.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    found = {str(k): report(k, options.rounds, options.clock, options.published) for k in (2, 1)}
    result = {
        "machine": timing.machine(options.threads),
        "users": USERS,
        "items": ITEMS,
        "candidates": CANDIDATES,
        "width": WIDTH,
        "rounds": options.rounds,
        "interests": {interests: measured for interests, (measured, _) in found.items()},
        "rows": [row for _, rows in found.values() for row in rows],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["rows"], indent=2))


if __name__ == "__main__":
    main()
