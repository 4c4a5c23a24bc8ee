"""The click log of docs/click_log, with every kind of input and label: train, evaluate, predict with one config."""

import csv
import shutil
from pathlib import Path

import pytest

from stemlab.config.compose import CommandLine, KeyOrigins, compose, compose_job, hydra_context
from stemlab.config.validate import validate
from stemlab.evaluate import evaluate
from stemlab.predict import predict
from stemlab.train import train
from tests.click_log import write_click_log

DOCS = Path(__file__).resolve().parents[2] / "docs" / "click_log"


def test_one_config_trains_on_everything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DOCS, tmp_path, dirs_exist_ok=True)
    texts = [(tmp_path / name).read_text().splitlines() for name in ("log.yaml", "experiment/click_log.yaml")]
    assert sum(len(text) for text in texts) < 40
    write_click_log(tmp_path / "log.csv")
    places = ["paths.data_dir=data", "paths.output_dir=run", "logger=csv"]
    with hydra_context(CommandLine("train", extra=tmp_path)):
        config = compose_job("train", ["experiment=click_log", *places])
        validate("train", config, KeyOrigins("train", ["experiment=click_log", *places]))
    train(config)
    found = evaluate(compose("evaluate", ["ckpt=run/checkpoints/best.ckpt", "paths.data_dir=data"]))
    assert found["test/auc/click"] > 0.62
    assert 0.5 < found["test/auc/buy"] < 0.9
    assert found["test/xauc/watch_time"] > 0.5
    assert found["test/auc/click/mail"] == pytest.approx(found["test/auc/click"], abs=0.1)
    words = ["ckpt=run/checkpoints/best.ckpt", "input=log.csv", "output=scored.csv", "paths.data_dir=data"]
    predict(compose("predict", words))
    with (tmp_path / "scored.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 50_000
    assert all(0 < float(row["pred_click"]) < 1 for row in rows[:100])
    assert all(-1 < float(row["pred_watch_time"]) < 200 for row in rows)
