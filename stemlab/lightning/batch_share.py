"""Make layers that depend on several samples see the samples of all processes during training."""

from __future__ import annotations

from pytorch_lightning.plugins import LayerSync
from torch import nn

from stemlab.nn.dropout import GlobalDropout
from stemlab.nn.global_batch import BatchShare
from stemlab.nn.norm import GlobalBatchNorm1d, GlobalBatchNorm2d, GlobalBatchNorm3d

_GLOBAL: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: GlobalBatchNorm1d,
    nn.BatchNorm2d: GlobalBatchNorm2d,
    nn.BatchNorm3d: GlobalBatchNorm3d,
    nn.Dropout: GlobalDropout,
}
_LOCAL = {mine: torchs for torchs, mine in _GLOBAL.items()}


def set_batch_share(net: nn.Module, share: BatchShare | None) -> None:
    """Set ``batch_share`` of all submodules that have it; batch norm and dropout of ``torch.nn`` get it, too.

    The class of a layer of ``torch.nn`` is changed in place, so its parameters and all references to it stay valid.

    Args:
        net: a network or LightningModule.
        share: the share of this process; ``None`` restores the layers of ``torch.nn``.
    """
    for module in net.modules():
        if share is not None:
            module.__class__ = _GLOBAL.get(type(module), type(module))
        if hasattr(module, "batch_share"):
            setattr(module, "batch_share", share)  # noqa: B010 - typed as a tensor or module otherwise
        if share is None:
            module.__class__ = _LOCAL.get(type(module), type(module))


class GlobalBatchLayers(LayerSync):
    """Lightning plugin: applies ``set_batch_share`` while a training with several processes runs."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Set the share of this process."""
        set_batch_share(model, BatchShare.current())
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Remove it."""
        set_batch_share(model, None)
        return model
