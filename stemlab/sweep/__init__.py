"""Sweeps whose jobs are processes of their own: parallel jobs, searches with Optuna, pruning (docs/sweeps.md)."""
