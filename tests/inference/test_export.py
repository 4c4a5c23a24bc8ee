"""``stemlab.export``: the exported file with its encoder gives the scores of ``stemlab.predict`` on raw rows."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.export import export
from stemlab.inference.export.card import _settings, model_card
from stemlab.inference.export.formats import write_model
from stemlab.runs.restore import RebuiltRun
from tests.inference.exported_scores import compare_impressions, compare_sequences
from tests.inference.small_checkpoints import small_checkpoint

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"
STEM = ("model.net.expert_hidden_units=[8]", "model.net.gate_hidden_units=[]")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def folder(home: Path) -> Path:
    """Folder of an exported STEM, whose scores were compared."""
    return compare_impressions("stem", "table", "onnx", home, *STEM)


def test_scenarios_vectors_and_derived_columns(home: Path) -> None:
    np.save(home / "vectors.npy", np.ones((1, 5), np.float32))
    vectors = f"model.pretrained={{item: {{file: {home}/vectors.npy, ids: {home}/ids.npy, width: 5}}}}"
    derived = "{user_x_item: {cross: [user, item]}, log_price: {log1p: price}, price_q: {buckets: price, quantiles: 5}}"
    columns = ("dataset.fields=[user,item,user_x_item,price_q]", "dataset.numericals=[log_price]")
    words = ("dataset.tasks=[click]", "dataset.min_count=1", *columns, f"dataset.derived={derived}", vectors)
    folder = compare_impressions("star", "table", "torchexport", home, *words)
    assert [len(one["sources"]) for one in json.loads((folder / "encoder.json").read_text())["derived"]] == [2, 1, 1]


def test_sequences(home: Path) -> None:
    small = ("dataset.history_max=3", "model.net.transformer=false")
    folder = compare_sequences("timirec", "grocery", "torchexport", home, *small)
    facts = json.loads((folder / "export.json").read_text())
    shapes = {part["name"]: part["shape"] for part in (*facts["inputs"], *facts["outputs"])}
    assert shapes["history"] == ["batch", 3]
    assert shapes["candidates"] == shapes["score"] == ["batch", "candidates"]
    assert {"vectors", "length"} < set(shapes)
    assert not {"user", "time", "unit"} & set(shapes)  # not read by the network


def test_histories_keep_the_width_of_the_batch_where_padding_counts(home: Path) -> None:
    (own := home / "counted").mkdir()
    small = ("dataset.history_max=3", "model.net.transformer=false", "model.net.mask_padding=false")
    folder = compare_sequences("timirec", "grocery", "torchexport", own, *small)
    shapes = {part["name"]: part["shape"] for part in json.loads((folder / "export.json").read_text())["inputs"]}
    assert shapes["history"] == ["batch", "history"]


def test_the_folder_describes_itself(folder: Path) -> None:
    facts = json.loads((folder / "export.json").read_text())
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix not in ("", ".pyc")}
    assert files == {*facts["files"], "export.json"}
    assert {"model.onnx", "encode/__init__.py", "encoder.json", "MODEL_CARD.md"} < set(facts["files"])
    for name, entry in facts["files"].items():
        content = (folder / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert [part.name for part in session.get_inputs()] == [part["name"] for part in facts["inputs"]]
    assert [part.name for part in session.get_outputs()] == [part["name"] for part in facts["outputs"]]
    assert all(isinstance(part.shape[0], str) for part in session.get_inputs())  # dynamic
    assert facts["outputs"][0]["columns"] == ["click", "buy"]
    assert facts["check"]["largest_difference"] < 1e-6
    assert facts["opset"] >= 18


def test_the_serving_example_of_the_documentation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(block.strip().splitlines()) <= 10
    monkeypatch.chdir(folder.parent)
    shutil.copytree(folder, folder.parent / "exported")
    monkeypatch.setattr(sys, "path", list(sys.path))
    names: dict[str, Any] = {}
    exec(block, names)
    for name in [name for name in sys.modules if name.partition(".")[0] == "encode"]:
        monkeypatch.delitem(sys.modules, name)
    assert names["probability"].shape == (2, 2)
    assert np.isfinite(names["probability"]).all()


def rebuilt(checkpoint: Path, home: Path) -> RebuiltRun:
    run = RebuiltRun(compose("export", [f"ckpt={checkpoint}", "output=unused", f"paths.data_dir={home}"]))
    run.prepare()
    return run


def header_of(card: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return values


def test_the_card_of_a_finished_run_has_its_metrics(home: Path, tmp_path: Path) -> None:
    made = small_checkpoint("single_task", "tiktok", home)
    (tmp_path / "checkpoints").mkdir()
    checkpoint = shutil.copy(made.path, tmp_path / "checkpoints" / "best.ckpt")
    record = {
        **{
            "schema": 1,
            "status": "finished",
            "metrics": {"val/auc/like": 0.7, "test/auc/like": 0.625, "test/gauc": None},
        },
        **{"best": {"epoch": 3, "monitor": "val/auc", "checkpoint": "checkpoints/best.ckpt"}},
        **{"code": {"version": "0.2.0", "git_commit": "abc123", "git_dirty": True}},
    }
    (tmp_path / "record.json").write_text(json.dumps(record))
    facts: dict[str, Any] = {"format": "onnx", "dataset": "tiktok", "inputs": [], "outputs": []}
    card = model_card(rebuilt(Path(checkpoint), home), {**facts, "check": {"rows": 3, "largest_difference": 0.0}})
    (result,) = header_of(card)["model-index"][0]["results"]
    assert [(entry["name"], entry["value"]) for entry in result["metrics"]] == [("test/auc/like", 0.625)]
    assert result["dataset"]["revision"] == made.data.manifest["fingerprint"]
    for text in ("SAMPLE", "| val/auc/like | 0.7 |", "abc123, with local changes", "Epoch 3", made.data.name):
        assert text in card
    assert str(home) not in card  # no path of the machine


def test_the_card_of_another_checkpoint_has_no_metrics(folder: Path) -> None:
    card = (folder / "MODEL_CARD.md").read_text()
    assert "model-index" not in header_of(card)
    assert re.search(r"## Metrics\s+None", card)


def test_a_card_has_no_paths_of_first_stages_and_pretrained_vectors() -> None:
    values = {"init_from": "/home/me/run", "pretrained": {"item": {"file": "/home/me/a.npy", "width": 3}}, "task": None}
    assert _settings(values) == {"pretrained": {"item": {"width": 3}}, "task": None}


def refusal(*overrides: str) -> str:
    with pytest.raises(StemlabError) as caught:
        export(compose("export", list(overrides)))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_refusals(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = small_checkpoint("stem", "table", home, *STEM)
    own = (f"ckpt={made.path}", f"paths.data_dir={home}")
    assert "not an empty folder" in refusal(*own, f"output={folder}")
    assert "ending" in refusal(*own, f"output={tmp_path / 'model.onnx'}")
    assert "trainer.precision=bf16-mixed" in refusal(*own, f"output={tmp_path / 'out'}", "trainer.precision=bf16-mixed")
    assert "format" in refusal(*own, f"output={tmp_path / 'out'}", "format=onxx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "stemlab[export]" in refusal(*own, f"output={tmp_path / 'out'}")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_of_python() -> None:
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    with pytest.raises(OSError, match="No space"):
        write_model("torchexport", program, ["y"], Path("/dev/full"))
