"""Weights of the batches whose gradients are accumulated for one step (``trainer.accumulate_grad_batches``)."""

from __future__ import annotations

from typing import Any


def loss_weight(trainer: Any, batch_idx: int) -> float:
    """Return the factor of the loss of a batch, so that the step is that of all its samples as one batch.

    Lightning divides every loss by the number of accumulated batches. The last step of an epoch may have fewer batches,
    and the last batch fewer samples: each batch gets the weight of its samples.

    Args:
        trainer: the trainer; its loader has an ``order`` with ``batch_length``, else batches count equally.
        batch_idx: number of the batch in the epoch, from 0.
    """
    accumulated = int(trainer.accumulate_grad_batches)
    first = batch_idx - batch_idx % accumulated
    batches = range(first, min(first + accumulated, int(trainer.num_training_batches)))
    order = getattr(trainer.train_dataloader, "order", None)
    sizes = [1 if order is None else int(order.batch_length(batch)) for batch in batches]
    return accumulated * sizes[batch_idx - first] / sum(sizes)
