"""Small multi-interest networks for the tests of this folder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from stemlab.models.sequential.base import SequenceNet
from stemlab.models.sequential.comirec import ComiRec
from stemlab.models.sequential.mind import MIND
from stemlab.models.sequential.timirec import TiMiRec
from tests.models.sequential.nets import SIZES

SMALL = {"embedding_dim": 8, "num_interests": 3}
KINDS: dict[str, tuple[type[SequenceNet], dict[str, Any]]] = {
    "pretrain": (TiMiRec, {"stage": "pretrain", "attention_dim": 5}),
    "finetune": (TiMiRec, {"attention_dim": 5, "projection_layers": 2, "temperature": 0.5}),
    "finetune_plain": (TiMiRec, {"attention_dim": 5, "position_embedding": False, "transformer": False}),
    "comirec": (ComiRec, {"attention_dim": 5}),
    "mind": (MIND, {}),
    "mind_power": (MIND, {"power": 2, "relu_layer": True}),
}
EACH = pytest.mark.parametrize("kind", KINDS)


def build(kind: str, seed: int = 0, **settings: Any) -> Any:
    """Return a small network with random parameters in evaluation mode."""
    torch.manual_seed(seed)
    cls, own = KINDS[kind]
    net = cls(SIZES, **{**SMALL, **own, **settings})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.5)
    return net.eval()


def gradients(net: SequenceNet, loss: Tensor) -> dict[str, Tensor | None]:
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True), strict=True))


def is_of_extractor(name: str) -> bool:
    return name.startswith(("items.", "extractor."))
