"""Sequences: one interaction log, histories and negatives made on the fly, batches."""
