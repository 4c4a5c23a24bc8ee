"""Start the other ranks of a training on this machine, and end the run if one of them is lost.

Lightning's own observer kills rank 0 when another rank fails, so that neither an error nor a record is written.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from torch.nn.parallel import DistributedDataParallel

from stemlab.config.machine_errors import is_lost_connection
from stemlab.config.process_watch import PARENT, REPORTS, RankWatch, watch_parent
from stemlab.errors import StemlabError
from stemlab.nn.row_embedding import row_weight_names

_NOTICE_S = 5.0
"""Time between a closed connection and the end of the process behind it."""

_watch: RankWatch | None = None


def current_watch() -> RankWatch | None:
    """Return the watch of the ranks that this process started, if any."""
    return _watch


class RankLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher of scripts with ``RankWatch`` instead of its observer."""

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start the other ranks, unless they run, and call a function.

        Raises:
            StemlabError: the function failed because a rank was lost; the message names the rank and the reason.
        """
        del trainer
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        watch_parent()
        if not self.cluster_environment.creates_processes_externally:
            self._start_ranks()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        try:
            return function(*args, **kwargs)
        except Exception as error:
            watch = current_watch()
            lost = watch.lost(_NOTICE_S) if watch is not None and is_lost_connection(error) else None
            if lost is None:
                raise
            raise StemlabError(lost) from error

    def _start_ranks(self) -> None:
        global _watch
        folder = tempfile.TemporaryDirectory(prefix="stemlab-ranks-")
        os.environ |= {PARENT: str(os.getpid()), REPORTS: folder.name}
        try:
            self._call_children_scripts()
        finally:
            del os.environ[PARENT]
        _watch = RankWatch(self.procs, Path(folder.name))
        _watch.start()
        atexit.register(_end, _watch, folder)


def _end(watch: RankWatch, folder: tempfile.TemporaryDirectory[str]) -> None:
    """End the ranks at the end of this process; normally they end at the same time."""
    watch.stop()
    watch.end_ranks(wait_s=5.0)
    folder.cleanup()


class RankStrategy(DDPStrategy):
    """DDP with ``RankLauncher``; the optimiser exchanges the gradients of tables that are trained by rows."""

    def exchanged_parameters(self) -> list[str]:
        """Return the names of the parameters whose gradients are exchanged without DDP."""
        assert self.model is not None
        return row_weight_names(self.model)

    def configure_ddp(self) -> None:
        """Wrap the module in DDP, without the parameters whose gradients are exchanged otherwise."""
        assert self.model is not None
        ignored = self.exchanged_parameters()
        if not ignored:
            super().configure_ddp()
            return
        if not {name for name, p in self.model.named_parameters() if p.requires_grad} - set(ignored):
            return  # DDP refuses a module without parameters
        ignore: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        ignore(self.model, ignored)
        super().configure_ddp()

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = RankLauncher(self.cluster_environment, self.num_processes, self.num_nodes)
