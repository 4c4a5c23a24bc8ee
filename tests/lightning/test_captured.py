"""Training in blocks: emulated graphs give the losses, weights, logs and checkpoints of a training in batches."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback

from stemlab.data.batch import ImpressionBatch
from stemlab.data.blocks import BlockLoader, StepBlock
from stemlab.errors import StemlabError
from stemlab.lightning.block_training import BlockTraining
from stemlab.lightning.captured import WARMUP_STEPS, BlockRunner, StepBuffers
from stemlab.lightning.step_graph import CaptureError, Step
from stemlab.models.sequential.timirec import TiMiRec
from stemlab.optim import OptimConfig, PlateauConfig, RankingOptimConfig
from tests.accelerator import host_operations
from tests.data.sequence.toys import Toy as SequenceToy
from tests.lightning import test_sequential as sequential
from tests.lightning.emulated_graphs import EmulatedGraphs
from tests.lightning.test_multitask import trainer
from tests.lightning.toy_training import EPOCH_STEPS, PENALISED, ROWS_ONLY, Rates, Spoil, Training, make


def assert_equal_trainings(ours: Training, expected: Training) -> None:
    for (key, a), b in zip(ours.module.state_dict().items(), expected.module.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    assert ours.trainer.global_step == expected.trainer.global_step
    assert ours.log.lines == expected.log.lines
    assert ours.module.metric_values == expected.module.metric_values


SETTINGS = {"mmoe": {}, "stem": {}, "stem, penalised": PENALISED, "stem, penalised rows": ROWS_ONLY}


@pytest.fixture(scope="module")
def in_batches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Training]:
    """Return trainings in batches, by their name in SETTINGS."""
    folder = tmp_path_factory.mktemp("batches")
    return {
        case: Training(make(case.partition(",")[0]), 0, folder / case, **settings).fit()
        for case, settings in SETTINGS.items()
    }


@pytest.mark.parametrize(("block", "residence"), [(1, "device"), (4, "device"), (4, "host"), (50, "device")])
@pytest.mark.parametrize("case", SETTINGS)
def test_equals_the_training_in_batches(
    case: str, block: int, residence: str, in_batches: dict[str, Training], tmp_path: Path
) -> None:
    expected = in_batches[case]
    ours = Training(make(case.partition(",")[0]), block, tmp_path, residence=residence, **SETTINGS[case]).fit()
    assert_equal_trainings(ours, expected)
    total, steps = (sum(loss * steps for loss, steps in t.losses.seen) for t in (ours, expected)), ours.losses.seen
    assert next(total) == pytest.approx(next(total), rel=1e-6)
    assert sum(count for _, count in steps) == 3 * EPOCH_STEPS
    assert ours.runner.replayed == (0 if block == 1 else 3 * (EPOCH_STEPS - 1) - WARMUP_STEPS)


def test_the_step_is_captured_again_after_a_change_of_the_learning_rate(tmp_path: Path) -> None:
    optim = OptimConfig(lr=0.5, plateau=PlateauConfig(factor=0.5))
    ours = Training(make("mmoe"), 50, tmp_path, epochs=4, optim=optim)
    rates = []
    ours.trainer.callbacks.append(Rates(rates))
    ours.fit()
    assert ours.emulated.captures == len(set(rates)) > 1


@pytest.mark.parametrize(("first", "second"), [(4, 0), (0, 4), (4, 50)])
def test_a_checkpoint_is_resumed_with_and_without_blocks(first: int, second: int, tmp_path: Path) -> None:
    expected = Training(make("stem"), 0, tmp_path / "whole", epochs=3, **PENALISED).fit()
    Training(make("stem"), first, tmp_path / "first", epochs=2, **PENALISED).fit()
    resumed = Training(make("stem"), second, tmp_path / "second", epochs=3, **PENALISED)
    resumed.fit(tmp_path / "first" / "last.ckpt")
    for a, b in zip(resumed.module.parameters(), expected.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert resumed.trainer.global_step == expected.trainer.global_step
    assert resumed.log.lines == expected.log.lines[-len(resumed.log.lines) :]


def test_the_checkpoints_hold_plain_settings(tmp_path: Path) -> None:
    Training(make("stem"), 4, tmp_path, epochs=1).fit()
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == EPOCH_STEPS
    for group in saved["optimizer_states"][0]["param_groups"]:
        assert group["capturable"] is False
        assert isinstance(group["lr"], float)


def test_a_loss_that_is_not_finite_is_reported_with_its_step(tmp_path: Path) -> None:
    training = Training(make("mmoe"), 4, tmp_path, epochs=2)
    with pytest.raises(StemlabError, match=r"nan.*epoch 2, step 3 .*learning rate"):
        Spoil(training, call=EPOCH_STEPS + 3).fit()
    assert torch.load(training.checkpoint.best_path, weights_only=True)["epoch"] == 0


class FailingGraphs(EmulatedGraphs):
    """Nothing can be captured."""

    def capture(self, step: Step) -> Step:
        self.captures += 1
        raise CaptureError("operation not permitted")


def test_a_step_that_cannot_be_captured_is_trained_eagerly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = Training(make("stem"), 0, tmp_path / "batches", **PENALISED).fit()
    graphs = FailingGraphs()
    ours = Training(make("stem"), 4, tmp_path / "blocks", graphs=lambda device: graphs, **PENALISED).fit()
    assert_equal_trainings(ours, expected)
    assert graphs.captures == 1
    assert ours.runner.reason == "operation not permitted"
    assert ours.runner.replayed == 0


def test_the_limit_counts_steps(tmp_path: Path) -> None:
    training = Training(make("stem"), 4, tmp_path, epochs=2, limit=5).fit()
    assert training.trainer.global_step == 10
    assert [steps for _, steps in training.losses.seen] == [4, 1, 4, 1]


def test_the_network_keeps_its_weights_while_a_step_is_captured() -> None:
    """Capturing executes nothing; the emulation must not either."""
    graphs, done = EmulatedGraphs(), []
    replay = graphs.capture(lambda: done.append(1))
    assert list(done) == []
    replay()
    assert done == [1]


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adadelta"])
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_sequential_stages(stage: str, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Histories are padded to another length in blocks, so sums may be rounded differently."""
    plain, seen = SequenceToy.train_dataloader, {}
    for block in (0, 5):
        torch.manual_seed(0)
        net = TiMiRec(sequential.SIZES, stage=stage, embedding_dim=8, num_interests=3, temperature=0.5)
        made = sequential.module(net, optim=RankingOptimConfig(name=optimizer, lr=0.01, l2=1e-3))
        if block:
            monkeypatch.setattr(SequenceToy, "train_dataloader", lambda toy: BlockLoader(plain(toy), 5))
            made.train_in_blocks(BlockTraining(BlockRunner(lambda device: EmulatedGraphs(), block)))
        fit = trainer(tmp_path / str(block), epochs=2)
        fit.fit(made, datamodule=sequential.data(tmp_path / f"data{block}"))
        seen[block] = (fit.global_step, made.metric_values, list(net.parameters()))
    assert seen[0][0] == seen[5][0] > 0
    assert seen[0][1] == pytest.approx(seen[5][1], abs=1e-6)
    torch.testing.assert_close(seen[0][2], seen[5][2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("first", "second"), [(2, 2), (2, 0), (0, 2), (2, 5)])
def test_a_checkpoint_within_an_epoch_is_resumed_with_and_without_blocks(
    first: int, second: int, tmp_path: Path
) -> None:
    expected = Training(make("stem"), 0, tmp_path / "whole", **PENALISED).fit()
    started = Training(make("stem"), first, tmp_path / "first", **PENALISED)
    started.trainer.callbacks.append(SaveAt(EPOCH_STEPS + 4, tmp_path / "within.ckpt"))
    started.fit()
    for name in ("best.ckpt", "last.ckpt"):
        (tmp_path / name).write_bytes((tmp_path / "first" / name).read_bytes())
    resumed = Training(make("stem"), second, tmp_path / "second", **PENALISED).fit(tmp_path / "within.ckpt")
    for a, b in zip(resumed.module.parameters(), expected.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert resumed.trainer.global_step == expected.trainer.global_step
    assert resumed.log.lines == expected.log.lines[-len(resumed.log.lines) :]
    assert len(resumed.losses.seen) > 3


class SaveAt(Callback):
    """Save a checkpoint after the step with the given number, from 1, as an interruption does."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def test_the_buffers_of_a_step_read_no_value_on_the_cpu() -> None:
    columns = ImpressionBatch(torch.zeros((20, 3), dtype=torch.int32, device="meta"))
    block = StepBlock(columns, torch.zeros((5, 4), dtype=torch.int64, device="meta"))
    buffers = StepBuffers.allocate(block, 6, copy_columns=True)
    loss = torch.zeros((), device="meta", requires_grad=True)
    with host_operations() as found:
        buffers.load(block, copy_columns=True)
        batch = buffers.batch()
        buffers.record({"loss": loss, "loss/like": loss})
    assert found == []
    assert batch.ids_BF.shape == (4, 3)
    assert buffers.values_SP is not None
    assert buffers.values_SP.shape == (6, 2)
