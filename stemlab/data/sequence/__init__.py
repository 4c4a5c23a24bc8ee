"""Interaction sequences: the log, histories and negatives computed per batch, loaders."""
