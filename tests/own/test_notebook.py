"""The notebook of docs/notebooks runs, with fewer rows, and has its outputs; docs/python.md runs as well."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

DOCS = Path(__file__).resolve().parents[2] / "docs"
CELLS = [
    cell
    for cell in json.loads((DOCS / "notebooks" / "first_model.ipynb").read_text(encoding="utf-8"))["cells"]
    if cell["cell_type"] == "code"
]
SMALLER = {"20_000": "2_000", "5000": "500", 'max_epochs": 4': 'max_epochs": 1', 'max_epochs": 2': 'max_epochs": 1'}


def test_cells_run_and_have_outputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = ModuleType("cells_of_a_notebook")  # classes of the cells are imported from it
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for cell in CELLS:
        assert cell["outputs"]
        assert not [output for output in cell["outputs"] if output["output_type"] == "error"]
        source = "".join(cell["source"])
        for text, smaller in SMALLER.items():
            source = source.replace(text, smaller)
        exec(compile(source, "notebook", "exec"), module.__dict__)
    assert module.run.metrics.keys() > {"test/auc/click", "test/auc/buy"}
    assert module.own.record["model"] == "Linear"


def test_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.integers(0, 9, 900) for name in ("user", "item")}).assign(price=rng.random(900))
    frame.assign(click=rng.integers(0, 2, 900), buy=rng.integers(0, 2, 900)).to_parquet("clicks.parquet")
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    names = {}
    exec(block.replace('max_epochs": 2', 'max_epochs": 1, "logger": "none"'), names)
    assert len(block.splitlines()) < 16
    assert list(names["scores"].columns[-2:]) == ["pred_click", "pred_buy"]
