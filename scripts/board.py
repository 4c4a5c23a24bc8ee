"""Train the runs of the board "who wins where" (docs/board.md), each once, in one process.

    python scripts/board.py                               # everything in scripts/board.yaml that has no record yet
    python scripts/board.py kuairand_log --seeds 1 2      # a part
    python scripts/board.py grocery --networks sasrec mind
    python scripts/board.py --minutes 20                  # start no run after 20 minutes
    python scripts/board.py --list                        # count finished and missing runs

Runs go seed by seed over the given datasets (without arguments: in the `order` of scripts/board.yaml), so balanced
tables can be made at any time. Each finished run is one line of scripts/records/board/DATASET.jsonl, and a killed
command loses the run in progress only.
Each network has the same number of tuning trials, on seed 1. The trial with the best validation metric (single_task:
mean over its tasks) also is the result of seed 1, and its settings are those of the other seeds. Test metrics decide
nothing. Then: python scripts/board_page.py
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
DEFINITION = ROOT / "scripts" / "board.yaml"
RECORDS = ROOT / "scripts" / "records" / "board"
TRIAL, RESULT = "trial", "result"
_METRICS = ("auc", "gauc", "logloss", "hr@5", "hr@10", "ndcg@5", "ndcg@10")
_LEFT_OUT = ("memory", "throughput", "warnings")  # the machine may have other load


@dataclass(frozen=True)
class BoardRun:
    """One training.

    Attributes:
        dataset: key of ``datasets`` in the definition.
        network: option of ``model=``.
        task: the task of a single-task network.
        seed: seed of initial weights and shuffling.
        trial: its settings among the trials.
        settings: every setting, as on the command line, without folders.
    """

    dataset: str
    network: str
    task: str | None
    seed: int
    trial: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Hash of the settings and the seed; the identity of the run in the records."""
        return hashlib.sha256(json.dumps({**self.settings, "seed": self.seed}, sort_keys=True).encode()).hexdigest()[
            :12
        ]

    @property
    def name(self) -> str:
        """Words for the screen."""
        words = (
            self.dataset,
            self.network,
            self.task,
            f"seed {self.seed}",
            *(f"{k}={v}" for k, v in self.trial.items()),
        )
        return " ".join(filter(None, words))


class Board:
    """Definition of the board, and the records of its finished runs.

    Args:
        definition: content of ``scripts/board.yaml``.
        records: folder of the records.
    """

    def __init__(self, definition: Mapping[str, Any], records: Path) -> None:
        self.definition, self.records = definition, records
        self._read: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}

    def finished(self, dataset: str) -> dict[tuple[str, str], dict[str, Any]]:
        """Return (role, key) -> record of a dataset."""
        from stemlab.reporting.record_lines import read_record_lines

        if dataset not in self._read:
            path = self.records / f"{dataset}.jsonl"
            found = read_record_lines(path) if path.is_file() else []
            self._read[dataset] = {(record["role"], record["board_key"]): record for record in found}
        return self._read[dataset]

    def add(self, run: BoardRun, role: str, record: Mapping[str, Any]) -> None:
        """Append a record."""
        from stemlab.reporting.record_lines import append_record

        record = {**record, "role": role, "board_key": run.key}
        append_record(self.records / f"{run.dataset}.jsonl", record)
        self.finished(run.dataset)[role, run.key] = record

    def group(self, dataset: str, network: str, seed: int, trial: Mapping[str, Any]) -> list[BoardRun]:
        """Return the runs of a network with a seed: one, or one per task for ``single_task``."""
        one, board = self.definition["datasets"][dataset], self.definition
        tasks = one.get("tasks", ())
        values = {"tasks + 2": len(tasks) + 2}
        net = {key: values.get(str(value), value) for key, value in board["networks"][network].items()}
        width = board["widths"][one["width"]]
        net |= {"dims": width["dims"]} if network == "ame" else {}
        net |= {"embedding_dim": width["embedding_dim"]} if network not in ("ame", "pop") else {}
        shared = {**board["settings"], **board["kinds"][one["kind"]]}
        settings = {**shared, **one["settings"], "model": network, **trial}
        settings |= {f"model.net.{key}": value for key, value in net.items()}
        runs = []
        for task in tasks if network == "single_task" else [None]:
            own = settings | ({"model.task": task} if task else {})
            runs.append(BoardRun(dataset, network, task, seed, trial, own))
        return runs

    def trials(self, dataset: str, network: str) -> list[list[BoardRun]]:
        """Return the runs of each trial of a network; a network without training has one trial."""
        one = self.definition["datasets"][dataset]
        given = self.definition["trials"][one["kind"]]
        return [
            self.group(dataset, network, self.definition["seeds"][0], trial)
            for trial in (given if network != "pop" else given[:1])
        ]

    def chosen(self, dataset: str, network: str) -> list[BoardRun] | None:
        """Return the runs of the trial with the best validation metric; ``None`` while one is missing."""
        done, groups = self.finished(dataset), self.trials(dataset, network)
        if any((TRIAL, run.key) not in done for group in groups for run in group):
            return None
        return max(groups, key=lambda group: fmean(done[TRIAL, run.key]["best"]["value"] for run in group))

    def missing(self, datasets: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[BoardRun, str]]:
        """Yield the runs without a record with their roles; the settings of later seeds need the trials' records."""
        for seed in seeds:
            for dataset in datasets:
                for network in self.definition["datasets"][dataset]["networks"]:
                    yield from self._missing(dataset, network, seed)

    def _missing(self, dataset: str, network: str, seed: int) -> Iterator[tuple[BoardRun, str]]:
        done = self.finished(dataset)
        if seed == self.definition["seeds"][0]:
            for group in self.trials(dataset, network):
                yield from ((run, TRIAL) for run in group if (TRIAL, run.key) not in done)
        best = self.chosen(dataset, network)
        if best is None:  # a trial failed, or this is only a list
            return
        if seed == self.definition["seeds"][0]:
            for run in best:
                if (RESULT, run.key) not in done:
                    self.add(run, RESULT, done[TRIAL, run.key])
            return
        for run in self.group(dataset, network, seed, best[0].trial):
            if (RESULT, run.key) not in done:
                yield run, RESULT


def trained(run: BoardRun, data: Path, folder: Path) -> dict[str, Any]:
    """Train a run in this process and return its compact record."""
    from stemlab.config.process_state import process_state_kept
    from stemlab.config.python_settings import compose_settings
    from stemlab.reporting.collect import compact
    from stemlab.reporting.record import read_record
    from stemlab.train import train

    place = {"paths.data_dir": str(data), "hydra.run.dir": str(folder), "overwrite": True, "seed": run.seed}
    if run.settings["dataset"] == "table":
        place["dataset.path"] = str(data / "board" / f"{run.dataset}.csv")
    config, typed = compose_settings("train", {**run.settings, **place})
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder.parent / "output.txt").open("a"))
        for context in (contextlib.redirect_stdout(log), contextlib.redirect_stderr(log), process_state_kept()):
            stack.enter_context(context)
        train(config, typed)
    return shortened(compact(read_record(folder)))


def shortened(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a compact record without costs, and with the metrics of the board, in seven digits."""
    kept = {key: value for key, value in record.items() if key not in _LEFT_OUT}
    kept["metrics"] = {
        name: value if value is None else float(f"{value:.7g}")
        for name, value in record["metrics"].items()
        if name.split("/")[1] in _METRICS
    }
    return kept


def main() -> int:
    """Train what is missing; return 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", help="keys of `datasets` in scripts/board.yaml; default: all")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--networks", nargs="+", help="keys of `networks`; default: all of each dataset")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument(
        "--data", type=Path, default=ROOT / "data", help="folder with raw/ and prepared/ (data/README.md)"
    )
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "board", help="folder of the run in progress")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    definition = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))
    board = Board(definition, given.records)
    datasets, seeds = given.datasets or list(definition["datasets"]), given.seeds or definition["seeds"]
    if unknown := set(datasets) - set(definition["datasets"]):
        parser.error(f"no dataset {', '.join(sorted(unknown))}; there are {', '.join(definition['datasets'])}")
    if given.networks:
        if unknown := set(given.networks) - set(definition["networks"]):
            parser.error(f"no network {', '.join(sorted(unknown))}; there are {', '.join(definition['networks'])}")
        for one in definition["datasets"].values():
            one["networks"] = [name for name in one["networks"] if name in given.networks]
    if given.list:
        for dataset in datasets:
            roles = [role for role, _ in board.finished(dataset)]
            missing = sum(1 for _ in board.missing([dataset], seeds))
            counts = f"{roles.count(TRIAL)} trials, {roles.count(RESULT)} results"
            print(f"{dataset}: {counts}, {missing} known to be missing")
        return 0
    in_order = [(line["datasets"], definition["seeds"][: line["seeds"]]) for line in definition["order"]]
    chosen = [(datasets, seeds)] if given.datasets or given.seeds else in_order
    return _train_missing(board, chosen, given)


def _train_missing(
    board: Board, parts: Sequence[tuple[Sequence[str], Sequence[int]]], given: argparse.Namespace
) -> int:
    import board_data

    from stemlab.errors import Interrupted

    given.work.mkdir(parents=True, exist_ok=True)
    start, failed = time.monotonic(), 0
    for dataset in {name for datasets, _ in parts for name in datasets}:
        if board.definition["datasets"][dataset].get("table") == "ml100k":
            board_data.write_ml100k(given.data / "raw" / "ml100k", given.data / "board" / f"{dataset}.csv")
    for run, role in chain.from_iterable(board.missing(datasets, seeds) for datasets, seeds in parts):
        if time.monotonic() - start > 60 * given.minutes:
            print("the time is over: start the command again to go on")
            break
        begin = time.monotonic()
        try:
            record = trained(run, given.data.absolute(), given.work.absolute() / "current")
        except Interrupted as error:
            print(f"{error}: start the command again to go on", file=sys.stderr)
            return error.status
        except Exception:  # one failing run must not end the others
            failed += 1
            print(f"FAILED {run.name}\n{traceback.format_exc(limit=-2)}", file=sys.stderr, flush=True)
            continue
        board.add(run, role, record)
        best = record["best"]
        took = time.monotonic() - begin
        print(f"{took:6.1f} s  {run.name}: {best['monitor']} {best['value']:.4f}, epoch {best['epoch']}", flush=True)
    shutil.rmtree(given.work / "current", ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
