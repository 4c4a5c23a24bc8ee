"""stemlab.api: data frames to runs, metrics and scores; errors are exceptions and the process stays as it was."""

import os
import random
import signal
import sys
import threading
import warnings
from types import SimpleNamespace

import hydra
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from stemlab import api
from stemlab.config.compose import compose
from stemlab.config.python_settings import compose_settings, without_override
from stemlab.errors import StemlabError
from stemlab.runs import stages
from stemlab.runs.recorder import Recorder
from stemlab.train import train
from tests.own.my_classes import Towers

SMALL = {
    "trainer.max_epochs": 1,
    "dataset.batch_size": 128,
    "dataset.min_count": 2,
    "logger": "none",
    "model.net.embedding_dim": 4,
    "model.net.bottom_hidden_units": [8],
    "model.net.tower_hidden_units": [4],
}
COLUMNS = {"tasks": ["click", "buy"], "fields": ["user", "item name"], "numericals": ["price"]}


def click_log():
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 30, 1200), rng.integers(0, 20, 1200)
    frame = pd.DataFrame({"user": user, "item name": [f"it'em {i}" for i in item], "price": rng.random(1200)})
    frame["click"] = (rng.random(1200) < 0.2 + 0.6 * (user % 2)).astype(int)
    frame["buy"] = ((rng.random(1200) < 0.5) & (frame.click == 1)).astype(int)
    frame["part"] = np.repeat(["train", "valid", "test"], [800, 200, 200])
    return frame


FRAME = click_log()
SPLIT = {"dataset.split.rule": "given", "dataset.split_column": "part", "dataset.group": "user"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made, before = tmp_path_factory.mktemp("api"), os.getcwd()
    os.chdir(made)
    yield made
    os.chdir(before)


@pytest.fixture(scope="module")
def run(folder):
    return api.fit(FRAME, **COLUMNS, settings=SMALL | SPLIT)


def test_run_has_the_record_of_the_command(run, folder):
    record = run.record
    assert record["status"] == "finished"
    assert record["metrics"] == run.metrics
    assert "trainer.max_epochs=1" in record["overrides"]
    assert run.checkpoint.is_file()
    assert run.directory.is_relative_to(folder / "runs" / "table" / "shared_bottom")
    assert [file.suffix for file in (folder / "data" / "frames").iterdir()] == [".parquet"]


def test_scores_have_the_library_and_the_index_of_the_data(run):
    rows = FRAME.iloc[3:9].drop(columns=["click", "buy"])
    scored = run.predict(rows)
    assert list(scored.index) == list(rows.index)
    assert list(scored.columns) == [*rows.columns, "pred_click", "pred_buy"]
    assert scored[["pred_click", "pred_buy"]].to_numpy().min() > 0
    of_polars, of_arrow = run.predict(pl.from_pandas(rows)), run.predict(pa.Table.from_pandas(rows))
    assert isinstance(of_polars, pl.DataFrame)
    assert isinstance(of_arrow, pa.Table)
    np.testing.assert_array_equal(scored["pred_buy"], of_polars["pred_buy"])
    np.testing.assert_array_equal(scored["pred_buy"], of_arrow["pred_buy"])


def test_file_is_scored_as_the_frame(run, tmp_path):
    FRAME.head(5).to_csv(tmp_path / "rows.csv", index=False)
    scores = run.predict(tmp_path / "rows.csv")["pred_click"]
    np.testing.assert_array_equal(scores, run.predict(FRAME.head(5))["pred_click"])


def test_metrics_of_a_split_and_of_its_rows_are_those_of_the_record(run):
    assert run.evaluate() == {name: run.metrics[name] for name in run.metrics if name.startswith("test/")}
    of_rows = run.evaluate(FRAME[FRAME.part == "test"])
    recorded = {name: value for name, value in run.metrics.items() if "gauc_encoded" not in name}
    expected = {name.replace("test/", "data/"): value for name, value in recorded.items() if name.startswith("test/")}
    assert of_rows == expected
    shuffled = run.evaluate(FRAME[FRAME.part == "test"].sample(frac=1, random_state=0))
    assert shuffled == pytest.approx(expected, 1e-6)


def test_loaded_run_is_the_same(run):
    assert api.load(run.directory) == run
    assert api.load(run.checkpoint).evaluate(split="valid") == api.evaluate(run.directory, split="valid")


def test_equal_data_of_another_library_gives_an_equal_run(run):
    again = api.fit(pl.from_pandas(FRAME), **COLUMNS, settings=SMALL | SPLIT)
    assert again.record["dataset_fingerprint"] == run.record["dataset_fingerprint"]
    assert again.metrics == run.metrics
    assert again.directory != run.directory


def test_process_stays_as_it_was(run):
    def state():
        signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        drawn = (random.random(), float(np.random.rand()), torch.rand(1).item())
        torch_settings = (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads())
        variables = {name: value for name, value in os.environ.items() if name.startswith("PL_")}
        return signals, drawn, torch_settings, variables, len(warnings.filters), os.getcwd()

    seeds = random.getstate(), np.random.get_state(), torch.get_rng_state()
    before = state()
    random.setstate(seeds[0])
    np.random.set_state(seeds[1])
    torch.set_rng_state(seeds[2])
    run.evaluate()
    with pytest.raises(StemlabError):
        api.fit(FRAME, tasks=["clik"], fields=["user"], settings=SMALL)
    assert state() == before


def test_hydra_of_the_caller_is_kept(run, tmp_path):
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        run.predict(FRAME.head(2))
        assert hydra.compose("mine") == {"a": 1}
    assert not GlobalHydra.instance().is_initialized()


def test_own_class_is_trained_loaded_and_allowed(folder):
    settings = {key: value for key, value in SMALL.items() if not key.startswith("model.")}
    run = api.fit(FRAME, model=Towers, **COLUMNS, settings={**settings, "model.net.units": [4]})
    assert run.record["model"] == "Towers"
    assert run.record["config"]["model"]["net"]["width"] == 4
    assert len(run.predict(FRAME.head(2))) == 2
    with pytest.raises(StemlabError, match=r"allow=\[tests\]"):
        api.predict(run.directory, FRAME.head(2))


def test_histories_of_a_frame_give_recommendations(folder):
    rng = np.random.default_rng(1)
    log = pl.DataFrame({"user": np.repeat(np.arange(25), 8), "item": rng.integers(0, 40, 200), "time": np.arange(200)})
    settings = {"trainer.max_epochs": 1, "logger": "none", "dataset.eval_negatives": 5, "dataset.evaluation.topk": [5]}
    run = api.fit(log, dataset="interactions", model="youtube", settings=settings)
    assert run.metrics["test/ndcg@5"] is not None
    top = run.predict(log.filter(pl.col("user") < 3).select("user").unique(), settings={"topk": 4})
    assert isinstance(top, pl.DataFrame)
    assert top.columns == ["user", "item", "rank", "score"]
    assert top["rank"].to_list() == [1, 2, 3, 4] * 3
    assert set(top["item"]) <= {str(item) for item in log["item"]}
    assert len(run.predict(settings={"topk": 2})) == 50
    with pytest.raises(StemlabError, match="table"):
        run.evaluate(log)


@pytest.mark.parametrize(
    ("data", "arguments", "expected"),
    [
        (FRAME, {"tasks": ["clik"]}, ["clik", "'click'"]),
        (FRAME, {"model": "mmo"}, ["in the settings", "'mmoe'"]),
        (FRAME, {"settings": {"trainer.max_epoch": 1}}, ["trainer.max_epoch", "in the settings", "max_epochs"]),
        (FRAME, {"settings": {"seed": object()}}, ["seed=", "mapping"]),
        (FRAME, {"settings": {"trainer": "ddp_cpu", "trainer.devices": 2}}, ["trainer.devices", "this process"]),
        (FRAME[:0], {}, ["no rows"]),
        ([1, 2], {}, ["list", "data frame"]),
        (FRAME["user"], {}, ["Series", "loc[["]),
        (pl.LazyFrame({"a": [1]}), {}, ["LazyFrame", "collect()"]),
        (pd.DataFrame({"user": [1, "a"]}), {}, ["user", "one type"]),
        (pd.DataFrame([[1, 2]], columns=["user", "user"]), {}, ["several columns 'user'"]),
        ("nowhere.csv", {}, ["nowhere.csv"]),
    ],
)
def test_mistakes_are_exceptions_in_one_sentence(data, arguments, expected, folder):
    with pytest.raises(StemlabError) as error:
        api.fit(data, **{**COLUMNS, "settings": {"logger": "none"}, **arguments})
    assert not [text for text in expected if text not in str(error.value)], str(error.value)


def test_threads_wait_for_each_other(run, folder):
    rows, screen, found = FRAME.head(5), sys.stdout, []
    expected = run.predict(rows)

    def score():
        found.append(run.predict(rows))

    threads = [threading.Thread(target=score) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.stdout is screen
    assert len(found) == 2
    for scores in found:
        pd.testing.assert_frame_equal(scores, expected)


def test_errors_name_the_data_and_not_a_temporary_file(run):
    with pytest.raises(StemlabError, match=r"^the data, row 1: column 'price' is 'abc'"):
        run.predict(FRAME.head(1).assign(price="abc"))


@pytest.mark.parametrize("cell", [{"a": 1}, b"\xff"])
def test_cells_that_are_no_single_values_are_refused(cell, run):
    with pytest.raises(StemlabError, match=r"^the data: column 'user' has cells of type"):
        run.predict(FRAME.head(1).assign(user=[cell]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda frame: frame.drop(columns="buy"), ["no column 'buy'"]),
        (lambda frame: frame.assign(click=2), ["click", "2", "neither 0 nor 1"]),
        (lambda frame: frame.drop(columns="price"), ["price"]),
    ],
)
def test_rows_that_cannot_be_measured_are_refused(run, change, expected):
    with pytest.raises(StemlabError) as error:
        run.evaluate(change(FRAME.head(20)))
    assert not [text for text in expected if text not in str(error.value)], str(error.value)


def test_there_must_be_a_run(tmp_path):
    with pytest.raises(StemlabError, match="record"):
        api.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["a b", "a,b", "it's", "\\", "\\'", "[x]", "{a}", "${x}", "true", "3", "", "ü", "a=b", "x:y", "aé", "a日"]
)
def test_texts_of_settings_arrive_unchanged(text):
    words = {"tags": [text, text], "model.task": None}
    if "${" in text:
        words["tags"] = ["a"]
    config, _ = compose_settings("train", words)
    assert config["tags"] == words["tags"]


@pytest.mark.parametrize(
    ("task", "expressible"),
    [
        ("7 days", True),
        ("7d", True),
        ("click[1]", True),
        ("a.b=c", True),
        ("é", False),
        ("3", False),
        ("true", False),
        ("it's", False),
    ],
)
def test_names_of_columns_are_keys_of_settings(task, expressible, tmp_path):
    """Hydra's grammar has no quotes around the keys of a mapping, and escapes some characters only."""
    path = tmp_path / "rows.csv"
    path.write_text(f"u,{task}\n" + "".join(f"{k},{k / 2}\n" for k in range(20)))
    columns = {"dataset.path": path, "dataset.tasks": [task], "dataset.fields": ["u"]}
    labels = {"dataset.labels": {task: {"kind": "regression"}}, "model.losses": {task: {"name": "huber", "delta": 2.0}}}
    words = {"dataset": "table", "model": "shared_bottom", **columns, **labels}
    config, typed = compose_settings("train", words)
    assert config["dataset"]["labels"] == labels["dataset.labels"]
    assert config["model"]["losses"] == labels["model.losses"]
    assert config["objective"] == "val/rmse"
    assert without_override(words) == ([] if expressible else ["dataset.labels", "model.losses"])
    if expressible:
        again = compose("train", typed)
        assert (again["dataset"], again["model"]) == (config["dataset"], config["model"])
    else:
        assert not [word for word in typed if word.startswith(("model.losses", "dataset.labels"))]


def test_a_record_names_the_settings_that_its_overrides_lack(tmp_path, monkeypatch):
    config = compose("train", [f"paths.output_dir={tmp_path}"])
    run = SimpleNamespace(recorder=Recorder("train", config, [], tmp_path, 1), run=lambda: 0.5)
    monkeypatch.setattr(stages, "training_run", lambda *arguments: run)
    train(config, [])
    assert "settings_without_override" not in run.recorder.record
    train(config, [], unexpressed=["model.losses"])
    assert run.recorder.record["settings_without_override"] == ["model.losses"]
