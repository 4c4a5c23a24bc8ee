"""``python -m stemlab.train`` of a sequential model, killed in the second step of its third epoch."""

import os
import runpy
import signal
from typing import Any

from stemlab.lightning.sequential import SequentialModule

_step = SequentialModule.training_step


def _killed_step(self: SequentialModule, batch: Any, batch_idx: int) -> Any:
    if (self.current_epoch, batch_idx) == (2, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return _step(self, batch, batch_idx)


if __name__ == "__main__":
    SequentialModule.training_step = _killed_step  # type: ignore[method-assign]
    runpy.run_module("stemlab.train", run_name="__main__", alter_sys=True)
