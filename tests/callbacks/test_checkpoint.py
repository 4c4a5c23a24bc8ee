"""The best checkpoint of a run that is resumed."""

from pathlib import Path

import pytest
import torch

from stemlab.callbacks.checkpoint import BestCheckpoint
from stemlab.errors import StemlabError
from tests.damage import flip_byte


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_damaged_best_checkpoint_of_a_resumed_run_is_refused(elsewhere: bool, tmp_path: Path) -> None:
    weights, folder = torch.arange(50.0), tmp_path / "run"
    callback = BestCheckpoint(tmp_path / "new" if elsewhere else folder, "val/auc", "max", 0.0, save_last=True)
    folder.mkdir()
    torch.save({"weights": weights}, folder / "best.ckpt")
    callback._copy_best(folder / "last.ckpt", callback.best_path, epoch=2)
    assert torch.equal(torch.load(callback.best_path)["weights"], weights)
    flip_byte(folder / "best.ckpt", weights.numpy().tobytes())
    with pytest.raises(StemlabError, match=r"last\.ckpt: .*best\.ckpt is damaged.*epoch 3"):
        callback._copy_best(folder / "last.ckpt", callback.best_path, epoch=2)
