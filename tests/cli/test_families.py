"""One training per model family, through the command; its checkpoint alone reproduces the recorded metrics."""

import json

import pytest

from tests.cli.commands import Workspace
from tests.cli.conftest import FAST, NET, SMALL_DATA, TINY
from tests.cli.sequences import SASREC, TIMIREC, write_folder

SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=3"]
SCENARIOS = ["dataset=aliexpress", "dataset.scenarios=[nl,es]", "dataset.sample.rows=400", "dataset.batch_size=128"]
FAMILIES = {
    "multitask": TINY,
    "multiscenario": ["model=mmfi", "model.net.embedding_dim=4", *SCENARIOS],
    "ctr": ["model=dcnv2", "dataset=tiktok", *SMALL_DATA, *FAST, *NET[:1], "model.net.hidden_units=[8]"],
    "sequential": SASREC,
    "two stages": TIMIREC,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_and_evaluates(family, workspace: Workspace):
    folder = workspace.directory / "folder"
    if not folder.exists():
        write_folder(folder)
    name = f"family_{family.replace(' ', '_')}"
    runs_dir = f"paths.runs_dir={name}_runs"  # a first stage of its own
    workspace.run("train", *FAMILIES[family], *SHORT, f"hydra.run.dir={name}", "logger=csv", runs_dir)
    record = workspace.record(name)
    assert record["status"] == "finished"
    workspace.run("evaluate", f"ckpt={name}/checkpoints/best.ckpt", f"output={name}.json")
    found = json.loads((workspace.directory / f"{name}.json").read_text())["metrics"]
    assert found == {key: value for key, value in record["metrics"].items() if key.startswith("test/")}
    assert found
