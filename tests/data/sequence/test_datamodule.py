"""Sequence batches in Lightning: exact evaluation on any number of ranks, resumed training."""

import pickle

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from stemlab.data.sequence.protocol import RankingProtocol
from stemlab.errors import StemlabError
from tests.data.sequence.toys import Toy, leave_two_out, raw_of

USERS, ITEMS, NEGATIVES = 53, 60, 4


@pytest.fixture
def raw():
    rows = leave_two_out(USERS, ITEMS, seed=3)
    rows = [rows[n] for n in np.random.default_rng(1).permutation(len(rows))]
    rng = np.random.default_rng(2)
    lists = {split: rng.integers(1, ITEMS + 1, (USERS, NEGATIVES)) for split in ("valid", "test")}
    return raw_of(rows, USERS, ITEMS, negatives=lists)


class Recorder(pl.LightningModule):
    """Module that records the batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.validated, self.tested = [], [], []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch.user_B.tolist(), batch.candidates_BN.tolist()))
        return self.weight * batch.length_B.float().mean()

    def validation_step(self, batch, batch_idx):
        self.validated += batch.row_B.tolist()

    def test_step(self, batch, batch_idx):
        self.tested += batch.row_B.tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(path, **settings):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(
        default_root_dir=path,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **{"enable_checkpointing": False, **quiet, **settings},
    )


def test_trains_validates_and_tests_on_every_instance(tmp_path, raw):
    data, module = Toy(raw, tmp_path, batch_size=100, eval_batch_size=16), Recorder()
    run = trainer(tmp_path, max_epochs=2)
    run.fit(module, datamodule=data)
    run.test(module, datamodule=data, verbose=False)
    log = data.log
    users = log.user[(log.split == 0) & (np.arange(len(log)) != log.start[log.user])].tolist()
    for epoch in (0, 1):
        assert sorted(u for e, row, _ in module.seen if e == epoch for u in row) == users
    assert module.validated == np.flatnonzero(log.split == 1).tolist() * 2
    assert module.tested == np.flatnonzero(log.split == 2).tolist()
    data.test_split = "valid"
    assert len(data.test_dataloader()) == len(data.val_dataloader())


@pytest.mark.parametrize("stop", [1, 4, 6, 7, 8, 12])
def test_resumed_run_continues_with_the_remaining_batches(tmp_path, raw, stop):
    def run(ckpt=None):
        module = Recorder()
        keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
        t = trainer(tmp_path, max_epochs=2, enable_checkpointing=True, callbacks=[keep], limit_val_batches=0)
        t.fit(module, datamodule=Toy(raw, tmp_path, batch_size=100), ckpt_path=ckpt)
        return module.seen

    whole = run()
    assert len(whole) == 14  # the stops are in the middle and at the end of an epoch
    assert run(tmp_path / f"step={stop}.ckpt") == whole[stop:]


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluation_rows_are_distributed_over_ranks_without_repetition(tmp_path, monkeypatch, raw, split, ranks):
    rows, candidates = [], {}
    for rank in range(ranks):
        monkeypatch.setattr("stemlab.data.sequence.datamodule.current_rank", lambda r=rank: (r, ranks))
        data = Toy(raw, tmp_path, eval_batch_size=3)
        data.test_split = split
        for batch in data.test_dataloader():
            rows += batch.row_B.tolist()
            candidates.update(zip(batch.user_B.tolist(), batch.candidates_BN.tolist(), strict=True))
    assert sorted(rows) == np.flatnonzero(data.log.split == ("train", "valid", "test").index(split)).tolist()
    # stored lists stay with their rows although the rows were shuffled
    mine = np.flatnonzero(raw.split == ("train", "valid", "test").index(split))
    wanted = zip(raw.user[mine], raw.item[mine], raw.negatives[split], strict=True)
    assert candidates == {int(u): [int(i), *negatives.tolist()] for u, i, negatives in wanted}


def test_full_catalogue_gives_the_positive_and_its_row(tmp_path, raw):
    stored, full = (
        Toy(raw, tmp_path, evaluation=RankingProtocol(candidates=candidates)) for candidates in ("stored", "full")
    )
    for a, b in zip(stored.val_dataloader(), full.val_dataloader(), strict=True):
        assert b.candidates_BN.tolist() == a.candidates_BN[:, :1].tolist()
        assert torch.equal(a.row_B, b.row_B)
        assert torch.equal(torch.from_numpy(full.log.item[b.row_B.numpy()]).long(), b.candidates_BN[:, 0])


def test_missing_stored_negatives_are_an_error(tmp_path):
    data = Toy(raw_of(leave_two_out(20, 60), 20, 60), tmp_path)
    with pytest.raises(StemlabError, match=r"no stored negatives.*valid.*evaluation.candidates=full"):
        data.val_dataloader()


def test_split_without_instances_is_an_error(tmp_path):
    data = Toy(raw_of([(1, 1, 0, 0), (2, 2, 0, 0)], 2, 9), tmp_path)
    with pytest.raises(StemlabError, match=r"train split.*'toy'"):
        data.train_dataloader()


def test_tokens_and_sizes(tmp_path, raw):
    data = Toy(raw, tmp_path, history_max=7)
    with pytest.raises(StemlabError, match=r"prepare\(\)"):
        _ = data.sizes
    data.prepare()
    assert data.item_tokens == [f"i{n}" for n in range(1, ITEMS + 1)]
    assert data.user_tokens[0] == "u1"
    assert (data.sizes.users, data.sizes.items, data.sizes.history_max) == (USERS, ITEMS, 7)
    assert data.manifest["negatives"] == {"valid": NEGATIVES, "test": NEGATIVES}


def test_opens_an_adopted_directory_without_raw_rows(tmp_path, raw):
    directory = Toy(raw, tmp_path).prepare()
    data = Toy(None, tmp_path)
    data.adopt(directory)
    assert len(data.log) == len(raw.user)
    assert data.spec.kind == "sequence"


def test_pickles_small(tmp_path, raw):
    data = Toy(raw, tmp_path)
    data.setup()
    again = pickle.loads(pickle.dumps((data.log, data.val_dataloader().instances)))
    assert len(pickle.dumps(data.log)) < 500
    np.testing.assert_array_equal(again[0].item, data.log.item)
    np.testing.assert_array_equal(again[1].negatives, data.val_dataloader().instances.negatives)


def test_checkpoint_loads_without_pickled_objects(tmp_path, raw):
    run = trainer(tmp_path, max_epochs=1, limit_val_batches=0)
    run.fit(Recorder(), datamodule=Toy(raw, tmp_path, batch_size=100))
    run.save_checkpoint(tmp_path / "end.ckpt")
    assert "datamodule_hyper_parameters" not in torch.load(tmp_path / "end.ckpt", weights_only=True)
