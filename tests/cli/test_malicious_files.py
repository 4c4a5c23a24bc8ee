"""Checkpoints, records and manifests from strangers: no code runs, nothing is written where they say."""

import contextlib
import copy
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stemlab.analyze import analyze
from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.evaluate import evaluate
from stemlab.predict import predict
from stemlab.report import report
from tests.cli.commands import Workspace

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def stranger(trained: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """Return a function that writes a changed copy of a finished run and returns its checkpoint."""

    def write(change: Change) -> Path:
        content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
        change(content["hyper_parameters"])
        path = tmp_path / "stranger" / "checkpoints" / "best.ckpt"
        path.parent.mkdir(parents=True)
        torch.save(content, path)
        return path

    return write


def commands(path: Path, out: Path) -> dict[str, Callable[[], Any]]:
    """Return the commands that build a run from a checkpoint."""
    own = [f"paths.data_dir={out / 'data'}", f"paths.runs_dir={out / 'runs'}"]
    scores = [f"input={out / 'rows.csv'}", f"output={out / 'scores.csv'}"]
    return {
        "evaluate": lambda: evaluate(compose("evaluate", [f"ckpt={path}", *own])),
        "predict": lambda: predict(compose("predict", [f"ckpt={path}", *scores, *own])),
        "analyze": lambda: analyze(compose("analyze", [f"run={path}", f"output={out / 'analysis'}", *own])),
    }


@pytest.mark.parametrize("command", ["evaluate", "predict", "analyze"])
@pytest.mark.parametrize("node", ["dataset", "net"])
@pytest.mark.parametrize("target", ["wandb.sdk.lib.gitlib.run_git", "evilmod.X", "os.system"])
def test_targets_in_a_checkpoint_are_not_called(
    command: str, node: str, target: str, stranger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evilmod.py").write_text("import pathlib\npathlib.Path('imported').touch()\n")
    (tmp_path / "git").write_text("#!/bin/sh\ntouch run\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def change(saved: dict[str, Any]) -> None:
        config = saved["config"]
        (config["dataset"] if node == "dataset" else config["model"]["net"])["_target_"] = target

    path = stranger(change)
    with pytest.raises(StemlabError, match=target):
        commands(path, tmp_path)[command]()
    assert not (tmp_path / "imported").exists()
    assert not (tmp_path / "run").exists()


def test_the_command_line_allows_a_package(stranger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "userpkg.py").write_text("from stemlab.models.multitask.stem import STEM\nclass Own(STEM):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def change(saved: dict[str, Any]) -> None:
        saved["config"]["model"]["net"]["_target_"] = "userpkg.Own"

    words = [f"ckpt={stranger(change)}", f"output={tmp_path / 'metrics.json'}"]
    with pytest.raises(StemlabError, match=r"allow=\[userpkg\]"):
        evaluate(compose("evaluate", words))
    assert evaluate(compose("evaluate", [*words, "allow=[userpkg]"]))["test/auc"] > 0


@pytest.mark.parametrize("command", ["evaluate", "predict", "analyze"])
def test_a_checkpoint_does_not_choose_where_data_is_prepared(
    command: str, stranger: Any, trained: Path, tmp_path: Path
) -> None:
    chosen = tmp_path / "chosen"

    def change(saved: dict[str, Any]) -> None:
        dataset = saved["config"]["dataset"]
        dataset["data_dir"], dataset["raw_dir"] = str(chosen / "data"), str(chosen / "raw")
        dataset["source"] = "sample"  # "auto" refuses a named folder without raw files
        saved["config"]["paths"] = dict.fromkeys(saved["config"]["paths"], str(chosen / "paths"))

    (tmp_path / "rows.csv").write_text("\t".join(map(str, range(1, 13))) + "\n")
    path = stranger(change)
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    with contextlib.suppress(StemlabError):
        commands(path, tmp_path)[command]()
    written = {p for p in tmp_path.rglob("*") if p.is_file()} - before
    assert not chosen.exists()
    assert list((tmp_path / "data" / "prepared").glob("tiktok-*"))
    assert all(part.is_relative_to(tmp_path / "data") or "prepared" not in part.parts for part in written)


def test_a_download_does_not_go_to_a_recorded_folder(sequences: Workspace, tmp_path: Path) -> None:
    """The dataset of MovieLens downloads a missing file into ``raw_dir``; a recorded ``raw_dir`` is only read."""
    from stemlab.runs import restore

    config = compose(
        "train", ["model=pop", "dataset=ml1m", f"dataset.raw_dir={tmp_path / 'chosen'}", "hydra.run.dir=x"]
    )
    hyper_parameters = {
        "config": json.loads(json.dumps(config)),
        "spec": {"name": "ml1m", "users": 3, "items": 3, "sample": False, "kind": "sequence"},
        "fingerprint": "0" * 64,
    }
    torch.save({"state_dict": {}, "epoch": 0, "hyper_parameters": hyper_parameters}, tmp_path / "a.ckpt")
    rebuilt = restore.RebuiltRun(compose("evaluate", [f"ckpt={tmp_path / 'a.ckpt'}"]))
    assert rebuilt.config["dataset"]["download"] is False


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside"])
def test_a_dataset_name_is_not_a_path(name: str, stranger: Any, tmp_path: Path) -> None:
    def change(saved: dict[str, Any]) -> None:
        saved["config"]["dataset"]["name"] = name

    with pytest.raises(StemlabError, match=r"dataset\.name"):
        commands(stranger(change), tmp_path)["evaluate"]()
    assert not (tmp_path / "data").exists()


def test_a_fingerprint_is_not_a_pattern(stranger: Any, tmp_path: Path) -> None:
    path = stranger(lambda saved: saved.update(fingerprint="/../../*"))
    with pytest.raises(StemlabError, match="fingerprint"):
        commands(path, tmp_path)["evaluate"]()


def _drop(*keys: str) -> Change:
    def change(saved: dict[str, Any]) -> None:
        node = saved["config"]
        for key in keys[:-1]:
            node = node[key]
        del node[keys[-1]]

    return change


def _set(value: Any, *keys: str) -> Change:
    def change(saved: dict[str, Any]) -> None:
        node = saved["config"]
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _drop("optim"),
        _drop("dataset", "tasks"),
        _drop("model", "net"),
        _drop("model", "embedding_regularizer"),
        _drop("seed"),
        _set("1", "seed"),
        _set("32-evil", "trainer", "precision"),
        _set("${oc.env:HOME}", "dataset", "batch_size"),
        _set("x", "model", "net", "embedding_dim"),
        _set(-1, "model", "net", "embedding_dim"),
        _set(["nothing"], "dataset", "tasks"),
        _set(None, "model"),
        _set("__import__('os')", "optim", "lr"),
        lambda saved: saved["spec"].pop("tasks"),
        lambda saved: saved["spec"].update(fields=3),
        lambda saved: saved.update(config=[1]),
        lambda saved: saved.update(fingerprint={"a": 1}),
    ],
)
def test_invalid_configs_in_a_checkpoint_are_one_sentence(change: Change, stranger: Any, trained: Path) -> None:
    path = stranger(change)
    data = f"data_dir={trained.parent / 'data'}"
    with pytest.raises(StemlabError) as refused:
        evaluate(compose("evaluate", [f"ckpt={path}", data]))
    assert str(path) in str(refused.value)


def test_interpolations_in_a_checkpoint_and_a_record_stay_text(
    stranger: Any, trained: Path, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET", "plum-pudding")
    path = stranger(_set("${oc.env:SECRET}", "model", "name"))
    record = json.loads((trained / "record.json").read_text())
    record["model"] = record["config"]["model"]["name"] = "${oc.env:SECRET}"
    (path.parents[1] / "record.json").write_text(json.dumps(record))
    reference = "title: ${oc.env:SECRET}\nsource: x\nrows: []\n"
    (tmp_path / "reference.yaml").write_text(reference)
    evaluate(compose("evaluate", [f"ckpt={path}", f"output={tmp_path / 'out' / 'metrics.json'}"]))
    analyze(compose("analyze", [f"run={path}", f"output={tmp_path / 'out' / 'analysis'}"]))
    words = [f"runs=[{path.parents[1]}]", f"output={tmp_path / 'out' / 'report'}"]
    print(report(compose("report", [*words, f"copies={tmp_path / 'out' / 'copies'}"])))
    with contextlib.suppress(StemlabError):
        print(report(compose("report", [*words, f"reference={tmp_path / 'reference.yaml'}"])))
    printed = "".join(capsys.readouterr())
    assert "${oc.env:SECRET}" in printed
    written = [file for file in (tmp_path / "out").rglob("*") if file.suffix in (".json", ".html", ".md", ".csv")]
    assert len(written) > 5
    assert "plum-pudding" not in "".join([printed, *(file.read_text() for file in written)])


class Trap:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickles_are_not_executed_by_any_command(write: Any, trained: Path, tmp_path: Path) -> None:
    write({"hyper_parameters": Trap(tmp_path / "sprung")}, tmp_path / "trap.ckpt")
    data = ["dataset=tiktok", "dataset.sample.rows=1501", f"paths.data_dir={trained.parent / 'data'}"]
    run = f"hydra.run.dir={tmp_path / 'run'}"
    calls = list(commands(tmp_path / "trap.ckpt", tmp_path).values())
    from stemlab.train import train

    calls.append(lambda: train(compose("train", ["model=stem", *data, f"ckpt_path={tmp_path / 'trap.ckpt'}", run])))
    for call in calls:
        with pytest.raises(StemlabError, match=r"trap\.ckpt"):
            call()
    assert not (tmp_path / "sprung").exists()


def test_names_in_a_record_do_not_choose_where_copies_are_written(trained: Path, tmp_path: Path) -> None:
    record = json.loads((trained / "record.json").read_text())
    for number, (key, value) in enumerate(
        [("model", "../../evil"), ("seed", "/../../evil"), ("config_hash", "/../..")]
    ):
        changed = copy.deepcopy(record) | {key: value}
        folder = tmp_path / "in" / str(number)
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(changed))
    (tmp_path / "out").mkdir()
    report(compose("report", [f"runs=[{tmp_path / 'in'}]", f"copies={tmp_path / 'out' / 'copies'}"]))
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_relative_to(tmp_path / "in")]
    assert outside
    assert all(path.parent == tmp_path / "out" / "copies" for path in outside)


def test_names_of_tasks_do_not_choose_where_results_are_written(tmp_path: Path) -> None:
    from stemlab.reporting.record import file_name

    for name in ("../../evil", "/etc/evil", "a\\b", "..", "a/b", "x\0y"):
        made = file_name(name)
        assert "/" not in made
        assert "\\" not in made
        assert not made.startswith(".")
        assert (tmp_path / f"{made}.csv").resolve().parent == tmp_path
    assert file_name("transfer to like (seed 1)") == "transfer to like (seed 1)"


def test_a_run_directory_with_links_is_read_only(trained: Path, tmp_path: Path) -> None:
    """A manifest with names outside of its folder is damaged, not read."""
    from stemlab.data.prepare.manifest import _manifest_checksum, find_damage

    prepared = next((trained.parent / "data" / "prepared").glob("tiktok-*"))
    copied = tmp_path / prepared.name
    shutil.copytree(prepared, copied)
    manifest = json.loads((copied / "manifest.json").read_text())
    assert find_damage(copied, manifest["fingerprint"]) is None
    (tmp_path / "secret").write_text("12345")
    for name in ("../secret", str(tmp_path / "secret")):
        changed = copy.deepcopy(manifest)
        files = changed["files"]
        known = next(iter(files.values()))
        files[name] = {**known, "size": 5} if isinstance(known, dict) else 5
        assert "checksum" in changed  # a stranger computes it, too
        changed["checksum"] = _manifest_checksum(changed)
        (copied / "manifest.json").write_text(json.dumps(changed))
        assert "secret" in str(find_damage(copied, manifest["fingerprint"]))
