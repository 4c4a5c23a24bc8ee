"""Runs whose processes hold parts of the embedding tables: the same results and checkpoints as with whole tables.

The first one has two machines, each with its own working directory, whose processes torchrun starts.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stemlab.errors import StemlabError
from tests.cli.commands import TIMEOUT_S, Workspace, environment
from tests.cli.conftest import TINY, weights
from tests.cli.forked import ForkedCommand, rank_variables
from tests.cli.sequences import FAST, NET, SEQUENCE_DATA

pytestmark = [pytest.mark.ddp]

SHORT = ["trainer.max_epochs=2", "callbacks.early_stop.enabled=false", "trainer.limit_train_batches=4"]
LONGER = ["trainer.max_epochs=3", *SHORT[1:]]
LOGGED = "logger=csv"


def states(run: Path) -> list[dict[str, torch.Tensor]]:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return [content["optimizer_states"][0]["state"][index] for index in content["optimizer_states"][0]["state"]]


def assert_like(run: Path, other: Path) -> None:
    """Check that two checkpoints have the same names, shapes and, up to rounding, values."""
    ours, theirs = weights(run), weights(other)
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert ours[name].numpy() == pytest.approx(value.numpy(), abs=2e-5), name
    for one, two in zip(states(run), states(other), strict=True):
        assert {key: value.shape for key, value in one.items()} == {key: value.shape for key, value in two.items()}
        assert all(one[key].numpy() == pytest.approx(two[key].numpy(), abs=2e-5) for key in one)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("machines")


@pytest.fixture(scope="module")
def divided(workspace: Workspace, machines: Path) -> Path:
    run = workspace.directory / "layout_divided"
    words = [*TINY, *SHORT, LOGGED, "dataset.batch_size=64", "trainer.embedding=row_sharded", "trainer=ddp_cpu"]
    words += ["trainer.devices=1", "trainer.num_nodes=2", f"hydra.run.dir={run}"]
    words += [f"paths.data_dir={workspace.directory / 'data'}"]
    ranks = []
    for rank, variables in enumerate(rank_variables()):
        (machines / str(rank)).mkdir()
        of_torchrun = {"TORCHELASTIC_RUN_ID": "1", "RANK": str(rank), "GROUP_RANK": str(rank), "LOCAL_RANK": "0"}
        own = {**environment(workspace.directory), **variables, **of_torchrun}
        ranks.append(ForkedCommand("stemlab.train", words, machines / str(rank), own))
    outputs = [rank.communicate(TIMEOUT_S) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    return run


@pytest.fixture(scope="module")
def whole(run_training: Callable[..., float], workspace: Workspace) -> Path:
    run_training("layout_whole", *TINY, *SHORT, "dataset.batch_size=128")
    return workspace.directory / "layout_whole"


def test_two_machines_share_one_run_directory(divided: Path, machines: Path, workspace: Workspace) -> None:
    record = workspace.record("layout_divided")
    assert (record["status"], record["hardware"]["processes"], record["footprint"]["ranks"]) == ("finished", 2, 2)
    assert {path.name for path in (divided / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert [path for path in machines.rglob("*") if path.is_file()] == []


def test_divided_tables_train_like_one_process(divided: Path, whole: Path, workspace: Workspace) -> None:
    """151 rows per evaluation, in 17 batches: neither is even."""
    assert_like(divided, whole)
    footprint = workspace.record("layout_divided")["footprint"]
    assert footprint["embedding"] == "row_sharded"
    assert footprint["embedding_total"] < 0.55 * workspace.record("layout_whole")["footprint"]["embedding_total"]
    one, two = ((run / "metrics.csv").read_text().splitlines() for run in (whole, divided))
    assert [line.count(",,") for line in one] == [line.count(",,") for line in two]  # the diagnostics too


def test_one_process_evaluates_divided_tables_alike(divided: Path, workspace: Workspace) -> None:
    workspace.run("evaluate", "ckpt=layout_divided/checkpoints/best.ckpt", "output=layout_divided.json")
    found, recorded = (
        json.loads((workspace.directory / "layout_divided.json").read_text()),
        workspace.record("layout_divided"),
    )
    assert found["metrics"] == pytest.approx({n: recorded["metrics"][n] for n in found["metrics"]}, abs=1e-9, rel=0)


def test_a_run_resumes_in_another_layout(
    divided: Path, whole: Path, run_training: Callable[..., float], workspace: Workspace
) -> None:
    last = f"ckpt_path={divided}/checkpoints/last.ckpt"
    run_training("layout_alone", *TINY, *LONGER, "dataset.batch_size=64", last)
    assert weights(workspace.directory / "layout_alone").keys() == weights(divided).keys()
    words = [*TINY, *LONGER, LOGGED, "dataset.batch_size=64", last]
    workspace.run_two_ranks("train", *words, "trainer.embedding=column_sharded", "hydra.run.dir=layout_columns")
    run_training("layout_longer", *TINY, *LONGER, "dataset.batch_size=128", f"ckpt_path={whole}/checkpoints/last.ckpt")
    assert_like(workspace.directory / "layout_columns", workspace.directory / "layout_longer")


def test_item_tables_are_gathered_for_evaluations_and_checkpoints(sequences: Workspace) -> None:
    """BPRMF has tables only, so that no parameter is left for DDP."""
    words = ["model=bprmf", *SEQUENCE_DATA, *FAST, *NET, "optim.l2=1e-3", *SHORT]
    batch = "dataset.batch_size=16"  # the last value of a setting counts
    sequences.run_two_ranks("train", *words, batch, "trainer.embedding=row_sharded", "hydra.run.dir=items_divided")
    sequences.run("train", *words, "hydra.run.dir=items_whole")
    divided, whole = sequences.record("items_divided"), sequences.record("items_whole")
    assert divided["metrics"] == pytest.approx(whole["metrics"], abs=1e-9, rel=0)
    assert divided["footprint"]["embedding_total"] < 0.55 * whole["footprint"]["embedding_total"]
    assert_like(sequences.directory / "items_divided", sequences.directory / "items_whole")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["trainer.embedding=row_sharded"], "trainer.devices"),
        (["trainer=ddp_cpu", "trainer.embedding=row_sharded", "trainer.compile=true"], "trainer.compile"),
        (["trainer=ddp_cpu", "trainer.embedding=column_sharded", "model.embedding_regularizer_mode=batch"], "columns"),
    ],
)
def test_combinations_that_are_not_exact_are_refused(
    words: list[str], key: str, run_training: Callable[..., float]
) -> None:
    with pytest.raises(StemlabError, match=key):
        run_training("refused", *TINY, *words)


def test_a_network_that_reads_every_row_is_refused(run_training: Callable[..., float]) -> None:
    words = ["model=lightgcn", *SEQUENCE_DATA, "trainer=ddp_cpu", "trainer.embedding=row_sharded"]
    with pytest.raises(StemlabError, match="lightgcn"):
        run_training("refused_graph", *words)
