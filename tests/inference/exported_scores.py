"""Export a small network, and compare the scores of the file with those of ``stemlab.predict`` on raw rows."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from stemlab.config.compose import compose
from stemlab.export import export
from stemlab.inference.export.formats import MODEL_FILES, load_model
from stemlab.inference.export.made_up_rows import impression_rows, sequence_rows
from stemlab.predict import predict
from tests.inference.small_checkpoints import SmallCheckpoint, small_checkpoint
from tests.replaced import replace_function


@cache
def keep_torchlib() -> None:
    """Read the ONNX forms of PyTorch's operators once per process: each export reads them again, for 0.6 s."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read = cache(ONNXRegistry.from_torchlib)

    def kept(*arguments: Any, **named: Any) -> ONNXRegistry:
        registry = copy.copy(read(*arguments, **named))
        registry.functions = dict(registry.functions)
        return registry

    replace_function(ONNXRegistry, "from_torchlib", staticmethod(kept))


def exported(made: SmallCheckpoint, kind: str, *overrides: str) -> Path:
    """Export a checkpoint and return the output folder."""
    keep_torchlib()
    output = made.path.with_name(f"{made.path.stem}_{kind}")
    home = made.path.parent
    words = [f"ckpt={made.path}", f"output={output}", f"format={kind}", f"paths.data_dir={home}", *overrides]
    export(compose("export", words))
    return output


def copied_encoder(folder: Path) -> ModuleType:
    """Import the file ``encode.py`` of an export, as a program without stemlab does."""
    path = folder / "encode" / "__init__.py"
    spec = importlib.util.spec_from_file_location("copied_encode", path, submodule_search_locations=[str(path.parent)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    for name in [name for name in sys.modules if name.partition(".")[0] == spec.name]:
        del sys.modules[name]
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def scores_of(folder: Path, kind: Any, rows: Any) -> np.ndarray:
    """Return the first output of an exported file for raw rows."""
    encoder = copied_encoder(folder).load(folder / "encoder.json")
    return np.asarray(load_model(kind, folder / MODEL_FILES[kind])(encoder(rows))[0])


def compare_impressions(model: str, dataset: str, kind: str, home: Path, *overrides: str) -> Path:
    """Compare the probabilities; return the folder of the export."""
    made = small_checkpoint(model, dataset, home, *overrides)
    folder = exported(made, kind)
    rules = json.loads((folder / "encoder.json").read_text())
    rows = pd.DataFrame(impression_rows(rules, made.data.spec.scenarios, count=50))
    rows.to_csv(home / "rows.csv", index=False)
    words = [f"ckpt={made.path}", f"input={home / 'rows.csv'}", f"output={home / 'scores.parquet'}"]
    predict(compose("predict", [*words, f"paths.data_dir={home}", "trainer.precision=32-true"]))
    wanted = pd.read_parquet(home / "scores.parquet").filter(like="pred_").to_numpy()
    assert wanted.shape == (50, wanted.shape[1])
    assert np.ptp(wanted, axis=0).min() > 1e-4  # rows differ
    for some in (rows, rows.to_dict("records"), rows.to_dict("list")):
        np.testing.assert_allclose(scores_of(folder, kind, some), wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scores_of(folder, kind, rows.head(1)), wanted[:1], rtol=0, atol=1e-6)
    return folder


def compare_sequences(model: str, dataset: str, kind: str, home: Path, *overrides: str) -> Path:
    """Compare the scores of all items for users whose histories are in a file; return the folder of the export."""
    made = small_checkpoint(model, dataset, home, *overrides)
    folder = exported(made, kind)
    rules = json.loads((folder / "encoder.json").read_text())
    rows = [{key: row[key] for key in ("user", "items", "times")} for row in sequence_rows(rules, 8)]
    events = [(row["user"], *event) for row in rows for event in zip(row["items"], row["times"], strict=True)]
    pd.DataFrame(events, columns=["user", "item", "time"]).to_csv(home / "users.csv", index=False)
    words = [f"ckpt={made.path}", f"input={home / 'users.csv'}", f"output={home / 'top.parquet'}"]
    words += [f"topk={len(rules['items'])}", "exclude_seen=false", f"paths.data_dir={home}"]
    predict(compose("predict", words))
    top = pd.read_parquet(home / "top.parquet").pivot(index="user", columns="item", values="score")
    wanted = top.loc[[row["user"] for row in rows], rules["items"]].to_numpy()
    scores = scores_of(folder, kind, rows)
    assert np.ptp(wanted, axis=1).min() > 1e-4
    np.testing.assert_allclose(scores, wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scores_of(folder, kind, rows[:1]), wanted[:1], rtol=1e-6, atol=1e-6)
    return folder
