"""Analyses of finished runs: they read run records, checkpoints and prepared datasets, and train nothing themselves."""
