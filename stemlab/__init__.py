"""stemlab: multi-task, multi-scenario and multi-interest recommendation with PyTorch Lightning and Hydra."""

__version__ = "0.2.0"
