"""Guard of the speed: ratios to plain implementations, in under three minutes, compared with ``quick.json``.

    make bench-quick                           # fails if a ratio is below 70 % of the committed one
    python scripts/bench/quick.py --rows stem  # one row; the names are those of quick.json
    python scripts/bench/quick.py --commit     # write the ratios of this kind of CPU to quick.json

A ratio is CPU time of the baseline divided by CPU time of stemlab, on one thread: other load changes wall-clock time,
but hardly the CPU time of one thread. Both variants alternate in one process and the median of the rounds counts. A row
that fails is measured once more, and the larger median counts. ``quick.json`` has ratios per CPU vendor. A vendor that
it does not have must reach half of the smallest ratio of the others: libraries use other instructions there.

After a change that is meant to change a ratio, run ``--commit``, once per vendor that you can reach, and commit the
file with the reason. It measures a row three times and writes the smallest median: memory-bound rows lose up to a
quarter of their ratio on a machine with other load.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import alternate, machine, paired_ratio

COMMITTED = Path(__file__).parent / "quick.json"
TOLERANCE, OTHER_VENDOR = 0.7, 0.5
"""Shares of the committed ratio that a row must reach: of the same vendor, and of another one."""
COMMIT_RUNS = 3
Act = Callable[[], object]
Ratio = dict[str, float]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two variants of the same work.

    Attributes:
        what: the work.
        baseline: what it is compared with.
        ours: runs stemlab.
        theirs: runs the baseline.
        rounds: timed rounds.
        calls: calls of a variant per round.
    """

    what: str
    baseline: str
    ours: Act
    theirs: Act
    rounds: int = 5
    calls: int = 1


def stem(stack: ExitStack) -> Pair:
    import step

    step.BATCH = 1024
    acts = step.make_steps(step.TABLES["sample"])
    ours, theirs = acts["stemlab float32"], acts["twin float32"]
    return Pair("STEM step, float32, batch 1024", "plain twin, float32", ours, theirs, rounds=9)


def timirec(stack: ExitStack) -> Pair:
    import sequence_step

    ours, theirs = (sequence_step.make_step("pretrain", mine) for mine in (True, False))
    return Pair("TiMiRec pretrain step, batch 256", "plain twin, same memory setting", ours, theirs, rounds=9, calls=5)


def mmfi(stack: ExitStack) -> Pair:
    import mmfi_step

    mmfi_step.BATCH = 512
    ours, theirs = (mmfi_step.acts(variant)["training"] for variant in ("stemlab", "twin"))
    return Pair("MMFI step, batch 512", "plain twin", ours, theirs)


def loader(stack: ExitStack) -> Pair:
    import loader as bench
    from torch.utils.data import DataLoader

    from stemlab.data.batch_order import ShuffledOrder
    from stemlab.data.loader import BatchLoader

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    store = bench.make_store(folder / "train.arrow", 40_000)
    ours = BatchLoader(store, ShuffledOrder(len(store), bench.BATCH, seed=1))
    theirs = DataLoader(bench.MatrixRows(store), bench.BATCH, shuffle=True)

    epochs = itertools.count()

    def many() -> None:  # a single epoch is short
        for epoch in itertools.islice(epochs, 20):
            ours.set_epoch(epoch)  # draws another permutation
            bench.seconds(ours)

    return Pair(
        "20 epochs of training batches", "1 epoch of a per-sample dataset", many, partial(bench.seconds, theirs)
    )


def gauc(stack: ExitStack) -> Pair:
    import gauc as bench

    from stemlab import metrics

    data = bench.make_rows(30_000, 300)

    def many() -> None:
        for _ in range(10):
            metrics.gauc(*data)

    loop = partial(bench.gauc_by_loop, *data)
    return Pair("gAUC, 10 times 30,000 rows, 300 groups", "one scikit-learn call per group, once", many, loop)


def ranking(stack: ExitStack) -> Pair:
    import ranking_evaluation as bench

    bench.USERS = 1024
    data = bench.RandomData(2)
    ours, theirs = partial(bench.ours, data), partial(bench.baseline, data)
    return Pair("ranking of 1,024 users, 1,001 candidates", "vectors gathered row by row, argsort", ours, theirs)


def prepare(stack: ExitStack) -> Pair:
    import prepare as bench

    rows, folder = 100_000, Path(stack.enter_context(tempfile.TemporaryDirectory()))
    bench.generate(folder / "rows.txt", rows)

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            bench.prepare_ours(folder / "rows.txt", Path(fresh))

    theirs = partial(bench.prepare_pandas, folder / "rows.txt", rows, "itertuples")
    return Pair("preparation of 100,000 rows", "pandas, then itertuples per row", ours, theirs)


PAIRS: Mapping[str, Callable[[ExitStack], Pair]] = {
    "stem": stem,
    "timirec": timirec,
    "mmfi": mmfi,
    "loader": loader,
    "gauc": gauc,
    "ranking": ranking,
    "prepare": prepare,
}


def measure(pair: Pair) -> Ratio:
    """Return the ratio of CPU times: median and quartiles of the rounds."""
    _, cpu = alternate({"ours": pair.ours, "theirs": pair.theirs}, pair.rounds, warmup=1, calls=pair.calls)
    return paired_ratio(cpu["theirs"], cpu["ours"])


def vendor() -> str:
    """Return the vendor of the CPU (``GenuineIntel``, ``AuthenticAMD``, ...), or ``unknown``."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "unknown")


def committed_ratio(committed: Mapping[str, Any], name: str, cpu_vendor: str) -> tuple[float | None, float | None]:
    """Return the committed ratio of a row and the smallest ratio that passes; None where there is none.

    The ratio is that of the vendor, else the smallest one of other vendors.
    """
    found = {kind: entry["ratios"][name]["median"] for kind, entry in committed.items() if name in entry["ratios"]}
    if cpu_vendor in found:
        return found[cpu_vendor], TOLERANCE * found[cpu_vendor]
    return (min(found.values()), OTHER_VENDOR * min(found.values())) if found else (None, None)


def check(name: str, pair: Pair, limit: float | None) -> tuple[Ratio, bool]:
    """Measure a row, once more if it is below the limit; return the better ratio and whether it passes."""
    ratio = measure(pair)
    if limit is not None and ratio["median"] < limit:
        print(f"{name}: {ratio['median']:.2f} is below {limit:.2f}, measured once more", flush=True)
        ratio = max(ratio, measure(pair), key=lambda found: found["median"])
    return ratio, limit is None or ratio["median"] >= limit


def guard(
    names: Sequence[str], committed: Mapping[str, Any], cpu_vendor: str, runs: int = 1
) -> tuple[dict[str, Ratio], list[str]]:
    """Measure rows and print them; return their smallest ratios and the names of those that are too slow."""
    ratios, slow = {}, []
    for name in names:
        with ExitStack() as stack:
            before, limit = committed_ratio(committed, name, cpu_vendor)
            pair = PAIRS[name](stack)
            ratio, passed = check(name, pair, limit)
            ratios[name] = min([ratio, *(measure(pair) for _ in range(runs - 1))], key=lambda run: run["median"])
        found, then = ratios[name], "none" if before is None else f"{before:.2f}"
        print(
            f"{'ok  ' if passed else 'SLOW'} {pair.what} against {pair.baseline}: {found['median']:.2f} x "
            f"({found['low']:.2f} to {found['high']:.2f}), committed {then}",
            flush=True,
        )
        slow += [] if passed else [name]
    return ratios, slow


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--commit", action="store_true")
    options = parser.parse_args(words)
    from stemlab.runs.allocator import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    cpu_vendor = vendor()
    committed = json.loads(COMMITTED.read_text(encoding="utf-8")) if COMMITTED.is_file() else {}
    if options.commit:
        ratios, _ = guard(options.rows, {}, cpu_vendor, COMMIT_RUNS)
        kept = committed.get(cpu_vendor, {}).get("ratios", {})
        committed[cpu_vendor] = {"machine": machine(1), "ratios": kept | ratios}
        COMMITTED.write_text(json.dumps(committed, indent=2) + "\n", encoding="utf-8")
        return 0
    _, slow = guard(options.rows, committed, cpu_vendor)
    if slow:
        print(
            f"slower than {TOLERANCE:.0%} of the committed ratio: {', '.join(slow)}. Find the change that did it "
            "(python -m stemlab.profile shows the parts of a step); if it is meant, commit new ratios: "
            "python scripts/bench/quick.py --commit --rows " + " ".join(slow)
        )
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
