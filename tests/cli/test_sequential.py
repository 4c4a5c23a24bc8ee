"""Sequential models through the command: files and record of a run, metrics of its checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.evaluate import evaluate
from tests.cli.commands import Workspace
from tests.cli.conftest import assert_same_weights, weights
from tests.cli.sequences import FAST, SASREC, SEQUENCE_DATA
from tests.cli.test_train import rows, walk

METRICS = {f"{split}/{m}" for split in ("val", "test") for m in ("hr@5", "hr@10", "ndcg@5", "ndcg@10", "mrr")}


@pytest.fixture(scope="module")
def ranked(sequences: Workspace) -> Path:
    """A finished run of the command: four epochs of SASRec."""
    result = sequences.run("train", *SASREC, "trainer.max_epochs=4", "hydra.run.dir=ranked").stdout
    assert "epoch 4/4" in result
    assert "ndcg@5" in result
    return sequences.directory / "ranked"


def record(run: Path) -> dict:
    return json.loads((run / "record.json").read_text())


def test_the_record_has_ranking_metrics_of_the_best_epoch(ranked: Path) -> None:
    result = record(ranked)
    assert (result["status"], result["model"], result["dataset"], result["stage"], result["stage1"]) == (
        *("finished", "sasrec", "rechorus"),
        *(None, None),
    )
    assert set(result["metrics"]) == METRICS
    curve = [float(row["val/ndcg@5"]) for row in rows(ranked) if row["val/ndcg@5"]]
    assert len(curve) == 4
    assert result["best"]["value"] == result["metrics"]["val/ndcg@5"] == max(curve)
    assert result["best"]["monitor"] == "val/ndcg@5"
    assert curve[-1] > curve[0]  # it learns
    assert result["epochs_run"] == 4
    assert result["throughput"]["train_samples_per_s"] > 0


def test_training_evaluates_the_first_cutoff_only(ranked: Path) -> None:
    assert {name for name in rows(ranked)[0] if name.startswith("val/")} == {"val/hr@5", "val/ndcg@5", "val/mrr"}
    assert [row["test/ndcg@10"] for row in rows(ranked) if row["test/ndcg@10"]]  # the last row


def test_a_checkpoint_holds_plain_values_only(ranked: Path) -> None:
    content = torch.load(ranked / "checkpoints" / "best.ckpt", weights_only=True)
    assert set(content["hyper_parameters"]) == {"config", "spec", "fingerprint"}
    kinds = {type(value) for value in walk(content["hyper_parameters"])}
    assert kinds <= {dict, list, str, int, float, bool, type(None)}
    assert not [key for key in content["state_dict"] if not key.startswith("net.")]


def test_the_checkpoint_alone_reproduces_the_recorded_metrics(ranked: Path, sequences: Workspace) -> None:
    done = sequences.run("evaluate", "ckpt=ranked/checkpoints/best.ckpt", "output=ranked.json")
    result = json.loads((sequences.directory / "ranked.json").read_text())["metrics"]
    assert result == {name: value for name, value in record(ranked)["metrics"].items() if name.startswith("test/")}
    assert "equal to the run record" in done.stdout
    assert "5 metrics" in done.stdout


@pytest.mark.parametrize("model", ["comirec", "mind", "bprmf", "lightgcn", "gru4rec", "tisasrec", "youtube", "pop"])
def test_every_model_trains_and_its_checkpoint_reproduces_its_metrics(
    model: str, sequences: Workspace, run_training: Callable[..., float]
) -> None:
    """State outside the parameters is restored: LightGCN's graph, POP's counts, MIND's random routing."""
    overrides = [f"model={model}", *SEQUENCE_DATA, *FAST, "trainer.max_epochs=1", "trainer.limit_train_batches=3"]
    objective = run_training(f"one_{model}", *overrides)
    result = sequences.record(f"one_{model}")
    assert objective == result["metrics"]["val/ndcg@5"]
    best = sequences.directory / f"one_{model}" / "checkpoints" / "best.ckpt"
    for split, name in (("valid", "val/"), ("test", "test/")):
        measured = evaluate(compose("evaluate", [f"ckpt={best}", f"split={split}"]))
        assert measured == {key: value for key, value in result["metrics"].items() if key.startswith(name)}


def test_a_model_without_training_is_only_evaluated(sequences: Workspace, run_training: Callable[..., float]) -> None:
    run_training("popular", "model=pop", *SEQUENCE_DATA, *FAST)
    result = sequences.record("popular")
    assert (result["epochs_run"], result["best"]["epoch"], result["status"]) == (0, 0, "finished")
    assert result["parameters"] == {"dense": 0, "embedding": 0}
    assert set(result["metrics"]) == METRICS
    assert result["throughput"]["train_samples_per_s"] is None


def test_two_epochs_and_a_resume_equal_four(ranked: Path, run_training: Callable[..., float]) -> None:
    half, resumed = ranked.parent / "ranked_half", ranked.parent / "ranked_on"
    run_training("ranked_half", *SASREC, "trainer.max_epochs=2")
    run_training("ranked_on", *SASREC, "trainer.max_epochs=4", f"ckpt_path={half / 'checkpoints' / 'last.ckpt'}")
    for name in ("last.ckpt", "best.ckpt"):
        assert_same_weights(ranked, resumed, name)
    one, other = record(ranked), record(resumed)
    assert (one["metrics"], one["best"]) == (other["metrics"], other["best"])


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("dataset.history_max=5", "dataset.history_max=6.* 5"),
        ("dataset.num_negatives=2", "dataset.num_negatives=1.* 2"),
        ("model.net.num_heads=2", "model.net.num_heads=4.* 2"),
        ("optim.name=sgd", "optim.name=adam.* sgd"),
        ("dataset.evaluation.ties=optimistic", "dataset.evaluation.ties"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    ranked: Path, word: str, hint: str, run_training: Callable[..., float]
) -> None:
    with pytest.raises(StemlabError, match=hint):
        run_training("refused_ranked", *SASREC, word, f"ckpt_path={ranked / 'checkpoints' / 'last.ckpt'}")


def test_changed_weight_decay_takes_effect(ranked: Path, run_training: Callable[..., float]) -> None:
    words = ["trainer.max_epochs=5", "optim.l2=0.125", f"ckpt_path={ranked / 'checkpoints' / 'last.ckpt'}"]
    run_training("ranked_decayed", *SASREC, *words)
    content = torch.load(ranked.parent / "ranked_decayed/checkpoints/last.ckpt", weights_only=True)
    groups = content["optimizer_states"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.125, 0.0]


def test_full_catalogue_and_sampled_candidates_give_different_metrics(
    ranked: Path, run_training: Callable[..., float]
) -> None:
    overrides = ["trainer.max_epochs=1", "dataset.evaluation.candidates=full"]
    run_training("full_catalogue", *SASREC, *overrides)
    metrics = record(ranked.parent / "full_catalogue")["metrics"]
    assert set(metrics) == METRICS
    run_training("sampled", *SASREC, overrides[0])
    assert metrics["val/mrr"] != record(ranked.parent / "sampled")["metrics"]["val/mrr"]


@pytest.mark.ddp
def test_two_ranks_evaluate_like_one(ranked: Path, sequences: Workspace) -> None:
    sequences.run_two_ranks("evaluate", "ckpt=ranked/checkpoints/best.ckpt", "output=two.json")
    found = json.loads((sequences.directory / "two.json").read_text())["metrics"]
    metrics = record(ranked)["metrics"]
    assert found == pytest.approx({name: metrics[name] for name in found}, abs=1e-9, rel=0)
    assert len(found) == 5


@pytest.mark.ddp
def test_two_ranks_train_like_one_and_one_process_measures_the_same(
    sequences: Workspace, run_training: Callable[..., float]
) -> None:
    """Half the batch size: each step sees the same instances and negatives; uneven last steps are left out."""
    overrides = [*SASREC, "trainer.max_epochs=2", "trainer.limit_train_batches=6"]
    run_training("six_in_one", *overrides)
    sequences.run_two_ranks("train", *overrides, "dataset.batch_size=16", "hydra.run.dir=six_in_two")
    other = weights(sequences.directory / "six_in_two")
    for name, value in weights(sequences.directory / "six_in_one").items():
        assert other[name].numpy() == pytest.approx(value.numpy(), abs=2e-5), name
    best = sequences.directory / "six_in_two" / "checkpoints" / "best.ckpt"
    one = evaluate(compose("evaluate", [f"ckpt={best}"]))
    metrics = sequences.record("six_in_two")["metrics"]
    assert len(one) == 5
    assert one == pytest.approx({name: metrics[name] for name in one}, abs=1e-9, rel=0)


@pytest.mark.ddp
def test_a_model_without_parameters_runs_on_two_ranks(sequences: Workspace, run_training: Callable[..., float]) -> None:
    overrides = ["model=pop", *(word for word in SASREC if word.startswith("dataset"))]
    run_training("pop_in_one", *overrides)
    sequences.run_two_ranks("train", *overrides, "hydra.run.dir=pop_in_two")
    one, two = (sequences.record(name) for name in ("pop_in_one", "pop_in_two"))
    assert two["hardware"]["processes"] == 2
    assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-9, rel=0)


@pytest.mark.parametrize(
    ("model", "dataset"), [("stem", "rechorus"), ("sasrec", "tiktok")], ids=["impressions", "sequences"]
)
def test_a_model_on_data_of_the_other_family_is_refused(model: str, dataset: str, workspace: Workspace) -> None:
    before = set(workspace.directory.iterdir())
    result = workspace.run("train", f"model={model}", f"dataset={dataset}", "hydra.run.dir=wrong_pair", status=2)
    assert result.stderr.startswith(f"error: model={model} and dataset={dataset} ")
    assert result.stderr.count("\n") == 1
    assert set(workspace.directory.iterdir()) == before
