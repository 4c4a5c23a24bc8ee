"""Ranking of 6,040 users x 1,001 candidates: stemlab against a baseline, alternately, in one process.

    python scripts/bench/ranking_evaluation.py [--rounds 7] [--threads 2]

Sizes of ML-1M (3,706 items, width 64) and TiMiRec: the score of a candidate is its maximum dot product with the
interests of the user (K = 2: pretrain; K = 1: finetune). Both start from the user vectors. The baseline works like the
released code: for each batch of 256 users it gathers one vector per candidate, multiplies and sums, appends the scores
to a list, then sorts all of them and searches the positive. CPU seconds are reported besides wall-clock seconds,
because other load affects them less. Full ranking (all unseen items) has no baseline: the released code sorts I + 1
scores per user. Writes ``results/ranking_evaluation.json`` (``--output`` for another file).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stemlab.metrics import RankingMetrics
from stemlab.metrics.catalogue import Catalogue, SeenItems

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
    order = (-np.array(predictions)).argsort(axis=1)
    rank = np.array([np.where(row == 0)[0][0] + 1 for row in order])
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


Samples = dict[str, list[float]]


def measure(works: dict[str, Callable[[], Metrics]], rounds: int) -> tuple[Samples, Samples, dict[str, Metrics]]:
    """Return wall-clock and CPU seconds of each round, and the values; the functions run alternately."""
    wall: Samples = {name: [] for name in works}
    cpu: Samples = {name: [] for name in works}
    values = {}
    for _ in range(rounds):
        for name, work in works.items():
            started = time.perf_counter(), time.process_time()
            values[name] = work()
            wall[name].append(time.perf_counter() - started[0])
            cpu[name].append(time.process_time() - started[1])
    return wall, cpu, values


def report(interests: int, rounds: int) -> dict[str, Any]:
    data = RandomData(interests)
    works = {"stemlab": partial(ours, data), "twin": partial(baseline, data), "stemlab full": partial(full, data)}
    wall, cpu, values = measure(works, rounds)
    median = {name: statistics.median(seconds) for name, seconds in wall.items()}
    work = {name: statistics.median(seconds) for name, seconds in cpu.items()}
    return {
        "median_s": median,
        "min_s": {name: min(seconds) for name, seconds in wall.items()},
        "cpu_s": work,
        "times_faster": median["twin"] / median["stemlab"],
        "times_less_cpu_time": work["twin"] / work["stemlab"],
        "users_per_s": {name: USERS / seconds for name, seconds in median.items()},
        "largest_difference": max(abs(values["twin"][name] - values["stemlab"][name]) for name in values["twin"]),
        "hr@5": values["stemlab"]["hr@5"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "ranking_evaluation.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = {
        "users": USERS,
        "items": ITEMS,
        "candidates": CANDIDATES,
        "width": WIDTH,
        "threads": options.threads,
        "rounds": options.rounds,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "load_average": os.getloadavg()[0],
        "interests": {str(k): report(k, options.rounds) for k in (2, 1)},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
