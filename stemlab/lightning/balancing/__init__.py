"""How the losses of several tasks become a training step (docs/balancing.md)."""

from stemlab.lightning.balancing.base import Balancing
from stemlab.lightning.balancing.build import build_balancing

__all__ = ["Balancing", "build_balancing"]
