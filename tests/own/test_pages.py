"""Every file and command of docs/own works, on smaller data."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.commands import Workspace
from tests.own.pages import OWN, PAGES, commands, files, modules_of, write_files
from tests.tiny_datasets import overrides

SHORT = ["trainer.max_epochs=1", "logger=none", "dataset.batch_size=64", "optim.lr=0.01"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of all pages."""
    made = tmp_path_factory.mktemp("own")
    for page in PAGES:
        write_files(page, made)
    write_coupons(made / "coupons.parquet", 600, seed=0)
    write_coupons(made / "new.parquet", 9, seed=1)
    return made


def write_coupons(path: Path, rows: int, seed: int) -> None:
    """Write the raw data of dataset.md."""
    rng = np.random.default_rng(seed)
    days = np.datetime64("2026-01-01") + rng.integers(0, 60, rows)
    price, half = rng.integers(10, 100, rows), rng.random(rows) < 0.5
    columns = {
        "user": rng.integers(0, 20, rows),
        "shop": rng.integers(0, 9, rows),
        "shown": days.astype("datetime64[s]"),
    }
    columns |= {"price": price.astype(float), "discount": np.where(half, price / 2, price / 4)}
    click = (rng.random(rows) < 0.2 + 0.6 * half).astype(np.int64)
    pq.write_table(pa.table({**columns, "click": click, "buy": click * (rng.random(rows) < 0.5)}), path)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """``dataset=<name>`` -> the overrides of a small one."""
    data = tmp_path_factory.mktemp("own_data")
    return {f"dataset={name}": overrides(name, data / name) for name in ("tiktok", "ml1m")}


def shortened(words, small):
    replaced = [word for typed in words for word in small.get(typed, [typed]) if not word.startswith("trainer.max_")]
    return [word for word in replaced if not word.startswith("dataset.batch_size")] + SHORT


@pytest.mark.parametrize(
    ("page", "number"), [(page, n) for page in PAGES for n, words in enumerate(commands(page)) if "train" in words]
)
def test_command_trains(page, number, folder, small):
    command, *words = commands(page)[number]
    with modules_of(folder):
        place = [] if "-m" in words else [f"hydra.run.dir=runs/{page}{number}"]
        shown = Workspace(folder).run(command, *shortened(words, small), *place)
    record = folder / "runs" / f"{page}{number}" / "record.json"
    if "-m" in words:
        assert "CrossStitch" in shown.stdout or "cross_stitch" in shown.stdout
        return
    found = json.loads(record.read_text())
    assert found["status"] == "finished"
    config = found["config"]
    parts = (*config["callbacks"]["own"].values(), *config["metrics"]["own"].values())
    nodes = (config["model"]["net"], config["dataset"], config["model"].get("balancing") or {}, *parts)
    assert [node for node in nodes if node.get("_target_", "").startswith("my_")]
    assert any(isinstance(value, float) for value in found["metrics"].values())


def test_checkpoint_of_an_own_network_needs_permission(folder, small):
    run, place = "hydra.run.dir=runs/allowed", "ckpt=runs/allowed/checkpoints/best.ckpt"
    words = [word for word in commands("cross_stitch.md")[0][1:] if not word.startswith("model.name")]
    with modules_of(folder):
        workspace = Workspace(folder)
        workspace.run("train", *shortened(words, small), run)
        assert "allow=[my_net]" in workspace.run("evaluate", place, status=2).stderr
        assert "bit for bit" in workspace.run("evaluate", place, "allow=[my_net]").stdout


def test_derived_columns_are_inputs_of_training_and_of_new_rows(folder, small):
    words = shortened(commands("dataset.md")[0][1:], small)
    with modules_of(folder):
        workspace = Workspace(folder)
        workspace.run("train", *words, "hydra.run.dir=runs/coupons")
        predict = [
            word.replace(word, "ckpt=runs/coupons/checkpoints/best.ckpt") if "…" in word else word
            for word in commands("dataset.md")[1][1:]
        ]
        workspace.run("predict", *predict)
        record = workspace.record("runs/coupons")
        changed = (folder / "my_data.py").read_text().replace("100.0", "1.0")
    scores = pq.read_table(folder / "scores.parquet")
    assert scores.column_names == [*pq.read_schema(folder / "new.parquet").names, "pred_click", "pred_buy"]
    spec = record["dataset_manifest"]["spec"]
    assert [field["name"] for field in spec["fields"]] == ["user", "shop", "weekend", "percent"]
    assert "numericals" in record["dataset_manifest"]
    (folder / "my_data.py").write_text(changed)
    with modules_of(folder):
        workspace.run("train", *words, "hydra.run.dir=runs/coupons_changed")
    assert workspace.record("runs/coupons_changed")["dataset_fingerprint"] != record["dataset_fingerprint"]
    write_files("dataset.md", folder)


def test_analysis_of_an_own_class(folder, small):
    words = shortened(commands("cross_stitch.md")[0][1:], small)
    analyse = ["run=runs/analysed" if word.startswith("run=") else word for word in commands("analysis.md")[0][1:]]
    with modules_of(folder):
        workspace = Workspace(folder)
        workspace.run("train", *words, "hydra.run.dir=runs/analysed")
        held = workspace.run("analyze", *analyse, "output=runs/norms", "fail_if='Norms.mean_norm.* > 0'", status=3)
    assert "longest embeddings" in held.stdout
    assert "mean_norm" in held.stderr
    results = json.loads((folder / "runs" / "norms" / "results.json").read_text())
    assert results["sections"]["Norms"]["numbers"]["mean_norm"]
    assert (folder / "runs" / "norms" / "norms.png").is_file()


def test_links_of_the_pages_exist():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", (OWN / page).read_text()):
            assert (OWN / target).exists(), f"{page}: {target}"


def test_pages_have_files_and_commands():
    assert "my_net.py" in files("cross_stitch.md")
    assert len(files("cross_stitch.md")["my_net.py"].splitlines()) < 70
    assert commands("README.md")
