"""Checkpoint files, config differences at resume, and the merged config of a restored run."""

import os
import resource
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stemlab.config.compose import compose
from stemlab.config.resolve import flatten
from stemlab.errors import StemlabError
from stemlab.runs.checkpoint_io import AtomicCheckpointIO, read_checkpoint
from stemlab.runs.restore import merge_config
from stemlab.runs.resume import check_resumable, config_differences, misfit_refused
from tests.damage import flip_byte
from tests.ranks import server_context


def test_checkpoints_are_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoints" / "best.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def save(content: object, file: object) -> None:
        file.write(b"half")
        raise OSError("no space")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(StemlabError, match=r"best\.ckpt .*no space"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    monkeypatch.undo()
    assert list(path.parent.iterdir()) == [path]
    assert torch.load(path) == {"epoch": 1}


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"state_dict": {}, "x": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(StemlabError, match=r"trap\.ckpt .*checkpoint .*code"):
        read_checkpoint(tmp_path / "trap.ckpt")
    (tmp_path / "rows.csv").write_text("user,click\nu1,1\n")
    with pytest.raises(StemlabError, match=r"rows\.csv .*checkpoint") as error:
        read_checkpoint(tmp_path / "rows.csv")
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "sprung").exists()


def test_the_content_of_a_checkpoint_is_read(tmp_path: Path) -> None:
    hparams = {
        "config": {"seed": 1},
        "spec": {"name": "toy", "fields": [{"name": "u", "size": 3}], "tasks": ["like"], "scenarios": []},
    }
    weights = {"net.a": torch.ones(2), "other": torch.zeros(1)}
    torch.save(
        {"state_dict": weights, "epoch": 4, "hyper_parameters": {**hparams, "fingerprint": "f"}}, tmp_path / "a.ckpt"
    )
    saved = read_checkpoint(tmp_path / "a.ckpt")
    assert (saved.config, saved.fingerprint, saved.epoch, saved.epochs) == ({"seed": 1}, "f", 4, 5)
    assert saved.spec.field_sizes == {"u": 3}
    assert list(saved.weights) == ["a"]


def memory_of_reading(path: Path, small: Path) -> tuple[float, int]:
    """Return the sum of weight ``a`` and by how many kilobytes reading the file raises the peak of this process.

    A small checkpoint is read first: the pages of the libraries that this needs are no memory of the large one.
    """
    read_checkpoint(small)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    saved = read_checkpoint(path)
    return float(saved.weights["a"].sum()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def test_moments_of_the_optimiser_are_not_read(tmp_path: Path) -> None:
    hparams = {"config": {}, "spec": {"name": "toy", "fields": [], "tasks": [], "scenarios": []}, "fingerprint": "f"}
    moments = {"state": {0: {"exp_avg": torch.ones(20_000_000)}}}
    content = {"state_dict": {"net.a": torch.ones(5)}, "epoch": 0, "hyper_parameters": hparams}
    torch.save(content, tmp_path / "small.ckpt")
    torch.save({**content, "optimizer_states": [moments]}, tmp_path / "large.ckpt")
    with ProcessPoolExecutor(1, server_context()) as pool:  # a new process: its peak is its own
        total, kilobytes = pool.submit(memory_of_reading, tmp_path / "large.ckpt", tmp_path / "small.ckpt").result()
    assert total == 5
    assert kilobytes < 40_000  # of 80 MB


def test_changes_of_the_weights_do_not_change_the_file(tmp_path: Path) -> None:
    hparams = {"config": {}, "spec": {"name": "toy", "fields": [], "tasks": [], "scenarios": []}, "fingerprint": "f"}
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"net.a": torch.ones(5)}, "epoch": 0, "hyper_parameters": hparams}, path)
    read_checkpoint(path).weights["a"].zero_()
    assert read_checkpoint(path).weights["a"].sum() == 5


def test_a_changed_byte_of_the_weights_is_refused(tmp_path: Path) -> None:
    hparams = {"config": {}, "spec": {"name": "toy", "fields": [], "tasks": [], "scenarios": []}, "fingerprint": "f"}
    path, weight = tmp_path / "a.ckpt", torch.arange(50.0)
    torch.save({"state_dict": {"net.a": weight}, "epoch": 0, "hyper_parameters": hparams}, path)
    flip_byte(path, weight.numpy().tobytes())
    with pytest.raises(StemlabError, match=r"a\.ckpt is damaged .*data/0 has changed.*copy it again"):
        read_checkpoint(path)


def test_a_checkpoint_in_the_old_format_of_torch(tmp_path: Path) -> None:
    hparams = {"config": {}, "spec": {"name": "toy", "fields": [], "tasks": [], "scenarios": []}, "fingerprint": "f"}
    content = {"state_dict": {"net.a": torch.ones(5)}, "epoch": 3, "hyper_parameters": hparams}
    torch.save(content, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert read_checkpoint(tmp_path / "old.ckpt").epoch == 3


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"hello", "another kind"), (b"PK\x03\x04 and a part", "copy it again")]
)
def test_why_a_file_cannot_be_read(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(StemlabError, match=rf"a\.ckpt .*{reason}"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_directory_names_a_checkpoint_that_exists(tmp_path: Path) -> None:
    runs = [tmp_path / "runs" / "tiktok" / "stem" / name for name in ("old", "new")]
    for seconds, run in enumerate(runs):
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints" / "best.ckpt").touch()
        os.utime(run / "checkpoints" / "best.ckpt", (seconds, seconds))
    for folder in (tmp_path / "runs", runs[0].parent, runs[1], runs[1] / "checkpoints"):
        with pytest.raises(StemlabError, match=rf"{folder} is a directory: .*{runs[1]}/checkpoints/best\.ckpt\."):
            read_checkpoint(folder)
    with pytest.raises(StemlabError, match="without checkpoints"):
        read_checkpoint(tmp_path)


def test_weights_that_do_not_fit_at_resume_are_refused(tmp_path: Path) -> None:
    one, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 4)
    with (
        pytest.raises(StemlabError, match=r"cannot resume .*a\.ckpt.* do not fit .*weight"),
        misfit_refused(Path("a.ckpt")),
    ):
        one.load_state_dict(other.state_dict())
    with pytest.raises(RuntimeError, match="other"), misfit_refused(Path("a.ckpt")):
        raise RuntimeError("other")


def test_differences_are_found_in_depth() -> None:
    old = {"a": 1, "b": {"c": [1, 2], "d": None}, "gone": 0}
    new = {"a": 1, "b": {"c": [1, 3], "d": None}, "new": 5}
    assert list(config_differences(old, new, "k")) == [
        ("k.b.c", [1, 2], [1, 3]),
        ("k.gone", 0, None),
        ("k.new", None, 5),
    ]


SAVED = {
    "seed": 1,
    "dataset": {"raw_dir": "/old", "data_dir": "/old", "eval_batch_size": 9},
    "trainer": {"accelerator": "gpu", "precision": "bf16-mixed", "devices": 4, "threads": 3},
}
CHOSEN = {
    "trainer": {"accelerator": None, "precision": None, "devices": 1, "threads": None},
    "raw_dir": None,
    "data_dir": None,
    "batch_size": None,
}


def test_null_keeps_the_recorded_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    merged = merge_config(SAVED, CHOSEN)
    assert merged["trainer"] == {"accelerator": "gpu", "precision": "bf16-mixed", "devices": 1, "threads": 3}
    assert merged["dataset"] == SAVED["dataset"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert merge_config(SAVED, CHOSEN)["trainer"]["accelerator"] == "cpu"


def test_limits_are_never_those_of_the_training() -> None:
    limits = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
    saved = {**SAVED, "trainer": {**SAVED["trainer"], **dict.fromkeys(limits, 1)}}
    chosen = {**CHOSEN, "trainer": {**CHOSEN["trainer"], **dict.fromkeys(limits), "limit_test_batches": 3}}
    merged = merge_config(saved, chosen)["trainer"]
    assert [merged[key] for key in limits] == [None, None, 3]


def test_chosen_values_replace_recorded_ones() -> None:
    chosen = {"accelerator": "cpu", "precision": "32-true", "devices": 2, "threads": 1}
    merged = merge_config(SAVED, {"trainer": chosen, "raw_dir": "/new", "data_dir": "/d", "batch_size": 5})
    assert merged["trainer"] == chosen
    assert merged["dataset"] == {"raw_dir": "/new", "data_dir": "/d", "eval_batch_size": 5}
    assert SAVED["dataset"]["raw_dir"] == "/old"


@given(st.dictionaries(st.sampled_from("abc"), st.integers() | st.dictionaries(st.sampled_from("xyz"), st.integers())))
def test_flattening_loses_nothing(config: dict) -> None:
    flat = flatten(config)
    back: dict = {key: {} for key, value in config.items() if isinstance(value, dict)}
    for name, value in flat.items():
        outer, _, inner = name.partition(".")
        if inner:
            back[outer][inner] = value
        else:
            back[outer] = value
    assert back == config


def older_checkpoint(folder: Path, **without: str) -> tuple[dict, Path]:
    """Return a config, and a checkpoint that lacks settings: group -> key."""
    config = compose("train", ["model=mmoe", f"paths.data_dir={folder}", f"paths.output_dir={folder}"])
    saved = {
        **config,
        **{group: {k: v for k, v in config[group].items() if k != key} for group, key in without.items()},
    }
    spec = {"name": "toy", "fields": [{"name": "u", "size": 3}], "tasks": ["like"], "scenarios": []}
    content = {"config": saved, "spec": spec, "fingerprint": "f"}
    path = folder / "older.ckpt"
    torch.save({"state_dict": {}, "epoch": 0, "global_step": 4, "hyper_parameters": content}, path)
    return config, path


def test_a_setting_that_is_newer_than_the_checkpoint_has_its_default(tmp_path: Path) -> None:
    config, path = older_checkpoint(tmp_path, trainer="accumulate_grad_batches", optim="schedule", callbacks="own")
    _, changed = check_resumable(config, "f", path)
    assert changed == {}
    config["trainer"]["accumulate_grad_batches"] = 2
    with pytest.raises(StemlabError, match=r"accumulate_grad_batches=None.*has 2"):
        check_resumable(config, "f", path)
