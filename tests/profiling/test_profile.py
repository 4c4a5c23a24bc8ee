"""The command on small data: files, sums, messages."""

import json

import pytest
from PIL import Image

from stemlab.config.compose import compose
from stemlab.data.blocks import BlockLoader
from stemlab.errors import StemlabError
from stemlab.profile import profile_training
from stemlab.profiling import flops, measure
from stemlab.profiling.output import milliseconds
from stemlab.profiling.step_clock import BACKWARD, CLIPPING, FORWARD, LOADER, OPTIMISER, REPLAY, REST
from stemlab.profiling.step_probe import TIMED, WARM_UP, StepProbe
from stemlab.profiling.trace import read_trace, step_windows
from tests.cli.commands import Workspace
from tests.cli.conftest import TINY
from tests.cli.sequences import SEQUENCE_DATA, write_folder
from tests.lightning.toy_training import Training, make

SHORT = ["warmup_steps=1", "steps=4", "traced_steps=2"]


@pytest.fixture(autouse=True)
def small_peak(monkeypatch):
    monkeypatch.setattr(flops, "_CPU_SHAPES", ((64, 64, 64),))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("profiles"))


def sequences(folder):
    """Write a small dataset of sequences; return the overrides of runs on it."""
    write_folder(folder / "folder")
    return [*SEQUENCE_DATA[:1], f"dataset.raw_dir={folder / 'folder'}", *SEQUENCE_DATA[2:], f"paths.root_dir={folder}"]


def check_sums(found):
    """Check that the parts are the step, and what every profile has."""
    parts = found["parts"]
    assert sum(part["seconds"] for part in parts.values()) == pytest.approx(found["step"]["mean_s"], rel=1e-12)
    assert sum(part["share"] for part in parts.values()) == pytest.approx(1)
    assert {LOADER, FORWARD, BACKWARD, OPTIMISER, REST} <= parts.keys()
    assert found["step"]["steps"] == 4
    assert found["step"]["fastest_s"] <= found["step"]["median_s"] <= found["step"]["slowest_s"]
    assert found["traced"]["steps"] == 2
    assert found["traced"]["gpu"] is None
    assert found["traced"]["kernels"] == []
    operators = {work["name"]: work for work in found["traced"]["operators"]}
    assert sum(work["seconds"] for work in operators.values()) < found["traced"]["step_s"]
    assert found["flops"]["backward"] > found["flops"]["forward"] > 0
    assert found["flops"]["utilisation"] > 0
    memory = found["memory"]
    assert memory["optimiser_bytes"] > memory["weights_bytes"] > 0  # two moments of each weight with a gradient
    assert 0 < memory["step_peak_bytes"] < memory["peak_rss_bytes"]


def test_a_profile_of_stem_over_several_epochs(workspace):
    words = [*TINY, "dataset.batch_size=512", *SHORT, "logger=csv", "hydra.run.dir=stem"]  # 3 steps per epoch
    done = workspace.run("profile", *words)
    folder = workspace.directory / "stem"
    found = json.loads((folder / "profile.json").read_text())
    check_sums(found)
    assert CLIPPING in found["parts"]
    assert (found["model"], found["stage"], found["sample"]) == ("stem", None, True)
    assert found["engine"]["captured"] is False
    assert found["engine"]["loop"] == "direct"  # the probe leaves the loop of a training as it is
    assert found["engine"]["direct_steps"] > 0
    assert found["batch_size"] == 512
    assert next(iter(found["parameters"])) == "embedding tables"
    assert len(step_windows(read_trace(folder / "trace.json.gz"))) == 2
    with Image.open(folder / "profile.png") as picture:
        assert picture.width > 600
    assert (folder / "profile.png").stat().st_size < 100_000
    for word in ("forward", "SAMPLE", "samples/s", "GFLOP", "profile.json", milliseconds(found["step"]["mean_s"])):
        assert word in done.stdout
    assert "stemlab.profile" not in done.stderr
    assert not (folder / "record.json").exists()


def test_both_stages_of_timirec(tmp_path):
    write_folder(tmp_path / "folder")
    data = [
        "dataset=rechorus",
        f"dataset.raw_dir={tmp_path / 'folder'}",
        f"paths.root_dir={tmp_path}",
        "dataset.history_max=6",
    ]
    small = ["model=timirec", "model.net.embedding_dim=8", "dataset.batch_size=32", "dataset.evaluation.topk=[5]"]
    config = compose("profile", [*data, *small, *SHORT, f"hydra.run.dir={tmp_path / 'run'}"])
    found = profile_training(config)
    assert [one["stage"] for one in found] == ["pretrain", "finetune"]
    for one in found:
        check_sums(one)
        assert json.loads((tmp_path / "run" / one["stage"] / "profile.json").read_text())["stage"] == one["stage"]
    assert found[1]["parameters"].keys() - found[0]["parameters"].keys() == {"predictor"}


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["trainer=ddp_cpu"], "one process"),
        (["model=timirec", "dataset=ml1m", "model.init_from=runs/a"], "model.init_from"),
        (["steps=0"], "steps"),
        (["resume=auto"], "resume"),
    ],
)
def test_settings_that_a_profile_has_not_are_refused(workspace, words, match):
    ended = workspace.run("profile", *TINY[:1], *words, "hydra.run.dir=refused", status=2)
    assert match in ended.stderr
    assert not (workspace.directory / "refused").exists()


def test_too_few_steps_are_named(workspace, monkeypatch):
    monkeypatch.setattr(measure, "_MOST_EPOCHS", 1)
    ended = workspace.run("profile", *TINY, *SHORT, "dataset.batch_size=512", "hydra.run.dir=few", status=2)
    assert "dataset.batch_size" in ended.stderr
    assert "only 3 steps" in ended.stderr


def test_an_experiment_is_profiled_with_its_seed():
    config = compose("profile", ["experiment=ml1m/timirec", "hydra.run.dir=x"])
    assert (config["seed"], config["model"]["stage"], config["logger"]["name"]) == (1, "both", "none")
    assert "profiles" in compose("profile", [])["paths"]["output_dir"]


def test_a_model_without_training_is_refused(tmp_path):
    config = compose("profile", ["model=pop", *sequences(tmp_path), f"hydra.run.dir={tmp_path / 'run'}"])
    with pytest.raises(StemlabError, match="no training steps"):
        profile_training(config)


def test_replays_of_captured_steps_are_a_part(tmp_path):
    training = Training(make("mmoe"), block=3, folder=tmp_path, epochs=9)
    probe = StepProbe(warm_up=7, timed=6, traced=1)
    training.trainer.callbacks.insert(0, probe)
    with probe.measuring(training.trainer):
        training.fit()
    assert isinstance(training.trainer.train_dataloader, BlockLoader)
    assert probe.finished
    assert training.trainer.should_stop
    warm, timed = (probe.steps(phase) for phase in (WARM_UP, TIMED))
    assert sum(batch.steps for batch in warm) == 7  # blocks of 3, 3 and the last step of the epoch
    assert sum(batch.steps for batch in timed) == 6
    assert all(batch.parts[REPLAY] > 0 for batch in timed)
    assert training.runner.replayed > 0
