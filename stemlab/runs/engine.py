"""The way a run executes its training steps: captured in CUDA graphs, or one by one by a step loop or Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Trainer
from torch.optim import Adam

from stemlab.config.fused_checks import FUSED_RULE
from stemlab.config.job_process import process_count
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.lightning.block_training import BlockTraining
from stemlab.lightning.captured import BlockRunner
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.sequential import SequentialModule
from stemlab.lightning.step_graph import CudaGraphs
from stemlab.lightning.step_loop import StepLoop
from stemlab.optim.capture import uncapturable_optimizer
from stemlab.optim.ranking import OPTIMIZERS

_MAX_STEPS, _MAX_SAMPLES = 100, 1 << 21
"""Limits of a block: long enough to hide the loop of Lightning, small enough for several blocks in GPU memory."""


class TrainingEngine:
    """Chooses for one run whether its steps are captured (``trainer.capture``, docs/gpu.md), and says why not.

    Args:
        config: validated, plain config.
        module: the module; unless ``reason`` is set, it trains in blocks from now on.
        datamodule: gives blocks of steps from now on, or batches.

    Attributes:
        reason: why steps are not captured, or None if they are.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        module: MultiTaskModule | SequentialModule,
        datamodule: ImpressionDataModule | SequenceDataModule,
    ) -> None:
        self._trainer, self._datamodule = config["trainer"], datamodule
        self.reason = eager_reason(self._trainer, module)
        self._runner: BlockRunner | None = None
        if self.reason is None:
            steps = max(1, min(_MAX_STEPS, _MAX_SAMPLES // datamodule.batch_size))
            self._runner = BlockRunner(CudaGraphs, steps)
            module.train_in_blocks(BlockTraining(self._runner))
            datamodule.placement.use_blocks(steps, self._trainer["limit_train_batches"])

    def summary(self) -> str | None:
        """Return the text of the run summary; None on the CPU."""
        if self._trainer["accelerator"] == "cpu":
            return None
        if self._runner is None:
            return f"eager: {self.reason}"
        return f"captured as CUDA graphs, up to {self._runner.steps_per_block} steps per call of Lightning's loop"

    def record(self, trainer: Trainer) -> dict[str, Any]:
        """Return the entry of the record; after the training it contains the numbers of replayed and direct steps."""
        entry: dict[str, Any] = {"captured": False, "reason": self.reason}
        if self._runner is not None:
            entry = {
                "captured": self._runner.reason is None,
                "reason": self._runner.reason,
                "steps_per_block": self._runner.steps_per_block,
                "steps": self._runner.executed,
                "replayed_steps": self._runner.replayed,
            }
        data = self._datamodule
        reading = data.reading.record() if isinstance(data, ImpressionDataModule) else {}
        return {**entry, **_loop(trainer), "residence": data.placement.residence, **reading}


def _loop(trainer: Trainer) -> dict[str, Any]:
    """Return which loop executed the steps and, unless it was the short one, why."""
    loop = trainer.fit_loop.epoch_loop
    if not isinstance(loop, StepLoop):
        return {"loop": "lightning", "loop_reason": "trainer.loop=lightning", "direct_steps": 0}
    name = "direct" if loop.reason is None else "lightning"
    return {"loop": name, "loop_reason": loop.reason, "direct_steps": loop.direct_steps}


def eager_reason(trainer: Mapping[str, Any], module: MultiTaskModule | SequentialModule) -> str | None:
    """Return why the training steps of a run cannot be captured as CUDA graphs, or None if they can.

    Args:
        trainer: group ``trainer`` of the config.
        module: the module with its network; a network, or a method of ``model.balancing``, with the attribute
            ``uncapturable`` names its reason.
    """
    if trainer["accelerator"] != "gpu":
        return "CUDA graphs need a GPU"
    if trainer["capture"] == "off":
        return "trainer.capture=off"
    for key, unset in (("accumulate_grad_batches", 1), ("max_steps", None), ("val_check_interval", None)):
        if trainer[key] != unset:
            return f"blocks of steps do not support trainer.{key}={trainer[key]}"
    if process_count(trainer) > 1:
        return "steps of several processes are not captured"
    if module.settings.optim.tables == FUSED_RULE:
        return f"optim.tables={FUSED_RULE}: FBGEMM reads the learning rate on the CPU"
    if reason := getattr(module if isinstance(module, MultiTaskModule) else module.net, "uncapturable", None):
        return str(reason)
    return uncapturable_optimizer(OPTIMIZERS.get(module.settings.optim.name, Adam), module.schedule is not None)
