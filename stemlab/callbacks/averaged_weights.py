"""Average of weights in validations and checkpoints (``optim.ema``, docs/optimisation.md#average-of-weights)."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from stemlab.optim.average import WeightAverage

_KEY = "averaged_weights"


class AveragedWeights(Callback):
    """Update the average after every step, validate with it, and save it as the weights of every checkpoint.

    A checkpoint holds the trained weights under the key ``averaged_weights``, from which a run is resumed.

    Lightning's ``WeightAveraging`` updates once per call of the loop, which may be a block of steps; it evaluates the
    trained weights in a test after a training, and averages integer buffers. Here buffers, such as the running
    statistics of batch normalisation, are those of the trained network.

    Args:
        decay: weight of the average so far in each update.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._loaded: dict[str, Any] | None = None
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Create the average; in a resumed run, with the values of the checkpoint."""
        average = pl_module.average = WeightAverage(pl_module.net, self.decay)
        if self._loaded is not None:
            average.load(self._loaded)
            self._loaded = None
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the average if the batch ended a step; steps in blocks update it themselves."""
        if trainer.global_step > self._step and pl_module.blocks is None:
            pl_module.average.update()
        self._step = trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Let the network have the averaged weights within a training."""
        if trainer.state.fn == "fit" and not pl_module.average.swapped:
            pl_module.average.swap()

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Let the network have the trained weights again."""
        if trainer.state.fn == "fit" and pl_module.average.swapped:
            pl_module.average.swap()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Save the average as the weights, and the trained weights beside it."""
        average: WeightAverage | None = pl_module.average
        if average is None or not average.started:
            return
        checkpoint["state_dict"] = average.with_average(checkpoint["state_dict"])
        checkpoint[_KEY] = average.trained()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the trained weights until the training starts."""
        self._loaded = checkpoint.get(_KEY)
