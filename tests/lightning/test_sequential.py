"""The sequential module: losses, ranks among candidates or all items, reported metrics, reproducibility."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, seed_everything
from torch import nn

from stemlab.callbacks.checkpoint import BestCheckpoint
from stemlab.callbacks.early_stop import WindowStop
from stemlab.callbacks.progress import EpochLines
from stemlab.callbacks.throughput import Throughput
from stemlab.data.sequence.protocol import RankingProtocol
from stemlab.data.spec import SequenceSizes, SequenceSpec
from stemlab.errors import StemlabError
from stemlab.lightning.sequential import SequentialModule
from stemlab.lightning.settings import SequentialSettings
from stemlab.metrics import BeyondAccuracyMetrics, RankingMetrics, positive_ranks, ranking_metrics
from stemlab.models.sequential.comirec import ComiRec
from stemlab.models.sequential.din import DIN
from stemlab.models.sequential.mind import MIND
from stemlab.optim import RankingOptimConfig
from tests.data.sequence.toys import Toy, leave_two_out, raw_of
from tests.lightning.test_multitask import trainer

USERS, ITEMS, NEGATIVES, HISTORY = 53, 60, 19, 7
SPEC, SIZES = SequenceSpec("toy", USERS, ITEMS), SequenceSizes(USERS, ITEMS, HISTORY)
TOPK = [3, 10]


def data(tmp_path: Path, candidates: str = "stored", **settings) -> Toy:
    rng = np.random.default_rng(2)
    lists = {split: rng.integers(1, ITEMS + 1, (USERS, NEGATIVES)) for split in ("valid", "test")}
    raw = raw_of(leave_two_out(USERS, ITEMS, seed=3), USERS, ITEMS, negatives=lists)
    settings = {"batch_size": 64, "eval_batch_size": 16, "history_max": HISTORY, **settings}
    return Toy(raw, tmp_path, evaluation=RankingProtocol(candidates=candidates, topk=TOPK), **settings)


def comirec() -> ComiRec:
    seed_everything(0, verbose=False)
    net = ComiRec(SIZES, embedding_dim=8, attention_dim=4, num_interests=3)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)  # with initial weights the scores hardly differ
    return net


def module(net=None, candidates: str = "stored", ties: str = "pessimistic", **settings) -> SequentialModule:
    settings = {"optim": RankingOptimConfig(lr=0.01), "monitor": "val/ndcg@3", **settings}
    protocol = RankingProtocol(candidates=candidates, topk=TOPK, ties=ties)
    return SequentialModule(net or comirec(), SPEC, protocol, SequentialSettings(**settings))


def reference_ranks(made: SequentialModule, toy: Toy, full: bool, rule: str) -> np.ndarray:
    """Return the reference ranks as in the released code: network scores; seen items have score -inf."""
    found = []
    for batch in toy.test_dataloader():
        if full:
            items = torch.arange(1, ITEMS + 1).expand(len(batch), ITEMS)
            batch.candidates_BN = torch.cat([batch.candidates_BN, items], 1)
        with torch.no_grad():
            score_BN = made.net(batch, "eval").score_BN
        if full:
            flat, offsets = toy.seen_items(batch.user_B.numpy())
            for row in range(len(batch)):
                score_BN[row, flat[offsets[row] : offsets[row + 1]]] = -torch.inf
        found.append(positive_ranks(score_BN, rule).numpy())
    return np.concatenate(found)


@pytest.mark.parametrize("rule", ["pessimistic", "optimistic", "mean"])
@pytest.mark.parametrize("candidates", ["stored", "full"])
def test_metrics_equal_those_of_the_released_code(candidates: str, rule: str, tmp_path: Path) -> None:
    toy, made = data(tmp_path, candidates), module(candidates=candidates, ties=rule)
    trainer(tmp_path).test(made, datamodule=toy, verbose=False)
    rank_U = reference_ranks(made, toy, candidates == "full", rule)
    assert len(rank_U) == USERS
    expected = {f"test/{name}": value for name, value in ranking_metrics(rank_U, TOPK).items()}
    assert made.metric_values == expected
    assert 0 < expected["test/hr@3"] < expected["test/hr@10"] < 1


def test_scores_equal_those_of_the_network(tmp_path: Path) -> None:
    made = module()
    batch = next(iter(data(tmp_path).test_dataloader()))
    torch.testing.assert_close(made(batch), made.net(batch, "eval").score_BN)
    with torch.autocast("cpu", torch.bfloat16):
        assert made(batch).dtype == torch.float32


def test_metrics_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    values = []
    for size in (1, 16):
        made = module(candidates="full")
        trainer(tmp_path).test(made, datamodule=data(tmp_path, "full", eval_batch_size=size), verbose=False)
        values.append(made.metric_values)
    assert values[0] == values[1]


class Watch(Callback):
    """Record losses, logged values and metric values."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.logged: list[dict[str, float]] = []
        self.values: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.losses.append(float(outputs["loss"]))
        self.logged.append({name: float(x) for name, x in trainer.callback_metrics.items()})

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.values.append(dict(pl_module.metric_values))


class TwoParts(ComiRec):
    """A network whose loss has two parts."""

    def losses(self, output):
        return {**super().losses(output), "extra": 2 * output.score_BN.square().mean()}


def test_the_loss_is_the_sum_of_its_parts_and_each_is_logged(tmp_path: Path) -> None:
    toy, watch = data(tmp_path), Watch()
    seed_everything(0, verbose=False)
    made = module(TwoParts(SIZES, embedding_dim=8))
    toy.setup()
    batch = next(iter(toy.train_dataloader()))
    output = made.net(batch, "train")
    negative = output.score_BN[:, 0] - output.score_BN[:, 1]
    rank, extra = nn.functional.softplus(-negative).mean().item(), 2 * output.score_BN.square().mean().item()
    trainer(tmp_path, watch, limit_train_batches=1, log_every_n_steps=1).fit(made, datamodule=toy)
    assert watch.losses[0] == pytest.approx(rank + extra, rel=1e-6)
    logged = watch.logged[0]
    assert logged["train/loss"] == pytest.approx(rank + extra, rel=1e-6)
    assert logged["train/loss/rank"] == pytest.approx(rank, rel=1e-6)
    assert logged["train/loss/extra"] == pytest.approx(extra, rel=1e-5)
    assert logged["train/lr"] == 0.01


def test_training_reduces_the_loss(tmp_path: Path) -> None:
    watch = Watch()
    trainer(tmp_path, watch, epochs=8).fit(module(), datamodule=data(tmp_path))
    steps = len(watch.losses) // 8
    assert np.mean(watch.losses[-steps:]) < 0.8 * np.mean(watch.losses[:steps])


def test_training_reports_the_first_cut_off_and_evaluation_all(tmp_path: Path) -> None:
    toy, made, watch = data(tmp_path), module(), Watch()
    fit = trainer(tmp_path, watch)
    fit.fit(made, datamodule=toy)
    assert set(watch.values[0]) == {"val/hr@3", "val/ndcg@3", "val/mrr"}
    fit.validate(made, datamodule=toy, verbose=False)
    fit.test(made, datamodule=toy, verbose=False)
    names = ["hr@3", "ndcg@3", "hr@10", "ndcg@10", "mrr"]
    assert set(made.metric_values) == {f"{split}/{name}" for split in ("val", "test") for name in names}
    assert made.metric_values["val/ndcg@3"] == watch.values[0]["val/ndcg@3"]


def test_a_monitor_with_another_cut_off_is_measured_while_training(tmp_path: Path) -> None:
    watch = Watch()
    trainer(tmp_path, watch, limit_train_batches=1).fit(module(monitor="val/hr@10"), datamodule=data(tmp_path))
    assert set(watch.values[0]) == {"val/hr@3", "val/ndcg@3", "val/mrr", "val/hr@10"}


@pytest.mark.parametrize("monitor", ["val/ndcg@5", "test/ndcg@3", "val/auc"])
def test_a_monitor_that_is_not_measured_is_refused(monitor: str) -> None:
    with pytest.raises(StemlabError, match=rf"{monitor}.* val/hr@3, .*callbacks.checkpoint.monitor"):
        module(monitor=monitor)


def test_random_routing_does_not_affect_evaluation(tmp_path: Path) -> None:
    """MIND draws routing logits at random in training; its evaluation is deterministic."""
    toy, made = data(tmp_path), module(MIND(SIZES, embedding_dim=8, num_interests=3))
    fit, measured = trainer(tmp_path, epochs=1), []
    fit.fit(made, datamodule=toy)
    in_training = made.metric_values["val/mrr"]
    for seed in (1, 2):
        torch.manual_seed(seed)
        fit.validate(made, datamodule=toy, verbose=False)
        measured.append(made.metric_values["val/mrr"])
    assert measured == [in_training] * 2


def test_item_vectors_are_computed_once_per_evaluation(tmp_path: Path) -> None:
    toy, net, calls = data(tmp_path), comirec(), []
    vectors = net.item_vectors
    net.item_vectors = lambda: calls.append(1) or vectors()
    made = module(net)
    fit = trainer(tmp_path, epochs=3, limit_train_batches=1)
    fit.fit(made, datamodule=toy)
    assert len(calls) == 3
    fit.test(made, datamodule=toy, verbose=False)
    assert len(calls) == 4


def test_nan_scores_raise_an_error(tmp_path: Path) -> None:
    made = module()
    with torch.no_grad():
        made.net.item_vectors()[7] = math.nan
    with pytest.raises(StemlabError, match=r"53 of 53 users"):
        trainer(tmp_path).test(made, datamodule=data(tmp_path), verbose=False)


def test_a_nan_loss_stops_the_training(tmp_path: Path) -> None:
    made = module()
    with torch.no_grad():
        made.net.item_vectors().fill_(math.nan)
    with pytest.raises(StemlabError, match=r"nan in epoch 1, step 1 \(.*0.01\): lower optim.lr"):
        trainer(tmp_path).fit(made, datamodule=data(tmp_path))


def test_only_the_network_is_in_the_checkpoint(tmp_path: Path) -> None:
    made = module()
    trainer(tmp_path).test(made, datamodule=data(tmp_path), verbose=False)
    assert all(name.startswith("net.") for name in made.state_dict())


def test_an_epoch_prints_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, speed = module(), Throughput()
    trainer(tmp_path, speed, EpochLines(speed)).fit(made, datamodule=data(tmp_path))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch"))
    shown = "  ".join(f"{name} {made.metric_values[f'val/{name}']:.5f}" for name in ("hr@3", "ndcg@3"))
    assert f"val: {shown}  " in line


# The first best value is that of epoch 1; epoch 3 equals it.
SERIES = [0.1, 0.5, 0.4, 0.5, 0.3, 0.2, 0.45, 0.1, 0.1]


@pytest.fixture
def fixed_metrics(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    left = list(SERIES)
    monkeypatch.setattr(RankingMetrics, "compute", lambda self: {"ndcg@3": left.pop(0)})
    return left


def test_patience_counts_from_the_first_best_epoch_and_the_checkpoint_is_of_the_last(
    fixed_metrics: list[float], tmp_path: Path
) -> None:
    keep = BestCheckpoint(tmp_path, "val/ndcg@3", "max", 0.0, save_last=True)
    fit = trainer(tmp_path, WindowStop("val/ndcg@3", "max", window=10, patience=5), keep, epochs=9)
    fit.fit(module(), datamodule=data(tmp_path / "data"))
    assert fit.current_epoch == 7  # epochs 0 to 6: five after epoch 1
    assert torch.load(keep.best_path, weights_only=True)["epoch"] == keep.improvement.epoch == 3


def test_a_resumed_run_stops_at_the_same_epoch(fixed_metrics: list[float], tmp_path: Path) -> None:
    def parts() -> tuple[WindowStop, BestCheckpoint]:
        stop = WindowStop("val/ndcg@3", "max", window=10, patience=5)
        return stop, BestCheckpoint(tmp_path, "val/ndcg@3", "max", 0.0, save_last=True)

    toy = data(tmp_path / "data")
    trainer(tmp_path, *parts(), epochs=4).fit(module(), datamodule=toy)
    stop, keep = parts()
    rest = trainer(tmp_path, stop, keep, epochs=9)
    rest.fit(module(), datamodule=toy, ckpt_path=str(tmp_path / "last.ckpt"), weights_only=True)
    assert rest.current_epoch == 7
    assert stop.values == SERIES[:7]
    again = trainer(tmp_path, *parts(), epochs=9)
    again.fit(module(), datamodule=toy, ckpt_path=str(tmp_path / "last.ckpt"), weights_only=True)
    assert again.current_epoch == 7
    assert fixed_metrics == SERIES[7:]  # no further evaluation


@pytest.mark.parametrize("category", [True, False])
def test_lists_of_recommended_items_are_measured_after_a_training(category: bool, tmp_path: Path) -> None:
    toy, made = data(tmp_path, "full"), module(candidates="full")
    interactions_I = np.arange(ITEMS + 1)
    made.measure_beyond_accuracy(interactions_I, np.arange(ITEMS + 1) % 4 if category else None)
    trainer(tmp_path).fit(made, datamodule=toy)
    assert not any("coverage" in name for name in made.metric_values)
    trainer(tmp_path).test(made, datamodule=toy, verbose=False)
    expected = BeyondAccuracyMetrics(TOPK, interactions_I, np.arange(ITEMS + 1) % 4 if category else None)
    vectors = made.net.item_vectors().detach()
    for batch in toy.test_dataloader():
        with torch.no_grad():
            score_BI = (made.net.represent(batch) @ vectors.t()).amax(1)
        flat, offsets = toy.seen_items(batch.user_B.numpy())
        for row, positive in enumerate(batch.candidates_BN[:, 0].tolist()):
            seen = [item for item in flat[offsets[row] : offsets[row + 1]] if item != positive]
            score_BI[row, [0, *seen]] = -torch.inf
        expected.update(score_BI.topk(max(TOPK)).indices, vectors)
    values = {f"test/{name}": value for name, value in expected.compute().items()}
    assert {name: made.metric_values[name] for name in values} == pytest.approx(values)
    assert any(name.startswith("test/diversity@" if category else "test/diversity_cosine@") for name in values)


def test_lists_of_a_network_that_scores_pairs_are_measured(tmp_path: Path) -> None:
    toy = data(tmp_path, "full")
    made = module(DIN(SIZES, embedding_dim=4, category_dim=0, attention_units=[4], hidden_units=[4]), candidates="full")
    made.measure_beyond_accuracy(np.arange(ITEMS + 1), np.arange(ITEMS + 1) % 4)
    trainer(tmp_path).test(made, datamodule=toy, verbose=False)
    assert 0 < made.metric_values["test/diversity@3"] <= 1
    assert "test/hr@3" in made.metric_values
