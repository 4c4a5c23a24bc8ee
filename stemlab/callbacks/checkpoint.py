"""The best epoch's checkpoint, and the last one to resume from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_info

from stemlab.callbacks.improvement import Improvement
from stemlab.errors import StemlabError
from stemlab.lightning.metric_values import metric_value
from stemlab.types import Mode

BEST, LAST = "best.ckpt", "last.ckpt"


class BestCheckpoint(Checkpoint):
    """Write ``best.ckpt`` after an epoch that improved and ``last.ckpt`` after every epoch.

    Both are written when every other callback has finished the epoch, so that a resumed run finds the early-stop and
    plateau state of that epoch. The best epoch is chosen by the same rule as early stopping. While the metric is
    undefined, the newest epoch counts as the best.

    With ``min_delta`` 0 an epoch that equals the best one takes its place, file and number. The published ranking code
    (spec/timirec.md section 7) overwrites the file likewise, but its log names the first such epoch; here the number
    always is that of the weights in the file, which are the ones measured in the end.

    Differs from Lightning's ModelCheckpoint: that one forgets the best score when a run is resumed in another
    directory, and has a strict ">" instead of the published rule.

    Args:
        directory: where to write; made when needed.
        monitor: metric name, ``split/metric[/task]``.
        mode: whether larger or smaller is better.
        min_delta: what counts as an improvement: value >= best + min_delta.
        save_last: whether ``last.ckpt`` is written.
    """

    def __init__(self, directory: Path, monitor: str, mode: Mode, min_delta: float, save_last: bool) -> None:
        self.directory, self.monitor, self.save_last = directory, monitor, save_last
        self.improvement = Improvement(mode, min_delta)
        self._resumed = False

    @property
    def best_path(self) -> Path:
        """The best epoch's checkpoint."""
        return self.directory / BEST

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring the best checkpoint of the run that is resumed into this run's directory, even if no epoch is left."""
        if self._resumed and trainer.is_global_zero:
            self._copy_best(Path(str(trainer.ckpt_path)))
        trainer.strategy.barrier("best checkpoint brought")

    def _copy_best(self, resumed_from: Path) -> None:
        source = resumed_from.with_name(BEST)
        if self.best_path.exists() and source.exists() and self.best_path.samefile(source):
            return
        if not source.exists():
            raise StemlabError(
                f"cannot resume from {resumed_from}: {BEST} of the same run must lie beside it, since its epoch "
                f"{self.improvement.epoch} is the best so far."
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, self.best_path.with_suffix(".part"))
        self.best_path.with_suffix(".part").replace(self.best_path)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what the epoch left."""
        improved = self.improvement.update(metric_value(pl_module, self.monitor), trainer.current_epoch)
        if improved is None and self.improvement.best is None:
            rank_zero_info(
                f"warning: {self.monitor} is undefined in epoch {trainer.current_epoch}: it counts as the best."
            )
            self.improvement.epoch = trainer.current_epoch
            improved = True
        if improved:
            trainer.save_checkpoint(self.best_path)
        if self.save_last:
            self._save_last(trainer, same_as_best=bool(improved))

    def _save_last(self, trainer: Trainer, same_as_best: bool) -> None:
        last = self.directory / LAST
        if not same_as_best:
            trainer.save_checkpoint(last)
        elif trainer.is_global_zero:  # one file under two names: half the writing
            part = last.with_suffix(".part")
            part.unlink(missing_ok=True)
            try:
                os.link(self.best_path, part)
            except OSError:  # a file system without links
                shutil.copyfile(self.best_path, part)
            part.replace(last)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        return self.improvement.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.improvement.load_state_dict(state_dict)
        self._resumed = True
