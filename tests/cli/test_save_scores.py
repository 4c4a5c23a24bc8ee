"""``save_scores=true``: the saved samples give the recorded metrics."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.evaluate import evaluate
from stemlab.metrics import auc, gauc
from stemlab.metrics.ranking import ranking_metrics
from stemlab.reporting.scores import RankScores, TaskScores, load_scores
from tests.cli.commands import Workspace
from tests.cli.sequences import SASREC


def test_scores_of_tasks(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(trained / "checkpoints" / "best.ckpt", run / "checkpoints")
    with pytest.raises(StemlabError, match="save_scores"):
        load_scores(run)
    data = f"data_dir={trained.parent / 'data'}"
    found = evaluate(compose("evaluate", [f"ckpt={run / 'checkpoints' / 'best.ckpt'}", data, "save_scores=true"]))
    scores = load_scores(run)
    assert isinstance(scores, TaskScores)
    assert scores.split == "test"
    np.testing.assert_array_equal(scores.row_B, np.arange(151))
    assert scores.group_B is not None
    assert scores.tasks == ("finish", "like")
    for task in scores.tasks:
        assert auc(scores.labels(task), scores.prob(task)) == found[f"test/auc/{task}"]
        assert gauc(scores.labels(task), scores.prob(task), scores.group_B) == found[f"test/gauc/{task}"]


def test_scores_of_a_sequential_run(sequences: Workspace) -> None:
    sequences.run("train", *SASREC, "trainer.max_epochs=1", "save_scores=true", "hydra.run.dir=with_ranks")
    record = json.loads((sequences.directory / "with_ranks" / "record.json").read_text())
    scores = load_scores(sequences.directory / "with_ranks" / "record.json")
    assert isinstance(scores, RankScores)
    assert record["scores"] == {"file": "test_scores_of_best.npz", "samples": 101, "fingerprint": scores.fingerprint}
    assert sorted(scores.user_B) == list(range(1, 102))
    assert list(scores.row_B) == sorted(set(scores.row_B))
    metrics = {f"test/{name}": value for name, value in ranking_metrics(scores.rank_B, (5, 10)).items()}
    assert metrics == {name: value for name, value in record["metrics"].items() if name in metrics}


def test_without_a_test_there_is_nothing_to_save() -> None:
    with pytest.raises(StemlabError, match=r"save_scores.*test=true"):
        compose("train", ["save_scores=true", "test=false"])
