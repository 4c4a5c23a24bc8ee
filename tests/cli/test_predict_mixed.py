"""A dataset with numerical columns and scenarios through training, resuming and prediction."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.metrics import auc
from stemlab.predict import predict
from tests.cli.commands import Workspace
from tests.cli.conftest import FAST, NET, assert_same_weights

ROWS = 1501
SCENARIOS = ("nl", "es", "fr")
MIXED = [
    "dataset=table",
    "dataset.path=mixed.csv",
    "dataset.fields=[user,item,last]",
    "dataset.shared={last: item}",
    "dataset.numericals=[price,age]",
    "dataset.tasks=[click,buy]",
    "dataset.scenario=country",
    "dataset.scenarios=[nl,es,fr]",
    "dataset.group=user",
    "dataset.split.rule=given",
    "dataset.split_column=part",
    "model=mmoe",
    "model.net.expert_hidden_units=[8]",
    "model.net.gate_hidden_units=[]",
    "callbacks.early_stop.enabled=false",
    *NET,
    *FAST,
]


def make_rows() -> pd.DataFrame:
    """Return rows in which clicks depend on price and country; a tenth of the prices is missing; the split is given."""
    rng = np.random.default_rng(0)
    price, country = rng.normal(50, 20, ROWS).round(2), rng.integers(0, 3, ROWS)
    chance = 1 / (1 + np.exp((price - 50) / 10 - (country - 1)))
    click = (rng.random(ROWS) < chance).astype(int)
    cells = np.where(rng.random(ROWS) < 0.1, "", price.astype(str))
    columns = {
        "user": [f"u{number}" for number in rng.integers(0, 60, ROWS)],
        "item": rng.integers(0, 50, ROWS),
        "last": rng.integers(0, 50, ROWS),
        "price": cells,
        "age": rng.integers(18, 80, ROWS),
        "country": [SCENARIOS[number] for number in country],
        "part": np.where(np.arange(ROWS) < 1200, "train", "test"),
        "click": click,
        "buy": click * (rng.random(ROWS) < 0.5),
    }
    return pd.DataFrame(columns).astype(str)


@pytest.fixture(scope="module")
def mixed(workspace: Workspace, run_training: Callable[..., float]) -> Path:
    """Directory of a run of two epochs."""
    make_rows().to_csv(workspace.directory / "mixed.csv", index=False)
    run_training("mixed", *MIXED, "trainer.max_epochs=2")
    return workspace.directory / "mixed"


def score(run: Path, source: Path, target: Path) -> str:
    best = run / "checkpoints" / "best.ckpt"
    return predict(compose("predict", [f"ckpt={best}", f"input={source}", f"output={target}"]))


def test_scores_are_those_of_the_evaluation(mixed: Path, workspace: Workspace, tmp_path: Path) -> None:
    score(mixed, workspace.directory / "mixed.csv", tmp_path / "scores.parquet")
    scored, metrics = pd.read_parquet(tmp_path / "scores.parquet"), workspace.record("mixed")["metrics"]
    test = scored[scored["part"] == "test"]
    for task in ("click", "buy"):
        label, score_N = test[task].to_numpy().astype(int), test[f"pred_{task}"].to_numpy()
        assert auc(label, score_N) == metrics[f"test/auc/{task}"]
        for scenario in SCENARIOS:
            own = (test["country"] == scenario).to_numpy()
            assert auc(label[own], score_N[own]) == metrics[f"test/auc/{task}/{scenario}"]
    assert metrics["test/auc/click"] > 0.7


def test_scores_depend_on_numerical_columns_and_scenario(mixed: Path, tmp_path: Path) -> None:
    """A missing number is replaced by the mean of the training rows."""
    rows = make_rows().head(40)
    price = pd.to_numeric(make_rows()["price"][:1200][kept_for_training()]).astype(np.float32).astype(np.float64)
    found = {}
    for name, changed in {
        "same": {},
        "country": {"country": "fr"},
        "price": {"price": "70.5"},
        "missing": {"price": ""},
        "mean": {"price": repr(float(price.mean()))},
    }.items():
        rows.assign(**changed).to_csv(tmp_path / f"{name}.csv", index=False)
        score(mixed, tmp_path / f"{name}.csv", tmp_path / f"{name}.parquet")
        found[name] = pd.read_parquet(tmp_path / f"{name}.parquet")["pred_click"].to_numpy()
    np.testing.assert_allclose(found["missing"], found["mean"], rtol=1e-5)
    for other in ("country", "price", "missing"):
        assert np.abs(found[other] - found["same"]).max() > 1e-3


def kept_for_training() -> np.ndarray:
    """Return the mask of training rows: the last tenth of each country becomes validation."""
    countries = make_rows()["country"][:1200].to_numpy()
    kept = np.ones(1200, dtype=bool)
    for scenario in SCENARIOS:
        rows = np.flatnonzero(countries == scenario)
        kept[rows[-int(np.ceil(len(rows) * 0.1)) :]] = False
    return kept


def test_invalid_rows_are_one_sentence(mixed: Path, tmp_path: Path) -> None:
    rows = make_rows().head(3)
    rows.assign(country=["nl", "xx", "fr"]).to_csv(tmp_path / "country.csv", index=False)
    rows.drop(columns="age").to_csv(tmp_path / "age.csv", index=False)
    with pytest.raises(StemlabError, match=r"'xx'.*scenario.*\(nl, es, fr\)"):
        score(mixed, tmp_path / "country.csv", tmp_path / "scores.csv")
    with pytest.raises(StemlabError, match=r"column 'age'"):
        score(mixed, tmp_path / "age.csv", tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv").exists()


def test_a_resumed_run_equals_an_uninterrupted_one(
    mixed: Path, workspace: Workspace, run_training: Callable[..., float]
) -> None:
    run_training("mixed_one", *MIXED, "trainer.max_epochs=1")
    resumed = f"ckpt_path={workspace.directory / 'mixed_one' / 'checkpoints' / 'last.ckpt'}"
    run_training("mixed_two", *MIXED, "trainer.max_epochs=2", resumed)
    assert_same_weights(mixed, workspace.directory / "mixed_two")
