"""Inference from checkpoints: evaluate, score rows, recommend items, write vectors and a search index."""
