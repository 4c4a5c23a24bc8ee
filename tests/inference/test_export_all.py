"""Every model is exported, and its file gives the scores of ``stemlab.predict`` on raw rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from torch._inductor import cpp_builder
from torch._inductor.exc import InvalidCxxCompiler

from stemlab.errors import StemlabError
from stemlab.inference.export.formats import require_format
from tests.conf_files import model_config, model_names
from tests.inference.exported_scores import compare_impressions, compare_sequences

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export_all")


@pytest.mark.parametrize("model", model_names())
def test_onnx(model: str, home: Path) -> None:
    if model_config(model)["family"] == "sequential":
        compare_sequences(model, "grocery", "onnx", home)
    else:
        compare_impressions(model, "table", "onnx", home)


@pytest.mark.parametrize(("model", "kind"), [("stem", "onnx"), ("mmfi", "torchexport")])
def test_lists_of_values(model: str, kind: str, home: Path) -> None:
    """Multi-valued fields with weights and sequences with categories and times."""
    folder = compare_impressions(model, "lists", kind, home)
    names = [part["name"] for part in json.loads((folder / "export.json").read_text())["inputs"]]
    assert names == ["ids", "values", "scenario", "lists", "list_weights"]


def test_a_run_in_bf16_is_exported_in_float32(home: Path) -> None:
    compare_impressions("shared_bottom", "table", "torchexport", home, "trainer.precision=bf16-mixed")


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled(home: Path) -> None:
    compare_impressions("single_task", "table", "aoti", home)


def test_a_missing_compiler_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    with pytest.raises(StemlabError, match=r"g\+\+"):
        require_format("aoti")
