"""Write docs/matrix.md: which settings work together, from the checks of stemlab.

    python scripts/matrix.py            # writes the page
    python scripts/matrix.py --check    # exit status 1 if the page is not that of the code

Every cell is the answer of ``stemlab.config.validate`` for one config. Networks are built with all kinds of inputs
and compute one batch. No data is read.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from stemlab.balancing_methods import GRADIENT_METHODS
from stemlab.config.compose import CommandLine, compose_job, hydra_context
from stemlab.config.cross_checks import effective_tasks
from stemlab.config.validate import validate
from stemlab.data.spec import DatasetSpec, Field, SequenceSizes, ValueList
from stemlab.errors import StemlabError
from stemlab.runs.build import build_net
from stemlab.runs.random_batches import random_batch

PAGE = Path(__file__).resolve().parents[1] / "docs" / "matrix.md"
Changes = Mapping[str, Any]

_MISSING_PACKAGE = ("make torchrec", "pip install")
_TABLE = ["dataset=table", "dataset.path=log.csv", "dataset.fields=[user,item]", "dataset.tasks=[click,buy]"]
_REGRESSION = {"dataset.tasks": ["click", "time"], "dataset.labels": {"time": {"kind": "regression"}}}
_SEQUENCE = {"history": {"items": "clicked", "target": "item", "max_length": 4}}
_TWO = {"trainer.devices": 2, "trainer.name": "ddp_cpu"}

INPUTS: dict[str, Changes] = {
    "numerical fields": {"dataset.numericals": ["price"]},
    "derived columns": {
        "dataset.derived": {"band": {"buckets": "price", "edges": [1, 2]}},
        "dataset.fields": ["user", "item", "band"],
    },
    "lists": {"dataset.multivalued": {"genres": {"max_length": 4}}},
    "sequences": {"dataset.sequences": _SEQUENCE},
    "pretrained vectors": {"model.pretrained": {"item": {"file": "vectors.npy", "ids": "ids.npy", "width": 8}}},
    "scenarios": {"dataset.scenario": "place", "dataset.scenarios": ["home", "search"]},
}
OBJECTIVES: dict[str, Changes] = {
    "one task": {"model.task": "click"},
    "regression": _REGRESSION,
    "log-normal": {**_REGRESSION, "model.losses": {"time": "lognormal"}},
    "conditional": {"dataset.labels": {"buy": {"given": "click"}}},
    "sample weights": {"dataset.weight": "w"},
    "focal": {"model.losses": {"click": "focal"}},
    "positive weights": {"model.positive_weights": {"buy": 5.0}},
    "weights of losses": {"model.balancing": "uncertainty"},
    "weights of gradients": {"model.balancing": "upgrad"},
}
RUNNING: dict[str, Changes] = {
    "2 processes": _TWO,
    "row_sharded": {**_TWO, "trainer.embedding": "row_sharded"},
    "column_sharded": {**_TWO, "trainer.embedding": "column_sharded"},
    "sparse_adam": {"optim.tables": "sparse_adam"},
    "rowwise_adagrad": {"optim.tables": "rowwise_adagrad"},
    "compile": {"trainer.compile": True},
    "accumulation": {"trainer.accumulate_grad_batches": 2},
    "average of weights": {"optim.ema": 0.99},
}
IMPRESSIONS_ONLY: dict[str, Changes] = {
    "FBGEMM": {"optim.tables": "torchrec_rowwise_adagrad", "optim.clip_norm": None},
    "clipping": {"optim.clip_norm": 10.0},
}
HISTORIES: dict[str, Changes] = {
    "all items": {"dataset.evaluation.candidates": "full"},
    "beyond accuracy": {"dataset.evaluation.candidates": "full", "model.beyond_accuracy": True},
}
CHOICES = INPUTS | OBJECTIVES | RUNNING | IMPRESSIONS_ONLY


class Reasons:
    """Numbers the distinct reasons of refusals."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def cell(self, reason: str | None) -> str:
        """Return the text of a cell: ``yes``, or the number of the reason."""
        return "yes" if reason is None else f"[{self.numbers.setdefault(reason, len(self.numbers) + 1)}]"

    def lines(self) -> list[str]:
        """Return the numbered reasons."""
        return [f"{number}. {reason}" for reason, number in self.numbers.items()]


def changed(config: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """Return a config with other values of dotted keys; what is trained by rows is penalised by rows."""
    if "optim.tables" in changes and "embedding_regularizer_mode" in config["model"]:
        changes = {"model.embedding_regularizer_mode": "batch", **changes}
    made = dict(config)
    for key, value in changes.items():
        node, (*path, last) = made, key.split(".")
        for part in path:
            node[part] = dict(node[part])
            node = node[part]
        node[last] = value
    return made


def refusal(config: Mapping[str, Any]) -> str | None:
    """Return why a config is refused, in words that do not depend on the model; None if it is accepted."""
    try:
        validate("train", config)
    except StemlabError as error:
        text = str(error).replace(f"model={config['model']['name']}", "model=…")
        text = re.sub(r",? ?in the config(?=\))", "", text).replace(" ()", "")
        return None if any(words in text for words in _MISSING_PACKAGE) else re.sub(r"\|", "/", text)
    return None


def base_configs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and config of every model, on a table or on histories."""
    folder = PAGE.parents[1] / "conf" / "model"
    with hydra_context(CommandLine("train")):
        fixed = {"multitask": compose_job("train", ["model=mmoe", *_TABLE])}
        fixed["sequential"] = compose_job("train", ["model=sasrec", "dataset=ml1m"])
        for path in sorted(folder.glob("[!_]*.yaml")):
            if not path.stem.startswith("own"):
                yield path.stem, _with_model(path.stem, fixed)


def _with_model(name: str, fixed: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    own = _read(name)
    shared: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            shared |= _read(entry)
    shared.pop("defaults", None)
    model = shared | own
    return {**fixed[model["family"]], "model": model}


def _read(name: str) -> dict[str, Any]:
    text = (PAGE.parents[1] / "conf" / "model" / f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return values


def computes(config: Mapping[str, Any]) -> Any:
    """Return the network of a config after one batch with all kinds of inputs."""
    torch.manual_seed(0)
    if config["model"]["family"] == "sequential":
        sizes: Any = SequenceSizes(users=9, items=9, history_max=5, categories=3)
        net = build_net(config, sizes)
        batch = random_batch(sizes, 4, 2)
        net.observe(batch.user_B, batch.candidates_BN[:, 0])
        if net.reads_categories:
            net.set_categories(torch.arange(10) % 4)
        if net.needs_training:
            assert all(value.isfinite() for value in net.losses(net(batch, "train")).values())
        return net
    lists = (
        Field("genres", 5, "list", values=ValueList(4)),
        Field(
            "history", 9, "list", table="item", values=ValueList(4, pooling="din", target="item", attention_units=(4,))
        ),
    )
    fields = (Field("user", 9), Field("item", 9), Field("price", 0, "numerical"), *lists)
    spec = DatasetSpec("matrix", fields, tuple(config["dataset"]["tasks"]), scenarios=("home", "search"))
    net = build_net(config, spec)
    assert net(random_batch(spec, 4, 0)).logit_BT.shape == (4, len(effective_tasks(config)))
    return net


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]


def page() -> str:
    """Return the page."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # vectors are the only files that a check reads
        np.save("vectors.npy", np.zeros((3, 8), np.float32))
        np.save("ids.npy", np.arange(3))
        return _filled_page()


def _filled_page() -> str:
    configs, reasons = dict(base_configs()), Reasons()
    captured = {name: capture(config) for name, config in configs.items()}
    parts = {
        "inputs": ("multitask", INPUTS),
        "objectives": ("multitask", OBJECTIVES),
        "running": ("multitask", RUNNING | IMPRESSIONS_ONLY),
        "histories": ("sequential", HISTORIES | RUNNING),
    }
    filled = {}
    for part, (family, columns) in parts.items():
        rows, last = list[list[str]](), ["captured steps"] if part in ("running", "histories") else []
        for name, config in configs.items():
            if config["model"]["family"] == family:
                found = [refusal(changed(config, changes)) for changes in columns.values()]
                rows.append([name, *map(reasons.cell, [*found, *(captured[name] for _ in last)])])
        filled[part] = "\n".join(table(["model", *columns, *last], rows))
    pairs = [line for one, other in combinations(CHOICES, 2) if (line := _pair(configs["mmoe"], one, other))]
    filled |= {"reasons": "\n".join(reasons.lines()), "pairs": "\n".join(table(["settings", "why not"], pairs))}
    return _TEXT.format(**filled, methods=", ".join(GRADIENT_METHODS))


def capture(config: Mapping[str, Any]) -> str | None:
    """Return why the training steps of a network cannot be captured, or None; the network computes one batch."""
    net = computes(config)
    reason: str | None = getattr(net, "uncapturable", None)
    return reason if getattr(net, "needs_training", True) else "Nothing is trained."


def _pair(config: dict[str, Any], one: str, other: str) -> list[str] | None:
    """Return the row of two settings that work alone and not together, or None."""
    first, second = CHOICES[one], CHOICES[other]
    if any(first[key] != second[key] for key in first.keys() & second.keys() if key != "dataset.labels"):
        return None  # two values of one setting
    labels = {**first.get("dataset.labels", {}), **second.get("dataset.labels", {})}
    both = {**first, **second, **({"dataset.labels": labels} if labels else {})}
    if "dataset.tasks" in both:
        both["dataset.tasks"] = ["click", "buy", "time"]
    reason = refusal(changed(config, both))
    return None if reason is None else [f"{one}, {other}", reason]


_TEXT = """# What works together

*Written by `python scripts/matrix.py` from the checks of the config, not by hand; a test compares it with the code.*
A cell is `yes`, or the number of the [reason](#reasons) with which the setting is refused before data is read. Every
network was built with categorical and numerical fields, lists, an attended sequence and two scenarios (or histories,
times and categories) and computed one batch.

## Models of impressions

Any dataset with labels, here `dataset=table`; categorical fields are always there.

### Inputs

[inputs.md](inputs.md), [vectors.md](vectors.md)

{inputs}

### Objectives

[objectives.md](objectives.md), [balancing.md](balancing.md). *Weights of losses* is `model.balancing=uncertainty`,
*weights of gradients* is `upgrad`; {methods} pass the same checks.

{objectives}

### Running

[devices.md](devices.md), [methods/tables.md](methods/tables.md), [optimisation.md](optimisation.md),
[gpu.md](gpu.md). *Captured steps*: a step that cannot be captured as a CUDA graph runs eagerly, and the run says why.

{running}

## Models of histories

They read histories of items, not impressions with labels: the inputs and objectives above are not for them.

{histories}

## Reasons

{reasons}

## Settings that exclude each other

For `model=mmoe`: pairs of settings that work alone.

{pairs}

`stemlab.export` compares every exported network with its checkpoint and writes nothing where the scores differ;
[export.md](export.md) says what is left out.
"""


def main() -> None:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the page with the code and write nothing")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE} is not that of the code: run python scripts/matrix.py.")


if __name__ == "__main__":
    main()
