"""ImpressionDataModule, driven by a Lightning Trainer."""

import json
import pickle

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from stemlab.data.batch import ImpressionBatch
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.prepare.manifest import write_manifest
from stemlab.data.spec import DatasetSpec, Field
from stemlab.data.store import write_store
from stemlab.errors import StemlabError

ROWS = {"train": 103, "valid": 40, "test": 37}
SPEC = DatasetSpec("toy", (Field("uid", 200), Field("item", 60)), ("finish", "like"), group="uid")


def write_dataset(directory, rows=None):
    for split, n in (rows or ROWS).items():
        row = np.arange(n)
        ids = np.stack([row, row % 60], axis=1).astype(np.int32)
        labels = np.stack([row % 2, row % 3 == 0], axis=1).astype(np.int8)
        write_store(directory / f"{split}.arrow", ("uid", "item"), SPEC.tasks, ids, labels, row.astype(np.int64))
    (directory / "manifest.json").write_text(json.dumps({"spec": SPEC.to_dict(), "rows": dict(rows or ROWS)}))
    return directory


class Toy(ImpressionDataModule):
    """Datamodule of a prepared directory that counts its ``build`` calls."""

    def __init__(self, path, **kwargs):
        super().__init__(name="toy", **kwargs)
        self.path, self.builds = path, 0

    def build(self):
        self.builds += 1
        return self.path

    def encode(self, table):
        return ImpressionBatch(torch.zeros(len(table), 2, dtype=torch.int32))


class Recorder(pl.LightningModule):
    """Records the samples of every step and trains nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.validated, self.tested = [], [], []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch.ids_BF[:, 0].tolist()))
        return self.weight * batch.labels_BT.float().mean()

    def validation_step(self, batch, batch_idx):
        self.validated += batch.ids_BF[:, 0].tolist()

    def test_step(self, batch, batch_idx):
        self.tested += batch.ids_BF[:, 0].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(path, **kwargs):
    settings = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(
        default_root_dir=path,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **{"enable_checkpointing": False, **settings, **kwargs},
    )


def test_manifest_and_spec_need_prepare(tmp_path):
    data = Toy(write_dataset(tmp_path))
    for name in ("spec", "manifest", "directory"):
        with pytest.raises(StemlabError, match=r"'toy' is not prepared yet: call prepare\(\)"):
            getattr(data, name)
    assert data.prepare() == data.prepare() == tmp_path
    assert data.spec == SPEC
    assert data.manifest["rows"] == ROWS
    assert data.builds == 1


def test_every_sample_is_used_once_per_epoch(tmp_path):
    data, module = Toy(write_dataset(tmp_path), batch_size=20, eval_batch_size=16), Recorder()
    run = trainer(tmp_path, max_epochs=2)
    run.fit(module, datamodule=data)
    run.test(module, datamodule=data, verbose=False)
    for epoch in (0, 1):
        batches = [rows for e, rows in module.seen if e == epoch]
        assert [len(rows) for rows in batches] == [20, 20, 20, 20, 20, 3]
        assert sorted(row for rows in batches for row in rows) == list(range(103))
    assert module.seen[0][1] != module.seen[6][1]  # Lightning sets the epoch
    assert module.validated == list(range(40)) * 2
    assert module.tested == list(range(37))
    assert data.builds == 1


@pytest.mark.parametrize("stop", [1, 4, 5, 6, 9, 12])
def test_resumed_run_continues_with_the_remaining_samples(tmp_path, stop):
    def run(ckpt=None):
        module = Recorder()
        keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
        t = trainer(tmp_path, max_epochs=3, enable_checkpointing=True, callbacks=[keep])
        t.fit(module, datamodule=Toy(tmp_path, batch_size=20), ckpt_path=ckpt)
        return module.seen

    write_dataset(tmp_path)
    whole = run()
    assert len(whole) == 18
    assert run(tmp_path / f"step={stop}.ckpt") == whole[stop:]  # in the middle and at the end of an epoch


@pytest.mark.parametrize("after_training", [True, False], ids=["after-training", "after-validation"])
def test_run_resumed_between_epochs_continues_with_the_next_epoch(tmp_path, after_training):
    def run(ckpt=None):
        module = Recorder()
        keep = ModelCheckpoint(tmp_path, "{epoch}", save_on_train_epoch_end=after_training, save_top_k=-1)
        t = trainer(tmp_path, max_epochs=3, enable_checkpointing=True, callbacks=[keep])
        t.fit(module, datamodule=Toy(tmp_path, batch_size=20), ckpt_path=ckpt)
        return module.seen

    write_dataset(tmp_path)
    whole = run()
    for epoch in (0, 1):
        assert run(tmp_path / f"epoch={epoch}.ckpt") == whole[6 * (epoch + 1) :]


def test_checkpoint_loads_without_pickled_objects(tmp_path):
    run = trainer(tmp_path, max_epochs=1)
    run.fit(Recorder(), datamodule=Toy(write_dataset(tmp_path), batch_size=20))
    run.save_checkpoint(tmp_path / "end.ckpt")
    saved = torch.load(tmp_path / "end.ckpt", weights_only=True)
    assert "datamodule_hyper_parameters" not in saved


def test_empty_split_raises(tmp_path):
    data = Toy(write_dataset(tmp_path, {**ROWS, "valid": 0}))
    data.setup()
    assert len(data.train_dataloader()) == 1
    with pytest.raises(StemlabError, match="the valid split of dataset 'toy' has no samples"):
        data.val_dataloader()


@pytest.mark.parametrize("key", ["batch_size", "eval_batch_size"])
def test_invalid_batch_size_raises(tmp_path, key):
    with pytest.raises(StemlabError, match=f"dataset.{key} is 0"):
        Toy(tmp_path, **{key: 0})


def test_missing_manifest_raises(tmp_path):
    with pytest.raises(StemlabError, match="not a prepared dataset"):
        Toy(tmp_path).prepare()


def test_pickled_datamodule_is_small(tmp_path):
    data = Toy(write_dataset(tmp_path, {**ROWS, "train": 50_000}))
    data.setup()
    size = len(pickle.dumps(data.store("train")))
    assert size < 1000
    assert len(pickle.loads(pickle.dumps(data.store("train")))) == 50_000


def test_ranks_are_read_from_torch_distributed(tmp_path, monkeypatch):
    monkeypatch.setattr("stemlab.data.datamodule.current_rank", lambda: (1, 2))
    data = Toy(write_dataset(tmp_path), batch_size=20, eval_batch_size=2)
    loader = data.val_dataloader()
    assert [batch.ids_BF[:, 0].tolist() for batch in loader][:2] == [[2, 3], [6, 7]]
    assert len(loader) == 10
    assert [len(batch) for batch in data.train_dataloader()] == [20, 20, 11]


def test_changed_files_are_refused(tmp_path):
    write_dataset(tmp_path)
    write_manifest(tmp_path, {"spec": SPEC.to_dict(), "rows": ROWS})
    Toy(tmp_path).prepare()
    store = tmp_path / "train.arrow"
    data = bytearray(store.read_bytes())
    data[len(data) // 2] ^= 1
    store.write_bytes(data)
    with pytest.raises(StemlabError, match=r"train\.arrow was changed"):
        Toy(tmp_path).prepare()


@pytest.mark.parametrize("spec", [None, {}, [], {"fields": [], "tasks": 1}, {"kind": "sequence", "users": 1}])
def test_manifest_without_a_valid_spec_is_refused(tmp_path, spec):
    write_manifest(tmp_path, {} if spec is None else {"spec": spec})
    with pytest.raises(StemlabError, match=r"manifest\.json.*'spec'"):
        Toy(tmp_path).prepare()
