"""A training on two machines, each with its own working directory: two ranks as torchrun starts them."""

import json
from pathlib import Path

import pytest

from tests.cli.commands import Workspace, environment
from tests.cli.conftest import TINY
from tests.cli.forked import ForkedCommand, rank_variables

SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "dataset.batch_size=64", "logger=csv"]


@pytest.mark.ddp
def test_two_machines_share_one_run_directory(workspace: Workspace, tmp_path: Path) -> None:
    run, words = workspace.directory / "nodes", [*TINY, *SHORT, "trainer=ddp_cpu", "trainer.devices=1"]
    words += ["trainer.num_nodes=2", f"hydra.run.dir={run}", f"paths.data_dir={workspace.directory / 'data'}"]
    commands = []
    for rank, variables in enumerate(rank_variables()):
        home = tmp_path / f"machine{rank}"
        home.mkdir()
        started = {"TORCHELASTIC_RUN_ID": "1", "RANK": str(rank), "GROUP_RANK": str(rank), "LOCAL_RANK": "0"}
        own = {**environment(workspace.directory), **variables, **started}
        commands.append(ForkedCommand("stemlab.train", words, home, own))
    outputs = [command.communicate(120) for command in commands]
    assert [command.returncode for command in commands] == [0, 0], outputs
    record = json.loads((run / "record.json").read_text())
    assert (record["status"], record["hardware"]["processes"], record["footprint"]["ranks"]) == ("finished", 2, 2)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
